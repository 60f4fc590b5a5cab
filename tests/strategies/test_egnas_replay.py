"""The authors' published searches, replayed: fed with their accuracies, the strategy asks for their candidates in order."""
import json
import pathlib

import pytest

from enas_jax import spaces, strategies
from enas_jax.config import egnas_paper
from enas_jax.types import Evaluation, Task

LOGS = pathlib.Path(__file__).parents[3] / 'shared' / 'data' / 'egnas' / 'search_logs.json'
TASKS = {
    'CIFAR10': Task((32, 32, 3), 10), 'CIFAR100': Task((32, 32, 3), 100), 'EMNIST': Task((28, 28, 1), 47),
    'FashionMNIST': Task((28, 28, 1), 10), 'KMNIST': Task((28, 28, 1), 10)}
IN_VAIN = Evaluation(metrics={'accuracy': 0.0})  # Asked by a window beyond what the search came to need.
ASKED_BY_EIGHT = {
    ('CIFAR10', 64): 111, ('CIFAR10', 128): 105, ('CIFAR100', 64): 71, ('EMNIST', 128): 95, ('FashionMNIST', 64): 81,
    ('FashionMNIST', 128): 86, ('KMNIST', 128): 94}
SEARCHES = json.loads(LOGS.read_text()) if LOGS.exists() else []


def digits(values):
  return ''.join(map(str, values))


def identity(request):
  network = request.architecture
  return (request.phase, network.depth, network.width, digits(network.operations), digits(network.kernels),
          request.schedule.epochs)


def search_and_answers(search, window):
  """The strategy, and the logged answers by identity in the log's order."""
  config = egnas_paper()
  config.chain.max_width = search['width_cap']
  config.egnas.window = config.egnas.micro_window = window
  logged = {
      tuple(c[f] for f in ('phase', 'depth', 'width', 'operations', 'kernels', 'epochs')): Evaluation(
          metrics={'accuracy': c['best_test_acc'] / 100, 'train_accuracy': c['best_train_acc'] / 100})
      for c in search['candidates']}
  return strategies.make(config, spaces.make(config), TASKS[search['dataset']]), logged


@pytest.mark.skipif(not SEARCHES, reason='the published logs are not beside the repository (../shared/data/egnas)')
@pytest.mark.parametrize('window', [1, 8])
@pytest.mark.parametrize('search', SEARCHES, ids=lambda s: f"{s['dataset']} {s['width_cap']}")
def test_published_search(search, window):
  strategy, logged = search_and_answers(search, window)
  state, used, asked = strategy.init(0), [], []
  while not strategy.done(state):
    requests, state = strategy.ask(state)
    answers = {r: logged.get(identity(r), IN_VAIN) for r in requests}
    expected, needed = strategy.replay(state, answers)
    state = strategy.tell(state, list(answers.values()))
    assert state == expected
    used += needed
    asked += requests
  assert [identity(r) for r in used] == list(logged)
  best = strategy.best(state)
  assert (best.depth, best.width) == (search['final_depth'], search['final_width'])
  assert digits(best.operations) == search['final_operations']
  assert digits(best.kernels) == search['final_kernels']
  distinct = len(used) if window == 1 else ASKED_BY_EIGHT[search['dataset'], search['width_cap']]
  assert len(asked) == len(set(asked)) == distinct

"""A made-up estimator: accuracy is a smooth function of the network plus noise from its key, so that a request fixes it."""
import hashlib

import pytest

from enas_jax import strategies
from enas_jax.config import get_config
from enas_jax.spaces.chain import ChainSpace
from enas_jax.types import Evaluation, Task

TASK = Task((28, 28, 1), 10)
SPACE = ChainSpace(min_depth=3, max_depth=7, min_width=4, max_width=10, width_step=2, kernels=(3, 5))
IMAGES = 1000
# What the tests count on, whatever the default search is tuned to.
SETTINGS = {
    'epochs.first': 2, 'epochs.per_layer': 0, 'epochs.per_width_step': 0, 'training.learning_rate': 0.025,
    'egnas.depth_gain': 0.001, 'egnas.depth_loss': 0.0005, 'egnas.depth_failures': 3, 'egnas.width_failures': 3,
    'egnas.parameter_slack': 10_000, 'egnas.micro_replicates': 1, 'egnas.micro_margin': 0.005,
    'egnas.confidence': 0.0, 'egnas.decide_by': 'accuracy', 'egnas.grow': False, 'egnas.growth_gain': 0.0,
    'egnas.kernel_walk': False, 'egnas.depth_step': 1, 'egnas.micro_groups': 0,
}
PUBLISHED = {
    'epochs.first': 10, 'epochs.per_layer': 1, 'epochs.per_width_step': 2,
    'egnas.epochs_continue': True, 'egnas.width_control': False, 'egnas.micro_margin': 0.0,
}


def noise(request, seed=0):
  """Uniform in [0, 1), fixed by the request."""
  digest = hashlib.sha256(f'{seed} {request.key}'.encode()).digest()
  return int.from_bytes(digest[:6], 'big') / 2**48


def estimate(request, *, seed=0, failing=0.0):
  """Accuracies are counts of IMAGES images, so that ties happen; a share of all requests fails."""
  if noise(request, seed + 1) < failing:
    return Evaluation(reason='made-up failure')
  network = request.architecture
  smooth = 0.5 + 0.02 * network.depth - 0.002 * network.depth**2 + 0.01 * network.width
  smooth += 0.005 * sum(network.operations) + 0.003 * network.kernels.count(5) + 0.002 * request.schedule.trained_epochs
  accuracy = round(IMAGES * min(1.0, smooth + 0.03 * noise(request, seed))) / IMAGES
  macs, epochs = SPACE.macs(network, TASK), request.schedule.trained_epochs
  loss = 2.0 - smooth + 0.01 * noise(request, seed + 2)
  return Evaluation(
      metrics={'accuracy': accuracy, 'train_loss': loss, 'macs': macs}, train_macs=3.0 * macs * IMAGES * epochs)


def config_with(**changes):
  """Settings with changes, by dotted name."""
  config = get_config()
  config.update_from_flattened_dict({**SETTINGS, **changes})
  return config


def strategy_with(name, space=SPACE, **changes):
  """The strategy of that name, with changes of settings by dotted name."""
  return strategies.make(config_with(strategy=name, **changes), space, TASK)


def play(strategy, state, answer=estimate, limit=1000):
  """Yields (state, requests) before each answer, then (last state, ())."""
  for _ in range(limit):
    requests, state = strategy.ask(state)
    yield state, requests
    if strategy.done(state):
      return
    state = strategy.tell(state, [answer(r) for r in requests])
  pytest.fail(f'not done after {limit} questions')

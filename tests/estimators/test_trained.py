"""The estimator that trains: whatever happens to one candidate, the others' results are their own."""
import dataclasses
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from enas_jax import estimators
from enas_jax.config import get_config
from enas_jax.data import Dataset
from enas_jax.data.dataset import ImageSet
from enas_jax.errors import Stopped
from enas_jax.estimators import TrainedEstimator, trained
from enas_jax.estimators.program import Program
from enas_jax.estimators.training import Epoch
from enas_jax.networks import build
from enas_jax.spaces import ChainSpace
from enas_jax.types import Request, Schedule

SPACE = ChainSpace()


def estimate(data, requests, *, seed=5, **options):
  """Evaluations in the order of the requests."""
  found = dict(TrainedEstimator(SPACE, data, seed=seed, **options).estimate(requests))
  assert sorted(found) == list(range(len(requests)))
  return [found[i] for i in range(len(requests))]


def result(evaluation):
  """All but the clock."""
  return evaluation.metrics, evaluation.curve, evaluation.train_macs, evaluation.reason


@dataclasses.dataclass(frozen=True)
class Strange:
  """An architecture whose network cannot be built."""

  error: type = ValueError

  def to_json(self):
    return {'space': 'strange'}


@build.register
def _(architecture: Strange, *, task, key):
  raise architecture.error('no such layer\nmore about it')


class FakeProgram:
  """Notes how many members it was made for, and takes as many bytes."""

  compile_seconds = 0.0
  made: list[int] = []  # noqa: RUF012

  def __init__(self, architecture, data, *, batch_size, members):
    self.made.append(members)
    self.memory_bytes = 1e9 * members


def fake_train(program, requests, **_):
  for _ in range(max(r.schedule.epochs for r in requests)):
    values = np.array([float(r.replicate) for r in requests])
    yield None, Epoch(values, values, values)


@pytest.fixture
def fakes(monkeypatch):
  monkeypatch.setattr(trained, 'Program', FakeProgram)
  monkeypatch.setattr(trained, 'train', fake_train)
  monkeypatch.setattr(FakeProgram, 'made', [])
  return FakeProgram.made


@pytest.fixture(scope='module')
def alone(data, make_request):
  """Three replicates, one after the other."""
  return estimate(data, [make_request(i) for i in range(3)])


def test_the_record_of_a_candidate(data, make_request, alone):
  request = make_request()
  macs = SPACE.macs(request.architecture, data.task)
  for evaluation in alone:
    assert evaluation.ok
    assert evaluation.metrics.keys() == {'accuracy', 'train_accuracy', 'train_loss', 'params', 'macs'}
    assert len(evaluation.curve) == 3
    assert evaluation.accuracy == evaluation.curve[-1]
    assert evaluation.metrics['macs'] == macs
    assert evaluation.metrics['params'] == SPACE.num_params(request.architecture, data.task)
    assert evaluation.train_macs == 3 * macs * 16 * 3  # Two whole batches of the 20 images, three epochs.
    assert 0 <= evaluation.compile_seconds < evaluation.seconds
  assert alone[0].compile_seconds > 0 == alone[1].compile_seconds
  assert len({evaluation.metrics['train_loss'] for evaluation in alone}) == 3


def test_the_same_request_gives_the_same_bits_again_and_in_any_order(data, make_request, alone):
  requests = [make_request(i) for i in range(3)]
  again = estimate(data, requests[::-1])
  assert [result(e) for e in again[::-1]] == [result(e) for e in alone]
  assert [result(e) for e in estimate(data, requests[1:2])] == [result(alone[1])]


FRESH = '''
import numpy as np
from enas_jax.data.augment import Augmentation
from enas_jax.data.dataset import ImageSet
from enas_jax.estimators import TrainedEstimator
from enas_jax.estimators.program import TrainingData
from enas_jax.spaces import ChainArchitecture, ChainSpace
from enas_jax.types import Request, Schedule, Task
rng = np.random.default_rng(0)
labels = (np.arange(120) % 3).astype(np.int32)
images = (rng.integers(0, 120, (120, 16, 16, 1)) + 60 * labels[:, None, None, None]).astype(np.uint8)
part = ImageSet(images, labels)
data = TrainingData.put(part, part, mean=np.float32([0.4]), std=np.float32([0.2]),
                        augmentation=Augmentation(crop_padding=2, flip=True, cutout=4), task=Task((16, 16, 1), 3))
request = Request(ChainArchitecture(4, (0, 1, 0), (3, 5, 3)), Schedule(epochs=3, batch_size=24))
(_, evaluation), = TrainedEstimator(ChainSpace(), data, seed=0).estimate([request])
print(float(evaluation.metrics['train_loss']).hex(), evaluation.metrics['train_accuracy'], evaluation.curve)
'''


def test_a_fresh_process_that_compiles_anew_gives_the_same_bits(capsys):
  # On a CPU with as many cores as before: XLA parts a sum by the number of its threads.
  cache = ('JAX_COMPILATION_CACHE_DIR', 'JAX_PERSISTENT_CACHE_')
  environment = {name: value for name, value in os.environ.items() if not name.startswith(cache)}
  fresh = subprocess.run([sys.executable, '-c', FRESH], env=environment, check=True, capture_output=True, text=True)
  exec(FRESH, {})
  assert fresh.stdout == capsys.readouterr().out != ''


def test_compiling_at_the_first_use_is_counted_too(fakes, data, make_request, monkeypatch):
  def train(program, requests, **options):
    program.compile_seconds = 2.0  # As a last, smaller batch does.
    return fake_train(program, requests, **options)

  monkeypatch.setattr(trained, 'train', train)
  evaluations = estimate(data, [make_request(i) for i in range(2)], memory_limit=10**10)
  assert [e.compile_seconds for e in evaluations] == [2.0, 0.0]


def test_a_group_gives_what_its_members_give_alone(data, make_request, alone):
  requests = [make_request(1), make_request(0), make_request(2, epochs=1), make_request(2)]
  group = estimate(data, requests, group_size=4)
  for evaluation, other in zip((group[1], group[0], group[3]), alone, strict=True):
    assert evaluation.curve == other.curve
    assert evaluation.metrics == pytest.approx(other.metrics, rel=1e-5)
    assert evaluation.train_macs == other.train_macs
  assert len(group[2].curve) == 1
  order = [3, 1, 0, 2]
  shuffled = estimate(data, [requests[i] for i in order], group_size=4)
  for i, evaluation in zip(order, shuffled, strict=True):
    assert result(evaluation) == result(group[i])


def test_one_that_diverges_fails_and_its_neighbours_do_not_notice(data, make_request, alone):
  requests = [make_request(0), make_request(1, learning_rate=1e30), make_request(1), make_request(2)]
  group = estimate(data, requests, group_size=4)
  assert not group[1].ok
  assert group[1].reason.startswith('diverged: training loss ') and group[1].reason.endswith(' in epoch 1')
  assert group[1].accuracy == float('-inf')
  assert not group[1].metrics and not group[1].curve
  quiet = estimate(data, [make_request(0), make_request(1, learning_rate=0.01), *requests[2:]], group_size=4)
  for i, other in zip((0, 2, 3), alone, strict=True):
    assert result(group[i]) == result(quiet[i])
    assert group[i].curve == other.curve
    assert group[i].metrics == pytest.approx(other.metrics, rel=1e-5)


def test_alone_a_diverged_candidate_stops_at_once(data, make_request):
  evaluation, = estimate(data, [make_request(learning_rate=1e30)])
  assert evaluation.reason.startswith('diverged')
  assert evaluation.train_macs == 3 * SPACE.macs(make_request().architecture, data.task) * 16  # One epoch of three.


def test_best_epoch_scores_the_best(fakes, data, make_request, monkeypatch):
  def train(program, requests, **_):
    for score in (0.2, 0.5, 0.3, 0.5):
      yield None, Epoch(np.array([1 - score]), np.array([score / 2]), np.array([score]))

  monkeypatch.setattr(trained, 'train', train)
  last, best = (estimate(data, [make_request(epochs=4, best_epoch=b)])[0] for b in (False, True))
  assert last.accuracy == best.accuracy == 0.5
  last, best = (estimate(data, [make_request(epochs=3, best_epoch=b)])[0] for b in (False, True))
  assert (last.accuracy, last.metrics['train_loss'], last.metrics['train_accuracy']) == (0.3, 0.7, 0.15)
  assert (best.accuracy, best.metrics['train_loss'], best.metrics['train_accuracy']) == (0.5, 0.5, 0.25)
  assert last.curve == best.curve == (0.2, 0.5, 0.3)


def test_groups_share_what_a_program_depends_on(fakes, data, make_request):
  requests = [make_request(0), make_request(1, keep_last_batch=True), make_request(2, epochs=1, learning_rate=0.5),
              make_request(3, keep_last_batch=True), make_request(4), make_request(5)]
  evaluations = estimate(data, requests, group_size=3, memory_limit=10**10)
  assert fakes == [3, 1, 2]
  assert [e.metrics['train_loss'] for e in evaluations] == [0, 1, 2, 3, 4, 5]
  assert [len(e.curve) for e in evaluations] == [3, 3, 1, 3, 3, 3]


def test_a_network_that_cannot_be_built_fails_alone(data, make_request, alone):
  evaluations = estimate(data, [Request(Strange(), Schedule(epochs=1, batch_size=8)), make_request()])
  assert evaluations[0].reason == 'does not compile: ValueError: no such layer'
  assert result(evaluations[1]) == result(alone[0])


def test_an_interrupt_while_compiling_is_no_failure(data):
  with pytest.raises(KeyboardInterrupt):
    estimate(data, [Request(Strange(KeyboardInterrupt), Schedule(epochs=1, batch_size=8))])


def test_one_that_does_not_fit_in_memory_fails_before_it_runs(data, make_request):
  evaluation, = estimate(data, [make_request()], memory_limit=10_000)
  assert evaluation.reason.startswith('out of memory: needs 0.') and evaluation.reason.endswith(' MB, 0.01 MB are free')


def test_a_group_that_does_not_fit_is_halved(fakes, data, make_request):
  evaluations = estimate(data, [make_request(i) for i in range(5)], group_size=5, memory_limit=2 * 10**9)
  assert fakes == [5, 2, 3, 1]  # The three are parted into one and two; that program is there.
  assert [e.metrics['train_loss'] for e in evaluations] == [0, 1, 2, 3, 4]
  evaluations = estimate(data, [make_request(i) for i in range(2)], group_size=2, memory_limit=10**8)
  assert {e.reason for e in evaluations} == {'out of memory: needs 1.00 GB, 0.10 GB are free'}


@pytest.mark.parametrize('where', ['compiling', 'running'])
def test_a_group_whose_memory_runs_out_is_halved_and_its_members_succeed(data, make_request, alone, monkeypatch, where):
  error = jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: out of memory while trying to allocate 1 byte.\nMore.')

  def make(*args, members, **options):
    if members == 1:
      return Program(*args, members=members, **options)
    if where == 'compiling':
      raise error
    return FakeProgram(*args, members=members, **options)

  def train(program, requests, **options):
    if len(requests) > 1:
      raise error
    return real(program, requests, **options)

  real = trained.train
  monkeypatch.setattr(trained, 'Program', make)
  monkeypatch.setattr(trained, 'train', train)
  evaluations = estimate(data, [make_request(i) for i in range(3)], group_size=3, memory_limit=10**10)
  assert [result(e) for e in evaluations] == [result(e) for e in alone]


def test_memory_that_runs_out_for_one_is_its_failure_and_another_runtime_error_is_not(fakes, data, make_request, monkeypatch):
  def train(program, requests, **_):
    raise jax.errors.JaxRuntimeError(message)

  monkeypatch.setattr(trained, 'train', train)
  message = 'RESOURCE_EXHAUSTED: out of memory while trying to allocate 1 byte.\nMore.'
  evaluation, = estimate(data, [make_request()], memory_limit=10**10)
  assert evaluation.reason == f'out of memory: JaxRuntimeError: {message.splitlines()[0]}'
  message = 'INTERNAL: the device is gone'
  with pytest.raises(jax.errors.JaxRuntimeError, match='the device is gone'):
    estimate(data, [make_request()], memory_limit=10**10)


@pytest.mark.parametrize(('after', 'finished'), [(1, 0), (4, 0), (5, 0), (6, 1), (7, 1), (11, 1), (12, 2)])
def test_told_to_stop_it_keeps_what_was_finished(data, make_request, alone, monkeypatch, after, finished):
  """Stopped after so many steps; each of the two candidates takes three epochs of two."""
  steps = []

  def step(*args):
    steps.append(None)
    return real(*args)

  real = Program.step
  monkeypatch.setattr(Program, 'step', step)
  estimator = TrainedEstimator(SPACE, data, seed=5, should_stop=lambda: len(steps) >= after)
  found = estimator.estimate([make_request(0), make_request(1)])
  for expected in range(finished):
    index, evaluation = next(found)
    assert index == expected and result(evaluation) == result(alone[index])
  if finished == 2:
    assert next(found, None) is None
  else:
    with pytest.raises(Stopped):
      next(found)


def test_memory_is_that_of_the_state_and_of_the_larger_program(program_of_one, program_of_four):
  def state_bytes(program):
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(program.state_shape))

  assert state_bytes(program_of_four) == 4 * state_bytes(program_of_one)
  assert program_of_one.memory_bytes > state_bytes(program_of_one) + 8 * 64 * 4 * 4  # The stem's output of a batch, at least.
  assert program_of_four.memory_bytes > 2 * program_of_one.memory_bytes


def make_dataset():
  rng = np.random.default_rng(0)
  labels = np.arange(40, dtype=np.int32) % 2
  part = ImageSet(rng.integers(0, 256, (40, 8, 8, 1), np.uint8), labels)
  return Dataset.checked('npz:none', part, ImageSet(part.images[:6], labels[:6]), ('a', 'b'))


def test_make_parts_the_data_as_the_config_says(user_error):
  config = get_config()
  config.training.batch_size = 8
  config.data.validation_share = 0.2
  estimator = estimators.make(config, SPACE, make_dataset(), should_stop=lambda: False)
  assert isinstance(estimator, TrainedEstimator)
  assert (estimator._data.train_size, estimator._data.score_size) == (32, 8)
  config.data.score_on_test = True
  estimator = estimators.make(config, SPACE, make_dataset(), should_stop=lambda: False)
  assert (estimator._data.train_size, estimator._data.score_size) == (40, 6)
  config.training.batch_size = 64
  with user_error('40 training images', 'config.training.batch_size=64', 'lower'):
    estimators.make(config, SPACE, make_dataset(), should_stop=lambda: False)
  config.estimator = 'oracle'
  with user_error("config.estimator 'oracle'", "'trained'"):
    estimators.make(config, SPACE, make_dataset(), should_stop=lambda: False)

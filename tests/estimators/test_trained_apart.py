"""Networks of other spaces in the estimator: each as its module, replicates together."""
import dataclasses

import jax
import numpy as np
import pytest
from support.asking import OUT_OF_MEMORY, answers, estimator_by, result, stopped
from support.line_space import LineSpace, line

from enas_jax.errors import Stopped
from enas_jax.networks import build
from enas_jax.training import host_engine
from enas_jax.training.host_loop import Epoch
from enas_jax.training.module_program import ModuleProgram
from enas_jax.types import Request, Schedule

pytest_plugins = ['support.training_fixtures']


def estimate_lines(data, requests, *, space=None, **options):
  return answers(estimator_by(space or LineSpace(), data, **{'slots': 1, **options}), requests)


class FakeProgram:
  """Notes how many replicates it was made for, and takes as many bytes."""

  compile_seconds = 0.0
  made: list[int] = []  # noqa: RUF012

  def __init__(self, architecture, data, recipe, *, replicates):
    self.made.append(replicates)
    self.memory_bytes = 1e9 * replicates


def fake_train(program, requests, **_):
  for _ in range(max(r.schedule.epochs for r in requests)):
    values = np.array([float(r.replicate) for r in requests])
    yield None, Epoch(values, values, values)


@pytest.fixture
def fakes(monkeypatch):
  monkeypatch.setattr(host_engine, 'ModuleProgram', FakeProgram)
  monkeypatch.setattr(host_engine, 'train', fake_train)
  monkeypatch.setattr(FakeProgram, 'made', [])
  return FakeProgram.made


@pytest.fixture(scope='module')
def lines(data):
  """Three replicates, one after the other."""
  return estimate_lines(data, [line(i) for i in range(3)])


@pytest.mark.smoke
def test_the_record_of_another_space(data, lines):
  for evaluation in lines:
    assert evaluation.ok and len(evaluation.curve) == 3 and evaluation.accuracy == evaluation.curve[-1]
    assert evaluation.metrics['params'] == 143 and evaluation.metrics['macs'] == 134
    assert evaluation.train_macs == 3 * 134 * 16 * 3
    assert 0 <= evaluation.compile_seconds < evaluation.seconds
  assert lines[0].compile_seconds > 0 == lines[1].compile_seconds
  assert len({evaluation.metrics['train_loss'] for evaluation in lines}) == 3
  again = estimate_lines(data, [line(i) for i in (2, 1, 0)])
  assert [result(e) for e in again[::-1]] == [result(e) for e in lines]


def test_a_group_gives_what_its_members_give_alone(data, lines):
  requests = [line(1), line(0), line(2, epochs=1), line(2)]
  group = estimate_lines(data, requests, slots=4)
  for evaluation, other in zip((group[1], group[0], group[3]), lines, strict=True):
    assert evaluation.curve == other.curve
    assert evaluation.metrics == pytest.approx(other.metrics, rel=1e-5)
    assert evaluation.train_macs == other.train_macs
  assert len(group[2].curve) == 1
  order = [3, 1, 0, 2]
  shuffled = estimate_lines(data, [requests[i] for i in order], slots=4)
  for i, evaluation in zip(order, shuffled, strict=True):
    assert result(evaluation) == result(group[i])


def test_in_a_group_one_that_diverges_fails_and_its_neighbours_do_not_notice(data, lines):
  requests = [line(0), line(1, learning_rate=1e30), line(1), line(2)]
  group = estimate_lines(data, requests, slots=4)
  assert group[1].reason.startswith('diverged: training loss ') and group[1].reason.endswith(' in epoch 1')
  assert not group[1].metrics and not group[1].curve
  quiet = estimate_lines(data, [line(0), line(1, learning_rate=0.01), *requests[2:]], slots=4)
  for i, other in zip((0, 2, 3), lines, strict=True):
    assert result(group[i]) == result(quiet[i])
    assert group[i].curve == other.curve
  alone, = estimate_lines(data, [line(learning_rate=1e30)])
  assert alone.train_macs == 3 * 134 * 16  # One epoch of three.


def test_in_parts_another_space_trains_from_the_start(data, lines):
  estimator = estimator_by(LineSpace(), data, slots=1)
  for stop in (1, 2):
    evaluation, = answers(estimator, [stopped(line(), stop)])
    assert evaluation.curve == lines[0].curve[:stop]
    assert evaluation.train_macs == 3 * 134 * 16 * stop
  assert result(answers(estimator, [line()])[0]) == result(lines[0])


def test_compiling_at_the_first_use_is_counted_too(fakes, data, monkeypatch):
  def train(program, requests, **options):
    program.compile_seconds = 2.0  # As a last, smaller batch does.
    return fake_train(program, requests, **options)

  monkeypatch.setattr(host_engine, 'train', train)
  evaluations = estimate_lines(data, [line(i) for i in range(2)], memory_limit=10**10)
  assert [e.compile_seconds for e in evaluations] == [2.0, 0.0]


def test_the_best_epoch_of_several(fakes, data, monkeypatch):
  def train(program, requests, **_):
    for score in (0.2, 0.5, 0.3, 0.5):
      yield None, Epoch(np.array([1 - score]), np.array([score / 2]), np.array([score]))

  monkeypatch.setattr(host_engine, 'train', train)
  last, best = (estimate_lines(data, [line(epochs=4, best_epoch=b)])[0] for b in (False, True))
  assert last.accuracy == best.accuracy == 0.5
  last, best = (estimate_lines(data, [line(epochs=3, best_epoch=b)])[0] for b in (False, True))
  assert (last.accuracy, last.metrics['train_loss'], last.metrics['train_accuracy']) == (0.3, 0.7, 0.15)
  assert (best.accuracy, best.metrics['train_loss'], best.metrics['train_accuracy']) == (0.5, 0.5, 0.25)
  assert last.curve == best.curve == (0.2, 0.5, 0.3)


def test_groups_share_what_a_program_depends_on(fakes, data):
  requests = [line(0), line(1, keep_last_batch=True), line(2, epochs=1, learning_rate=0.5),
              line(3, keep_last_batch=True), line(4), line(5)]
  evaluations = estimate_lines(data, requests, slots=3, memory_limit=10**10)
  assert fakes == [3, 1, 2]
  assert [e.metrics['train_loss'] for e in evaluations] == [0, 1, 2, 3, 4, 5]
  assert [len(e.curve) for e in evaluations] == [3, 3, 1, 3, 3, 3]


def test_a_group_that_does_not_fit_is_halved(fakes, data):
  evaluations = estimate_lines(data, [line(i) for i in range(5)], slots=5, memory_limit=2 * 10**9)
  assert fakes == [5, 2, 3, 1]  # The three are parted into one and two; that program is there.
  assert [e.metrics['train_loss'] for e in evaluations] == [0, 1, 2, 3, 4]
  evaluations = estimate_lines(data, [line(i) for i in range(2)], slots=2, memory_limit=10**8)
  assert {e.reason for e in evaluations} == {'out of memory: needs 1.00 GB, 0.10 GB are free'}


@pytest.mark.parametrize('where', ['compiling', 'running'])
def test_a_group_whose_memory_runs_out_is_halved_and_its_members_succeed(data, lines, monkeypatch, where):
  error = jax.errors.JaxRuntimeError(OUT_OF_MEMORY)

  def make(*args, replicates, **options):
    if replicates == 1:
      return ModuleProgram(*args, replicates=replicates, **options)
    if where == 'compiling':
      raise error
    return FakeProgram(*args, replicates=replicates, **options)

  def train(program, requests, **options):
    if len(requests) > 1:
      raise error
    return real(program, requests, **options)

  real = host_engine.train
  monkeypatch.setattr(host_engine, 'ModuleProgram', make)
  monkeypatch.setattr(host_engine, 'train', train)
  evaluations = estimate_lines(data, [line(i) for i in range(3)], slots=3, memory_limit=10**10)
  assert [result(e) for e in evaluations] == [result(e) for e in lines]


@pytest.mark.parametrize(('after', 'finished'), [(1, 0), (4, 0), (5, 0), (6, 1), (7, 1), (11, 1), (12, 2)])
def test_told_to_stop_another_space_keeps_what_was_finished(data, lines, monkeypatch, after, finished):
  """Stopped after so many steps; each of the two candidates takes three epochs of two."""
  steps = []

  def step(*args):
    steps.append(None)
    return real(*args)

  real = ModuleProgram.step
  monkeypatch.setattr(ModuleProgram, 'step', step)
  estimator = estimator_by(LineSpace(), data, slots=1, should_stop=lambda: len(steps) >= after)
  found = estimator.estimate([line(0), line(1)])
  for i in range(finished):
    assert (lambda index, evaluation: (index, result(evaluation)))(*next(found)) == (i, result(lines[i]))
  if finished == 2:
    assert next(found, None) is None
  else:
    with pytest.raises(Stopped):
      next(found)


@dataclasses.dataclass(frozen=True)
class Strange:
  """An architecture whose network cannot be built."""

  error: type = ValueError

  def to_json(self):
    return {'space': 'strange'}


@build.register
def _(architecture: Strange, *, task, key):
  raise architecture.error('no such layer\nmore about it')


def test_a_network_that_cannot_be_built_fails_alone(data, lines):
  evaluations = estimate_lines(data, [Request(Strange(), Schedule(epochs=1, batch_size=8)), line(0)])
  assert evaluations[0].reason == 'does not compile: ValueError: no such layer'
  assert result(evaluations[1]) == result(lines[0])


def test_an_interrupt_while_compiling_is_no_failure(data):
  with pytest.raises(KeyboardInterrupt):
    estimate_lines(data, [Request(Strange(KeyboardInterrupt), Schedule(epochs=1, batch_size=8))])


def test_memory_is_that_of_the_state_and_of_the_larger_program(program_of_one, program_of_four):
  def state_bytes(program):
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(program.state_shape))

  assert state_bytes(program_of_four) == 4 * state_bytes(program_of_one)
  assert program_of_one.memory_bytes > state_bytes(program_of_one) + 8 * 64 * 4 * 4  # The stem's output of a batch, at least.
  assert program_of_four.memory_bytes > 2 * program_of_one.memory_bytes

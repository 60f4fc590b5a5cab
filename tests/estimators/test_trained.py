"""The estimator that trains: whatever happens to one candidate, the others' results are their own."""
import dataclasses
import os
import subprocess
import sys
import threading

import jax
import numpy as np
import pytest
from line_space import LineSpace, line

from enas_jax import estimators
from enas_jax.config import get_config
from enas_jax.data import Dataset
from enas_jax.data.dataset import ImageSet
from enas_jax.errors import Stopped
from enas_jax.estimators import Execution, TrainedEstimator, slots, trained
from enas_jax.estimators.packing import Packing
from enas_jax.estimators.program import Program
from enas_jax.estimators.training import Epoch
from enas_jax.networks import build
from enas_jax.networks.stacked_chain import Capacity
from enas_jax.spaces import ChainArchitecture, ChainSpace
from enas_jax.types import Request, Schedule

SPACE = ChainSpace()
ONE = tuple(jax.devices()[:1])
OUT_OF_MEMORY = 'RESOURCE_EXHAUSTED: out of memory while trying to allocate 1 byte.\nMore.'


@pytest.fixture
def estimator_of(data, packing, compiled, monkeypatch):
  """An estimator whose programs are compiled once a session."""
  monkeypatch.setattr(trained, 'PopulationProgram', compiled)

  def make(*, seed=5, **options):
    return TrainedEstimator(SPACE, data, seed=seed, **{'packing': packing, 'slots': 2, **options})

  return make


def answers(estimator, requests):
  """Evaluations in the order of the requests."""
  found = list(estimator.estimate(requests))
  assert sorted(i for i, _ in found) == list(range(len(requests)))
  found = dict(found)
  return [found[i] for i in range(len(requests))]


@pytest.fixture
def estimate(estimator_of):
  return lambda requests, **options: answers(estimator_of(**options), requests)


def result(evaluation):
  """All but the clock."""
  return evaluation.metrics, evaluation.curve, evaluation.train_macs, evaluation.reason


def chain(width, operations, **schedule):
  """Of the program that `packing` has."""
  operations = tuple(map(int, operations))
  return Request(ChainArchitecture(width, operations, tuple(5 if o else 3 for o in operations)),
                 Schedule(**{'epochs': 2, 'batch_size': 8, 'learning_rate': 0.1, **schedule}))


def stopped(request, epoch):
  return dataclasses.replace(request, schedule=dataclasses.replace(request.schedule, stop_epoch=epoch))


@pytest.fixture(scope='module')
def requests(make_request):
  """Of different sizes and lengths."""
  return [make_request(), chain(3, '0010110'), chain(1, '1101', epochs=1), make_request(1, epochs=1),
          chain(2, '01010', epochs=3)]


@pytest.fixture(scope='module')
def alone(data, packing, requests, compiled):
  """What each gives, one after the other."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(trained, 'PopulationProgram', compiled)
    estimator = TrainedEstimator(SPACE, data, seed=5, packing=packing, slots=2)
    return [answers(estimator, [request])[0] for request in requests]


def test_the_record_of_a_candidate(data, requests, alone):
  for request, evaluation in zip(requests, alone, strict=True):
    assert evaluation.ok
    macs, epochs = SPACE.macs(request.architecture, data.task), request.schedule.epochs
    assert evaluation.metrics.keys() == {'accuracy', 'train_accuracy', 'train_loss', 'params', 'macs'}
    assert len(evaluation.curve) == epochs
    assert evaluation.accuracy == evaluation.curve[-1]
    assert all(round(12 * score) == pytest.approx(12 * score, abs=1e-5) for score in evaluation.curve)
    assert evaluation.metrics['macs'] == macs
    assert evaluation.metrics['params'] == SPACE.num_params(request.architecture, data.task)
    assert evaluation.train_macs == 3 * macs * 16 * epochs  # Two whole batches of the 20 images.
    assert 0 <= evaluation.compile_seconds < evaluation.seconds
  assert len({evaluation.metrics['train_loss'] for evaluation in alone}) == 5


def test_together_and_in_any_order_they_give_what_they_give_alone(estimate, requests, alone):
  assert [result(e) for e in estimate(requests)] == [result(e) for e in alone]
  assert [result(e) for e in estimate(requests[::-1])[::-1]] == [result(e) for e in alone]


@pytest.mark.slow
def test_compiled_anew_and_with_other_slots_they_give_the_same_bits(data, packing, requests, alone):
  for count in (1, 2):
    estimator = TrainedEstimator(SPACE, data, seed=5, packing=packing, slots=count)
    assert [result(e) for e in answers(estimator, requests)] == [result(e) for e in alone]


def test_another_seed_is_another_result(estimate, requests, alone):
  other = estimate(requests[:1], seed=6)
  assert other[0].metrics['train_loss'] != alone[0].metrics['train_loss']


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


@pytest.mark.slow
def test_a_fresh_process_that_compiles_anew_gives_the_same_bits(capsys):
  # On a CPU with as many cores as before: XLA parts a sum by the number of its threads.
  cache = ('JAX_COMPILATION_CACHE_DIR', 'JAX_PERSISTENT_CACHE_')
  environment = {name: value for name, value in os.environ.items() if not name.startswith(cache)}
  fresh = subprocess.run([sys.executable, '-c', FRESH], env=environment, check=True, capture_output=True, text=True)
  exec(FRESH, {})
  assert fresh.stdout == capsys.readouterr().out != ''


def test_one_that_diverges_fails_and_its_neighbours_do_not_notice(data, estimate, requests, alone):
  diverging = chain(2, '0110', epochs=3, learning_rate=1e30)
  evaluations = estimate([*requests[:1], diverging, *requests[1:]])
  bad = evaluations.pop(1)
  assert bad.reason.startswith('diverged: training loss ') and bad.reason.endswith(' in epoch 1')
  assert bad.accuracy == float('-inf')
  assert not bad.metrics and not bad.curve
  assert bad.train_macs == 3 * SPACE.macs(diverging.architecture, data.task) * 16  # One epoch of three.
  assert [result(e) for e in evaluations] == [result(e) for e in alone]


@pytest.mark.parametrize('again', ['same', 'fresh'])
def test_trained_in_parts_it_is_what_it_is_at_once(estimator_of, requests, alone, again):
  """The second part goes on from the first, or, where that was lost, trains from the start."""
  whole, other = requests[4], requests[1]
  estimator = estimator_of()
  first = answers(estimator, [stopped(whole, 1), stopped(other, 1)])
  assert [e.curve for e in first] == [alone[4].curve[:1], alone[1].curve[:1]]
  calls = []
  estimator = estimator if again == 'same' else estimator_of()
  for request in (stopped(whole, 2), whole):
    before = estimator.report()['train_seconds']
    evaluation, = answers(estimator, [request])
    calls.append(estimator.report()['train_seconds'] - before)
    stop = request.schedule.trained_epochs
    assert evaluation.curve == alone[4].curve[:stop]
  assert result(evaluation) == result(alone[4])
  assert result(answers(estimator, [other])[0]) == result(alone[1])


def test_trained_in_parts_it_takes_only_the_steps_that_are_left(estimator_of, requests, monkeypatch):
  trained_epochs = []
  real = slots.train_in_slots

  def spy(program, requests, *, starts, **options):
    for end in real(program, requests, starts=starts, **options):
      trained_epochs.append(len(end.epochs) - (len(starts[end.index].epochs) if end.index in starts else 0))
      yield end

  monkeypatch.setattr(trained, 'train_in_slots', spy)
  estimator = estimator_of()
  for request in (stopped(requests[4], 1), stopped(requests[4], 2), requests[4]):
    answers(estimator, [request])
  assert trained_epochs == [1, 1, 1]


def test_the_same_part_asked_for_again_gives_the_same(estimator_of, requests, alone):
  estimator = estimator_of(should_stop=stop_after(50))
  part = stopped(requests[4], 1)
  first, = answers(estimator, [part])
  assert first.curve == alone[4].curve[:1]
  assert result(answers(estimator, [part])[0]) == result(first)
  longer, = answers(estimator, [stopped(requests[4], 2)])
  assert longer.curve == alone[4].curve[:2]
  assert result(answers(estimator, [part])[0]) == result(first)  # The other way round.


def test_a_candidate_that_diverged_in_its_first_part_stays_diverged(estimator_of):
  diverging = chain(2, '0110', epochs=3, learning_rate=1e30)
  estimator = estimator_of()
  first, = answers(estimator, [stopped(diverging, 1)])
  second, = answers(estimator, [diverging])
  assert first.reason == second.reason != ''


def test_best_epoch_scores_the_best(estimate, requests, alone):
  for request, last in zip(requests, alone, strict=True):
    schedule = dataclasses.replace(request.schedule, best_epoch=True)
    best, = estimate([dataclasses.replace(request, schedule=schedule)])
    assert best.curve == last.curve
    assert best.accuracy == max(best.curve)
    if last.accuracy == max(last.curve[:-1], default=0):
      assert best.metrics['train_loss'] != last.metrics['train_loss']  # The first of the best.


def stop_after(polls):
  left = iter([False] * (polls - 1))
  return lambda: next(left, True)


def test_told_to_stop_it_keeps_what_was_finished(estimator_of, requests, alone, monkeypatch):
  monkeypatch.setattr(slots, 'CALL_SECONDS', 1e-9)
  answers(estimator_of(devices=ONE), requests)  # Compiled before: stops are asked for while compiling, too.
  counts = []
  for polls in (1, 3, 5, 7, 100):
    found = {}
    try:
      for i, evaluation in estimator_of(should_stop=stop_after(polls), devices=ONE).estimate(requests):
        found[i] = evaluation
    except Stopped:
      assert len(found) < 5
    for i, evaluation in found.items():
      assert result(evaluation) == result(alone[i])
    counts.append(len(found))
  assert counts == sorted(counts) and counts[0] == 0 and counts[-1] == 5 and len(set(counts)) > 2


# Faults.


@dataclasses.dataclass(frozen=True)
class Strange:
  """An architecture whose network cannot be built."""

  error: type = ValueError

  def to_json(self):
    return {'space': 'strange'}


@build.register
def _(architecture: Strange, *, task, key):
  raise architecture.error('no such layer\nmore about it')


class Raising:
  """A program whose first calls fail."""

  def __init__(self, program, errors, after=0):
    self._program, self._errors, self._after = program, errors, after

  def __getattr__(self, name):
    return getattr(self._program, name)

  def advance(self, control):
    if self._after == 0 and self._errors:
      raise self._errors.pop()
    self._after -= 1
    return self._program.advance(control)


def test_a_network_that_cannot_be_built_fails_alone(estimate, requests, alone):
  evaluations = estimate([Request(Strange(), Schedule(epochs=1, batch_size=8)), requests[0]])
  assert evaluations[0].reason == 'does not compile: ValueError: no such layer'
  assert result(evaluations[1]) == result(alone[0])


def test_an_interrupt_while_compiling_is_no_failure(estimate):
  with pytest.raises(KeyboardInterrupt):
    estimate([Request(Strange(KeyboardInterrupt), Schedule(epochs=1, batch_size=8))])


@pytest.mark.parametrize(('error', 'reason'), [
    (ValueError('no such layer\nmore about it'), 'ValueError: no such layer'),
    (jax.errors.JaxRuntimeError('INTERNAL: the compiler gave up\nmore'), 'JaxRuntimeError: INTERNAL: the compiler gave up')])
def test_a_program_that_does_not_compile_fails_its_own_candidates_alone(
    estimate, requests, alone, compiled, monkeypatch, error, reason):
  other = Request(ChainArchitecture.uniform(3, 2), Schedule(epochs=1, batch_size=8))  # One branch: another program.

  def make(capacity, data, **settings):
    if len(capacity.branches) == 1:
      raise error
    return compiled(capacity, data, **settings)

  monkeypatch.setattr(trained, 'PopulationProgram', make)
  evaluations = estimate([other, *requests[:2], other])
  for i in (0, 3):
    assert evaluations[i].reason == f'does not compile: {reason}'
    assert evaluations[i].accuracy == float('-inf') and evaluations[i].seconds > 0
  assert [result(e) for e in evaluations[1:3]] == [result(e) for e in alone[:2]]


@pytest.mark.slow
@pytest.mark.parametrize('where', ['compiling', 'running', 'later'])
def test_where_memory_runs_out_fewer_train_at_once_and_all_succeed(estimate, requests, alone, compiled, monkeypatch, where):
  error = jax.errors.JaxRuntimeError(OUT_OF_MEMORY)
  seen = []

  def make(capacity, data, *, layout, **settings):
    seen.append(layout.slots)
    if layout.slots > 1 and where == 'compiling':
      raise error
    program = compiled(capacity, data, layout=layout, **settings)
    return Raising(program, [error], after=3 if where == 'later' else 0) if layout.slots > 1 else program

  monkeypatch.setattr(trained, 'PopulationProgram', make)
  if where == 'later':
    monkeypatch.setattr(slots, 'CALL_SECONDS', 1e-9)
  evaluations = estimate(requests)
  assert seen == [2, 1]
  assert [result(e) for e in evaluations] == [result(e) for e in alone]


def test_memory_that_runs_out_for_one_is_its_failure_and_another_runtime_error_is_not(
    estimate, requests, compiled, monkeypatch):
  def failing(message):
    def make(capacity, data, **settings):
      return Raising(compiled(capacity, data, **settings), [jax.errors.JaxRuntimeError(message)] * 9)
    monkeypatch.setattr(trained, 'PopulationProgram', make)

  failing(OUT_OF_MEMORY)
  evaluation, = estimate([requests[0]], packing=None, slots=1)
  assert evaluation.reason == f'out of memory: JaxRuntimeError: {OUT_OF_MEMORY.splitlines()[0]}'
  failing('INTERNAL: the device is gone')
  with pytest.raises(jax.errors.JaxRuntimeError, match='the device is gone'):
    estimate([requests[0]], packing=None, slots=1)


class Sized:
  """A program that takes as many bytes as its capacity has width, and a slot each."""

  def __init__(self, program):
    self._program = program
    self.memory_bytes = 10**9 * program.capacity.width * program.layout.slots

  def __getattr__(self, name):
    return getattr(self._program, name)


@pytest.fixture
def sized(compiled, monkeypatch):
  def make(capacity, data, **settings):
    made.append((capacity.width, settings['layout'].slots))
    return Sized(compiled(capacity, data, **settings))

  made = []
  monkeypatch.setattr(trained, 'PopulationProgram', make)
  return made


def test_one_that_does_not_fit_in_memory_fails_before_it_runs(estimate, requests, sized):
  shared, own = Packing(mixed_widths=(3,), depths=(7,)), Packing()
  evaluation, = estimate(requests[:1], memory_limit=10**8, devices=ONE, slots=1, packing=shared)
  assert evaluation.reason == 'out of memory: needs 2.00 GB, 0.10 GB are free'
  assert evaluation.accuracy == float('-inf')
  assert sized == [(3, 1), (2, 1)]  # The one that is shared, and one of its own size.
  sized.clear()
  evaluation, = estimate(requests[:1], memory_limit=10**8, devices=ONE, slots=1, packing=own)
  assert evaluation.reason == 'out of memory: needs 2.00 GB, 0.10 GB are free'
  assert sized == [(2, 1)]


@pytest.mark.slow
def test_where_only_the_padding_does_not_fit_each_trains_in_a_program_of_its_size(estimate, requests, alone, sized):
  narrow, wide = requests[0], requests[1]
  evaluations = estimate([narrow, wide], memory_limit=2 * 10**9)
  assert sized[:2] == [(3, 2), (3, 1)]
  assert evaluations[0].ok and evaluations[0].curve == alone[0].curve
  assert evaluations[0].metrics == pytest.approx(alone[0].metrics, rel=1e-5)
  assert evaluations[1].reason == 'out of memory: needs 3.00 GB, 2.00 GB are free'


@pytest.mark.slow
def test_a_candidate_that_was_paused_goes_on_in_a_program_of_another_size(estimator_of, requests, alone, compiled, monkeypatch):
  """The shared program's memory runs out only at the second part."""
  narrow = requests[0]
  estimator = estimator_of(slots=1)
  answers(estimator, [stopped(narrow, 1)])

  def make(capacity, data, **settings):
    program = compiled(capacity, data, **settings)
    return Raising(program, [jax.errors.JaxRuntimeError(OUT_OF_MEMORY)] * 9) if capacity.width == 3 else program

  monkeypatch.setattr(trained, 'PopulationProgram', make)
  estimator._programs.clear()
  evaluation, = answers(estimator, [narrow])
  assert evaluation.ok, evaluation.reason
  assert evaluation.metrics == pytest.approx(alone[0].metrics, rel=1e-5)


# Reports and preparation.


def test_the_report(estimator_of, requests, data):
  estimator = estimator_of()
  report = estimator.report()
  assert report.keys() >= {
      'programs', 'compile_seconds', 'train_seconds', 'slot_fill', 'padding_waste', 'model_flops_per_second'}
  assert not any(report.values())
  evaluations = answers(estimator, requests)
  report = estimator.report()
  assert report['programs'] == 1
  assert report['compile_seconds'] > 0
  assert 0 < report['train_seconds'] <= sum(e.seconds for e in evaluations)
  assert 0 < report['slot_fill'] <= 1
  assert 0 < report['padding_waste'] < 1  # Two of five are as wide as the program.
  flops = 2 * sum(e.train_macs for e in evaluations)
  assert report['model_flops_per_second'] == pytest.approx(flops / report['train_seconds'])
  widest = estimator_of()
  answers(widest, requests[1:2])
  assert widest.report()['padding_waste'] == pytest.approx(0)
  estimator.estimate(requests)
  assert estimator.predict_macs(requests[0]) == evaluations[0].train_macs
  assert estimator.predict_macs(stopped(requests[0], 1)) == evaluations[0].train_macs / 3


def test_prepared_programs_are_those_that_are_used(estimator_of, requests, compiled, monkeypatch):
  threads = []

  def make(*args, **settings):
    threads.append(threading.current_thread())
    return compiled(*args, **settings)

  monkeypatch.setattr(trained, 'PopulationProgram', make)
  estimator = estimator_of()
  other = Request(ChainArchitecture.uniform(3, 2), Schedule(epochs=1, batch_size=8))
  estimator.prepare([requests[0], requests[1]])
  answers(estimator, requests[:2])
  assert estimator.report()['programs'] == len(threads) == 1
  assert threads[0] is not threading.main_thread()
  estimator.prepare(requests[:2])  # There already.
  estimator.prepare([Request(Strange(), Schedule(epochs=1))])  # Nothing that it could prepare.
  assert len(threads) == 1
  estimator.prepare([*requests[:2], other])
  answers(estimator, [other])
  assert estimator.report()['programs'] == len(threads) == 2


def test_what_fails_in_preparation_fails_when_it_is_used(estimator_of, requests, monkeypatch):
  def make(*args, **settings):
    raise ValueError('no such layer')

  monkeypatch.setattr(trained, 'PopulationProgram', make)
  estimator = estimator_of()
  estimator.prepare(requests[:1])
  evaluation, = answers(estimator, requests[:1])
  assert evaluation.reason == 'does not compile: ValueError: no such layer'
  assert estimator.report()['programs'] == 0


def test_few_programs_are_kept(estimator_of, monkeypatch):
  made = []

  def make(capacity, data, **settings):
    made.append(capacity)
    raise ValueError('enough')

  monkeypatch.setattr(trained, 'PopulationProgram', make)
  estimator = estimator_of(packing=None)
  several = [Request(ChainArchitecture.uniform(3, width), Schedule(epochs=1, batch_size=8)) for width in range(1, 7)]
  assert all(not e.ok for e in answers(estimator, several))
  assert made == [Capacity.of([r.architecture]) for r in several]


# Networks of other spaces: each as its module, replicates together.


def estimate_lines(data, requests, *, space=None, **options):
  return answers(TrainedEstimator(space or LineSpace(), data, seed=5, **{'slots': 1, **options}), requests)


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
def lines(data):
  """Three replicates, one after the other."""
  return estimate_lines(data, [line(i) for i in range(3)])


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
  estimator = TrainedEstimator(LineSpace(), data, seed=5, slots=1)
  for stop in (1, 2):
    evaluation, = answers(estimator, [stopped(line(), stop)])
    assert evaluation.curve == lines[0].curve[:stop]
    assert evaluation.train_macs == 3 * 134 * 16 * stop
  assert result(answers(estimator, [line()])[0]) == result(lines[0])


def test_compiling_at_the_first_use_is_counted_too(fakes, data, monkeypatch):
  def train(program, requests, **options):
    program.compile_seconds = 2.0  # As a last, smaller batch does.
    return fake_train(program, requests, **options)

  monkeypatch.setattr(trained, 'train', train)
  evaluations = estimate_lines(data, [line(i) for i in range(2)], memory_limit=10**10)
  assert [e.compile_seconds for e in evaluations] == [2.0, 0.0]


def test_the_best_epoch_of_several(fakes, data, monkeypatch):
  def train(program, requests, **_):
    for score in (0.2, 0.5, 0.3, 0.5):
      yield None, Epoch(np.array([1 - score]), np.array([score / 2]), np.array([score]))

  monkeypatch.setattr(trained, 'train', train)
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
  evaluations = estimate_lines(data, [line(i) for i in range(3)], slots=3, memory_limit=10**10)
  assert [result(e) for e in evaluations] == [result(e) for e in lines]


@pytest.mark.parametrize(('after', 'finished'), [(1, 0), (4, 0), (5, 0), (6, 1), (7, 1), (11, 1), (12, 2)])
def test_told_to_stop_another_space_keeps_what_was_finished(data, lines, monkeypatch, after, finished):
  """Stopped after so many steps; each of the two candidates takes three epochs of two."""
  steps = []

  def step(*args):
    steps.append(None)
    return real(*args)

  real = Program.step
  monkeypatch.setattr(Program, 'step', step)
  estimator = TrainedEstimator(LineSpace(), data, seed=5, slots=1, should_stop=lambda: len(steps) >= after)
  found = estimator.estimate([line(0), line(1)])
  for i in range(finished):
    assert (lambda index, evaluation: (index, result(evaluation)))(*next(found)) == (i, result(lines[i]))
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
  estimator = estimators.make(config, SPACE, make_dataset(), execution=Execution.default(), should_stop=lambda: False)
  assert isinstance(estimator, TrainedEstimator)
  assert (estimator._data.train_size, estimator._data.score_size) == (32, 8)
  config.data.score_on_test = True
  estimator = estimators.make(config, SPACE, make_dataset(), execution=Execution.default(), should_stop=lambda: False)
  assert (estimator._data.train_size, estimator._data.score_size) == (40, 6)
  config.training.batch_size = 64
  with user_error('40 training images', 'config.training.batch_size=64', 'lower'):
    estimators.make(config, SPACE, make_dataset(), execution=Execution.default(), should_stop=lambda: False)
  config.estimator = 'oracle'
  with user_error("config.estimator 'oracle'", "'trained'"):
    estimators.make(config, SPACE, make_dataset(), execution=Execution.default(), should_stop=lambda: False)

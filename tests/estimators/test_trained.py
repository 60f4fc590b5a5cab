"""The estimator that trains: whatever happens to one candidate, the others' results are their own."""
import dataclasses
import os
import subprocess
import sys
import threading

import jax
import numpy as np
import pytest
from support.asking import OUT_OF_MEMORY, answers, chain, chains, estimator_by, result, stopped

from enas_jax import estimators
from enas_jax.config import get_config
from enas_jax.data import Dataset
from enas_jax.data.dataset import ImageSet
from enas_jax.errors import Stopped
from enas_jax.estimators import Execution, TrainedEstimator
from enas_jax.families.chain.packing import Packing
from enas_jax.families.chain.weights import Capacity
from enas_jax.spaces import ChainArchitecture, ChainSpace
from enas_jax.training import slots, slots_engine
from enas_jax.types import Request, Schedule

pytest_plugins = ['support.training_fixtures']
SPACE = ChainSpace()
ONE = tuple(jax.devices()[:1])


@pytest.fixture
def estimator_of(data, packing, compiled, monkeypatch):
  """An estimator whose programs are compiled once a session."""
  monkeypatch.setattr(slots_engine, 'PopulationProgram', compiled)

  def make(*, packing=packing, **options):
    return estimator_by(SPACE, data, family=chains(data, packing), **{'slots': 2, **options})

  return make


@pytest.fixture
def estimate(estimator_of):
  return lambda requests, **options: answers(estimator_of(**options), requests)


@pytest.fixture(scope='module')
def requests():
  """Of different sizes and lengths, of the program that `packing` has."""
  return [chain(2, '010', 3), chain(3, '0010110'), chain(1, '1101', 1), chain(2, '010', 1, replicate=1), chain(2, '01010', 3)]


@pytest.fixture(scope='module')
def alone(data, packing, requests, compiled):
  """What each gives, one after the other."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(slots_engine, 'PopulationProgram', compiled)
    estimator = estimator_by(SPACE, data, family=chains(data, packing), slots=2)
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


@pytest.mark.once
@pytest.mark.slow
def test_compiled_anew_and_with_other_slots_they_give_the_same_bits(data, packing, requests, alone):
  for count in (1, 2):
    estimator = estimator_by(SPACE, data, family=chains(data, packing), slots=count)
    assert [result(e) for e in answers(estimator, requests)] == [result(e) for e in alone]


def test_another_seed_is_another_result(estimate, requests, alone):
  other = estimate(requests[:1], seed=6)
  assert other[0].metrics['train_loss'] != alone[0].metrics['train_loss']


FRESH = '''
import jax
import numpy as np
from enas_jax.data.augment import Augmentation
from enas_jax.data.dataset import ImageSet
from enas_jax.estimators import Execution, TrainedEstimator
from enas_jax.families.chain.family import ChainFamily
from enas_jax.spaces import ChainArchitecture, ChainSpace
from enas_jax.training.engine import Resources
from enas_jax.training.state import TrainingData
from enas_jax.types import Request, Schedule, Task
rng = np.random.default_rng(0)
labels = (np.arange(120) % 3).astype(np.int32)
images = (rng.integers(0, 120, (120, 16, 16, 1)) + 60 * labels[:, None, None, None]).astype(np.uint8)
part = ImageSet(images, labels)
data = TrainingData.put(part, part, mean=np.float32([0.4]), std=np.float32([0.2]),
                        augmentation=Augmentation(crop_padding=2, flip=True, cutout=4), task=Task((16, 16, 1), 3))
request = Request(ChainArchitecture.uniform(3, 4), Schedule(epochs=3, batch_size=24))
resources = Resources(data=data, seed=0, execution=Execution.default())
(_, evaluation), = TrainedEstimator(ChainSpace(), resources, ChainFamily(data.task)).estimate([request])
print(float(evaluation.metrics['train_loss']).hex(), evaluation.metrics['train_accuracy'], evaluation.curve)
'''


@pytest.mark.once
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

  monkeypatch.setattr(slots_engine, 'train_in_slots', spy)
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
  """An architecture that is no chain."""

  def to_json(self):
    return {'space': 'strange'}


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


def test_an_architecture_that_its_family_cannot_place_fails_alone(estimate, requests, alone):
  evaluations = estimate([Request(Strange(), Schedule(epochs=1, batch_size=8)), requests[0]])
  assert evaluations[0].reason.startswith('has no program: AttributeError: ')
  assert result(evaluations[1]) == result(alone[0])


@pytest.mark.parametrize(('error', 'reason'), [
    (ValueError('no such layer\nmore about it'), 'ValueError: no such layer'),
    (jax.errors.JaxRuntimeError('INTERNAL: the compiler gave up\nmore'), 'JaxRuntimeError: INTERNAL: the compiler gave up')])
def test_a_program_that_does_not_compile_fails_its_own_candidates_alone(
    estimate, requests, alone, compiled, monkeypatch, error, reason):
  other = Request(ChainArchitecture.uniform(3, 2), Schedule(epochs=1, batch_size=8))  # One branch: another program.

  def make(network, data, recipe, **settings):
    if len(network.capacity.branches) == 1:
      raise error
    return compiled(network, data, recipe, **settings)

  monkeypatch.setattr(slots_engine, 'PopulationProgram', make)
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

  def make(network, data, recipe, *, layout, **settings):
    seen.append(layout.slots)
    if layout.slots > 1 and where == 'compiling':
      raise error
    program = compiled(network, data, recipe, layout=layout, **settings)
    return Raising(program, [error], after=3 if where == 'later' else 0) if layout.slots > 1 else program

  monkeypatch.setattr(slots_engine, 'PopulationProgram', make)
  if where == 'later':
    monkeypatch.setattr(slots, 'CALL_SECONDS', 1e-9)
  evaluations = estimate(requests)
  assert seen == [2, 1]
  assert [result(e) for e in evaluations] == [result(e) for e in alone]


@pytest.mark.once
def test_memory_that_runs_out_for_one_is_its_failure_and_another_runtime_error_is_not(
    estimate, requests, compiled, monkeypatch):
  def failing(message):
    def make(network, data, recipe, **settings):
      return Raising(compiled(network, data, recipe, **settings), [jax.errors.JaxRuntimeError(message)] * 9)
    monkeypatch.setattr(slots_engine, 'PopulationProgram', make)

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
    self.memory_bytes = 10**9 * program.network.capacity.width * program.layout.slots

  def __getattr__(self, name):
    return getattr(self._program, name)


@pytest.fixture
def sized(compiled, monkeypatch):
  def make(network, data, recipe, **settings):
    made.append((network.capacity.width, settings['layout'].slots))
    return Sized(compiled(network, data, recipe, **settings))

  made = []
  monkeypatch.setattr(slots_engine, 'PopulationProgram', make)
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


@pytest.mark.once
@pytest.mark.slow
def test_where_only_the_padding_does_not_fit_each_trains_in_a_program_of_its_size(estimate, requests, alone, sized):
  narrow, wide = requests[0], requests[1]
  evaluations = estimate([narrow, wide], memory_limit=2 * 10**9)
  assert sized[:2] == [(3, 2), (3, 1)]
  assert evaluations[0].ok and evaluations[0].curve == alone[0].curve
  assert evaluations[0].metrics == pytest.approx(alone[0].metrics, rel=1e-5)
  assert evaluations[1].reason == 'out of memory: needs 3.00 GB, 2.00 GB are free'


@pytest.mark.once
@pytest.mark.slow
def test_a_candidate_that_was_paused_goes_on_in_a_program_of_another_size(estimator_of, requests, alone, compiled, monkeypatch):
  """The shared program's memory runs out only at the second part."""
  narrow = requests[0]
  estimator = estimator_of(slots=1)
  answers(estimator, [stopped(narrow, 1)])

  def make(network, data, recipe, **settings):
    program = compiled(network, data, recipe, **settings)
    return Raising(program, [jax.errors.JaxRuntimeError(OUT_OF_MEMORY)] * 9) if network.capacity.width == 3 else program

  monkeypatch.setattr(slots_engine, 'PopulationProgram', make)
  estimator._engine._programs._futures.clear()
  evaluation, = answers(estimator, [narrow])
  assert evaluation.ok, evaluation.reason
  assert evaluation.metrics == pytest.approx(alone[0].metrics, rel=1e-5)


# Reports and preparation.


def test_the_report(estimator_of, requests, data):
  estimator = estimator_of()
  report = estimator.report()
  assert report.keys() >= {
      'programs', 'compile_seconds', 'train_seconds', 'slot_fill', 'core_fill', 'padding_waste',
      'model_flops_per_second'}
  assert not any(report.values())
  evaluations = answers(estimator, requests)
  report = estimator.report()
  assert report['programs'] == 1
  assert report['compile_seconds'] > 0
  assert 0 < report['train_seconds'] <= sum(e.seconds for e in evaluations)
  assert 0 < report['slot_fill'] <= 1
  assert 0 < report['core_fill'] <= 1.1  # Of what was measured within the calls, by two clocks.
  assert 0 < report['padding_waste'] < 1  # Two of five are as wide as the program.
  flops = 2 * sum(e.train_macs for e in evaluations)
  assert report['model_flops_per_second'] == pytest.approx(flops / report['train_seconds'])
  widest = estimator_of()
  answers(widest, requests[1:2])
  assert widest.report()['padding_waste'] == pytest.approx(0)
  estimator.estimate(requests)
  assert estimator.predict_macs(requests[0]) == evaluations[0].train_macs
  assert estimator.predict_macs(stopped(requests[0], 1)) == evaluations[0].train_macs / 3


@pytest.mark.once
def test_prepared_programs_are_those_that_are_used(estimator_of, requests, compiled, monkeypatch):
  threads = []

  def make(*args, **settings):
    threads.append(threading.current_thread())
    return compiled(*args, **settings)

  monkeypatch.setattr(slots_engine, 'PopulationProgram', make)
  estimator = estimator_of()
  other = Request(ChainArchitecture.uniform(3, 2), Schedule(epochs=1, batch_size=8))
  estimator.prepare([requests[0], requests[1]])
  answers(estimator, requests[:2])
  assert estimator.report()['programs'] == len(threads) == 1
  assert threads[0] is not threading.main_thread()
  estimator.prepare(requests[:2])  # There already.
  estimator.prepare([Request(Strange(), Schedule(epochs=1))])  # Fails when it is asked for, not now.
  assert len(threads) == 1
  estimator.prepare([*requests[:2], other])
  answers(estimator, [other])
  assert estimator.report()['programs'] == len(threads) == 2


def test_what_fails_in_preparation_fails_when_it_is_used(estimator_of, requests, monkeypatch):
  def make(*args, **settings):
    raise ValueError('no such layer')

  monkeypatch.setattr(slots_engine, 'PopulationProgram', make)
  estimator = estimator_of()
  estimator.prepare(requests[:1])
  evaluation, = answers(estimator, requests[:1])
  assert evaluation.reason == 'does not compile: ValueError: no such layer'
  assert estimator.report()['programs'] == 0


def test_few_programs_are_kept(estimator_of, monkeypatch):
  made = []

  def make(network, data, recipe, **settings):
    made.append(network.capacity)
    raise ValueError('enough')

  monkeypatch.setattr(slots_engine, 'PopulationProgram', make)
  estimator = estimator_of(packing=None)
  several = [Request(ChainArchitecture.uniform(3, width), Schedule(epochs=1, batch_size=8)) for width in range(1, 7)]
  assert all(not e.ok for e in answers(estimator, several))
  assert made == [Capacity.of([r.architecture]) for r in several]


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
  assert (estimator._resources.data.train_size, estimator._resources.data.score_size) == (32, 8)
  mine = dataclasses.replace(make_dataset(), valid=make_dataset().test)
  estimator = estimators.make(config, SPACE, mine, execution=Execution.default(), should_stop=lambda: False)
  assert (estimator._resources.data.train_size, estimator._resources.data.score_size) == (40, 6)
  config.data.score_on_test = True
  mine = dataclasses.replace(make_dataset(), valid=make_dataset().train)
  estimator = estimators.make(config, SPACE, mine, execution=Execution.default(), should_stop=lambda: False)
  assert (estimator._resources.data.train_size, estimator._resources.data.score_size) == (40, 6)
  estimator = estimators.make(config, SPACE, make_dataset(), execution=Execution.default(), should_stop=lambda: False)
  assert (estimator._resources.data.train_size, estimator._resources.data.score_size) == (40, 6)
  config.training.batch_size = 64
  with user_error('40 training images', 'config.training.batch_size=64', 'lower'):
    estimators.make(config, SPACE, make_dataset(), execution=Execution.default(), should_stop=lambda: False)
  config.estimator = 'oracle'
  with user_error("config.estimator 'oracle' is unknown; give one of table, trained"):
    estimators.make(config, SPACE, make_dataset(), execution=Execution.default(), should_stop=lambda: False)


def test_the_accuracy_that_decides():
  """Of the held-out part, as the setting says; of the test part in the final training it is the plain one."""
  config = get_config()
  config.training.batch_size = 8
  rng, labels = np.random.default_rng(0), np.repeat(np.arange(2), (30, 10))
  part = ImageSet(rng.integers(0, 256, (40, 8, 8, 1), np.uint8), labels)
  unequal = Dataset.checked('npz:none', part, part, ('a', 'b'))
  for accuracy, weights in (('plain', None), ('balanced', [8 / 2 / 6, 8 / 2 / 2])):
    config.data.accuracy = accuracy
    data = estimators.make(config, SPACE, unequal, execution=Execution.default(), should_stop=lambda: False)._resources.data
    assert data.score_weights is None if weights is None else data.score_weights.tolist() == pytest.approx(weights)
    assert estimators.training_data(config, unequal, part, part).score_weights is None
    np.testing.assert_allclose(data.class_weights('balanced'), [32 / 2 / 24, 32 / 2 / 8])
    assert data.class_weights('equal') is None


@pytest.fixture
def own_cache():
  """JAX's settings of its compilation cache, put back afterwards."""
  names = 'jax_compilation_cache_dir', 'jax_persistent_cache_min_compile_time_secs'
  before = [getattr(jax.config, name) for name in names]
  yield
  for name, value in zip(names, before, strict=True):
    jax.config.update(name, value)


@pytest.mark.usefixtures('own_cache')
def test_candidates_run_as_the_flags_say(tmp_path):
  assert estimators.execution('auto', tmp_path, lowering='shifts', compilation_cache='none') == Execution.default()
  execution = estimators.execution(
      'bfloat16', tmp_path, slots=3, lowering='xla', compilation_cache=tmp_path / 'programs')
  assert (execution.dtype, execution.slots, execution.lowering) == (jax.numpy.bfloat16, 3, 'xla')
  assert jax.config.jax_compilation_cache_dir == str(tmp_path / 'programs')
  assert (tmp_path / 'programs').stat().st_mode & 0o777 == 0o700

"""Training in slots against a textbook loop over each candidate's own module; and that nothing but the request counts."""
import dataclasses
import functools

import jax
import numpy as np
import optax
import pytest
from flax import nnx
from support import plain_training
from support.asking import chain, stopped

from enas_jax.data.augment import augment, normalise
from enas_jax.errors import Stopped
from enas_jax.families.chain.network import StackedChain
from enas_jax.families.chain.packing import rates, step_seconds
from enas_jax.families.chain.weights import initial
from enas_jax.networks import build
from enas_jax.training import slots
from enas_jax.training.keys import data_key, initial_seed
from enas_jax.training.layout import Layout
from enas_jax.training.slots import Usage, train_in_slots, train_one
from enas_jax.training.state import Snapshot
from enas_jax.types import Recipe

pytestmark = pytest.mark.once  # Searches train with them on every Python.

pytest_plugins = ['support.training_fixtures']
SEED = 5
TOLERANCE = 1e-4  # Of losses and weights of size 1 after at most 9 steps in float32.


MIXED = [  # Five candidates that differ in all that candidates differ in.
    chain(3, '010', 3),
    chain(2, '0010110', 2, learning_rate=0.05, momentum=0.5),
    chain(3, '10010', 1, replicate=1, weight_decay=0.1, clip_norm=0.5),
    chain(2, '0010110', 3, replicate=2, learning_rate=0.02, rate_steps_first=True),
    chain(1, '1101', 2, learning_rate=0.2, weight_decay=0.0, decay='cosine', warmup=0.25),
]
DIVERGING = chain(2, '0110', 3, learning_rate=1e30)


def costs_of(requests, program):
  return [step_seconds(r.architecture, program.data.task, 8, rates('cpu')) for r in requests]


def train(program, requests, **options):
  """The epochs and the last state of each, in the order of the requests."""
  ended = {}
  for trained in train_in_slots(program, requests, seed=SEED, costs=costs_of(requests, program),
                                keep=frozenset(range(len(requests))), **options):
    assert trained.index not in ended and trained.epochs == trained.state.epochs
    ended[trained.index] = trained.state
  assert sorted(ended) == list(range(len(requests)))
  return [ended[i] for i in range(len(requests))]


def assert_same(one, other):
  """To the last bit: epochs and weights."""
  for a, b in zip(one, other, strict=True):
    assert np.array_equal(a.epochs, b.epochs, equal_nan=True)
    for x, y in zip(*(jax.tree.leaves(state.member) for state in (a, b)), strict=True):
      assert np.array_equal(x, y, equal_nan=True)


def assert_close(one, other):
  for a, b in zip(one, other, strict=True):
    np.testing.assert_allclose([e.loss for e in a.epochs], [e.loss for e in b.epochs], rtol=TOLERANCE)
    np.testing.assert_allclose([e[1:] for e in a.epochs], [e[1:] for e in b.epochs], atol=1e-6)  # Counts, so equal.
    for x, y in zip(*(jax.tree.leaves(state.member.state) for state in (a, b)), strict=True):
      np.testing.assert_allclose(x, y, rtol=TOLERANCE, atol=TOLERANCE)


augmented = jax.jit(augment, static_argnums=4)


@functools.cache
def module(architecture, task, smoothing, class_weights):
  """Empty weights and statistics of the plain module, its training step's gradients, and its logits."""
  graph, params, stats = nnx.split(
      nnx.eval_shape(lambda: build(architecture, task=task, key=jax.random.key(0))), nnx.Param, nnx.BatchStat)
  compile_ = functools.partial(jax.jit, compiler_options={'xla_backend_optimization_level': 0})

  def gradients_of(params, stats, images, labels):
    def loss_of(params):
      model = nnx.merge(graph, params, stats, copy=True)
      model.train()
      logits = model(images)
      loss = plain_training.loss(logits, labels, smoothing, class_weights)
      return loss, (nnx.state(model, nnx.BatchStat), (logits.argmax(-1) == labels).sum())

    return jax.value_and_grad(loss_of, has_aux=True)(params)

  def logits_of(params, stats, images):
    model = nnx.merge(graph, params, stats, copy=True)
    model.eval()
    return model(images)

  return params, stats, compile_(gradients_of), compile_(logits_of)


def textbook(request, data):
  """The same candidate by a plain Flax and Optax loop, sharing the first weights and the augmentation: epochs, weights."""
  schedule, arrays = request.schedule, data.arrays
  params, stats, gradients_of, logits_of = module(
      request.architecture, data.task, schedule.label_smoothing, plain_training.class_weights(schedule, data))
  first = initial(request.architecture, data.task, np.random.default_rng(initial_seed(SEED, request)))
  for state, values in zip((params, stats), first, strict=True):
    nnx.replace_by_pure_dict(state, jax.tree.map(jax.numpy.asarray, values))
  opt_state = None
  epochs = []
  for epoch in range(schedule.epochs):
    order_key, step_key = jax.random.split(jax.random.fold_in(data_key(SEED, request), epoch))
    order = np.asarray(jax.random.permutation(order_key, 20))
    batches = [order[:8], order[8:16]] + [order[16:]] * schedule.keep_last_batch
    loss_sum = correct_sum = 0
    for step, batch in enumerate(batches):
      images = augmented(
          jax.random.fold_in(step_key, step), arrays.images[batch], arrays.mean, arrays.std, data.augmentation)
      (loss, (stats, correct)), gradients = gradients_of(params, stats, images, arrays.labels[batch])
      sgd = plain_training.sgd(schedule, epoch * len(batches) + step, len(batches))
      updates, opt_state = sgd.update(gradients, sgd.init(params) if opt_state is None else opt_state, params)
      params = optax.apply_updates(params, updates)
      loss_sum += float(loss) * len(batch)
      correct_sum += int(correct)
    logits = logits_of(params, stats, normalise(arrays.score_images[:12], arrays.mean, arrays.std))
    seen = sum(map(len, batches))
    epochs.append((loss_sum / seen, correct_sum / seen, plain_training.score(logits, data)))
  return epochs, nnx.to_pure_dict(params), nnx.to_pure_dict(stats)


def assert_textbook(program, requests, results):
  for r, state in zip(requests, results, strict=True):
    epochs, *weights = textbook(r, program.data)
    assert len(state.epochs) == r.schedule.epochs
    np.testing.assert_allclose(state.epochs, epochs, rtol=TOLERANCE)  # Accuracies are counts, so equal.
    own = list(program.unpack(r.architecture, state.member.state))
    assert jax.tree.structure(own) == jax.tree.structure(weights)
    for x, y in zip(jax.tree.leaves(own), jax.tree.leaves(weights), strict=True):
      np.testing.assert_allclose(x, y, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.fixture(scope='module')
def program(program_with):
  return program_with(slots=2)


@pytest.fixture(scope='module')
def mixed(program):
  """What the five give in two slots."""
  return train(program, MIXED)


def test_one_candidate_is_the_textbook(program, mixed):
  assert_textbook(program, MIXED[:1], mixed[:1])


@pytest.mark.slow
def test_mixed_candidates_are_the_textbook(program, mixed):
  assert [len(state.epochs) for state in mixed] == [3, 2, 1, 3, 2]
  assert_textbook(program, MIXED, mixed)
  assert len({state.epochs[0].loss for state in mixed}) == 5  # They do differ.


@pytest.mark.slow
def test_the_last_smaller_batch_and_crops_of_another_size_are_trained_on_too(data, packing, compiled):
  """Their shapes are others than those of what is scored."""
  data = dataclasses.replace(data, augmentation=dataclasses.replace(data.augmentation, crop_size=9))
  requests = [chain(2, '111', epochs, replicate=epochs, keep_last_batch=True) for epochs in (3, 2)]
  program = compiled(StackedChain(packing.capacity(requests[0].architecture)), data, Recipe(8, keep_last_batch=True),
                     layout=Layout(tuple(jax.devices()[:1]), slots=2))
  results = train(program, requests)
  assert_textbook(program, requests, results)
  assert_same(train(program, requests[::-1])[::-1], results)


@pytest.mark.slow
def test_momentum_and_targets_are_compiled_into_a_program_and_rates_are_data(data, packing, compiled):
  own = {'nesterov': True, 'label_smoothing': 0.2, 'keep_last_batch': True}  # Nine steps in three epochs.
  requests = [chain(2, '111', 3, **own, decay='linear', warmup=2 / 9, settle=1 / 9), chain(2, '111', 2, **own)]
  program = compiled(StackedChain(packing.capacity(requests[0].architecture)), data, requests[0].schedule.recipe,
                     layout=Layout(tuple(jax.devices()[:1]), slots=2))
  assert_textbook(program, requests, train(program, requests))


@pytest.mark.slow
def test_classes_that_count_alike(unequal, packing, compiled):
  """In the loss and in the score."""
  requests = [chain(2, '111', epochs, class_weights='balanced', label_smoothing=0.2) for epochs in (3, 2)]
  program = compiled(StackedChain(packing.capacity(requests[0].architecture)), unequal, requests[0].schedule.recipe,
                     layout=Layout(tuple(jax.devices()[:1]), slots=2))
  results = train(program, requests)
  assert_textbook(program, requests, results)
  assert any(epoch.score % (1 / 12) > 1e-3 for epoch in results[0].epochs)  # It is no share of twelve images.


def test_again_and_in_any_order_it_is_the_same_to_the_last_bit(program, mixed):
  for order in ([0, 1, 2, 3, 4], [4, 2, 0, 3, 1], [1, 0]):
    assert_same(train(program, [MIXED[i] for i in order]), [mixed[i] for i in order])


def test_alone_it_is_the_same_to_the_last_bit(program, mixed):
  for r, state in zip(MIXED, mixed, strict=True):
    assert_same(train(program, [r]), [state])


def test_with_one_slot_it_is_the_same_to_the_last_bit(program_with, mixed):
  assert_same(train(program_with(slots=1), MIXED), mixed)


@pytest.fixture
def calls(program, monkeypatch):
  """The most steps of each call of the program."""
  seen = []

  def advance(control):
    seen.append(np.asarray(control.steps).max())
    return real(control)

  real = program.advance
  monkeypatch.setattr(program, 'advance', advance)
  return seen


def test_in_other_calls_it_is_the_same_to_the_last_bit(program, mixed, calls, monkeypatch):
  monkeypatch.setattr(slots, 'CALL_SECONDS', 1e-9)
  assert_same(train(program, MIXED), mixed)
  short = len(calls)
  assert short >= 11  # 22 steps in two slots, one a call after the first.
  monkeypatch.setattr(slots, 'CALL_SECONDS', 1e9)
  assert_same(train(program, MIXED), mixed)
  assert len(calls) - short < short


def test_the_first_call_is_short_whatever_the_costs(program, calls, monkeypatch):
  """Before anything is known about speed no candidate is trained for more than a few steps."""
  monkeypatch.setattr(slots, 'FIRST_STEPS', 1)
  for cost in (1e-6, 1e-3, 1.0):
    calls.clear()
    list(train_in_slots(program, MIXED[1:2], seed=SEED, costs=[cost]))
    assert calls[0] == 1


def test_the_costs_change_nothing_but_the_order(program, mixed):
  ends = []
  for costs in ([1.0] * 5, [1e-3, 1e-6, 1e3, 1.0, 1.0]):
    results = {t.index: t for t in train_in_slots(program, MIXED, seed=SEED, costs=costs)}
    ends.append(list(results))
    for i, state in enumerate(mixed):
      assert results[i].epochs == state.epochs
      assert results[i].state is None  # Nobody asked for it.
  assert sorted(ends[0]) == sorted(ends[1])


def test_usage_and_seconds(program):
  usage = Usage()
  trained = list(train_in_slots(program, MIXED, seed=SEED, costs=costs_of(MIXED, program), usage=usage))
  work = sum(c * 2 * r.schedule.epochs for c, r in zip(costs_of(MIXED, program), MIXED, strict=True))
  assert usage.busy == pytest.approx(work)
  assert usage.available == pytest.approx(work)  # One device: it always has work.
  assert all(t.seconds > 0 for t in trained)


def test_one_that_diverges_ends_at_once_and_its_neighbours_do_not_notice(program, mixed):
  for place in (0, 2, 5):
    requests = [*MIXED[:place], DIVERGING, *MIXED[place:]]
    results = train(program, requests)
    bad = results.pop(place)
    assert len(bad.epochs) == 1 and not np.isfinite(bad.epochs[0].loss)
    assert_same(results, mixed)


def is_stopped_after(polls):
  left = iter([False] * (polls - 1) + [True] * 100)
  return lambda: next(left)


def test_told_to_stop_it_stops_and_keeps_what_had_ended(program, mixed, monkeypatch):
  monkeypatch.setattr(slots, 'CALL_SECONDS', 1e-9)
  monkeypatch.setattr(slots, 'FIRST_STEPS', 1e-9)
  finished = []
  for polls in (1, 4, 8, 100):
    ended = []
    try:
      for trained in train_in_slots(
          program, MIXED, seed=SEED, costs=costs_of(MIXED, program), should_stop=is_stopped_after(polls)):
        ended.append(trained)
        assert trained.epochs == mixed[trained.index].epochs
    except Stopped:
      assert len(ended) < 5
    else:
      assert len(ended) == 5
    finished.append(len(ended))
  assert finished == sorted(finished)
  assert finished[0] == 0 and finished[-1] == 5 and 0 < finished[2] < 5


def test_stopped_early_and_gone_on_with_it_is_the_same_to_the_last_bit(program, mixed):
  parts = [stopped(MIXED[0], 1), stopped(MIXED[3], 2), stopped(MIXED[1], 1)]
  first = train(program, parts)
  assert [len(state.epochs) for state in first] == [1, 2, 1]
  for state, whole in zip(first, (mixed[0], mixed[3], mixed[1]), strict=True):
    assert state.epochs == whole.epochs[:len(state.epochs)]
  rest = train(program, [MIXED[3], MIXED[4], MIXED[0]], starts={0: first[1], 2: first[0]})
  assert_same(rest, [mixed[3], mixed[4], mixed[0]])


def test_one_by_itself_is_the_same_from_any_point(program_with, mixed, monkeypatch):
  program = program_with(slots=1)
  for snapshot, epoch in train_one(program, MIXED[0], seed=SEED):
    assert epoch == mixed[0].epochs[snapshot.epoch - 1]
    assert snapshot.step == 0
  for x, y in zip(*map(jax.tree.leaves, (snapshot.state, mixed[0].member.state)), strict=True):
    np.testing.assert_array_equal(x, y)
  monkeypatch.setattr(slots, 'FIRST_STEPS', 1)
  monkeypatch.setattr(slots, 'CALL_SECONDS', 1e-9)
  for polls in (1, 2):  # Between epochs it is for the caller to stop.
    *_, (middle, epoch) = train_one(program, MIXED[0], seed=SEED, should_stop=is_stopped_after(polls))
    assert epoch is None and (middle.epoch, middle.step) == (polls - 1, 1)
    start = Snapshot(*jax.tree.map(np.array, middle[:2]), *middle[2:])
    epochs = [e for _, e in train_one(program, MIXED[0], seed=SEED, start=start)]
    assert tuple(epochs) == mixed[0].epochs[polls - 1:]
  unscored = [e for _, e in train_one(program, MIXED[0], seed=SEED, score=False)]
  assert [e[:2] for e in unscored] == [e[:2] for e in mixed[0].epochs]
  assert np.isnan([e.score for e in unscored[:-1]]).all() and unscored[-1] == mixed[0].epochs[-1]


VMAPPED = [pytest.param(False, id='own batches'), pytest.param(True, id='shared batches')]


@pytest.mark.slow
@pytest.mark.parametrize('shared', VMAPPED)
def test_side_by_side_it_is_the_same_up_to_rounding(program_with, program, mixed, shared, monkeypatch):
  beside = program_with(slots=2, vmapped=True, shared_batches=shared)
  results = train(beside, MIXED)
  assert_close(results, mixed)
  order = [3, 1, 4, 0, 2]
  assert_same(train(beside, [MIXED[i] for i in order]), [results[i] for i in order])
  monkeypatch.setattr(slots, 'CALL_SECONDS', 1e-9)
  assert_same(train(beside, MIXED), results)


@pytest.mark.slow
@pytest.mark.parametrize('shared', VMAPPED)
def test_side_by_side_one_that_diverges_is_not_noticed(program_with, shared):
  beside = program_with(slots=2, vmapped=True, shared_batches=shared)
  quiet = train(beside, MIXED)
  results = train(beside, [*MIXED[:2], DIVERGING, *MIXED[2:]])
  bad = results.pop(2)
  assert len(bad.epochs) == 1 and not np.isfinite(bad.epochs[0].loss)
  assert_same(results, quiet)


@pytest.mark.slow
def test_side_by_side_stopped_early_and_gone_on_with_it_is_the_same(program_with):
  beside = program_with(slots=2, vmapped=True, shared_batches=True)
  whole = train(beside, MIXED)
  first = train(beside, [stopped(MIXED[0], 1), stopped(MIXED[3], 2)])
  rest = train(beside, [MIXED[3], MIXED[4], MIXED[0]], starts={0: first[1], 2: first[0]})
  assert_same(rest, [whole[3], whole[4], whole[0]])

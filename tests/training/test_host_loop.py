"""Training against a textbook loop over the Flax module, resumed, and counted by hand."""
import dataclasses
import functools
import hashlib
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from support import plain_training
from support.line_space import Line, LineNetwork

from enas_jax.data.augment import augment, normalise
from enas_jax.networks import build
from enas_jax.spaces import ChainArchitecture
from enas_jax.training.host_loop import train
from enas_jax.training.keys import data_key, initial_key
from enas_jax.training.module_program import ModuleProgram
from enas_jax.training.schedule import images_an_epoch, learning_rates, progress, train_macs
from enas_jax.training.state import Hyperparameters, Snapshot, optimizer
from enas_jax.types import Request, Schedule

pytestmark = pytest.mark.once  # Searches train with them on every Python.

pytest_plugins = ['support.training_fixtures']
SEED = 5
TOLERANCE = 1e-5  # Of losses and weights of size 1 after at most 9 steps in float32; measured: 3e-7.


def run(program, requests, **options):
  """Losses, training accuracies and scores, [epochs, M] each, and the last weights of every member."""
  epochs = []
  for snapshot, epoch in train(program, requests, seed=SEED, **options):
    epochs.append(epoch)
    weights = [np.asarray(leaf) for leaf in jax.tree.leaves((snapshot.state.params, snapshot.state.stats))]
  losses, train_accuracies, scores = (np.stack(column) for column in zip(*epochs, strict=True))
  return losses, train_accuracies, scores, weights


logits_of = nnx.jit(lambda model, images: model(images))
augmented = jax.jit(augment, static_argnums=4)


@functools.partial(jax.jit, static_argnums=(0, 1), compiler_options={'xla_backend_optimization_level': 0})
def built(architecture, task, key):
  return nnx.split(build(architecture, task=task, key=key))


class TwoHeaded(LineNetwork):
  """A module with a hook: a second head, and noise that grows with the training's progress."""

  def __init__(self, inputs, width, classes, *, rngs):
    super().__init__(inputs, width, classes, rngs=rngs)
    self.other = nnx.Linear(inputs, classes, rngs=rngs)

  def training_logits(self, images, *, key, progress):
    noisy = images + 0.1 * progress * jax.random.normal(key, images.shape)
    return (1.0, self(noisy)), (0.4, self.other(images.reshape(len(images), -1)))


@dataclasses.dataclass(frozen=True)
class TwoHeadedLine(Line):
  """Registered below: what `build` makes of it is a `TwoHeaded`."""


@build.register
def _(architecture: TwoHeadedLine, *, task, key):
  return TwoHeaded(math.prod(task.image_shape), architecture.width, task.num_classes, rngs=nnx.Rngs(params=key))


@functools.partial(nnx.jit, static_argnums=5)
def gradients_of(model, images, labels, key, progress, recipe):
  def loss_of(model):
    if isinstance(model, TwoHeaded):
      (_, logits), (_, others) = model.training_logits(images, key=key, progress=progress)
      return plain_training.loss(logits, labels, *recipe) + 0.4 * plain_training.loss(others, labels, *recipe), logits
    logits = model(images)
    return plain_training.loss(logits, labels, *recipe), logits

  return nnx.value_and_grad(loss_of, has_aux=True)(model)


def textbook(request, data):
  """The same candidate by a plain Flax and Optax loop that shares nothing but the network and the augmentation."""
  schedule, arrays = request.schedule, data.arrays
  key = jax.random.fold_in(jax.random.key(SEED), request.replicate)
  name = hashlib.sha256(json.dumps(request.architecture.to_json(), sort_keys=True).encode()).digest()
  model = nnx.merge(*built(request.architecture, data.task, jax.random.fold_in(key, int.from_bytes(name[:4], 'big'))))
  key = jax.random.fold_in(key, 0xDA7A)
  opt_state = None
  losses, train_accuracies, scores = [], [], []
  for epoch in range(schedule.epochs):
    order_key, step_key = jax.random.split(jax.random.fold_in(key, epoch))
    order = np.asarray(jax.random.permutation(order_key, 20))
    batches = [order[start:start + 8] for start in range(0, 20, 8)]
    if not schedule.keep_last_batch:
      batches = [batch for batch in batches if len(batch) == 8]
    model.train()
    loss_sum = correct = 0
    for step, batch in enumerate(batches):
      labels = arrays.labels[batch]
      key_now = jax.random.fold_in(step_key, step)
      images = augmented(key_now, arrays.images[batch], arrays.mean, arrays.std, data.augmentation)
      module_key = jax.random.fold_in(key_now, 0x30D5)
      (loss, logits), gradients = gradients_of(
          model, images, labels, module_key, epoch / schedule.epochs,
          (schedule.label_smoothing, plain_training.class_weights(schedule, data)))
      sgd = plain_training.sgd(schedule, epoch * len(batches) + step, len(batches))
      opt_state = sgd.init(nnx.state(model, nnx.Param)) if opt_state is None else opt_state
      updates, opt_state = sgd.update(gradients, opt_state, nnx.state(model, nnx.Param))
      nnx.update(model, optax.apply_updates(nnx.state(model, nnx.Param), updates))
      loss_sum += float(loss) * len(batch)
      correct += int((logits.argmax(-1) == labels).sum())
    seen = sum(map(len, batches))
    losses.append(loss_sum / seen)
    train_accuracies.append(correct / seen)
    model.eval()
    logits = logits_of(model, normalise(arrays.score_images[:12], arrays.mean, arrays.std))
    scores.append(plain_training.score(logits, data))
  return losses, train_accuracies, scores, jax.tree.leaves((nnx.state(model, nnx.Param), nnx.state(model, nnx.BatchStat)))


def close(one, other):
  np.testing.assert_allclose(one, other, rtol=TOLERANCE, atol=TOLERANCE)


def test_alone_in_a_group_and_by_the_textbook(program_of_one, program_of_four, data, make_request):
  requests = [
      make_request(0), make_request(1, epochs=2, momentum=0.5), make_request(2, rate_steps_first=True),
      make_request(0, epochs=1, learning_rate=0.02, weight_decay=0.1, clip_norm=0.5, decay='linear', warmup=0.5)]
  group = run(program_of_four, requests)
  for i, request in enumerate(requests):
    epochs = request.schedule.epochs
    alone = run(program_of_one, [request])
    plain = textbook(request, data)
    close(alone[0][:, 0], plain[0])
    close(alone[0][:, 0], group[0][:epochs, i])
    for k in (1, 2):  # Accuracies are counts: equal, not close.
      np.testing.assert_allclose(alone[k][:, 0], plain[k], rtol=1e-6)
      np.testing.assert_array_equal(alone[k][:, 0], group[k][:epochs, i])
    assert len(alone[3]) == len(plain[3]) > 15
    for one, other in zip(alone[3], plain[3], strict=True):
      close(one[0], other)
    if epochs == 3:
      for one, other in zip(alone[3], group[3], strict=True):
        close(one[0], other[i])
  assert np.ptp(group[0][0]) > 0.01  # They do differ.


def test_the_last_smaller_batch_is_trained_on_too(program_of_one, data, make_request):
  request = make_request(3, keep_last_batch=True)
  losses, train_accuracies, scores, weights = run(program_of_one, [request])
  plain = textbook(request, data)
  close(losses[:, 0], plain[0])
  np.testing.assert_allclose(train_accuracies[:, 0], plain[1], rtol=1e-6)
  np.testing.assert_allclose(scores[:, 0], plain[2], rtol=1e-6)
  for one, other in zip(weights, plain[3], strict=True):
    close(one[0], other)


@pytest.mark.parametrize('balanced', [False, True])
def test_a_module_s_own_training_logits_are_what_is_trained(data, unequal, balanced):
  data = unequal if balanced else data
  request = Request(TwoHeadedLine(), Schedule(
      epochs=2, batch_size=8, nesterov=True, label_smoothing=0.1, decay='cosine', settle=0.25,
      class_weights='balanced' if balanced else 'equal'))
  losses, train_accuracies, scores, weights = run(ModuleProgram(TwoHeadedLine(), data, request.schedule.recipe), [request])
  plain = textbook(request, data)
  close(losses[:, 0], plain[0])
  np.testing.assert_allclose(train_accuracies[:, 0], plain[1], rtol=1e-6)  # Of the first logits.
  np.testing.assert_allclose(scores[:, 0], plain[2], rtol=1e-6)
  for one, other in zip(weights, plain[3], strict=True):
    close(one[0], other)


def test_progress_is_the_share_of_epochs_that_is_over():
  schedule = Schedule(epochs=4, stop_epoch=2)
  assert [progress(schedule, epoch) for epoch in (0, 1, 3, 4, 9)] == [0, 0.25, 0.75, 0.75, 0.75]


def test_a_finished_member_of_a_group_stands_still(program_of_four, make_request):
  requests = [make_request(i, epochs=1 if i else 3) for i in range(4)]
  weights = []
  for snapshot, _ in train(program_of_four, requests, seed=SEED):
    weights.append([np.asarray(leaf) for leaf in jax.tree.leaves(snapshot.state.params)])
  for first, last in zip(weights[0], weights[-1], strict=True):
    np.testing.assert_array_equal(first[1:], last[1:])
    assert (first[0] != last[0]).any()


def test_first_weights_are_the_same_alone_and_in_any_place_of_a_group(program_of_one, program_of_four, make_request):
  keys = jnp.stack([initial_key(SEED, make_request(i)) for i in range(4)])
  alone = jax.tree.leaves(program_of_one.init(keys[2:3]).params)
  for places in ([0, 1, 2, 3], [2, 0, 1, 3]):
    group = jax.tree.leaves(program_of_four.init(keys[jnp.array(places)]).params)
    for one, other in zip(alone, group, strict=True):
      np.testing.assert_array_equal(one[0], other[places.index(2)])


@pytest.mark.parametrize('polls', [1, 2, 4, 8])
def test_resumed_in_the_middle_of_an_epoch_it_is_the_same_to_the_last_bit(program_of_one, make_request, polls):
  requests = [make_request(keep_last_batch=True)]  # Three steps an epoch.
  *undisturbed, weights = run(program_of_one, requests)
  left = iter([False] * (polls - 1) + [True])
  epochs = []
  for snapshot, epoch in train(program_of_one, requests, seed=SEED, should_stop=lambda: next(left)):  # noqa: B007
    epochs += [epoch] if epoch else []
  assert epoch is None
  assert (snapshot.epoch, snapshot.step) == divmod(polls, 3)
  stored = Snapshot(*jax.tree.map(np.array, snapshot[:2]), *snapshot[2:])  # As a checkpoint has it.
  for snapshot, epoch in train(program_of_one, requests, seed=SEED, start=stored):  # noqa: B007
    epochs.append(epoch)
  for one, other in zip(undisturbed, zip(*epochs, strict=True), strict=True):
    np.testing.assert_array_equal(one, np.stack(other))
  for one, other in zip(weights, jax.tree.leaves((snapshot.state.params, snapshot.state.stats)), strict=True):
    np.testing.assert_array_equal(one, other)


def test_told_to_stop_at_the_end_of_an_epoch_it_gives_the_epoch(program_of_one, make_request):
  left = iter([False, True, True])
  epochs = [epoch for _, epoch in train(program_of_one, [make_request()], seed=SEED, should_stop=lambda: next(left))]
  assert epochs[0] is not None and epochs[1] is None


def test_without_scoring_nothing_else_changes(program_of_one, make_request):
  scored = run(program_of_one, [make_request()])
  epochs = [epoch for _, epoch in train(program_of_one, [make_request()], seed=SEED, score=False)]
  assert all(np.isnan(epoch.score).all() for epoch in epochs)
  np.testing.assert_array_equal(scored[0], np.stack([epoch.loss for epoch in epochs]))


def test_optimizer_is_that_of_pytorch():
  rng = np.random.default_rng(0)
  params = {'a': rng.normal(size=(3, 2)).astype(np.float32), 'b': rng.normal(size=4).astype(np.float32)}
  rates = Hyperparameters(learning_rate=0.1, momentum=0.9, weight_decay=0.01, clip_norm=2.0)
  state = optimizer(rates).init(params)
  now, velocity = dict(params), {name: 0 for name in params}
  for scale in (10, 0.1, 1):  # Clipped, not clipped, clipped.
    gradients = {name: np.float32(scale) * rng.normal(size=value.shape).astype(np.float32) for name, value in params.items()}
    norm = math.sqrt(sum((g**2).sum() for g in gradients.values()))
    updates, state = optimizer(rates).update(gradients, state, params)
    params = optax.apply_updates(params, updates)
    for name, gradient in gradients.items():
      gradient = gradient * min(1, 2.0 / norm) + 0.01 * now[name]
      velocity[name] = 0.9 * velocity[name] + gradient
      now[name] = now[name] - 0.1 * velocity[name]
    for name in now:
      np.testing.assert_allclose(params[name], now[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('epochs', [1, 2, 7, 48])
def test_rates_that_change_between_epochs(epochs):
  paper = Schedule(epochs=epochs, rate_steps_first=True)
  sound = Schedule(epochs=epochs)
  for e in range(epochs):
    for schedule, position in ((paper, e + 1), (sound, e)):
      rates = learning_rates(schedule, e, 3)
      assert rates == pytest.approx([0.0125 * (1 + math.cos(math.pi * position / epochs))] * 3, abs=1e-15)
  assert learning_rates(sound, 0, 1) == [0.025]
  assert learning_rates(paper, epochs - 1, 1) == [0]
  assert learning_rates(paper, epochs + 3, 1) == learning_rates(sound, epochs, 1) == [0]


@pytest.mark.parametrize('decay', ['cosine', 'linear'])
@pytest.mark.parametrize(('warmup', 'settle'), [(0.0, 0.0), (0.25, 0.0), (0.0, 0.125), (0.5, 0.25)])
@pytest.mark.parametrize('epochs', [1, 2, 4])
def test_rates_that_change_between_steps(decay, warmup, settle, epochs):
  schedule = Schedule(epochs=epochs, decay=decay, warmup=warmup, settle=settle)
  found = np.concatenate([learning_rates(schedule, epoch, 8) for epoch in range(epochs)])
  plain = [plain_training.rate(schedule, step, 8) for step in range(8 * epochs)]
  np.testing.assert_allclose(found, plain, rtol=1e-5, atol=1e-9)
  at_zero = round(settle * 8 * epochs)
  assert (found[:8 * epochs - at_zero] > 0).all() and (found[8 * epochs - at_zero:] == 0).all()
  assert (learning_rates(schedule, epochs, 8) == 0).all()  # After its own epochs.


def test_images_and_multiply_adds_by_hand():
  whole, all_images = Schedule(epochs=3, batch_size=8), Schedule(epochs=3, batch_size=8, keep_last_batch=True)
  assert [images_an_epoch(whole, n) for n in (8, 15, 20, 24)] == [8, 8, 16, 24]
  assert [images_an_epoch(all_images, n) for n in (8, 15, 20, 24)] == [8, 15, 20, 24]
  assert train_macs(1000, whole, 20) == 3 * 1000 * 16 * 3
  assert train_macs(1000, all_images, 20) == 3 * 1000 * 20 * 3


def test_keys_follow_from_the_identity():
  def key_bits(function, seed=0, replicate=0, width=2, **schedule):
    request = Request(ChainArchitecture.uniform(3, width), Schedule(**{'epochs': 1, **schedule}), replicate=replicate)
    return jax.random.key_data(function(seed, request)).tolist()

  for function in (initial_key, data_key):
    assert key_bits(function) == key_bits(function, epochs=9, learning_rate=1.0)
    assert key_bits(function) != key_bits(function, replicate=1)
    assert key_bits(function) != key_bits(function, seed=1)
  assert key_bits(initial_key) != key_bits(initial_key, width=3)
  assert key_bits(data_key) == key_bits(data_key, width=3)
  assert key_bits(initial_key) != key_bits(data_key)

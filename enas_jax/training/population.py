"""Many different candidates trained at once, on every device, by one compiled program.

A device has slots; a slot holds one candidate. What makes candidates differ (the plan of their layers, weights, batch order,
schedule) is data, see family.py. One call of the program trains every slot by some steps, each within its own
epoch, and scores those that end one. Between calls the host reads results, and gives the slots of those that ended to others.

The mesh has two axes: over `candidates` nothing is exchanged; over `data` the images of one network's batch are spread.
"""
from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any, Generic, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from enas_jax.data.augment import augment, normalise
from enas_jax.training.family import A, Limits, Mode, Plan, StackedNetwork, Weights
from enas_jax.training.keys import NOISE
from enas_jax.training.layout import CPU_OPTIONS, Layout, exchange_slots
from enas_jax.training.memory import program_bytes
from enas_jax.training.state import (
    Arrays,
    Control,
    Hyperparameters,
    Tally,
    TrainingData,
    TrainState,
    optimizer,
    optimizer_shapes,
    zeros_like,
)
from enas_jax.types import Recipe


class Member(NamedTuple):
  """A candidate in its slot. On the device every array has a leading axis of slots."""

  plan: Plan
  state: TrainState
  tally: Tally


class PopulationProgram(Generic[A]):
  """The compiled training of all candidates that a network's capacity holds.

  Args:
    network: the mathematics; made for this layout, see `Family.network`.
    data: what to train and score on.
    recipe: how it is trained, as far as it is no data.
    layout: how candidates lie on the devices.

  Attributes:
    members: the candidates, in slots: a `Member` of arrays with a leading axis [slots], spread over the devices.
    batch_size: images a step.
    steps: of an epoch, the smaller last one aside.
    all_steps: of an epoch, that one included.
    compile_seconds: the time spent on tracing and compiling.
    memory_bytes: what training needs on each device beside the data, as the compiler reports it.
    member_bytes: the part of it that the members take from the start.
    compiled: what `advance` runs: its text, the compiler's count for one device.
  """

  def __init__(self, network: StackedNetwork[A], data: TrainingData, recipe: Recipe, *, layout: Layout):
    self.network, self.data, self.recipe, self.layout = network, data, recipe, layout
    self.batch_size = recipe.batch_size
    self._tail = data.train_size % recipe.batch_size if recipe.keep_last_batch else 0
    self.steps = data.train_size // recipe.batch_size
    self.all_steps = self.steps + bool(self._tail)
    self._parts = len(layout.devices) if layout.data_parallel else 1
    self._weights = data.class_weights(recipe.class_weights)
    start = time.perf_counter()
    self._arrays = jax.device_put(data.arrays, layout.sharding())
    self.members: Member = jax.device_put(
        jax.tree.map(lambda x: np.zeros((layout.total, *x.shape), x.dtype), self._template), layout.sharding('candidates'))
    self.compiled = self.traced().lower().compile(
        compiler_options=CPU_OPTIONS if layout.devices[0].platform == 'cpu' else None)
    self._insert = self._compile_insert() if layout.slots > 1 else None
    self.compile_seconds = time.perf_counter() - start
    self.member_bytes = sum(x.nbytes for x in jax.tree.leaves(self.members)) // layout.groups
    self.memory_bytes = self.member_bytes + program_bytes(self.compiled)

  def traced(self) -> jax.stages.Traced:
    """Returns what `advance` runs, traced: it can be lowered for other platforms, too."""
    advance = self._over_devices(self._advance, self.members, self._control(), arrays=True)
    return jax.jit(advance, donate_argnums=0).trace(self.members, self._control(), self._arrays)

  def initial(self, architecture: A, rng: np.random.Generator) -> TrainState:
    """Draws fresh weights, on the host, as a state that training starts from."""
    return self._start(*self.network.initial(architecture, self.data.task, rng))

  def pack(self, architecture: A, params: Weights, stats: Weights) -> TrainState:
    """Returns the module's weights as a state that training starts from."""
    return self._start(*self.network.pack(architecture, params, stats))

  def unpack(self, architecture: A, state: TrainState) -> tuple[Weights, Weights]:
    """Returns the module's weights and batch-norm statistics."""
    return self.network.unpack(architecture, state.params, state.stats, self.data.task)

  def insert(self, members: dict[int, Member]) -> None:
    """Puts candidates into slots, at most one on each device a call; the others stay as they are."""
    if self._insert is None:
      self.members = jax.tree.map(functools.partial(exchange_slots, list(members)), self.members, *members.values())
      return
    per_device = [next((i for i in members if i // self.layout.slots == d), None) for d in range(self.layout.groups)]
    assert set(per_device) - {None} == set(members)
    template = zeros_like(self._template)
    new = jax.tree.map(lambda *x: np.stack(x), *[template if i is None else members[i] for i in per_device])
    places = np.array([-1 if i is None else i % self.layout.slots for i in per_device], np.int32)
    self.members = self._insert(self.members, *jax.device_put((places, new), self.layout.sharding('candidates')))

  def member(self, slot: int) -> Member:
    """Returns the candidate of a slot, on the host."""
    def take(x: jax.Array) -> np.ndarray:
      shard = next(s for s in x.addressable_shards if slot in range(*s.index[0].indices(self.layout.total)))
      return np.array(np.asarray(shard.data)[slot % self.layout.slots])  # A copy: a view would keep all slots alive.
    return jax.tree.map(take, self.members)

  def new_member(self, architecture: A, state: TrainState, tally: Tally | None = None) -> Member:
    """Returns a candidate that can be put into a slot."""
    return Member(self.network.plan(architecture), state, self.new_tally() if tally is None else tally)

  def new_tally(self) -> Tally:
    """Returns the tally of an epoch that has not begun."""
    return Tally(np.float32(0), np.int32(0))

  def put(self, control: Control) -> Control:
    """The control on the devices, for `advance`."""
    return jax.device_put(control, self.layout.sharding('candidates'))

  def advance(self, control: Control) -> tuple[Tally, jax.Array]:
    """Trains and scores as told. Returns, each [slots]: tallies of the epoch so far; right answers on the scoring part."""
    self.members, tally, correct = self.compiled(self.members, control, self._arrays)
    return tally, correct

  def _start(self, params: Weights, stats: Weights) -> TrainState:
    return TrainState(params, stats, zeros_like(optimizer_shapes(params)))

  @functools.cached_property
  def _template(self) -> Member:
    """Shapes and types of one candidate."""
    example = self.network.example()
    return jax.eval_shape(lambda: jax.tree.map(
        jnp.asarray, self.new_member(example, self.initial(example, np.random.default_rng(0)))))

  def _control(self) -> Control:
    """Returns a control of the shapes that `advance` takes, which leaves every slot alone."""
    zeros, off = np.zeros(self.layout.total, np.int32), np.zeros(self.layout.total, bool)
    keys = jax.random.split(jax.random.key(0), self.layout.total)
    numbers = Hyperparameters(*[zeros.astype(np.float32)] * len(Hyperparameters._fields))
    numbers = numbers._replace(learning_rate=np.zeros((self.layout.total, self.all_steps), np.float32))
    return self.put(Control(keys, zeros, zeros, zeros, off, off, numbers))

  def _over_devices(self, function: Callable[..., Any], *arguments: Any, arrays: bool = False) -> Callable[..., Any]:
    """Applies shard_map: leading axes lie over `candidates`, the data are on every device."""
    spread, whole = PartitionSpec('candidates'), PartitionSpec()
    specs = (*[spread] * len(arguments), *([whole] if arrays else []))
    # Over `data` all devices end with the same weights, which the check of replication cannot see through loops.
    return jax.shard_map(function, mesh=self.layout.mesh, in_specs=specs, out_specs=spread, check_vma=False)

  def _compile_insert(self) -> jax.stages.Compiled:
    def insert(members: Member, place: jax.Array, new: Member) -> Member:
      at = jnp.maximum(place[0], 0)

      def put(stack: jax.Array, x: jax.Array) -> jax.Array:
        old = jax.lax.dynamic_index_in_dim(stack, at, 0)
        return jax.lax.dynamic_update_slice_in_dim(stack, jnp.where(place[0] < 0, old, x), at, 0)

      return jax.tree.map(put, members, new)

    new = jax.tree.map(lambda x: np.zeros((self.layout.groups, *x.shape), x.dtype), self._template)
    arguments = self.members, *jax.device_put((np.zeros(self.layout.groups, np.int32), new), self.layout.sharding('candidates'))
    return jax.jit(self._over_devices(insert, *arguments), donate_argnums=0).lower(*arguments).compile()

  def _advance(self, members: Member, control: Control, arrays: Arrays) -> tuple[Member, Tally, jax.Array]:
    """Runs the slots of one device."""
    def one(member: Member, control: Control) -> tuple[Member, Tally, jax.Array]:
      return self._one(member, control, self.network.limits(member.plan), arrays)

    if self.layout.slots == 1:
      result = one(*jax.tree.map(lambda x: x[0], (members, control)))
      return jax.tree.map(lambda x: x[None], result)
    if not self.layout.vmapped:
      return jax.lax.map(lambda x: one(*x), (members, control))
    # What is the same for all stays outside vmap, so that loops and branches remain such.
    common = ('first', 'steps', 'finish', 'score', *(('key', 'epoch') if self.layout.shared_batches else ()))
    own = {name: None if name in common else getattr(control, name) for name in Control._fields}
    shared = {name: getattr(control, name)[0] for name in common}
    limits = jax.tree.map(lambda x: x.max(0), jax.vmap(lambda member: self.network.limits(member.plan))(members))

    def side_by_side(member: Member, own: dict[str, Any]) -> tuple[Member, Tally, jax.Array]:
      return self._one(member, Control(**{**own, **shared}), limits, arrays)

    return jax.vmap(side_by_side)(members, own)

  def _one(self, member: Member, control: Control, limits: Limits, arrays: Arrays) -> tuple[Member, Tally, jax.Array]:
    """Runs one slot."""
    order_key, step_key = jax.random.split(jax.random.fold_in(control.key, control.epoch))
    order = jax.lax.cond(control.steps > 0, lambda: jax.random.permutation(order_key, self.data.train_size),
                         lambda: jnp.zeros(self.data.train_size, jnp.int32))
    tally = jax.tree.map(lambda x: jnp.where(control.first == 0, jnp.zeros_like(x), x), member.tally)
    settings = _Settings(member.plan, limits, control.hyperparameters, order, step_key, arrays)
    end = control.first + control.steps
    last = end + jnp.where(control.score, -(-self.data.score_size // self.batch_size), 0)
    crop = self.data.augmentation.output_shape(self.data.task.image_shape)
    if not self._tail and crop == self.data.task.image_shape:
      state, tally, correct = self._batches(member.state, tally, settings, control.first, end, last, crop=crop)
    else:  # Shapes differ, or a smaller batch comes between: each in a loop of its own.
      state, tally, _ = self._batches(member.state, tally, settings, control.first, end, end, crop=crop)
      if self._tail:
        finish = end + control.finish.astype(jnp.int32)
        state, tally, _ = self._batches(state, tally, settings, end, finish, finish, crop=crop, size=self._tail)
      state, tally, correct = self._batches(state, tally, settings, end, end, last, crop=None)
    return Member(member.plan, state, tally), tally, correct

  def _batches(self, state: TrainState, tally: Tally, settings: _Settings, first: jax.Array, end: jax.Array, last: jax.Array, *,
               crop: tuple[int, int, int] | None, size: int | None = None) -> tuple[TrainState, Tally, jax.Array]:
    """Trains on batches `first` to `end` of `size` images, and scores on `end` to `last`; in one loop, with the layers once.

    Args:
      state, tally, settings: of the candidate; the settings are the same in all batches.
      first, end, last: numbers of batches, int32 []. If `last` is `end` itself, nothing is scored.
      crop: the shape of the images that are trained on; None: nothing is.
      size: images a batch; None: the program's.

    Returns:
      The state, the tally, and the right answers on the scoring part.
    """
    plan, limits, hyperparameters, order, key, arrays = settings
    size = self.batch_size if size is None else size
    network, part = self.network, size // self._parts
    weights, score_weights = (None if w is None else jnp.asarray(w) for w in (self._weights, self.data.score_weights))
    mine = jax.lax.axis_index('data') * part if self._parts > 1 else 0

    def drawn(index: jax.Array) -> tuple[jax.Array, ...]:
      rows = jax.lax.dynamic_slice(order, (index * self.batch_size,), (size,))
      inputs = augment(jax.random.fold_in(key, index), arrays.images[rows], arrays.mean, arrays.std, self.data.augmentation)
      return tuple(jax.lax.dynamic_slice_in_dim(x, mine, part) for x in (inputs, arrays.labels[rows]))

    def scored(index: jax.Array) -> tuple[jax.Array, ...]:
      rows = (index - end) * size + mine + jnp.arange(part)
      labels = jnp.where(rows < self.data.score_size, arrays.score_labels[rows], -1)
      return normalise(arrays.score_images[rows], arrays.mean, arrays.std), labels

    def batch(index: jax.Array, carry: tuple[TrainState, Tally, jax.Array, Any]) -> tuple[TrainState, Tally, jax.Array, Any]:
      state, tally, right, scratch = carry
      training = crop is not None if crop is None or last is end else index < end
      inputs, labels = _either(training, drawn, scored, index)
      mode = Mode(training, jax.random.fold_in(jax.random.fold_in(key, index), NOISE), hyperparameters.progress)
      forward = network.forward(state.params, state.stats, plan, limits, inputs, scratch, mode)
      correct = network.correct(forward, labels)
      score = correct if score_weights is None else network.correct(forward, labels, _each(score_weights, labels))

      def learn(state: TrainState, tally: Tally) -> tuple[TrainState, Tally]:
        loss, gradients = network.backward(
            state.params, plan, limits, inputs, labels, forward, self.recipe.label_smoothing, _each(weights, labels))
        own = hyperparameters._replace(learning_rate=hyperparameters.learning_rate[index])
        updates, opt_state = optimizer(own, nesterov=self.recipe.nesterov).update(gradients, state.optimizer, state.params)
        params = jax.tree.map(jnp.add, state.params, updates)
        return TrainState(params, forward.stats, opt_state), Tally(tally.loss + loss * size, tally.correct + correct)

      state, tally = _either(training, learn, lambda *same: same, state, tally)
      return state, tally, right + jnp.where(training, 0, score), forward.scratch

    height, width = (self.data.task.image_shape if crop is None else crop)[:2]
    none = jnp.int32(0) if score_weights is None else jnp.float32(0)
    carry = state, tally, none, network.scratch((part, height, width, self.data.task.image_shape[2]))
    return jax.lax.fori_loop(first, last, batch, carry)[:3]


class _Settings(NamedTuple):
  """What a slot's batches share."""

  plan: Plan
  limits: Limits
  hyperparameters: Hyperparameters
  order: jax.Array
  key: jax.Array
  arrays: Arrays


def _each(weights: jax.Array | None, labels: jax.Array) -> jax.Array | None:
  """Returns the weight of each image by its label, [B]; None if there are none."""
  return None if weights is None else weights[labels]


def _either(condition: Any, yes: Callable[..., Any], no: Callable[..., Any], *operands: Any) -> Any:
  """Does what lax.cond does, but for a condition that is known when the program is compiled."""
  if isinstance(condition, bool):
    return yes(*operands) if condition else no(*operands)
  return jax.lax.cond(condition, yes, no, *operands)

"""Many different candidates trained at once, on every device, by one compiled program.

A device has slots; a slot holds one candidate. What makes candidates differ (the plan of their layers, weights, batch order,
schedule) is data, see networks/stacked_chain.py. One call of the program trains every slot by some steps, each within its own
epoch, and scores those that end one. Between calls the host reads results, and gives the slots of those that ended to others.

The mesh has two axes: over `candidates` nothing is exchanged; over `data` the images of one network's batch are spread.
"""
from __future__ import annotations

import dataclasses
import functools
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from enas_jax.data.augment import augment, normalise
from enas_jax.estimators.program import Hyperparameters, Tally, TrainingData, TrainState, memory_bytes, optimizer
from enas_jax.networks.stacked_chain import StackedChain, scratch_of
from enas_jax.networks.stacked_weights import Capacity, Plan, initial, pack, plan, unpack
from enas_jax.spaces.chain import ChainArchitecture
from enas_jax.types import Architecture

# The barriers keep what several uses need from being computed in each; this CPU back end would drop them before it fuses. Sums
# may be reordered, but NaN and infinity keep their meaning: a diverged candidate must be seen.
CPU_OPTIONS = {
    # The second pass makes one kernel of a small loop, and fails on a barrier within (seen with JAX 0.12, width 1).
    'xla_disable_hlo_passes': 'cse_barrier_expander,small-while-loop-hoisting',
    'xla_cpu_prefer_vector_width': 512,  # A twentieth faster than 256, where there is AVX-512.
    'xla_backend_optimization_level': 2,  # Compiles a tenth sooner than at 3, and runs as fast.
    'xla_cpu_enable_fast_math': True,
    'xla_cpu_fast_math_honor_nans': True,
    'xla_cpu_fast_math_honor_infs': True,
}


class Member(NamedTuple):
  """A candidate in its slot. On the device every array has a leading axis of slots."""

  plan: Plan
  state: TrainState
  tally: Tally


class Control(NamedTuple):
  """What a call does with each slot, all [slots].

  Attributes:
    key: of batch order and augmentation.
    epoch: the epoch, from 0; with the key it gives the order of the images.
    first: the first step, of this epoch.
    steps: how many to train; 0 leaves the slot alone.
    finish: whether the epoch ends with them: then the last, smaller batch is trained, if there is one.
    score: whether to score after them.
    hyperparameters: of this epoch.
  """

  key: Any
  epoch: Any
  first: Any
  steps: Any
  finish: Any
  score: Any
  hyperparameters: Hyperparameters


@dataclasses.dataclass(frozen=True)
class Layout:
  """How candidates lie on the devices.

  Attributes:
    devices: all that take part.
    slots: candidates on each.
    vmapped: train a device's candidates side by side (vmap) instead of in turn (lax.map); all their calls are then alike in
      `first`, `steps`, `finish` and `score`.
    shared_batches: vmapped candidates share key and epoch, too, so that a batch is drawn once.
    data_parallel: spread the batches of one candidate over the devices, instead of candidates.
  """

  devices: tuple[jax.Device, ...]
  slots: int = 1
  vmapped: bool = False
  shared_batches: bool = False
  data_parallel: bool = False

  @functools.cached_property
  def mesh(self) -> Mesh:
    shape = (1, len(self.devices)) if self.data_parallel else (len(self.devices), 1)
    return Mesh(np.array(self.devices).reshape(shape), ('candidates', 'data'))

  @property
  def groups(self) -> int:
    """Groups of slots that run independently of one another."""
    return 1 if self.data_parallel else len(self.devices)

  @property
  def total(self) -> int:
    """Slots on all devices."""
    return self.groups * self.slots

  def halved(self) -> Layout:
    """With half the slots, or where there is one, half the devices."""
    if self.slots > 1:
      return dataclasses.replace(self, slots=self.slots // 2)
    return dataclasses.replace(self, devices=self.devices[:len(self.devices) // 2])

  def sharding(self, *axes: str) -> NamedSharding:
    return NamedSharding(self.mesh, PartitionSpec(*axes))


class PopulationProgram:
  """The compiled training of all candidates that a capacity holds.

  Attributes:
    members: the candidates, in slots: a `Member` of arrays with a leading axis [slots], spread over the devices.
    compile_seconds: spent on tracing and compiling.
    memory_bytes: that training needs on each device beside the data, as the compiler reports it.
    member_bytes: the part of it that the members take from the start.
    compiled: what `advance` runs: its text, the compiler's count for one device.
  """

  def __init__(self, capacity: Capacity, data: TrainingData, *, batch_size: int, keep_last_batch: bool, layout: Layout,
               dtype: Any = jnp.float32, lowering: str = 'shifts'):
    self.capacity, self.data, self.batch_size, self.layout = capacity, data, batch_size, layout
    self._tail = data.train_size % batch_size if keep_last_batch else 0
    self.steps = data.train_size // batch_size  # Of an epoch, the smaller last one aside.
    self._parts = len(layout.devices) if layout.data_parallel else 1
    self._network = StackedChain(
        capacity, dtype, lowering, masked=layout.vmapped, axis='data' if layout.data_parallel else None)
    start = time.perf_counter()
    self._arrays = jax.device_put(data.arrays, layout.sharding())
    self.members = jax.device_put(
        jax.tree.map(lambda x: np.zeros((layout.total, *x.shape), x.dtype), self._template), layout.sharding('candidates'))
    advance = self._over_devices(self._advance, self.members, self._control(), arrays=True)
    self.compiled = jax.jit(advance, donate_argnums=0).lower(self.members, self._control(), self._arrays).compile(
        compiler_options=CPU_OPTIONS if layout.devices[0].platform == 'cpu' else None)
    self._insert = self._compile_insert()
    self.compile_seconds = time.perf_counter() - start
    self.member_bytes = sum(x.nbytes for x in jax.tree.leaves(self.members)) // layout.groups
    self.memory_bytes = self.member_bytes + memory_bytes(self.compiled)

  def initial(self, architecture: Architecture, rng: np.random.Generator) -> TrainState:
    """Fresh weights, on the host."""
    return self.pack(architecture, *initial(architecture, self.data.task, rng))

  def pack(self, architecture: Architecture, params: Any, stats: Any) -> TrainState:
    """The module's weights as a state that training starts from."""
    params, stats = pack(architecture, params, stats, self.capacity)
    return TrainState(params, stats, _zeros(_optimizer_state(params)))

  def unpack(self, architecture: Architecture, state: TrainState) -> tuple[Any, Any]:
    """The module's weights and batch-norm statistics."""
    return unpack(architecture, state.params, state.stats, self.data.task)

  def insert(self, members: dict[int, Member]) -> None:
    """Puts candidates into slots, at most one on each device a call; the others stay as they are."""
    per_device = [next((i for i in members if i // self.layout.slots == d), None) for d in range(self.layout.groups)]
    assert set(per_device) - {None} == set(members)
    template = _zeros(self._template)
    new = jax.tree.map(lambda *x: np.stack(x), *[template if i is None else members[i] for i in per_device])
    places = np.array([-1 if i is None else i % self.layout.slots for i in per_device], np.int32)
    self.members = self._insert(self.members, *jax.device_put((places, new), self.layout.sharding('candidates')))

  def member(self, slot: int) -> Member:
    """The candidate of a slot, on the host."""
    def take(x):
      shard = next(s for s in x.addressable_shards if slot in range(*s.index[0].indices(self.layout.total)))
      return np.array(np.asarray(shard.data)[slot % self.layout.slots])  # A copy: a view would keep all slots alive.

    return jax.tree.map(take, self.members)

  def new_member(self, architecture: Architecture, state: TrainState, tally: Tally | None = None) -> Member:
    return Member(plan(architecture, self.capacity), state, self.new_tally() if tally is None else tally)

  def new_tally(self) -> Tally:
    return Tally(np.float32(0), np.int32(0))

  def put(self, control: Control) -> Control:
    """The control on the devices, for `advance`."""
    return jax.device_put(control, self.layout.sharding('candidates'))

  def advance(self, control: Control) -> tuple[Tally, jax.Array]:
    """Trains and scores as told. Returns, each [slots]: tallies of the epoch so far; right answers on the scoring part."""
    self.members, tally, correct = self.compiled(self.members, control, self._arrays)
    return tally, correct

  @functools.cached_property
  def _template(self) -> Member:
    """Of one candidate: shapes and types."""
    shape = _smallest(self.capacity)
    return jax.eval_shape(lambda: jax.tree.map(
        jnp.asarray, self.new_member(shape, self.initial(shape, np.random.default_rng(0)))))

  def _control(self) -> Control:
    """Of the shapes that `advance` takes; leaves every slot alone."""
    zeros, off = np.zeros(self.layout.total, np.int32), np.zeros(self.layout.total, bool)
    keys = jax.random.split(jax.random.key(0), self.layout.total)
    return self.put(Control(keys, zeros, zeros, zeros, off, off, Hyperparameters(*[zeros.astype(np.float32)] * 4)))

  def _over_devices(self, function, *arguments, arrays=False):
    """shard_map: leading axes over `candidates`, the data on every device."""
    spread, whole = PartitionSpec('candidates'), PartitionSpec()
    specs = (*[spread] * len(arguments), *([whole] if arrays else []))
    # Over `data` all devices end with the same weights, which the check of replication cannot see through loops.
    return jax.shard_map(function, mesh=self.layout.mesh, in_specs=specs, out_specs=spread, check_vma=False)

  def _compile_insert(self):
    def insert(members, place, new):
      at = jnp.maximum(place[0], 0)

      def put(stack, x):
        old = jax.lax.dynamic_index_in_dim(stack, at, 0)
        return jax.lax.dynamic_update_slice_in_dim(stack, jnp.where(place[0] < 0, old, x), at, 0)

      return jax.tree.map(put, members, new)

    new = jax.tree.map(lambda x: np.zeros((self.layout.groups, *x.shape), x.dtype), self._template)
    arguments = self.members, *jax.device_put((np.zeros(self.layout.groups, np.int32), new), self.layout.sharding('candidates'))
    return jax.jit(self._over_devices(insert, *arguments), donate_argnums=0).lower(*arguments).compile()

  def _advance(self, members, control, arrays):
    """One device's slots."""
    def one(member, control):
      return self._one(member, control, member.plan.counts, arrays)

    if self.layout.slots == 1:
      result = one(*jax.tree.map(lambda x: x[0], (members, control)))
      return jax.tree.map(lambda x: x[None], result)
    if not self.layout.vmapped:
      return jax.lax.map(lambda x: one(*x), (members, control))
    # What is the same for all stays outside vmap, so that loops and branches remain such.
    common = ('first', 'steps', 'finish', 'score', *(('key', 'epoch') if self.layout.shared_batches else ()))
    own = {name: None if name in common else getattr(control, name) for name in Control._fields}
    shared = {name: getattr(control, name)[0] for name in common}
    limits = members.plan.counts.max(0)

    def side_by_side(member, own):
      return self._one(member, Control(**{**own, **shared}), limits, arrays)

    return jax.vmap(side_by_side)(members, own)

  def _one(self, member, control, limits, arrays):
    """One slot."""
    order_key, step_key = jax.random.split(jax.random.fold_in(control.key, control.epoch))
    order = jax.lax.cond(control.steps > 0, lambda: jax.random.permutation(order_key, self.data.train_size),
                         lambda: jnp.zeros(self.data.train_size, jnp.int32))
    tally = jax.tree.map(lambda x: jnp.where(control.first == 0, jnp.zeros_like(x), x), member.tally)
    settings = member.plan, limits, control.hyperparameters, order, step_key, arrays
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

  def _batches(self, state, tally, settings, first, end, last, *, crop, size=None):
    """Trains on batches `first` to `end` of `size` images, and scores on `end` to `last`; in one loop, with the layers once.

    `crop` is the shape of what is trained on; None: nothing is. Where `last` is `end` itself, nothing is scored.
    Returns the state, the tally, and the right answers on the scoring part.
    """
    candidate, limits, hyperparameters, order, key, arrays = settings
    size = self.batch_size if size is None else size
    network, part = self._network, size // self._parts
    mine = jax.lax.axis_index('data') * part if self._parts > 1 else 0

    def drawn(index):
      rows = jax.lax.dynamic_slice(order, (index * self.batch_size,), (size,))
      inputs = augment(jax.random.fold_in(key, index), arrays.images[rows], arrays.mean, arrays.std, self.data.augmentation)
      return tuple(jax.lax.dynamic_slice_in_dim(x, mine, part) for x in (inputs, arrays.labels[rows]))

    def scored(index):
      rows = (index - end) * size + mine + jnp.arange(part)
      labels = jnp.where(rows < self.data.score_size, arrays.score_labels[rows], -1)
      return normalise(arrays.score_images[rows], arrays.mean, arrays.std), labels

    def batch(index, carry):
      state, tally, right, scratch = carry
      training = crop is not None if crop is None or last is end else index < end
      inputs, labels = _either(training, drawn, scored, index)
      forward = network.forward(state.params, state.stats, candidate, limits, inputs, scratch, training)
      correct = network.correct(forward, labels)

      def learn(state, tally):
        loss, gradients = network.backward(state.params, candidate, limits, inputs, labels, forward)
        updates, opt_state = optimizer(hyperparameters).update(gradients, state.optimizer, state.params)
        params = jax.tree.map(jnp.add, state.params, updates)
        return TrainState(params, forward.stats, opt_state), Tally(tally.loss + loss * size, tally.correct + correct)

      state, tally = _either(training, learn, lambda *same: same, state, tally)
      return state, tally, right + jnp.where(training, 0, correct), scratch_of(forward)

    height, width = (self.data.task.image_shape if crop is None else crop)[:2]
    carry = state, tally, jnp.int32(0), network.scratch((part, height, width, 0))
    return jax.lax.fori_loop(first, last, batch, carry)[:3]


def _either(condition, yes, no, *operands):
  """lax.cond, but for a condition that is known when the program is compiled."""
  if isinstance(condition, bool):
    return yes(*operands) if condition else no(*operands)
  return jax.lax.cond(condition, yes, no, *operands)


def _smallest(capacity: Capacity) -> Architecture:
  """Some candidate that the capacity holds."""
  operation, kernel = capacity.branches[0]
  return ChainArchitecture.uniform(3, 1, operation, kernel)


def _optimizer_state(params):
  return jax.eval_shape(lambda: optimizer(Hyperparameters(0.0, 0.0, 0.0, 1.0)).init(jax.tree.map(jnp.asarray, params)))


def _zeros(shapes):
  return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)

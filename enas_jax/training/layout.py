"""How candidates lie on the devices, and how they run there."""
from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from enas_jax import environment

# Options of XLA's CPU compiler. planes.barrier stops XLA from recomputing a shared value inside each fusion that reads it, and
# XLA removes the barriers before fusion unless the first pass below is off. Sums may be reordered, but NaN and infinity keep
# their meaning: a diverged candidate must be seen.
CPU_OPTIONS: dict[str, str | bool] = {
    # The second pass makes one kernel of a small loop, and fails on a barrier within (seen with JAX 0.12, width 1).
    'xla_disable_hlo_passes': 'cse_barrier_expander,small-while-loop-hoisting',
    'xla_cpu_prefer_vector_width': '512',  # A twentieth faster than 256, on processors with AVX-512.
    'xla_backend_optimization_level': '2',  # Compiles a tenth sooner than at 3, and runs as fast.
    'xla_cpu_enable_fast_math': True,
    'xla_cpu_fast_math_honor_nans': True,
    'xla_cpu_fast_math_honor_infs': True,
}
ACCELERATOR_SLOTS = 16  # Candidates side by side on an accelerator, unless told otherwise.


@dataclasses.dataclass(frozen=True)
class Layout:
  """How the candidates of one program lie on the devices.

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
    """The devices along the axes `candidates` and `data`, of which one has length 1."""
    shape = (1, len(self.devices)) if self.data_parallel else (len(self.devices), 1)
    return Mesh(np.array(self.devices).reshape(shape), ('candidates', 'data'))

  @property
  def groups(self) -> int:
    """The number of groups of slots that run independently of one another."""
    return 1 if self.data_parallel else len(self.devices)

  @property
  def total(self) -> int:
    """The number of slots on all devices."""
    return self.groups * self.slots

  def halved(self) -> Layout:
    """Returns the layout with half the slots; if each device has one, with half the devices."""
    if self.slots > 1:
      return dataclasses.replace(self, slots=self.slots // 2)
    return dataclasses.replace(self, devices=self.devices[:len(self.devices) // 2])

  def sharding(self, *axes: str) -> NamedSharding:
    """Returns the sharding of arrays whose leading axes lie along these axes of the mesh."""
    return NamedSharding(self.mesh, PartitionSpec(*axes))


def exchange_slots(slots: list[int], stack: jax.Array, *new: np.ndarray) -> jax.Array:
  """Returns an array of one slot a device with other contents in some slots; nothing is compiled for it."""
  given = dict(zip(slots, new, strict=True))

  def part(shard: Any) -> jax.Array:
    slot = shard.index[0].start or 0
    return jax.device_put(np.asarray(given[slot])[None], shard.device) if slot in given else shard.data

  return jax.make_array_from_single_device_arrays(stack.shape, stack.sharding, [part(s) for s in stack.addressable_shards])


@dataclasses.dataclass(frozen=True)
class Execution:
  """How candidates run on this machine; rounding apart, nothing of it changes a result.

  Attributes:
    devices: the devices that train.
    slots: most candidates on each at once.
    vmapped: train a device's candidates side by side instead of in turn.
    shared_batches: all slots under vmap train on the same batch, drawn once. New candidates must then wait until every slot is
      free.
    dtype: of activations and products; weights and sums are float32.
    lowering: the form of convolutions, see families/planes.py.
  """

  devices: tuple[jax.Device, ...]
  slots: int = 1
  vmapped: bool = False
  shared_batches: bool = False
  dtype: Any = jnp.float32
  lowering: str = 'shifts'

  @classmethod
  def default(cls, slots: int | None = None, **settings: Any) -> Execution:
    """Returns what suits the platform: on CPU one candidate a device in turn, elsewhere many side by side in bfloat16.

    Raises UserError where the process has a flag of JAX that would change results.
    """
    environment.check()
    cpu = jax.default_backend() == 'cpu'
    given = {
        'devices': tuple(jax.local_devices()), 'dtype': jnp.float32 if cpu else jnp.bfloat16, 'vmapped': not cpu,
        'shared_batches': not cpu, **settings}
    return cls(slots=slots or (1 if cpu else ACCELERATOR_SLOTS), **given)

  @property
  def platform(self) -> str:
    """The platform as JAX names it, such as 'cpu'."""
    return self.devices[0].platform

  def layout(self, candidates: int, *, side_by_side: bool = True) -> Layout:
    """Returns the layout for so many candidates.

    Side by side there are no more slots than they need, in powers of two so that there are few programs.

    Args:
      candidates: how many there are to train.
      side_by_side: whether the program's family can be vmapped without doing much in vain.
    """
    if not self.vmapped or not side_by_side:
      return Layout(self.devices, 1 if self.vmapped else self.slots)
    slots = min(self.slots, 1 << (-(-candidates // len(self.devices)) - 1).bit_length())
    return Layout(self.devices, slots, True, self.shared_batches)

  def __str__(self) -> str:
    """Says what trains, such as '2 CPU devices train one candidate each, in float32'."""
    count, way = len(self.devices), 'side by side' if self.vmapped else 'in turn'
    devices = f'{count} {self.platform.upper()} devices train' if count > 1 else f'1 {self.platform.upper()} device trains'
    candidates = 'one candidate at a time' if self.slots == 1 else f'{self.slots} candidates {way}'
    return f'{devices} {candidates}{" each" * (count > 1)}, in {jnp.dtype(self.dtype)}'

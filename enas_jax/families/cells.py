"""What families of cell networks share: a network made of tapes, and what it costs.

A subclass of `CellNetwork` says which tapes its network has, which instructions an architecture is on them, where the module's
arrays lie, and how tapes and fixed layers follow one another.
"""
from __future__ import annotations

import abc
import dataclasses
import functools
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from enas_jax.families import leaves
from enas_jax.families.autodiff import AutodiffNetwork
from enas_jax.families.convolution import convolution
from enas_jax.families.cost import rates, step_seconds
from enas_jax.families.leaves import Leaf
from enas_jax.families.norm import BatchNorm
from enas_jax.families.planes import Planes, barrier, pointwise
from enas_jax.families.tape import Operation, Program, Registers, Step, Tape
from enas_jax.networks.layers import EPSILON, MOMENTUM
from enas_jax.training.family import A, Limits, Mode, Weights
from enas_jax.training.layout import ACCELERATOR_SLOTS
from enas_jax.types import Task

Steps = Mapping[str, Sequence[Step]]  # Instructions by tape.
C = TypeVar('C', bound=Hashable)
STATISTICS = ('scale', 'bias', 'mean', 'var')


class Spec(NamedTuple):
  """A tape of a program.

  Attributes:
    operations: what instructions may do.
    length: most instructions.
    norms: batch norms.
    channels: of the registers.
    halvings: how often the images' resolution is halved, rounded up, to that of the results.
    kernels: shapes of the stacks of kernels, [K, ...], by name.
    cut: see `tape.Tape`.
  """

  operations: tuple[Operation, ...]
  length: int
  norms: int
  channels: int
  halvings: int
  kernels: Mapping[str, tuple[int, ...]]
  cut: bool = False


class Work(NamedTuple):
  """What a forward pass on one image takes: multiply-adds, elements of planes read and written, layers."""

  macs: float = 0.0
  elements: float = 0.0
  layers: float = 0.0


@dataclasses.dataclass(frozen=True)
class CellNetwork(AutodiffNetwork[A], Generic[A, C]):
  """A network of tapes and fixed layers, for one capacity.

  Attributes:
    capacity: what the program holds.
    some: some architecture that it holds.
    dtype: of planes and products; weights and sums are float32.
    lowering: the form of the convolutions, one of `planes.LOWERINGS`.
    masked: whether loops may run past a candidate's own instructions, as under vmap.
  """

  capacity: C
  some: A
  dtype: Any = jnp.float32
  lowering: str = 'shifts'
  masked: bool = False

  momentum = MOMENTUM  # Of batch norms.
  draw = staticmethod(leaves.uniform)  # Initial weights.

  @abc.abstractmethod
  def tapes(self) -> Mapping[str, Spec]:
    """Returns the tapes by name."""

  @abc.abstractmethod
  def steps(self, architecture: A) -> Steps:
    """Returns the architecture's instructions on each tape."""

  @abc.abstractmethod
  def leaves(self, architecture: A, task: Task) -> Iterator[Leaf]:
    """Yields the module's arrays, with their places in the program. A tape's arrays are below its name."""

  @abc.abstractmethod
  def fixed(self, task: Task) -> dict[str, Any]:
    """Returns the shapes of the packed arrays beside those of tapes."""

  @abc.abstractmethod
  def fixed_work(self, task: Task) -> Work:
    """Returns what the layers beside tapes take."""

  def example(self) -> A:
    """Returns some architecture that the program holds."""
    return self.some

  def initial(self, architecture: A, task: Task, rng: np.random.Generator) -> tuple[Weights, Weights]:
    """Draws fresh packed weights and statistics, on the host."""
    own = list(self.leaves(architecture, task))
    return leaves.pack(own, *leaves.draw(own, rng, self.draw), self._shapes(task))

  def pack(self, architecture: A, params: Weights, stats: Weights) -> tuple[Weights, Weights]:
    """Returns the module's weights and statistics in packed form."""
    task = Task((1, 1, self.image_channels(params)), len(params['head']['bias']))
    return leaves.pack(list(self.leaves(architecture, task)), params, stats, self._shapes(task))

  def image_channels(self, params: Weights) -> int:
    """Returns the channels of the images that a module with these weights takes."""
    return int(params['stem']['conv']['kernel'].shape[2])

  def unpack(self, architecture: A, params: Weights, stats: Weights, task: Task) -> tuple[Weights, Weights]:
    """Returns packed weights and statistics as those of the module."""
    return leaves.unpack(list(self.leaves(architecture, task)), params, stats)

  def plan(self, architecture: A) -> dict[str, Program]:
    """Returns the instructions as data."""
    steps = self.steps(architecture)
    return {name: Program.of(steps[name], spec.length, spec.norms) for name, spec in self.tapes().items()}

  def limits(self, plan: dict[str, Program]) -> Limits:
    """Returns the number of instructions of each tape."""
    return {name: program.count for name, program in plan.items()}

  def work(self, architecture: A, task: Task) -> Work:
    """Returns what a forward pass on one image takes in this program, padding included."""
    total, steps = [self.fixed_work(task)], self.steps(architecture)
    for name, spec in self.tapes().items():
      positions = _positions(task, spec.halvings)
      for step in steps[name]:
        total.append(Work(spec.operations[step.operation].macs * positions, 3 * spec.channels * positions, 1))
    return Work(*map(sum, zip(*total, strict=True)))

  def convolution(self, x: Planes, kernel: jax.Array, stride: int = 1) -> Planes:
    """Convolves with a k x k kernel of weights [k, k, D, C]."""
    return barrier(convolution(x, kernel.astype(self.dtype), stride, self.lowering, masked=self.masked))

  def pointwise(self, x: Planes, kernel: jax.Array) -> Planes:
    """Convolves with a 1 x 1 kernel of weights [D, C]."""
    return barrier(pointwise(x, kernel.astype(self.dtype)))

  def planes(self, images: jax.Array) -> Planes:
    """Returns images [B, H, W, C] as planes."""
    return barrier(images.transpose(3, 1, 2, 0).astype(self.dtype))

  def classify(self, planes: Planes, weights: Weights) -> jax.Array:
    """Returns logits [B, classes]: global average pooling and a linear layer."""
    pooled = planes.astype(jnp.float32).mean((1, 2))
    return pooled.T @ weights['kernel'] + weights['bias']

  def _shapes(self, task: Task) -> dict[str, Any]:
    tapes = {name: {**dict.fromkeys(STATISTICS, (spec.norms, spec.channels)), **spec.kernels}
             for name, spec in self.tapes().items()}
    return {**self.fixed(task), **tapes}


class Pass:
  """One forward pass: what its layers need, and the statistics that they leave.

  Args:
    network: whose.
    params, stats: the packed weights and statistics.
    plan, limits, mode: as `StackedNetwork.forward` has them.

  Attributes:
    after: the batch norms' statistics after the pass.
  """

  def __init__(self, network: CellNetwork[Any, Any], params: Weights, stats: Weights, plan: dict[str, Program], limits: Limits,
               mode: Mode):
    self.after: Weights = {}
    self._params, self._stats, self._plan, self._limits, self._mode = params, stats, plan, limits, mode
    self._masked, self._tapes = network.masked, network.tapes()
    self._norm = BatchNorm(network.momentum, EPSILON, network.axis)

  def normed(self, name: str, z: Planes) -> Planes:
    """Applies a batch norm that is no tape's."""
    y, self.after[name] = self._norm(self._params[name], self._stats[name], z, self._mode.training)
    return y

  def tape(self, name: str, registers: Registers, *, sources: Any = None, factors: Any = None) -> Registers:
    """Runs a tape; see `tape.Tape`."""
    spec = self._tapes[name]
    run = Tape(spec.operations, self._norm, self._masked, spec.cut)
    registers, self.after[name] = run(
        registers, self._params[name], self._stats[name], self._plan[name], self._limits[name], self._mode.training,
        sources=sources, factors=factors)
    return registers


@dataclasses.dataclass(frozen=True)
class CellFamily(Generic[A, C]):
  """A family of cell networks; see `training.family.Family` for what each method answers.

  Attributes:
    make: makes the network of a capacity, with some architecture that it holds.
    shared, own: give the capacity of a candidate's program, and the least that holds it.
    some: gives some architecture that a capacity holds.
    task: image shape and number of classes.
    batch_size: images a step, to weigh side by side against in turn.
    platform: whose rates of cost hold, as JAX names it.
    reason: why candidates are packed so.
  """

  make: Callable[..., CellNetwork[A, C]]
  shared: Callable[[A], C]
  own: Callable[[A], C]
  some: Callable[[C], A]
  task: Task
  batch_size: int = 32
  platform: str = 'cpu'
  reason: str = 'Each network trains in a program of its own size'

  def capacity(self, architecture: A) -> C:
    """Returns the capacity of the candidate's program."""
    return self.shared(architecture)

  def own_capacity(self, architecture: A) -> C:
    """Returns the least capacity that holds the candidate."""
    return self.own(architecture)

  def step_seconds(self, architecture: A, batch_size: int, capacity: C | None = None) -> float:
    """Predicts the seconds of a training step."""
    own: Any = architecture
    work = _work(self.make, own, self.own(architecture) if capacity is None else capacity, self.task)
    return step_seconds(*work, batch_size, rates(self.platform))

  def side_by_side(self, capacity: C) -> bool:
    """Returns whether candidates side by side, where each does all operations of every instruction, take less time.

    In turn each does its own alone, but on a device that they do not fill.
    """
    network = self.make(capacity, self.some(capacity))
    fixed, alone, together = network.fixed_work(self.task), [], []
    for spec in network.tapes().values():
      positions, macs = _positions(self.task, spec.halvings), [operation.macs for operation in spec.operations]
      planes = 3.0 * spec.channels * positions
      alone.append(Work(spec.length * positions * sum(macs) / len(macs), spec.length * planes, spec.length))
      together.append(Work(spec.length * positions * sum(macs), spec.length * planes * len(macs), spec.length))
    in_turn, at_once = (Work(*map(sum, zip(fixed, *parts, strict=True))) for parts in (alone, together))
    own = rates(self.platform)
    spread = Work(ACCELERATOR_SLOTS * at_once.macs, ACCELERATOR_SLOTS * at_once.elements, at_once.layers)
    return step_seconds(*spread, self.batch_size, own) < ACCELERATOR_SLOTS * step_seconds(*in_turn, self.batch_size, own)

  def network(self, capacity: C, *, dtype: Any, lowering: str, masked: bool, axis: str | None) -> CellNetwork[A, C]:
    """Returns the network of a capacity."""
    return self.make(capacity, self.some(capacity), dtype, lowering, masked, axis=axis)


@functools.lru_cache(4096)
def _work(make: Callable[..., CellNetwork[Any, Any]], architecture: Hashable, capacity: Hashable, task: Task) -> Work:
  return make(capacity, architecture).work(architecture, task)


def _positions(task: Task, halvings: int) -> int:
  height, width, _ = task.image_shape
  return -(-height // 2**halvings) * -(-width // 2**halvings)


def norm_shapes(*shape: int) -> dict[str, tuple[int, ...]]:
  """Returns the shapes of a batch norm's arrays."""
  return dict.fromkeys(STATISTICS, shape)


def sum_work(parts: Iterable[tuple[float, float, int]], task: Task) -> Work:
  """Sums layers, each given by multiply-adds for a pixel, channels in and out, and how often the resolution is halved."""
  works = [Work(macs * _positions(task, halvings), channels * _positions(task, halvings), 1)
           for macs, channels, halvings in parts]
  return Work(*map(sum, zip(*works, strict=True)))

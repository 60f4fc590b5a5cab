"""NAS-Bench-201 cells and NATS-Bench sizes as families: one program for all cells; few for sizes, padded with zeros."""
from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from enas_jax.families import leaves, pooling
from enas_jax.families.autodiff import Heads
from enas_jax.families.cells import CellFamily, CellNetwork, Pass, Spec, Steps, Work, norm_shapes, sum_work
from enas_jax.families.cost import rates, step_seconds
from enas_jax.families.leaves import Leaf
from enas_jax.families.planes import Planes, barrier
from enas_jax.families.tape import Operation, Program, Step, registers, same
from enas_jax.spaces.nasbench201 import (
    AVG_POOL,
    CONV_1X1,
    CONV_3X3,
    EDGES,
    NONE,
    OPERATIONS,
    SKIP,
    Layer,
    NasBench201Architecture,
    NasBench201Space,
)
from enas_jax.spaces.nats_size import WIDTHS, NatsSizeArchitecture, NatsSizeSpace
from enas_jax.training.family import Limits, Mode, Weights
from enas_jax.types import Task

PROJECTION = len(OPERATIONS)  # A skip that changes the channels: a 1x1 convolution without ReLU.
STAGES, NODES = 3, 4
CANDIDATES = 64  # Of a search among sizes, to weigh padding against compiling.
MODULE_SPEED, MODULE_COMPILE = 1.4, 9.3  # On a CPU: of sizes as modules, steps a unit of the family's time, and seconds each.
Cells = NasBench201Architecture | NatsSizeArchitecture


@dataclasses.dataclass(frozen=True, order=True)
class Capacity:
  """What a program holds.

  Attributes:
    widths: the channels of the three stages.
    cells: the cells of each stage.
    operations: what edges may do, NONE aside.
    norms: most convolutions of a cell, each with a batch norm.
  """

  widths: tuple[int, ...]
  cells: int
  operations: tuple[int, ...]
  norms: int

  @classmethod
  def of(cls, architecture: Cells) -> Capacity:
    """Returns the least capacity that holds the architecture."""
    layers = architecture.layers()
    cells = [layer for layer in layers if layer.operations]
    used = {operation for layer in cells for operation in _operations(layer)} - {NONE}
    norms = max(sum(edge is not None for edge in layer.edges()) for layer in cells)
    return cls(_widths(architecture), len(cells) // STAGES, tuple(sorted(used)), norms)


class StackedCells(CellNetwork[Cells, Capacity]):
  """The network of one capacity: three stages of cells, a tape each, with residual blocks between them."""

  def tapes(self) -> dict[str, Spec]:
    """Returns a tape a stage."""
    cells, places = self.capacity.cells, self.capacity.cells * self.capacity.norms
    specs = {}
    for stage, width in enumerate(self.capacity.widths):
      kernels: dict[str, tuple[int, ...]] = {}
      if CONV_3X3 in self.capacity.operations:
        kernels['convolution'] = places, 3, 3, width, width
      if {CONV_1X1, PROJECTION} & set(self.capacity.operations):
        kernels['pointwise'] = places, width, width
      specs[f'stage{stage}'] = Spec(self._tape(width), cells * len(EDGES), places, width, stage, kernels)
    return specs

  def steps(self, architecture: Cells) -> Steps:
    """Returns an instruction for each edge that is not NONE. Nodes are registers; a cell's output is the next one's input."""
    found: dict[str, list[Step]] = {f'stage{stage}': [] for stage in range(STAGES)}
    for name, cell, layer in _cells(architecture):
      places = itertools.count(cell * self.capacity.norms)
      for (source, node), operation, edge in zip(EDGES, _operations(layer), layer.edges(), strict=True):
        if operation != NONE:
          place, first = next(places) if edge else -1, cell * (NODES - 1)
          found[name].append(
              Step(self.capacity.operations.index(operation), first + source, first + node, place, max(place, 0)))
    return found

  def leaves(self, architecture: Cells, task: Task) -> Iterator[Leaf]:
    """Yields stem, layers, last batch norm and head."""
    layers, placed = architecture.layers(), _cells(architecture)

    def normed(path: tuple[str | int, ...], kernel: int, inputs: int, outputs: int, place: str) -> Iterator[Leaf]:
      yield leaves.convolution((*path, 'conv'), kernel, inputs, outputs, (place, 'kernel'))
      yield from leaves.norm((*path, 'norm'), outputs, (place,))

    yield from normed(('stem',), 3, task.image_shape[2], layers[0].in_channels, 'stem')
    for i, layer in enumerate(layers):
      path = 'layers', i
      if layer.operations:
        name, cell, _ = next(placed)
        places = itertools.count(cell * self.capacity.norms)
        for e, edge in enumerate(layer.edges()):
          if edge:
            place, own = (next(places),), (*path, 'edges', e)
            if edge.kernel == 3:
              yield leaves.convolution((*own, 'conv'), 3, edge.in_channels, edge.out_channels, (name, 'convolution'), place)
            else:
              yield leaves.pointwise((*own, 'conv'), edge.in_channels, edge.out_channels, (name, 'pointwise'), place)
            yield from leaves.norm((*own, 'norm'), edge.out_channels, (name,), place)
      else:
        inputs, outputs, stage = layer.in_channels, layer.out_channels, layer.stage
        yield from normed((*path, 'first'), 3, inputs, outputs, f'first{stage}')
        yield from normed((*path, 'second'), 3, outputs, outputs, f'second{stage}')
        yield leaves.pointwise((*path, 'beside'), inputs, outputs, (f'beside{stage}', 'kernel'))
    yield from leaves.norm(('norm',), layers[-1].out_channels, ('norm',))
    yield from leaves.linear(('head',), layers[-1].out_channels, task.num_classes, ('head',))

  def fixed(self, task: Task) -> dict[str, Any]:
    """Returns the shapes of all but the cells."""
    widths = self.capacity.widths
    shapes: dict[str, Any] = {
        'stem': {'kernel': (3, 3, widths[0], task.image_shape[2]), **norm_shapes(widths[0])},
        'norm': norm_shapes(widths[-1]),
        'head': {'kernel': (widths[-1], task.num_classes), 'bias': (task.num_classes,)},
    }
    for stage, (before, width) in enumerate(itertools.pairwise(widths), 1):
      shapes[f'first{stage}'] = {'kernel': (3, 3, width, before), **norm_shapes(width)}
      shapes[f'second{stage}'] = {'kernel': (3, 3, width, width), **norm_shapes(width)}
      shapes[f'beside{stage}'] = {'kernel': (width, before)}
    return shapes

  def fixed_work(self, task: Task) -> Work:
    """Returns what stem and residual blocks take."""
    widths = self.capacity.widths
    parts = [(9 * task.image_shape[2] * widths[0], task.image_shape[2] + widths[0], 0)]
    for stage, (before, width) in enumerate(itertools.pairwise(widths), 1):
      parts += [(9 * before * width, 4 * before + width, stage), (9 * width**2, 2 * width, stage),
                (before * width, width, stage)]
    return sum_work(parts, task)

  def heads(self, params: Weights, stats: Weights, plan: dict[str, Program], limits: Limits, images: jax.Array,
            mode: Mode) -> tuple[Heads, Weights]:
    """Returns the logits and the running statistics."""
    run = Pass(self, params, stats, plan, limits, mode)
    x = run.normed('stem', self.convolution(self.planes(images), params['stem']['kernel']))
    for stage in range(STAGES):
      if stage:
        beside = self.pointwise(pooling.halved_average(x), params[f'beside{stage}']['kernel'])
        first = self.convolution(jnp.maximum(x, 0), params[f'first{stage}']['kernel'], stride=2)
        first = run.normed(f'first{stage}', first)
        second = self.convolution(jnp.maximum(first, 0), params[f'second{stage}']['kernel'])
        x = barrier(run.normed(f'second{stage}', second) + beside)
      x = run.tape(f'stage{stage}', registers(self.capacity.cells * (NODES - 1) + 1, [x]))[-1]
    last = jnp.maximum(run.normed('norm', x), 0)
    return ((1.0, self.classify(last, params['head'])),), run.after

  def _tape(self, width: int) -> tuple[Operation, ...]:
    """Returns what edges may do."""
    def convolve(x: Planes, kernels: Weights) -> Planes:
      return self.convolution(jnp.maximum(x, 0), kernels['convolution'])

    def project(x: Planes, kernels: Weights) -> Planes:
      return self.pointwise(x, kernels['pointwise'])

    def rectify_and_project(x: Planes, kernels: Weights) -> Planes:
      return project(jnp.maximum(x, 0), kernels)

    known = {
        SKIP: Operation(same, normed=False),
        CONV_1X1: Operation(rectify_and_project, ('pointwise',), macs=width**2),
        CONV_3X3: Operation(convolve, ('convolution',), macs=9 * width**2),
        AVG_POOL: Operation(lambda x, _: pooling.average(x, 1, self.lowering), normed=False, macs=9 * width),
        PROJECTION: Operation(project, ('pointwise',), macs=width**2),
    }
    return tuple(known[operation] for operation in self.capacity.operations)


def cells_family(space: NasBench201Space, task: Task, *, batch_size: int, steps: int, platform: str) -> CellFamily[Any, Any]:
  """Returns the family of all cells in the space's skeleton; a cell in another skeleton has a program of its own."""
  del steps
  shared = Capacity(tuple(space.channels << i for i in range(STAGES)), space.cells,
                    tuple(operation for operation in range(len(OPERATIONS)) if operation != NONE), len(EDGES))

  def capacity(architecture: NasBench201Architecture) -> Capacity:
    same = (architecture.channels, architecture.cells) == (space.channels, space.cells)
    return shared if same else Capacity.of(architecture)

  return CellFamily(StackedCells, capacity, Capacity.of, _example, task, batch_size, platform,
                    'All cells share one program, in which each runs its own operations alone')


def sizes_family(space: NatsSizeSpace, task: Task, *, batch_size: int, steps: int,
                 platform: str) -> CellFamily[Any, Any] | None:
  """Returns the family of all sizes, with widths padded as much as costs least, training and compiling together.

  On a CPU it is None where modules one by one cost less: their steps are faster than planes of equal width, so that only
  trainings of less than about fifty steps gain from shared programs (benchmarks/README.md, Cells).
  """
  table, rng = rates(platform), np.random.default_rng(0)
  members = [space.sample(rng) for _ in range(CANDIDATES)]

  def step(pairs: Iterable[tuple[NatsSizeArchitecture, Capacity]]) -> float:
    return sum(step_seconds(*StackedCells(c, a).work(a, task), batch_size, table) for a, c in pairs)

  own = step((a, Capacity.of(a)) for a in members)

  def seconds(padding: int) -> tuple[float, float, int]:
    """Returns what the members take in all, the part that padding adds, and the number of programs."""
    found = {a: _padded(a, padding) for a in members}
    padded, programs = step(found.items()), len(set(found.values()))
    compiling = programs * (1.5 * table.compile_branch + table.compile_rest)  # As measured on a CPU.
    return steps * padded + compiling, padded / own - 1, programs

  best = min((WIDTHS[0], 2 * WIDTHS[0], WIDTHS[-1] // 2, WIDTHS[-1]), key=lambda padding: seconds(padding)[0])
  total, more, programs = seconds(best)
  if platform == 'cpu' and steps * own / MODULE_SPEED + CANDIDATES * MODULE_COMPILE < total:
    return None
  reason = (f'Each stage is padded to a multiple of {best} channels: about {more:.0%} more work, {programs} programs for '
            f'{CANDIDATES} networks')
  return CellFamily(StackedCells, functools.partial(_padded, padding=best), Capacity.of, _example, task, batch_size, platform,
                    reason)


def _padded(architecture: NatsSizeArchitecture, padding: int) -> Capacity:
  widths = tuple(-(-width // padding) * padding for width in _widths(architecture))
  return Capacity(widths, 1, (SKIP, CONV_3X3, PROJECTION), len(EDGES))


def _example(capacity: Capacity) -> Cells:
  """Returns some architecture that a capacity holds."""
  if PROJECTION in capacity.operations or capacity.widths[1] != 2 * capacity.widths[0]:
    return NatsSizeArchitecture((WIDTHS[0],) * 5)
  return NasBench201Architecture((NONE,) * len(EDGES), capacity.widths[0], capacity.cells)


def _operations(layer: Layer) -> tuple[int, ...]:
  """Returns the operations of a cell's edges, a skip that changes the channels as a projection."""
  return tuple(PROJECTION if edge and operation == SKIP else operation
               for edge, operation in zip(layer.edges(), layer.operations, strict=True))


def _widths(architecture: Cells) -> tuple[int, ...]:
  """Returns the most channels of each stage."""
  widths = [0] * STAGES
  for layer in architecture.layers():
    channels = (layer.in_channels, layer.out_channels) if layer.operations else (layer.out_channels,)
    widths[layer.stage] = max(widths[layer.stage], *channels)
  return tuple(widths)


def _cells(architecture: Cells) -> Iterator[tuple[str, int, Layer]]:
  """Yields each cell with its tape's name and its number in the stage."""
  counts = [0] * STAGES
  for layer in architecture.layers():
    if layer.operations:
      yield f'stage{layer.stage}', counts[layer.stage], layer
      counts[layer.stage] += 1

"""Where the cells of a DARTS network lie in its program: levels, registers, and the places of all weights."""
from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import NamedTuple

from enas_jax.families import leaves
from enas_jax.families.leaves import Leaf, Path
from enas_jax.spaces.darts import INPUTS, NODES, DartsArchitecture
from enas_jax.types import Task

EDGES, KERNEL = 2 * NODES, 5
BETWEEN = INPUTS + NODES  # The first register of a cell that is neither input nor node: sums of projections, then halves.
REGISTERS = BETWEEN + INPUTS + EDGES  # Of a cell.
STEM, MID, WIDE = 3, 128, 768  # The stem's output as registers; channels of the auxiliary head.
BLOCKS = {'sep_conv_3x3': (3, 1), 'sep_conv_5x5': (5, 1), 'dil_conv_3x3': (3, 2), 'dil_conv_5x5': (5, 2)}  # Kernel, dilation.


class Source(NamedTuple):
  """Where a cell finds an input: the level, and the registers there."""

  level: int
  registers: range


@dataclasses.dataclass(frozen=True, order=True)
class Capacity:
  """What a program holds: the network around the cells, as `DartsArchitecture` has it."""

  cells: int
  channels: int
  auxiliary: bool
  drop_path: float

  @classmethod
  def of(cls, architecture: DartsArchitecture) -> Capacity:
    """Returns the capacity that holds the architecture."""
    return cls(architecture.cells, architecture.channels, architecture.auxiliary, architecture.drop_path)

  def reductions(self) -> tuple[int, int]:
    """Returns the numbers of the reduction cells."""
    return self.cells // 3, 2 * self.cells // 3

  def levels(self) -> list[range]:
    """Returns the cells of each level."""
    return [range(begin, end) for begin, end in itertools.pairwise((0, *self.reductions(), self.cells))]

  def place(self, cell: int) -> tuple[int, int]:
    """Returns the level of a cell, and its number there."""
    level = sum(cell >= first for first in self.reductions())
    return level, cell - self.levels()[level].start

  def base(self, cell: int) -> int:
    """Returns the first register of a cell on its level's tape."""
    level, number = self.place(cell)
    return number * REGISTERS + (STEM if level == 0 else 0)

  def output(self, cell: int) -> Source:
    """Returns where the output of a cell is; the stem's is that of the cells before the first."""
    if cell < 0:
      return Source(0, range(STEM))
    return Source(self.place(cell)[0], range(self.base(cell) + INPUTS, self.base(cell) + BETWEEN))

  def crossing(self, level: int, source: int) -> str:
    """Returns the tape that brings an input to a reduction cell: from the level before, or from the one before that."""
    return f'bring{level}' if source == level - 1 else f'bring{level}_over'

  def crossings(self, level: int) -> list[tuple[int, str, int]]:
    """Returns the tapes from earlier levels to this one: where from, the name, the most projections."""
    opening = self.levels()[level].start
    starts = {self.output(opening - 2 + side).level for side in range(INPUTS)}
    found = [(start, self.crossing(level, start), INPUTS * NODES) for start in sorted(starts)]
    if len(self.levels()[level]) > 1:
      found.append((self.output(opening - 1).level, f'down{level}', NODES))
    return found


def leaves_of(architecture: DartsArchitecture, capacity: Capacity, task: Task) -> Iterator[Leaf]:
  """Yields the module's arrays with their places: stem, cells and heads."""
  first = architecture.channels
  yield leaves.convolution(('stem', 0), 3, task.image_shape[2], STEM * first, ('stem', 'kernel'))
  yield from leaves.norm(('stem_norms', 0), STEM * first, ('stem',))
  for i, cell in enumerate(architecture.stack()):
    level, number = capacity.place(i)
    name, norms, path = f'level{level}', number * (INPUTS + 2 * EDGES), ('cells', i)
    for side, channels in enumerate((cell.before_last, cell.last)):
      source, own = capacity.output(i - 2 + side), (*path, 'inputs', side)
      halving = side == 0 and cell.after_reduction
      if cell.reduces:
        tape, place = capacity.crossing(level, source.level), side * NODES
      elif source.level == level:
        tape, place = name, (number * INPUTS + side) * NODES
      else:
        tape, place = f'down{level}', 0
      chunk = channels // len(source.registers)
      for k in range(len(source.registers)):
        part = slice(k * chunk, (k + 1) * chunk)
        for half, kernel, outputs in _projections(halving, cell.channels):
          whole = leaves.pointwise((*own, half), channels, outputs, (tape, kernel), (place + k,))
          yield whole.cut(part, 2)
      where, index = (f'inputs{level}', side) if cell.reduces else (name, norms + side)
      yield from leaves.norm((*own, 'norm'), cell.channels, (where,), (index,))
    for e, edge in enumerate(cell.edges):
      own, norm, place = (*path, 'operations', e), norms + INPUTS + 2 * e, number * 2 * EDGES + 2 * e
      opens = cell.stride(edge) == 2
      tape, at, norm_at = (f'open{level}', e, e) if opens else (name, place, norm)
      if edge.operation.startswith('sep'):
        yield from _block((*own, 'first'), edge.operation, cell.channels, tape, at, norm_at)
        yield from _block((*own, 'second'), edge.operation, cell.channels, name, place + 1, norm + 1)
      elif edge.operation.startswith('dil'):
        yield from _block(own, edge.operation, cell.channels, tape, at, norm_at)
      elif edge.operation == 'skip_connect' and opens:
        for half, kernel, outputs in _projections(True, cell.channels):
          yield leaves.pointwise((*own, half), cell.channels, outputs, (tape, kernel), (at,))
        yield from leaves.norm((*own, 'norm'), cell.channels, (tape,), (norm_at,))
  yield from leaves.linear(('head',), architecture.out_channels, task.num_classes, ('head',))
  if architecture.auxiliary:
    yield leaves.pointwise(('auxiliary', 'narrow'), architecture.out_channels, MID, ('narrow', 'kernel'))
    yield from leaves.norm(('auxiliary', 'narrow_norm'), MID, ('narrow',))
    yield leaves.convolution(('auxiliary', 'wide'), 2, MID, WIDE, ('wide', 'kernel'))
    yield from leaves.norm(('auxiliary', 'wide_norm'), WIDE, ('wide',))
    yield from leaves.linear(('auxiliary', 'classifier'), WIDE, task.num_classes, ('classifier',))


def _projections(halving: bool, channels: int) -> Iterator[tuple[str, str, int]]:
  """Yields the names in module and program, and the channels, of what brings an input to a cell's channels."""
  if halving:
    yield from ((half, half, channels // 2) for half in ('even', 'odd'))
  else:
    yield 'conv', 'projection', channels


def _block(path: Path, operation: str, channels: int, tape: str, place: int, norm: int) -> Iterator[Leaf]:
  """Yields the leaves of depthwise and pointwise convolution and batch norm."""
  size, _ = BLOCKS[operation]
  yield Leaf((*path, 'depthwise', 'kernel'), (size, size, 1, channels), (tape, 'depthwise'), (place,), (0, 1, 3), taps=2)
  yield leaves.pointwise((*path, 'pointwise'), channels, channels, (tape, 'pointwise'), (place,))
  yield from leaves.norm((*path, 'norm'), channels, (tape,), (norm,))

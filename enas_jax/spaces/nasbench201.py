"""NAS-Bench-201's topology space: one cell of four nodes and six edges, repeated in a fixed network.

Dong and Yang, ICLR 2020 (arXiv 2001.00326), and the authors' code (AutoDL-Projects: `TinyNetwork`, `Structure`); NATS-Bench's
topology space is the same one. The network is a 3x3 convolution to C channels, N cells, a residual block that doubles the
channels and halves the resolution, N cells, another block, N cells, batch norm and ReLU, global average pooling, and one linear
layer. In a cell, node 0 is the input, node 3 the output, and a node sums its edges. The benchmark has C = 16 and N = 5.
"""
from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from enas_jax.errors import UserError
from enas_jax.spaces.base import Graph
from enas_jax.spaces.records import check_record
from enas_jax.types import Task

NONE, SKIP, CONV_1X1, CONV_3X3, AVG_POOL = range(5)
OPERATIONS = ('none', 'skip_connect', 'nor_conv_1x1', 'nor_conv_3x3', 'avg_pool_3x3')
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))  # From and to which node; those into a node precede those out of it.
CHANNELS, CELLS = 16, 5  # The benchmark's.
VERSION = 1

_KERNELS = {CONV_1X1: 1, CONV_3X3: 3}
_TEXT = re.compile(r'\+'.join(r'\|' + ''.join(rf'(\w+)~{i}\|' for i in range(node)) for node in (1, 2, 3)), re.ASCII)

_ENDS = ((-1, 0), *EDGES, (3, 4))  # The edges with input and output as edges of their own.
_FOLLOWS = tuple((i, j) for i, (_, node) in enumerate(_ENDS) for j, (source, _) in enumerate(_ENDS) if node == source)


class Convolution(NamedTuple):
  """A convolution without bias, and whether a batch norm follows it."""

  kernel: int
  in_channels: int
  out_channels: int
  normed: bool = True

  @property
  def weights(self) -> int:
    return self.kernel**2 * self.in_channels * self.out_channels

  @property
  def params(self) -> int:
    return self.weights + 2 * self.out_channels * self.normed


class Layer(NamedTuple):
  """A layer of the body: a cell, or if it has no operations the residual block that halves the resolution.

  Attributes:
    stage: 0, 1 or 2; the output has 1 / 2^stage of the image's height and width, rounded up.
    in_channels, out_channels: the channels that go into the layer and come out of it.
    operations: one for each edge; () for a residual block.
  """

  stage: int
  in_channels: int
  out_channels: int
  operations: tuple[int, ...] = ()

  def edges(self) -> tuple[Convolution | None, ...]:
    """Returns the convolution on each of the cell's edges, or None. A skip that changes the channels is one (NATS-Bench)."""
    def convolution(source: int, operation: int) -> Convolution | None:
      in_channels = self.out_channels if source else self.in_channels
      if operation == SKIP and in_channels != self.out_channels:
        return Convolution(1, in_channels, self.out_channels)
      return Convolution(_KERNELS[operation], in_channels, self.out_channels) if operation in _KERNELS else None

    return tuple(convolution(source, operation) for (source, _), operation in zip(EDGES, self.operations, strict=True))

  def convolutions(self) -> tuple[Convolution, ...]:
    """Returns all convolutions of the layer. A residual block has two 3x3 ones and beside them a 1x1 one without batch norm."""
    if self.operations:
      return tuple(edge for edge in self.edges() if edge)
    return (Convolution(3, self.in_channels, self.out_channels), Convolution(3, self.out_channels, self.out_channels),
            Convolution(1, self.in_channels, self.out_channels, normed=False))


@dataclasses.dataclass(frozen=True)
class NasBench201Architecture:
  """A cell in its network.

  Attributes:
    operations: index into `OPERATIONS` for each of `EDGES`.
    channels: C, the channels of the first stage, at least 1.
    cells: N, the cells of each stage, at least 1.

  Raises:
    UserError: a field is out of range.
  """

  operations: tuple[int, ...]
  channels: int = CHANNELS
  cells: int = CELLS

  def __post_init__(self) -> None:
    if len(self.operations) != len(EDGES):
      raise UserError(f'nasbench201: {len(self.operations)} operations; give {len(EDGES)}, one an edge')
    for (source, node), operation in zip(EDGES, self.operations, strict=True):
      if type(operation) is not int or operation not in range(len(OPERATIONS)):
        raise UserError(f'nasbench201: operation {operation!r} on edge {source}->{node} is outside 0 to {len(OPERATIONS) - 1}')
    for name in ('channels', 'cells'):
      value = getattr(self, name)
      if type(value) is not int or value < 1:
        raise UserError(f'nasbench201: {name} {value!r} is not an integer of at least 1')

  @property
  def cell(self) -> str:
    """The benchmark's text of the cell, such as '|avg_pool_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|nor_conv_3x3~2|'."""
    names = [f'{OPERATIONS[operation]}~{source}' for (source, _), operation in zip(EDGES, self.operations, strict=True)]
    return '+'.join(f"|{'|'.join(node)}|" for node in (names[:1], names[1:3], names[3:]))

  def layers(self) -> tuple[Layer, ...]:
    """Returns the layers of the body, from input to output."""
    first, second, third = (Layer(i, self.channels << i, self.channels << i, self.operations) for i in range(3))
    return ((first,) * self.cells + (Layer(1, first.out_channels, second.in_channels),)
            + (second,) * self.cells + (Layer(2, second.out_channels, third.in_channels),) + (third,) * self.cells)

  def to_json(self) -> dict[str, Any]:
    return {
        'space': NasBench201Space.name,
        'version': VERSION,
        'cell': self.cell,
        'channels': self.channels,
        'cells': self.cells,
    }

  def __str__(self) -> str:
    return f'{self.cell}, {self.channels} channels, {self.cells} cells a stage'


@dataclasses.dataclass(frozen=True, kw_only=True)
class NasBench201Space:
  """All 15,625 cells in one skeleton.

  Attributes:
    channels: C, the channels of the first stage. With fewer than the benchmark's, training is quick, but its tables have no
      row.
    cells: N, the cells of each stage.
  """

  channels: int = CHANNELS
  cells: int = CELLS

  name = 'nasbench201'
  labels = ('input', *OPERATIONS, 'output')
  max_nodes = len(EDGES) + 2
  radices = (len(OPERATIONS),) * len(EDGES)

  def __post_init__(self) -> None:
    self.from_codes((NONE,) * len(EDGES))  # Refuses a skeleton that cannot be.

  def codes(self, architecture: NasBench201Architecture) -> tuple[int, ...]:
    """Returns one number in [0, radix) for each edge, by which tables are indexed."""
    return architecture.operations

  def from_codes(self, codes: Iterable[int]) -> NasBench201Architecture:
    """Returns the member with these `codes`."""
    return NasBench201Architecture(tuple(map(int, codes)), self.channels, self.cells)

  def sample(self, rng: np.random.Generator) -> NasBench201Architecture:
    """Draws each edge's operation uniformly."""
    return self.from_codes(rng.integers(self.radices))

  def mutate(self, architecture: NasBench201Architecture, rng: np.random.Generator) -> NasBench201Architecture:
    """Draws one of the `neighbours`, uniformly."""
    edge, step = int(rng.integers(len(EDGES))), int(rng.integers(1, len(OPERATIONS)))
    operations = list(architecture.operations)
    operations[edge] = (operations[edge] + step) % len(OPERATIONS)
    return dataclasses.replace(architecture, operations=tuple(operations))

  def neighbours(self, architecture: NasBench201Architecture) -> Iterator[NasBench201Architecture]:
    """Yields the 24 cells with another operation on one edge."""
    operations = architecture.operations
    for edge, operation in enumerate(operations):
      for other in range(len(OPERATIONS)):
        if other != operation:
          yield dataclasses.replace(architecture, operations=(*operations[:edge], other, *operations[edge + 1:]))

  def size(self) -> int:
    """Returns 5^6, isomorphic cells included."""
    return len(OPERATIONS)**len(EDGES)

  def check(self, architecture: NasBench201Architecture) -> None:
    """Checks that the cell is in this space's skeleton. Raises UserError if it is not."""
    if not isinstance(architecture, NasBench201Architecture):
      raise UserError(f'{architecture!r} is not a cell of nasbench201')
    self._check_skeleton(architecture, self.channels, self.cells)

  def num_params(self, architecture: NasBench201Architecture, task: Task) -> int:
    """Counts weights of convolutions, batch norms and head, unreachable ones too; equal to the benchmark's on all its rows."""
    return count_params(architecture.layers(), task)

  def macs(self, architecture: NasBench201Architecture, task: Task) -> int:
    """Counts what the benchmark calls 'flops', equal to its own on all rows: see `count_macs`."""
    return count_macs(architecture.layers(), task)

  def graph(self, architecture: NasBench201Architecture) -> Graph:
    """Returns input, the six edges as nodes, output. Which of these nodes follow which is the same for all cells."""
    return Graph(('input', *(OPERATIONS[operation] for operation in architecture.operations), 'output'), _FOLLOWS)

  def identity(self, architecture: NasBench201Architecture) -> str:
    """Returns the benchmark's own identity (`Structure.to_unique_str` with zeros considered), which has 6,466 classes.

    It is the output as an expression: a skip is its input, what comes from 'none' alone is '#', and the terms of a sum are
      sorted.
    It tells apart some cells that compute the same: a sum of two zeros is not taken as zero, nor one term with a zero as the
    term alone.
    """
    terms = [['0'], [], [], []]  # Of each node's sum.
    for (source, node), operation in zip(EDGES, architecture.operations, strict=True):
      text = '+'.join(sorted(terms[source]))
      if operation == NONE or text == '#':
        text = '#'
      elif operation != SKIP:
        text = f'({text})@{OPERATIONS[operation]}'
      terms[node].append(text)
    return '+'.join(sorted(terms[-1]))

  def key(self, architecture: NasBench201Architecture) -> int:
    """Returns the cell's place among all 15,625, edge 0->1 the most significant. The benchmark's own index is shuffled.

    Raises UserError for a cell in another skeleton than the benchmark's.
    """
    self._check_skeleton(architecture, CHANNELS, CELLS)
    return int(np.ravel_multi_index(architecture.operations, self.radices))

  def to_string(self, architecture: NasBench201Architecture) -> str:
    """Returns the benchmark's text of the cell."""
    return architecture.cell

  def from_string(self, text: str) -> NasBench201Architecture:
    """Reads what `to_string` gives, as a cell in this space's skeleton."""
    return NasBench201Architecture(_read_cell(text), self.channels, self.cells)

  def from_json(self, record: Mapping[str, Any]) -> NasBench201Architecture:
    """Reads a cell in any skeleton (`check` tells whether it is this space's)."""
    check_record(record, self.name, VERSION, 'cell', 'channels', 'cells')
    return NasBench201Architecture(_read_cell(record['cell']), record['channels'], record['cells'])

  def _check_skeleton(self, architecture: NasBench201Architecture, channels: int, cells: int) -> None:
    if (architecture.channels, architecture.cells) != (channels, cells):
      raise UserError(f'nasbench201: {architecture.channels} channels and {architecture.cells} cells a stage are not '
                      f'{channels} and {cells}; give the same cell with these')


def count_params(layers: Sequence[Layer], task: Task) -> int:
  """Counts the weights of convolutions, batch norms (scale and bias) and the linear head, in stem, these layers and the end."""
  stem = Convolution(3, task.image_shape[2], layers[0].in_channels)
  channels = layers[-1].out_channels
  return stem.params + sum(map(_params, layers)) + 2 * channels + (channels + 1) * task.num_classes


def count_macs(layers: Sequence[Layer], task: Task) -> int:
  """Counts the 'flops' of NAS-Bench-201 and NATS-Bench (AutoDL-Projects `flop_benchmark.py`), which are multiply-adds.

  Counted are convolutions, with 'same' padding as full windows, and the head, whose bias counts one for each class. Pooling,
  batch norms, ReLU and sums count nothing. Parts of a cell that its output does not use count too.
  """
  height, width, image_channels = task.image_shape
  total = Convolution(3, image_channels, layers[0].in_channels).weights * height * width
  for layer in layers:
    scale = 2**layer.stage
    total += -(-height // scale) * -(-width // scale) * _weights(layer)
  return total + (layers[-1].out_channels + 1) * task.num_classes


@functools.lru_cache(1024)
def _params(layer: Layer) -> int:
  return sum(convolution.params for convolution in layer.convolutions())


@functools.lru_cache(1024)
def _weights(layer: Layer) -> int:
  return sum(convolution.weights for convolution in layer.convolutions())


def _read_cell(text: Any) -> tuple[int, ...]:
  match = _TEXT.fullmatch(text) if isinstance(text, str) else None
  if not match:
    raise UserError(f'nasbench201: {text!r} is not a cell; give |OPERATION~0|+|OPERATION~0|OPERATION~1|+|OPERATION~0|'
                    'OPERATION~1|OPERATION~2|')
  for name in match.groups():
    if name not in OPERATIONS:
      raise UserError(f"nasbench201: operation '{name}' is unknown; give one of {', '.join(OPERATIONS)}")
  return tuple(map(OPERATIONS.index, match.groups()))

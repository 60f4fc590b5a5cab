"""NAS-Bench-101: a small labelled graph as the module that a fixed network repeats.

Ying et al., ICML 2019 (arXiv 1902.09635), and google-research/nasbench. The network is a 3x3 convolution to C channels; three
stacks of three modules, from the second stack on after a 2x2 max pooling and with twice the channels; global average pooling;
and one linear layer. A module is a directed graph of at most 7 vertices and 9 edges from its input to its output, an operation
on each other vertex. A vertex sums what comes in; edges from the input pass a 1x1 projection. The output concatenates what
comes in, which shares its channels, and adds the projected input. The benchmark has C = 128.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from enas_jax.errors import UserError
from enas_jax.spaces.base import Graph
from enas_jax.spaces.nasbench101_graph import LABELS, MAX_EDGES, MAX_VERTICES, OPERATIONS, Matrix, module_hash, pruned
from enas_jax.spaces.nasbench201 import Convolution
from enas_jax.spaces.records import check_record
from enas_jax.types import Task

KERNELS = {'conv3x3-bn-relu': 3, 'conv1x1-bn-relu': 1}
CHANNELS, CELLS, STACKS = 128, 3, 3  # The benchmark's.
SIZE = 423_624  # The length of `nasbench101_graph.enumerate_cells()`, and as published.
VERSION = 1


class Module(NamedTuple):
  """One use of the cell in the network.

  Attributes:
    stack: the stack that it is in, from 0.
    channels: the channels of each vertex, input and output included.
  """

  stack: int
  channels: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class NasBench101Architecture:
  """A cell in its network. It is pruned: it has no vertices that no path from input to output visits.

  The limits hold for what is left, as in the benchmark: a larger matrix with dead parts is welcome. Vertices keep their order.
  If channels do not divide evenly, the first vertices get one more, so that isomorphic cells, which are one row in the
  benchmark, can differ by a few weights.

  Attributes:
    matrix: [V, V] of 0 and 1, upper triangular: entry (i, j) is 1 if an edge goes from vertex i to vertex j. V is 2 to 7.
    operations: 'input', V - 2 of `OPERATIONS`, 'output'.
    channels: C, the channels of the stem and the first stack.
    cells: how many modules a stack has.
    stacks: how many there are, each with half the resolution and twice the channels of the one before.

  Raises:
    UserError: there is no such cell or network; the message names the entry or the limit.
  """

  matrix: Matrix
  operations: tuple[str, ...]
  channels: int = CHANNELS
  cells: int = CELLS
  stacks: int = STACKS

  def __post_init__(self) -> None:
    _check_matrix(self.matrix)
    _check_operations(self.operations, len(self.matrix))
    matrix, operations = pruned(tuple(tuple(map(int, row)) for row in self.matrix), tuple(self.operations))
    _check_limits(matrix)
    object.__setattr__(self, 'matrix', matrix)
    object.__setattr__(self, 'operations', operations)
    for name in ('channels', 'cells', 'stacks'):
      value = getattr(self, name)
      if type(value) is not int or value < 1:
        raise UserError(f'nasbench101: {name} {value!r} is not an integer of at least 1')
    if self.channels < self.branches:
      raise UserError(f'nasbench101: {self.channels} channels are fewer than the {self.branches} vertices that share them; '
                      f'give at least {self.branches}')

  @property
  def branches(self) -> int:
    """The number of operations that the output concatenates."""
    return sum(row[-1] for row in self.matrix[1:])

  @property
  def cell(self) -> str:
    """The two texts of the official files, matrix row by row and operations: '010001000:input,maxpool3x3,output'."""
    return f"{''.join(str(entry) for row in self.matrix for entry in row)}:{','.join(self.operations)}"

  def modules(self) -> Iterator[Module]:
    """Yields the modules, from input to output."""
    in_channels = self.channels
    for stack in range(self.stacks):
      for _ in range(self.cells):
        channels = self.channels << stack
        yield Module(stack, self._vertex_channels(in_channels, channels))
        in_channels = channels

  def convolutions(self, channels: Sequence[int]) -> Iterator[Convolution]:
    """Yields the convolutions of a module with these vertex channels: the projections of the input and the operations."""
    for v, operation in enumerate(self.operations):
      if self.matrix[0][v]:
        yield Convolution(1, channels[0], channels[v])
      if operation in KERNELS:
        yield Convolution(KERNELS[operation], channels[v], channels[v])

  def _vertex_channels(self, in_channels: int, out_channels: int) -> tuple[int, ...]:
    """Returns each vertex's channels. Vertices with an edge to the output share its channels, the first ones the remainder.

    Each other vertex has the most channels of those that it leads to.
    """
    inner = range(1, len(self.matrix) - 1)
    channels = [in_channels, *(0 for _ in inner), out_channels]
    last = [v for v in inner if self.matrix[v][-1]]
    for place, v in enumerate(last):
      channels[v] = out_channels // len(last) + (place < out_channels % len(last))
    for v in reversed(inner):
      if not self.matrix[v][-1]:
        channels[v] = max(channels[w] for w in inner if self.matrix[v][w])
    return tuple(channels)

  def to_json(self) -> dict[str, Any]:
    return {
        'space': NasBench101Space.name,
        'version': VERSION,
        'cell': self.cell,
        'channels': self.channels,
        'cells': self.cells,
        'stacks': self.stacks,
    }

  def __str__(self) -> str:
    return f'{self.cell}, {self.channels} channels, {self.stacks} stacks of {self.cells} cells'


@dataclasses.dataclass(frozen=True, kw_only=True)
class NasBench101Space:
  """All cells of at most 7 vertices and 9 edges in one skeleton.

  Attributes:
    channels: C, the channels of the stem and the first stack. With fewer than the benchmark's, training is quick, but its
      tables have no row.
    cells: how many modules a stack has.
    stacks: how many stacks there are.
  """

  channels: int = CHANNELS
  cells: int = CELLS
  stacks: int = STACKS

  name = 'nasbench101'
  labels = LABELS
  max_nodes = MAX_VERTICES

  def __post_init__(self) -> None:
    widest = MAX_EDGES // 2  # Each operation beside the others takes an edge in and one out.
    if isinstance(self.channels, int) and self.channels < widest:
      raise UserError(f'nasbench101: {self.channels} channels are fewer than the {widest} vertices that can share them; '
                      f'give at least {widest}')
    self._architecture(((0, 1), (0, 0)), ('input', 'output'))  # Refuses a skeleton that cannot be.

  def sample(self, rng: np.random.Generator) -> NasBench101Architecture:
    """Draws as the benchmark's own random search does.

    It draws 7 vertices, each edge and each operation uniformly, until that is a member. That is uniform over matrices and
    operations, so that a pruned cell's chance grows with the number of ways to write it.
    """
    while True:
      edges = np.triu(rng.integers(2, size=(MAX_VERTICES, MAX_VERTICES)), 1).tolist()
      inner = rng.choice(OPERATIONS, size=MAX_VERTICES - 2).tolist()
      matrix, operations = pruned(edges, ('input', *inner, 'output'))
      if _is_member(matrix):
        return self._architecture(matrix, operations)

  def mutate(self, architecture: NasBench101Architecture, rng: np.random.Generator) -> NasBench101Architecture:
    """Draws one of the `neighbours`, uniformly."""
    neighbours = list(_changes(architecture.matrix, architecture.operations))
    matrix, operations = neighbours[int(rng.integers(len(neighbours)))]
    return dataclasses.replace(architecture, matrix=matrix, operations=operations)

  def neighbours(self, architecture: NasBench101Architecture) -> Iterator[NasBench101Architecture]:
    """Yields cells with one edge more or less (and pruned), another operation on one vertex, or a new vertex between two.

    The new vertex has one edge in and one out. That undoes the pruning of a vertex with its only edge: without it, walks could
    not grow again. None is isomorphic to the architecture; two may be so to each other.
    """
    for matrix, operations in _changes(architecture.matrix, architecture.operations):
      yield dataclasses.replace(architecture, matrix=matrix, operations=operations)

  def size(self) -> int:
    """Returns 423,624, which counts isomorphic cells once."""
    return SIZE

  def check(self, architecture: NasBench101Architecture) -> None:
    """Checks that the cell is in this space's skeleton. Raises UserError if it is not."""
    if not isinstance(architecture, NasBench101Architecture):
      raise UserError(f'{architecture!r} is not a cell of nasbench101')
    self._check_skeleton(architecture, self.channels, self.cells, self.stacks)

  def num_params(self, architecture: NasBench101Architecture, task: Task) -> int:
    """Counts the weights of convolutions, batch norms (scale and bias) and head: the benchmark's `trainable_parameters`."""
    stem = Convolution(3, task.image_shape[2], architecture.channels)
    body = sum(c.params for module in architecture.modules() for c in architecture.convolutions(module.channels))
    channels = architecture.channels << (architecture.stacks - 1)
    return stem.params + body + (channels + 1) * task.num_classes

  def macs(self, architecture: NasBench101Architecture, task: Task) -> int:
    """Counts the multiply-adds of convolutions and head; 'same' padding as full windows. The benchmark has no such column."""
    height, width, image_channels = task.image_shape
    total = Convolution(3, image_channels, architecture.channels).weights * height * width
    for module in architecture.modules():
      scale = 2**module.stack
      weights = sum(c.weights for c in architecture.convolutions(module.channels))
      total += weights * -(-height // scale) * -(-width // scale)
    return total + (architecture.channels << (architecture.stacks - 1)) * task.num_classes

  def graph(self, architecture: NasBench101Architecture) -> Graph:
    """Returns the cell with its vertices as nodes."""
    return Graph(architecture.operations, tuple(
        (i, j) for i, row in enumerate(architecture.matrix) for j, edge in enumerate(row) if edge))

  def identity(self, architecture: NasBench101Architecture) -> str:
    """Returns the benchmark's hash of the cell, 32 hexadecimal digits, which names it in the official files."""
    return module_hash(architecture.matrix, architecture.operations)

  def key(self, architecture: NasBench101Architecture) -> bytes:
    """Returns the `identity` in ASCII, as in NumPy's S32. Raises UserError for another skeleton than the benchmark's."""
    self._check_skeleton(architecture, CHANNELS, CELLS, STACKS)
    return self.identity(architecture).encode()

  def to_string(self, architecture: NasBench101Architecture) -> str:
    """Returns the text `NasBench101Architecture.cell`."""
    return architecture.cell

  def from_string(self, text: str) -> NasBench101Architecture:
    """Reads what `to_string` gives, as a cell in this space's skeleton."""
    return self._architecture(*_read_cell(text))

  def from_json(self, record: Mapping[str, Any]) -> NasBench101Architecture:
    """Reads a cell in any skeleton (`check` tells whether it is this space's)."""
    check_record(record, self.name, VERSION, 'cell', 'channels', 'cells', 'stacks')
    return NasBench101Architecture(*_read_cell(record['cell']), record['channels'], record['cells'], record['stacks'])

  def _architecture(self, matrix: Matrix, operations: tuple[str, ...]) -> NasBench101Architecture:
    return NasBench101Architecture(matrix, operations, self.channels, self.cells, self.stacks)

  def _check_skeleton(self, architecture: NasBench101Architecture, channels: int, cells: int, stacks: int) -> None:
    if (architecture.channels, architecture.cells, architecture.stacks) != (channels, cells, stacks):
      raise UserError(f'nasbench101: {architecture.channels} channels and {architecture.stacks} stacks of {architecture.cells} '
                      f'cells are not {channels} and {stacks} of {cells}; give the same cell with these')


def _changes(matrix: Matrix, operations: tuple[str, ...]) -> dict[tuple[Matrix, tuple[str, ...]], None]:
  """Returns the pruned cells one elementary change away, in a fixed order, each once."""
  size = len(matrix)
  pairs = [(i, j) for j in range(size) for i in range(j)]
  found = []
  for i, j in pairs:
    row = (*matrix[i][:j], 1 - matrix[i][j], *matrix[i][j + 1:])
    found.append(pruned((*matrix[:i], row, *matrix[i + 1:]), operations))
  for v in range(1, size - 1):
    found += [(matrix, (*operations[:v], other, *operations[v + 1:])) for other in OPERATIONS if other != operations[v]]
  for i, j in pairs:
    grown = [(*row[:j], int(u == i), *row[j:]) for u, row in enumerate(matrix)]
    grown.insert(j, tuple(int(w == j + 1) for w in range(size + 1)))
    found += [(tuple(grown), (*operations[:j], new, *operations[j:])) for new in OPERATIONS]
  return dict.fromkeys(change for change in found if _is_member(change[0]))


def _is_member(matrix: Matrix) -> bool:
  """Returns whether a pruned matrix lies in the space."""
  return 2 <= len(matrix) <= MAX_VERTICES and sum(map(sum, matrix)) <= MAX_EDGES


def _check_matrix(matrix: Any) -> None:
  size = len(matrix)
  for i, row in enumerate(matrix):
    if len(row) != size:
      raise UserError(f'nasbench101: row {i} of the matrix has {len(row)} entries and there are {size} rows; give a square one')
  for i, row in enumerate(matrix):
    for j, entry in enumerate(row):
      if entry not in (0, 1):
        raise UserError(f'nasbench101: entry ({i}, {j}) of the matrix is {entry!r}; give 0 or 1')
  back = [f'{i}->{j}' for i, row in enumerate(matrix) for j in range(i + 1) if row[j]]
  if back:
    cyclic = np.linalg.matrix_power(np.array(matrix, bool), size).any()  # A path with as many edges as vertices.
    found = 'the edges form a cycle' if cyclic else f'the edge {back[0]} goes back'
    raise UserError(f'nasbench101: {found}; give a matrix whose every edge goes to a later vertex')


def _check_operations(operations: Sequence[str], size: int) -> None:
  if len(operations) != size:
    raise UserError(f'nasbench101: {len(operations)} operations for {size} vertices; give one a vertex, with input and output')
  for v, wanted in ((0, 'input'), (-1, 'output')):
    if size and operations[v] != wanted:
      raise UserError(f"nasbench101: the {'first' if v == 0 else 'last'} operation is {operations[v]!r}; give '{wanted}'")
  for operation in operations[1:-1]:
    if operation not in OPERATIONS:
      raise UserError(f"nasbench101: operation {operation!r} is unknown; give one of {', '.join(OPERATIONS)}")


def _check_limits(matrix: Matrix) -> None:
  """Checks the numbers of vertices and edges of a pruned matrix."""
  edges = sum(map(sum, matrix))
  if len(matrix) < 2:
    raise UserError('nasbench101: no path leads from input to output; connect them')
  if len(matrix) > MAX_VERTICES:
    raise UserError(f'nasbench101: {len(matrix)} vertices lie on paths from input to output; give at most {MAX_VERTICES}')
  if edges > MAX_EDGES:
    raise UserError(f'nasbench101: {edges} edges lie on paths from input to output; give at most {MAX_EDGES}')


def _read_cell(text: Any) -> tuple[Matrix, tuple[str, ...]]:
  adjacency, colon, operations = text.partition(':') if isinstance(text, str) else ('', '', '')
  size = round(len(adjacency)**0.5)
  if not colon or not adjacency or len(adjacency) != size**2 or set(adjacency) - {'0', '1'}:
    raise UserError(f'nasbench101: {text!r} is not a cell; give the V x V bits of the matrix, row by row, a colon, and V '
                    "operations with commas, for example '010001000:input,maxpool3x3,output'")
  bits = tuple(map(int, adjacency))
  return tuple(bits[i:i + size] for i in range(0, size**2, size)), tuple(operations.split(','))

"""The DARTS space (Liu, Simonyan and Yang, ICLR 2019, arXiv 1806.09055): a normal and a reduction cell, stacked.

A cell has two inputs, the outputs of the two cells before it, and four nodes. A node is the sum of two operations, each on
another of the cell's inputs and the nodes before it. The nodes' channels side by side are the cell's output. Cells at one and
two thirds of the depth are reduction cells: they double the channels, and what they do on the cell's inputs halves the
resolution. Networks and text are those of the authors' code (github.com/quark0/darts, cnn/model.py and genotypes.py).
"""
from __future__ import annotations

import ast
import dataclasses
import functools
import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from enas_jax.errors import UserError
from enas_jax.spaces.base import Graph
from enas_jax.spaces.records import check_record
from enas_jax.types import Task

# The official PRIMITIVES in their order, but for the first, 'none', which no genotype may hold.
OPERATIONS = (
    'max_pool_3x3', 'avg_pool_3x3', 'skip_connect', 'sep_conv_3x3', 'sep_conv_5x5', 'dil_conv_3x3', 'dil_conv_5x5')
INPUTS, NODES = 2, 4  # Of a cell.
STEMS = ('cifar', 'imagenet')
VERSION = 1
_SKELETON = ('cells', 'channels', 'stem', 'auxiliary', 'drop_path')
_CONCAT = (f'range({INPUTS}, {INPUTS + NODES})', str(list(range(INPUTS, INPUTS + NODES))))  # All nodes, as texts have it.


class Edge(NamedTuple):
  """An operation and what it is applied to.

  Attributes:
    operation: one of `OPERATIONS`.
    input: 0 (the cell before the last), 1 (the last cell), or 2 to 5 (the nodes before).
  """

  operation: str
  input: int


class Cell(NamedTuple):
  """One cell of the stack with everything a builder needs.

  Attributes:
    edges: two for each node, in the order of the nodes.
    reduces: whether it halves the resolution.
    after_reduction: whether input 0 has twice the resolution of input 1.
    before_last, last: channels of inputs 0 and 1.
    channels: channels of each node; the output has NODES times as many.
  """

  edges: tuple[Edge, ...]
  reduces: bool
  after_reduction: bool
  before_last: int
  last: int
  channels: int

  def stride(self, edge: Edge) -> int:
    """Returns 2 for an edge that halves the resolution, else 1."""
    return 2 if self.reduces and edge.input < INPUTS else 1


@dataclasses.dataclass(frozen=True)
class DartsArchitecture:
  """A normal and a reduction cell, and the network around them. The edges of a node are kept in the order of their inputs.

  Attributes:
    normal, reduce: 8 edges (operation, input), two for each of the 4 nodes.
    cells: how many are stacked, >= 3. The paper: 20 for CIFAR-10, 14 for ImageNet.
    channels: the channels of the first cells' nodes, >= 1; even with the stem 'imagenet'. The paper: 36 and 48.
    stem: 'cifar', one 3 x 3 convolution, or 'imagenet', three that each halve the resolution.
    auxiliary: whether training has a second head at two thirds of the depth.
    drop_path: the probability, in [0, 1), with which an operation's output is dropped at the end of training.

  Raises:
    UserError: a field is out of range.
  """

  normal: tuple[Edge, ...]
  reduce: tuple[Edge, ...]
  cells: int = 20
  channels: int = 36
  stem: str = 'cifar'
  auxiliary: bool = True
  drop_path: float = 0.2

  def __post_init__(self) -> None:
    _check_skeleton(self)
    for name in ('normal', 'reduce'):
      object.__setattr__(self, name, _edges(name, getattr(self, name)))
    object.__setattr__(self, 'drop_path', float(self.drop_path))  # 0 and 0.0 are one value and one JSON.

  @property
  def out_channels(self) -> int:
    """The channels of the last cell's output, and of the output that the auxiliary head sees."""
    return 4 * self.channels * NODES

  def stack(self) -> Iterator[Cell]:
    """Yields the cells, from input to output."""
    before_last = last = 3 * self.channels if self.stem == 'cifar' else self.channels
    channels, after_reduction = self.channels, self.stem == 'imagenet'
    for i in range(self.cells):
      reduces = i in (self.cells // 3, 2 * self.cells // 3)
      channels *= 2 if reduces else 1
      yield Cell(self.reduce if reduces else self.normal, reduces, after_reduction, before_last, last, channels)
      before_last, last, after_reduction = last, NODES * channels, reduces

  def to_json(self) -> dict[str, Any]:
    cells = {name: [list(edge) for edge in getattr(self, name)] for name in ('normal', 'reduce')}
    return {'space': DartsSpace.name, 'version': VERSION, **cells, **_skeleton(self)}

  def __str__(self) -> str:
    return f'{self.cells} cells of {self.channels} channels, {_genotype(self)}'


@dataclasses.dataclass(frozen=True, kw_only=True)
class DartsSpace:
  """All pairs of cells in one network. The attributes are those of `DartsArchitecture`."""

  cells: int = 20
  channels: int = 36
  stem: str = 'cifar'
  auxiliary: bool = True
  drop_path: float = 0.2

  name = 'darts'
  labels = tuple(
      f'{kind} {label}' for kind in ('normal', 'reduce') for label in ('input 0', 'input 1', *OPERATIONS, 'output'))
  max_nodes = 2 * (INPUTS + 2 * NODES + 1)

  def __post_init__(self) -> None:
    _check_skeleton(self)

  def sample(self, rng: np.random.Generator) -> DartsArchitecture:
    """Draws each node's pair of inputs and both operations, uniformly."""
    return self._architecture(*(self._sample_cell(rng) for _ in range(2)))

  def mutate(self, architecture: DartsArchitecture, rng: np.random.Generator) -> DartsArchitecture:
    """Draws one of the `neighbours`, uniformly."""
    changes = list(_changes(architecture))
    return _changed(architecture, *changes[int(rng.integers(len(changes)))])

  def neighbours(self, architecture: DartsArchitecture) -> Iterator[DartsArchitecture]:
    """Yields networks with another operation on one edge (96 ways), or with one edge on an input new to its node (24)."""
    return itertools.starmap(functools.partial(_changed, architecture), _changes(architecture))

  def size(self) -> int:
    """Returns the square of the number of cells, which is the product of C(n, 2) x 7^2 over nodes with n inputs before them."""
    return math.prod(math.comb(INPUTS + node, 2) * len(OPERATIONS)**2 for node in range(NODES))**2

  def check(self, architecture: DartsArchitecture) -> None:
    """Checks that the network around the cells is this space's. Raises UserError, which names the field, if it is not."""
    if not isinstance(architecture, DartsArchitecture):
      raise UserError(f'darts: {_short(architecture)} is not an architecture of this space')
    for name, value in _skeleton(self).items():
      if getattr(architecture, name) != value:
        raise UserError(f'darts: {name} {getattr(architecture, name)!r} is not {value!r}; set config.darts.{name} to it')

  def num_params(self, architecture: DartsArchitecture, task: Task) -> int:
    """Counts the weights of convolutions, batch norms (scale and bias) and the head.

    The auxiliary head, which serves training alone, is left out: so count the authors, and published figures with them.
    """
    blocks = sum(block.weights + 2 * block.channels for block in _blocks(architecture, task))
    return blocks + (architecture.out_channels + 1) * task.num_classes

  def macs(self, architecture: DartsArchitecture, task: Task) -> int:
    """Counts the multiply-adds of convolutions and the head, without the auxiliary one; padding is counted as full windows."""
    blocks = sum(block.weights * block.positions for block in _blocks(architecture, task))
    return blocks + architecture.out_channels * task.num_classes

  def graph(self, architecture: DartsArchitecture) -> Graph:
    """Returns both cells side by side with no edge between them, as AG-Net (Lukasik, Jung and Keuper, ECCV 2022) has them.

    A cell is 11 nodes: two inputs, an operation an edge, the output. An edge's operation follows its cell's input, or both
    operations of its node; all eight lead to the output. Operations 2k and 2k + 1 belong to node k: if nothing follows two
    nodes, that order alone tells which operation belongs to which.
    """
    operations: list[str] = []
    arrows: list[tuple[int, int]] = []
    for kind, edges in (('normal', architecture.normal), ('reduce', architecture.reduce)):
      first = len(operations)
      output = first + INPUTS + len(edges)
      operations += [f'{kind} {label}' for label in ('input 0', 'input 1', *(edge.operation for edge in edges), 'output')]
      for i, edge in enumerate(edges):
        here, node = first + INPUTS + i, first + INPUTS + 2 * (edge.input - INPUTS)
        sources = (first + edge.input,) if edge.input < INPUTS else (node, node + 1)
        arrows += [*((source, here) for source in sources), (here, output)]
    return Graph(tuple(operations), tuple(sorted(arrows)))

  def identity(self, architecture: DartsArchitecture) -> str:
    """Returns the input and operation of all edges in digits, in that order of each cell's nodes that makes them smallest."""
    return '|'.join(_canonical(edges) for edges in (architecture.normal, architecture.reduce))

  def key(self, architecture: DartsArchitecture) -> bytes:
    """Returns the identity as bytes. Raises UserError if the network around the cells is not this space's."""
    self.check(architecture)
    return self.identity(architecture).encode()

  def to_string(self, architecture: DartsArchitecture) -> str:
    """Returns the authors' text, which has the cells alone: Genotype(normal=[('sep_conv_3x3', 0), ...], ...)."""
    return _genotype(architecture)

  def from_string(self, text: str) -> DartsArchitecture:
    """Reads the authors' text, in this space's network. It is parsed, never run."""
    try:
      return self._architecture(*_parsed(text))
    except UserError:
      raise
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:  # What Python's parser raises for any text.
      raise UserError(f'darts: {_short(text)} is not Genotype(normal=[...], ...) ({type(error).__name__})') from error

  def from_json(self, record: Mapping[str, Any]) -> DartsArchitecture:
    """Reads an architecture of any size: a hand-written one may lie outside this space (`check` tells)."""
    check_record(record, self.name, VERSION, 'normal', 'reduce', *_SKELETON)
    return DartsArchitecture(**{name: record[name] for name in ('normal', 'reduce', *_SKELETON)})

  def _architecture(self, normal: Any, reduce: Any) -> DartsArchitecture:
    return DartsArchitecture(normal, reduce, **_skeleton(self))

  def _sample_cell(self, rng: np.random.Generator) -> tuple[Edge, ...]:
    inputs = [int(i) for node in range(NODES) for i in rng.choice(INPUTS + node, size=2, replace=False)]
    return tuple(Edge(OPERATIONS[o], i) for o, i in zip(rng.integers(len(OPERATIONS), size=2 * NODES), inputs, strict=True))


def _changes(architecture: DartsArchitecture) -> Iterator[tuple[str, int, Edge]]:
  """Yields each change as a cell's name, an edge's place and what to put there."""
  for name in ('normal', 'reduce'):
    edges = getattr(architecture, name)
    for i, edge in enumerate(edges):
      both = {edge.input, edges[i ^ 1].input}  # Of the node.
      yield from ((name, i, Edge(operation, edge.input)) for operation in OPERATIONS if operation != edge.operation)
      yield from ((name, i, Edge(edge.operation, j)) for j in range(INPUTS + i // 2) if j not in both)


def _changed(architecture: DartsArchitecture, name: str, index: int, edge: Edge) -> DartsArchitecture:
  edges = list(getattr(architecture, name))
  edges[index] = edge
  changes: dict[str, Any] = {name: edges}
  return dataclasses.replace(architecture, **changes)


class _Block(NamedTuple):
  """Convolutions with one batch norm: `weights` that each serve `positions` of the output, and the norm's channels."""

  weights: int
  channels: int
  positions: int


def _blocks(architecture: DartsArchitecture, task: Task) -> Iterator[_Block]:
  """Yields every convolution of the network, a depthwise one together with its pointwise one."""
  height, width, channels = task.image_shape
  first, stem = architecture.channels, architecture.stem
  if stem == 'cifar':
    yield _Block(9 * channels * 3 * first, 3 * first, height * width)
  else:
    for before, after in ((channels, first // 2), (first // 2, first), (first, first)):
      height, width = -(-height // 2), -(-width // 2)
      yield _Block(9 * before * after, after, height * width)
  for cell in architecture.stack():
    c = cell.channels
    for before in (cell.before_last, cell.last):
      yield _Block(before * c, c, height * width)
    if cell.reduces:
      height, width = -(-height // 2), -(-width // 2)
    for edge in cell.edges:
      blocks, taps = _convolutions(edge.operation, cell.stride(edge))
      yield from [_Block(taps * c + c * c, c, height * width)] * blocks


def _convolutions(operation: str, stride: int) -> tuple[int, int]:
  """Returns the number of blocks of an operation, and the weights for each channel of a block's depthwise part."""
  if operation.startswith(('sep', 'dil')):
    return 2 if operation.startswith('sep') else 1, int(operation[-1])**2
  return int(operation == 'skip_connect' and stride == 2), 0


def _check_skeleton(network: DartsArchitecture | DartsSpace) -> None:
  for name, least in (('cells', 3), ('channels', 1)):  # From three cells on there is one of each kind at least.
    value = getattr(network, name)
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
      raise UserError(f'darts: {name} {value!r} is not a whole number of at least {least}')
  if network.stem not in STEMS:
    raise UserError(f'darts: stem {network.stem!r} is not one of {STEMS}')
  if network.stem == 'imagenet' and network.channels % 2:
    raise UserError(f"darts: channels {network.channels} is odd; the stem 'imagenet' needs an even number")
  if not isinstance(network.auxiliary, bool):
    raise UserError(f'darts: auxiliary {network.auxiliary!r} is not True or False')
  value = network.drop_path
  if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1:
    raise UserError(f'darts: drop_path {value!r} is outside [0, 1); give for example 0.2')


def _skeleton(network: DartsArchitecture | DartsSpace) -> dict[str, Any]:
  return {name: getattr(network, name) for name in _SKELETON}


def _edges(name: str, cell: Any) -> tuple[Edge, ...]:
  """Returns the edges of a cell, checked and ordered within each node."""
  if not isinstance(cell, list | tuple) or len(cell) != 2 * NODES:
    raise UserError(f'darts: {name} {_short(cell)} is not {2 * NODES} edges, two for each of {NODES} nodes')
  for i, edge in enumerate(cell):
    if not isinstance(edge, list | tuple) or len(edge) != 2:
      raise UserError(f'darts: {name} edge {i} {_short(edge)} is not an (operation, input)')
    operation, source = edge
    if operation not in OPERATIONS:
      raise UserError(f'darts: {name} edge {i} has operation {_short(operation)}; give one of {", ".join(OPERATIONS)}')
    if not isinstance(source, int) or isinstance(source, bool) or not 0 <= source < INPUTS + i // 2:
      raise UserError(f'darts: {name} edge {i} has input {_short(source)}; give one of 0 to {INPUTS + i // 2 - 1}')
  pairs = [sorted(map(Edge._make, cell[i:i + 2]), key=lambda edge: edge.input) for i in range(0, len(cell), 2)]
  for node, (one, other) in enumerate(pairs):
    if one.input == other.input:
      raise UserError(f'darts: both edges of {name} node {node} have input {one.input}; give a node two inputs')
  return tuple(itertools.chain.from_iterable(pairs))


def _canonical(edges: tuple[Edge, ...]) -> str:
  """Returns the least text of a cell over all orders of its nodes in which each comes after its inputs."""
  texts = []
  for order in itertools.permutations(range(INPUTS, INPUTS + NODES)):
    place = (*range(INPUTS), *order)
    placed = sorted((place[INPUTS + i // 2], place[e.input], OPERATIONS.index(e.operation)) for i, e in enumerate(edges))
    if all(source < node for node, source, _ in placed):
      texts.append(''.join(f'{source}{operation}' for _, source, operation in placed))
  return min(texts)


def _genotype(architecture: DartsArchitecture) -> str:
  cells = (f'{name}={[tuple(edge) for edge in getattr(architecture, name)]}, {name}_concat={_CONCAT[0]}'
           for name in ('normal', 'reduce'))
  return f'Genotype({", ".join(cells)})'


def _parsed(text: str) -> tuple[Any, Any]:
  """Returns the lists of both cells in the authors' text, as they stand there."""
  call = ast.parse(text.strip(), mode='eval').body
  if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.func.id != 'Genotype' or call.args:
    raise UserError(f'darts: {_short(text)} is not Genotype(normal=[...], ...) with named fields')
  names = [str(field.arg) for field in call.keywords]
  if sorted(names) != ['normal', 'normal_concat', 'reduce', 'reduce_concat']:
    raise UserError(f'darts: fields {", ".join(names)} of Genotype are not normal, normal_concat, reduce, reduce_concat')
  fields = {field.arg: field.value for field in call.keywords}
  for name in ('normal_concat', 'reduce_concat'):
    if (nodes := ast.unparse(fields[name])) not in _CONCAT:
      raise UserError(f'darts: {name} {_short(nodes)} is not {_CONCAT[0]}; give a cell that hands on all its nodes')
  return _literal('normal', fields['normal']), _literal('reduce', fields['reduce'])


def _literal(name: str, value: ast.expr) -> Any:
  try:
    return ast.literal_eval(value)
  except (ValueError, TypeError) as error:
    raise UserError(f'darts: {name} {_short(ast.unparse(value))} is not a list of (operation, input)') from error


def _short(value: Any) -> str:
  """Returns a value as text that fits on one line of a message."""
  text = repr(value)
  return text if len(text) <= 60 else f'{text[:57]}...'

"""Turns graphs into arrays for every predictor: dense, flat, and as paths."""
from __future__ import annotations

import dataclasses
import functools
import heapq
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from enas_jax.errors import UserError
from enas_jax.spaces.base import Graph, SearchSpace

MAX_PATHS = 256  # For one graph. Cells have at most some dozens; a macro graph with many skips has thousands.
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # Odd, so that a long path forgets none of its labels.


class GraphBatch(NamedTuple):
  """B graphs of up to N nodes and L labels as float32 arrays, which are 0 where a graph has no node.

  Attributes:
    nodes: [B, N, L], one-hot labels.
    adjacency: [B, N, N], 1 at (i, j) for an edge from i to j.
    mask: [B, N], 1 for a node.
  """

  nodes: np.ndarray
  adjacency: np.ndarray
  mask: np.ndarray


@dataclasses.dataclass(frozen=True)
class GraphEncoding:
  """How the graphs of a space become arrays.

  Attributes:
    labels: every operation that a node can have, L of them.
    max_nodes: N, the most nodes that a graph has.
  """

  labels: tuple[str, ...]
  max_nodes: int

  def __post_init__(self) -> None:
    """Raises UserError for a label that comes twice, and for fewer than 1 node."""
    if len(set(self.labels)) < len(self.labels) or self.max_nodes < 1:
      raise UserError(f'graphs of {self.max_nodes} nodes with labels {self.labels}; give different labels and at least 1 node')

  @classmethod
  def of(cls, space: SearchSpace) -> GraphEncoding:
    """Returns the encoding of a space's graphs."""
    return cls(tuple(space.labels), space.max_nodes)

  def encode(self, graphs: Sequence[Graph]) -> GraphBatch:
    """Returns dense arrays. Raises UserError for an unknown label, too many nodes, or an edge that leads to no later node."""
    labels, (shapes, shape_of) = self._label_numbers(graphs), _shapes(graphs)
    adjacency = np.zeros((len(shapes), self.max_nodes, self.max_nodes), np.float32)
    for matrix, (_, edges) in zip(adjacency, shapes, strict=True):
      for edge in edges:
        matrix[edge] = 1
    nodes = (labels[:, :, None] == np.arange(len(self.labels))).astype(np.float32)
    return GraphBatch(nodes, adjacency[shape_of], (labels >= 0).astype(np.float32))

  def decode(self, nodes: np.ndarray, adjacency: np.ndarray, mask: np.ndarray) -> Graph:
    """Returns the graph of one row of a batch: [N, L], [N, N], [N].

    The row may be a network's soft output: then labels are the likeliest ones, and edges and nodes those above 0.5.
    """
    present = np.flatnonzero(np.asarray(mask) > 0.5)
    operations = tuple(self.labels[i] for i in np.asarray(nodes)[present].argmax(-1))
    edges = np.argwhere(np.triu(np.asarray(adjacency)[np.ix_(present, present)] > 0.5, 1))
    return Graph(operations, tuple((int(i), int(j)) for i, j in edges))

  def features(self, graphs: Sequence[Graph]) -> np.ndarray:
    """Returns flat rows [B, N (N - 1) / 2 + N L], float32: the adjacency above its diagonal, then the one-hot labels."""
    batch = self.encode(graphs)
    above = np.triu_indices(self.max_nodes, 1)
    return np.concatenate([batch.adjacency[:, *above], batch.nodes.reshape(len(graphs), self.max_nodes * len(self.labels))], 1)

  def paths(self, graphs: Sequence[Graph]) -> np.ndarray:
    """Returns every path of each graph, as a 64-bit hash of its labels in order: [B, P] uint64, 0 if a graph has fewer paths.

    The path encoding of BANANAS (White, Neiswanger and Savani, AAAI 2021, section 4) tells which of these a graph has:
    `path_features`. A path goes from a node that nothing enters to one that nothing leaves; both ends' labels count. If
    a graph has more than `MAX_PATHS`, the shortest are kept, as in the paper's truncated encoding. Among a million different
    paths two share a hash with a chance of 3e-8.
    """
    labels, (shapes, shape_of) = self._label_numbers(graphs), _shapes(graphs)
    walks = [_walks(*shape) for shape in shapes]
    hashes = np.zeros((len(graphs), max((len(w) for w in walks), default=0)), np.uint64)
    for i, walk in enumerate(walks):
      rows = np.flatnonzero(shape_of == i)
      for nodes in walk.T:
        paths = np.flatnonzero(nodes >= 0)
        here = np.ix_(rows, paths)
        hashes[here] = hashes[here] * _MULTIPLIER + (labels[np.ix_(rows, nodes[paths])] + 1).astype(np.uint64)
    return hashes

  def _label_numbers(self, graphs: Sequence[Graph]) -> np.ndarray:
    """Returns the number of each node's label, [B, N], and -1 where there is no node."""
    numbers = np.full((len(graphs), self.max_nodes), -1, np.int64)
    for row, graph in zip(numbers, graphs, strict=True):
      if len(graph.operations) > self.max_nodes:
        raise UserError(f'graph of {len(graph.operations)} nodes: the limit is {self.max_nodes}; give max_nodes of its space')
      try:
        row[:len(graph.operations)] = [self._number_of[label] for label in graph.operations]
      except KeyError as error:
        raise UserError(f'graph label {error.args[0]!r} is not one of {self.labels}; give the labels of its space') from None
    return numbers

  @functools.cached_property
  def _number_of(self) -> dict[str, int]:
    return {label: i for i, label in enumerate(self.labels)}


def path_features(paths: np.ndarray, vocabulary: np.ndarray) -> np.ndarray:
  """Counts how often each path of the vocabulary is among `paths`, and how many others there are: [B, V + 1] float32.

  Args:
    paths: as `GraphEncoding.paths` gives them, [B, P].
    vocabulary: hashes to count, ascending, [V].
  """
  place = np.searchsorted(vocabulary, paths)
  known = np.append(vocabulary, np.uint64(0))[place] == paths
  counts = np.zeros((len(paths), len(vocabulary) + 1), np.float32)
  rows = np.broadcast_to(np.arange(len(paths))[:, None], paths.shape)
  np.add.at(counts, (rows, np.where(known, place, len(vocabulary))), paths != 0)
  return counts


def _shapes(graphs: Sequence[Graph]) -> tuple[list[tuple[int, tuple]], np.ndarray]:
  """Returns the distinct (number of nodes, edges), and which one each graph has [B]. Many graphs share few."""
  number: dict[tuple[int, tuple], int] = {}
  shape_of = np.array([number.setdefault((len(g.operations), g.edges), len(number)) for g in graphs], np.int64)
  for count, edges in number:
    for i, j in edges:
      if not 0 <= i < j < count:
        raise UserError(f'graph edge ({i}, {j}) among {count} nodes: give pairs (i, j) with 0 <= i < j < {count}')
  return list(number), shape_of


@functools.lru_cache(maxsize=4096)
def _walks(count: int, edges: tuple[tuple[int, int], ...]) -> np.ndarray:
  """Returns the shortest paths as rows of nodes, -1 after their end: [at most MAX_PATHS, nodes of the longest]."""
  after = [[j for i, j in edges if i == node] for node in range(count)]
  to_end = [0] * count  # Edges to the nearest end.
  for node in reversed(range(count)):
    to_end[node] = min((1 + to_end[j] for j in after[node]), default=0)
  # Best first by the length of the whole path: none is begun that is not among the shortest.
  heap: list[tuple[int, tuple[int, ...]]] = [(to_end[i], (i,)) for i in sorted(set(range(count)) - {j for _, j in edges})]
  heapq.heapify(heap)
  found: list[tuple[int, ...]] = []
  while heap and len(found) < MAX_PATHS:
    _, path = heapq.heappop(heap)
    if not after[path[-1]]:
      found.append(path)
    for j in after[path[-1]]:
      heapq.heappush(heap, (len(path) + to_end[j], (*path, j)))
  walks = np.full((len(found), max(map(len, found), default=0)), -1, np.int64)
  for row, path in zip(walks, found, strict=True):
    row[:len(path)] = path
  return walks

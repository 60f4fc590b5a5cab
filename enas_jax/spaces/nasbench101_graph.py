"""NAS-Bench-101's cells as graphs: the official pruning and hash, and all 423,624 of them.

It follows google-research/nasbench: lib/model_spec.py, lib/graph_util.py and scripts/generate_graphs.py (Apache-2.0).
"""
from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

MAX_VERTICES, MAX_EDGES = 7, 9
OPERATIONS = ('conv3x3-bn-relu', 'conv1x1-bn-relu', 'maxpool3x3')  # In the official order: the hash holds their numbers.
LABELS = (*OPERATIONS, 'input', 'output')
PADDING = 255  # Where an array has no vertex.

Matrix = tuple[tuple[int, ...], ...]  # [V, V], entry (i, j) is 1 where an edge goes from i to j.


class Cells(NamedTuple):
  """N cells as arrays, padded to seven vertices; the output is a cell's own last vertex.

  Attributes:
    adjacency: [N, 7, 7] uint8 of 0 and 1, padded with 0.
    operations: [N, 7] uint8, index into LABELS, padded with PADDING.
    vertices: [N] uint8, from 2 to 7, input and output included.
  """

  adjacency: np.ndarray
  operations: np.ndarray
  vertices: np.ndarray


def live_vertices(matrix: Matrix) -> list[int]:
  """Returns the vertices of an upper triangular matrix on a path from input to output, ascending; [] if there is no path."""
  last = len(matrix) - 1
  reached, reaching = {0}, {last}
  for v in range(1, last + 1):
    if any(matrix[u][v] for u in reached):
      reached.add(v)
  for v in range(last - 1, -1, -1):
    if any(matrix[v][w] for w in reaching):
      reaching.add(v)
  return sorted(reached & reaching)


def pruned(matrix: Matrix, operations: tuple[str, ...]) -> tuple[Matrix, tuple[str, ...]]:
  """Returns a cell without the vertices that no path from input to output visits; both parts are empty if there is no path."""
  live = live_vertices(matrix)
  return tuple(tuple(matrix[u][v] for v in live) for u in live), tuple(operations[v] for v in live)


def module_hash(matrix: Matrix, operations: Sequence[str]) -> str:
  """Returns the official hash of a pruned cell, 32 hexadecimal digits. It is equal exactly for isomorphic cells of the space.

  It is the MD5 of each vertex's degrees and operation, then V rounds in which a vertex hashes its own and its neighbours'
  values; then the MD5 of the sorted result.
  """
  vertices = range(len(matrix))
  sources = [[u for u in vertices if matrix[u][v]] for v in vertices]
  targets = [[w for w in vertices if matrix[v][w]] for v in vertices]
  labels = [-1, *map(OPERATIONS.index, operations[1:-1]), -2]
  values = [_md5(str((len(targets[v]), len(sources[v]), labels[v]))) for v in vertices]
  for _ in vertices:
    values = [_md5('|'.join((_joined(values, sources[v]), _joined(values, targets[v]), values[v]))) for v in vertices]
  return _md5(str(sorted(values)))


def enumerate_cells() -> Cells:
  """Returns every cell of the space once, as the official files write it and in the order of generate_graphs.py.

  It takes well under a second.

  That script goes through numbers of vertices, edge sets (bit x + y (y - 1) / 2 for the edge x -> y) and operations, all
  ascending, and keeps a cell unless an isomorphic one came before. So the kept one has the least edge set of its class and,
  under that edge set's automorphisms, the least operations. All orders of the at most five inner vertices are tried.
  """
  by_size = [_cells_of(vertices) for vertices in range(2, MAX_VERTICES + 1)]
  return Cells(*(np.concatenate(parts) for parts in zip(*by_size, strict=True)))


def texts(cells: Cells) -> np.ndarray:
  """Returns the text of each cell, as `NasBench101Space.to_string` gives it: [N] bytes."""
  found = np.zeros(len(cells.vertices), 'S142')  # 49 bits, a colon, and the longest names of seven vertices with commas.
  names = np.array(LABELS, 'S')
  for size in range(2, MAX_VERTICES + 1):
    chosen = cells.vertices == size
    bits = (cells.adjacency[chosen, :size, :size].reshape(-1, size**2) + ord('0')).view(f'S{size**2}')[:, 0]
    first, *others = names[cells.operations[chosen, :size].T]
    text = np.strings.add(np.strings.add(bits, b':'), first)
    for name in others:
      text = np.strings.add(np.strings.add(text, b','), name)
    found[chosen] = text
  return found


def _cells_of(vertices: int) -> Cells:
  inner = vertices - 2
  targets, sources = np.tril_indices(vertices, -1)  # In the order of the bits.
  weights = np.zeros((vertices, vertices), np.int64)
  weights[sources, targets] = 1 << np.arange(len(targets))

  edges = np.arange(1 << len(targets))
  edges = edges[np.bitwise_count(edges) <= MAX_EDGES]
  for v in range(vertices - 1):  # Every vertex has an edge out of it and one into the next: then all are on a path.
    edges = edges[(edges & weights[v].sum() != 0) & (edges & weights[:, v + 1].sum() != 0)]
  matrices = (edges[:, None, None] & weights != 0).astype(np.uint8)

  orders = np.array([[0, *order, vertices - 1] for order in itertools.permutations(range(1, vertices - 1))])
  reordered = np.full((len(orders), len(edges)), np.iinfo(np.int64).max)  # Stays so where an edge would go back.
  for of_order, order in zip(reordered, orders, strict=True):
    moved = matrices[:, order][:, :, order]
    forward = ~(moved & (weights == 0)).any((1, 2))
    of_order[forward] = (moved[forward] * weights).sum((1, 2))
  first = edges == reordered.min(0)
  automorphic = reordered[:, first] == edges[first]  # [orders, classes]

  operations = np.array(list(itertools.product(range(len(OPERATIONS)), repeat=inner)), np.uint8)
  powers = len(OPERATIONS)**np.arange(inner)[::-1]
  least = np.full((first.sum(), len(operations)), np.iinfo(np.int64).max)
  for order, automorphism in zip(orders, automorphic, strict=True):
    least[automorphism] = np.minimum(least[automorphism], operations[:, order[1:-1] - 1] @ powers)
  classes, codes = np.nonzero(least == np.arange(len(operations)))

  adjacency = np.zeros((len(classes), MAX_VERTICES, MAX_VERTICES), np.uint8)
  adjacency[:, :vertices, :vertices] = matrices[first][classes]
  labels = np.full((len(classes), MAX_VERTICES), PADDING, np.uint8)
  labels[:, 0], labels[:, vertices - 1] = LABELS.index('input'), LABELS.index('output')
  labels[:, 1:vertices - 1] = operations[codes]
  return Cells(adjacency, labels, np.full(len(classes), vertices, np.uint8))


def _joined(values: list[str], vertices: list[int]) -> str:
  return ''.join(sorted([values[v] for v in vertices]))


def _md5(text: str) -> str:
  return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()

"""Graphs to predict on: NAS-Bench-201 cells, chains, and random graphs of many shapes."""
import pathlib

import numpy as np
import pytest

from enas_jax.predictors import GraphEncoding
from enas_jax.spaces import ChainSpace, Graph

TABLE = pathlib.Path(__file__).parents[2] / '../shared/data/nasbench/nb201.npz'
OPERATIONS = ('none', 'skip_connect', 'nor_conv_1x1', 'nor_conv_3x3', 'avg_pool_3x3')
CELL_EDGES = ((0, 1), (0, 2), (0, 4), (1, 3), (1, 5), (2, 6), (3, 6), (4, 7), (5, 7), (6, 7))


def cell(numbers):
  """A NAS-Bench-201 cell: its six edges as nodes."""
  return Graph(('input', *(OPERATIONS[i] for i in numbers), 'output'), CELL_EDGES)


@pytest.fixture(scope='session')
def cell_encoding():
  return GraphEncoding(('input', *OPERATIONS, 'output'), 8)


@pytest.fixture(scope='session')
def cells():
  """100 random cells."""
  return [cell(row) for row in np.random.default_rng(0).integers(len(OPERATIONS), size=(100, 6))]


@pytest.fixture(scope='session')
def values(cells):
  """What to predict: the share of 3x3 convolutions and a little of skips."""
  return np.array([(g.operations.count('nor_conv_3x3') + 0.3 * g.operations.count('skip_connect')) / 6 for g in cells])


@pytest.fixture(scope='session')
def table():
  """All NAS-Bench-201 cells, and their CIFAR-10 validation accuracy after 200 epochs as a fraction."""
  if not TABLE.exists():
    pytest.skip('needs ../shared/data/nasbench/nb201.npz beside the checkout')
  with np.load(TABLE) as arrays:
    assert tuple(arrays['op_names']) == OPERATIONS
    return [cell(row) for row in arrays['ops']], arrays['c10_valid_200ep'].astype(np.float64) / 100


def random_graph(rng, *, labels, nodes, share=0.5):
  """A graph of so many nodes, with each edge at a chance of `share`."""
  edges = tuple((i, j) for i in range(nodes) for j in range(i + 1, nodes) if rng.random() < share)
  return Graph(tuple(str(x) for x in rng.choice(labels, size=nodes)), edges)


@pytest.fixture(scope='session')
def any_graphs():
  """An encoding with graphs of other numbers of nodes and edges, a single node among them; and those of a chain space."""
  rng, labels = np.random.default_rng(1), ('a', 'b', 'c')
  mixed = [random_graph(rng, labels=labels, nodes=n) for n in rng.integers(1, 8, size=40)]
  space = ChainSpace(min_depth=3, max_depth=6, min_width=2, max_width=4)
  return [
      (GraphEncoding(labels, 7), [*mixed, Graph(('a',), ())]),
      (GraphEncoding.of(space), [space.graph(space.sample(rng)) for _ in range(40)]),
  ]

"""Graphs to arrays and back; paths against a plain walk."""
import collections
import time

import numpy as np
import pytest

from enas_jax.predictors import GraphEncoding
from enas_jax.predictors.columns import MAX_COLUMNS, columns
from enas_jax.predictors.encoding import MAX_PATHS, path_features
from enas_jax.spaces import Graph


def label_paths(graph):
  """Every path of a graph as its labels, by a plain walk."""
  def walk(node, labels):
    labels = (*labels, graph.operations[node])
    after = [j for i, j in graph.edges if i == node]
    return [labels] if not after else [path for j in after for path in walk(j, labels)]

  starts = set(range(len(graph.operations))) - {j for _, j in graph.edges}
  return [path for node in starts for path in walk(node, ())]


def chain(labels):
  return Graph(tuple(labels), tuple((i, i + 1) for i in range(len(labels) - 1)))


def test_graphs_come_back(any_graphs, cells, cell_encoding):
  for encoding, graphs in [*any_graphs, (cell_encoding, cells)]:
    batch = encoding.encode(graphs)
    n, labels = encoding.max_nodes, len(encoding.labels)
    assert [a.shape for a in batch] == [(len(graphs), n, labels), (len(graphs), n, n), (len(graphs), n)]
    assert all(a.dtype == np.float32 for a in batch)
    for i, graph in enumerate(graphs):
      back = encoding.decode(*(a[i] for a in batch))
      assert back.operations == graph.operations and set(back.edges) == set(graph.edges)


def test_a_soft_graph_is_decoded_to_its_likeliest():
  encoding = GraphEncoding(('a', 'b'), 3)
  adjacency = np.array([[0.9, 0.6, 0.4], [0.9, 0, 0.8], [0.9, 0.9, 0]])
  assert encoding.decode(np.array([[0.3, 0.7], [0.6, 0.4], [0.2, 0.8]]), adjacency, np.array([0.9, 0.8, 0.6])) == Graph(
      ('b', 'a', 'b'), ((0, 1), (1, 2)))


def test_flat_features_are_edges_then_labels():
  rows = GraphEncoding(('a', 'b'), 3).features([Graph(('a', 'b'), ((0, 1),)), Graph(('b', 'a', 'b'), ((0, 2), (1, 2)))])
  np.testing.assert_array_equal(rows, [[1, 0, 0, 1, 0, 0, 1, 0, 0], [0, 1, 1, 0, 1, 1, 0, 0, 1]])


def test_no_graphs_are_no_rows(cell_encoding):
  assert cell_encoding.features([]).shape == (0, 28 + 8 * 7)
  assert cell_encoding.paths([]).shape == (0, 0)
  assert len(path_features(cell_encoding.paths([]), np.array([1], np.uint64))) == 0


def test_paths_are_those_of_a_plain_walk(any_graphs):
  encoding, graphs = any_graphs[0]
  known = {}
  for graph, row in zip(graphs, encoding.paths(graphs), strict=True):
    expected = label_paths(graph)
    for path in set(expected):  # A chain has one path: so each gets its name from a graph of its own.
      known[path] = encoding.paths([chain(path)])[0, 0]
    assert collections.Counter(row[row != 0].tolist()) == collections.Counter(int(known[p]) for p in expected)
  assert len(set(known.values())) == len(known) > 50


def test_the_shortest_paths_are_kept():
  graph = Graph(('a',) * 12, tuple((i, j) for i in range(12) for j in range(i + 1, 12)))
  lengths = sorted(map(len, label_paths(graph)))
  assert len(lengths) == 2**10 > MAX_PATHS
  encoding = GraphEncoding(('a',), 12)
  length_of = {int(encoding.paths([chain('a' * n)])[0, 0]): n for n in range(2, 13)}
  assert sorted(length_of[int(p)] for p in encoding.paths([graph])[0]) == lengths[:MAX_PATHS]


def test_a_graph_of_a_billion_paths_is_no_trouble():
  diamonds = [e for i in range(0, 90, 3) for e in ((i, i + 1), (i, i + 2), (i + 1, i + 3), (i + 2, i + 3))]
  assert GraphEncoding(('a',), 91).paths([Graph(('a',) * 91, tuple(diamonds))]).shape == (1, MAX_PATHS)


def test_path_features_count_known_paths_and_the_rest():
  encoding = GraphEncoding(('a', 'b'), 4)
  vocabulary = np.sort(encoding.paths([chain('aa'), chain('aba')])[:, 0])
  where = {path: int(np.searchsorted(vocabulary, encoding.paths([chain(path)])[0, 0])) for path in ('aa', 'aba')}
  two_ways = Graph(('a', 'b', 'b', 'a'), ((0, 1), (0, 2), (0, 3), (1, 3), (2, 3)))
  counts = path_features(encoding.paths([two_ways, chain('bb'), chain('aa')]), vocabulary)
  assert counts[:, where['aa']].tolist() == [1, 0, 1]
  assert counts[:, where['aba']].tolist() == [2, 0, 0]
  assert counts[:, 2].tolist() == [0, 1, 0]


def test_path_columns_are_the_commonest_and_fixed_by_the_training_graphs():
  encoding = GraphEncoding(tuple('abcdefgh'), 6)
  rng = np.random.default_rng(0)
  graphs = [chain('abc')] * 3 + [chain(rng.choice(list('abcdefgh'), size=6)) for _ in range(MAX_COLUMNS + 100)]
  rows = columns('paths', encoding, graphs)
  assert rows(graphs).shape == (len(graphs), MAX_COLUMNS)
  assert rows([chain('abc')])[0, -1] == 0 and rows([chain('cba')])[0, -1] == 1


def test_nas_bench_201_has_155_paths_and_four_a_cell(table, cell_encoding):
  graphs, _ = table
  paths = cell_encoding.paths(graphs)
  assert paths.shape == (15625, 4) and len(np.unique(paths)) == 5 + 25 + 125  # White et al. encode as many.


@pytest.mark.parametrize('name', ['encode', 'features', 'paths'])
def test_the_whole_of_nas_bench_201_is_encoded_in_a_second(table, cell_encoding, name):
  start = time.process_time()
  getattr(cell_encoding, name)(table[0])
  assert time.process_time() - start < 1


@pytest.mark.parametrize('name', ['encode', 'features', 'paths'])
def test_bad_graphs_are_user_errors(name, user_error):
  encode = getattr(GraphEncoding(('a', 'b'), 3), name)
  with user_error("'c'", 'a', 'b'):
    encode([Graph(('a', 'c'), ())])
  with user_error('4 nodes', '3'):
    encode([Graph(('a',) * 4, ())])
  for edge in ((1, 0), (1, 1), (0, 2), (-1, 1)):
    with user_error(str(edge), '2 nodes'):
      encode([Graph(('a', 'b'), (edge,))])


def test_bad_encodings_are_user_errors(user_error):
  with user_error('a', 'different labels'):
    GraphEncoding(('a', 'a'), 3)
  with user_error('0 nodes'):
    GraphEncoding(('a',), 0)

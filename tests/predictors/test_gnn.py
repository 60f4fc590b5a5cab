"""The graph network sees a graph, not the order of its nodes."""
import numpy as np

from enas_jax import predictors
from enas_jax.spaces import Graph

TINY = {'members': 2, 'depth': 1, 'width': 8}  # Quick to compile.


def reordered(graph, rng):
  """The same graph with its nodes in another order that keeps i < j."""
  entering = {node: {i for i, j in graph.edges if j == node} for node in range(len(graph.operations))}
  order = []
  while entering:
    node = int(rng.choice([n for n, before in entering.items() if before <= set(order)]))
    order.append(node)
    del entering[node]
  place = {node: i for i, node in enumerate(order)}
  edges = [(place[i], place[j]) for i, j in graph.edges]
  return Graph(tuple(graph.operations[n] for n in order), tuple(edges[k] for k in rng.permutation(len(edges))))


def test_the_order_of_nodes_does_not_matter(any_graphs):
  encoding, graphs = any_graphs[0]
  targets = [len(g.edges) for g in graphs]
  fitted = predictors.make('gnn', encoding, steps=30, **TINY).fit(graphs, targets, seed=0)
  rng = np.random.default_rng(0)
  others = [reordered(g, rng) for g in graphs]
  assert sum(o != g for o, g in zip(others, graphs, strict=True)) > len(graphs) // 2
  np.testing.assert_allclose(fitted.predict(others), fitted.predict(graphs), rtol=1e-4, atol=1e-4)


def test_the_direction_of_edges_does(any_graphs):
  encoding, graphs = any_graphs[0]
  fitted = predictors.make('gnn', encoding, steps=30, **TINY).fit(graphs, [len(g.edges) for g in graphs], seed=0)
  out, into = Graph(('a', 'b', 'b'), ((0, 1), (0, 2))), Graph(('b', 'b', 'a'), ((0, 2), (1, 2)))
  assert abs(np.diff(fitted.predict([out, into]).mean)[0]) > 1e-3

"""Turns graphs into the rows of a table, for the predictors that read tables."""
from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from enas_jax.errors import UserError
from enas_jax.predictors.encoding import GraphEncoding, path_features
from enas_jax.spaces.base import Graph

FEATURES = ('flat', 'paths')
MAX_COLUMNS = 512  # At most: the paths that most training graphs have, and one column that counts all others.

Columns = Callable[[Sequence[Graph]], np.ndarray]


def check_features(features: str) -> None:
  """Checks that it is one of `FEATURES`. Raises UserError if it is not."""
  if features not in FEATURES:
    raise UserError(f"predictor: features '{features}' is unknown; give one of {', '.join(FEATURES)}")


def columns(features: str, encoding: GraphEncoding, graphs: Sequence[Graph]) -> Columns:
  """Returns the function that turns graphs into rows [B, F] float32. The training graphs decide which columns there are.

  Args:
    features: 'flat' (`GraphEncoding.features`, the same columns for all graphs), or 'paths': how often a graph has each path
      that a training graph has, and how many others. A space of one path a graph, like a chain, wants 'flat'.
    encoding: the encoding of the space's graphs.
    graphs: the graphs to train on.
  """
  if features == 'flat':
    return encoding.features
  found, counts = np.unique(encoding.paths(graphs), return_counts=True)
  found, counts = found[found != 0], counts[found != 0]
  vocabulary = np.sort(found[np.argsort(-counts, kind='stable')[:MAX_COLUMNS - 1]])
  return lambda others: path_features(encoding.paths(others), vocabulary)

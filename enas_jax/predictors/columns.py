"""Graphs as the rows of a table, for the predictors that read tables."""
from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from enas_jax.errors import UserError
from enas_jax.predictors.encoding import GraphEncoding, path_features
from enas_jax.spaces.base import Graph

FEATURES = ('flat', 'paths')
MAX_COLUMNS = 512  # Paths that count. Of a space with more, those that most training graphs have.

Columns = Callable[[Sequence[Graph]], np.ndarray]


def check_features(features: str) -> None:
  """Raises UserError where it is not one of `FEATURES`."""
  if features not in FEATURES:
    raise UserError(f"predictor: features '{features}' is unknown; give one of {', '.join(FEATURES)}")


def columns(features: str, encoding: GraphEncoding, graphs: Sequence[Graph]) -> Columns:
  """What turns graphs into rows [B, F] float32, with the columns that the training graphs call for.

  Args:
    features: 'flat' (`GraphEncoding.features`, the same columns for all graphs), or 'paths': how often a graph has each path
      that a training graph has, and how many others. A space of one path a graph, like a chain, wants 'flat'.
    encoding: of the space.
    graphs: to train on.
  """
  if features == 'flat':
    return encoding.features
  found, counts = np.unique(encoding.paths(graphs), return_counts=True)
  found, counts = found[found != 0], counts[found != 0]
  vocabulary = np.sort(found[np.argsort(-counts, kind='stable')[:MAX_COLUMNS - 1]])
  return lambda others: path_features(encoding.paths(others), vocabulary)

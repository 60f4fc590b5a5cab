"""Bayesian ridge regression over flat or path features."""
from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from enas_jax.predictors.base import Prediction, Scale, standardise
from enas_jax.predictors.columns import Columns, check_features, columns
from enas_jax.predictors.encoding import GraphEncoding
from enas_jax.spaces.base import Graph


@dataclasses.dataclass(frozen=True)
class Ridge:
  """A linear model with penalty and noise found by maximal evidence (scikit-learn's BayesianRidge). The seed changes nothing.

  `std` is the posterior predictive's, the noise included.

  Attributes:
    encoding: the encoding of the space's graphs.
    features: 'flat' or 'paths' (`columns`).
  """

  encoding: GraphEncoding
  _: dataclasses.KW_ONLY
  features: str = 'flat'

  def __post_init__(self) -> None:
    """Raises UserError for unknown features."""
    check_features(self.features)

  def fit(self, graphs: Sequence[Graph], targets: Sequence[float], *, seed: int) -> FittedRidge:
    from sklearn.linear_model import BayesianRidge  # Half a second, for those who use it.

    del seed
    values, scale = standardise(graphs, targets)
    rows = columns(self.features, self.encoding, graphs)
    table = rows(graphs).astype(np.float64)
    center = table.mean(0)
    # The penalised solution lies in the span of the rows. In its coordinates the model is at most as wide as there are rows,
    # and its evidence the same.
    span = np.linalg.svd(table - center, full_matrices=False)[2]
    model = BayesianRidge(fit_intercept=False).fit((table - center) @ span.T, values)
    return FittedRidge(rows, center, span, model, scale)


@dataclasses.dataclass(frozen=True)
class FittedRidge:
  """A scikit-learn model over the coordinates in the span [R, F] of the centred training rows."""

  rows: Columns
  center: np.ndarray
  span: np.ndarray
  model: Any
  scale: Scale

  def predict(self, graphs: Sequence[Graph]) -> Prediction:
    if not graphs:
      return self.scale.restore(np.zeros(0), np.zeros(0))
    table = self.rows(graphs) - self.center
    inside = table @ self.span.T
    mean, std = self.model.predict(inside, return_std=True)
    # What no training row says anything about is as unsure as the prior, of precision lambda_.
    outside = np.maximum((table**2).sum(1) - (inside**2).sum(1), 0)
    return self.scale.restore(mean, np.sqrt(std**2 + outside / self.model.lambda_))

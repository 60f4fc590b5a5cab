"""Gradient-boosted regression trees over flat or path features."""
from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from enas_jax.predictors.base import Prediction, Scale, check_positive, standardise
from enas_jax.predictors.columns import Columns, check_features, columns
from enas_jax.predictors.encoding import GraphEncoding
from enas_jax.spaces.base import Graph


@dataclasses.dataclass(frozen=True)
class Trees:
  """scikit-learn's GradientBoostingRegressor, one member for each bootstrap sample. `std` is the members' standard deviation.

  The defaults rank NAS-Bench-201 at 20 to 200 rows better than random forests, extremely randomised trees and
  HistGradientBoostingRegressor, which is the slower one on so few.

  Attributes:
    encoding: the encoding of the space's graphs.
    features: 'flat' or 'paths' (`columns`).
    members: how many there are, >= 1. If there is one, `std` is 0.
    trees: how many trees a member has, >= 1.
    depth: the most levels of a tree, >= 1.
    learning_rate: the share of its fit that a tree adds, > 0.
  """

  encoding: GraphEncoding
  _: dataclasses.KW_ONLY
  features: str = 'flat'
  members: int = 5
  trees: int = 60
  depth: int = 4
  learning_rate: float = 0.15

  def __post_init__(self) -> None:
    """Raises UserError for a value out of range."""
    check_features(self.features)
    check_positive(self, 'members', 'trees', 'depth', 'learning_rate')

  def fit(self, graphs: Sequence[Graph], targets: Sequence[float], *, seed: int) -> FittedTrees:
    from sklearn.ensemble import GradientBoostingRegressor  # Half a second, for those who use it.

    values, scale = standardise(graphs, targets)
    rows = columns(self.features, self.encoding, graphs)
    table = rows(graphs)
    varying = np.flatnonzero(np.ptp(table, 0) > 0)  # No tree can split by the others.
    kept = varying if len(varying) else np.array([0])
    rng = np.random.default_rng(seed)
    models = []
    for _ in range(self.members):
      drawn = rng.integers(len(values), size=len(values))
      # A part of the rows and columns a tree ranks better than all of them, above all on 20 rows.
      model = GradientBoostingRegressor(
          n_estimators=self.trees, max_depth=self.depth, learning_rate=self.learning_rate,
          subsample=max(0.7, 1 / len(values)), max_features=0.3, random_state=int(rng.integers(2**31)))
      models.append(model.fit(table[drawn][:, kept], values[drawn]))
    return FittedTrees(rows, kept, tuple(models), scale)


@dataclasses.dataclass(frozen=True)
class FittedTrees:
  """The fitted members, which read the columns `kept`."""

  rows: Columns
  kept: np.ndarray
  models: tuple[Any, ...]
  scale: Scale

  def predict(self, graphs: Sequence[Graph]) -> Prediction:
    if not graphs:
      return self.scale.restore(np.zeros(0), np.zeros(0))
    table = self.rows(graphs)[:, self.kept]
    outputs = np.stack([model.predict(table) for model in self.models])
    return self.scale.restore(outputs.mean(0), outputs.std(0))

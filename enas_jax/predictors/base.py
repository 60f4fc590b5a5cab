"""The contract of predictors, which are regressors from graphs to one number each, with a spread."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from enas_jax.errors import UserError
from enas_jax.spaces.base import Graph

OUTLIER = 5.0  # Robust standard deviations from the median.


class Prediction(NamedTuple):
  """The predictions for B graphs, in the unit of the targets.

  Attributes:
    mean: float64 [B].
    std: one standard deviation, >= 0, float64 [B].
  """

  mean: np.ndarray
  std: np.ndarray


class Fitted(Protocol):
  """A predictor that has seen data."""

  def predict(self, graphs: Sequence[Graph]) -> Prediction:
    """Predicts the value of each graph. Raises UserError for a graph that the encoding does not take."""


class Predictor(Protocol):
  """The settings of a regressor, which do not change: the same graphs, targets and seed give the same fit."""

  def fit(self, graphs: Sequence[Graph], targets: Sequence[float], *, seed: int) -> Fitted:
    """Learns targets [B] of any unit. One row, or equal targets, suffice.

    Args:
      graphs: B graphs, at least one.
      targets: the value of each.
      seed: decides all that is random.

    Raises:
      UserError: as `standardise` and the encoding do.
    """


class Scale(NamedTuple):
  """The scale of targets: each is `unit` times what a predictor learns, plus `center`."""

  center: float
  unit: float

  def restore(self, mean: Any, std: Any) -> Prediction:
    """Returns a prediction in the unit of the targets, from that of standardised ones."""
    return Prediction(self.center + self.unit * np.asarray(mean, np.float64), self.unit * np.asarray(std, np.float64))


def standardise(graphs: Sequence[Graph], targets: Sequence[float]) -> tuple[np.ndarray, Scale]:
  """Returns targets [B] with mean 0 and standard deviation 1 (0 if all are equal), outliers drawn in first, and their scale.

  A target further than `OUTLIER` robust standard deviations (1.4826 median absolute deviations) from the median is moved to
  that distance: the few networks that learn nothing would else outweigh all differences among the rest. On NAS-Bench-201 (100
  rows) this takes the Spearman correlation of ridge over paths to 0.76, from 0.57 to 0.74 by the draw of the rows.

  Raises:
    UserError: there is no row, there is not one target for each graph, or a target is not finite.
  """
  values = np.asarray(targets, np.float64)
  if values.shape != (len(graphs),) or not len(graphs):
    raise UserError(f'predictor: targets of shape {values.shape} for {len(graphs)} graphs; give one a graph and at least one')
  if len(bad := np.flatnonzero(~np.isfinite(values))):
    raise UserError(f'predictor: target {values[bad[0]]} in row {bad[0]} ({len(bad)} in all) is not finite; leave them out')
  median = np.median(values)
  if spread := 1.4826 * np.median(np.abs(values - median)):  # 0 where most are equal: no measure of what is far.
    values = np.clip(values, median - OUTLIER * spread, median + OUTLIER * spread)
  scale = Scale(float(values.mean()), float(values.std()) or 1.0)
  return (values - scale.center) / scale.unit, scale


def check_positive(predictor: Any, *names: str) -> None:
  """Checks that these settings are above 0. Raises UserError, which names it, for one that is not."""
  for name in names:
    if not getattr(predictor, name) > 0:
      raise UserError(f'predictor: {name} {getattr(predictor, name)} is not above 0; give a positive {name}')

"""Measures how well predictions rank, which is what a search needs of a predictor."""
from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from enas_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class RankReport:
  """A report of how predictions rank B things, of which a higher value is better.

  Attributes:
    count: B.
    spearman, kendall: rank correlations (Kendall's tau-b), in [-1, 1]; NaN if either side is constant, which ranks nothing.
    top: k.
    precision: the share of the k predicted best that are among the k truly best (ties with the k-th count), in [0, 1].
    rank: the true rank of the predicted best, from 1.
    regret: how much the predicted best is below the truly best, >= 0, in the unit of the values.
    top_regret: the same for the best among the k predicted best.
  """

  count: int
  spearman: float
  kendall: float
  top: int
  precision: float
  rank: int
  regret: float
  top_regret: float


def rank_correlation(predicted: Sequence[float], actual: Sequence[float], *, top: int = 10) -> RankReport:
  """Compares the order of predictions with that of true values.

  Args:
    predicted: [B], B >= 2. Equal predictions rank in the order given.
    actual: the true values [B].
    top: k, how many of the predicted best are looked at, >= 1; it is cut to B.

  Raises:
    UserError: there are fewer than two values, lengths differ, a value is not finite, or `top` is below 1.
  """
  from scipy import stats  # Slow to import.

  guesses, truth = np.asarray(predicted, np.float64), np.asarray(actual, np.float64)
  if guesses.shape != truth.shape or guesses.ndim != 1 or len(truth) < 2:
    raise UserError(f'rank correlation: shapes {guesses.shape} and {truth.shape}; give two equally long rows of 2 or more')
  for name, values in (('predicted', guesses), ('actual', truth)):
    if bad := np.count_nonzero(~np.isfinite(values)):
      first = np.flatnonzero(~np.isfinite(values))[0]
      raise UserError(f'rank correlation: {name} {values[first]} at {first} ({bad} in all) is not finite; leave such pairs out')
  if top < 1:
    raise UserError(f'rank correlation: top {top} is below 1; give at least 1')
  top = min(top, len(truth))
  constant = np.ptp(guesses) == 0 or np.ptp(truth) == 0
  order = np.argsort(-guesses, kind='stable')[:top]
  best = truth.max()
  return RankReport(
      count=len(truth),
      spearman=float('nan') if constant else float(stats.spearmanr(guesses, truth).statistic),
      kendall=float('nan') if constant else float(stats.kendalltau(guesses, truth).statistic),
      top=top,
      precision=float((truth[order] >= np.sort(truth)[-top]).mean()),
      rank=1 + int((truth > truth[order[0]]).sum()),
      regret=float(best - truth[order[0]]),
      top_regret=float(best - truth[order].max()))

"""Rank correlations against plain pairs and ranks."""
import itertools

import numpy as np
import pytest

from enas_jax.predictors import rank_correlation


def test_correlations_are_those_of_ranks_and_pairs():
  rng = np.random.default_rng(0)
  predicted, actual = rng.permutation(12), rng.permutation(12)
  report = rank_correlation(predicted, actual)
  # Both are ranks already, without ties.
  assert report.spearman == pytest.approx(np.corrcoef(predicted, actual)[0, 1])
  pairs = [np.sign((predicted[i] - predicted[j]) * (actual[i] - actual[j])) for i, j in itertools.combinations(range(12), 2)]
  assert report.kendall == pytest.approx(np.mean(pairs))
  assert report.count == 12


def test_the_top_is_counted_by_hand():
  report = rank_correlation([5, 4, 3, 2, 1], [0.6, 0.9, 0.1, 0.8, 0.7], top=2)
  assert (report.top, report.precision, report.rank) == (2, 0.5, 4)
  assert (report.regret, report.top_regret) == (pytest.approx(0.3), 0)


def test_ties_with_the_last_of_the_top_count():
  assert rank_correlation([3, 2, 1, 0], [0.5, 0.5, 0.5, 0.9], top=2).precision == 1


@pytest.mark.parametrize(('sign', 'rank', 'precision'), [(1, 1, 1), (-1, 30, 0)])
def test_perfect_and_reversed(sign, rank, precision):
  actual = np.random.default_rng(0).permutation(30) / 30
  report = rank_correlation(sign * actual, actual)
  assert report.spearman == pytest.approx(sign) and report.kendall == pytest.approx(sign)
  assert (report.rank, report.precision) == (rank, precision)


def test_a_constant_ranks_nothing():
  report = rank_correlation([1, 1, 1], [0.1, 0.2, 0.3], top=50)
  assert np.isnan(report.spearman) and np.isnan(report.kendall) and report.top == 3 and report.rank == 3


def test_bad_input_is_a_user_error(user_error):
  with user_error('predicted nan at 1', '2 in all'):
    rank_correlation([1, float('nan'), float('inf')], [1, 2, 3])
  with user_error('actual inf at 0'):
    rank_correlation([1, 2], [float('inf'), 2])
  for predicted, actual in (([1, 2], [1, 2, 3]), ([1], [1]), ([[1, 2]], [[1, 2]])):
    with user_error(np.shape(predicted), np.shape(actual)):
      rank_correlation(predicted, actual)
  with user_error('top 0'):
    rank_correlation([1, 2], [1, 2], top=0)

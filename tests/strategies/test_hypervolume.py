import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enas_jax.strategies.hypervolume import hypervolume

BOTH_DOWN = [False, False]
fronts = st.integers(2, 4).flatmap(lambda m: st.lists(st.tuples(*[st.integers(0, 12)] * m), min_size=1, max_size=6))


def inclusion_exclusion(points, reference):
  """The volume of a union of boxes, each from a point to the reference, as signed volumes of their intersections."""
  total = 0
  for size in range(1, len(points) + 1):
    for subset in itertools.combinations(points, size):
      total -= (-1)**size * np.prod(np.maximum(0, np.subtract(reference, np.max(subset, axis=0))))
  return total


@given(fronts)
def test_it_is_inclusion_and_exclusion(points):
  reference = [10] * len(points[0])
  volume = hypervolume(points, reference, [False] * len(reference))
  assert volume == pytest.approx(inclusion_exclusion(points, reference), abs=1e-9)


@pytest.mark.parametrize(('points', 'area'), [
    ([(0.9, 100)], 0.9 * 900),
    ([(0.9, 100), (0.8, 100)], 0.9 * 900),  # Dominated.
    ([(0.9, 500), (0.5, 100)], 0.9 * 500 + 0.5 * 400),
    ([(0.9, 1000), (0.0, 100), (0.9, 2000)], 0),  # None better than the reference in both.
    ([], 0)])
def test_areas_by_hand(points, area):
  assert hypervolume(points, [0, 1000], [True, False]) == pytest.approx(area)


def test_a_direction_is_a_sign():
  points = np.random.default_rng(0).random((20, 3))
  up = hypervolume(points, [0, 0, 0], [True] * 3)
  assert up == pytest.approx(hypervolume(-points, [0, 0, 0], [False] * 3)) and 0 < up < 1


def test_the_points_are_left_as_they_are():
  points = np.array([[1.0, 2.0]])
  hypervolume(points, [3, 3], BOTH_DOWN)
  hypervolume(points, [0, 0], [True, True])
  assert points.tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
def test_values_must_be_finite(value, user_error):
  with user_error('points', 'not finite'):
    hypervolume([(0.5, value)], [1, 1], BOTH_DOWN)
  with user_error('reference', 'not finite'):
    hypervolume([(0.5, 0.5)], [1, value], BOTH_DOWN)


@pytest.mark.parametrize(('points', 'reference', 'maximise'), [
    ([(1, 2, 3)], [4, 4], BOTH_DOWN), ([1, 2], [4, 4], BOTH_DOWN), ([(1, 2)], [4], BOTH_DOWN), ([(1, 2)], [4, 4], [True])])
def test_shapes_must_match(points, reference, maximise, user_error):
  with user_error('do not match'):
    hypervolume(points, reference, maximise)

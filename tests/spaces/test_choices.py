"""Spaces of independent choices: what follows from the choices."""
import dataclasses
import itertools

import numpy as np
import pytest

from enas_jax.registry import check_methods
from enas_jax.spaces import Choices, SearchSpace


@dataclasses.dataclass(frozen=True)
class Pair:
  first: str
  second: str


@dataclasses.dataclass(frozen=True)
class Pairs(Choices[Pair]):
  name = 'pairs'
  options = (('a', 'b', 'c'), ('x', 'y'))

  def member(self, chosen):
    return Pair(*chosen)

  def chosen(self, architecture):
    return dataclasses.astuple(architecture)

  def num_params(self, architecture, task):
    return 1

  def macs(self, architecture, task):
    return 1

  def from_json(self, record):
    return Pair(**record)


SPACE = Pairs()
ALL = [Pair(*pair) for pair in itertools.product('abc', 'xy')]


def test_it_is_a_space():
  check_methods(SPACE, SearchSpace, 'pairs')
  assert SPACE.size() == 6 and SPACE.max_nodes == 4 and SPACE.labels == ('input', 'a', 'b', 'c', 'x', 'y', 'output')


def test_keys_are_places_in_the_enumeration_and_texts_are_read_back():
  assert [SPACE.key(member) for member in ALL] == list(range(6))
  assert [SPACE.from_string(SPACE.to_string(member)) for member in ALL] == ALL
  for member in ALL:
    SPACE.check(member)


def test_neighbours_differ_at_one_place():
  for member in ALL:
    expected = {m for m in ALL if (m.first == member.first) != (m.second == member.second)}
    assert set(neighbours := list(SPACE.neighbours(member))) == expected and len(neighbours) == 3
    assert SPACE.mutate(member, np.random.default_rng(0)) in expected


def test_draws_are_uniform():
  rng = np.random.default_rng(0)
  counts = [0] * 6
  for _ in range(6000):
    counts[SPACE.key(SPACE.sample(rng))] += 1
  assert min(counts) > 880 and max(counts) < 1120


def test_the_graph_is_a_path():
  assert SPACE.graph(Pair('b', 'x')) == (('input', 'b', 'x', 'output'), ((0, 1), (1, 2), (2, 3)))


@pytest.mark.parametrize(('text', 'message'), [
    ('a', "pairs: 1 options ('a',); give 2"), ('a,z', "pairs: 'z' at place 1 is not one of x, y"), ('', "give 2")])
def test_texts_that_are_none(user_error, text, message):
  with user_error(message):
    SPACE.from_string(text)


def test_what_is_no_member(user_error):
  with user_error("'a' is not a member of pairs"):
    SPACE.check('a')
  with user_error("pairs: 'z' at place 0 is not one of a, b, c"):
    SPACE.check(Pair('z', 'x'))


def test_a_space_too_large_for_whole_numbers_has_texts_for_keys():
  large = type('Large', (Pairs,), {'options': (('a', 'b'),) * 64, 'chosen': lambda self, a: a, 'member': lambda self, c: c})()
  assert large.key(('a',) * 64) == b','.join([b'a'] * 64)

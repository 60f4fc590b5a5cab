"""What every space does; each of spaces.SPACES as its default settings make it."""
import json

import numpy as np
import pytest

from enas_jax import spaces
from enas_jax.config import get_config
from enas_jax.errors import UserError
from enas_jax.registry import check_methods
from enas_jax.spaces import HasDepthAndWidth, SearchSpace
from enas_jax.types import Architecture, HasSummary, Task

pytestmark = pytest.mark.smoke
TASK = Task((32, 32, 3), 10)
DRAWS = 10


def space_named(name):
  config = get_config()
  config.space = name
  return spaces.make(config)


every_space = pytest.mark.parametrize('space', [space_named(name) for name in spaces.SPACES], ids=list(spaces.SPACES))


def draws(space, seed=0):
  rng = np.random.default_rng(seed)
  return [space.sample(rng) for _ in range(DRAWS)]


@every_space
def test_the_seed_alone_decides(space):
  assert draws(space, 1) == draws(space, 1) != draws(space, 2)


@every_space
def test_members_pass_the_check_and_are_values(space):
  for architecture in draws(space):
    space.check(architecture)
    assert hash(architecture) == hash(space.from_json(architecture.to_json()))
    assert str(architecture) and '\n' not in str(architecture)


@every_space
def test_json_and_text_go_both_ways(space):
  for architecture in draws(space):
    record = json.loads(json.dumps(architecture.to_json()))
    assert record['space'] == space.name and record['version'] >= 1
    assert space.from_json(record) == architecture
    assert space.from_string(space.to_string(architecture)) == architecture


@every_space
@pytest.mark.parametrize('text', ['', 'nonsense', '0', '|', '[[1]]'])
def test_other_text_is_a_user_error(space, text, user_error):
  with user_error(space.name):
    space.from_string(text)


@every_space
def test_other_records_are_user_errors(space, user_error):
  record = draws(space)[0].to_json()
  for broken in (None, [], {}, {**record, 'space': 'other'}, {**record, 'version': 99}, {**record, 'more': 1}):
    with user_error('architecture'):
      space.from_json(broken)


@every_space
def test_a_mutant_is_a_neighbour(space):
  rng = np.random.default_rng(0)
  for architecture in draws(space)[:3]:
    neighbours = list(space.neighbours(architecture))
    assert len(set(neighbours)) == len(neighbours) > 0
    assert architecture not in neighbours
    for neighbour in neighbours:
      space.check(neighbour)
    assert all(space.mutate(architecture, rng) in neighbours for _ in range(5))


@every_space
def test_graphs_are_sorted_and_labelled_by_the_space(space):
  for architecture in draws(space):
    graph = space.graph(architecture)
    assert 0 < len(graph.operations) <= space.max_nodes
    assert set(graph.operations) <= set(space.labels)
    assert all(0 <= i < j < len(graph.operations) for i, j in graph.edges)
    assert len(set(graph.edges)) == len(graph.edges)


@every_space
def test_identity_is_a_function_of_the_member(space):
  for architecture in draws(space):
    again = space.from_json(architecture.to_json())
    assert space.identity(architecture) == space.identity(again)


@every_space
def test_no_method_or_property_of_the_contract_is_missing(space):
  check_methods(space, SearchSpace, space.name)
  for architecture in draws(space)[:1]:
    check_methods(architecture, Architecture, space.name)


@every_space
def test_size_steps_count_from_the_smallest_depth_and_the_largest_width(space):
  assert isinstance(space, HasDepthAndWidth) == (space.name == 'chain')
  if isinstance(space, HasDepthAndWidth):
    for architecture in draws(space):
      layers, steps = space.size_steps(architecture)
      assert (space.depths[layers], space.widths[steps]) == (architecture.depth, architecture.width)


@every_space
def test_a_summary_is_short(space):
  for architecture in draws(space):
    if isinstance(architecture, HasSummary):
      assert 0 < len(architecture.summary()) <= 80 and '\n' not in architecture.summary()


@every_space
def test_sizes_are_positive_whole_numbers(space):
  assert space.size() > 1
  for architecture in draws(space):
    assert isinstance(space.num_params(architecture, TASK), int) and space.num_params(architecture, TASK) > 0
    assert isinstance(space.macs(architecture, TASK), int) and space.macs(architecture, TASK) > 0


def test_an_unknown_space_names_the_known():
  config = get_config()
  config.space = 'hill'
  with pytest.raises(UserError, match=r"'hill'.*chain"):
    spaces.make(config)

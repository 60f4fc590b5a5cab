"""The chain space against the paper's logs, brute force and plain counting."""
import collections
import itertools
import json
import pathlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enas_jax import spaces
from enas_jax.config import get_config
from enas_jax.spaces import ChainArchitecture, ChainSpace
from enas_jax.types import Task

LOGS = pathlib.Path(__file__).parents[2] / '../shared/data/egnas/search_logs.json'
TASKS = {
    'CIFAR10': Task((32, 32, 3), 10),
    'CIFAR100': Task((32, 32, 3), 100),
    'FashionMNIST': Task((28, 28, 1), 10),
    'KMNIST': Task((28, 28, 1), 10),
    'EMNIST': Task((28, 28, 1), 47),
}
# (data set, depth, width, ordinary convolution at, 5x5 at, params in M, multiply-adds in M): EG-NAS's final networks.
PUBLISHED = [
    ('CIFAR10', 26, 46, (0, 2), (13, 17), 0.466, 117),
    ('CIFAR10', 21, 102, (0, 1, 5, 8, 13), (10,), 2.494, 749),
    ('CIFAR100', 21, 56, (), (3,), 0.489, 78),
    ('CIFAR100', 21, 46, (1,), (), 0.354, 70),
    ('CIFAR100', 21, 118, (1, 12), (7,), 2.593, 547),
    ('FashionMNIST', 18, 54, (1, 5, 9), (8,), 0.508, 100),
    ('FashionMNIST', 16, 120, (1, 2, 4, 8, 11, 15), (6, 12), 6.160, 730),
    ('KMNIST', 18, 50, (2, 10), (17,), 0.420, 71),
    ('KMNIST', 24, 120, (0, 1), (), 2.711, 553),
    ('EMNIST', 17, 50, (1, 4, 5), (11, 13), 0.406, 76),
    ('EMNIST', 21, 106, (0, 3, 10), (), 2.253, 475),
]
TINY = ChainSpace(min_depth=3, max_depth=4, min_width=1, max_width=5, width_step=2)

layers = st.lists(st.tuples(st.sampled_from((0, 1)), st.sampled_from((3, 5, 7))), min_size=3, max_size=30)
architectures = st.builds(lambda width, pairs: ChainArchitecture(width, *zip(*pairs, strict=True)), st.integers(1, 300), layers)


def published(depth, width, convolutions, fives):
  return ChainArchitecture(
      width, tuple(int(i in convolutions) for i in range(depth)), tuple(5 if i in fives else 3 for i in range(depth)))


def members(space):
  """Every member, by brute force."""
  pairs = list(itertools.product((0, 1), space.kernels))
  return [
      ChainArchitecture(width, *zip(*choice, strict=True))
      for width in range(space.max_width, space.min_width - 1, -space.width_step)
      for depth in range(space.min_depth, space.max_depth + 1)
      for choice in itertools.product(pairs, repeat=depth)]


@pytest.mark.skipif(not LOGS.exists(), reason=f'the published logs are not at {LOGS}')
def test_params_are_those_of_every_published_log():
  count = 0
  for log in json.loads(LOGS.read_text()):
    for record in log['candidates']:
      architecture = ChainArchitecture(
          record['width'], tuple(map(int, record['operations'])), tuple(map(int, record['kernels'])))
      assert ChainSpace().num_params(architecture, TASKS[log['dataset']]) == round(1e6 * record['params_M'])
      count += 1
  assert count == 484


@pytest.mark.parametrize(('name', 'depth', 'width', 'convolutions', 'fives', 'params', 'macs'), PUBLISHED)
def test_published_networks(name, depth, width, convolutions, fives, params, macs):
  architecture = published(depth, width, convolutions, fives)
  assert round(ChainSpace().num_params(architecture, TASKS[name]) / 1e6, 3) == params
  assert round(ChainSpace().macs(architecture, TASKS[name]) / 1e6) == macs


def test_params_and_macs_by_hand():
  architecture = ChainArchitecture(2, (0, 1, 0), (3, 5, 3))  # Stages of 2, 4, 8 channels on 7x7, 4x4, 2x2.
  task = Task((7, 7, 3), 5)
  stem = 9 * 3 * 4
  body = [(9 * 4 + 4 * 2), 25 * 2 * 4, (9 * 4 + 4 * 8)]
  assert ChainSpace().num_params(architecture, task) == stem + 2 * 4 + sum(body) + 2 * (2 + 4 + 8) + 8 * 5 + 5
  assert ChainSpace().macs(architecture, task) == 49 * stem + 49 * body[0] + 16 * body[1] + 4 * body[2] + 8 * 5


def test_layers_of_the_smallest_depths():
  for depth, strides in ((3, [1, 2, 2]), (4, [1, 2, 2, 1]), (5, [1, 2, 1, 2, 1])):
    assert [layer.stride for layer in ChainArchitecture.uniform(depth, 2).layers()] == strides
  assert [layer.in_channels for layer in ChainArchitecture.uniform(5, 2).layers()] == [4, 2, 4, 4, 8]
  assert [layer.out_channels for layer in ChainArchitecture.uniform(5, 2).layers()] == [2, 4, 4, 8, 8]


def test_size_is_the_number_of_members():
  assert TINY.size() == len(members(TINY)) == len(set(members(TINY))) == 3 * (4**3 + 4**4)
  assert ChainSpace(min_depth=3, max_depth=3, min_width=1, max_width=1, kernels=(3,)).size() == 8
  paper = ChainSpace()
  assert paper.size() == 25 * (4**101 - 4**10) // 3  # The geometric sum.
  assert 5e61 < paper.size() < 6e61
  assert list(ChainSpace(min_width=16, max_width=21, width_step=2).widths) == [21, 19, 17]


def test_every_member_is_one_and_its_own():
  for architecture in members(TINY):
    TINY.check(architecture)
    assert TINY.from_json(architecture.to_json()) == architecture


def test_sample_is_uniform_over_depth_width_and_layers():
  rng = np.random.default_rng(0)
  drawn = [TINY.sample(rng) for _ in range(3000)]
  for architecture in drawn:
    TINY.check(architecture)

  def even(values, expected):
    counts = collections.Counter(values)
    assert counts.keys() == set(expected)
    mean = sum(counts.values()) / len(counts)
    statistic = sum((count - mean)**2 / mean for count in counts.values())
    assert statistic < 20  # Chi squared of at most 3 degrees of freedom passes 20 with probability 2e-4; the seed is fixed.

  even([a.depth for a in drawn], (3, 4))
  even([a.width for a in drawn], (1, 3, 5))
  even([o for a in drawn for o in a.operations], (0, 1))
  even([k for a in drawn for k in a.kernels], (3, 5))
  assert all(type(x) is int for a in drawn for x in (a.width, *a.operations, *a.kernels))


def test_sample_repeats_with_the_seed():
  assert TINY.sample(np.random.default_rng(7)) == TINY.sample(np.random.default_rng(7))


def test_neighbours_are_distinct_members_one_change_away():
  def changes(one, other):
    if one.depth != other.depth:
      short, long = sorted((one, other), key=lambda a: a.depth)
      same = long.operations[:short.depth] == short.operations and long.kernels[:short.depth] == short.kernels
      return long.depth - short.depth + (not same) + (one.width != other.width)
    differ = sum(x != y for x, y in zip(one.operations + one.kernels, other.operations + other.kernels, strict=True))
    return differ + abs(one.width - other.width) // TINY.width_step

  for architecture in members(TINY):
    neighbours = list(TINY.neighbours(architecture))
    assert len(neighbours) == len(set(neighbours))
    assert architecture not in neighbours
    for neighbour in neighbours:
      TINY.check(neighbour)
      assert changes(architecture, neighbour) == 1
    widths = {1: 1, 3: 2, 5: 1}[architecture.width]
    assert len(neighbours) == 1 + widths + 2 * architecture.depth


def test_steps_lead_back_except_a_removed_layer_unlike_the_one_before():
  for architecture in members(TINY):
    for neighbour in TINY.neighbours(architecture):
      removed = neighbour.depth < architecture.depth
      last, before = list(zip(architecture.operations, architecture.kernels, strict=True))[:-3:-1]
      assert (architecture in TINY.neighbours(neighbour)) == (not (removed and last != before))


def test_mutate_is_uniform_over_neighbours():
  rng = np.random.default_rng(0)
  architecture = ChainArchitecture(3, (0, 1, 0), (3, 5, 3))
  neighbours = list(TINY.neighbours(architecture))
  counts = collections.Counter(TINY.mutate(architecture, rng) for _ in range(2000))
  assert counts.keys() == set(neighbours)
  assert min(counts.values()) > 0.75 * 2000 / len(neighbours)


def test_the_smallest_space_still_has_neighbours():
  space = ChainSpace(min_depth=3, max_depth=3, min_width=2, max_width=2, kernels=(3,))
  assert len(list(space.neighbours(ChainArchitecture.uniform(3, 2)))) == 3


@given(architectures)
def test_json_both_ways(architecture):
  record = json.loads(json.dumps(architecture.to_json()))
  assert ChainSpace().from_json(record) == architecture
  assert hash(ChainSpace().from_json(record)) == hash(architecture)


@given(architectures)
def test_graph_is_a_path_of_the_layers(architecture):
  graph = ChainSpace().graph(architecture)
  assert len(graph.operations) == architecture.depth + 4
  assert graph.edges == tuple((i, i + 1) for i in range(architecture.depth + 3))
  for label, operation, kernel in zip(graph.operations[2:-2], architecture.operations, architecture.kernels, strict=True):
    assert label == f"{('separable convolution', 'convolution')[operation]} {kernel}x{kernel}"


RECORD = ChainArchitecture(4, (0, 1, 0), (3, 5, 3)).to_json()


@pytest.mark.parametrize(('record', 'parts'), [
    (None, ['None is not a record']),
    ([1], ['[1] is not a record']),
    ({}, ['space None', "'chain'"]),
    ({**RECORD, 'space': 'cell\n'}, [r"'cell\n'", "'chain'"]),
    ({**RECORD, 'version': 2}, ['version 2 is not 1']),
    ({k: v for k, v in RECORD.items() if k != 'kernels'}, ["['kernels']", 'missing']),
    ({**RECORD, 'stride': 1}, ["['stride']", 'unknown']),
    ({**RECORD, 'width': 4.0}, ['width 4.0', 'integer']),
    ({**RECORD, 'width': True}, ['width True', 'integer']),
    ({**RECORD, 'width': '4'}, ["width '4'", 'integer']),
    ({**RECORD, 'width': 0}, ['width 0', 'positive']),
    ({**RECORD, 'width': -4}, ['width -4', 'positive']),
    ({**RECORD, 'operations': [0, 1, 0]}, ['operations [0, 1, 0]', 'digits']),
    ({**RECORD, 'operations': ''}, ["operations ''", 'digits']),
    ({**RECORD, 'operations': '01²'}, ['operations', 'digits']),
    ({**RECORD, 'operations': '0 1'}, ['operations', 'digits']),
    ({**RECORD, 'kernels': None}, ['kernels None', 'digits']),
    ({**RECORD, 'operations': '012'}, ['operation 2 at layer 2', '(0, 1)']),
    ({**RECORD, 'kernels': '343'}, ['kernel 4 at layer 1', '(3, 5, 7)']),
    ({**RECORD, 'kernels': '33'}, ['2 kernels', '3 operations']),
    ({**RECORD, 'operations': '01', 'kernels': '33'}, ['depth 2', 'at least 3']),
])
def test_bad_records_are_told_in_one_line(record, parts, user_error):
  with user_error(*parts):
    ChainSpace().from_json(record)


@pytest.mark.parametrize(('settings', 'parts'), [
    ({'min_depth': 2}, ['depths 2 to 100', '3 <= min_depth']),
    ({'min_depth': 9, 'max_depth': 8}, ['depths 9 to 8']),
    ({'min_width': 0}, ['widths 0 to 64', '1 <= min_width']),
    ({'min_width': 65}, ['widths 65 to 64']),
    ({'width_step': 0}, ['width_step 0', 'at least 1']),
    ({'kernels': ()}, ['kernels ()', '(3, 5, 7)']),
    ({'kernels': (3, 4)}, ['kernels (3, 4)', '(3, 5, 7)']),
    ({'kernels': (3, 3)}, ['kernels (3, 3)', 'once']),
])
def test_bad_spaces_are_told_in_one_line(settings, parts, user_error):
  with user_error('chain:', *parts):
    ChainSpace(**settings)


@pytest.mark.parametrize(('architecture', 'parts'), [
    (ChainArchitecture.uniform(5, 3), ['depth 5', '3 to 4']),
    (ChainArchitecture.uniform(3, 7), ['width 7', '1 to 5 in steps of 2']),
    (ChainArchitecture.uniform(3, 2), ['width 2', '1 to 5 in steps of 2']),
    (ChainArchitecture(3, (0, 0, 0), (3, 3, 7)), ['kernel 7 at layer 2', '(3, 5)']),
    ('010', ["'010'", 'not a chain']),
])
def test_strangers_are_told_in_one_line(architecture, parts, user_error):
  with user_error(*parts):
    TINY.check(architecture)


def test_make_reads_the_config(user_error):
  config = get_config()
  config.chain.max_depth = 5
  space = spaces.make(config)
  assert isinstance(space, ChainSpace)
  assert space.max_depth == 5
  config.space = 'tree'
  with user_error("config.space 'tree'", 'chain'):
    spaces.make(config)


@pytest.mark.parametrize(('architecture', 'text'), [
    (ChainArchitecture.uniform(3, 1), 'depth 3, width 1'),
    (ChainArchitecture(46, (0, 1, 1, 0), (3, 3, 3, 3)), 'depth 4, width 46, 2 convolutions'),
    (ChainArchitecture(8, (0, 1, 0), (3, 5, 3)), 'depth 3, width 8, 1 convolution, 1 large kernel'),
    (ChainArchitecture(8, (0, 0, 0), (5, 3, 7)), 'depth 3, width 8, 2 large kernels'),
])
def test_summaries_name_what_is_not_the_plainest_layer(architecture, text):
  assert architecture.summary() == text


def test_size_steps_round_down_below_a_space():
  assert TINY.size_steps(ChainArchitecture.uniform(4, 5)) == (1, 0)
  assert TINY.size_steps(ChainArchitecture.uniform(3, 2)) == (0, 1)

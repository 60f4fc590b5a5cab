"""The NAS-Bench-101 space against the official tests and files, networkx, brute force and 30,001 measured cells."""
import functools
import itertools
import os
import pathlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enas_jax.errors import UserError
from enas_jax.spaces.nasbench101 import NasBench101Architecture, NasBench101Space
from enas_jax.spaces.nasbench101_graph import LABELS, OPERATIONS, enumerate_cells, live_vertices, module_hash, texts
from enas_jax.types import Task

SUBSET = pathlib.Path(__file__).parents[2] / '../shared/data/nasbench/nb101_subset30k.npz'
CIFAR10 = Task((32, 32, 3), 10)
SPACE = NasBench101Space()
CONV3, CONV1, POOL = OPERATIONS
CHAIN = NasBench101Architecture(((0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1), (0, 0, 0, 0)), ('input', CONV3, POOL, 'output'))
DIAMOND = ((0, 1, 1, 0), (0, 0, 0, 1), (0, 0, 0, 1), (0, 0, 0, 0))

# Cells and parameters as the official files have them: from NASBench.ipynb of google-research/nasbench (the Inception-like
# cell) and from what two users printed of `nasbench_only108.tfrecord`.
OFFICIAL = [
    ('0111100000000100000010000001000001000000010000000:'
     'input,conv3x3-bn-relu,conv1x1-bn-relu,maxpool3x3,conv3x3-bn-relu,conv3x3-bn-relu,output', 2694282),
    ('0100110001000000010010000010000001000000010000000:'
     'input,conv3x3-bn-relu,maxpool3x3,conv3x3-bn-relu,conv3x3-bn-relu,conv1x1-bn-relu,output', 8555530),
    ('0101000001011000000010000100000001000000010000000:'
     'input,maxpool3x3,conv3x3-bn-relu,maxpool3x3,conv1x1-bn-relu,maxpool3x3,output', 3468426),
]

members = st.integers(0, 2**32 - 1).map(lambda seed: SPACE.sample(np.random.default_rng(seed)))


def cell(matrix, operations=None):
  """With 3x3 convolutions where nothing else is said."""
  return NasBench101Architecture(matrix, operations or ('input', *[CONV3] * (len(matrix) - 2), 'output'))


def cell_labels(size):
  return ('input', *[CONV1] * (size - 2), 'output')


@functools.cache
def all_cells():
  return tuple(text.decode() for text in texts(enumerate_cells()).tolist())


def edges_of(size, edges):
  return [[int((i, j) in edges) for j in range(size)] for i in range(size)]


def orders(architecture):
  """Every order of the vertices in which edges still go forward."""
  last = len(architecture.matrix) - 1
  for inner in itertools.permutations(range(1, last)):
    order = (0, *inner, last)
    if all(i < j for i, u in enumerate(order) for j, v in enumerate(order) if architecture.matrix[u][v]):
      yield order


def reordered(architecture, order):
  matrix = [[architecture.matrix[u][v] for v in order] for u in order]
  return cell(matrix, tuple(architecture.operations[v] for v in order))


def as_networkx(networkx, architecture):
  graph = networkx.DiGraph()
  graph.add_nodes_from((v, {'label': label}) for v, label in enumerate(architecture.operations))
  graph.add_edges_from(SPACE.graph(architecture).edges)
  return graph


def test_the_space_has_exactly_the_published_number_of_cells():
  cells = enumerate_cells()
  assert len(cells.vertices) == len(set(all_cells())) == SPACE.size() == 423_624
  assert (cells.adjacency.sum((1, 2)) <= 9).all()


def test_small_cells_are_those_of_the_official_script_by_brute_force():
  """As generate_graphs.py goes: every matrix and labelling in turn, kept where its hash is new."""
  expected = {}
  for size in range(2, 6):
    for bits in range(2**(size * (size - 1) // 2)):
      matrix = [[int(x < y and bits >> (x + y * (y - 1) // 2) & 1) for y in range(size)] for x in range(size)]
      if len(live_vertices(matrix)) == size and sum(map(sum, matrix)) <= 9:
        for inner in itertools.product(OPERATIONS, repeat=size - 2):
          operations = ('input', *inner, 'output')
          expected.setdefault(module_hash(matrix, operations), cell(matrix, operations).cell)
  assert len(expected) == 1 + 6 + 84 + 2441
  assert all_cells()[:len(expected)] == tuple(expected.values())


def test_cells_are_written_as_in_the_official_files():
  for text, params in OFFICIAL:
    assert text in all_cells()
    assert SPACE.num_params(SPACE.from_string(text), CIFAR10) == params


@pytest.mark.once
@pytest.mark.slow
def test_the_official_hash_tells_all_cells_apart():
  step = 1 if 'ENAS_JAX_THOROUGH' in os.environ else 4  # All: forty seconds of MD5.
  cells = [part[::step] for part in enumerate_cells()]
  hashes = {
      module_hash(matrix[:size, :size].tolist(), [LABELS[code] for code in codes[:size]])
      for matrix, codes, size in zip(*cells, strict=True)}
  assert len(hashes) == len(cells[0]) == -(-SPACE.size() // step)


@pytest.mark.skipif(not SUBSET.exists(), reason=f'the measured cells are not at {SUBSET}')
@pytest.mark.parametrize('step', [10, pytest.param(1, marks=[pytest.mark.slow, pytest.mark.once])])  # All: ten seconds.
def test_hashes_and_parameters_are_the_measured_ones(step):
  with np.load(SUBSET) as archive:
    data = {name: archive[name][::step] for name in ('adj', 'ops', 'n_vertices', 'hash', 'params')}
  for matrix, codes, size, key, params in zip(*data.values(), strict=True):
    architecture = cell(matrix[:size, :size].tolist(), tuple(LABELS[code] for code in codes[:size]))
    assert SPACE.key(architecture) == key
    assert SPACE.num_params(architecture, CIFAR10) == params


@given(members, st.randoms(use_true_random=False))
def test_isomorphic_cells_have_one_identity(architecture, random):
  other = reordered(architecture, random.choice(list(orders(architecture))))
  assert SPACE.identity(other) == SPACE.identity(architecture)


def test_identity_agrees_with_networkx():
  networkx = pytest.importorskip('networkx')
  rng = np.random.default_rng(0)
  agreed = {True: 0, False: 0}
  for text in rng.choice(all_cells()[:2532], 300):
    first = SPACE.from_string(text)
    # Either reordered or with one change, so that equal degrees are common.
    second = reordered(first, list(orders(first))[-1]) if rng.integers(2) else SPACE.mutate(first, rng)
    isomorphic = networkx.is_isomorphic(
        as_networkx(networkx, first), as_networkx(networkx, second), node_match=lambda a, b: a['label'] == b['label'])
    assert (SPACE.identity(first) == SPACE.identity(second)) == isomorphic
    agreed[isomorphic] += 1
  assert min(agreed.values()) > 100


def test_identity_in_the_official_tests_tricky_cases():
  """graph_util_test.py: it must look at degrees, directions, and more than neighbours."""
  for edges, inner in (({(0, 1), (1, 2), (2, 3), (3, 4)}, (CONV1, CONV3, CONV3)),
                       ({(0, 1), (0, 3), (1, 2), (2, 3)}, (CONV1, CONV3))):
    matrix = edges_of(len(inner) + 2, edges)
    assert module_hash(matrix, ('input', *inner, 'output')) != module_hash(matrix, ('input', *inner[::-1], 'output'))
  regular = {(0, 1), (1, 2), (1, 3), (2, 4), (3, 4), (4, 6), (5, 6), (6, 7)}
  first = edges_of(8, regular | {(1, 6), (2, 5), (3, 5)})
  second = edges_of(8, regular | {(1, 5), (2, 6), (3, 5)})
  assert module_hash(first, cell_labels(8)) != module_hash(second, cell_labels(8))


@pytest.mark.parametrize(('edges', 'size', 'kept'), [
    ({(0, 1), (1, 2)}, 3, (0, 1, 2)),
    ({(0, 1), (0, 2), (1, 2)}, 3, (0, 1, 2)),
    ({(0, 1), (1, 3)}, 4, (0, 1, 3)),  # An island.
    ({(0, 1), (1, 4), (2, 3)}, 5, (0, 1, 4)),
    ({(0, 1), (0, 2), (2, 3)}, 4, (0, 2, 3)),  # A dead end.
    ({(0, 2), (1, 3), (2, 3)}, 4, (0, 2, 3)),  # Nothing comes in.
])
def test_pruning_as_in_the_official_tests(edges, size, kept):
  names = ('input', *itertools.islice(itertools.cycle((CONV1, POOL, CONV3)), size - 2), 'output')
  architecture = cell(edges_of(size, edges), names)
  assert architecture.operations == tuple(names[v] for v in kept)
  assert [[int((u, v) in edges) for v in kept] for u in kept] == [list(row) for row in architecture.matrix]


def test_the_limits_hold_after_pruning():
  """As api.py checks the pruned cell: dead parts may be as large as they like."""
  dead = edges_of(12, {(0, 11), *((i, j) for i in range(1, 11) for j in range(i + 1, 11))})
  assert cell(dead).cell == '0100:input,output'


@pytest.mark.parametrize(('out_channels', 'edges', 'channels'), [
    (16, {(0, 1), (1, 2), (2, 3)}, (8, 16, 16, 16)),
    (5, {(0, 1)}, (8, 5)),
    (16, {(0, 1), (0, 2), (1, 3), (2, 3), (3, 4)}, (8, 16, 16, 16, 16)),
    (15, {(0, 1), (0, 2), (1, 3), (2, 3)}, (8, 8, 7, 15)),
    (8, {(0, 1), (0, 2), (0, 3), (1, 4), (2, 4), (3, 4)}, (8, 3, 3, 2, 8)),
    (9, {(0, 1), (1, 2), (1, 3), (2, 4), (3, 4)}, (8, 5, 5, 4, 9)),
    (15, {(0, 1), (0, 3), (1, 2), (1, 4), (2, 3), (3, 4)}, (8, 8, 7, 7, 15)),
])
def test_channels_as_in_the_official_tests(out_channels, edges, channels):
  assert cell(edges_of(len(channels), edges))._vertex_channels(8, out_channels) == channels


def test_the_order_of_vertices_can_decide_a_remainder():
  three = edges_of(5, {(0, 1), (0, 2), (0, 3), (1, 4), (2, 4), (3, 4)})
  first, second = (cell(three, ('input', *inner, 'output')) for inner in ((CONV3, CONV1, POOL), (POOL, CONV1, CONV3)))
  assert SPACE.identity(first) == SPACE.identity(second)
  assert SPACE.num_params(first, CIFAR10) > SPACE.num_params(second, CIFAR10)  # 43 against 42 channels.


def test_params_and_macs_by_hand():
  """Stem 1 -> 4 on 5x3, a module of 4 channels there, one of 8 on 3x2, head; the cell: projection, 3x3 convolution, pooling."""
  tiny = NasBench101Space(channels=4, cells=1, stacks=2)
  architecture = tiny.from_string(CHAIN.cell)
  weights = (9 * 1 * 4, 4 * 4, 9 * 4 * 4, 4 * 8, 9 * 8 * 8)
  norms = 2 * (4 + 4 + 4 + 8 + 8)
  task = Task((5, 3, 1), 7)
  assert tiny.num_params(architecture, task) == sum(weights) + norms + 8 * 7 + 7
  assert tiny.macs(architecture, task) == sum(weights[:3]) * 15 + sum(weights[3:]) * 6 + 8 * 7


@given(members)
def test_text_and_json_go_both_ways(architecture):
  assert SPACE.from_string(SPACE.to_string(architecture)) == architecture
  assert SPACE.from_json(architecture.to_json()) == architecture


@given(members)
def test_neighbours_are_other_cells(architecture):
  own = SPACE.identity(architecture)
  flips = set()
  for j in range(len(architecture.matrix)):
    for i in range(j):
      matrix = np.array(architecture.matrix)
      matrix[i, j] ^= 1
      try:
        flips.add(cell(matrix.tolist(), architecture.operations))
      except UserError:  # Out of the space.
        continue
  neighbours = set(SPACE.neighbours(architecture))
  assert flips <= neighbours
  for neighbour in neighbours:
    assert SPACE.identity(neighbour) != own
    relabelled = neighbour.matrix == architecture.matrix
    assert not relabelled or sum(map(str.__ne__, neighbour.operations, architecture.operations)) == 1
    grown = len(neighbour.matrix) == len(architecture.matrix) + 1
    assert not grown or architecture in SPACE.neighbours(neighbour)
    assert grown or relabelled or neighbour in flips


def test_walks_reach_every_small_cell():
  """From input to output alone to all 91 cells of up to four vertices, through no larger ones."""
  reached, frontier = set(), [cell(((0, 1), (0, 0)))]
  while frontier:
    architecture = frontier.pop()
    if len(architecture.matrix) <= 4 and SPACE.identity(architecture) not in reached:
      reached.add(SPACE.identity(architecture))
      frontier += SPACE.neighbours(architecture)
  assert len(reached) == 1 + 6 + 84


def test_samples_are_the_benchmarks_random_cells():
  """By exact counting over all matrices of seven vertices, an edge there or not with equal chance."""
  rng = np.random.default_rng(0)
  sizes = np.bincount([len(SPACE.sample(rng).matrix) for _ in range(3000)], minlength=8) / 3000
  bits = np.arange(1 << 21)
  matrices = np.zeros((len(bits), 7), np.int8)  # [., i]: the targets of i, as bits.
  for place, (i, j) in enumerate(itertools.combinations(range(7), 2)):
    matrices[:, i] |= ((bits >> place & 1) << j).astype(np.int8)
  reached, reaching = np.ones(len(bits), np.int8), np.full(len(bits), 1 << 6, np.int8)
  for i in range(7):
    reached |= np.where(reached >> i & 1, matrices[:, i], 0)
    reaching |= np.where(matrices[:, 6 - i] & reaching, 1 << (6 - i), 0).astype(np.int8)
  live = reached & reaching
  edges = sum(np.where(live >> i & 1, np.bitwise_count(matrices[:, i] & live), 0) for i in range(7))
  valid = (live > 0) & (edges <= 9)
  exact = np.bincount(np.bitwise_count(live[valid]), minlength=8) / valid.sum()
  np.testing.assert_allclose(sizes, exact, atol=4 * np.sqrt(0.25 / 3000))


def test_a_smaller_skeleton_is_another_space(user_error):
  tiny = NasBench101Space(channels=8, cells=1, stacks=2)
  architecture = tiny.from_string(CHAIN.cell)
  tiny.check(architecture)
  assert SPACE.from_json(architecture.to_json()) == architecture != CHAIN
  assert tiny.identity(architecture) == SPACE.identity(CHAIN) == SPACE.key(CHAIN).decode()
  with user_error('8 channels', '128'):
    SPACE.check(architecture)
  with user_error('8 channels', '128'):
    tiny.key(architecture)
  with user_error('not a cell'):
    SPACE.check('chain')


@pytest.mark.parametrize(('matrix', 'operations', 'parts'), [
    ([[0, 1], [0]], ('input', 'output'), ('row 1', '1 entries')),
    ([[0, 1, 0], [0, 0, 1]], ('input', CONV3, 'output'), ('row 0', '3 entries', '2 rows')),
    ([[0, 2], [0, 0]], ('input', 'output'), ('(0, 1)', '2')),
    ([[0, 0.5], [0, 0]], ('input', 'output'), ('(0, 1)', '0.5')),
    ([[0, '1'], [0, 0]], ('input', 'output'), ('(0, 1)', "'1'")),
    ([[0, 1, 1], [0, 0, 1], [0, 1, 0]], ('input', CONV3, 'output'), ('cycle',)),
    ([[0, 1], [0, 1]], ('input', 'output'), ('cycle',)),
    ([[0, 0, 1], [0, 0, 0], [0, 1, 0]], ('input', CONV3, 'output'), ('2->1', 'goes back')),
    (edges_of(8, {(i, i + 1) for i in range(7)}), cell_labels(8), ('8 vertices', 'at most 7')),
    (edges_of(5, {(i, j) for j in range(5) for i in range(j)}), cell_labels(5), ('10 edges', 'at most 9')),
    (edges_of(4, {(0, 1), (2, 3)}), cell_labels(4), ('no path',)),
    ([[0, 0], [0, 0]], ('input', 'output'), ('no path',)),
    ([[0]], ('input',), ('last operation', "'input'")),
    ([], (), ('no path',)),
    (DIAMOND, ('input', CONV3, 'output'), ('3 operations for 4 vertices',)),
    (DIAMOND, ('input', CONV3, 'conv5x5-bn-relu', 'output'), ("'conv5x5-bn-relu'", CONV3)),
    (DIAMOND, ('input', CONV3, 'output', 'output'), ("'output'", 'unknown')),
    (DIAMOND, (CONV3, CONV3, CONV3, 'output'), ('first operation', CONV3)),
    (DIAMOND, ('input', CONV3, CONV3, CONV3), ('last operation', CONV3)),
])
def test_no_such_cell(matrix, operations, parts, user_error):
  with user_error('nasbench101', *parts):
    NasBench101Architecture(matrix, operations)


@pytest.mark.parametrize(('skeleton', 'part'), [
    ({'channels': 0}, 'channels 0'), ({'channels': 1}, '1 channels'), ({'cells': 0}, 'cells 0'), ({'stacks': '3'}, "'3'")])
def test_no_such_skeleton(skeleton, part, user_error):
  with user_error('nasbench101', part):
    NasBench101Architecture(DIAMOND, cell_labels(4), **skeleton)
  with user_error('nasbench101'):
    NasBench101Space(**skeleton)


@pytest.mark.parametrize('text', [
    '0100', '0100:', ':input,output', '010:input,output', '0120:input,output', '\u0660100:input,output',
    '0100:input', '0100:input,output,', '0100;input,output'])
def test_no_such_text(text, user_error):
  with user_error('nasbench101'):
    SPACE.from_string(text)


@pytest.mark.parametrize(('change', 'part'), [
    ({'cell': 7}, '7'), ({'cell': '0000:input,output'}, 'no path'), ({'channels': 'x'}, "'x'"), ({'stacks': 0}, 'stacks 0')])
def test_no_such_record(change, part, user_error):
  with user_error('nasbench101', part):
    SPACE.from_json({**CHAIN.to_json(), **change})

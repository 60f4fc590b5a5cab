"""NAS-Bench-201's cells against the benchmark's own columns and published counts."""
import itertools
import pathlib

import numpy as np
import pytest

from enas_jax.spaces.nasbench201 import EDGES, OPERATIONS, NasBench201Architecture, NasBench201Space
from enas_jax.types import Task

TABLE = pathlib.Path(__file__).parents[2] / '../shared/data/nasbench/nb201.npz'
TASKS = {'c10': Task((32, 32, 3), 10), 'c100': Task((32, 32, 3), 100), 'in16': Task((16, 16, 3), 120)}
FIRST = '|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|'  # Index 0.
BEST = '|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|'  # Of CIFAR-10.

SPACE = NasBench201Space()
ALL = [SPACE.from_codes(codes) for codes in itertools.product(range(5), repeat=6)]

needs_table = pytest.mark.skipif(not TABLE.exists(), reason=f'the published table is not at {TABLE}')


@pytest.fixture(scope='module')
def table():
  with np.load(TABLE) as data:
    return dict(data)


@pytest.fixture(scope='module')
def rows(table):
  return [SPACE.from_codes(codes) for codes in table['ops'].tolist()]


@needs_table
@pytest.mark.parametrize('name', TASKS)
def test_params_and_flops_are_the_tables_on_all_rows(name, table, rows):
  np.testing.assert_array_equal([SPACE.num_params(cell, TASKS[name]) for cell in rows], table[f'{name}_params'])
  macs = np.array([SPACE.macs(cell, TASKS[name]) for cell in rows])
  np.testing.assert_array_equal((macs / 1e6).astype(np.float32), table[f'{name}_flops_M'])


@needs_table
def test_identities_are_the_tables_classes(table, rows):
  first = {}
  np.testing.assert_array_equal([first.setdefault(SPACE.identity(cell), i) for i, cell in enumerate(rows)], table['iso_rep'])


@needs_table
def test_codes_index_the_table(table, rows):
  assert tuple(table['op_names']) == OPERATIONS
  place = np.empty(SPACE.radices, int)
  place[tuple(table['ops'].T)] = range(len(rows))
  keys = [SPACE.key(cell) for cell in rows]
  np.testing.assert_array_equal(place.ravel()[keys], range(len(rows)))


def test_enumeration_and_published_count_of_classes():
  assert len(set(ALL)) == SPACE.size() == 15_625
  assert [SPACE.key(cell) for cell in ALL] == list(range(15_625))
  assert len({SPACE.identity(cell) for cell in ALL}) == 6_466  # Dong and Yang 2020.


def test_published_costs():
  """Of the first architecture, in the README of NAS-Bench-201: 15.65 M FLOPs, 0.129 M parameters."""
  cell = SPACE.from_string(FIRST)
  assert cell.operations == (4, 2, 1, 2, 1, 1)
  assert (SPACE.num_params(cell, TASKS['c10']), SPACE.macs(cell, TASKS['c10'])) == (129_306, 15_647_370)


def test_macs_are_linear_in_the_convolutions():
  for cell in ALL[::97]:
    ones, threes = (cell.operations.count(OPERATIONS.index(f'nor_conv_{k}x{k}')) for k in (1, 3))
    assert SPACE.macs(cell, TASKS['c10']) == 7_783_050 + 3_932_160 * ones + 35_389_440 * threes


def test_the_best_cell_in_words():
  cell = SPACE.from_string(BEST)
  assert cell == NasBench201Architecture((3, 3, 3, 1, 3, 2))
  assert SPACE.to_string(cell) == BEST and str(cell) == f'{BEST}, 16 channels, 5 cells a stage'
  assert cell.to_json() == {'space': 'nasbench201', 'version': 1, 'cell': BEST, 'channels': 16, 'cells': 5}


def test_identity_knows_skips_zeros_and_order():
  def identities(*cells):
    return {SPACE.identity(NasBench201Architecture(cell)) for cell in cells}

  assert len(identities((3, 0, 2, 0, 0, 1), (2, 0, 3, 0, 0, 1))) == 2  # A 1x1 behind a 3x3, and before it.
  # Node 1 is zero, so what stands behind it does not matter.
  assert len(identities(*((0, 3, a, 2, b, 4) for a in range(5) for b in range(5)))) == 1
  # Node 1 is the input, so its edge to the output and the input's own change places.
  assert len(identities((1, 4, 2, 2, 3, 3), (1, 4, 2, 3, 2, 3))) == 1


def test_graph_has_edges_as_nodes():
  graph = SPACE.graph(SPACE.from_string(BEST))
  assert graph.operations == ('input', *(OPERATIONS[i] for i in (3, 3, 3, 1, 3, 2)), 'output')
  assert graph.edges == ((0, 1), (0, 2), (0, 4), (1, 3), (1, 5), (2, 6), (3, 6), (4, 7), (5, 7), (6, 7))


def test_neighbours_differ_on_one_edge():
  cell = SPACE.from_string(FIRST)
  neighbours = list(SPACE.neighbours(cell))
  assert len(set(neighbours)) == 4 * len(EDGES)
  assert all(sum(a != b for a, b in zip(cell.operations, other.operations, strict=True)) == 1 for other in neighbours)


def test_sampling_is_uniform_on_every_edge():
  rng = np.random.default_rng(0)
  drawn = np.array([SPACE.sample(rng).operations for _ in range(2000)])
  assert np.abs([(drawn == i).mean(0) - 0.2 for i in range(5)]).max() < 0.05


def test_another_skeleton(user_error):
  small = NasBench201Space(channels=4, cells=1)
  cell = small.from_string(BEST)
  assert (cell.channels, cell.cells) == (4, 1) and next(small.neighbours(cell)).channels == 4
  assert SPACE.from_json(cell.to_json()) == cell != SPACE.from_string(BEST)
  with user_error('nasbench201', '4 channels and 1 cells', '16 and 5'):
    SPACE.check(cell)
  with user_error('nasbench201', '4 channels and 1 cells', '16 and 5'):
    small.key(cell)
  with user_error('nasbench201', 'cells 0'):
    NasBench201Space(cells=0)


@pytest.mark.parametrize(('text', 'part'), [
    (BEST.replace('nor_conv_1x1', 'nor_conv_5x5'), "'nor_conv_5x5' is unknown; give one of none, skip_connect"),
    (BEST[:-1], 'is not a cell; give |OPERATION~0|+'),
    (BEST.replace('~2', '~1'), 'is not a cell'),
    (BEST + '\n', 'is not a cell'),
    (None, 'None is not a cell'),
])
def test_other_cells_are_refused(text, part, user_error):
  with user_error('nasbench201', part):
    SPACE.from_string(text)
  with user_error('nasbench201', part):
    SPACE.from_json({**ALL[0].to_json(), 'cell': text})


@pytest.mark.parametrize(('arguments', 'part'), [
    (((1, 2, 3),), '3 operations; give 6'),
    (((1, 2, 3, 4, 5, 0),), 'operation 5 on edge 1->3 is outside 0 to 4'),
    (((0,) * 6, 0), 'channels 0'),
    (((0,) * 6, 16, '5'), "cells '5'"),
    (((0,) * 6, True), 'channels True'),
])
def test_impossible_architectures_are_refused(arguments, part, user_error):
  with user_error('nasbench201', part):
    NasBench201Architecture(*arguments)


def test_records_name_what_is_wrong(user_error):
  record = ALL[0].to_json()
  for broken, part in (('text', "'text' is not a record"), ({**record, 'space': 'chain'}, "'chain' is not 'nasbench201'"),
                       ({**record, 'version': 2}, 'version 2 is not 1'), ({**record, 'more': 1}, "['more'] are unknown")):
    with user_error('architecture', part):
      SPACE.from_json(broken)
  with user_error("'16'"):
    SPACE.from_json({**record, 'channels': '16'})
  with user_error('is not a cell of nasbench201'):
    SPACE.check(BEST)

"""NATS-Bench's widths against the benchmark's own columns."""
import pathlib

import numpy as np
import pytest

from enas_jax.spaces.nasbench201 import NasBench201Architecture
from enas_jax.spaces.nats_size import CELL, NatsSizeArchitecture, NatsSizeSpace
from enas_jax.types import Task

TABLES = pathlib.Path(__file__).parents[2] / '../shared/data/nasbench'
TASKS = {'c10': Task((32, 32, 3), 10), 'c100': Task((32, 32, 3), 100), 'in16': Task((16, 16, 3), 120)}
SPACE = NatsSizeSpace()

needs_tables = pytest.mark.skipif(not TABLES.exists(), reason=f'the published tables are not at {TABLES}')


@pytest.fixture(scope='module')
def table():
  with np.load(TABLES / 'nats_sss.npz') as data:
    return dict(data)


@pytest.fixture(scope='module')
def rows(table):
  return [NatsSizeArchitecture(tuple(channels)) for channels in table['channels'].tolist()]


@needs_tables
@pytest.mark.parametrize('name', TASKS)
def test_params_and_flops_are_the_tables_on_all_rows(name, table, rows):
  np.testing.assert_array_equal([SPACE.num_params(widths, TASKS[name]) for widths in rows], table[f'{name}_params'])
  macs = np.array([SPACE.macs(widths, TASKS[name]) for widths in rows])
  np.testing.assert_array_equal((macs / 1e6).astype(np.float32), table[f'{name}_flops_M'])


@needs_tables
def test_the_key_is_the_row(rows):
  assert [SPACE.key(widths) for widths in rows] == list(range(SPACE.size()))
  assert all(SPACE.from_codes(SPACE.codes(widths)) == widths for widths in rows[::101])


@needs_tables
def test_the_cell_is_the_best_of_cifar100():
  with np.load(TABLES / 'nb201.npz') as data:
    assert tuple(data['ops'][data['c100_valid_200ep'].argmax()]) == CELL


def test_published_costs():
  """Index 0 of the benchmark, as its table has it; the cell's own text is that of NATS-Bench (arXiv 2009.00437)."""
  narrow = NatsSizeArchitecture((8,) * 5)
  assert SPACE.key(narrow) == 0
  assert SPACE.num_params(narrow, TASKS['c10']) == 11_714
  assert NasBench201Architecture(CELL).cell == (
      '|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|')


def test_text_graph_and_codes():
  widths = SPACE.from_string('8:16:24:32:64')
  assert widths == NatsSizeArchitecture((8, 16, 24, 32, 64)) and str(widths) == '8:16:24:32:64'
  assert widths.to_json() == {'space': 'nats_size', 'version': 1, 'channels': '8:16:24:32:64'}
  assert SPACE.codes(widths) == (0, 1, 2, 3, 7) and SPACE.key(widths) == int('01237', 8)
  assert SPACE.graph(widths).operations == ('input', '8', '16', '24', '32', '64', 'output')
  assert SPACE.graph(widths).edges == tuple((i, i + 1) for i in range(6))


def test_neighbours_are_one_step_away():
  assert {str(widths) for widths in SPACE.neighbours(SPACE.from_string('8:16:24:32:64'))} == {
      '16:16:24:32:64', '8:8:24:32:64', '8:24:24:32:64', '8:16:16:32:64', '8:16:32:32:64', '8:16:24:24:64', '8:16:24:40:64',
      '8:16:24:32:56'}


def test_sampling_is_uniform():
  rng = np.random.default_rng(0)
  drawn = np.array([SPACE.sample(rng).channels for _ in range(2000)])
  assert np.abs([(drawn == width).mean(0) - 1 / 8 for width in range(8, 65, 8)]).max() < 0.04


@pytest.mark.parametrize(('text', 'part'), [
    ('8:16:24:32', '4 widths; give 5'),
    ('8:16:24:32:72', 'width 72 of layer 4 is not one of (8, 16,'),
    ('8:16:24:32:12', 'width 12 of layer 4'),
    ('8:16:24:32:-8', 'is not a list of widths; give for example 8:16:24:32:40'),
    ('8:16:24:32:08', 'is not a list of widths'),
    (8, '8 is not a list of widths'),
])
def test_other_widths_are_refused(text, part, user_error):
  with user_error('nats_size', part):
    SPACE.from_string(text)
  with user_error('nats_size', part):
    SPACE.from_json({'space': 'nats_size', 'version': 1, 'channels': text})


def test_what_is_no_member_is_refused(user_error):
  with user_error('nats_size'):
    SPACE.check('8:16:24:32:40')
  for code in (-1, 8):
    with user_error('nats_size', 'of layer 4'):
      SPACE.from_codes((0, 0, 0, 0, code))

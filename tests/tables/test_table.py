"""A table by itself: look-ups against a plain dictionary, and what makes no table."""
import numpy as np
import pytest

from enas_jax.spaces import ChainSpace, NasBench201Space, NasBenchMacroSpace
from enas_jax.tables.table import Table

SPACE = NasBenchMacroSpace()
TEXTS = ('22212202', '00000000', '11111111', '00000012', '22222222')  # Not in the order of their keys.
COLUMNS = {
    'cifar10/test/200': [0.9, 0.8, np.nan, 0.7, 1.0], 'cifar10/valid/12': [0.5, 0.4, 0.3, 0.2, 0.1],
    'cifar10/valid/200': [0.6, 0.5, 0.4, 0.3, 0.2], 'cifar10/valid/best': [7.0] * 5, 'cifar10/valid/012': [7.0] * 5,
    'cifar10/test_std': [0.01] * 5, 'cifar10/params': [5, 4, 3, 2, 1], 'cifar10/latency_ms/raspi4': [1.5] * 5,
    'svhn/valid/12': [0, 1, 1, 0, 1]}


def make(columns=None, texts=TEXTS, space=SPACE):
  keys = np.array([space.key(space.from_string(text)) for text in texts])
  columns = COLUMNS if columns is None else columns
  return Table('mine', space, np.array(texts), keys, {name: np.array(values) for name, values in columns.items()})


@pytest.mark.parametrize(('space', 'texts'), [(SPACE, TEXTS), (ChainSpace(), ('16:0010:3353', '8:111:333', '16:0011:3353'))])
def test_rows_of_keys_are_those_of_a_dictionary(space, texts):
  table = make({'a/valid/1': [0.5] * len(texts)}, texts, space)
  row_of_key = {key: row for row, key in enumerate(table.keys.tolist())}
  keys = np.random.default_rng(0).choice(table.keys, 100)
  np.testing.assert_array_equal(table.rows(keys), [row_of_key[key] for key in keys.tolist()])
  assert table.rows(keys[:0]).shape == (0,)


def test_architectures_and_rows_lead_to_each_other():
  table = make()
  for row, text in enumerate(TEXTS):
    architecture = table.architecture(row)
    assert SPACE.to_string(architecture) == table.text(row) == text
    assert table.row(architecture) == row
  assert table.row(SPACE.from_string('00000001')) is None and len(table) == 5


def test_texts_in_bytes():
  table = make()
  other = Table('mine', SPACE, table.architectures.astype('S'), table.keys, table.columns)
  assert [other.text(row) for row in range(5)] == list(TEXTS)


def test_keys_that_are_not_there(user_error):
  for key in (1, 3**8, -1):
    with user_error('table mine has no row with key', key, '5 rows'):
      make().rows(np.array([0, key]))


def test_a_cell_in_another_skeleton_has_no_row(user_error):
  space = NasBench201Space()
  cell = '|none~0|+|none~0|none~1|+|none~0|none~1|none~2|'
  table = make({'a/valid/1': [0.5]}, (cell,), space)
  assert table.row(space.from_string(cell)) == 0
  with user_error('4 channels and 5 cells a stage are not 16 and 5'):
    table.row(NasBench201Space(channels=4).from_string(cell))


def test_what_the_columns_tell():
  table = make()
  assert table.datasets == ('cifar10', 'svhn')
  assert table.splits('cifar10') == ('valid', 'test') and table.splits('svhn') == ('valid',)
  assert table.fidelities('cifar10', 'valid') == (12, 200) and table.fidelities('cifar10', 'test') == (200,)
  np.testing.assert_array_equal(table.column('cifar10/params'), COLUMNS['cifar10/params'])


def test_names_that_the_table_lacks(user_error):
  table = make()
  with user_error("no column 'cifar10/latency_ms/rapsi4'", 'it has cifar10/latency_ms/raspi4'):
    table.column('cifar10/latency_ms/rapsi4')
  with user_error("no column 'cifar10/valid/100'", 'cifar10/valid/12', 'cifar10/valid/200'):
    table.column('cifar10/valid/100')
  with user_error("no column 'cifar9/params'", 'cifar10/params'):
    table.column('cifar9/params')
  with user_error("no column 'x'", 'cifar10, svhn'):
    table.column('x')
  for method, arguments in ((table.splits, ()), (table.fidelities, ('valid',))):
    with user_error("no data set 'mnist'", 'cifar10, svhn'):
      method('mnist', *arguments)
  with user_error("no split 'test' of svhn", 'it has valid'):
    table.fidelities('svhn', 'test')
  with user_error("no data set 'cifar10'", 'DATASET/valid/EPOCHS'):
    make({'cifar10/params': [1] * 5}).splits('cifar10')


@pytest.mark.parametrize(('columns', 'texts', 'message'), [
    ({}, TEXTS, '5 rows and 0 columns'),
    ({'a/valid/1': []}, (), '0 rows and 1 columns'),
    ({'a/valid/1': [0.5] * 4}, TEXTS, 'a/valid/1 has shape [4], not [5]'),
    ({'a/valid/1': [[0.5]] * 5}, TEXTS, 'a/valid/1 has shape [5, 1], not [5]'),
    ({'a/valid/1': [0.5] * 6}, (*TEXTS, '11111111'), 'architecture 11111111 stands twice; give each once'),
    ({'a/valid/1': [94.37, 0.5, 0.5, 0.5, 0.5]}, TEXTS, 'row 1 (22212202): a/valid/1 is 94.37, which is outside [0, 1]; '),
    ({'a/test/9': [0.5, -0.1, 0.5, 0.5, 0.5]}, TEXTS, 'row 2 (00000000): a/test/9 is -0.1, which is outside [0, 1]'),
    ({'a/test/9': [0.5, 0.5, np.inf, 0.5, np.nan]}, TEXTS, 'row 3 (11111111): a/test/9 is inf, which is outside [0, 1]'),
])
def test_no_table(user_error, columns, texts, message):
  with user_error('table mine', message):
    make(columns, texts)


@pytest.mark.parametrize('name', [*COLUMNS, 'a/energy_mj/fpga', 'a/anything'])
@pytest.mark.parametrize('value', [np.inf, -np.inf, -1.0])
def test_what_cannot_have_been_measured(user_error, name, value):
  """A mark such as -1 for what was not measured would be the least latency of all."""
  columns = {**COLUMNS, name: [np.nan, 0.5, value, 0.5, 0.5]}
  if value == -1 and name in ('a/anything', 'cifar10/valid/best', 'cifar10/valid/012', 'cifar10/test_std'):
    make(columns)  # Which may be below 0, as far as anyone knows.
  else:
    with user_error(f'table mine, row 3 (11111111): {name} is {value:g}, which is', 'NaN or an empty field for what was not'):
      make(columns)

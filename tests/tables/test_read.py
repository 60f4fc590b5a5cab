"""Official files through the front door, and tables saved to be read again."""
import pathlib
import re

import numpy as np
import pytest

from enas_jax import tables
from enas_jax.spaces import NasBench201Space, NasBenchMacroSpace
from enas_jax.tables.members import Members, members

README = pathlib.Path(__file__).parents[2] / 'README.md'
CELL = '|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|nor_conv_3x3~2|'
CSV = f'architecture, pets/valid/50 ,pets/latency_ms/phone\n{CELL},0.9,3\n\n{CELL.replace("none", "skip_connect")},0.8,\n'


@pytest.fixture
def mine(tmp_path):
  path = tmp_path / 'mine.csv'
  path.write_text(CSV)
  return tables.read(path, NasBench201Space())


def test_names_are_stripped_and_blank_lines_skipped(mine):
  assert list(mine.columns) == ['pets/valid/50', 'pets/latency_ms/phone'] and len(mine) == 2
  assert np.isnan(mine.column('pets/latency_ms/phone')[1])


def test_a_saved_table_is_the_same(mine, tmp_path):
  tables.save(mine, tmp_path / 'saved.npz')
  again = tables.read(tmp_path / 'saved.npz', NasBench201Space())
  assert again.checksum == mine.checksum and [again.text(i) for i in range(2)] == [mine.text(i) for i in range(2)]


def test_joined_tables_meet_by_architecture(mine):
  whole = tables.load('nasbench201')
  joined = whole.join(mine)
  values = joined.column('pets/valid/50')
  assert np.isnan(values).sum() == len(whole) - 2 and values[whole.row(mine.architecture(0))] == 0.9
  assert joined.column('cifar10/test/200') is whole.column('cifar10/test/200') and len(joined) == len(whole)
  small = mine.join(whole)
  rows = [whole.row(mine.architecture(i)) for i in range(2)]
  assert small.column('cifar10/test/200').tolist() == whole.column('cifar10/test/200')[rows].tolist()


def test_what_cannot_be_joined(mine, user_error):
  with user_error('both have'):
    mine.join(mine)
  with user_error('NasBenchMacroSpace'):
    mine.join(tables.load('nasbench_macro'))


def test_the_checksum_is_of_the_content(mine, tmp_path):
  (tmp_path / 'other.csv').write_text(CSV.replace('0.9', '0.91'))
  assert tables.read(tmp_path / 'other.csv', NasBench201Space()).checksum != mine.checksum


@pytest.mark.parametrize('name', ['table.tfrecord', 'NATS-tss-v1_0-3ffb9.pickle.pbz2', 'NAS-Bench-201-v1_1-096897.pth',
                                  'HW-NAS-Bench-v1_0.pickle'])
def test_each_official_kind_has_its_reader(name, tmp_path, user_error):
  """Which says in one line what is wrong with the file; the readers' own tests read whole ones."""
  (tmp_path / name).write_bytes(b'nothing of the kind')
  with user_error(name):
    tables.read(tmp_path / name, NasBench201Space())


def test_an_unknown_kind_names_the_known(tmp_path, user_error):
  with user_error("'.xlsx'", '.csv', '.npz', '.tfrecord', 'folder'):
    tables.read(tmp_path / 'table.xlsx', NasBench201Space())


def test_rows_that_are_many_architectures_are_searched_as_rows():
  assert isinstance(members(tables.load('nasbench101_subset')), Members)
  assert members(tables.load('nasbench_macro')) == NasBenchMacroSpace()


def test_the_readmes_ten_lines(tmp_path, monkeypatch):
  text = README.read_text()
  lines = re.search(r'```python\n(.*?)```', text[text.index('A table of your own'):], re.DOTALL)[1]
  monkeypatch.chdir(tmp_path)
  names = {'my_measurements': [(CELL, 0.9, 3.0)]}
  exec(lines, names)
  assert names['table'].column('pets/valid/50').tolist() == [0.9] and names['table'].text(0) == CELL

"""Files of tables: what is written is read, and a damaged, foreign or hostile file is refused in one line."""
import hashlib
import io
import pickle
import zipfile

import numpy as np
import pytest

from enas_jax import tables
from enas_jax.errors import UserError
from enas_jax.spaces import NasBench201Space, NasBenchMacroSpace
from enas_jax.tables import files

SPACE = NasBenchMacroSpace()
TEXTS = np.array(['22212202', '00000000', '00000012'])
COLUMN = 'cifar10/valid/50'
VALUES = np.array([0.75, np.nan, 0.5])


@pytest.fixture
def path(tmp_path):
  return tmp_path / 'mine.npz'


@pytest.fixture
def ours(path):
  """A file of our form: its bytes."""
  keys = np.array([SPACE.key(SPACE.from_string(text)) for text in TEXTS])
  files.write(path, SPACE, keys, TEXTS.astype('S'), {COLUMN: VALUES.astype(np.float32)})
  return path.read_bytes()


def save(path, **members):
  """A user's npz. Returns its path."""
  np.savez(path, **{'architecture': TEXTS, COLUMN: VALUES, **members})
  return path


def csv(path, text):
  path = path.with_suffix('.csv')
  path.write_bytes(text if isinstance(text, bytes) else text.encode())
  return path


def same(table, other):
  return (table.columns.keys() == other.columns.keys() and np.array_equal(table.keys, other.keys)
          and all(np.array_equal(v, other.columns[c], equal_nan=True) for c, v in table.columns.items())
          and [table.text(i) for i in range(len(table))] == [other.text(i) for i in range(len(other))])


def test_three_files_of_one_table(path, ours):
  table = tables.read(path, SPACE)
  with np.load(path) as archive:  # NumPy's own reader.
    assert set(archive.files) == {'format', 'space', 'key', 'architecture', COLUMN}
    np.testing.assert_array_equal(archive[COLUMN], VALUES.astype(np.float32))
  user = tables.read(save(path.with_name('user.npz')), SPACE)
  text = f'architecture,{COLUMN}\n22212202,0.75\n00000000,\n00000012, 5e-1\n'
  assert same(table, user) and same(table, tables.read(csv(path, text), SPACE))
  assert same(table, tables.read(csv(path, '\ufeff' + text.replace('\n', '\r\n')), SPACE))  # As a spreadsheet writes it.
  assert table.row(SPACE.from_string('00000012')) == 2 and user.name == str(path.with_name('user.npz'))


def test_equal_content_gives_equal_bytes(path, ours):
  keys = np.array([SPACE.key(SPACE.from_string(text)) for text in TEXTS])
  files.write(path.with_name('again.npz'), SPACE, keys, TEXTS.astype('S'), {COLUMN: VALUES.astype(np.float32)})
  assert path.with_name('again.npz').read_bytes() == ours


@pytest.mark.parametrize('kind', ['csv', 'npz'])
def test_a_part_of_a_benchmark_as_a_table_of_ones_own(path, kind):
  whole = tables.load('nasbench201')
  rows = np.random.default_rng(0).choice(len(whole), 200, replace=False)
  texts, values = np.array([whole.text(row) for row in rows]), whole.column('cifar100/test/200')[rows]
  if kind == 'csv':
    lines = [f'{text},{value!s}' for text, value in zip(texts, values, strict=True)]
    file = csv(path, '\n'.join(['architecture,cifar100/test/200', *lines]))
  else:
    file = path
    np.savez(file, **{'architecture': texts, 'cifar100/test/200': values})
  table = tables.find(NasBench201Space(), str(file))
  np.testing.assert_array_equal(table.keys, whole.keys[rows])
  np.testing.assert_array_equal(table.column('cifar100/test/200').astype(np.float32), values)


def test_a_cut_file(path, ours, user_error):
  for length in range(0, len(ours), 7):
    path.write_bytes(ours[:length])
    with user_error(f'{path} is cut, altered or no npz file of plain arrays', '; get it again'):
      files.read_npz(path)


def test_an_altered_byte_is_seen_or_changes_nothing(path, ours):
  """Without a checksum: by the archive's own, or the names of its members. With one: all of them."""
  good, refused = tables.read(path, SPACE), 0
  checksum = hashlib.sha256(ours).hexdigest()
  for place in range(0, len(ours), 3):
    path.write_bytes(ours[:place] + bytes([ours[place] ^ (0xff if place % 2 else 0x01)]) + ours[place + 1:])
    try:
      assert same(tables.read(path, SPACE), good)  # A date, or a field that nobody reads.
    except UserError as error:
      refused += 1
      assert str(path) in str(error) and '\n' not in str(error)
    with pytest.raises(UserError, match=r'is cut or altered: its SHA-256 is .*; install it again'):
      files.read_npz(path, checksum=checksum)
  assert refused > len(ours) / 6
  path.write_bytes(ours)
  assert files.read_npz(path, checksum=checksum)[COLUMN].shape == (3,)


class Payload:
  """Writes a file when it is unpickled."""

  def __init__(self, target):
    self.target = target

  def __reduce__(self):
    return open, (str(self.target), 'w')


@pytest.mark.parametrize('member', ['architecture', COLUMN, 'format', 'space', 'key', 'cifar10/params'])
def test_a_pickle_in_a_file_does_not_run(path, tmp_path, user_error, member):
  target = tmp_path / 'ran'
  save(path, **{member: np.array([Payload(target)], object)})
  with user_error(path, 'no npz file of plain arrays', 'Object arrays cannot be loaded when allow_pickle=False'):
    tables.read(path, SPACE)
  assert not target.exists()
  with np.load(path, allow_pickle=True) as archive:  # The payload is a live one.
    archive[member][0].close()
  assert target.exists()


def test_a_pickle_in_the_place_of_a_file_does_not_run(path, tmp_path, user_error):
  path.write_bytes(pickle.dumps(Payload(tmp_path / 'ran')))
  with user_error('File is not a zip file'):
    tables.read(path, SPACE)
  assert not (tmp_path / 'ran').exists()


def archive_of(**members):
  buffer = io.BytesIO()
  with zipfile.ZipFile(buffer, 'w') as archive:
    for name, data in members.items():
      archive.writestr(name, data)
  return buffer.getvalue()


def huge():
  header = io.BytesIO()
  np.lib.format.write_array_header_1_0(header, {'descr': '<f8', 'fortran_order': False, 'shape': (10**15,)})
  return header.getvalue()


@pytest.mark.parametrize('data', [
    b'', b'hello world', huge(), archive_of(architecture=b'hello'), archive_of(format=b'1'), archive_of(x=huge()),
    archive_of(architecture=b'\x93NUMPY\x01\x00')])
def test_no_arrays(path, user_error, data):
  path.write_bytes(data)
  with user_error(f'{path} is cut, altered or no npz file of plain arrays'):
    tables.read(path, SPACE)


@pytest.mark.parametrize(('members', 'message'), [
    ({'format': np.array(2)}, 'has format 2, not 1; use the version of enas_jax that wrote it'),
    ({'format': np.array('new')}, 'has format new, not 1'),
    ({'format': np.array([1, 1])}, 'has format [1 1], not 1'),
    ({'space': np.array('nasbench201')}, "its space is 'nasbench201', not 'nasbench_macro'"),
    ({'architecture': TEXTS[:, None]}, "column 'architecture' is <U8 [3, 1]; give one text a row"),
    ({'architecture': np.arange(3)}, "column 'architecture' is int64 [3]; give one text a row"),
    ({'architecture': np.array([b'00000000', b'\xff\xfe', b'00000001'])}, "row 2: 'utf-8' codec can't decode"),
    ({'architecture': np.array(['00000000', '00000001', '00000003'])}, 'row 3: nasbench_macro: operation 3 at layer 7'),
    ({'architecture': TEXTS[[0, 1, 0]]}, 'architecture 22212202 stands twice'),
    ({'cifar10/params': np.array(['a', 'b', 'c'])}, "column 'cifar10/params' is <U1; give numbers"),
    ({'cifar10/params': np.zeros(3, complex)}, "column 'cifar10/params' is complex128; give numbers"),
    ({'cifar10/params': np.zeros(4)}, 'column cifar10/params has shape [4], not [3]'),
    ({'key': np.arange(3)}, "column 'key' holds other keys than its architectures have; leave it out"),
    ({'key': np.zeros((3, 2), int)}, "column 'key' holds other keys"),
    ({'key': np.array(['a', 'b', 'c'])}, "column 'key' holds other keys"),
    ({'key': np.array(3)}, "column 'key' holds other keys"),
])
def test_arrays_that_are_no_table(path, user_error, members, message):
  save(path, **members)
  with user_error(path, message):
    tables.read(path, SPACE)


@pytest.mark.parametrize(('text', 'message'), [
    ('', 'is not CSV with a header'),
    (b'architecture,\xff\n', 'is not CSV with a header'),
    (b'PK\x03\x04\x00\xff\xfe', 'is not CSV with a header'),
    ('architecture,a/valid/1\n"00000000,.5\n', 'is not CSV with a header'),
    ('architecture,a/valid/1\n', 'has a header, but no row'),
    ('cell,a/valid/1\n00000000,.5\n', "there is no column 'architecture'; it has cell, a/valid/1"),
    ('architecture,a/valid/1,a/valid/1\n00000000,.5,.6\n', 'give each column a name of its own'),
    ('architecture,a/valid/1,\n00000000,.5,.6\n', 'give each column a name of its own'),
    ('architecture,a/valid/1\n00000000,.5\n00000001,.5,.6\n', 'line 3: 3 fields, not 2 as in the header'),
    ('architecture,a/valid/1\n00000000,.5\n00000001\n', 'line 3: 1 fields, not 2'),
    ('architecture,a/valid/1\n00000000,.5\n00000001,94.37%\n', "line 3: '94.37%' in column 'a/valid/1' is not a number"),
    ('architecture,a/valid/1\n00000000,.5\n0000001,.5\n', 'row 2: nasbench_macro: 7 operations; give 8'),
    ('architecture,a/valid/1\n00000000,.5\n|none~0|,.5\n', "row 2: nasbench_macro: '|none~0|' is not one digit a layer"),
    ('architecture,a/valid/1\n00000000,.5\n00000000,.5\n', 'architecture 00000000 stands twice'),
    ('architecture,a/valid/1\n00000000,94.37\n', 'row 1 (00000000): a/valid/1 is 94.37, which is outside [0, 1]; give'),
    ('architecture\n00000000\n', '1 rows and 0 columns'),
])
def test_csv_that_is_no_table(path, user_error, text, message):
  file = csv(path, text)
  with user_error(file, message):
    tables.read(file, SPACE)


def test_files_that_are_not_there_or_of_no_kind(tmp_path, user_error):
  for name in ('x.csv', 'x.npz'):
    with user_error(tmp_path / name, 'cannot be read (No such file or directory); give a file that is there'):
      tables.read(tmp_path / name, SPACE)
  with user_error(tmp_path / 'x.xlsx', "'.xlsx' is not one of .csv, .npz"):
    tables.find(SPACE, str(tmp_path / 'x.xlsx'))


def test_tables_that_do_not_fit(user_error):
  with user_error("table nats_size is of space 'nats_size', not 'nasbench_macro'"):
    tables.find(SPACE, 'nats_size')
  with user_error("table 'nasbench301' is unknown; give one of nasbench101_subset, nasbench201"):
    tables.load('nasbench301')

import io
import os
import zipfile

import numpy as np
import pytest

from enas_jax.data import Dataset, describe, from_arrays, load
from enas_jax.errors import UserError
from enas_jax.types import Task

SPELLING = ('train_images', 'train_labels', 'test_images', 'test_labels')


def arrays(**changes):
  rng = np.random.default_rng(0)
  entries = {
      'x_train': rng.integers(0, 256, (6, 4, 5, 3), dtype=np.uint8),
      'y_train': np.array([0, 1, 2, 0, 1, 2]),
      'x_test': rng.integers(0, 256, (3, 4, 5, 3), dtype=np.uint8),
      'y_test': np.array([2, 1, 0], np.uint8),
  }
  return {key: value for key, value in (entries | changes).items() if value is not None}


@pytest.fixture
def save(tmp_path):
  def write(entries, writer=np.savez):
    writer(tmp_path / 'some.npz', **entries)
    return f'npz:{tmp_path / "some.npz"}'
  return write


@pytest.mark.parametrize('writer', [np.savez, np.savez_compressed])
def test_arrays_come_back(save, writer):
  name = save(arrays(), writer)
  data = load(name)
  assert data.name == name
  assert data.task == Task((4, 5, 3), 3)
  assert data.class_names == ('0', '1', '2')
  np.testing.assert_array_equal(data.train.images, arrays()['x_train'])
  np.testing.assert_array_equal(data.train.labels, arrays()['y_train'])
  np.testing.assert_array_equal(data.test.images, arrays()['x_test'])
  np.testing.assert_array_equal(data.test.labels, arrays()['y_test'])


def test_the_other_spelling_class_names_and_gray_images(save):
  entries = dict(zip(SPELLING, arrays().values(), strict=True))
  entries |= {key: entries[key][..., 0] for key in ('train_images', 'test_images')}
  entries |= {'class_names': np.array(['ant', 'bee', 'cat']), 'train_labels': entries['train_labels'][:, None]}
  data = load(save(entries))
  assert data.task == Task((4, 5, 1), 3)
  assert data.class_names == ('ant', 'bee', 'cat')
  np.testing.assert_array_equal(data.train.images[..., 0], entries['train_images'])


@pytest.mark.parametrize(('images', 'labels'), [
    ('x_val', 'y_val'), ('x_valid', 'y_valid'), ('x_validation', 'y_validation'), ('val_images', 'val_labels'),
    ('validation_images', 'validation_labels')])
def test_a_validation_part(save, images, labels):
  data = load(save(arrays(**{images: arrays()['x_test'][:2], labels: np.array([1, 1])})))
  np.testing.assert_array_equal(data.valid.images, arrays()['x_test'][:2])
  assert data.valid.labels.tolist() == [1, 1] and data.valid.labels.dtype == np.int32
  assert len(data.train.labels) == 6 and data.notes == () and 'validation 2 (0 to 2 a class)' in describe(data)


def test_what_is_left_out_is_told(save):
  assert load(save(arrays(mean=np.zeros(3)))).notes == ("left out: entry 'mean'",)
  assert load(save(arrays(x_extra=np.zeros(3), mean=np.zeros(3)))).notes == ("left out: entries 'mean', 'x_extra'",)


def images(*shape):
  return np.zeros((6, *shape), np.uint8), np.array([0, 1] * 3)


@pytest.mark.parametrize('shape', [(3, 32, 32), (1, 28, 28), (4, 16, 16), (3, 48, 64), (13, 64, 64), (3, 8, 8), (2, 32, 32)])
def test_channels_first_are_refused_however_they_come(shape, save, user_error):
  x, y = images(*shape)
  expected = f'images of {shape[0]} x {shape[1]} with {shape[2]} channels look like [N, C, H, W]', 'transpose(0, 2, 3, 1)'
  with user_error(*expected):
    load(save(arrays(x_train=x, y_train=y, x_test=x, y_test=y)))
  with user_error(*expected):
    from_arrays(x, y)
  turned = from_arrays(x.transpose(0, 2, 3, 1), y)
  assert turned.task.image_shape == (*shape[1:], shape[0])


@pytest.mark.parametrize('shape', [
    (32, 32, 3), (32, 32, 1), (32, 32, 4), (32, 32, 2), (64, 64, 13), (9, 9, 200), (1, 128, 9), (128, 1, 9), (3, 3, 3),
    (5, 4, 8), (4, 4, 8), (1, 1, 1), (28, 28), (4, 4)])
def test_what_can_be_meant_is_read_and_told(shape):
  data = from_arrays(*images(*shape))
  height, width, channels = data.task.image_shape
  assert (height, width, channels) == (*shape, *[1] * (3 - len(shape)))
  assert f'2 classes of images {height} x {width} x {channels} (height, width, channels)' in describe(data)


def test_pixels_in_one_row_are_refused(user_error):
  with user_error('[6, 1024, 3]', 'in one row', 'reshape(-1, H, W, 3)'):
    from_arrays(*images(1024, 3))


def test_arrays_in_memory_have_a_validation_part(user_error):
  x, y = images(4, 5, 3)
  data = from_arrays(x, y, valid=(x[:2], y[:2]))
  assert len(data.valid.labels) == 2 and len(data.train.labels) + len(data.test.labels) == 6
  with user_error('validation images is float64'):
    from_arrays(x, y, valid=(x[:2].astype(float), y[:2]))
  with user_error('[4, 5, 3] in train', '[5, 4, 3] in validation'):
    from_arrays(x, y, valid=(x[:2].transpose(0, 2, 1, 3), y[:2]))


@pytest.mark.parametrize('changes, expected', [
    ({'x_val': np.zeros((2, 4, 5, 3), np.uint8)}, ('y_val is missing beside the other', 'add it')),
    ({'x_val': np.zeros((2, 4, 5, 3), np.uint8), 'val_images': np.zeros(2)}, ('x_val and val_images are one part', 'keep one')),
    ({'x_val': np.zeros((2, 4, 5, 3), np.uint8), 'y_val': np.array([0, 9])}, ('class 3', 'no training image')),
    ({'class_names': np.array([97, 2**31, 99], np.uint32).view('<U1')}, ('class_names is no text', 'save an array of str')),
    ({'class_names': np.array([97, 0xd800, 99], np.uint32).view('<U1')}, ('class_names is no text', 'save an array of str')),
    ({'class_names': np.array([b'a', b'\xff', b'c'])}, ('class_names is no text', 'save an array of str')),
    ({'y_test': None}, ('y_test not among', 'x_train')),
    ({'x_train': np.zeros((6, 4, 5, 3))}, ('x_train is float64', 'uint8 pixels of 0 to 255')),
    ({'x_test': np.zeros((3, 4), np.uint8)}, ('x_test', '[3, 4]')),
    ({'x_test': np.zeros((0, 4, 5, 3), np.uint8), 'y_test': np.zeros(0, int)}, ('x_test', '[0, 4, 5, 3]')),
    ({'x_test': np.zeros((3, 5, 4, 3), np.uint8)}, ('[4, 5, 3] in train', '[5, 4, 3] in test')),
    ({'y_train': np.zeros(6)}, ('y_train is float64', 'integers [N]')),
    ({'y_train': np.eye(6, dtype=int)}, ('y_train', '[6, 6]')),
    ({'y_train': np.zeros(5, int)}, ('5 labels for 6 images',)),
    ({'y_train': np.array([0, 1, 2, 0, 1, -2])}, ('train label -2',)),
    ({'y_test': np.array([0, 1, 3])}, ('class 3', 'no training image')),
    ({'y_test': np.array([0, 1, 10**9])}, ('label 1000000000',)),
    ({'y_train': np.array([0, 2, 2, 0, 2, 2])}, ('class 1', 'no training image')),
    ({'class_names': np.array(['a', 'b'])}, ('train label 2', '0 to 1')),
    ({'x_train': np.array([None] * 6)}, ('x_train is not a plain array',)),
    ({'class_names': np.array(['a', 'b', 'c'], object)}, ('class_names is not a plain array',)),
])
def test_arrays_that_do_not_fit_are_refused(save, user_error, changes, expected):
  name = save(arrays(**changes))
  with user_error(name, *expected):
    load(name)


def test_files_that_are_no_archives_are_refused(save, tmp_path, user_error):
  with user_error('missing.npz', 'no such file'):
    load(f'npz:{tmp_path}/missing.npz')
  name = save(arrays(), np.savez_compressed)
  path = tmp_path / 'some.npz'
  content = path.read_bytes()
  for damaged in (b'', b'text', content[:300], content[:200] + b'\xff' * 20 + content[220:]):
    path.write_bytes(damaged)
    with user_error(name, 'damaged'):
      load(name)


@pytest.mark.parametrize(('make', 'expected'), [
    (os.mkfifo, 'is a pipe, socket or device, not a file'), (os.mkdir, 'is a folder, not a file'),
    (lambda path: os.symlink('/dev/zero', path), 'is a pipe, socket or device, not a file'),
    (lambda path: os.symlink('nothing', path), 'is a link to nothing')])
def test_what_is_no_file_is_refused_and_never_waited_for(tmp_path, make, expected, user_error):
  make(tmp_path / 'x.npz')
  with user_error(f"data 'npz:{tmp_path}/x.npz' {expected}; give the path of an .npz file"):
    load(f'npz:{tmp_path}/x.npz')


@pytest.mark.parametrize('call', ['os.stat', 'zipfile.ZipFile'])
def test_what_may_not_be_read_is_refused(save, monkeypatch, call, user_error):
  def deny(*arguments, **options):
    raise PermissionError(13, 'Permission denied')
  name = save(arrays())
  monkeypatch.setattr(call, deny)
  with user_error(name, 'cannot be read (Permission denied); '):
    load(name)


@pytest.mark.parametrize('name', ['npz:' + 'x' * 5000, 'npz:a\0b', 'folder:' + 'x' * 5000, 'folder:a\0b'])
def test_paths_that_no_file_can_have_are_refused(name, user_error):
  with user_error('; give'):
    load(name)


def header(shape, *, dtype='|u1'):
  """An .npy file without its content."""
  file = io.BytesIO()
  np.lib.format.write_array_header_1_0(file, {'descr': dtype, 'fortran_order': False, 'shape': shape})
  return file.getvalue()


@pytest.mark.parametrize('shape', [(10**12, 4, 5, 3), (2**62, 4), (6, 4, 5, 4), (-6, 4, 5, 3)])
def test_a_header_that_asks_for_more_than_there_is(tmp_path, shape, user_error):
  """Nothing is taken into memory for it."""
  name = f'npz:{tmp_path}/x.npz'
  with zipfile.ZipFile(tmp_path / 'x.npz', 'w') as archive:
    for key, array in arrays().items():
      file = io.BytesIO()
      np.save(file, array)
      archive.writestr(f'{key}.npy', header(shape) + bytes(360) if key == 'x_train' else file.getvalue())
  with user_error(name, 'x_train is not a plain array'):
    load(name)


def mutated(content, rng):
  """A file with some bytes changed, cut, doubled or exchanged, more often where its structure is than in its pixels."""
  content = bytearray(content)
  for _ in range(rng.integers(1, 4)):
    place, kind = int(rng.integers(len(content))), rng.integers(8)
    if kind < 4:
      content[place] = rng.integers(256)
    elif kind == 4:
      content[place] ^= 1 << rng.integers(8)
    elif kind == 5:
      del content[place:place + int(rng.integers(1, 9))]
    elif kind == 6:
      content[place:place] = bytes(rng.integers(0, 256, rng.integers(1, 9), np.uint8))
    elif rng.integers(10) == 0:
      del content[place:]
    content = content or bytearray(b'x')
  return bytes(content)


@pytest.mark.slow
@pytest.mark.once
@pytest.mark.filterwarnings('ignore')  # zipfile's and NumPy's remarks on damaged files.
def test_ten_thousand_damaged_archives_end_in_data_or_in_one_line(tmp_path):
  rng, path = np.random.default_rng(0), tmp_path / 'x.npz'
  small = {'x_train': np.arange(8, dtype=np.uint8).reshape(4, 1, 2), 'y_train': np.array([0, 1, 0, 1], np.uint8),
           'x_test': np.arange(4, dtype=np.uint8).reshape(2, 1, 2), 'y_test': np.array([0, 1], np.uint8)}
  originals, names = [], {'class_names': np.array(['a', 'b'])}
  for writer, more in ((np.savez, {}), (np.savez_compressed, names), (np.savez, names)):
    writer(path, **small, **more)
    originals.append(path.read_bytes())
  outcomes = {'read': 0, 'refused': 0}
  for i in range(10_000):
    damage = mutated if i % 5 else repacked
    with open(path, 'r+b') as file:  # Emptied first, its blocks would be written to the disk at once.
      file.truncate(file.write(damage(originals[i % 3], rng)))
    try:
      data = load(f'npz:{path}')
    except UserError as error:
      assert '\n' not in str(error) and len(str(error)) < 1000
      outcomes['refused'] += 1
    else:
      assert isinstance(data, Dataset) and data.train.images.dtype == np.uint8 and data.train.images.ndim == 4
      assert data.train.labels.max() < len(data.class_names) and describe(data).isprintable()
      outcomes['read'] += 1
  assert outcomes['read'] > 100 and outcomes['refused'] > 5000


def repacked(content, rng):
  """An archive with one entry mutated and its checksum made anew, so that the damage reaches NumPy."""
  with zipfile.ZipFile(io.BytesIO(content)) as archive:
    entries = {entry: archive.read(entry) for entry in archive.namelist()}
  chosen = list(entries)[rng.integers(len(entries))]
  entries[chosen] = mutated(entries[chosen], rng)
  file = io.BytesIO()
  with zipfile.ZipFile(file, 'w') as archive:
    for entry, value in entries.items():
      archive.writestr(entry, value)
  return file.getvalue()


def test_too_few_images_for_a_test_part(user_error):
  images = np.zeros((4, 2, 2, 1), np.uint8)
  with user_error('test share 0.2 of the 2 images of class 0 leaves the test part none', 'give a test part of your own'):
    from_arrays(images, np.array([0, 0, 1, 1]))

import numpy as np
import pytest

from enas_jax.data import load
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


@pytest.mark.parametrize('changes, expected', [
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

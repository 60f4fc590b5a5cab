import numpy as np
import pytest
from PIL import Image

from enas_jax.data import load
from enas_jax.types import Task


def pixels(value, *shape):
  return np.full(shape or (4, 5), value, np.uint8)


@pytest.fixture
def tree(tmp_path):
  """Writes images by path; returns the data set's name."""
  def write(images):
    for path, image in images.items():
      (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
      if isinstance(image, bytes):
        (tmp_path / path).write_bytes(image)
      else:
        (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(tmp_path / path)
    return f'folder:{tmp_path}'
  return write


TWO_PARTS = {
    'train/bee/1.png': pixels(1), 'train/bee/2.png': pixels(2), 'train/ant/1.png': pixels(3),
    'test/ant/1.png': pixels(4), 'test/bee/1.bmp': pixels(5)}
ONE_PART = {f'{label}/{i}.png': pixels(20 * j + i) for j, label in enumerate(('ant', 'bee')) for i in range(10)}


def test_train_and_test_folders(tree):
  data = load(tree(TWO_PARTS))
  assert data.task == Task((4, 5, 1), 2)
  assert data.class_names == ('ant', 'bee')
  assert data.train.images[:, 0, 0, 0].tolist() == [3, 1, 2]
  assert data.train.labels.tolist() == [0, 1, 1]
  assert data.test.images[:, 0, 0, 0].tolist() == [4, 5]
  assert data.test.labels.tolist() == [0, 1]


def test_without_them_a_fifth_is_split_off(tree):
  name = tree(ONE_PART)
  data = load(name)
  assert np.bincount(data.train.labels).tolist() == [8, 8]
  assert np.bincount(data.test.labels).tolist() == [2, 2]
  train, test = ({int(image[0, 0, 0]) for image in part.images} for part in (data.train, data.test))
  assert not train & test and train | test == {*range(10), *range(20, 30)}
  assert all((part.images[:, 0, 0, 0] >= 20).tolist() == (part.labels == 1).tolist() for part in (data.train, data.test))
  assert load(name).checksum == data.checksum


def test_a_class_may_be_called_train(tree):
  data = load(tree({f'{label}/{i}.png': pixels(i) for label in ('car', 'train') for i in range(5)}))
  assert data.class_names == ('car', 'train')


def test_one_image_with_colours_makes_all_rgb(tree):
  colour = np.stack([pixels(10), pixels(20), pixels(30)], axis=-1)
  data = load(tree(TWO_PARTS | {'train/ant/2.png': colour, 'train/ant/3.png': Image.fromarray(pixels(1) > 0).convert('1')}))
  assert data.task == Task((4, 5, 3), 2)
  assert data.train.images[:, 0, 0].tolist() == [[3] * 3, [10, 20, 30], [255] * 3, [1] * 3, [2] * 3]


def test_hidden_and_other_files_are_ignored(tree):
  name = tree(TWO_PARTS | {'train/.git/1.png': b'', 'train/ant/.1.png': b'', 'train/ant/notes.txt': b'', 'readme.md': b''})
  assert len(load(name).train.labels) == 3


@pytest.mark.parametrize('images, expected', [
    (TWO_PARTS | {'train/bee/2.png': pixels(0, 6, 7)}, ('train/bee/2.png is 7x6', 'train/ant/1.png is 5x4', 'resize')),
    (TWO_PARTS | {'test/ant/1.png': pixels(0, 6, 7)}, ('test/ant/1.png is 7x6', 'resize')),
    (TWO_PARTS | {'train/bee/2.png': b'text'}, ('train/bee/2.png cannot be read',)),
    (TWO_PARTS | {'train/bee/2.png': np.zeros((4, 5), np.uint16)}, ('train/bee/2.png', 'more than 8 bits')),
    (TWO_PARTS | {'train/cat/notes.txt': b''}, ('train/cat has no images', '.png')),
    (TWO_PARTS | {'test/cat/1.png': pixels(0)}, ('class cat is in test',)),
    ({k: v for k, v in TWO_PARTS.items() if 'test' not in k}, ('no folder test',)),
    ({k: v for k, v in TWO_PARTS.items() if 'train' not in k}, ('no folder train',)),
    ({k: v for k, v in TWO_PARTS.items() if k != 'train/ant/1.png'}, ('has 1 class folders', 'at least 2')),
    ({k: v for k, v in TWO_PARTS.items() if 'test' not in k} | {'test/1.png': pixels(0)}, ('test has 0 class folders',)),
    ({'ant/1.png': pixels(0)}, ('has 1 class folders', 'at least 2')),
    ({'1.png': pixels(0)}, ('has 0 class folders', 'at least 2')),
    (ONE_PART | {'cat/1.png': pixels(0), 'cat/2.png': pixels(0)}, ('class cat has 2 images', 'at least 3')),
])
def test_folders_that_do_not_fit_are_refused(tree, user_error, images, expected):
  name = tree(images)
  with user_error(name, *expected):
    load(name)


def test_a_cut_image_is_refused(tree, tmp_path, user_error):
  name = tree(TWO_PARTS | {'train/bee/2.png': np.random.default_rng(0).integers(0, 256, (4, 5), dtype=np.uint8)})
  path = tmp_path / 'train/bee/2.png'
  path.write_bytes(path.read_bytes()[:50])
  with user_error(name, 'train/bee/2.png cannot be read'):
    load(name)


def test_what_is_no_folder_is_refused(tmp_path, user_error):
  with user_error('missing', 'no such folder'):
    load(f'folder:{tmp_path}/missing')
  (tmp_path / 'some').touch()
  with user_error('some', 'a file'):
    load(f'folder:{tmp_path}/some')

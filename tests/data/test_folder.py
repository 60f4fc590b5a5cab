import io
import json
import os

import numpy as np
import pytest
from PIL import Image
from support.image_files import exif

from enas_jax.data import cache, describe, folder, load, record
from enas_jax.data.augment import paper_choice
from enas_jax.data.decoding import Picture
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


def test_what_is_left_out_is_told(tree):
  others = ['train/.git/1.png', 'train/ant/.1.png', 'train/ant/notes.txt', 'train/2.png', 'readme.md', 'extra/ant/1.png',
            'train/ant/old/LICENSE', '.DS_Store']
  data = load(tree(TWO_PARTS | dict.fromkeys(others, b'')))
  assert len(data.train.labels) == 3
  assert data.notes == ('left out: 3 files not named like images (1 .md, 1 .txt, 1 without suffix), 1 file in no class folder, '
                        '3 hidden, folder extra beside train and test',)


def test_names_that_cannot_be_printed_are_told_in_ascii(tree, tmp_path):
  name = tree(TWO_PARTS)
  os.mkdir(os.fsencode(tmp_path) + b'/extra\xff')
  (tmp_path / 'train/ant/a.\n').touch()
  (tmp_path / 'train/ant/a\n.png').write_bytes((tmp_path / 'train/ant/1.png').read_bytes())
  data = load(name)
  assert len(data.train.labels) == 4 and describe(data).isprintable()
  assert data.notes == (
      "left out: 1 file not named like images (1 '.\\n'), folder 'extra\\udcff' beside train and test",)


def test_folders_in_a_class_belong_to_it_and_all_suffixes_are_read(tree):
  more = {'train/ant/a/b/2.jfif': pixels(200), 'train/ant/0.PNG': pixels(7), 'train/ant/z.tga': pixels(8)}
  data = load(tree(TWO_PARTS | more))
  assert data.train.images[:, 0, 0, 0].tolist() == [7, 3, 200, 8, 1, 2]
  assert data.train.labels.tolist() == [0] * 4 + [1] * 2
  assert data.notes == ()


@pytest.mark.parametrize('part', ['val', 'valid', 'validation', 'Val'])
def test_a_validation_part(tree, part):
  data = load(tree(TWO_PARTS | {f'{part}/bee/1.png': pixels(9), f'{part}/bee/2.png': pixels(10)}))
  assert data.valid.images[:, 0, 0, 0].tolist() == [9, 10] and data.valid.labels.tolist() == [1, 1]
  assert data.train.images[:, 0, 0, 0].tolist() == [3, 1, 2] and data.test.images[:, 0, 0, 0].tolist() == [4, 5]
  assert 'validation 2 (0 to 2 a class)' in describe(data)


@pytest.mark.parametrize(('train', 'test'), [('Train', 'TEST'), ('training', 'testing')])
def test_parts_have_other_names(tree, train, test):
  names = {path.replace('train', train).replace('test', test): image for path, image in TWO_PARTS.items()}
  assert load(tree(names)).train.images[:, 0, 0, 0].tolist() == [3, 1, 2]


def test_gray_images_saved_as_gif_are_gray_and_not_mirrored(tree):
  rng = np.random.default_rng(0)
  images = {path.replace('.png', '.gif').replace('.bmp', '.gif'): Image.fromarray(rng.integers(0, 256, (16, 16), np.uint8))
            for path in TWO_PARTS}
  data = load(tree(images))
  assert data.task.image_shape == (16, 16, 1)
  np.testing.assert_array_equal(data.test.images[0, ..., 0], np.asarray(images['test/ant/1.gif']))
  assert not paper_choice(data.name, data.task.image_shape).flip


def test_what_was_done_to_images_is_told(tree):
  frames = {'save_all': True, 'append_images': [Image.new('L', (5, 4))]}
  turned, animated = io.BytesIO(), io.BytesIO()
  Image.new('L', (4, 5), 50).save(turned, 'JPEG', exif=b'Exif\0\0' + exif(6))
  Image.new('L', (5, 4), 60).save(animated, 'GIF', **frames)
  name = tree(TWO_PARTS | {'test/ant/2.jpg': turned.getvalue(), 'test/ant/3.gif': animated.getvalue(),
                           'test/ant/4.png': Image.new('LA', (5, 4), (0, 0))})
  for _ in range(2):  # Decoded, then from the cache.
    data = load(name)
    assert data.test.images[:, 0, 0, 0].tolist() == [4, 50, 60, 255, 5]
    assert data.notes == ('1 turned as their EXIF orientation says', '1 with transparency, shown over white',
                          '1 animated or of several pages, of which the first is read')


def test_the_first_line(tree):
  data = load(tree(TWO_PARTS | {'train/ant/readme.txt': b''}))
  assert describe(data) == (
      f'data {data.name!r}: 2 classes of images 4 x 5 x 1 (height, width, channels): train 3 (1 to 2 a class), '
      'test 2 (1 a class); left out: 1 file not named like images (1 .txt)')
  found = record(data)
  assert json.loads(json.dumps(found)) == found
  assert found['parts']['train'] | {'checksum': '', 'content': ''} == {
      'images': 3, 'a_class': [1, 2], 'checksum': '', 'content': ''}
  assert found['parts'].keys() == {'train', 'test'} and found['notes'] == list(data.notes)


@pytest.mark.parametrize('images, expected', [
    (TWO_PARTS | {'train/bee/2.png': pixels(0, 6, 7)}, ('train/bee/2.png is 7x6', 'train/ant/1.png is 5x4', 'resize')),
    (TWO_PARTS | {'test/ant/1.png': pixels(0, 6, 7)}, ('test/ant/1.png is 7x6', 'resize')),
    (TWO_PARTS | {'train/bee/2.png': b'text'}, ('train/bee/2.png cannot be read',)),
    (TWO_PARTS | {'train/bee/2.png': np.zeros((4, 5), np.uint16)}, ('train/bee/2.png', 'more than 8 bits')),
    (TWO_PARTS | {'train/cat/notes.txt': b''}, ('train/cat has no images', '.png')),
    (TWO_PARTS | {'test/cat/1.png': pixels(0)}, ('class cat is in test',)),
    (TWO_PARTS | {'val/cat/1.png': pixels(0)}, ('class cat is in valid',)),
    (TWO_PARTS | {'val/1.png': pixels(0)}, ('val has 0 class folders', 'at least 1')),
    (TWO_PARTS | {'val/ant/1.png': pixels(0), 'valid/ant/1.png': pixels(0)}, ('val and valid are one part', 'keep one')),
    (TWO_PARTS | {'training/ant/1.png': pixels(0)}, ('train and training are one part', 'keep one')),
    ({k.replace('test', 'val'): v for k, v in TWO_PARTS.items()}, ('no folder test', 'does not stand in for it', 'add it')),
    ({k.replace('train', 'a').replace('test', 'b'): v for k, v in TWO_PARTS.items()} | {'b/bee/2.png': pixels(0)},
     ('a and b hold no images, but folders of the same names', 'call them train and test')),
    (ONE_PART | {f'valid/ant/{i}.png': pixels(0) for i in range(3)},
     ('folder valid holds folders named like the classes', 'ant')),
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


@pytest.mark.parametrize(('make', 'expected'), [
    (os.mkfifo, ('is a pipe, socket or device, not a file', 'replace or remove it')),
    (lambda path: path.symlink_to('nothing'), ('is a link to nothing', 'replace or remove it')),
    (lambda path: path.symlink_to(path.name), ('cannot be read (Too many levels of symbolic links)', 'remove it')),
    (lambda path: path.symlink_to('/dev/zero'), ('is a pipe, socket or device',)),
    (lambda path: path.with_suffix('').symlink_to(path.parent), ('is a link to a folder that holds it', 'remove it')),
])
def test_what_is_no_file_is_refused_and_never_waited_for(tree, tmp_path, make, expected, user_error):
  name = tree(TWO_PARTS)
  make(tmp_path / 'train/bee/9.png')
  with user_error(name, *expected):
    load(name)


@pytest.mark.parametrize(('module', 'call'), [(os, 'scandir'), (os, 'stat'), (Image, 'open')])
def test_what_may_not_be_read_is_refused(tree, monkeypatch, module, call, user_error):
  """Every call that touches the disk, on every path that it is called for. (Permissions would not keep root away.)"""
  name, original, paths = tree(TWO_PARTS), getattr(module, call), []
  monkeypatch.setattr(cache, 'of_folder', lambda root, keys: None)
  monkeypatch.setattr(module, call, lambda path, **options: paths.append(str(path)) or original(path, **options))
  load(name)
  paths = {path for path in paths if path.startswith(name.removeprefix('folder:'))}
  assert paths
  for denied in paths:
    def deny(path, *, denied=denied, **options):
      if str(path) == denied:
        raise PermissionError(13, 'Permission denied', denied)
      return original(path, **options)
    monkeypatch.setattr(module, call, deny)
    with user_error(name, denied, 'cannot be read (Permission denied); '):
      load(name)


def test_more_than_memory_holds_is_refused(tree, monkeypatch, user_error):
  name, side = tree(TWO_PARTS), 10**6
  monkeypatch.setattr(folder, 'decode', lambda *_: Picture(np.broadcast_to(np.uint8(0), (side, side, 3)), ()))
  with user_error(name, f'5 images of {side} x {side} x 3 need ', ' GB of memory; give fewer or smaller ones'):
    load(name)


def test_what_is_no_folder_is_refused(tmp_path, user_error):
  with user_error('missing', 'no such folder'):
    load(f'folder:{tmp_path}/missing')
  (tmp_path / 'some').touch()
  with user_error('some', 'a file'):
    load(f'folder:{tmp_path}/some')

"""Sets of our own, prepared without TensorFlow; and, where they are prepared, the real ones against their originals."""
import gzip
import json
import logging
import os
import pathlib
import subprocess
import sys
import types

import numpy as np
import pytest
from PIL import Image
from support.image_files import over_white, png

from enas_jax.data import cache, describe, load, tfds
from enas_jax.types import Task

PREPARED = pathlib.Path(os.environ.get('ENAS_JAX_TFDS', '~/tensorflow_datasets')).expanduser()
SHARED = pathlib.Path(__file__).resolve().parents[3] / 'shared/data/images'
NAMES = ('ant', 'bee', 'cat')


def examples(count, height=6, width=5, channels=3, seed=0):
  rng = np.random.default_rng(seed)
  return rng.integers(0, 256, (count, height, width, channels), dtype=np.uint8), np.arange(count) % len(NAMES)


@pytest.fixture
def prepare(tmp_path):
  """Writes a set as array_record with TFDS's own machinery, and no TensorFlow."""
  pytest.importorskip('importlib_resources', reason='TFDS prepares sets with it')
  library = pytest.importorskip('tensorflow_datasets')
  library.disable_progress_bar()

  def write(name='TinyInsects', feature=None, label=None, keys=('image', 'label'), **splits):
    splits = splits or {'train': examples(7), 'test': examples(3, seed=1)}
    feature = feature or library.features.Image(shape=(6, 5, 3))
    encoded = isinstance(feature, library.features.Image)
    label = label or library.features.ClassLabel(names=NAMES)

    def info(self):
      features = library.features.FeaturesDict({'image': feature, 'label': label})
      return library.core.DatasetInfo(builder=self, features=features, supervised_keys=keys)

    def generate(self, images, labels):
      for i, (image, number) in enumerate(zip(images, labels, strict=True)):
        if not isinstance(image, str):  # Else a file, stored as it is.
          image = Image.fromarray(image.squeeze()) if encoded else image.astype(feature.np_dtype)
        yield i, {'image': image, 'label': int(number)}

    body = {
        'VERSION': library.core.Version('1.0.0'), '_info': info, '_generate_examples': generate, '__module__': __name__,
        '_split_generators': lambda self, _: {split: generate(self, *part) for split, part in splits.items()}}
    builder_class = types.new_class(
        name, (library.core.GeneratorBasedBuilder,), {'skip_registration': True}, lambda space: space.update(body))
    builder = builder_class(data_dir=tmp_path, file_format='array_record')
    builder.download_and_prepare()
    return pathlib.Path(builder.data_dir)
  return write


def same(part, images, labels):
  """TFDS shuffles what it prepares."""
  def order(images, labels):
    return sorted((image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True))
  return order(part.images, part.labels) == order(images, labels)


@pytest.mark.parametrize('channels, kind', [(3, 'Image'), (1, 'Image'), (3, 'Tensor')])
def test_a_prepared_set_comes_back(prepare, tmp_path, channels, kind):
  import tensorflow_datasets as library
  feature = {
      'Image': lambda: library.features.Image(shape=(6, 5, channels)),
      'Tensor': lambda: library.features.Tensor(shape=(6, 5, channels), dtype=np.uint8)}[kind]()
  train, test = examples(7, channels=channels), examples(3, channels=channels, seed=1)
  prepare(feature=feature, train=train, test=test)
  data = load('tiny_insects', data_dir=tmp_path)
  assert data.task == Task((6, 5, channels), 3)
  assert data.class_names == NAMES
  assert same(data.train, *train) and same(data.test, *test)


def test_the_second_load_reads_the_cache(prepare, tmp_path, monkeypatch):
  prepare()
  first = load('tiny_insects:1.0.0', data_dir=tmp_path)
  monkeypatch.setattr(tfds, '_read', None)
  second = load('tiny_insects:1.0.0', data_dir=str(tmp_path))
  assert second.checksum == first.checksum
  for ours, theirs in zip((*first.train, *first.test), (*second.train, *second.test), strict=True):
    np.testing.assert_array_equal(ours, theirs)
    assert ours.dtype == theirs.dtype


def flip_a_bit(path):
  content = bytearray(path.read_bytes())
  content[-1] ^= 1
  path.write_bytes(content)


@pytest.mark.parametrize('damage', [
    lambda folder: flip_a_bit(folder / 'train_images.npy'),
    lambda folder: os.truncate(folder / 'train_images.npy', 200),
    lambda folder: os.truncate(folder / 'test_labels.npy', 0),
    lambda folder: (folder / 'test_images.npy').unlink(),
    lambda folder: (folder / 'meta.json').write_text('{'),
    lambda folder: (folder / 'meta.json').write_text('{}'),
])
def test_a_damaged_cache_is_built_again_and_says_so(prepare, tmp_path, damage, caplog):
  folder = cache.beside(prepare())
  first = load('tiny_insects', data_dir=tmp_path)
  damage(folder)
  caplog.clear()
  assert load('tiny_insects', data_dir=tmp_path).checksum == first.checksum
  (record,) = caplog.records
  assert record.message.startswith(f'The cache {folder} is damaged and is built again: ')
  assert cache.read(folder, None).checksum == first.checksum
  assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_set_prepared_anew_gets_a_new_cache(prepare, tmp_path):
  directory = prepare()
  before = cache.beside(directory)
  assert cache.beside(directory) == before
  record = next(directory.glob('*train*array_record*'))
  os.utime(record, ns=(1, 1))
  assert cache.beside(directory) != before


def test_a_folder_that_cannot_be_written_to_costs_only_time(prepare, tmp_path, caplog):
  (prepare() / cache.FOLDER).touch()
  assert load('tiny_insects', data_dir=tmp_path).task.num_classes == 3
  assert 'every start will read all files' in caplog.text


def test_where_only_others_may_write_the_users_folder_keeps_it(prepare, tmp_path, monkeypatch):
  directory = prepare()
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'caches'))
  monkeypatch.setattr(os, 'access', lambda path, mode: path != directory)
  first = load('tiny_insects', data_dir=tmp_path)
  assert not (directory / cache.FOLDER).exists() and cache.beside(directory).is_relative_to(tmp_path / 'caches')
  monkeypatch.setattr(tfds, '_read', None)
  assert load('tiny_insects', data_dir=tmp_path).checksum == first.checksum


def test_an_unreadable_set_is_refused(tmp_path, monkeypatch, user_error):
  from tensorflow_datasets.core import read_only_builder

  def deny(*_, **__):
    raise PermissionError(13, 'Permission denied', 'dataset_info.json')
  monkeypatch.setattr(read_only_builder, 'builder_from_files', deny)
  with user_error("'cifar10'", 'dataset_info.json cannot be read (Permission denied)', '--data_dir'):
    load('cifar10', data_dir=tmp_path)


def test_validation_stands_in_for_a_missing_test_split(prepare, tmp_path):
  train, validation = examples(6), examples(3, seed=1)
  prepare(train=train, validation=validation)
  data = load('tiny_insects', data_dir=tmp_path)
  assert same(data.test, *validation) and data.valid is None
  assert "its split 'validation' is the test part" in describe(data)


def test_beside_a_test_split_validation_is_the_part_to_decide_by(prepare, tmp_path):
  parts = {'train': examples(6), 'test': examples(3, seed=1), 'validation': examples(4, seed=2), 'extra': examples(2, seed=3)}
  prepare(**parts)
  for _ in range(2):  # Decoded, then from the cache.
    data = load('tiny_insects', data_dir=tmp_path, note=pytest.fail)
    assert same(data.train, *parts['train']) and same(data.valid, *parts['validation']) and same(data.test, *parts['test'])
    assert data.notes == ('left out: split extra',)


def test_images_are_read_as_those_of_a_folder(prepare, tmp_path):
  """An upside-down photograph, strokes on transparency, and what is deeper than it says."""
  import tensorflow_datasets as library
  samples = np.random.default_rng(0).integers(0, 256, (6, 5, 4), np.uint8)
  files = [png(samples[..., :3], 8, 2, orientation=3), png(samples, 8, 6)]
  for i, file in enumerate(files):
    (tmp_path / f'{i}.png').write_bytes(file)
  paths = [str(tmp_path / f'{i}.png') for i in range(len(files))]
  prepare(feature=library.features.Image(shape=(6, 5, 3)), train=(paths, [0, 1]), test=(paths, [1, 0]),
          label=library.features.ClassLabel(names=NAMES[:2]))
  data = load('tiny_insects', data_dir=tmp_path)
  assert same(data.train, [samples[::-1, ::-1, :3], over_white(samples[..., :3], samples[..., 3])], [0, 1])
  assert data.notes == ('2 turned as their EXIF orientation says', '2 with transparency, shown over white')


def test_a_deep_image_is_refused(prepare, tmp_path, user_error):
  import tensorflow_datasets as library
  (tmp_path / 'deep.png').write_bytes(png(np.ones((6, 5, 3), int), 16, 2))
  part = [str(tmp_path / 'deep.png')] * 3, [0, 1, 2]
  prepare(feature=library.features.Image(shape=(6, 5, 3)), train=part, test=part)
  with user_error("'tiny_insects': image 0 of split 'train'", 'more than 8 bits a channel', 'convert it to 8'):
    load('tiny_insects', data_dir=tmp_path)


def test_channels_first_are_refused(prepare, tmp_path, user_error):
  import tensorflow_datasets as library
  part = examples(6, height=3, width=8, channels=8)
  prepare(feature=library.features.Tensor(shape=(3, 8, 8), dtype=np.uint8), train=part, test=part)
  with user_error('tiny_insects', '3 x 8 with 8 channels', 'transpose(0, 2, 3, 1)'):
    load('tiny_insects', data_dir=tmp_path)


@pytest.mark.parametrize('split', ['train', 'test'])
def test_a_missing_split_is_refused(prepare, tmp_path, split, user_error):
  prepare(**{split: examples(6)})
  with user_error('tiny_insects', f"['{split}']", 'are needed'):
    load('tiny_insects', data_dir=tmp_path)


def test_sets_of_another_kind_are_refused(prepare, tmp_path, user_error):
  import tensorflow_datasets as library
  prepare('NoKeys', keys=None)
  prepare('TwoImages', keys=('image', 'image'))
  prepare('Numbers', label=library.features.Scalar(np.int64))
  prepare('Deep', feature=library.features.Tensor(shape=(6, 5, 3), dtype=np.int64))
  reasons = {'no_keys': 'keys None', 'two_images': 'Image and Image', 'numbers': 'Image and Scalar', 'deep': 'int64'}
  for name, reason in reasons.items():
    with user_error(f"'{name}'", reason):
      load(name, data_dir=tmp_path)


def test_images_of_varying_shape_are_refused(prepare, tmp_path, user_error):
  import tensorflow_datasets as library
  images = [*examples(5)[0], *examples(1, height=8)[0]]
  prepare(feature=library.features.Image(shape=(None, None, 3)), train=(images, [0, 1, 2, 0, 1, 2]), test=examples(3))
  with user_error('tiny_insects', 'varying shape', '[6, 5, 3]', '[8, 5, 3]', 'folder:PATH'):
    load('tiny_insects', data_dir=tmp_path)


def test_another_file_format_is_refused(prepare, tmp_path, user_error):
  directory = prepare()
  path = directory / 'dataset_info.json'
  path.write_text(json.dumps(json.loads(path.read_text()) | {'fileFormat': 'tfrecord'}))
  with user_error('prepared as tfrecord', f'delete {directory}', "file_format='array_record'"):
    load('tiny_insects', data_dir=tmp_path)


def test_damaged_records_are_refused(prepare, tmp_path, user_error):
  directory = prepare()
  os.truncate(next(directory.glob('*train*array_record*')), 100)
  with user_error('tiny_insects', f'cannot read {directory}', 'prepare it again'):
    load('tiny_insects', data_dir=tmp_path)


@pytest.mark.parametrize('name, expected', [
    ('cifr10', ('did you mean cifar10', 'folder:PATH')),
    ('a b', ('no data set of this name',)),
    ('../some', ('no data set of this name',)),
    ('some:where', ('no data set of this name',)),
    ('emnist/balancd', ("no configuration 'balancd'", 'did you mean balanced?')),
    ('imdb_reviews', ('not an image-classification set', 'Text and ClassLabel')),
    ('celeb_a', ('not an image-classification set',)),
])
def test_names_of_no_use_are_refused(tmp_path, name, expected, user_error):
  with user_error(repr(name), *expected):
    load(name, data_dir=tmp_path)


@pytest.mark.parametrize('name', ['kmnist', 'emnist/balanced', 'cifar10:3.0.2'])
def test_a_set_that_nobody_prepared_comes_with_the_command(tmp_path, name, user_error):
  builder = f"tfds.builder('{name}', data_dir='{tmp_path}', file_format='array_record').download_and_prepare()"
  with user_error(f'not prepared in {tmp_path}', 'pip install "enas_jax[tfds]"', builder):
    load(name, data_dir=tmp_path)


def test_reading_imports_no_tensorflow_and_prints_nothing(prepare, tmp_path):
  prepare()
  code = f"""
import sys
from enas_jax.data import load
for _ in range(2):
  load('tiny_insects', data_dir={str(tmp_path)!r})
assert 'tensorflow' not in sys.modules
"""
  result = subprocess.run([sys.executable, '-c', code], check=True, capture_output=True, text=True)
  assert result.stdout == result.stderr == ''


def idx(folder, part):
  """The images and labels of the MNIST family's original files."""
  images, labels = (
      np.frombuffer(gzip.decompress((folder / f'{part}-{kind}-ubyte.gz').read_bytes()), np.uint8, offset=header)
      for kind, header in (('images-idx3', 16), ('labels-idx1', 8)))
  return images.reshape(-1, 28, 28, 1), labels


def cifar10(part):
  with np.load(SHARED / 'cifar10' / 'cifar10_delta.npz') as archive:
    images, labels = archive[f'{part}_delta'], archive[f'{part}_labels']
  images = np.cumsum(np.cumsum(images, axis=2, dtype=np.uint8), axis=3, dtype=np.uint8).transpose(0, 2, 3, 1).copy()
  images[..., 0] += images[..., 1]
  images[..., 2] += images[..., 1]
  return images, labels


@pytest.mark.parametrize('name, folder', [
    ('fashion_mnist', pathlib.Path('/usr/share/datasets/fashion-mnist')),
    ('mnist', SHARED / 'mnist'),
    ('cifar10', SHARED / 'cifar10'),
])
def test_real_sets_are_their_originals(name, folder, caplog):
  for path, what in ((PREPARED / name, 'ENAS_JAX_TFDS names no folder with the prepared set'), (folder, 'no originals')):
    if not path.is_dir():
      pytest.skip(f'{what}: {path} is absent')
  caplog.set_level(logging.WARNING)
  data = load(name, data_dir=PREPARED)
  assert same(data.train, *(cifar10('train') if name == 'cifar10' else idx(folder, 'train')))
  assert same(data.test, *(cifar10('test') if name == 'cifar10' else idx(folder, 't10k')))
  assert not caplog.records

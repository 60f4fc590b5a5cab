import hashlib
import struct

import numpy as np
import pytest

from enas_jax.data import Dataset, ImageSet, array_checksum, dataset, hold_out, statistics
from enas_jax.types import Task


def numbered(labels):
  """Images whose pixels tell their place."""
  labels = np.array(labels, np.int32)
  return ImageSet(np.arange(len(labels), dtype=np.uint8)[:, None, None, None] + np.zeros((1, 2, 3, 1), np.uint8), labels)


def places(part):
  return part.images[:, 0, 0, 0].tolist()


def test_hold_out_takes_the_share_of_every_class():
  images = numbered([0] * 40 + [1] * 20 + [2] * 7)
  train, validation = hold_out(images, 0.25, seed=3, num_classes=3)
  assert np.bincount(validation.labels).tolist() == [10, 5, 2]
  assert np.bincount(train.labels).tolist() == [30, 15, 5]
  assert sorted(places(train) + places(validation)) == list(range(67))
  for part in (train, validation):
    assert places(part) == sorted(places(part))
    np.testing.assert_array_equal(part.labels, images.labels[places(part)])
    assert part.images.dtype == np.uint8 and part.labels.dtype == np.int32


def test_hold_out_depends_on_the_seed_alone():
  images = numbered([0, 1] * 50)
  parts = [places(hold_out(images, 0.2, seed=seed, num_classes=2)[1]) for seed in (0, 0, 1)]
  assert parts[0] == parts[1] != parts[2]
  assert places(hold_out(numbered([0, 0, 0, 1, 1, 1]), 0.34, seed=0, num_classes=2)[1]) == [2, 5]  # On every machine.


@pytest.mark.parametrize('share', [0, 1, -0.1, 1.5, float('nan')])
def test_hold_out_refuses_a_share_outside_0_to_1(share, user_error):
  with user_error(share, '(0, 1)'):
    hold_out(numbered([0, 1]), share, seed=0, num_classes=2)


@pytest.mark.parametrize('share, part', [(0.1, 'validation'), (0.9, 'training')])
def test_hold_out_refuses_to_empty_a_class(share, part, user_error):
  with user_error(share, 'the 3 images of class 1', f'the {part} part none'):
    hold_out(numbered([0] * 20 + [1] * 3), share, seed=0, num_classes=2)


@pytest.mark.parametrize('channels', [1, 3])
def test_statistics_are_those_of_all_pixels(channels, monkeypatch):
  monkeypatch.setattr(dataset, 'CHUNK', 4)
  images = np.random.default_rng(0).integers(0, 256, (10, 5, 6, channels), dtype=np.uint8)
  mean, std = statistics(images)
  pixels = images.astype(np.float64) / 255
  np.testing.assert_allclose(mean, pixels.mean(axis=(0, 1, 2)), rtol=1e-7)
  np.testing.assert_allclose(std, pixels.std(axis=(0, 1, 2)), rtol=1e-7)
  assert mean.dtype == std.dtype == np.float32


@pytest.mark.parametrize('value', [0, 77, 255])
def test_a_constant_channel_has_deviation_1(value):
  mean, std = statistics(np.full((3, 4, 4, 2), value, np.uint8))
  np.testing.assert_array_equal(std, [1, 1])
  np.testing.assert_allclose(mean, value / 255, rtol=1e-7)


def test_checksum_is_the_same_on_every_machine():
  array = np.arange(24, dtype=np.int32).reshape(2, 3, 4)
  content = b'<i4(2, 3, 4)' + struct.pack('<24i', *range(24))
  assert array_checksum(array) == hashlib.blake2b(content, digest_size=8).hexdigest()
  assert array_checksum(array.astype('>i4')) == array_checksum(array)
  assert array_checksum(np.asfortranarray(array)) == array_checksum(array)


def test_checksum_tells_arrays_apart():
  array = np.arange(24, dtype=np.int32).reshape(2, 3, 4)
  changed = array.copy()
  changed[1, 2, 3] += 1
  others = [(changed,), (array.reshape(4, 6),), (array.astype(np.uint32),), (array, array), (array[:1], array[1:])]
  assert len({array_checksum(array), *(array_checksum(*other) for other in others)}) == 6


def test_checked_describes_the_task():
  part = numbered([0, 1, 2])
  data = Dataset.checked('some', part, ImageSet(part.images, part.labels.astype(np.uint8)), ['a', 'b', 'c'])
  assert data.task == Task((2, 3, 1), 3)
  assert data.class_names == ('a', 'b', 'c')
  assert data.test.labels.dtype == np.int32
  assert data.checksum == array_checksum(*part, *part)


def part(labels=(0, 1), shape=(2, 3, 1), dtype=np.uint8):
  return ImageSet(np.zeros((len(labels), *shape), dtype), np.array(labels, np.int32))


@pytest.mark.parametrize('train, test, expected', [
    (part(dtype=np.float32), part(), ('train', 'float32')),
    (part(), part(shape=(2, 3)), ('test', '[2, 2, 3]')),
    (part(), part(shape=(3, 3, 1)), ('[2, 3, 1] in train', '[3, 3, 1] in test')),
    (part(()), part(), ('0 train images',)),
    (part(), part(()), ('0 test images',)),
    (part(), ImageSet(part().images, np.zeros(3, np.int32)), ('2 test images and 3 labels',)),
    (part((0, 1, 2)), part(), ('train label 2', '0 to 1')),
    (part(), part((0, -1)), ('test label -1', '0 to 1')),
    (part((0, 0)), part(), ('class 1 (b)', 'no training image')),
])
def test_checked_refuses_parts_that_do_not_fit(train, test, expected, user_error):
  with user_error("data 'some'", *expected):
    Dataset.checked('some', train, test, ['a', 'b'])


def test_more_than_any_machine_holds_is_refused(user_error):
  with user_error("data 'some'", '2 images of 1073741824 x 1073741824 x 3 need 6,917,529,027.6 GB of memory'):
    dataset.room_for('some', 2, (2**30, 2**30, 3))
  with user_error("data 'some'", 'GB of memory; give fewer or smaller ones'):
    dataset.room_for('some', 2**60, (2**30, 2**30, 3))


def test_checked_refuses_a_single_class(user_error):
  with user_error('only 1 class', 'at least 2'):
    Dataset.checked('some', part((0, 0)), part((0, 0)), ['a'])

"""The data set without data."""
import numpy as np
import pytest
import scipy.stats

from enas_jax.data import load, statistics


def test_pixels_are_gaussian_once_normalised_and_labels_even():
  data = load('gaussian')
  assert data.task.image_shape == (32, 32, 3) and data.task.num_classes == 10
  mean, std = statistics(data.train.images)
  pixels = ((data.train.images[:50] / 255 - mean) / std).reshape(-1)
  assert abs(pixels.mean()) < 0.01 and pixels.std() == pytest.approx(1, abs=0.01)
  assert scipy.stats.kstest(pixels + np.random.default_rng(0).uniform(-0.5, 0.5, pixels.size) / 40, 'norm').statistic < 0.01
  np.testing.assert_array_equal(np.bincount(data.train.labels), [200] * 10)
  assert data.checksum == load('gaussian').checksum == load('gaussian:32x32x3:10').checksum
  assert not np.array_equal(data.train.images[:200], data.test.images) and 'nothing to learn' in data.notes[0]


def test_another_shape():
  data = load('gaussian:7x9x1:3')
  assert data.task.image_shape == (7, 9, 1) and len(data.train.labels) == 2000 and set(data.test.labels) == {0, 1, 2}


@pytest.mark.parametrize(('name', 'parts'), [
    ('gaussian:', ('gaussian:', 'gaussian:28x28x1:10')), ('gaussian:32x32:10', ('not understood',)),
    ('gaussian:0x32x3:10', ('not understood',)),
    ('gaussian:8x8x5:10', ('channels 5', '4')), ('gaussian:2000x8x1:10', ('height 2000', '1024')),
    ('gaussian:8x8x1:1', ('at least 2',)), ('gaussian:8x8x1:9999', ('classes 9999', '1024')),
])
def test_bad_input(name, parts, user_error):
  with user_error(*parts):
    load(name)

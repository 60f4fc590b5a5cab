import subprocess
import sys

import numpy as np
import pytest

from enas_jax.data import load, published_statistics, statistics


@pytest.mark.parametrize('name', ['', 'folder:', 'npz:'])
def test_empty_names_and_paths_are_refused(name, user_error):
  with user_error('is empty', 'give'):
    load(name)


def test_the_default_needs_no_tfds():
  code = """
import sys
from enas_jax.data import load
load('fashion_mnist_10k')
assert not {'tensorflow', 'tensorflow_datasets'} & set(sys.modules)
"""
  subprocess.run([sys.executable, '-c', code], check=True)


def images_with(mean, std):
  """Images of this mean and deviation: some pixels black, some white, the others about the mean."""
  pixels = np.zeros((1000, 8, 8, len(mean)), np.uint8)
  for channel, (m, s) in enumerate(zip(mean, std, strict=True)):
    values = np.floor(255 * m + np.random.default_rng(0).random(64000))
    white, black = (round(64000 * s**2 / share) for share in (1 - m, m))
    values[:white], values[white:white + black] = 255, 0
    pixels[..., channel] = values.reshape(1000, 8, 8)
  return pixels


NOISE = np.random.default_rng(0).integers(0, 256, (10, 8, 8, 3), np.uint8)


def test_published_statistics_are_close_to_the_measured():
  images = load('fashion_mnist_10k').train.images
  mean, std = published_statistics('fashion_mnist_10k', images)
  np.testing.assert_allclose(statistics(images), (mean, std), rtol=0.01)
  assert mean.dtype == std.dtype == np.float32


@pytest.mark.parametrize('name, mean, std', [
    ('cifar10', [0.49139968, 0.48215827, 0.44653124], [0.24703233, 0.24348505, 0.26158768]),
    ('cifar100:3.0.2', [0.5071, 0.4865, 0.4409], [0.2673, 0.2564, 0.2762]),
    ('kmnist', [0.19036119], [0.34719803]),
    ('fashion_mnist', [0.2860402], [0.3530236]),
    ('emnist/balanced', [0.1751], [0.3332]),
])
def test_published_statistics(name, mean, std):
  np.testing.assert_array_equal(published_statistics(name, NOISE), np.array([mean, std], np.float32))
  images = images_with(mean, std)
  np.testing.assert_array_equal(published_statistics('folder:own', images), np.array([mean, std], np.float32))


def test_other_sets_have_no_published_statistics(user_error):
  for name, images in (('mnist', images_with([0.1307], [0.3081])), ('folder:cifar10', NOISE)):
    with user_error(repr(name), 'published_statistics to False', 'cifar10', 'neither its name nor'):
      published_statistics(name, images)

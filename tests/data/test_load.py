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


def test_published_statistics_are_close_to_the_measured():
  mean, std = published_statistics('fashion_mnist_10k')
  np.testing.assert_allclose(statistics(load('fashion_mnist_10k').train.images), (mean, std), rtol=0.01)
  assert mean.dtype == std.dtype == np.float32


@pytest.mark.parametrize('name, mean, std', [
    ('cifar10', [0.49139968, 0.48215827, 0.44653124], [0.24703233, 0.24348505, 0.26158768]),
    ('cifar100:3.0.2', [0.5071, 0.4865, 0.4409], [0.2673, 0.2564, 0.2762]),
    ('kmnist', [0.19036119], [0.34719803]),
    ('fashion_mnist', [0.2860402], [0.3530236]),
    ('emnist/balanced', [0.1751], [0.3332]),
])
def test_published_statistics(name, mean, std):
  np.testing.assert_array_equal(published_statistics(name), np.array([mean, std], np.float32))


def test_other_sets_have_no_published_statistics(user_error):
  for name in ('mnist', 'folder:cifar10'):
    with user_error(repr(name), 'published_statistics to False', 'cifar10', 'go by the name alone'):
      published_statistics(name)

import importlib.util
import pathlib

import numpy as np
import pytest

from enas_jax.data import embedded, load
from enas_jax.types import Task

MAKER = pathlib.Path(__file__).resolve().parents[2] / 'tools' / 'make_fashion_mnist_10k.py'
ORIGINALS = pathlib.Path('/usr/share/datasets/fashion-mnist')


def test_it_holds_equally_many_images_of_every_class():
  data = load('fashion_mnist_10k')
  assert data.task == Task((28, 28, 1), 10)
  assert np.bincount(data.train.labels).tolist() == [1000] * 10
  assert np.bincount(data.test.labels).tolist() == [200] * 10
  assert data.class_names[0] == 'T-shirt/top' and data.class_names[9] == 'Ankle boot'
  assert data.checksum == '0ddb2d549900ef4f'
  assert data.notes == () and data.valid is None


def test_it_is_small_and_carries_its_licence():
  assert embedded.FILE.stat().st_size < 6e6
  licence = embedded.FILE.with_name('FASHION_MNIST_LICENSE.md').read_text()
  assert 'Zalando SE' in licence and 'Permission is hereby granted' in licence


@pytest.mark.skipif(not ORIGINALS.is_dir(), reason=f'{ORIGINALS} is absent: apt-get install dataset-fashion-mnist')
@pytest.mark.skipif(not MAKER.is_file(), reason=f'{MAKER} is absent: not a source checkout')
@pytest.mark.parametrize('part', ['train', 'test'])
def test_images_and_labels_are_the_originals(part):
  spec = importlib.util.spec_from_file_location('maker', MAKER)
  maker = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(maker)
  images, labels = maker.read_original(ORIGINALS, part)
  with np.load(embedded.FILE, allow_pickle=False) as archive:
    index = archive[f'{part}_index']
  assert len(np.unique(index)) == len(index)
  subset = getattr(load('fashion_mnist_10k'), part)
  np.testing.assert_array_equal(subset.images[..., 0], images[index])
  np.testing.assert_array_equal(subset.labels, labels[index])

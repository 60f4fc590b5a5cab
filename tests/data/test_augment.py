import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from enas_jax.config import get_config
from enas_jax.data.augment import Augmentation, augment, draw, from_config, normalise, paper_choice

pytestmark = pytest.mark.once  # Searches train with them on every Python.

MEAN, STD = np.array([0.4, 0.5, 0.6], np.float32), np.array([0.2, 0.3, 0.1], np.float32)


def pixels(*shape):
  return np.random.default_rng(0).integers(1, 256, shape, dtype=np.uint8)


def plain(images, offsets, mean, std, augmentation):
  """The same, image by image, as torchvision and the DARTS cutout do it."""
  padding, results = augmentation.crop_padding, []
  for image, (top, left, flip, row, column) in zip(images, offsets, strict=True):
    height, width = (augmentation.crop_size,) * 2 if augmentation.crop_size else image.shape[:2]
    image = np.pad(image, ((padding, padding), (padding, padding), (0, 0)))[top:top + height, left:left + width]
    if augmentation.flip and flip:
      image = image[:, ::-1]
    image = (image.astype(np.float64) / 255 - mean) / std
    half = augmentation.cutout // 2
    y1, y2 = np.clip([row - half, row - half + augmentation.cutout], 0, height)
    x1, x2 = np.clip([column - half, column - half + augmentation.cutout], 0, width)
    image[y1:y2, x1:x2] = 0
    results.append(image)
  return np.stack(results)


@pytest.mark.parametrize('augmentation', [
    Augmentation(crop_padding=4, flip=True, cutout=16),
    Augmentation(crop_padding=4, crop_size=32, flip=False, cutout=16),
    Augmentation(crop_padding=0, crop_size=9, flip=True, cutout=5),
    Augmentation(crop_padding=2, flip=True, cutout=0),
    Augmentation(crop_padding=0, flip=False, cutout=99),
])
@pytest.mark.parametrize('shape', [(24, 24, 3), (24, 28, 1)])
def test_it_does_what_the_plain_version_does(augmentation, shape):
  images, key = pixels(20, *shape), jax.random.key(1)
  mean, std = MEAN[:shape[2]], STD[:shape[2]]
  offsets = np.asarray(draw(key, images.shape, augmentation))
  result = jax.jit(augment, static_argnums=4)(key, images, mean, std, augmentation)
  assert result.dtype == jnp.float32
  assert result.shape == (20, *augmentation.output_shape(shape))
  np.testing.assert_allclose(result, plain(images, offsets, mean, std, augmentation), rtol=1e-5, atol=1e-5)


def test_every_offset_is_equally_likely():
  augmentation = Augmentation(crop_padding=2, crop_size=9, flip=True, cutout=4)
  offsets = np.asarray(draw(jax.random.key(0), (20_000, 10, 12, 1), augmentation))
  for column, count in zip(offsets.T, (6, 8, 2, 9, 9), strict=True):
    observed = np.bincount(column, minlength=count)
    assert len(observed) == count
    expected = len(offsets) / count
    assert np.abs(observed - expected).max() < 5 * np.sqrt(expected)


def test_an_image_depends_on_the_key_and_its_position_alone():
  augmentation = Augmentation(crop_padding=4, flip=True, cutout=8)
  images = pixels(8, 16, 16, 3)
  run = functools.partial(augment, mean=MEAN, std=STD, augmentation=augmentation)
  whole = run(jax.random.key(0), images)
  np.testing.assert_array_equal(run(jax.random.key(0), images[:3]), whole[:3])
  others = images.copy()
  others[0] = 0
  np.testing.assert_array_equal(run(jax.random.key(0), others)[1:], whole[1:])
  assert (np.asarray(run(jax.random.key(1), images)) != whole).any()


def test_it_works_under_vmap_and_scan():
  augmentation = Augmentation(crop_padding=4, flip=True, cutout=8)
  images, keys = pixels(4, 16, 16, 3), jax.random.split(jax.random.key(0), 3)
  run = functools.partial(augment, images=images, mean=MEAN, std=STD, augmentation=augmentation)
  one_by_one = np.stack([run(key) for key in keys])
  np.testing.assert_allclose(jax.vmap(run)(keys), one_by_one, rtol=1e-6, atol=1e-6)
  scanned = jax.lax.scan(lambda carry, key: (carry, run(key)), None, keys)[1]
  np.testing.assert_allclose(scanned, one_by_one, rtol=1e-6, atol=1e-6)


def test_without_any_augmentation_it_only_normalises():
  images = pixels(4, 6, 5, 3)
  nothing = Augmentation(crop_padding=0, flip=False, cutout=0)
  expected = (images / 255 - MEAN) / STD
  np.testing.assert_allclose(normalise(images, MEAN, STD), expected, rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(augment(jax.random.key(0), images, MEAN, STD, nothing), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('name, shape, padding, flip, cutout', [
    ('cifar10', (32, 32, 3), 4, True, 16),
    ('cifar100:3.0.2', (32, 32, 3), 4, True, 16),
    ('fashion_mnist', (28, 28, 1), 4, True, 16),
    ('fashion_mnist_10k', (28, 28, 1), 0, True, 0),
    ('kmnist', (28, 28, 1), 4, False, 16),
    ('emnist/balanced', (28, 28, 1), 4, False, 16),
    ('mnist', (28, 28, 1), 4, False, 16),
    ('svhn_cropped', (32, 32, 3), 4, False, 16),
    ('eurosat', (64, 64, 3), 8, True, 32),
    ('folder:photos', (48, 40, 3), 5, True, 20),
    ('npz:gray.npz', (7, 7, 1), 0, False, 3),
])
def test_the_paper_choice(name, shape, padding, flip, cutout):
  assert paper_choice(name, shape) == Augmentation(crop_padding=padding, flip=flip, cutout=cutout)


@pytest.mark.parametrize('name, shape, padding, flip', [
    ('cifar10', (32, 32, 3), 1, True), ('fashion_mnist_10k', (28, 28, 1), 1, True), ('kmnist', (28, 28, 1), 1, False),
    ('folder:photos', (96, 112, 3), 3, True), ('npz:gray.npz', (7, 7, 1), 1, False)])
def test_the_light_choice(name, shape, padding, flip):
  expected = Augmentation(crop_padding=padding, flip=flip, cutout=0)
  assert from_config(get_config().data.augmentation, name, shape) == expected


def test_an_unknown_choice(user_error):
  config = get_config().data.augmentation
  config.choice = 'heavy'
  with user_error("config.data.augmentation.choice 'heavy' is unknown; give 'light' or 'paper'"):
    from_config(config, 'mnist', (28, 28, 1))


def test_the_config_overrules_the_paper():
  config = get_config().data.augmentation
  config.choice = 'paper'
  assert from_config(config, 'kmnist', (28, 28, 1)) == paper_choice('kmnist', (28, 28, 1))
  config.update(crop_size=32, flip=True, cutout=0)
  expected = Augmentation(crop_padding=4, crop_size=32, flip=True, cutout=0)
  assert from_config(config, 'kmnist', (28, 28, 1)) == expected
  assert expected.output_shape((28, 28, 1)) == (32, 32, 1)


@pytest.mark.parametrize('field, value, limit', [
    ('crop_padding', -1, 0), ('crop_size', 0, 1), ('cutout', -2, 0), ('crop_size', 37, 36)])
def test_values_out_of_range_are_refused(field, value, limit, user_error):
  config = get_config().data.augmentation
  config.choice = 'paper'
  config[field] = value
  with user_error(field, value, limit):
    from_config(config, 'mnist', (28, 28, 1))

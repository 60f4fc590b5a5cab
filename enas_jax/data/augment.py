"""Augments and normalises a batch inside the jitted training step.

The order is that of the paper's torchvision pipeline (EG-NAS, arXiv 2502.03553, code): zero padding and random crop,
horizontal flip, pixels to [0, 1], normalisation, cutout.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from enas_jax.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Augmentation:
  """The settings of what is done to a training image. They are hashable, so they can be a static argument.

  Attributes:
    crop_padding: pixels of black on every side before the random crop, >= 0.
    crop_size: side of the square crop in pixels; None: the image's own height and width.
    flip: mirror left and right with probability 1/2.
    cutout: side in pixels of a square of zeros (the mean colour) around a random pixel, clipped at the borders;
      0: there is none.
  """

  crop_padding: int
  crop_size: int | None = None
  flip: bool
  cutout: int

  def __post_init__(self) -> None:
    """Checks the ranges. Raises UserError for a value outside."""
    for name, least in (('crop_padding', 0), ('crop_size', 1), ('cutout', 0)):
      value = getattr(self, name)
      if value is not None and value < least:
        raise UserError(f'augmentation: {name} {value} is below {least}; give at least {least}')

  def output_shape(self, image_shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """Returns the shape [h, w, C] that an image of shape [H, W, C] has after augmentation.

    Raises:
      UserError: the padding is larger than the image, or the crop than the padded image.
    """
    height, width, channels = image_shape
    if self.crop_padding > max(height, width):
      raise UserError(f'augmentation: crop_padding {self.crop_padding} is above {max(height, width)}, the side of the image; '
                      'give less')
    if self.crop_size is None:
      return height, width, channels
    limit = min(height, width) + 2 * self.crop_padding
    if self.crop_size > limit:
      raise UserError(
          f'augmentation: crop_size {self.crop_size} is above {limit}, the side of the padded image; '
          'give a smaller crop_size or more crop_padding')
    return self.crop_size, self.crop_size, channels


# A mirrored character is another character, or none.
CHARACTERS = ('cmaterdb', 'emnist', 'kmnist', 'mnist', 'mnist_corrupted', 'omniglot', 'svhn_cropped')
PAPER = ('cifar10', 'cifar100', 'emnist', 'fashion_mnist', 'kmnist', 'mnist')


def paper_choice(name: str, image_shape: tuple[int, int, int]) -> Augmentation:
  """Returns the paper's augmentation for a data set, or one in its spirit for a set that the paper does not have.

  CIFAR-10, CIFAR-100 and Fashion-MNIST: padding 4, flip, cutout 16; KMNIST, EMNIST and MNIST the same without flip.
  Others get the same in proportion to a 32-pixel image, padding side / 8 and cutout side / 2, and are flipped if they
  have colours and are not known to show characters: gray-scale images often do. Crops have the image's own size (the
  paper's 32 x 32 crops of 28 x 28 images are `crop_size=32`). The small set that ships with the package is only flipped.

  Args:
    name: as given to `load`.
    image_shape: [H, W, C].
  """
  family = name.split('/')[0].split(':')[0]
  if family == 'fashion_mnist_10k':
    return Augmentation(crop_padding=0, flip=True, cutout=0)
  if family in PAPER:
    return Augmentation(crop_padding=4, flip=family not in CHARACTERS, cutout=16)
  side = min(image_shape[:2])
  return Augmentation(crop_padding=side // 8, flip=image_shape[2] > 1 and family not in CHARACTERS, cutout=side // 2)


def light_choice(name: str, image_shape: tuple[int, int, int]) -> Augmentation:
  """Returns an augmentation for trainings of a few epochs, which more would only slow down (benchmarks/README.md).

  Crops are shifted by a pixel in 28, images mirrored as in `paper_choice`, nothing is cut out. The arguments are those of
  `paper_choice`.
  """
  padding = max(1, min(image_shape[:2]) // 28)
  return dataclasses.replace(paper_choice(name, image_shape), crop_padding=padding, cutout=0)


CHOICES = {'light': light_choice, 'paper': paper_choice}


def from_config(config: Mapping[str, Any], name: str, image_shape: tuple[int, int, int]) -> Augmentation:
  """Returns the augmentation of `config.data.augmentation`. Fields that are None take their value from the choice it names.

  Raises:
    UserError: the choice is unknown, a value is out of range, or the crop does not fit into the padded image.
  """
  if config['choice'] not in CHOICES:
    raise UserError(f"config.data.augmentation.choice '{config['choice']}' is unknown; give {' or '.join(map(repr, CHOICES))}")
  fields = [field.name for field in dataclasses.fields(Augmentation)]
  given = {field: config[field] for field in fields if config[field] is not None}
  augmentation = dataclasses.replace(CHOICES[config['choice']](name, image_shape), **given)
  augmentation.output_shape(image_shape)
  return augmentation


def normalise(images: jax.Array, mean: jax.Array, std: jax.Array) -> jax.Array:
  """Returns (pixels / 255 - mean) / std.

  Args:
    images: uint8 [..., C].
    mean, std: float32 [C], of pixels / 255.

  Returns:
    float32 [..., C].
  """
  return (images.astype(jnp.float32) / 255 - mean) / std


def augment(key: jax.Array, images: jax.Array, mean: jax.Array, std: jax.Array, augmentation: Augmentation) -> jax.Array:
  """Crops at random, flips, normalises and cuts out.

  The function is pure: what happens to an image depends on `key` and its place in the batch alone.

  Args:
    key: a typed key, fresh for every step.
    images: uint8 [B, H, W, C].
    mean, std: float32 [C], of pixels / 255.
    augmentation: the settings, static under jit.

  Returns:
    float32 [B, h, w, C], where h and w are the size of the crop.
  """
  offsets = draw(key, images.shape, augmentation)
  return jax.vmap(lambda image, offset: _augment_one(image, offset, mean, std, augmentation))(images, offsets)


def draw(key: jax.Array, shape: tuple[int, ...], augmentation: Augmentation) -> jax.Array:
  """Draws the random numbers of `augment` for images of shape [B, H, W, C].

  Returns:
    int32 [B, 5]: the crop's top and left in the padded image, flip (0 or 1), row and column of the cutout's centre
    in the crop; each uniform.
  """
  batch, image_height, image_width, channels = shape
  height, width, _ = augmentation.output_shape((image_height, image_width, channels))
  tops = image_height + 2 * augmentation.crop_padding - height + 1
  lefts = image_width + 2 * augmentation.crop_padding - width + 1
  return jax.random.randint(key, (batch, 5), 0, jnp.array([tops, lefts, 2, height, width]))


def _augment_one(
    image: jax.Array, offset: jax.Array, mean: jax.Array, std: jax.Array, augmentation: Augmentation) -> jax.Array:
  top, left, flip, row, column = offset
  height, width, channels = image.shape
  padding, shape = augmentation.crop_padding, augmentation.output_shape((height, width, channels))
  image = jnp.pad(image, ((padding, padding), (padding, padding), (0, 0)))
  image = jax.lax.dynamic_slice(image, (top, left, 0), shape)
  if augmentation.flip:
    image = jnp.where(flip == 1, image[:, ::-1], image)
  image = normalise(image, mean, std)
  if augmentation.cutout:
    erased = _span(row, shape[0], augmentation.cutout)[:, None] & _span(column, shape[1], augmentation.cutout)
    image = jnp.where(erased[..., None], 0, image)
  return image


def _span(centre: jax.Array, size: int, length: int) -> jax.Array:
  """Returns which of `size` positions lie in a span of `length` around `centre`, bool [size]."""
  start = centre - length // 2
  positions = jnp.arange(size)
  return (positions >= start) & (positions < start + length)

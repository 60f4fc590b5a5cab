"""Images and labels in memory, and how they are split."""
from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from enas_jax.errors import UserError
from enas_jax.types import Task

CHUNK = 4096  # Images whose pixels are counted at once: bounds the memory of `statistics`.


class ImageSet(NamedTuple):
  """Images with their labels.

  Attributes:
    images: uint8 [N, H, W, C].
    labels: int32 [N].
  """

  images: np.ndarray
  labels: np.ndarray


@dataclasses.dataclass(frozen=True)
class Dataset:
  """A data set for image classification.

  Attributes:
    name: as the user gave it.
    train, test: the part to search and train on, and the part for the final score.
    class_names: one for each label.
    checksum: hexadecimal digest of all arrays: a search resumes only on the same data.
  """

  name: str
  train: ImageSet
  test: ImageSet
  class_names: tuple[str, ...]
  checksum: str

  @property
  def task(self) -> Task:
    """The task of a network for this data."""
    return Task(tuple(self.train.images.shape[1:]), len(self.class_names))

  @classmethod
  def checked(
      cls, name: str, train: ImageSet, test: ImageSet, class_names: Sequence[str], checksum: str | None = None) -> Dataset:
    """Makes a data set after checking that its parts fit together.

    Args:
      name: as the user gave it.
      train, test: images and labels of any integer dtype, which become int32.
      class_names: one for each label.
      checksum: the `array_checksum` of the arrays if it is known already.

    Raises:
      UserError: images that are not uint8 [N, H, W, C], parts that differ in H, W, C, labels outside
        0 .. classes - 1, fewer than two classes, a class without a training image, or an empty test part.
    """
    for part, (images, labels) in (('train', train), ('test', test)):
      if images.dtype != np.uint8 or images.ndim != 4:
        raise UserError(f'data {name!r}: {part} images are {images.dtype} {list(images.shape)}; give uint8 [N, H, W, C]')
      if not len(images) or len(images) != len(labels):
        found = f'{len(images)} {part} images and {len(labels)} labels'
        raise UserError(f'data {name!r}: {found}; give at least one image, and a label for each')
      if labels.min() < 0 or labels.max() >= len(class_names):
        wrong = labels.min() if labels.min() < 0 else labels.max()
        raise UserError(f'data {name!r}: {part} label {wrong} is outside 0 to {len(class_names) - 1}; number classes from 0')
    if train.images.shape[1:] != test.images.shape[1:]:
      shapes = f'{list(train.images.shape[1:])} in train and {list(test.images.shape[1:])} in test'
      raise UserError(f'data {name!r}: image shapes are {shapes}; resize to one shape')
    if len(class_names) < 2:
      raise UserError(f'data {name!r}: only {len(class_names)} class; give at least 2')
    counts = np.bincount(train.labels, minlength=len(class_names))
    if not counts.all():
      empty = int(np.argmin(counts))
      raise UserError(f'data {name!r}: class {empty} ({class_names[empty]}) has no training image; add some or renumber')
    train, test = (ImageSet(p.images, np.asarray(p.labels, np.int32)) for p in (train, test))
    return cls(name, train, test, tuple(class_names), checksum or array_checksum(*train, *test))


def hold_out(images: ImageSet, share: float, *, seed: int, num_classes: int) -> tuple[ImageSet, ImageSet]:
  """Splits images into training and validation part, class by class: round(share * n) of a class's n images are held out.

  Both parts keep the order of `images`. The same seed gives the same split on every machine.

  Args:
    images: what to split.
    share: the share that is held out, in (0, 1).
    seed: the seed of NumPy's default generator, >= 0.
    num_classes: labels are 0 .. num_classes - 1.

  Returns:
    The training part and the validation part.

  Raises:
    UserError: `share` is outside (0, 1), or leaves a class without an image in one part.
  """
  if not 0 < share < 1:
    raise UserError(f'data: validation share {share} is outside (0, 1); give for example 0.1')
  rng = np.random.default_rng(seed)
  held = np.zeros(len(images.labels), bool)
  for label in range(num_classes):
    rows = np.flatnonzero(images.labels == label)
    count = round(share * len(rows))
    if not 0 < count < len(rows):
      part = 'training' if count else 'validation'
      raise UserError(
          f'data: validation share {share} of the {len(rows)} images of class {label} leaves the {part} part none; '
          'change the share or add images')
    held[rng.permutation(rows)[:count]] = True
  return ImageSet(images.images[~held], images.labels[~held]), ImageSet(images.images[held], images.labels[held])


def statistics(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns mean and standard deviation of all pixels / 255 for each channel: float32 [C].

  They are exact up to the last rounding, since pixels are counted by value. A constant channel has deviation 1, so that
  normalising turns it into zeros.

  Args:
    images: uint8 [N, H, W, C].
  """
  channels = images.shape[3]
  counts = np.zeros((channels, 256), np.int64)
  for start in range(0, len(images), CHUNK):
    chunk = images[start:start + CHUNK]
    for c in range(channels):
      counts[c] += np.bincount(chunk[..., c].ravel(), minlength=256)
  share, values = counts / counts.sum(axis=1, keepdims=True), np.arange(256) / 255
  mean = share @ values
  std = np.sqrt((share * (values - mean[:, None])**2).sum(axis=1))
  return mean.astype(np.float32), np.where(std > 0, std, 1).astype(np.float32)


def array_checksum(*arrays: np.ndarray) -> str:
  """Returns sixteen hexadecimal digits that name dtypes, shapes and values of `arrays`, the same on every machine."""
  digest = hashlib.blake2b(digest_size=8)
  for array in arrays:
    array = np.ascontiguousarray(array, array.dtype.newbyteorder('<'))
    digest.update(f'{array.dtype.str}{array.shape}'.encode())
    digest.update(array.reshape(-1).view(np.uint8).data)
  return digest.hexdigest()

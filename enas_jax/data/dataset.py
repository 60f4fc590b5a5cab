"""Images and labels in memory, and how they are split."""
from __future__ import annotations

import dataclasses
import hashlib
import math
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
    valid: the part that a search decides by, where the user brings one; None: a share of `train` is held out for that.
    notes: what was left out and what was done to images, in words.
  """

  name: str
  train: ImageSet
  test: ImageSet
  class_names: tuple[str, ...]
  checksum: str
  valid: ImageSet | None = None
  notes: tuple[str, ...] = ()

  @property
  def task(self) -> Task:
    """The task of a network for this data."""
    return Task(tuple(self.train.images.shape[1:]), len(self.class_names))

  @classmethod
  def checked(
      cls, name: str, train: ImageSet, test: ImageSet, class_names: Sequence[str], checksum: str | None = None, *,
      valid: ImageSet | None = None, notes: Sequence[str] = ()) -> Dataset:
    """Makes a data set after checking that its parts fit together.

    Args:
      name: as the user gave it.
      train, test: images and labels of any integer dtype, which become int32.
      class_names: one for each label.
      checksum: the `array_checksum` of the arrays if it is known already.
      valid: as `train`, where the user brings it.
      notes: what was left out and what was done to images, in words.

    Raises:
      UserError: images that are not uint8 [N, H, W, C] or look like [N, C, H, W], parts that differ in H, W, C, labels
        outside 0 .. classes - 1, fewer than two classes, a class without a training image, or an empty part.
    """
    parts = {'train': train, **({'validation': valid} if valid is not None else {}), 'test': test}
    for part, (images, labels) in parts.items():
      if images.dtype != np.uint8 or images.ndim != 4:
        raise UserError(f'data {name!r}: {part} images are {images.dtype} {list(images.shape)}; give uint8 [N, H, W, C]')
      if not len(images) or len(images) != len(labels):
        found = f'{len(images)} {part} images and {len(labels)} labels'
        raise UserError(f'data {name!r}: {found}; give at least one image, and a label for each')
      if labels.min() < 0 or labels.max() >= len(class_names):
        wrong = labels.min() if labels.min() < 0 else labels.max()
        raise UserError(f'data {name!r}: {part} label {wrong} is outside 0 to {len(class_names) - 1}; number classes from 0')
    for part, (images, _) in parts.items():
      if images.shape[1:] != train.images.shape[1:]:
        shapes = f'{list(train.images.shape[1:])} in train and {list(images.shape[1:])} in {part}'
        raise UserError(f'data {name!r}: image shapes are {shapes}; resize to one shape')
    _check_axes(name, train.images.shape[1:])
    if len(class_names) < 2:
      raise UserError(f'data {name!r}: only {len(class_names)} class; give at least 2')
    counts = np.bincount(train.labels, minlength=len(class_names))
    if not counts.all():
      empty = int(np.argmin(counts))
      raise UserError(f'data {name!r}: class {empty} ({class_names[empty]}) has no training image; add some or renumber')
    parts = {part: ImageSet(images, np.asarray(labels, np.int32)) for part, (images, labels) in parts.items()}
    checksum = checksum or array_checksum(*(array for part in parts.values() for array in part))
    return cls(name, parts['train'], parts['test'], tuple(class_names), checksum, parts.get('validation'), tuple(notes))


def _check_axes(name: str, shape: tuple[int, ...]) -> None:
  """Refuses what can only be meant as [C, H, W].

  With more channels than colours have, so are images with 1, 3 or 4 rows, and those whose columns and channels are as many.
  Few channels of a long signal, [1, 128, 9], are none.
  """
  height, width, channels = shape
  sides = sorted((width, channels))
  if channels > 4 and sides[1] <= 4 * sides[0] and height < sides[0] and (height in (1, 3, 4) or width == channels):
    raise UserError(f'data {name!r}: images of {height} x {width} with {channels} channels look like [N, C, H, W]; '
                    'give [N, H, W, C], as images.transpose(0, 2, 3, 1) does')


def room_for(name: str, count: int, shape: tuple[int, ...]) -> np.ndarray:
  """Returns an array for `count` images of `shape`, with anything in it. Raises UserError where memory does not allow it."""
  try:
    return np.empty((count, *shape), np.uint8)
  except (MemoryError, ValueError) as error:  # The latter from sizes that no machine has.
    size = f'{count * math.prod(shape) / 1e9:,.1f} GB'
    raise UserError(f'data {name!r}: {count:,} images of {" x ".join(map(str, shape))} need {size} of memory; give fewer or '
                    'smaller ones') from error


def hold_out(images: ImageSet, share: float, *, seed: int, num_classes: int,
             part: str = 'validation') -> tuple[ImageSet, ImageSet]:
  """Splits images into training and validation part, class by class: round(share * n) of a class's n images are held out.

  Both parts keep the order of `images`. The same seed gives the same split on every machine.

  Args:
    images: what to split.
    share: the share that is held out, in (0, 1).
    seed: the seed of NumPy's default generator, >= 0.
    num_classes: labels are 0 .. num_classes - 1.
    part: what the second part is called in errors.

  Returns:
    The training part and the held-out part.

  Raises:
    UserError: `share` is outside (0, 1), or leaves a class without an image in one part.
  """
  if not 0 < share < 1:
    raise UserError(f'data: {part} share {share} is outside (0, 1); give for example 0.1')
  rng = np.random.default_rng(seed)
  held = np.zeros(len(images.labels), bool)
  for label in range(num_classes):
    rows = np.flatnonzero(images.labels == label)
    count = round(share * len(rows))
    if not 0 < count < len(rows):
      emptied = 'training' if count else part
      way = 'change the share or add images' if part == 'validation' else f'add images, or give a {part} part of your own'
      raise UserError(
          f'data: {part} share {share} of the {len(rows)} images of class {label} leaves the {emptied} part none; {way}')
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

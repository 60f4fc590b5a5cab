"""What was read, for people and for the record: counts, sizes, what was left out, and checksums that tell parts apart."""
from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np

from enas_jax.data.dataset import Dataset, ImageSet, array_checksum

T = TypeVar('T')
Note = Callable[[str], None]  # Shows a line to the user.
FIRST, LATER = 2.0, 10.0  # Seconds until reading says how far it is, and between such lines.
NAMES = {'train': 'train', 'valid': 'validation', 'test': 'test'}


def describe(dataset: Dataset) -> str:
  """Returns one line on what a data set holds, what was left out of it, and what was done to its images."""
  height, width, channels = dataset.task.image_shape
  parts = [f'{NAMES[name]} {len(part.labels):,} ({_range(*_a_class(dataset, part))} a class)'
           for name, part in parts_of(dataset)]
  images = f'{dataset.task.num_classes} classes of images {height} x {width} x {channels} (height, width, channels)'
  return '; '.join([f'data {dataset.name!r}: {images}: {", ".join(parts)}', *dataset.notes])


def record(dataset: Dataset) -> dict[str, Any]:
  """Returns the same as plain values for config.json.

  Of each part it has the `checksum` of the arrays, and one of the `content`, which is that of the same images and labels in
  any order.
  """
  parts = {
      name: {
          'images': len(part.labels),
          'a_class': _a_class(dataset, part),
          'checksum': array_checksum(*part),
          'content': content_checksum(part),
      } for name, part in parts_of(dataset)}
  return {'image_shape': list(dataset.task.image_shape), 'classes': dataset.task.num_classes, 'parts': parts,
          'notes': list(dataset.notes)}


def parts_of(dataset: Dataset) -> list[tuple[str, ImageSet]]:
  """Returns the parts that a data set has, by name, in the order in which they are used."""
  parts = {'train': dataset.train, 'valid': dataset.valid, 'test': dataset.test}
  return [(name, part) for name, part in parts.items() if part is not None]


def content_checksum(part: ImageSet) -> str:
  """Returns sixteen hexadecimal digits that name images with their labels, in any order."""
  images, labels = np.ascontiguousarray(part.images), np.asarray(part.labels, '<i4')
  pairs = zip(images, labels, strict=True)
  digests = sorted(hashlib.blake2b(image.data, digest_size=16, key=label.tobytes()).digest() for image, label in pairs)
  return hashlib.blake2b(str(images.shape[1:]).encode() + b''.join(digests), digest_size=8).hexdigest()


def metered(items: Sequence[T], what: str, note: Note, *, each: int = 1) -> Iterator[T]:
  """Yields the items, and tells how many are done where that takes longer than two seconds, and every ten.

  Args:
    items: what is to be done.
    what: what is counted, such as 'images read'.
    note: shows a line.
    each: for how many an item counts.
  """
  due = time.monotonic() + FIRST
  for done, item in enumerate(items):
    if time.monotonic() > due:
      note(f'{what}: {each * done:,} of {each * len(items):,}')
      due += LATER
    yield item


def _a_class(dataset: Dataset, part: ImageSet) -> list[int]:
  """Returns the number of images of the smallest and of the largest class."""
  counts = np.bincount(part.labels, minlength=dataset.task.num_classes)
  return [int(counts.min()), int(counts.max())]


def _range(least: int, most: int) -> str:
  return f'{least:,}' if least == most else f'{least:,} to {most:,}'

"""Reads data sets that are folders of image files: 'folder:PATH'."""
from __future__ import annotations

import collections
import os
import pathlib

import numpy as np

from enas_jax.data import cache
from enas_jax.data.dataset import Dataset, ImageSet, hold_out, room_for
from enas_jax.data.decoding import decode, in_words
from enas_jax.data.files import File, listing
from enas_jax.data.report import Note, metered
from enas_jax.errors import UserError

TEST_SHARE, TEST_SEED = 0.2, 0


def load_folder(path: str | pathlib.Path, *, note: Note) -> Dataset:
  """Reads PATH/train/CLASS/**, PATH/test/CLASS/** and, where it is there, PATH/val/CLASS/**.

  Without a train and test level, PATH/CLASS/** is read, and 20 % of each class's images (always the same, by
  `hold_out` with seed 0) become the test part. Classes are numbered by their folders' sorted names. Images are as
  `decoding.decode` shows them: gray if all are, else all RGB. Decoded once, they lie in the user's folder of caches.

  Args:
    path: the folder.
    note: shows a line to the user, where reading takes long or is to be done again.

  Raises:
    UserError: `listing` finds no such folder or no classes in it, or an image is refused by `decode` or has another size than
      the first.
  """
  name, root = f'folder:{path}', pathlib.Path(path)
  parts, left_out = listing(name, root)
  class_names = list(parts['train'])
  target = cache.of_folder(root, [f'{part}/{os.path.relpath(file.path, root)} {file.stamp}' for part, classes in parts.items()
                                for files in classes.values() for file in files])
  cached = cache.read(target, note)
  found = cached or _decoded(name, parts, class_names, note)
  notes = [*in_words(found.remarks), *([f'left out: {", ".join(left_out)}'] if left_out else [])]
  dataset = Dataset.checked(name, found.parts['train'], found.parts['test'], class_names, found.checksum or None,
                            valid=found.parts.get('valid'), notes=notes)
  if not cached:
    cache.write(target, dataset, found.remarks, note)
  return dataset


def _decoded(name: str, parts: dict[str, dict[str, list[File]]], class_names: list[str], note: Note) -> cache.Cached:
  """Reads all files, and splits off a test part where there is none."""
  images, remarks = _read(name, [file for classes in parts.values() for files in classes.values() for file in files], note)
  sets, start = {}, 0
  for part, classes in parts.items():
    labels = np.repeat([class_names.index(label) for label in classes], [len(files) for files in classes.values()])
    sets[part] = ImageSet(images[start:start + len(labels)], labels.astype(np.int32))
    start += len(labels)
  if 'test' not in sets:
    sets['train'], sets['test'] = hold_out(
        sets['train'], TEST_SHARE, seed=TEST_SEED, num_classes=len(class_names), part='test')
  return cache.Cached(sets, '', remarks)


def _read(name: str, files: list[File], note: Note) -> tuple[np.ndarray, dict[str, int]]:
  """Returns all images, uint8 [N, H, W, C], in gray up to the first with colours, and how many each remark was made on."""
  images: np.ndarray | None = None
  remarks: collections.Counter[str] = collections.Counter()
  for i, file in enumerate(metered(files, f'data {name!r}: images read', note)):
    picture = decode(f'data {name!r}: image {file.path}', file.path)
    if images is None:
      images = room_for(name, len(files), picture.pixels.shape)
    if picture.pixels.shape[:2] != images.shape[1:3]:
      (height, width), (first_height, first_width) = picture.pixels.shape[:2], images.shape[1:3]
      sizes = f'{files[0].path} is {first_width}x{first_height} and {file.path} is {width}x{height}'
      raise UserError(f"data {name!r}: {sizes}; resize all to one size, as with Pillow's Image.resize")
    if picture.pixels.shape[2] > images.shape[3]:
      gray, images = images, room_for(name, len(files), picture.pixels.shape)
      images[:i] = gray[:i]
    images[i] = picture.pixels
    remarks.update(picture.remarks)
  assert images is not None  # A class has an image at least.
  return images, dict(remarks)

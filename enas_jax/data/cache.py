"""Keeps decoded arrays beside a prepared TFDS set, so that later starts read no records.

The folder lies in the set's own version folder, and its name is a digest of what it was made from: a set that is prepared
anew gets a new cache. Arrays are .npy files, mapped into memory; a checksum guards their content.
"""
from __future__ import annotations

import hashlib
import json
import logging
import os
import pathlib
import shutil
import uuid

import numpy as np

from enas_jax.data.dataset import Dataset, ImageSet, array_checksum

logger = logging.getLogger(__name__)

FOLDER = 'enas_jax_cache'
ARRAYS = ('train_images', 'train_labels', 'test_images', 'test_labels')
VERSION = 1  # Raised when reading or decoding changes.


def folder(prepared: pathlib.Path) -> pathlib.Path:
  """Returns the cache folder of a prepared set. It is keyed by metadata, and by name, size and date of the record files."""
  digest = hashlib.sha256(str(VERSION).encode())
  for file in sorted(path for path in prepared.iterdir() if path.is_file()):
    digest.update(f'{file.name}:'.encode())
    stat = file.stat()
    digest.update(file.read_bytes() if file.suffix == '.json' else f'{stat.st_size},{stat.st_mtime_ns};'.encode())
  return prepared / FOLDER / digest.hexdigest()[:16]


def read(target: pathlib.Path) -> tuple[ImageSet, ImageSet, str] | None:
  """Returns training part, test part and checksum; None if there is no cache, or a damaged one, which is logged."""
  if not target.exists():
    return None
  try:
    checksum = json.loads((target / 'meta.json').read_text())['checksum']
    arrays = [np.load(target / f'{name}.npy', mmap_mode='r', allow_pickle=False) for name in ARRAYS]
    intact = array_checksum(*arrays) == checksum
  except (OSError, EOFError, ValueError, KeyError, TypeError):
    intact = False
  if not intact:
    logger.warning('The cache %s is damaged; it is built again.', target)
    return None
  train_images, train_labels, test_images, test_labels = map(np.asarray, arrays)
  return ImageSet(train_images, train_labels), ImageSet(test_images, test_labels), checksum


def write(target: pathlib.Path, dataset: Dataset) -> None:
  """Writes the cache in whole or not at all. If the folder cannot be written to, later starts take longer; that is logged."""
  draft = target.with_name(f'.{target.name}.{uuid.uuid4().hex}')
  try:
    draft.mkdir(parents=True)
    for name, array in zip(ARRAYS, (*dataset.train, *dataset.test), strict=True):
      np.save(draft / f'{name}.npy', array, allow_pickle=False)
    (draft / 'meta.json').write_text(json.dumps({'checksum': dataset.checksum}))
    if target.exists():
      shutil.rmtree(target)
    os.rename(draft, target)
  except OSError as error:
    shutil.rmtree(draft, ignore_errors=True)
    if not target.exists():  # Else another process was faster.
      logger.warning('No cache in %s (%s): every start will read all records.', target.parent, error)

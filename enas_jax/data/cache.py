"""Keeps decoded arrays, so that later starts read no files: beside a prepared TFDS set, else in the user's folder of caches.

A cache's name is a digest of what it was made from: names, sizes and times of the files, and what decodes them. Arrays are .npy
files, mapped into memory; a checksum guards their content. A cache replaces those of earlier states of the same files.
"""
from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import time
import uuid
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import PIL

from enas_jax.data import decoding
from enas_jax.data.dataset import Dataset, ImageSet, array_checksum
from enas_jax.data.report import Note, parts_of

FOLDER = 'enas_jax_cache'  # In a TFDS set.
LARGEST = 10 * 10**9  # Bytes of all caches in the user's folder; those not used for the longest time go first.
DRAFT_SECONDS = 24 * 3600  # After that a draft's writer is dead.


class Cached(NamedTuple):
  """What a cache holds: the parts by name, the digest of all arrays, and how many images each remark was made on."""

  parts: dict[str, ImageSet]
  checksum: str
  remarks: dict[str, int]


def beside(prepared: pathlib.Path) -> pathlib.Path:
  """Returns the place for a prepared TFDS set: in it, or the user's where only others may write there.

  It is keyed by metadata, and by name, size and time of the record files.
  """
  keys = []
  for file in sorted(path for path in prepared.iterdir() if path.is_file()):
    stat = file.stat()
    keys.append(f'{file.name}:'.encode() + (
        file.read_bytes() if file.suffix == '.json' else f'{stat.st_size},{stat.st_mtime_ns};'.encode()))
  place = prepared / FOLDER / _digest(keys)
  if os.path.exists(place) or os.access(prepared, os.W_OK):
    return place
  return _of_user(prepared, place.name) or place


def of_folder(root: pathlib.Path, keys: Iterable[str]) -> pathlib.Path | None:
  """Returns the place for a folder of images: the user's, so that nothing is written among them; None if there is none.

  Args:
    root: the folder.
    keys: names and stamps of all files read from it.
  """
  return _of_user(root, _digest(map(os.fsencode, keys)))


def _of_user(root: pathlib.Path, digest: str) -> pathlib.Path | None:
  """Returns a place below $XDG_CACHE_HOME or ~/.cache; None where the user has neither."""
  base = os.environ.get('XDG_CACHE_HOME', '')
  if not os.path.isabs(base):  # As its specification wants it.
    base = os.path.expanduser('~/.cache')
  if not os.path.isabs(base):
    return None
  return pathlib.Path(base, 'enas_jax', 'images', _digest([os.fsencode(os.path.realpath(root))]), digest)


def read(target: pathlib.Path | None, note: Note) -> Cached | None:
  """Returns what a cache holds; None if there is none, or a damaged one, which is told."""
  if target is None or not os.path.exists(target):  # Path.exists raises where one may not look.
    return None
  try:
    meta = json.loads((target / 'meta.json').read_text())
    checksum, remarks = meta['checksum'], {str(key): int(count) for key, count in meta['remarks'].items()}
    parts = {part: ImageSet(*(np.load(target / f'{part}_{what}.npy', mmap_mode='r', allow_pickle=False)
                              for what in ImageSet._fields)) for part in meta['parts']}
    arrays = [array for part in parts.values() for array in part]
    damage = '' if {'train', 'test'} <= parts.keys() and array_checksum(*arrays) == checksum else 'its checksum is another'
  except Exception as error:  # NumPy's header parser has no common class for what damage can raise.
    damage = ' '.join(f'{type(error).__name__}: {error}'.split())
  if damage:
    note(f'The cache {target} is damaged and is built again: {damage}')
    return None
  _touch(target)
  return Cached({name: ImageSet(*map(np.asarray, part)) for name, part in parts.items()}, checksum, remarks)


def write(target: pathlib.Path | None, dataset: Dataset, remarks: Mapping[str, int], note: Note) -> None:
  """Writes a cache in whole or not at all. Where that cannot be, later starts take longer; it is told."""
  if target is None:
    return
  draft = target.with_name(f'.{target.name}.{uuid.uuid4().hex}')
  arrays = {f'{name}_{what}': array for name, part in parts_of(dataset) for what, array in part._asdict().items()}
  size = sum(array.nbytes for array in arrays.values())
  try:
    draft.mkdir(parents=True)
    free = shutil.disk_usage(draft).free / 2
    if size > (free if _in_set(target) else min(free, LARGEST)):
      raise OSError(f'{size / 1e9:.1f} GB are too much for it')
    for name, array in arrays.items():
      np.save(draft / f'{name}.npy', array, allow_pickle=False)
    meta = {'checksum': dataset.checksum, 'parts': [name for name, _ in parts_of(dataset)], 'remarks': dict(remarks)}
    (draft / 'meta.json').write_text(json.dumps(meta))
    if os.path.exists(target):
      shutil.rmtree(target)
    os.rename(draft, target)
    _tidy(target)
  except OSError as error:
    shutil.rmtree(draft, ignore_errors=True)
    if not os.path.exists(target):  # Else another process was faster.
      note(f'No cache in {target.parent} ({error}): every start will read all files.')


def _tidy(kept: pathlib.Path) -> None:
  """Removes caches of earlier states of the same files, drafts of dead processes, and what is above the limit."""
  for other in kept.parent.iterdir():
    draft = other.name.startswith('.')
    if other != kept and (not draft or time.time() - other.stat().st_mtime > DRAFT_SECONDS):
      shutil.rmtree(other, ignore_errors=True)
  if _in_set(kept):
    return
  total = 0
  for cache in sorted(kept.parent.parent.glob('*/[!.]*'), key=_used, reverse=True):
    total += sum(file.stat().st_size for file in cache.iterdir())
    if total > LARGEST and cache != kept:
      shutil.rmtree(cache, ignore_errors=True)


def _in_set(target: pathlib.Path) -> bool:
  return target.parent.name == FOLDER


def _touch(target: pathlib.Path) -> None:
  with contextlib.suppress(OSError):  # A cache that cannot be written to is as good.
    os.utime(target / 'meta.json')


def _used(cache: pathlib.Path) -> float:
  meta = cache / 'meta.json'
  return meta.stat().st_mtime if meta.exists() else 0.0


def _digest(keys: Iterable[bytes]) -> str:
  digest = hashlib.sha256(f'{decoding.VERSION} {PIL.__version__};'.encode())
  for key in keys:
    digest.update(key + b'\0')
  return digest.hexdigest()[:16]

"""Reads data sets that are one NumPy archive: 'npz:PATH', and the one that ships with the package."""
from __future__ import annotations

import math
import os
import pathlib
import zipfile
from typing import IO

import numpy as np

from enas_jax.data.dataset import Dataset, ImageSet, hold_out
from enas_jax.data.files import PARTS, regular_file
from enas_jax.errors import UserError

SPELLINGS = {'train': ('x_train', 'y_train'), 'test': ('x_test', 'y_test')}, \
            {'train': ('train_images', 'train_labels'), 'test': ('test_images', 'test_labels')}
VALID = [pair for part in PARTS['valid'] for pair in ((f'x_{part}', f'y_{part}'), (f'{part}_images', f'{part}_labels'))]
CLASS_NAMES = 'class_names'
TEST_SHARE = 0.2  # Of the images of each class, where there is no test part.


def load_npz(path: str | pathlib.Path, *, name: str | None = None) -> Dataset:
  """Reads a file written by `numpy.savez` or `numpy.savez_compressed`.

  It holds x_train, y_train, x_test, y_test (or train_images, train_labels, test_images, test_labels): images
  uint8 [N, H, W] or [N, H, W, C], integer labels [N] from 0; and, if wanted, x_val and y_val (val_images and val_labels), the
  part that a search decides by, and class_names, strings in the labels' order. Other entries are not read, which is noted.

  Args:
    path: the file.
    name: the data set's name; 'npz:PATH' if not given.

  Raises:
    UserError: the file is missing, damaged, or does not hold such arrays.
  """
  name = name or f'npz:{path}'
  if not os.path.lexists(path):
    raise UserError(f'data {name!r}: there is no such file; give the path of an .npz file')
  regular_file(f'data {name!r}', path, way='give the path of an .npz file')
  try:
    with zipfile.ZipFile(path) as archive:
      entries = {entry.filename.removesuffix('.npy'): entry for entry in archive.infolist()}
      keys = _keys(name, sorted(entries))
      wanted = {key for pair in keys.values() for key in pair} | ({CLASS_NAMES} & entries.keys())
      arrays = {key: _read(name, archive, key, entries[key]) for key in sorted(wanted)}
  except UserError:
    raise
  except MemoryError:
    raise UserError(f'data {name!r}: its arrays do not fit into memory; give fewer or smaller images') from None
  except PermissionError as error:
    raise UserError(f'data {name!r}: cannot be read ({error.strerror}); give yourself the right to read it') from error
  except Exception as error:  # zipfile, its decompressors and NumPy have no common class for what a damaged file can raise.
    raise UserError(f'data {name!r}: not an .npz file, or a damaged one ({_line(error)}); write it with numpy.savez') from error
  parts = {part: ImageSet(_images(name, images, arrays[images]), _labels(name, labels, arrays[labels], len(arrays[images])))
           for part, (images, labels) in keys.items()}
  class_names = _class_names(name, arrays, np.concatenate([part.labels for part in parts.values()]))
  others = sorted(entries.keys() - wanted)
  notes = [f'left out: {"entries" if len(others) > 1 else "entry"} {", ".join(map(ascii, others[:5]))}'] if others else []
  return Dataset.checked(name, parts['train'], parts['test'], class_names, valid=parts.get('valid'), notes=notes)


def from_arrays(*arrays: np.ndarray, name: str = 'arrays', valid: tuple[np.ndarray, np.ndarray] | None = None) -> Dataset:
  """Makes a data set of arrays in memory.

  Args:
    arrays: images and labels, of which a fifth becomes the test part, class by class; or training images and labels, test
      images and labels. Images are uint8 [N, H, W] or [N, H, W, C], labels integers [N] from 0.
    name: the data set's name.
    valid: images and labels that a search decides by; None: a share of the training part is held out for that.

  Raises:
    UserError: there are not two or four arrays, or they are no such images and labels.
  """
  if len(arrays) not in (2, 4):
    raise UserError(f'data: {len(arrays)} arrays; give (images, labels), or these of the training and of the test part')
  pairs = dict(zip(('', 'test '), zip(arrays[::2], arrays[1::2], strict=True), strict=False))
  if valid is not None:
    pairs['validation '] = valid
  parts = {}
  for part, pair in pairs.items():
    images, labels = map(np.asarray, pair)
    images = _images(name, f'{part}images', images)
    parts[part] = ImageSet(images, _labels(name, f'{part}labels', labels, len(images)))
  class_names = _class_names(name, {}, np.concatenate([part.labels for part in parts.values()]))
  train, test = (parts[''], parts['test ']) if 'test ' in parts else hold_out(
      parts[''], TEST_SHARE, seed=0, num_classes=len(class_names), part='test')
  return Dataset.checked(name, train, test, class_names, valid=parts.get('validation '))


def _keys(name: str, present: list[str]) -> dict[str, tuple[str, str]]:
  """Returns the keys of images and labels of each part in the spelling that the file uses."""
  spelling = max(SPELLINGS, key=lambda keys: len({key for pair in keys.values() for key in pair} & set(present)))
  needed = [key for pair in spelling.values() for key in pair]
  if missing := [key for key in needed if key not in present]:
    shown = ', '.join(map(ascii, present[:20]))
    raise UserError(f'data {name!r}: {", ".join(missing)} not among its entries [{shown}]; give {", ".join(needed)}')
  valid = [pair for pair in VALID if set(pair) & set(present)]
  if len(valid) > 1:
    raise UserError(f'data {name!r}: {" and ".join(pair[0] for pair in valid)} are one part by their names; keep one')
  if valid and (missing := [key for key in valid[0] if key not in present]):
    raise UserError(f'data {name!r}: {missing[0]} is missing beside the other of the validation part; add it or remove that')
  return {**spelling, **({'valid': valid[0]} if valid else {})}


def _read(name: str, archive: zipfile.ZipFile, key: str, entry: zipfile.ZipInfo) -> np.ndarray:
  with archive.open(entry) as file:
    try:
      _check_size(file, entry.file_size)
      return np.lib.format.read_array(file, allow_pickle=False)
    except ValueError as error:
      raise UserError(f'data {name!r}: {key} is not a plain array ({_line(error)}); save it as uint8 or integers') from error


def _check_size(file: IO[bytes], size: int) -> None:
  """Raises ValueError for a header that asks for more than the entry holds, before NumPy takes the memory for it."""
  version = np.lib.format.read_magic(file)
  read_header = {(1, 0): np.lib.format.read_array_header_1_0}.get(version, np.lib.format.read_array_header_2_0)
  shape, _, dtype = read_header(file)
  if not dtype.hasobject and math.prod(shape) * dtype.itemsize != size - file.tell():
    raise ValueError(f'{dtype} {list(shape)} in {size} bytes')
  file.seek(0)


def _images(name: str, key: str, images: np.ndarray) -> np.ndarray:
  if images.dtype != np.uint8:
    raise UserError(f'data {name!r}: {key} is {images.dtype}; pass uint8 pixels of 0 to 255')
  if images.ndim not in (3, 4) or 0 in images.shape:
    raise UserError(f'data {name!r}: {key} has shape {list(images.shape)}; give [N, H, W] or [N, H, W, C], none of them 0')
  if images.ndim == 3 and images.shape[2] in (1, 3, 4) and images.shape[1] >= 64:
    raise UserError(f'data {name!r}: {key} has shape {list(images.shape)}, which looks like pixels in one row; give '
                    f'[N, H, W, C], as reshape(-1, H, W, {images.shape[2]}) does')
  return images if images.ndim == 4 else images[..., None]


def _labels(name: str, key: str, labels: np.ndarray, count: int) -> np.ndarray:
  if labels.ndim == 2 and labels.shape[1] == 1:
    labels = labels[:, 0]  # As Keras's CIFAR-10 has them.
  if labels.dtype.kind not in 'iu' or labels.ndim != 1:
    raise UserError(f'data {name!r}: {key} is {labels.dtype} {list(labels.shape)}; give integers [N]')
  if len(labels) != count:
    raise UserError(f'data {name!r}: {key} has {len(labels)} labels for {count} images; give one an image')
  return labels.astype(np.int64)


def _class_names(name: str, arrays: dict[str, np.ndarray], labels: np.ndarray) -> list[str]:
  if CLASS_NAMES in arrays:
    names = arrays[CLASS_NAMES].ravel()
    try:
      if names.dtype.kind == 'U':  # A str of numbers that are no characters is a fault within Python.
        names.astype(names.dtype.newbyteorder('<')).tobytes().decode('utf-32-le')
      return [str(c) for c in names.astype(str)]
    except ValueError as error:
      raise UserError(f'data {name!r}: {CLASS_NAMES} is no text ({_line(error)}); save an array of str') from error
  if labels.max() >= len(labels):  # Then some class is empty; and there may be billions.
    raise UserError(f'data {name!r}: label {labels.max()} is too large for {len(labels)} images; number classes from 0')
  return [str(c) for c in range(labels.max() + 1)]


def _line(error: Exception) -> str:
  """Returns the beginning of an exception's message, on one line."""
  return ' '.join(str(error).split())[:200] or type(error).__name__

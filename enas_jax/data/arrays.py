"""Reads data sets that are one NumPy archive: 'npz:PATH', and the one that ships with the package."""
from __future__ import annotations

import pathlib
import zipfile
import zlib

import numpy as np

from enas_jax.data.dataset import Dataset, ImageSet, hold_out
from enas_jax.errors import UserError

SPELLINGS = (('x_train', 'y_train', 'x_test', 'y_test'), ('train_images', 'train_labels', 'test_images', 'test_labels'))
CLASS_NAMES = 'class_names'
TEST_SHARE = 0.2  # Of the images of each class, where there is no test part.


def load_npz(path: str | pathlib.Path, *, name: str | None = None) -> Dataset:
  """Reads a file written by `numpy.savez` or `numpy.savez_compressed`.

  It holds x_train, y_train, x_test, y_test (or train_images, train_labels, test_images, test_labels): images
  uint8 [N, H, W] or [N, H, W, C], integer labels [N] from 0; and, if wanted, class_names, strings in the labels' order.
  Other entries are ignored.

  Args:
    path: the file.
    name: the data set's name; 'npz:PATH' if not given.

  Raises:
    UserError: the file is missing, damaged, or does not hold such arrays.
  """
  name = name or f'npz:{path}'
  if not pathlib.Path(path).is_file():
    raise UserError(f'data {name!r}: there is no such file; give the path of an .npz file')
  try:
    with zipfile.ZipFile(path) as archive:
      keys = _keys(name, [entry.removesuffix('.npy') for entry in archive.namelist()])
      arrays = {key: _read(name, archive, key) for key in keys}
  except (zipfile.BadZipFile, EOFError, zlib.error, OSError) as error:
    raise UserError(f'data {name!r}: not an .npz file, or a damaged one ({_line(error)}); write it with numpy.savez') from error
  train_images, train_labels, test_images, test_labels = (arrays[key] for key in keys[:4])
  train = ImageSet(_images(name, keys[0], train_images), _labels(name, keys[1], train_labels, len(train_images)))
  test = ImageSet(_images(name, keys[2], test_images), _labels(name, keys[3], test_labels, len(test_images)))
  return Dataset.checked(name, train, test, _class_names(name, arrays, np.concatenate([train.labels, test.labels])))


def from_arrays(*arrays: np.ndarray, name: str = 'arrays') -> Dataset:
  """Makes a data set of arrays in memory.

  Args:
    arrays: images and labels, of which a fifth becomes the test part, class by class; or training images and labels, test
      images and labels. Images are uint8 [N, H, W] or [N, H, W, C], labels integers [N] from 0.
    name: the data set's name.

  Raises:
    UserError: there are not two or four arrays, or they are no such images and labels.
  """
  if len(arrays) not in (2, 4):
    raise UserError(f'data: {len(arrays)} arrays; give (images, labels), or these of the training and of the test part')
  parts = [
      ImageSet(_images(name, f'{part}images', images), _labels(name, f'{part}labels', labels, len(images)))
      for part, images, labels in zip(('', 'test '), map(np.asarray, arrays[::2]), map(np.asarray, arrays[1::2]), strict=False)]
  class_names = _class_names(name, {}, np.concatenate([part.labels for part in parts]))
  train, test = parts if len(parts) == 2 else hold_out(parts[0], TEST_SHARE, seed=0, num_classes=len(class_names))
  return Dataset.checked(name, train, test, class_names)


def _keys(name: str, present: list[str]) -> list[str]:
  """Returns the four keys in the spelling that the file uses, and `class_names` if it has them."""
  spelling = max(SPELLINGS, key=lambda keys: len(set(keys) & set(present)))
  missing = [key for key in spelling if key not in present]
  if missing:
    raise UserError(f'data {name!r}: {", ".join(missing)} not among its entries {sorted(present)}; give {", ".join(spelling)}')
  return [*spelling, *([CLASS_NAMES] if CLASS_NAMES in present else [])]


def _read(name: str, archive: zipfile.ZipFile, key: str) -> np.ndarray:
  with archive.open(f'{key}.npy') as file:
    try:
      return np.lib.format.read_array(file, allow_pickle=False)
    except ValueError as error:
      raise UserError(f'data {name!r}: {key} is not a plain array ({_line(error)}); save it as uint8 or integers') from error


def _images(name: str, key: str, images: np.ndarray) -> np.ndarray:
  if images.dtype != np.uint8:
    raise UserError(f'data {name!r}: {key} is {images.dtype}; pass uint8 pixels of 0 to 255')
  if images.ndim not in (3, 4) or 0 in images.shape:
    raise UserError(f'data {name!r}: {key} has shape {list(images.shape)}; give [N, H, W] or [N, H, W, C], none of them 0')
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
    return [str(c) for c in arrays[CLASS_NAMES].astype(str).ravel()]
  if labels.max() >= len(labels):  # Then some class is empty; and there may be billions.
    raise UserError(f'data {name!r}: label {labels.max()} is too large for {len(labels)} images; number classes from 0')
  return [str(c) for c in range(labels.max() + 1)]


def _line(error: Exception) -> str:
  """Returns an exception's message on one line."""
  return ' '.join(str(error).split()) or type(error).__name__

"""The images that a search trains on. `load` reads a data set by name; augment.py prepares a batch of it on the device."""
from __future__ import annotations

import logging
import pathlib

from enas_jax import paths
from enas_jax.data import embedded, gaussian
from enas_jax.data.arrays import from_arrays, load_npz
from enas_jax.data.dataset import Dataset, ImageSet, array_checksum, hold_out, statistics
from enas_jax.data.folder import load_folder
from enas_jax.data.published import published_statistics
from enas_jax.data.report import Note, describe, record
from enas_jax.data.tfds import load_tfds
from enas_jax.errors import UserError

__all__ = [
    'Dataset',
    'ImageSet',
    'array_checksum',
    'describe',
    'from_arrays',
    'hold_out',
    'load',
    'published_statistics',
    'record',
    'statistics',
]


logger = logging.getLogger(__name__)


def load(name: str, *, data_dir: str | pathlib.Path | None = None, note: Note = logger.warning) -> Dataset:
  """Reads a data set into memory.

  Args:
    name: 'fashion_mnist_10k' (ships with the package), 'folder:PATH' (folder.py tells its layout), 'npz:PATH' (arrays.py),
      'gaussian' (no data at all, gaussian.py), or else a name of TensorFlow Datasets such as 'cifar10' or 'emnist/balanced'
      (tfds.py).
    data_dir: the folder where TFDS keeps its sets; None: TFDS's own. Nothing else reads it.
    note: shows a line to the user, where reading takes long or something is to be done again.

  Returns:
    A data set whose parts are not empty and hold uint8 images of one shape. Labels are 0 .. classes - 1, and all of them
    occur in the training part.

  Raises:
    UserError: there is no such data, or it does not fit the above.
  """
  if not name:
    raise UserError("data: the name is empty; give 'fashion_mnist_10k', a TFDS name, 'folder:PATH' or 'npz:PATH'")
  if name == embedded.NAME:
    return embedded.load_embedded()
  kind, _, path = name.partition(':')
  if kind == gaussian.NAME:
    return gaussian.load_gaussian(name)
  if kind in ('folder', 'npz') and not path:
    raise UserError(f'data {name!r}: the path is empty; give {kind}:PATH')
  if kind in ('folder', 'npz'):
    file = paths.read(path, f'data {kind}:')
    return load_folder(file, note=note) if kind == 'folder' else load_npz(file)
  return load_tfds(name, data_dir=None if data_dir is None else paths.read(data_dir, '--data_dir='), note=note)

"""Reads data sets that are folders of image files: 'folder:PATH'."""
from __future__ import annotations

import pathlib

import numpy as np
from PIL import Image

from enas_jax.data.dataset import Dataset, ImageSet, hold_out
from enas_jax.errors import UserError

SUFFIXES = ('.bmp', '.gif', '.jpeg', '.jpg', '.pbm', '.pgm', '.png', '.ppm', '.tif', '.tiff', '.webp')
GRAY_MODES = ('1', 'L', 'LA')  # Pillow's.
DEEP_MODES = ('F', 'I')  # More than 8 bits a pixel.
TEST_SHARE, TEST_SEED, MIN_IMAGES = 0.2, 0, 3  # From 3 images on, a fifth is an image.


def load_folder(path: str | pathlib.Path) -> Dataset:
  """Reads PATH/train/CLASS/* and PATH/test/CLASS/*.

  Without a train and test level, PATH/CLASS/* is read, and 20 % of each class's images (always the same, by
  `hold_out` with seed 0) become the test part. Classes are numbered by their folders' sorted names. Images stay gray if all
  files are, else all become RGB; transparency is dropped. Hidden files and files that are not named like images are ignored.

  Raises:
    UserError: there is no such folder, there are fewer than two classes, a class has no images, test has a class that train
      lacks, or an image is unreadable, deeper than 8 bits, or of another size than the first.
  """
  name, root = f'folder:{path}', pathlib.Path(path).expanduser()
  if not root.is_dir():
    reason = 'a file' if root.exists() else 'there is no such folder'
    raise UserError(f'data {name!r}: {reason}; give a folder with one folder a class')
  parts = _parts(name, root)
  class_names = sorted(parts['train'])
  strange = sorted(set(parts.get('test', ())) - set(class_names))
  if strange:
    raise UserError(f'data {name!r}: class {strange[0]} is in test, but not in train; add it there or remove it')
  files = [(part, file) for part, classes in parts.items() for names in classes.values() for file in names]
  shape = _image_shape(name, [file for _, file in files])
  sets = {part: _read(name, classes, class_names, shape) for part, classes in parts.items()}
  if 'test' not in sets:
    sets['train'], sets['test'] = hold_out(sets['train'], TEST_SHARE, seed=TEST_SEED, num_classes=len(class_names))
  return Dataset.checked(name, sets['train'], sets['test'], class_names)


def _parts(name: str, root: pathlib.Path) -> dict[str, dict[str, list[pathlib.Path]]]:
  """Returns the files by part and class. A folder `train` that holds no folders is a class of that name."""
  if not any(_folders(root / part) for part in ('train', 'test')):
    classes = _classes(name, root)
    for label, files in classes.items():
      if len(files) < MIN_IMAGES:
        raise UserError(
            f'data {name!r}: class {label} has {len(files)} images; give at least {MIN_IMAGES}, since there is no '
            'train and test level and a fifth is split off')
    return {'train': classes}
  for part in ('train', 'test'):
    if not (root / part).is_dir():
      raise UserError(f'data {name!r}: there is no folder {part} beside the other; add it, or move the classes up')
  return {part: _classes(name, root / part, part) for part in ('train', 'test')}


def _classes(name: str, folder: pathlib.Path, part: str = 'train') -> dict[str, list[pathlib.Path]]:
  folders = _folders(folder)
  least = 1 if part == 'test' else 2
  if len(folders) < least:
    raise UserError(f'data {name!r}: {folder} has {len(folders)} class folders; give at least {least}, one a class')
  classes = {}
  for class_folder in folders:
    files = [file for file in sorted(class_folder.iterdir()) if _visible(file) and file.suffix.lower() in SUFFIXES]
    if not files:
      raise UserError(f'data {name!r}: class folder {class_folder} has no images; add some ({" ".join(SUFFIXES)}) or remove it')
    classes[class_folder.name] = files
  return classes


def _folders(folder: pathlib.Path) -> list[pathlib.Path]:
  return sorted(path for path in folder.iterdir() if path.is_dir() and _visible(path)) if folder.is_dir() else []


def _visible(path: pathlib.Path) -> bool:
  return not path.name.startswith('.')


def _image_shape(name: str, files: list[pathlib.Path]) -> tuple[int, int, int]:
  """Returns [H, W, C] of all images, with 1 channel if all are gray, else 3.

  It reads headers alone, so that unequal sizes show before much is read.
  """
  gray, first = True, files[0]
  with _open(name, first) as image:
    width, height = image.size
  for file in files:
    with _open(name, file) as image:
      mode, size = image.mode, image.size
    if mode.startswith(DEEP_MODES):
      raise UserError(f'data {name!r}: image {file} has more than 8 bits a pixel (mode {mode}); convert it to 8')
    if size != (width, height):
      sizes = f'{first} is {width}x{height} and {file} is {size[0]}x{size[1]}'
      raise UserError(f"data {name!r}: {sizes}; resize all to one size, as with Pillow's Image.resize")
    gray = gray and mode in GRAY_MODES
  return height, width, 1 if gray else 3


def _read(
    name: str, classes: dict[str, list[pathlib.Path]], class_names: list[str], shape: tuple[int, int, int]) -> ImageSet:
  labelled = [(file, class_names.index(label)) for label, files in classes.items() for file in files]
  images = np.empty((len(labelled), *shape), np.uint8)
  for i, (file, _) in enumerate(labelled):
    with _open(name, file) as image:
      try:
        pixels = np.asarray(image.convert('L' if shape[2] == 1 else 'RGB'))
      except Exception as error:
        raise _unreadable(name, file) from error
    images[i] = pixels.reshape(shape)
  return ImageSet(images, np.array([label for _, label in labelled], np.int32))


def _open(name: str, file: pathlib.Path) -> Image.Image:
  try:
    return Image.open(file)
  except Exception as error:  # Pillow has no common class for what a broken file can raise.
    raise _unreadable(name, file) from error


def _unreadable(name: str, file: pathlib.Path) -> UserError:
  return UserError(f'data {name!r}: image {file} cannot be read; replace or remove it')

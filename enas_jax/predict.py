"""Predicts the classes of image files with a trained network.

    python -m enas_jax.predict --workdir=DIR [--output=FILE.csv] IMAGE_OR_FOLDER ...

From Python it is `enas_jax.load(DIR).probabilities(images)`.
"""
from __future__ import annotations

import collections
import csv
import io
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from absl import flags

from enas_jax import cli, paths
from enas_jax.data.decoding import decode, in_words
from enas_jax.data.files import images_in, regular_file
from enas_jax.errors import UserError
from enas_jax.model import BATCH, Model, load


def main(values: flags.FlagValues, arguments: Sequence[str]) -> None:
  """Predicts the classes of image files with the network of a finished run.

  Each argument is an image file, or a folder of which all images are taken, those in folders in it, too. The answer is CSV,
  a line an image: its path, the predicted class, and the probability of every class, p(NAME). Images are read as for
  training, and must be as large.
  """
  if not arguments:
    raise UserError('no images; give files or folders behind the flags')
  model = load(values.workdir)
  files = [file for argument in arguments for file in _files(paths.read(argument, ''))]
  remarks: collections.Counter[str] = collections.Counter()
  text = io.StringIO()
  writer = csv.writer(text, lineterminator='\n')
  writer.writerow(['file', 'class', *(f'p({name})' for name in model.class_names)])
  for start in range(0, len(files), BATCH):
    part = files[start:start + BATCH]
    for file, probabilities in zip(part, model.probabilities(_read(model, part, remarks)), strict=True):
      writer.writerow([file, model.class_names[int(probabilities.argmax())], *(f'{p:.6g}' for p in probabilities.tolist())])
  print('; '.join([f'{len(files):,} images', *in_words(remarks)]), file=sys.stderr)
  if values.output is None:
    print(text.getvalue(), end='')
    cli.check_written()
  else:
    try:
      Path(values.output).write_bytes(text.getvalue().encode('utf-8', 'surrogateescape'))  # Names of files may be any bytes.
    except OSError as error:
      raise UserError(f'--output={values.output} cannot be written ({error.strerror}); give another path') from error


def _files(path: Path) -> Iterator[Path]:
  """Yields the file, or the images of a folder by their names. Raises UserError for a folder without any."""
  if not os.path.isdir(path):  # Or it may not be looked at, as reading it says.
    yield path
    return
  found = False
  for file in images_in(str(path)):
    found = True
    yield Path(file.path)
  if not found:
    raise UserError(f'{path} holds no images; give files, or a folder with some')


def _read(model: Model, files: Sequence[Path], remarks: collections.Counter[str]) -> np.ndarray:
  """Returns uint8 [N, H, W, C] as the network takes them. Raises UserError for a file that is no such image."""
  height, width, channels = model.task.image_shape
  if channels not in (1, 3):
    raise UserError(f'the network takes images of {channels} channels, which files do not have; use enas_jax.load from Python')
  images = np.empty((len(files), height, width, channels), np.uint8)
  for i, file in enumerate(files):
    regular_file(f'image {file}', file)
    picture = decode(f'image {file}', str(file), channels=channels)
    if picture.pixels.shape[:2] != (height, width):
      found = f'{picture.pixels.shape[1]}x{picture.pixels.shape[0]}'
      raise UserError(f"image {file} is {found}, the network takes {width}x{height}; resize it, as with Pillow's Image.resize")
    images[i] = picture.pixels
    remarks.update(picture.remarks)
  return images


def _define_flags(values: flags.FlagValues) -> None:
  cli.define_path('output', None, 'CSV file to write. Default: the standard output.', values=values)


if __name__ == '__main__':
  cli.run(main, define_flags=_define_flags, trains=False, takes_arguments=True)

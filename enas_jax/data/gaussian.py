"""No data at all: Gaussian pixels and random labels, for scores that hardly need any (NASI, arXiv 2109.00817, section 4.4).

'gaussian' are images of 32 x 32 x 3 in 10 classes; 'gaussian:HEIGHTxWIDTHxCHANNELS:CLASSES' are others. Nothing can be learnt
from them; a network trained on them is of no use.
"""
from __future__ import annotations

import re

import numpy as np

from enas_jax.data.dataset import Dataset, ImageSet
from enas_jax.errors import UserError

NAME = 'gaussian'
TRAIN, TEST = 2_000, 200  # Images.
MEAN, DEVIATION = 127.5, 40.0  # In steps of 8 bits: what is cut off at both ends is 3.2 deviations away.
LARGEST = 1024  # Height, width; classes.
_SPEC = re.compile(r'gaussian(?::([1-9]\d*)x([1-9]\d*)x([1-9]\d*):([1-9]\d*))?', re.ASCII)


def load_gaussian(name: str) -> Dataset:
  """Draws the data set of this name, always the same.

  Raises:
    UserError: the name is no such, or asks for more than 1024 pixels a side or classes, more than 4 channels, or one class.
  """
  match = _SPEC.fullmatch(name)
  if match is None:
    raise UserError(f"data {name!r} is not understood; give 'gaussian', or for example 'gaussian:28x28x1:10'")
  height, width, channels, classes = (int(group) for group in match.groups()) if match[1] else (32, 32, 3, 10)
  for what, value, limit in (('height', height, LARGEST), ('width', width, LARGEST), ('channels', channels, 4),
                             ('classes', classes, LARGEST)):
    if value > limit:
      raise UserError(f'data {name!r}: {what} {value} is above {limit}; give at most {limit}')
  rng = np.random.default_rng([height, width, channels, classes])

  def part(count: int) -> ImageSet:
    pixels = np.rint(MEAN + DEVIATION * rng.standard_normal((count, height, width, channels), np.float32))
    return ImageSet(np.clip(pixels, 0, 255).astype(np.uint8), rng.permutation(count) % classes)

  return Dataset.checked(
      name, part(TRAIN), part(TEST), [str(label) for label in range(classes)],
      notes=['Gaussian pixels and random labels: nothing to learn'])

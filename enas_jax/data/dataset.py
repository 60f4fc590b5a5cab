"""Images and labels in memory, and how they are parted."""
from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from enas_jax.types import Task


class ImageSet(NamedTuple):
  """`images` uint8 [N, H, W, C] and `labels` int32 [N]."""

  images: np.ndarray
  labels: np.ndarray


@dataclasses.dataclass(frozen=True)
class Dataset:
  """A data set for image classification.

  Attributes:
    name: as the user gave it.
    train, test: its parts.
    class_names: one a label.
    checksum: hexadecimal digest of all arrays: a search resumes only on the same data.
  """

  name: str
  train: ImageSet
  test: ImageSet
  class_names: tuple[str, ...]
  checksum: str

  @property
  def task(self) -> Task:
    return Task(tuple(self.train.images.shape[1:]), len(self.class_names))

"""The images that ship with the package: a search needs no download.

They are 10,000 training and 2,000 test images of Fashion-MNIST (Zalando SE, MIT licence, FASHION_MNIST_LICENSE.md), 1,000 and
200 of each of its ten classes, as they are: 28 x 28, gray. tools/make_fashion_mnist_10k.py made the file.
"""
from __future__ import annotations

import dataclasses
import pathlib

from enas_jax.data.arrays import load_npz
from enas_jax.data.dataset import Dataset

NAME = 'fashion_mnist_10k'
FILE = pathlib.Path(__file__).with_name(f'{NAME}.npz')


def load_embedded() -> Dataset:
  """Reads the small Fashion-MNIST that ships with the package."""
  return dataclasses.replace(load_npz(FILE, name=NAME), notes=())  # What is not read are the images' places in the whole.

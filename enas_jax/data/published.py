"""The constants that EG-NAS normalises with (Siddiqui, Kyrkou and Theocharides, arXiv 2502.03553, authors' code)."""
from __future__ import annotations

import numpy as np

from enas_jax.errors import UserError

# Mean and standard deviation a channel, of pixels / 255, by TFDS name.
STATISTICS = {
    'cifar10': ((0.49139968, 0.48215827, 0.44653124), (0.24703233, 0.24348505, 0.26158768)),
    'cifar100': ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    'emnist/balanced': ((0.1751,), (0.3332,)),
    'fashion_mnist': ((0.2860402,), (0.3530236,)),
    'fashion_mnist_10k': ((0.2860402,), (0.3530236,)),  # Those of the whole.
    'kmnist': ((0.19036119,), (0.34719803,)),
}


def published_statistics(name: str) -> tuple[np.ndarray, np.ndarray]:
  """Returns the paper's mean and standard deviation for a data set: float32 [C] each, of pixels / 255.

  Args:
    name: as given to `load`; a TFDS version (':3.0.2') is ignored.

  Raises:
    UserError: the paper has none for this set.
  """
  family = name.split(':')[0]
  if family not in STATISTICS:
    raise UserError(
        f'data {name!r}: no published statistics, which go by the name alone: {sorted(STATISTICS)}; set '
        'data.published_statistics to False for those of the training images, or give the set under such a name')
  mean, std = STATISTICS[family]
  return np.array(mean, np.float32), np.array(std, np.float32)

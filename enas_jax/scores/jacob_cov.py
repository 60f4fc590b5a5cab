"""jacob_cov: how alike images look to the network's derivative (Mellor et al., arXiv 2006.04647v1; arXiv 2101.08134)."""
from __future__ import annotations

import jax
import numpy as np

from enas_jax.scores.base import Batch, Plain
from enas_jax.scores.network import Network
from enas_jax.scores.registration import register

EPSILON = 1e-5


@register('jacob_cov')
class JacobCov(Plain):
  """-sum(log(v + e) + 1 / (v + e)) over the eigenvalues v of the correlation of images' derivatives, e = 1e-5.

  The derivative of an image is that of the sum of all logits of the batch by its pixels. Where that sum is the same whatever
  the images, as for a network whose pooling follows a batch norm (the chains of this package), these are rounding errors.
  """

  def measure(self, network: Network, batch: Batch, key: jax.Array) -> jax.Array:
    """Returns the derivatives [B, pixels]; see `Score.measure`."""
    del key
    by_pixels = jax.grad(lambda images: network.forward(network.weights, images).logits.sum())(batch.images)
    return by_pixels.reshape(len(by_pixels), -1)

  def value(self, measured: np.ndarray) -> float:
    """Returns the score from the derivatives; NaN where one does not vary."""
    with np.errstate(divide='ignore', invalid='ignore'):
      correlation = np.corrcoef(measured.astype(np.float64))
    if not np.isfinite(correlation).all():
      return float('nan')
    values = np.linalg.eigvalsh(correlation) + EPSILON
    return float(-(np.log(values) + 1 / values).sum())

"""jacob_cov: how alike images look to the network's derivative (Mellor et al., arXiv 2006.04647v1; arXiv 2101.08134)."""
from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from enas_jax.scores.base import Batch, Plain
from enas_jax.scores.network import Network
from enas_jax.scores.registration import register

EPSILON = 1e-5
ROUNDING = 1e-4  # Derivatives of the sum are nothing else where they are so much less than those of one image.


@register('jacob_cov')
class JacobCov(Plain):
  """-sum(log(v + e) + 1 / (v + e)) over the eigenvalues v of the correlation of images' derivatives, e = 1e-5.

  The derivative of an image is that of the sum of all logits of the batch by its pixels. Where that sum is the same whatever
  the images, as for a network whose pooling follows a batch norm (the chains of this package), there is no score: NaN.
  """

  def measure(self, network: Network, batch: Batch, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the derivatives [B, pixels], and those of the first image's logits alone; see `Score.measure`."""
    del key
    outputs, pull_back = jax.vjp(lambda images: network.forward(network.weights, images).logits, batch.images)
    ones = jnp.ones_like(outputs)
    by_pixels, first = (pull_back(of)[0].reshape(len(ones), -1) for of in (ones, ones.at[1:].set(0)))
    return by_pixels, first[0]

  def value(self, measured: tuple[np.ndarray, np.ndarray]) -> float:
    """Returns the score from the derivatives; NaN where they are rounding errors, or one does not vary."""
    by_pixels, first = measured
    if np.sqrt((by_pixels**2).sum(1).mean()) < ROUNDING * np.linalg.norm(first):
      return float('nan')
    with np.errstate(divide='ignore', invalid='ignore'):
      correlation = np.corrcoef(by_pixels.astype(np.float64))
    if not np.isfinite(correlation).all():
      return float('nan')
    values = np.linalg.eigvalsh(correlation) + EPSILON
    return float(-(np.log(values) + 1 / values).sum())

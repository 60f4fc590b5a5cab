"""MeCo: how independent channels are (Jiang et al., NeurIPS 2023)."""
from __future__ import annotations

import jax
import numpy as np

from enas_jax.scores.base import Batch, Plain
from enas_jax.scores.equations import Kind
from enas_jax.scores.network import Network
from enas_jax.scores.registration import register

SIZE = 64


@register('meco')
class Meco(Plain):
  """The sum over activations of the smallest eigenvalue of the correlation of channels, for one Gaussian image of 64 x 64.

  Activations are the outputs of layers, ReLUs, batch norms and blocks. The authors' code has a hook at every module, thus at
  poolings and containers, too. The correlation with a channel that does not vary counts as 0, as there.
  """

  images = 1

  def measure(self, network: Network, batch: Batch, key: jax.Array) -> list[tuple[jax.Array, jax.Array]]:
    """Returns the covariances [sites, channels, channels] and which of them count; see `Score.measure`."""
    image = jax.random.normal(key, (1, SIZE, SIZE, batch.images.shape[-1]), batch.images.dtype)

    def covariance(x: jax.Array) -> jax.Array:
      x = x.reshape(-1, x.shape[-1])
      x = x - x.mean(0)
      return x.T @ x / len(x)

    taps = dict.fromkeys((Kind.LAYER, Kind.NORM, Kind.BLOCK), covariance)  # A batch norm leaves correlations as they are.
    taps[Kind.RELU] = lambda x: covariance(jax.nn.relu(x))
    kept = network.forward(network.weights, image, taps=taps).kept
    return [(site.values, site.active) for sites in kept.values() for site in sites]

  def value(self, measured: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Returns the sum of the smallest eigenvalues."""
    total = 0.0
    for covariances, active in measured:
      for covariance in covariances[active].astype(np.float64):
        scale = np.sqrt(np.diag(covariance))
        with np.errstate(divide='ignore', invalid='ignore'):
          correlation = covariance / np.outer(scale, scale)
        total += float(np.linalg.eigvalsh(np.where(np.isfinite(correlation), correlation, 0))[0])
    return total

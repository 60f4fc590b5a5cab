"""ZiCo: gradients that are large and agree between batches (Li et al., ICLR 2023, arXiv 2301.11300)."""
from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from enas_jax.scores.base import Batch, Plain, loss_gradient
from enas_jax.scores.network import Network
from enas_jax.scores.registration import register

BATCHES = 2


@register('zico')
class Zico(Plain):
  """The sum over layers of log(sum over kernel entries of mean |g| / std g), over two batches of 128 images.

  Entries whose gradients do not vary, and layers of nothing else, are left out, as in the authors' code.
  """

  images = 128 * BATCHES

  def measure(self, network: Network, batch: Batch, key: jax.Array) -> list[jax.Array]:
    """Returns each layer's sum, zero where it is left out; see `Score.measure`."""
    del key
    size = len(batch.labels) // BATCHES
    gradients = [
        network.layers(loss_gradient(network, Batch(*(x[i * size:(i + 1) * size] for x in batch)))) for i in range(BATCHES)]
    sums = []
    for layers in zip(*gradients, strict=True):
      g = jnp.stack([layer.values for layer in layers])
      spread = g.std(0)
      ratio = jnp.where(spread > 0, jnp.abs(g).mean(0) / jnp.where(spread > 0, spread, 1), 0)
      sums.append(ratio.sum(-1) * layers[0].active)
    return sums

  def value(self, measured: list[np.ndarray]) -> float:
    """Returns the sum of the logarithms."""
    sums = np.concatenate(measured).astype(np.float64)
    return float(np.log(sums[sums > 0]).sum())

"""NASWOT: how many images the ReLUs tell apart (Mellor et al., ICML 2021, arXiv 2006.04647)."""
from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from enas_jax.scores.base import Batch, Plain, at
from enas_jax.scores.equations import Kind
from enas_jax.scores.network import Network
from enas_jax.scores.registration import register


@register('naswot')
class Naswot(Plain):
  """log |det K|, K = sum over ReLUs of X X' + (1 - X) (1 - X)', X [B, units] being 1 where a unit's input is above 0."""

  images = 128

  def measure(self, network: Network, batch: Batch, key: jax.Array) -> jax.Array:
    """Returns K [B, B]; see `Score.measure`."""
    del key

    def agreement(x: jax.Array) -> jax.Array:
      codes = (x > 0).reshape(len(x), -1).astype(jnp.float32)
      return codes @ codes.T + (1 - codes) @ (1 - codes).T

    sites = at(network.forward(network.weights, batch.images, taps={Kind.RELU: agreement}), Kind.RELU)
    return jnp.concatenate([site.values * site.active[:, None, None] for site in sites]).sum(0)

  def value(self, measured: np.ndarray) -> float:
    """Returns the logarithm of the determinant; minus infinity where two images have the same code."""
    return float(np.linalg.slogdet(measured.astype(np.float64))[1])

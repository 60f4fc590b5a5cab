"""Zen-score: how much features feel a small change of the image (Lin et al., ICCV 2021, arXiv 2102.01063)."""
from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from enas_jax.scores.base import Batch, Plain, at
from enas_jax.scores.equations import Kind
from enas_jax.scores.network import Network
from enas_jax.scores.registration import register

STEP = 0.01


@register('zen')
class Zen(Plain):
  """log mean |f(x) - f(x + 0.01 z)|_1 + sum over batch norms of log sqrt(mean variance), weights and x, z standard Gaussian.

  f is the last block's output, before the pooling. Variances are those of the batch; the authors' code has running averages.
  """

  initial = 'gaussian'

  def measure(self, network: Network, batch: Batch, key: jax.Array) -> tuple[jax.Array, list[jax.Array]]:
    """Returns the mean difference, and mean variances, one where there is none; see `Score.measure`."""
    x, z = jax.random.normal(key, (2, *batch.images.shape), batch.images.dtype)
    taps = {Kind.BLOCK: lambda y: y, Kind.NORM: lambda y: y.var(tuple(range(y.ndim - 1))).mean()}
    near = network.forward(network.weights, x + STEP * z, taps={Kind.BLOCK: taps[Kind.BLOCK]})
    seen = network.forward(network.weights, x, taps=taps)
    difference = jnp.abs(at(seen, Kind.BLOCK)[-1].values[-1] - at(near, Kind.BLOCK)[-1].values[-1])
    variances = [jnp.where(site.active, site.values, 1) for site in seen.kept[Kind.NORM]]
    return difference.sum(tuple(range(1, difference.ndim))).mean(), variances

  def value(self, measured: tuple[np.ndarray, list[np.ndarray]]) -> float:
    """Returns the sum of the logarithms."""
    difference, variances = measured
    with np.errstate(divide='ignore'):
      return float(np.log(difference) + sum(0.5 * np.log(v.astype(np.float64)).sum() for v in variances))

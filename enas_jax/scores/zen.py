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
MOMENTUM = 0.1  # PyTorch's: the share of a batch's variance that the running one takes.


@register('zen')
class Zen(Plain):
  """log mean |f(x) - f(x + 0.01 z)|_1 + sum over batch norms of log sqrt(mean running variance), weights and x, z Gaussian.

  f is what the global average pooling averages. The running variances are those that the authors' code (PyTorch) has after it
  ran both batches: each began at 1 and took a tenth of the batch's at a time.
  """

  initial = 'gaussian'

  def measure(self, network: Network, batch: Batch, key: jax.Array) -> tuple[jax.Array, list[jax.Array]]:
    """Returns the mean difference, and mean running variances, 1 where there is none; see `Score.measure`."""
    x, z = jax.random.normal(key, (2, *batch.images.shape), batch.images.dtype)
    taps = {Kind.POOLED: lambda y: y, Kind.NORM: lambda y: y.var(tuple(range(y.ndim - 1)), ddof=1).mean()}
    seen, near = (network.forward(network.weights, images, taps=taps) for images in (x, x + STEP * z))
    difference = jnp.abs(at(seen, Kind.POOLED)[-1].values[-1] - at(near, Kind.POOLED)[-1].values[-1])
    kept = 1 - MOMENTUM
    variances = [
        jnp.where(first.active, kept**2 + kept * MOMENTUM * first.values + MOMENTUM * second.values, 1)
        for first, second in zip(seen.kept[Kind.NORM], near.kept[Kind.NORM], strict=True)]
    return difference.sum(tuple(range(1, difference.ndim))).mean(), variances

  def value(self, measured: tuple[np.ndarray, list[np.ndarray]]) -> float:
    """Returns the sum of the logarithms."""
    difference, variances = measured
    with np.errstate(divide='ignore'):
      return float(np.log(difference) + sum(0.5 * np.log(v.astype(np.float64)).sum() for v in variances))

"""Fisher: how much the loss would feel if channels went away (Turner et al., ICLR 2020; as a score: arXiv 2101.08134)."""
from __future__ import annotations

import jax
import jax.numpy as jnp

from enas_jax.scores.base import Batch, Plain, loss
from enas_jax.scores.network import Network
from enas_jax.scores.registration import register


@register('fisher')
class Fisher(Plain):
  """The sum over channels of layers' outputs a of the mean over images of (sum over pixels of a dL/da)^2 / 2.

  a dL/da summed over pixels is the derivative by a factor of the channel; L is the mean cross entropy of the batch. Each
  channel counts as often as it has weights, as in the code of Abdelfattah et al.
  """

  def measure(self, network: Network, batch: Batch, key: jax.Array) -> jax.Array:
    """Returns the score; see `Score.measure`."""
    del key
    by_gates = jax.grad(lambda gates: loss(network, network.weights, batch, gates))(network.gates(batch.images))
    sums = jax.tree.map(lambda g, count: (g**2 * count).sum(), by_gates, network.fan_ins(batch.images))
    return jnp.stack(jax.tree.leaves(sums)).sum() / (2 * len(batch.labels))

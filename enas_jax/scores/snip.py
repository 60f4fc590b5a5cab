"""SNIP: how much the loss would feel if weights went away (Lee et al., ICLR 2019; as a score: arXiv 2101.08134)."""
from __future__ import annotations

import jax
import jax.numpy as jnp

from enas_jax.scores.base import Batch, Plain, loss_gradient
from enas_jax.scores.network import Network
from enas_jax.scores.registration import register


@register('snip')
class Snip(Plain):
  """The sum of |w dL/dw| over the kernels of convolutions and linear layers."""

  def measure(self, network: Network, batch: Batch, key: jax.Array) -> jax.Array:
    """Returns the score; see `Score.measure`."""
    del key
    saliency = jax.tree.map(lambda w, g: jnp.abs(w * g), network.weights, loss_gradient(network, batch))
    return jnp.concatenate([layer.values.sum(-1) * layer.active for layer in network.layers(saliency)]).sum()

"""grad_norm: the sum over layers of the norm of the loss's gradient (Abdelfattah et al., ICLR 2021, arXiv 2101.08134)."""
from __future__ import annotations

import jax
import jax.numpy as jnp

from enas_jax.scores.base import Batch, Plain, loss_gradient
from enas_jax.scores.network import Network
from enas_jax.scores.registration import register


@register('grad_norm')
class GradNorm(Plain):
  """The sum over convolutions and linear layers of the 2-norm of the gradient of the mean cross entropy, without biases."""

  def measure(self, network: Network, batch: Batch, key: jax.Array) -> jax.Array:
    """Returns the score; see `Score.measure`."""
    del key
    norms = [jnp.linalg.norm(layer.values, axis=-1) * layer.active for layer in network.layers(loss_gradient(network, batch))]
    return jnp.concatenate(norms).sum()

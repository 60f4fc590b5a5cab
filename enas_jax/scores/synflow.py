"""SynFlow: the synaptic flow (Tanaka et al., NeurIPS 2020; as a score: Abdelfattah et al., ICLR 2021)."""
from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from enas_jax.scores.base import Batch, Plain
from enas_jax.scores.network import Network
from enas_jax.scores.registration import register


@register('synflow')
class SynFlow(Plain):
  """The logarithm of the sum of |w dR/dw| over the kernels; R is the sum of the logits of one image of ones.

  For it all weights are replaced by their absolute values and batch norms are left out. Products over all layers grow past
  float32. Published code has no logarithm, which changes no rank.
  """

  images = 1
  precision = 'float64'

  def measure(self, network: Network, batch: Batch, key: jax.Array) -> jax.Array:
    """Returns the sum; see `Score.measure`."""
    del key
    ones = jnp.ones_like(batch.images[:1])
    weights = jax.tree.map(jnp.abs, network.weights)
    flow = jax.grad(lambda weights: network.forward(weights, ones, normalised=False).logits.sum())(weights)
    saliency = jax.tree.map(lambda w, g: jnp.abs(w * g), weights, flow)
    return jnp.concatenate([layer.values.sum(-1) * layer.active for layer in network.layers(saliency)]).sum()

  def value(self, measured: np.ndarray) -> float:
    """Returns the logarithm; minus infinity where nothing flows."""
    with np.errstate(divide='ignore'):
      return float(np.log(measured))

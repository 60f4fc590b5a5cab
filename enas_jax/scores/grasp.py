"""GraSP: how much the gradient would shrink if weights went away (Wang et al., ICLR 2020; as a score: arXiv 2101.08134)."""
from __future__ import annotations

import jax
import jax.numpy as jnp

from enas_jax.scores.base import Batch, Plain, loss
from enas_jax.scores.network import Network, Weights
from enas_jax.scores.registration import register


@register('grasp')
class Grasp(Plain):
  """The sum of -w (H g) over the kernels, H and g being Hessian and gradient of the loss by the kernels, temperature 1."""

  def measure(self, network: Network, batch: Batch, key: jax.Array) -> jax.Array:
    """Returns the score; see `Score.measure`."""
    del key
    gradient = jax.grad(lambda weights: loss(network, weights, batch))

    def along_itself(weights: Weights) -> jax.Array:
      """The gradient's product with itself, of which one factor is held: its gradient is H g."""
      g = gradient(weights)
      held = network.map_kernels(jax.lax.stop_gradient(g), lambda kernel, _: kernel, jnp.zeros_like)
      return jnp.stack(jax.tree.leaves(jax.tree.map(lambda a, b: (a * b).sum(), g, held))).sum()

    saliency = jax.tree.map(lambda w, hg: -w * hg, network.weights, jax.grad(along_itself)(network.weights))
    return jnp.concatenate([layer.values.sum(-1) * layer.active for layer in network.layers(saliency)]).sum()

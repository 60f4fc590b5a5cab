"""Fisher: how much the loss would feel if channels went away (Turner et al., ICLR 2020; as a score: arXiv 2101.08134)."""
from __future__ import annotations

import jax
import jax.numpy as jnp

from enas_jax.scores.base import Batch, Plain
from enas_jax.scores.network import Network
from enas_jax.scores.registration import register


@register('fisher')
class Fisher(Plain):
  """The sum over channels of layers' outputs a of the mean over images of (sum over pixels of a dL/da)^2 / 2.

  a dL/da summed over pixels is the derivative by a factor of the channel; L is the mean cross entropy of the batch. The code of
  Abdelfattah et al. counts each channel as often as it has weights, so that its layers have other shares.
  """

  def measure(self, network: Network, batch: Batch, key: jax.Array) -> jax.Array:
    """Returns the score; see `Score.measure`."""
    del key

    def loss_of(gates: object) -> jax.Array:
      log_likelihoods = jax.nn.log_softmax(network.forward(network.weights, batch.images, gates=gates).logits)
      return -jnp.take_along_axis(log_likelihoods, batch.labels[:, None], axis=1).mean()

    by_gates = jax.grad(loss_of)(network.gates(batch.images))
    total: jax.Array = sum((g**2).sum() for g in jax.tree.leaves(by_gates)) / (2 * len(batch.labels))
    return total

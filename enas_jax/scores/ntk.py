"""Scores of the neural tangent kernel at initialisation: its trace, NASI's estimate of it, and its condition numbers.

NASI: Shu et al., ICLR 2022, arXiv 2109.00817, section 3. TE-NAS: Chen et al., ICLR 2021, arXiv 2102.11535. HNAS: Shu et al.,
NeurIPS 2022.
"""
from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from enas_jax.scores.base import Batch, Plain, loss_gradient, squared_norm
from enas_jax.scores.network import Network
from enas_jax.scores.registration import register


def jacobian(network: Network, batch: Batch, output: Callable[[jax.Array], jax.Array], *, biases: bool = True,
             of_row: Callable[[jax.Array], jax.Array] = lambda row: row) -> jax.Array:
  """Returns the derivatives of outputs by all weights, [outputs, weights].

  One backward pass for each output, one after the other. Batch norms have the batch's statistics in all of them.

  Args:
    network, batch: what is differentiated.
    output: makes a vector of the logits [B, classes].
    biases: whether biases are among the weights.
    of_row: what is kept of a row; all of them may be too many to be held.
  """
  outputs, pull_back = jax.vjp(lambda weights: output(network.forward(weights, batch.images).logits), network.weights)

  def row(one: jax.Array) -> jax.Array:
    leaves = jax.tree_util.tree_leaves_with_path(pull_back(one)[0])
    return of_row(jnp.concatenate([leaf.reshape(-1) for path, leaf in leaves if biases or path[-1].key != 'bias']))

  return jax.lax.map(row, jnp.eye(len(outputs), dtype=outputs.dtype))


@register('ntk_trace')
class NtkTrace(Plain):
  """The trace of the tangent kernel: the sum over images and outputs of the squared norm of the derivative by all weights.

  Of 16 images, a number of ours: there is a backward pass for every image and class.
  """

  images = 16

  def measure(self, network: Network, batch: Batch, key: jax.Array) -> jax.Array:
    """Returns the trace; see `Score.measure`."""
    del key
    return jacobian(network, batch, jnp.ravel, of_row=lambda row: (row**2).sum()).sum()


@register('ntk_estimate')
class NtkEstimate(Plain):
  """NASI's T: the squared norm of the gradient of a batch's mean loss by all weights; B T <= 2 trace."""

  def measure(self, network: Network, batch: Batch, key: jax.Array) -> jax.Array:
    """Returns the estimate; see `Score.measure`."""
    del key
    return squared_norm(loss_gradient(network, batch))


@register('ntk_condition')
class NtkCondition(Plain):
  """TE-NAS's condition number of the kernel of each image's sum of logits, negated, as a lower one is better.

  The kernel is by all weights but biases, as in the authors' code. Its smallest eigenvalue is lost in float32.
  """

  images = 72
  precision = 'float64'
  initial = 'kaiming_normal'

  def measure(self, network: Network, batch: Batch, key: jax.Array) -> jax.Array:
    """Returns the kernel [B, B]; see `Score.measure`."""
    del key
    rows = jacobian(network, batch, lambda logits: logits.sum(1), biases=False)
    return rows @ rows.T

  def value(self, measured: np.ndarray) -> float:
    """Returns minus the ratio of the eigenvalues; minus infinity where the smallest is not above 0."""
    values = np.linalg.eigvalsh(measured.astype(np.float64))
    return float(-values[-1] / values[0]) if values[0] > 0 else float('-inf')


class _TrueLogits(Plain):
  """What HNAS's numbers share: the kernel of each image's logit of its own class."""

  def measure(self, network: Network, batch: Batch, key: jax.Array) -> jax.Array:
    """Returns the kernel [B, B]; see `Score.measure`."""
    del key
    rows = jacobian(network, batch, lambda logits: jnp.take_along_axis(logits, batch.labels[:, None], axis=1)[:, 0])
    return rows @ rows.T


@register('hnas_m')
class HnasM(_TrueLogits):
  """HNAS's M: the root of the kernel's trace by the number of images."""

  def value(self, measured: np.ndarray) -> float:
    """Returns M."""
    return float(np.sqrt(np.trace(measured.astype(np.float64)) / len(measured)))


@register('hnas_kappa')
class HnasKappa(_TrueLogits):
  """HNAS's kappa, negated as a lower one is better: the kernel's largest eigenvalue by its smallest."""

  value = NtkCondition.value

"""Initial weights that scores are defined for, where these are not the network's own."""
from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from enas_jax.scores.network import Network, Weights

# The variance of a kernel by its fan in; 'own' leaves weights as they are.
VARIANCES = {'kaiming_normal': lambda fan_in: 2 / fan_in, 'gaussian': lambda fan_in: 1.0}
RULES = ('own', *VARIANCES)


def noise(network: Network, rule: str, seed: Sequence[int]) -> Weights:
  """Returns the network's weights with kernels of standard normal noise in place of its own, for `scaled`.

  Where the rule is 'own' they stay. All rules have the same noise. Drawn by NumPy, since JAX would compile for seconds.
  """
  rng = np.random.default_rng(seed)
  if rule == 'own':
    return network.weights
  return network.map_kernels(network.weights, lambda kernel, _: jnp.asarray(rng.standard_normal(kernel.shape, np.float32)))


def scaled(network: Network, rule: str) -> Network:
  """Returns a network whose kernels are `noise` with kernels of the rule's variance. What is no kernel stays as it is."""
  if rule == 'own':
    return network
  variance = VARIANCES[rule]
  return network.with_weights(
      network.map_kernels(network.weights, lambda kernel, fan_in: jnp.sqrt(variance(fan_in)).astype(kernel.dtype) * kernel))

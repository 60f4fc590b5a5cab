"""AZ-NAS's three scores by blocks; its fourth is the number of multiply-adds (Lee and Ham, CVPR 2024, arXiv 2403.19232).

The published score of a network is the sum of the logarithms of its ranks in all four among the networks compared: a vote.
"""
from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from enas_jax.scores.base import Batch, Plain
from enas_jax.scores.network import Network
from enas_jax.scores.registration import register


def covariance(features: jax.Array) -> jax.Array:
  """Returns the covariance [C, C] of features [B, H, W, C] over images and pixels."""
  x = features.reshape(-1, features.shape[-1])
  x = x - x.mean(0)
  return x.T @ x / len(x)


def entropy(covariance: np.ndarray) -> float:
  """Returns the entropy of the shares that the principal components of features have of their variance."""
  values = np.maximum(np.linalg.eigvalsh(covariance.astype(np.float64)), 0)
  shares = values / values.sum() if values.sum() > 0 else values
  return float(-(shares * np.log(shares + 1e-8)).sum())


class _Spectra(Plain):
  """What the first two share: the covariance of each block's input and of the last one's output, for Gaussian images."""

  initial = 'kaiming_normal'

  def measure(self, network: Network, batch: Batch, key: jax.Array) -> list[tuple[jax.Array, jax.Array]]:
    """Returns covariances before and after each block, in groups; see `Score.measure`."""
    images = jax.random.normal(key, batch.images.shape, batch.images.dtype)
    found = network.steps(network.weights, images, lambda block, x: (covariance(x), covariance(block(x))))
    return [site.values for site in found]

  def entropies(self, measured: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Returns the entropy of every block's features, the first block's input first."""
    before = [entropy(c) for group, _ in measured[:1] for c in group[:1]]
    return np.array(before + [entropy(c) for _, group in measured for c in group])


@register('az_expressivity')
class Expressivity(_Spectra):
  """The sum over blocks of the entropy of their features' spectrum."""

  def value(self, measured: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Returns the sum."""
    return float(self.entropies(measured).sum())


@register('az_progressivity')
class Progressivity(_Spectra):
  """The least increase of that entropy from one block to the next."""

  def value(self, measured: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Returns the least increase."""
    return float(np.diff(self.entropies(measured)).min())


@register('az_trainability')
class Trainability(Plain):
  """The mean over blocks of 2 - s - 1 / s, s being the largest singular value of M, the mean over pixels of (J' v) v'.

  J is a block's derivative by its input, v are random signs in the form of its output. Where a block lowers the resolution, the
  pixels of the input that belong to one of the output are side by side as channels.
  """

  initial = 'kaiming_normal'

  def measure(self, network: Network, batch: Batch, key: jax.Array) -> list[tuple[jax.Array, jax.Array]]:
    """Returns each block's matrix, and whether it is the identity; see `Score.measure`."""
    images = jax.random.normal(key, batch.images.shape, batch.images.dtype)

    def step(block: Callable[[jax.Array], jax.Array], x: jax.Array) -> tuple[jax.Array, jax.Array]:
      y, pull_back = jax.vjp(block, x)
      # Blocks of one size have the same signs: in a loop over blocks there is no number to draw others by.
      signs = jax.random.rademacher(jax.random.fold_in(key, y.size), y.shape, y.dtype)
      back = pull_back(signs)[0]
      same = (back == signs).all() if back.shape == signs.shape else jnp.zeros((), bool)
      (height, width), stride = y.shape[1:3], -(-x.shape[1] // y.shape[1])
      missing = [(0, stride * now - before) for now, before in zip((height, width), x.shape[1:3], strict=True)]
      back = jnp.pad(back, [(0, 0), *missing, (0, 0)]).reshape(len(x), height, stride, width, stride, x.shape[-1])
      back = back.transpose(0, 1, 3, 2, 4, 5).reshape(-1, stride * stride * x.shape[-1])
      signs = signs.reshape(-1, signs.shape[-1])
      return back.T @ signs / len(signs), same

    return [site.values for site in network.steps(network.weights, images, step)]

  def value(self, measured: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Returns the mean; minus infinity where a block is the identity, as in the authors' code."""
    scores = []
    for matrices, identities in measured:
      for matrix, identity in zip(matrices, identities, strict=True):
        largest = float(np.linalg.svd(matrix.astype(np.float64), compute_uv=False)[0])
        scores.append(-np.inf if identity else 2 - largest - 1 / (largest + 1e-6))
    return float(np.mean(scores))

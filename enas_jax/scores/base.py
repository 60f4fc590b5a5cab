"""What a score is: a number for a network that was never trained, which is meant to rank networks as training would."""
from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import jax
import optax

from enas_jax.errors import UserError
from enas_jax.scores.equations import Kind
from enas_jax.scores.network import Network, Seen, Sites, Weights


class Batch(NamedTuple):
  """What a score may look at: normalised images [B, H, W, C], float32, and their classes [B], int32."""

  images: jax.Array
  labels: jax.Array


class Score(Protocol):
  """A score: what is measured on the device, and the number that is made of it on the host. Higher is meant to be better.

  Attributes:
    images: how many images it looks at, as published.
    precision: of its arithmetic, 'float32' or 'float64'.
    initial: the weights it is defined for, one of `initial.RULES`.
  """

  images: int
  precision: str
  initial: str

  def measure(self, network: Network, batch: Batch, key: jax.Array) -> Any:
    """Returns a pytree of small arrays. It is traced by JAX; `key` is for what the score draws itself."""

  def value(self, measured: Any) -> float:
    """Returns the score from what `measure` gave, as NumPy arrays. It may be NaN or infinite, which is a failure."""


class Plain:
  """What most scores share; not required."""

  images = 64
  precision = 'float32'
  initial = 'own'

  def value(self, measured: Any) -> float:
    """Returns the number that `measure` found."""
    return float(measured)


def at(seen: Seen, kind: Kind) -> list[Sites]:
  """Returns what was kept at places of a kind. Raises UserError where the network has none."""
  if not seen.kept[kind]:
    raise UserError(f'this network has no {kind.value} that could be seen, which the score needs')
  return seen.kept[kind]


def loss(network: Network, weights: Weights, batch: Batch, gates: Any = None) -> jax.Array:
  """Returns the mean cross entropy of a batch; `gates` as of `Network.forward`."""
  logits = network.forward(weights, batch.images, gates=gates).logits
  return optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels).mean()


def loss_gradient(network: Network, batch: Batch) -> Weights:
  """Returns the gradient of the mean cross entropy with respect to all weights."""
  return jax.grad(lambda weights: loss(network, weights, batch))(network.weights)


def squared_norm(tree: Weights) -> jax.Array:
  """Returns the sum of the squares of all entries."""
  return optax.tree.norm(tree, squared=True)

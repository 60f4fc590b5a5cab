"""What a score sees of a network: pure functions of its initial weights, and what flows through it."""
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from enas_jax.scores.equations import Kind

Weights = Any  # A pytree of arrays.
Tap = Callable[[jax.Array], Any]  # What is kept of an activation: a function of it to a pytree of arrays.


class Sites(NamedTuple):
  """What was kept at several places of a network that are alike.

  Attributes:
    values: a pytree of arrays [sites, ...].
    active: [sites], whether the place is part of this network; values of others are to be left out.
  """

  values: Any
  active: jax.Array


def alone(values: Any) -> Sites:
  """Returns a group of one place that is part of the network."""
  return Sites(jax.tree.map(lambda x: x[None], values), jnp.ones(1, bool))


class Seen(NamedTuple):
  """One forward pass: the logits [B, classes], and what the taps kept, by kind, in groups of alike places."""

  logits: jax.Array
  kept: Mapping[Kind, list[Sites]]


class Network(Protocol):
  """A network with its initial weights. Batch norms use the statistics of the batch, as in a first training step.

  Attributes:
    weights: all that is trained.
  """

  weights: Weights

  def with_weights(self, weights: Weights) -> Network:
    """Returns the same network with other weights."""

  def forward(self, weights: Weights, images: jax.Array, *, taps: Mapping[Kind, Tap] | None = None, gates: Any = None,
              normalised: bool = True) -> Seen:
    """Runs the network on normalised images [B, H, W, C].

    Args:
      weights: in the form of `weights`.
      images: the batch.
      taps: what to keep, by the kind of place.
      gates: factors [B, channels] of the layers' outputs, in the form that `gates` returns; None: no factors.
      normalised: whether there are batch norms; without them each is the identity.
    """

  def gates(self, images: jax.Array) -> Any:
    """Returns factors of one for the output of every convolution and linear layer: a pytree of arrays [..., B, channels]."""

  def fan_ins(self, images: jax.Array) -> Any:
    """Returns how many weights a channel of each layer has: numbers, or arrays that multiply those of `gates`."""

  def layers(self, tree: Weights) -> list[Sites]:
    """Returns the kernels of convolutions and linear layers of a tree like `weights`, [layers, entries] in each group."""

  def map_kernels(self, tree: Weights, change: Callable[[jax.Array, int], jax.Array],
                  others: Callable[[jax.Array], jax.Array] = lambda leaf: leaf) -> Weights:
    """Returns a tree like `weights`, each kernel as `change` makes it of the kernel and its fan in, the others by `others`."""

  def steps(self, weights: Weights, images: jax.Array, step: Callable[[Callable[[jax.Array], jax.Array], jax.Array], Any],
            ) -> list[Sites]:
    """Returns what `step(block, input)` makes of every block, in order, `block` being a function of its main input.

    Blocks are the parts that a network is a sequence of, such as layers or cells. The input [B, H, W, C] of the first is the
    stem's output.
    """

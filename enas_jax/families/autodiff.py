"""A family's network whose gradient JAX finds.

Such a network says what its logits are; this class does the rest. A loop whose length is data has no automatic gradient:
tape.py brings one for cells, and families/chain/network.py writes `forward` and `backward` by hand.
"""
from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, Generic, NamedTuple

import jax
import jax.numpy as jnp

from enas_jax.training.family import A, Limits, Mode, Plan, Weights
from enas_jax.training.loss import count, cross_entropy

Heads = tuple[tuple[Any, jax.Array], ...]


class Forward(NamedTuple):
  """What a forward pass leaves: weighted logits [B, classes], running statistics, the way back from logits to weights."""

  heads: Heads
  stats: Weights
  pull: Callable[..., Any]

  @property
  def scratch(self) -> tuple[()]:
    """Nothing is handed on."""
    return ()


@dataclasses.dataclass(frozen=True)
class AutodiffNetwork(abc.ABC, Generic[A]):
  """The part of `training.family.StackedNetwork` that follows from the logits.

  A subclass is a frozen dataclass; it adds `example`, `initial`, `pack`, `unpack`, `plan` and `heads`.

  Attributes:
    axis: name of the mapped axis over which the images of a batch are spread; None: they are all here.
  """

  axis: str | None = dataclasses.field(default=None, kw_only=True)

  @abc.abstractmethod
  def heads(self, params: Weights, stats: Weights, plan: Plan, limits: Limits, images: jax.Array,
            mode: Mode) -> tuple[Heads, Weights]:
    """Returns logits of normalised images [B, H, W, C], and the running statistics after them.

    Batch norms use the batch's moments in training, else the running ones; with an `axis` the moments are of all devices.

    Returns:
      Pairs of a weight and logits [B, classes]: training minimises the weighted sum of their cross entropies, and the first
      pair answers. The statistics.
    """

  def limits(self, plan: Plan) -> Limits:
    """Returns nothing: no loop's length is data."""
    del plan
    return ()

  def scratch(self, shape: tuple[int, ...]) -> tuple[()]:
    """Returns nothing: no memory is handed on."""
    del shape
    return ()

  def forward(self, params: Weights, stats: Weights, plan: Plan, limits: Limits, images: jax.Array, scratch: tuple[()],
              mode: Mode) -> Forward:
    """Runs images through the network."""
    del scratch

    def run(params: Weights) -> tuple[Heads, Weights]:
      return self.heads(params, stats, plan, limits, images, mode)

    heads, pull, after = jax.vjp(run, params, has_aux=True)
    return Forward(heads, after, pull)

  def backward(self, params: Weights, plan: Plan, limits: Limits, images: jax.Array, labels: jax.Array,
               forward: Forward, smoothing: float = 0.0, weights: jax.Array | None = None) -> tuple[jax.Array, Weights]:
    """Returns the batch's mean loss, the weighted sum of the heads' cross entropies, and the gradients of the weights."""
    del params, plan, limits, images
    batch = len(labels) * (1 if self.axis is None else jax.lax.axis_size(self.axis))

    def loss_of(heads: Heads) -> jax.Array:
      terms = [weight * cross_entropy(logits, labels, smoothing, weights).sum() for weight, logits in heads]
      return jnp.sum(jnp.stack(terms)) / batch

    loss, to_heads = jax.value_and_grad(loss_of)(forward.heads)
    return self.total(loss), self.total(forward.pull(to_heads)[0])

  def correct(self, forward: Forward, labels: jax.Array, weights: jax.Array | None = None) -> jax.Array:
    """Returns the number of right answers, or the sum of their weights, on all devices."""
    return self.total(count(forward.heads[0][1].argmax(-1) == labels, weights))

  def total(self, tree: Any) -> Any:
    """Returns the sums of arrays over the devices that share a batch."""
    return tree if self.axis is None else jax.lax.psum(tree, self.axis)

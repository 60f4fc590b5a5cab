"""A family's network whose gradient JAX finds: for programs without loops of a length that is data.

Such a network says what its logits are; this class does the rest. A loop that runs as long as the candidate is deep has no
automatic gradient: such a family writes `forward` and `backward` by hand, as families/chain/network.py does.
"""
from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, Generic, NamedTuple

import jax
import jax.numpy as jnp
import optax

from enas_jax.training.family import A, Plan, Weights


class Forward(NamedTuple):
  """What a forward pass leaves: logits [B, classes], running statistics, and the way back from logits to weights."""

  logits: jax.Array
  stats: Weights
  pull: Callable[..., Any]

  @property
  def scratch(self) -> tuple[()]:
    """Nothing is handed on."""
    return ()


@dataclasses.dataclass(frozen=True)
class AutodiffNetwork(abc.ABC, Generic[A]):
  """The part of `training.family.StackedNetwork` that follows from the logits.

  A subclass is a frozen dataclass; it adds `example`, `initial`, `pack`, `unpack`, `plan` and `logits`.

  Attributes:
    axis: name of the mapped axis over which the images of a batch are spread; None: they are all here.
  """

  axis: str | None = dataclasses.field(default=None, kw_only=True)

  @abc.abstractmethod
  def logits(self, params: Weights, stats: Weights, plan: Plan, images: jax.Array,
             training: jax.Array | bool) -> tuple[jax.Array, Weights]:
    """Returns logits [B, classes] of normalised images [B, H, W, C], and the running statistics after them.

    Batch norms use the batch's moments in training, else the running ones; with an `axis` the moments are of all devices.
    """

  def limits(self, plan: Plan) -> tuple[()]:
    """Returns nothing: no loop's length is data."""
    del plan
    return ()

  def scratch(self, shape: tuple[int, ...]) -> tuple[()]:
    """Returns nothing: no memory is handed on."""
    del shape
    return ()

  def forward(self, params: Weights, stats: Weights, plan: Plan, limits: tuple[()], images: jax.Array, scratch: tuple[()],
              training: jax.Array | bool) -> Forward:
    """Runs images through the network."""
    del limits, scratch

    def run(params: Weights) -> tuple[jax.Array, Weights]:
      return self.logits(params, stats, plan, images, training)

    logits, pull, after = jax.vjp(run, params, has_aux=True)
    return Forward(logits, after, pull)

  def backward(self, params: Weights, plan: Plan, limits: tuple[()], images: jax.Array, labels: jax.Array,
               forward: Forward) -> tuple[jax.Array, Weights]:
    """Returns the batch's mean cross entropy, and the gradients of the weights."""
    del params, plan, limits, images
    batch = len(labels) * (1 if self.axis is None else jax.lax.axis_size(self.axis))

    def loss_of(logits: jax.Array) -> jax.Array:
      return optax.softmax_cross_entropy_with_integer_labels(logits, labels).sum() / batch

    loss, to_logits = jax.value_and_grad(loss_of)(forward.logits)
    return self.total(loss), self.total(forward.pull(to_logits)[0])

  def correct(self, forward: Forward, labels: jax.Array) -> jax.Array:
    """Returns the number of right answers, on all devices."""
    return self.total(jnp.sum(forward.logits.argmax(-1) == labels))

  def total(self, tree: Any) -> Any:
    """Returns the sums of arrays over the devices that share a batch."""
    return tree if self.axis is None else jax.lax.psum(tree, self.axis)

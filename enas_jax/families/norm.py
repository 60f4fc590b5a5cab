"""Batch norm over planes [C, H, W, B], with its gradient by hand: two passes over the planes each way.

Letters of shapes: C channels, H and W height and width, B images. A layer's batch norm is kept as its affine form [2, C]: a
factor and a summand a channel.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from enas_jax.families.planes import Planes, barrier, column, sums
from enas_jax.networks.layers import EPSILON, MOMENTUM

Weights = dict[str, Any]
Affine = Float[Array, '2 C']


@dataclasses.dataclass(frozen=True)
class BatchNorm:
  """Batch norm; weights are {'scale', 'bias'} and statistics {'mean', 'var'}, float32 [C] each.

  Attributes:
    momentum: the share of the running statistics that stays.
    epsilon: what is added to a variance.
    axis: name of the mapped axis over which the images of a batch are spread; None: they are all here.
  """

  momentum: float = MOMENTUM
  epsilon: float = EPSILON
  axis: str | None = None

  def affine(self, weights: Weights, running: Weights, z: Planes,
             training: jax.Array | bool) -> tuple[Affine, Weights, Weights]:
    """Returns the affine form, the batch's moments and the running statistics after it.

    The affine form is that of the batch's moments in training, else of the running ones.
    """
    return self.of_sums(weights, running, self.total(totals(z)), self.count(z), training)

  def of_sums(self, weights: Weights, running: Weights, both: Sequence[Float[Array, ' C']], count: int,
              training: jax.Array | bool) -> tuple[Affine, Weights, Weights]:
    """Returns what `affine` does, from `both` sums: of `count` numbers a channel, and of their squares."""
    total, squares = both
    mean = total / count
    moments = {'mean': mean, 'var': jnp.maximum(squares / count - mean * mean, 0)}
    moved = jax.tree.map(lambda a, b: self.momentum * a + (1 - self.momentum) * b, running, moments)
    used, after = (jax.tree.map(lambda a, b: jnp.where(training, a, b), new, running) for new in (moments, moved))
    return self.form(weights, used), moments, after

  def form(self, weights: Weights, moments: Weights) -> Affine:
    """Returns the affine form for these moments."""
    scale = weights['scale'] * jax.lax.rsqrt(moments['var'] + self.epsilon)
    return jnp.stack([scale, weights['bias'] - moments['mean'] * scale])

  def pull(self, weights: Weights, z: Planes, moments: Weights, gradient: Planes) -> tuple[Planes, Weights]:
    """Takes the gradient of the normalised planes to that of z, and of scale and bias (this device's part of them)."""
    inverse = jax.lax.rsqrt(moments['var'] + self.epsilon)
    to_z, scale, bias = back(z, gradient, weights['scale'] * inverse, moments['mean'], inverse, self.count(z), self.total)
    return barrier(to_z), {'scale': scale, 'bias': bias}

  def __call__(self, weights: Weights, running: Weights, z: Planes, training: jax.Array | bool) -> tuple[Planes, Weights]:
    """Returns normalised planes and the running statistics after them, for use under automatic differentiation."""
    @jax.custom_vjp
    def run(weights: Weights, running: Weights, z: Planes, training: Any) -> tuple[Planes, Weights]:
      return forward(weights, running, z, training)[0]

    def forward(weights: Weights, running: Weights, z: Planes, training: Any) -> tuple[Any, Any]:
      form, moments, after = self.affine(weights, running, z, training)
      return (apply(form, z), after), (weights, z, moments)

    def backward(residual: Any, gradients: Any) -> tuple[Any, ...]:
      weights, z, moments = residual
      to_z, to_weights = self.pull(weights, z, moments, gradients[0])
      return to_weights, None, to_z, None

    run.defvjp(forward, backward)
    own, before = {name: weights[name] for name in ('scale', 'bias')}, {name: running[name] for name in ('mean', 'var')}
    return run(own, before, z, training)

  def count(self, z: Planes) -> int:
    """Returns how many numbers a channel has, on all devices."""
    return z[0].size * (1 if self.axis is None else jax.lax.axis_size(self.axis))

  def total(self, tree: Any) -> Any:
    """Returns sums over the devices that share a batch."""
    return tree if self.axis is None else jax.lax.psum(tree, self.axis)


def totals(z: Planes) -> list[Float[Array, ' C']]:
  """Sums each channel's numbers, and their squares, in float32."""
  wide = z.astype(jnp.float32)
  return sums(wide, wide * wide)


def back(z: Planes, gradient: Planes, factor: Float[Array, ' C'], mean: Float[Array, ' C'], inverse: Float[Array, ' C'],
         count: int, total: Callable[[Any], Any]) -> tuple[Planes, Float[Array, ' C'], Float[Array, ' C']]:
  """Takes the gradient of normalised planes to that of the planes before, and of scale and bias.

  Args:
    z: the planes before.
    gradient: of the normalised ones.
    factor: the scale times `inverse`.
    mean, inverse: of the batch: the mean, and the inverse of the deviation.
    count: how many numbers a channel has, on all devices.
    total: sums over the devices that share a batch.
  """
  wide = gradient.astype(jnp.float32)
  normalised = (z.astype(jnp.float32) - column(mean)) * column(inverse)
  scale, bias = sums(wide * normalised, wide)
  of_all = [column(x / count) for x in total([scale, bias])]
  to_z = column(factor) * (wide - of_all[1] - normalised * of_all[0])
  return to_z.astype(z.dtype), scale, bias


def apply(form: Affine, z: Planes) -> Planes:
  """Applies an affine form."""
  return (z.astype(jnp.float32) * column(form[0]) + column(form[1])).astype(z.dtype)

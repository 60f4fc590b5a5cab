"""ReLU and a depthwise convolution, a channel at a time, so that what lies between stays in a CPU's cache.

What planes.py does by passes over all planes (normalise, pad, multiply-add) is done here for one channel after the other: its
padded plane is a small array that is overwritten by the next one's, and whose margins are zeros from the start. On a CPU a step
of large planes takes 0.65 to 0.7 of the time (benchmarks/README.md). An accelerator would wait for every channel.

The planes come as one layer of a stack, since a slice of a stack that a loop reads would be copied first.

Letters of shapes: as in planes.py, and L layers of the stack.
"""
from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from enas_jax.families import planes
from enas_jax.families.norm import apply, back, totals
from enas_jax.families.planes import Planes, Strided, barrier, sums

NORM = ('factor', 'summand', 'mean', 'inverse')  # A normalised number is factor * z + summand; inverse: of the deviation.


class Layer(NamedTuple):
  """A layer's normalised inputs, computed where they are needed.

  Attributes:
    stack: planes of several layers.
    at: which of them.
    norm: their batch norm, the numbers of `NORM` a channel.
  """

  stack: Float[Array, 'L C H W B']
  at: Int[Array, '']
  norm: Float[Array, 'n C']

  @property
  def shape(self) -> tuple[int, int, int, int]:
    """Channels, height, width and images."""
    _, channels, height, width, batch = self.stack.shape
    return channels, height, width, batch

  def raw(self) -> Planes:
    """Returns all channels as they were before the norm."""
    return jax.lax.dynamic_index_in_dim(self.stack, self.at, 0, keepdims=False)

  def planes(self) -> Planes:
    """Returns all channels, normalised."""
    return apply(self.norm[:2], self.raw())

  def channel(self, c: jax.Array) -> Layer:
    """Returns one channel as a layer."""
    own = jax.lax.dynamic_slice(self.stack, (self.at, c, 0, 0, 0), (1, 1, *self.stack.shape[2:]))
    return Layer(own, jnp.int32(0), jax.lax.dynamic_slice_in_dim(self.norm, c, 1, 1))


def depthwise(layer: Layer, kernel: Float[Array, 'k k C'], stride: int, memory: Strided | None = None) -> Strided:
  """Applies ReLU and convolves each channel with its own kernel, as `planes.depthwise` does.

  Args:
    layer: the inputs.
    kernel: k is odd.
    stride: 1 or 2.
    memory: an array of the outputs' shape that may be overwritten.
  """
  channels, height, width, batch = layer.shape
  shape = channels, -(-height // stride), -(-width // stride), batch

  def one(c: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
    padded, out = carry
    padded = _into(padded, jnp.maximum(layer.channel(c).planes(), 0), len(kernel) // 2)
    taps = planes.shifted(padded, (height, width), len(kernel), stride)
    return padded, _put(out, planes.weighted(taps, jax.lax.dynamic_slice_in_dim(kernel, c, 1, 2)), c)

  carry = _margins(layer, len(kernel) // 2), jax.lax.empty(shape, layer.stack.dtype) if memory is None else memory
  return barrier(jax.lax.fori_loop(0, channels, one, carry)[1])


def depthwise_backward(layer: Layer, kernel: Float[Array, 'k k C'], stride: int, gradient: Strided,
                       memory: Planes | None = None) -> tuple[Planes, Float[Array, '2 C'], Float[Array, 'k k C']]:
  """Takes the gradient of `depthwise`'s outputs to that of the inputs before the norm, of scale and bias, and of the kernel.

  Args:
    layer, kernel, stride: as those of `depthwise`.
    gradient: of the outputs.
    memory: an array of the inputs' shape that may be overwritten.
  """
  channels, height, width, _ = layer.shape
  size = len(kernel)

  def one(c: jax.Array, carry: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
    padded, padded_gradient, out, to_norms, total = carry
    channel = layer.channel(c)
    y = channel.planes()
    padded = _into(padded, jnp.maximum(y, 0), size // 2)
    own, weights = jax.lax.dynamic_slice_in_dim(gradient, c, 1, 0), jax.lax.dynamic_slice_in_dim(kernel, c, 1, 2)
    to_kernel = jnp.stack(sums(*(tap * own for tap in planes.shifted(padded, (height, width), size, stride))))
    if stride == 1:
      padded_gradient = _into(padded_gradient, own, size // 2)
      to_inputs = planes.weighted(planes.shifted(padded_gradient, (height, width), size, 1), weights[::-1, ::-1])
    else:
      to_inputs = planes.by_phases(own, weights, (height, width))
    to_z, to_norm = norm_backward(channel, barrier(jnp.where(y > 0, to_inputs, 0)))
    to_norms = jax.lax.dynamic_update_slice_in_dim(to_norms, to_norm, c, 1)
    total = jax.lax.dynamic_update_slice_in_dim(total, to_kernel, c, 1)
    return padded, padded_gradient, _put(out, to_z, c), to_norms, total

  margins = _margins(layer, size // 2)
  memory = jax.lax.empty(layer.shape, gradient.dtype) if memory is None else memory
  carry = (margins, margins if stride == 1 else jnp.zeros(()), memory,
           jnp.zeros((2, channels)), jnp.zeros((size * size, channels)))
  *_, out, to_norms, total = jax.lax.fori_loop(0, channels, one, carry)
  return barrier(out), to_norms, total.reshape(kernel.shape).astype(kernel.dtype)


def keep(stack: Float[Array, 'L C H W B'], index: Int[Array, ''],
         z: Planes) -> tuple[Float[Array, 'L C H W B'], list[Float[Array, ' C']]]:
  """Puts planes into a stack, and sums each channel and its squares while it is in the cache."""
  def one(c: jax.Array, carry: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
    stack, *both = carry
    channel = jax.lax.dynamic_slice_in_dim(z, c, 1, 0)
    both = [_put(total, x, c) for total, x in zip(both, totals(channel), strict=True)]
    return jax.lax.dynamic_update_slice(stack, channel[None], (index, c, 0, 0, 0)), *both

  stack, *both = jax.lax.fori_loop(0, len(z), one, (stack, *[jnp.zeros(len(z))] * 2))
  return stack, both


def norm_backward(layer: Layer, gradient: Planes) -> tuple[Planes, Float[Array, '2 C']]:
  """Takes the gradient of normalised planes to that of the planes before, and of the norm's scale and bias."""
  factor, _, mean, inverse = layer.norm
  to_z, scale, bias = back(layer.raw(), gradient, factor, mean, inverse, gradient[0].size, lambda both: both)
  return to_z, jnp.stack([scale, bias])


def _margins(layer: Layer, by: int) -> Float[Array, '1 Hp Wp B']:
  _, height, width, batch = layer.shape
  return jnp.zeros((1, height + 2 * by, width + 2 * by, batch), layer.stack.dtype)


def _into(padded: jax.Array, inside: jax.Array, by: int) -> jax.Array:
  return barrier(jax.lax.dynamic_update_slice(padded, inside, (0, by, by, 0)))


def _put(out: jax.Array, channel: jax.Array, c: jax.Array) -> jax.Array:
  return jax.lax.dynamic_update_slice_in_dim(out, channel, c, 0)

"""ReLU and a depthwise convolution, a channel at a time, so that what lies between stays in a CPU's cache.

What planes.py does by passes over all planes (normalise, pad, multiply-add) is done here for one channel after the other: its
padded plane is a small array that is overwritten by the next one's, and whose margins are zeros from the start. On a CPU that takes
a third of the time (benchmarks/README.md), and each number is computed as there. An accelerator would wait for every channel.

The planes come as one layer of a stack, since a slice of a stack that a loop reads would be copied first.

Letters of shapes: as in planes.py, and L layers of the stack.
"""
from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from enas_jax.families import planes
from enas_jax.families.planes import Planes, Strided, barrier, column, sums


class Layer(NamedTuple):
  """A layer's normalised inputs, computed where they are needed.

  Attributes:
    stack: planes of several layers.
    index: which of them.
    affine: their batch norm, a factor and a summand a channel.
  """

  stack: Float[Array, 'L C H W B']
  index: Int[Array, '']
  affine: Float[Array, '2 C']

  @property
  def shape(self) -> tuple[int, int, int, int]:
    """Channels, height, width and images."""
    return self.stack.shape[1:]

  def planes(self) -> Planes:
    """Returns all channels, normalised."""
    return _normalised(jax.lax.dynamic_index_in_dim(self.stack, self.index, 0, keepdims=False), self.affine)

  def channel(self, c: jax.Array) -> Float[Array, '1 H W B']:
    """Returns one channel, normalised."""
    return _normalised(_channel(self.stack, self.index, c), jax.lax.dynamic_slice_in_dim(self.affine, c, 1, 1))


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
    padded = _into(padded, jnp.maximum(layer.channel(c), 0), len(kernel) // 2)
    taps = planes.shifted(padded, (height, width), len(kernel), stride)
    return padded, _put(out, planes.weighted(taps, jax.lax.dynamic_slice_in_dim(kernel, c, 1, 2)), c)

  carry = _margins(layer, len(kernel) // 2), jax.lax.empty(shape, layer.stack.dtype) if memory is None else memory
  return barrier(jax.lax.fori_loop(0, channels, one, carry)[1])


def depthwise_backward(layer: Layer, kernel: Float[Array, 'k k C'], stride: int, gradient: Strided,
                       memory: Planes | None = None) -> tuple[Planes, Float[Array, 'k k C']]:
  """Takes the gradient of `depthwise`'s outputs to that of the normalised inputs, and of the kernel.

  Args:
    layer, kernel, stride: as those of `depthwise`.
    gradient: of the outputs.
    memory: an array of the inputs' shape that may be overwritten.
  """
  channels, height, width, batch = layer.shape
  size = len(kernel)

  def one(c: jax.Array, carry: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
    padded, padded_gradient, out, total = carry
    y = layer.channel(c)
    padded = _into(padded, jnp.maximum(y, 0), size // 2)
    own, weights = jax.lax.dynamic_slice_in_dim(gradient, c, 1, 0), jax.lax.dynamic_slice_in_dim(kernel, c, 1, 2)
    to_kernel = jnp.stack(sums(*(tap * own for tap in planes.shifted(padded, (height, width), size, stride))))
    if stride == 1:
      padded_gradient = _into(padded_gradient, own, size // 2)
      to_inputs = planes.weighted(planes.shifted(padded_gradient, (height, width), size, 1), weights[::-1, ::-1])
    else:
      to_inputs = planes.by_phases(own, weights, (height, width))
    out = _put(out, jnp.where(y > 0, to_inputs, 0), c)
    return padded, padded_gradient, out, jax.lax.dynamic_update_slice_in_dim(total, to_kernel, c, 1)

  margins = _margins(layer, size // 2)
  carry = (margins, margins if stride == 1 else jnp.zeros(()), jax.lax.empty(layer.shape, gradient.dtype) if memory is None else memory,
           jnp.zeros((size * size, channels)))
  *_, out, total = jax.lax.fori_loop(0, channels, one, carry)
  return barrier(out), total.reshape(kernel.shape).astype(kernel.dtype)


def keep(stack: Float[Array, 'L C H W B'], index: Int[Array, ''],
         z: Planes) -> tuple[Float[Array, 'L C H W B'], Float[Array, ' C'], Float[Array, ' C']]:
  """Puts planes into a stack, and sums each channel and its squares while it is in the cache."""
  def one(c: jax.Array, carry: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
    stack, *totals = carry
    channel = jax.lax.dynamic_slice_in_dim(z, c, 1, 0)
    wide = channel.astype(jnp.float32)
    return jax.lax.dynamic_update_slice(stack, channel[None], (index, c, 0, 0, 0)), *_put_all(totals, sums(wide, wide * wide), c)

  stack, *totals = jax.lax.fori_loop(0, len(z), one, (stack, *[jnp.zeros(len(z))] * 2))
  return stack, totals[0], totals[1]


def norm_backward(gradient: Planes, stack: Float[Array, 'L C H W B'], index: Int[Array, ''], mean: Float[Array, ' C'],
                  inverse: Float[Array, ' C'], scale: Float[Array, ' C']) -> tuple[Planes, Float[Array, ' C'], Float[Array, ' C']]:
  """Takes the gradient of a batch norm's outputs to that of its inputs, in their place, and of scale and bias.

  Args:
    gradient: of the outputs.
    stack, index: the inputs.
    mean: of the batch.
    inverse: one over its standard deviation.
    scale: the norm's.
  """
  count = gradient[0].size

  def one(c: jax.Array, carry: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
    gradient, *totals = carry
    wide = jax.lax.dynamic_slice_in_dim(gradient, c, 1, 0).astype(jnp.float32)
    own_mean, own_inverse, own_scale = (jax.lax.dynamic_slice_in_dim(x, c, 1) for x in (mean, inverse, scale))
    normalised = (_channel(stack, index, c).astype(jnp.float32) - column(own_mean)) * column(own_inverse)
    own = sums(wide * normalised, wide)
    of_all = [column(x / count) for x in own]
    to_z = column(own_scale * own_inverse) * (wide - of_all[1] - normalised * of_all[0])
    return _put(gradient, to_z.astype(gradient.dtype), c), *_put_all(totals, own, c)

  gradient, *totals = jax.lax.fori_loop(0, len(gradient), one, (gradient, *[jnp.zeros(len(gradient))] * 2))
  return barrier(gradient), totals[0], totals[1]


def _channel(stack: Float[Array, 'L C H W B'], index: Int[Array, ''], c: jax.Array) -> Float[Array, '1 H W B']:
  return jax.lax.dynamic_slice(stack, (index, c, 0, 0, 0), (1, 1, *stack.shape[2:]))[0]


def _put_all(outs: list[jax.Array], channels: list[jax.Array], c: jax.Array) -> list[jax.Array]:
  return [_put(out, x, c) for out, x in zip(outs, channels, strict=True)]


def _normalised(z: Planes, affine: Float[Array, '2 C']) -> Planes:
  return (z.astype(jnp.float32) * column(affine[0]) + column(affine[1])).astype(z.dtype)


def _margins(layer: Layer, by: int) -> Float[Array, '1 Hp Wp B']:
  _, height, width, batch = layer.shape
  return jnp.zeros((1, height + 2 * by, width + 2 * by, batch), layer.stack.dtype)


def _into(padded: jax.Array, inside: jax.Array, by: int) -> jax.Array:
  return barrier(jax.lax.dynamic_update_slice(padded, inside, (0, by, by, 0)))


def _put(out: jax.Array, channel: jax.Array, c: jax.Array) -> jax.Array:
  return jax.lax.dynamic_update_slice_in_dim(out, channel, c, 0)

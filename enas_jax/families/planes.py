"""Depthwise and pointwise convolutions over planes [C, H, W, B]: channel, row, column, image.

They are for many small networks in one program. With the images last a channel's weight is a scalar, a shifted plane is
contiguous, and a pointwise convolution is one matrix product, so no grouped convolution is left: XLA has no fast one on a CPU,
nor for candidates under vmap (benchmarks/README.md). Ordinary convolutions are in convolution.py. Padding is k // 2 on every
side, also at stride 2.

Two lowerings of the same functions: `shifts` (multiply-adds of shifted planes) and `xla` (XLA's own convolutions). Their
results differ in rounding alone.

Letters of shapes: C and D channels in and out, H and W height and width, h and w after the stride, B images, k a kernel's side.
"""
from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

LOWERINGS = ('shifts', 'xla')
T = TypeVar('T')
Planes = Float[Array, 'C H W B']
Strided = Float[Array, 'C h w B']
Shape = tuple[int, int]  # Height and width.
_LAYOUT = ('CHWN', 'HWOI', 'CHWN')


def depthwise(planes: Planes, kernel: Float[Array, 'k k C'], stride: int, lowering: str = 'shifts') -> Strided:
  """Convolves each channel with its own k x k kernel.

  Args:
    planes: the inputs.
    kernel: k is odd.
    stride: 1 or 2.
    lowering: one of `LOWERINGS`.

  Returns:
    Planes of ceil(H / stride) by ceil(W / stride).
  """
  if lowering == 'xla':
    return xla(planes, kernel[..., None], stride, groups=planes.shape[0])
  return _depthwise(planes, kernel, stride, planes.shape[1:3])


def pointwise(planes: Planes, kernel: Float[Array, 'D C']) -> Float[Array, 'D H W B']:
  """Convolves with a 1 x 1 kernel: one matrix product."""
  return (kernel @ planes.reshape(planes.shape[0], -1)).reshape(kernel.shape[0], *planes.shape[1:])


def product(kernel: Float[Array, 'D C'], planes: Planes) -> Float[Array, 'D H W B']:
  """Computes what `pointwise` does by the faster of a CPU's products, which differ in rounding.

  XLA leaves a product to Eigen where the first matrix comes transposed, which is a fifth faster than YNN on such long ones.
  """
  transposed = barrier(kernel.T)
  out = jax.lax.dot_general(transposed, planes.reshape(planes.shape[0], -1), (((0,), (0,)), ((), ())))
  return out.reshape(kernel.shape[0], *planes.shape[1:])


def barrier(x: T) -> T:
  """Has x computed as an array of its own, not again in each of its uses."""
  return jax.lax.optimization_barrier(x)


def column(per_channel: Float[Array, ' C']) -> Float[Array, 'C 1 1 1']:
  """Returns a number a channel so that it broadcasts over planes."""
  return per_channel[:, None, None, None]


def sums(*planes: Planes) -> list[Float[Array, ' C']]:
  """Sums each over all but the channel, in float32 and in one pass over the planes.

  Each row apart first: XLA adds the terms of a reduction of several arrays one after the other, and the rounding of half a
  million of them took two digits (benchmarks/README.md).
  """
  def add(a: Sequence[jax.Array], b: Sequence[jax.Array]) -> list[jax.Array]:
    return [x + y for x, y in zip(a, b, strict=True)]

  totals = [p.astype(jnp.float32) for p in planes]
  for axes in ((2, 3), (1,)):
    totals = jax.lax.reduce(totals, [np.float32(0)] * len(planes), add, axes)
  return totals


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _depthwise(planes: Planes, kernel: Float[Array, 'k k C'], stride: int, shape: Shape) -> Strided:
  return _depthwise_forward(planes, kernel, stride, shape)[0]


def _depthwise_forward(planes: Planes, kernel: Float[Array, 'k k C'], stride: int,
                       shape: Shape) -> tuple[Strided, tuple[jax.Array, jax.Array]]:
  padded = barrier(pad(planes, len(kernel) // 2))
  taps = shifted(padded, shape, len(kernel), stride)
  return barrier(weighted(taps, kernel)), (padded, kernel)


def _depthwise_backward(stride: int, shape: Shape, residual: tuple[jax.Array, jax.Array],
                        gradient: Strided) -> tuple[Planes, Float[Array, 'k k C']]:
  padded, kernel = residual
  size = len(kernel)
  # One pass for all taps; the sums stay in the float32 of the weights.
  kernel_gradient = jnp.stack(sums(*(tap * gradient for tap in shifted(padded, shape, size, stride))))
  kernel_gradient = kernel_gradient.reshape(size, size, -1).astype(kernel.dtype)
  if stride == 1:
    taps = shifted(barrier(pad(gradient, size // 2)), shape, size, 1)
    return weighted(taps, kernel[::-1, ::-1]), kernel_gradient
  return by_phases(gradient, kernel, shape), kernel_gradient


_depthwise.defvjp(_depthwise_forward, _depthwise_backward)


def pad(planes: Planes, by: int) -> Float[Array, 'C Hp Wp B']:
  """Adds so many zeros on every side of each plane."""
  return jnp.pad(planes, ((0, 0), (by, by), (by, by), (0, 0)))


def shifted(padded: Planes, shape: Shape, size: int, stride: int) -> list[Strided]:
  """Returns the planes under each of size x size taps, row by row."""
  height, width = shape
  return [padded[:, i:i + height:stride, j:j + width:stride] for i in range(size) for j in range(size)]


def weighted(taps: Sequence[Planes], kernel: Float[Array, 'k k C']) -> Planes:
  """Sums the taps, each times its weights."""
  weights = kernel.reshape(len(taps), -1)
  return jnp.asarray(sum(tap * column(weight) for tap, weight in zip(taps, weights, strict=True)))


def by_phases(gradient: Strided, kernel: Float[Array, 'k k C'], shape: Shape) -> Planes:
  """Returns the gradient to the inputs at stride 2.

  Inputs of even and odd rows and columns see different taps: four stride-1 sums over the small gradient, interleaved.
  """
  size, half = len(kernel), len(kernel) // 2
  rows, columns = gradient.shape[1:3]
  margin = (half + 1) // 2
  padded = barrier(pad(gradient, margin))

  def phase(row: int, column_: int) -> jax.Array:
    terms: list[jax.Array] = []
    for i in range((row + half) % 2, size, 2):
      for j in range((column_ + half) % 2, size, 2):
        top, left = (row + half - i) // 2 + margin, (column_ + half - j) // 2 + margin
        terms.append(padded[:, top:top + rows, left:left + columns] * column(kernel[i, j]))
    return jnp.asarray(sum(terms)) if terms else jnp.zeros_like(gradient)

  whole = jnp.stack([jnp.stack([phase(i, j) for j in range(2)], axis=3) for i in range(2)], axis=2)  # [C, h, 2, w, 2, B]
  return whole.reshape(gradient.shape[0], 2 * rows, 2 * columns, -1)[:, :shape[0], :shape[1]]


def xla(planes: Planes, kernel: Float[Array, 'k k D I'], stride: int, *, groups: int = 1) -> Float[Array, 'D h w B']:
  """Convolves by XLA's own operation, whose layout is left to it."""
  padding = [(len(kernel) // 2,) * 2] * 2
  return jax.lax.conv_general_dilated(
      planes, kernel, (stride, stride), padding, dimension_numbers=_LAYOUT, feature_group_count=groups)

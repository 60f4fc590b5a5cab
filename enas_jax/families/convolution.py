"""Ordinary convolutions over planes [C, H, W, B], as planes.py has the others, in the same two lowerings.

With lowering `shifts` they are products with gathered patches. On a CPU, where no vmap needs them for candidates side by side,
XLA's own convolution of images [B, H, W, C] takes 0.4 to 0.9 of that time for middling channels, as it gathers in the cache, if
the layout is made by hand; where XLA is to find one, it takes thirty times as long (benchmarks/README.md).

Letters of shapes: as in planes.py.
"""
from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from enas_jax.families.planes import Planes, Shape, barrier, pad, pointwise, xla

PATCH_BYTES = 4e6  # Of gathered patches at once, on a CPU; this and the numbers below: measured (benchmarks/README.md).
# Images instead of patches: up to so many bytes of planes, as larger ones leave the cache when they are turned, and from so
# many channels on; both numbers are for a kernel's side of 1. The last: channels for a kernel's gradient, whatever the side.
IMAGE_BYTES, LEAST_WORK, LEAST_CHANNELS = 8.5e5, 72, 4
Images = Float[Array, 'B H W C']
Outputs = Float[Array, 'D h w B']
Kernel = Float[Array, 'k k D C']


def convolution(planes: Planes, kernel: Kernel, stride: int, lowering: str = 'shifts', *,
                masked: bool = False) -> Outputs:
  """Convolves all channels with a k x k kernel.

  Args:
    planes: the inputs.
    kernel: k is odd.
    stride: 1 or 2.
    lowering: one of `planes.LOWERINGS`.
    masked: whether this may stand under vmap over kernels.

  Returns:
    Planes of ceil(H / stride) by ceil(W / stride).
  """
  if lowering == 'xla':
    return xla(planes, kernel, stride)
  return _convolution(planes, kernel, stride, planes.shape[1:3], jax.default_backend() == 'cpu' and not masked)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _convolution(planes: Planes, kernel: Kernel, stride: int, shape: Shape, images: bool) -> Outputs:
  return _forward(planes, kernel, stride, shape, images)[0]


def _forward(planes: Planes, kernel: Kernel, stride: int, shape: Shape,
             images: bool) -> tuple[Outputs, tuple[jax.Array, jax.Array]]:
  padded = barrier(pad(planes, len(kernel) // 2))
  if images and _small(planes, len(kernel)) and _work(kernel) * stride >= LEAST_WORK:
    out = _by_images(planes, kernel.swapaxes(2, 3), shape, stride)
  else:
    out = _gathered(padded, kernel, shape, stride)
  by_images = images and _small(planes, len(kernel)) and min(kernel.shape[2:]) >= LEAST_CHANNELS
  return out, (planes if by_images else padded, kernel)


def _backward(stride: int, shape: Shape, images: bool, residual: tuple[jax.Array, jax.Array],
              gradient: Outputs) -> tuple[Planes, Kernel]:
  planes, kernel = residual
  size = len(kernel)
  to_kernel = _kernel_by_images if images and planes.shape[1:3] == shape else _kernel_gathered  # Patches need padded planes.
  kernel_gradient = to_kernel(planes, gradient, size, shape, stride).astype(kernel.dtype)
  flipped = kernel[::-1, ::-1]
  # With a stride most of the patches would be zeros.
  if images and (_small(gradient, size) or stride > 1) and _work(kernel) * stride**2 >= LEAST_WORK:
    return _by_images(gradient, flipped, shape, 1, dilation=stride), kernel_gradient
  if stride > 1:  # To where the windows stood.
    gaps = [(0, whole - 1 - stride * (n - 1), stride - 1) for whole, n in zip(shape, gradient.shape[1:3], strict=True)]
    gradient = jax.lax.pad(gradient, np.array(0, gradient.dtype), [(0, 0, 0), *gaps, (0, 0, 0)])
  return _gathered(barrier(pad(gradient, size // 2)), flipped.swapaxes(2, 3), shape, 1), kernel_gradient


_convolution.defvjp(_forward, _backward)


def _small(planes: Planes, size: int) -> bool:
  return planes.nbytes <= IMAGE_BYTES * size


def _work(kernel: Kernel) -> int:
  return min(kernel.shape[2:]) * len(kernel)


def _by_images(planes: Planes, kernel: Float[Array, 'k k C D'], shape: Shape, stride: int, *,
               dilation: int = 1) -> Outputs:
  """Convolves as images; with a dilation, planes whose elements stand so far apart in planes of the given shape."""
  size = len(kernel)
  half = size // 2
  padding = [(half, whole - 1 - dilation * (n - 1) + half) for whole, n in zip(shape, planes.shape[1:3], strict=True)]
  out = _nhwc(_turned(planes), barrier(kernel), padding, window_strides=(stride, stride), lhs_dilation=(dilation, dilation))
  return _turned(barrier(out))


def _kernel_by_images(planes: Planes, gradient: Outputs, size: int, shape: Shape, stride: int) -> Kernel:
  """Computes the kernel's gradient: a convolution whose images are channels, channels images, and kernel the gradient."""
  half = size // 2
  padding = [(half, stride * (n - 1) + size - whole - half) for whole, n in zip(shape, gradient.shape[1:3], strict=True)]
  out = _nhwc(barrier(planes), barrier(gradient.transpose(1, 2, 3, 0)), padding, rhs_dilation=(stride, stride))
  return barrier(out).transpose(1, 2, 3, 0)


def _nhwc(images: Images, kernel: Float[Array, 'k l C D'], padding: list[tuple[int, int]],
          **options: Any) -> Float[Array, 'B h w D']:
  options = {'window_strides': (1, 1), **options}
  return jax.lax.conv_general_dilated(images, kernel, padding=padding, dimension_numbers=('NHWC', 'HWIO', 'NHWC'), **options)


def _turned(x: Float[Array, 'C H W B']) -> Images:
  """Exchanges the first and the last axis."""
  return barrier(x.transpose(3, 1, 2, 0))


def _flat(planes: Planes) -> Float[Array, 'C HWB']:
  return planes.reshape(planes.shape[0], -1)


def _gathered(padded: Planes, kernel: Kernel, shape: Shape, stride: int) -> Outputs:
  """Computes the convolution as products with patches, some rows at a time."""
  size, outputs, inputs = len(kernel), kernel.shape[2], kernel.shape[3]
  matrix = kernel.transpose(2, 0, 1, 3).reshape(outputs, -1)  # [D, k * k * C]
  out = jax.ShapeDtypeStruct((outputs, -(-shape[0] // stride), -(-shape[1] // stride), padded.shape[3]), padded.dtype)
  rows_at_once = _rows_at_once(out, size, inputs)

  def put(i: Any, rows: int, whole: jax.Array) -> jax.Array:
    part = pointwise(_patches(padded, i * stride, rows, shape, size, stride), matrix)
    return part if rows == out.shape[1] else jax.lax.dynamic_update_slice_in_dim(whole, part, i, 1)

  return barrier(_over_rows(out.shape[1], rows_at_once, put, jax.lax.empty(out.shape, out.dtype)))


def _kernel_gathered(padded: Planes, gradient: Outputs, size: int, shape: Shape, stride: int) -> Kernel:
  """Computes the kernel's gradient as products with patches, some rows at a time."""
  inputs, outputs = len(padded), len(gradient)

  def add(i: Any, rows: int, total: jax.Array) -> jax.Array:
    patches = _patches(padded, i * stride, rows, shape, size, stride)
    return total + _flat(jax.lax.dynamic_slice_in_dim(gradient, i, rows, 1)) @ _flat(patches).T  # [D, k * k * C]

  zeros = jnp.zeros((outputs, size * size * inputs), gradient.dtype)
  total = _over_rows(gradient.shape[1], _rows_at_once(gradient, size, inputs), add, zeros)
  return total.reshape(outputs, size, size, inputs).transpose(1, 2, 0, 3)


def _patches(padded: Planes, row: Any, rows: int, shape: Shape, size: int, stride: int) -> Float[Array, 'kkC rows w B']:
  """Returns all taps of `rows` output rows from padded row `row` on, under one another.

  It is one gather: as slices each tap would be a kernel, and those took a third of the time to compile.
  """
  taps = np.indices((size, size), np.int32).reshape(2, -1).T + jnp.stack([jnp.int32(row), jnp.int32(0)])
  numbers = jax.lax.GatherDimensionNumbers(offset_dims=(1, 2, 3, 4), collapsed_slice_dims=(), start_index_map=(1, 2))
  windows = padded.shape[0], (rows - 1) * stride + 1, shape[1], padded.shape[3]
  patches = jax.lax.gather(padded, taps, numbers, windows, mode='promise_in_bounds')[:, :, ::stride, ::stride]
  return barrier(patches.reshape(-1, *patches.shape[2:]))


def _rows_at_once(out: Any, size: int, inputs: int) -> int:
  """Returns all rows, or one if a CPU's cache would not hold all patches."""
  total = size * size * inputs * out.shape[1] * out.shape[2] * out.shape[3] * out.dtype.itemsize
  return 1 if jax.default_backend() == 'cpu' and total > PATCH_BYTES else out.shape[1]


def _over_rows(height: int, at_once: int, function: Callable[..., jax.Array], initial: jax.Array) -> jax.Array:
  """Folds function(row, rows, carry) over all rows."""
  if at_once == height:
    return function(0, height, initial)
  return jax.lax.fori_loop(0, height, lambda i, carry: function(i, 1, carry), initial)

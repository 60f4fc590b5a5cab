"""The separable convolution in the form that its platform runs well.

XLA's CPU back end has no fast grouped convolution, so a depthwise layer is slow there as XLA's own. Two exact other forms are
faster (benchmarks/README.md): as nothing stands between depthwise and pointwise, both are one ordinary convolution with
the product of their kernels, best for few channels; for many, the depthwise part is k x k shifted multiply-adds.
"""
from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp

COMPOSE_UP_TO = 64  # Channels; measured on CPU.
_LAYOUT = ('NHWC', 'HWIO', 'NHWC')


def separable_convolution(inputs: jax.Array, depthwise: jax.Array, pointwise: jax.Array, *, stride: int) -> jax.Array:
  """Applies a depthwise k x k convolution, padded by k // 2 on every side, then a pointwise one.

  Args:
    inputs: [B, H, W, C].
    depthwise: kernel [k, k, 1, C].
    pointwise: kernel [1, 1, C, D].
    stride: the stride of the depthwise part.

  Returns:
    [B, ceil(H / stride), ceil(W / stride), D].
  """
  chex.assert_shape(depthwise, (None, None, 1, inputs.shape[-1]))
  chex.assert_shape(pointwise, (1, 1, inputs.shape[-1], None))
  if jax.default_backend() != 'cpu':
    return _convolve(_convolve(inputs, depthwise, stride, groups=inputs.shape[-1]), pointwise, 1)
  if pointwise.shape[-1] <= COMPOSE_UP_TO:
    return _convolve(inputs, depthwise.swapaxes(2, 3) * pointwise, stride)
  return _depthwise_by_shifts(inputs, depthwise[:, :, 0], stride) @ pointwise[0, 0]


def _convolve(inputs: jax.Array, kernel: jax.Array, stride: int, *, groups: int = 1) -> jax.Array:
  padding = [(kernel.shape[0] // 2,) * 2] * 2
  return jax.lax.conv_general_dilated(
      inputs, kernel, (stride, stride), padding, dimension_numbers=_LAYOUT, feature_group_count=groups)


def _depthwise_by_shifts(inputs: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
  """Sums, over the k x k taps [C] of the kernel [k, k, C], the image shifted under the tap times the tap."""
  size, half = kernel.shape[0], kernel.shape[0] // 2
  padded = jnp.pad(inputs, ((0, 0), (half, half), (half, half), (0, 0)))
  height, width = inputs.shape[1:3]  # Odd kernels: a window starts at every pixel.
  total: Any = sum(
      padded[:, i:i + height:stride, j:j + width:stride] * kernel[i, j] for i in range(size) for j in range(size))
  return total

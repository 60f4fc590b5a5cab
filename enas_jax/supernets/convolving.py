"""A convolution whose gradients of any order are as fast on a CPU as itself.

XLA's CPU back end runs a convolution of images [B, H, W, C] by a library, and those that JAX derives from it for its gradients,
which have other orders of the axes, up to thirty times slower (benchmarks/README.md). Here both gradients are written as
convolutions of the first kind, and so are the gradients of these: reverse mode of any order. JAX refuses forward mode
(custom_vjp).
"""
from __future__ import annotations

import jax
import jax.numpy as jnp

_LAYOUT = ('NHWC', 'HWIO', 'NHWC')


def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """Returns the convolution of images [B, H, W, C] with a kernel [k, k, C, D], k odd, padded by k // 2: [B, H, W, D]."""
  if kernel.shape[0] == 1:
    return x @ kernel[0, 0]
  return _convolve(x, kernel) if jax.default_backend() == 'cpu' else _plain(x, kernel, kernel.shape[0] // 2)


def _plain(x: jax.Array, kernel: jax.Array, padding: int) -> jax.Array:
  return jax.lax.conv_general_dilated(x, kernel, (1, 1), [(padding, padding)] * 2, dimension_numbers=_LAYOUT)


@jax.custom_vjp
def _convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
  return _plain(x, kernel, kernel.shape[0] // 2)


@jax.custom_vjp
def _kernel_gradient(x: jax.Array, y: jax.Array, like: jax.Array) -> jax.Array:
  """Returns the kernel [k, k, C, D] for which <y, convolve(x, kernel)> = <result, kernel>; k is that of `like`."""
  return _plain(x.transpose(3, 1, 2, 0), y.transpose(1, 2, 0, 3), like.shape[0] // 2).transpose(1, 2, 0, 3)


def _turned(kernel: jax.Array) -> jax.Array:
  """Returns the kernel of the transposed convolution: turned by half a turn, channels exchanged."""
  return kernel[::-1, ::-1].swapaxes(2, 3)


_convolve.defvjp(
    lambda x, kernel: (_convolve(x, kernel), (x, kernel)),
    lambda kept, y: (_convolve(y, _turned(kept[1])), _kernel_gradient(kept[0], y, kept[1])))
_kernel_gradient.defvjp(
    lambda x, y, like: (_kernel_gradient(x, y, like), (x, y)),
    lambda kept, kernel: (_convolve(kept[1], _turned(kernel)), _convolve(kept[0], kernel), jnp.zeros_like(kernel)))

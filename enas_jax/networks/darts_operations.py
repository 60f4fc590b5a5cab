"""The operations of DARTS networks (Liu, Simonyan and Yang, ICLR 2019; the authors' cnn/operations.py)."""
from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from enas_jax.networks.convolution import separable_convolution
from enas_jax.networks.layers import BatchNorm, conv


class ReluConv(nnx.Module):
  """A block of ReLU, 1 x 1 convolution and batch norm."""

  def __init__(self, in_channels: int, out_channels: int, *, rngs: nnx.Rngs):
    self.conv = conv(in_channels, out_channels, 1, rngs=rngs)
    self.norm = BatchNorm(out_channels, rngs=rngs)

  def __call__(self, x: jax.Array) -> jax.Array:
    return self.norm(self.conv(nnx.relu(x)))


class FactorizedReduce(nnx.Module):
  """A block that halves the resolution: ReLU, half of the channels from even pixels, half from odd ones, batch norm.

  If the number of rows or columns is odd, the last odd ones are zeros; the authors' code takes even numbers alone.
  """

  def __init__(self, in_channels: int, out_channels: int, *, rngs: nnx.Rngs):
    self.even, self.odd = (conv(in_channels, out_channels // 2, 1, rngs=rngs) for _ in range(2))
    self.norm = BatchNorm(out_channels, rngs=rngs)

  def __call__(self, x: jax.Array) -> jax.Array:
    x = nnx.relu(x)
    even = x[:, ::2, ::2]
    odd = jnp.pad(x[:, 1::2, 1::2], ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)))
    return self.norm(jnp.concatenate([self.even(even), self.odd(odd)], axis=-1))


class SeparableBlock(nnx.Module):
  """A block of ReLU, depthwise k x k convolution of dilation 1 or 2 (with the stride), pointwise convolution, batch norm."""

  def __init__(self, channels: int, kernel: int, *, stride: int = 1, dilation: int = 1, rngs: nnx.Rngs):
    self.stride, self.dilation = stride, dilation
    self.depthwise = conv(channels, channels, kernel, groups=channels, rngs=rngs)
    self.pointwise = conv(channels, channels, 1, rngs=rngs)
    self.norm = BatchNorm(channels, rngs=rngs)

  def __call__(self, x: jax.Array) -> jax.Array:
    convolve = functools.partial(
        separable_convolution, depthwise=self.depthwise.kernel[...], pointwise=self.pointwise.kernel[...])
    x = nnx.relu(x)
    if self.dilation == 1:
      x = convolve(x, stride=self.stride)
    elif self.stride == 2:  # Windows start at even pixels, and then have even ones alone.
      x = convolve(x[:, ::2, ::2], stride=1)
    else:
      x = _dilated(x, convolve)
    return self.norm(x)


def _dilated(x: jax.Array, convolve: Callable[..., jax.Array]) -> jax.Array:
  """Applies a convolution with dilation 2. Its windows hold even or odd rows and columns alone, so it is four ordinary ones.

  An odd height or width is padded by one for it.
  """
  batch, height, width, channels = x.shape
  x = jnp.pad(x, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)))
  x = x.reshape(batch, -(-height // 2), 2, -(-width // 2), 2, channels).transpose(2, 4, 0, 1, 3, 5)
  x = convolve(x.reshape(4 * batch, *x.shape[3:]), stride=1)
  x = x.reshape(2, 2, batch, *x.shape[1:]).transpose(2, 3, 0, 4, 1, 5)
  return x.reshape(batch, 2 * x.shape[1], 2 * x.shape[3], -1)[:, :height, :width]


class SeparableConvolution(nnx.Module):
  """Two separable blocks, the first with the stride."""

  def __init__(self, channels: int, kernel: int, *, stride: int, rngs: nnx.Rngs):
    self.first = SeparableBlock(channels, kernel, stride=stride, rngs=rngs)
    self.second = SeparableBlock(channels, kernel, rngs=rngs)

  def __call__(self, x: jax.Array) -> jax.Array:
    return self.second(self.first(x))


class Pool(nnx.Module):
  """The mean or maximum of 3 x 3 windows, taken over the pixels that lie within the image."""

  def __init__(self, kind: str, *, stride: int):
    self.kind, self.stride = kind, stride

  def __call__(self, x: jax.Array) -> jax.Array:
    pool = nnx.max_pool if self.kind == 'max' else functools.partial(nnx.avg_pool, count_include_pad=False)
    return pool(x, (3, 3), (self.stride,) * 2, [(1, 1)] * 2)


class Identity(nnx.Module):
  """A module that returns its input."""

  def __call__(self, x: jax.Array) -> jax.Array:
    return x


def operation(name: str, channels: int, *, stride: int, rngs: nnx.Rngs) -> nnx.Module:
  """Makes a module of one of `spaces.darts.OPERATIONS`. It maps [B, H, W, C] to [B, ceil(H / stride), ceil(W / stride), C]."""
  kind, kernel = name[:3], name[-1]
  if name == 'skip_connect':
    return Identity() if stride == 1 else FactorizedReduce(channels, channels, rngs=rngs)
  if kind in ('max', 'avg'):
    return Pool(kind, stride=stride)
  if kind == 'dil':
    return SeparableBlock(channels, int(kernel), stride=stride, dilation=2, rngs=rngs)
  return SeparableConvolution(channels, int(kernel), stride=stride, rngs=rngs)

"""Pooling over planes [C, H, W, B], and its gradients without XLA's windows, which are slow in a loop on a CPU.

Letters of shapes: C channels, H and W height and width, h and w after the stride, B images.
"""
from __future__ import annotations

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from enas_jax.families.planes import Planes, Strided, barrier, depthwise

Winners = Int[Array, 'C h w B']
SIZE, MARGIN = 3, 1  # Of the windows of `average` and `maximum`.


def average(planes: Planes, stride: int, lowering: str = 'shifts') -> Strided:
  """Averages 3 x 3 windows, over the pixels that lie within the image; padding is 1 on every side."""
  ones = jnp.ones((SIZE, SIZE, planes.shape[0]), planes.dtype)
  rows, columns = (_inside(n, stride) for n in planes.shape[1:3])
  share = (1 / np.outer(rows, columns)).astype(np.float32)[None, :, :, None]
  return depthwise(planes, ones, stride, lowering) * share.astype(planes.dtype)


def halved_average(planes: Planes) -> Strided:
  """Averages 2 x 2 windows at stride 2, over the pixels that lie within the image; odd sizes are rounded up."""
  return _windows(planes, 0.0).sum((2, 4)) * _shares(planes).astype(planes.dtype)


def halved_maximum(planes: Planes) -> Strided:
  """Takes the maximum of 2 x 2 windows at stride 2; odd sizes are rounded up."""
  return _windows(planes, -jnp.inf).max((2, 4))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def maximum(planes: Planes, stride: int) -> Strided:
  """Takes the maximum of 3 x 3 windows, padded by 1 on every side. Of equal pixels the first has the gradient."""
  return _maximum(planes, stride)[0]


def _maximum(planes: Planes, stride: int) -> tuple[Strided, Winners]:
  """Returns the maxima, and which of the nine pixels they are."""
  padded = jnp.pad(planes, ((0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0)), constant_values=-jnp.inf)
  height, width = planes.shape[1:3]
  best = padded[:, :height:stride, :width:stride]
  winner = jnp.zeros(best.shape, jnp.int8)
  for i, j in itertools.product(range(SIZE), range(SIZE)):
    tap = padded[:, i:i + height:stride, j:j + width:stride]
    winner = jnp.where(tap > best, jnp.int8(i * SIZE + j), winner)
    best = jnp.maximum(best, tap)
  return best, winner


def _maximum_forward(planes: Planes, stride: int) -> tuple[Strided, tuple[Winners, Planes]]:
  best, winner = _maximum(planes, stride)
  return best, (winner, planes)


def _maximum_backward(stride: int, residual: tuple[Winners, Planes], gradient: Strided) -> tuple[Planes]:
  winner, planes = residual
  height, width = planes.shape[1:3]
  if stride > 1:  # To where the windows stood.
    sizes = zip((height, width), gradient.shape[1:3], strict=True)
    gaps = [(0, whole - 1 - stride * (n - 1), stride - 1) for whole, n in sizes]
    gradient = jax.lax.pad(gradient, np.array(0, gradient.dtype), [(0, 0, 0), *gaps, (0, 0, 0)])
    winner = jax.lax.pad(winner, np.int8(-1), [(0, 0, 0), *gaps, (0, 0, 0)])
  margins = ((0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0))
  gradient = barrier(jnp.pad(gradient, margins))
  winner = barrier(jnp.pad(winner, margins, constant_values=-1))
  total = jnp.zeros(planes.shape, gradient.dtype)
  for i, j in itertools.product(range(SIZE), range(SIZE)):  # A pixel is tap (i, j) of the window as far from it the other way.
    rows, columns = slice(2 - i, 2 - i + height), slice(2 - j, 2 - j + width)
    total += jnp.where(winner[:, rows, columns] == i * SIZE + j, gradient[:, rows, columns], 0)
  return (total,)


maximum.defvjp(_maximum_forward, _maximum_backward)


def _inside(size: int, stride: int) -> np.ndarray:
  """Returns how many of the three pixels of each window lie within the image, along one side."""
  starts = np.arange(0, size, stride) - MARGIN
  return np.minimum(starts + SIZE, size) - np.maximum(starts, 0)


def _windows(planes: Planes, fill: float) -> Float[Array, 'C h 2 w 2 B']:
  channels, height, width, batch = planes.shape
  padded = jnp.pad(planes, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), constant_values=fill)
  return padded.reshape(channels, -(-height // 2), 2, -(-width // 2), 2, batch)


def _shares(planes: Planes) -> Float[Array, '1 h w 1']:
  rows, columns = (np.minimum(2, n - np.arange(0, n, 2)) for n in planes.shape[1:3])
  return jnp.asarray((1 / np.outer(rows, columns)).astype(np.float32)[None, :, :, None])

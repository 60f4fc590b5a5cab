"""What supernets are made of: convolutions with batch norm that a score can see into, and the drawing of their weights."""
from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from enas_jax.networks.layers import EPSILON
from enas_jax.scores.equations import Kind
from enas_jax.scores.network import Tap
from enas_jax.supernets.convolving import convolve

Kept = dict[Kind, Any]  # What taps made of one place, by its kind.


class Looking(NamedTuple):
  """How a forward pass is looked at: the taps by kind, and whether there are batch norms."""

  taps: Mapping[Kind, Tap]
  normalised: bool = True

  def keep(self, **places: jax.Array) -> Kept:
    """Returns what the taps make of places, given by the names of their kinds."""
    return {kind: self.taps[kind](places[kind]) for kind in self.taps if kind in places}


def convolution(x: jax.Array, weights: Mapping[str, jax.Array], looking: Looking, *, gate: jax.Array | None = None,
                stride: int = 1, rectified: bool = True) -> tuple[jax.Array, Kept]:
  """Returns a convolution's output with batch norm where `weights` has a scale, after a ReLU if `rectified`, and what was kept.

  Args:
    x: [B, H, W, C].
    weights: 'kernel' [k, k, C, D], padded by k // 2 on every side; 'scale' and 'bias' [D] of its batch norm, if it has one.
    looking: what is kept.
    gate: factors [B, D] of the convolution's output, or None.
    stride: of the convolution.
    rectified: whether there is a ReLU before.
  """
  inputs = x
  y = convolve(jax.nn.relu(x) if rectified else x, weights['kernel'])[:, ::stride, ::stride]
  if gate is not None:
    y = y * gate[:, None, None]
  kept = looking.keep(layer=y, **({'relu': inputs} if rectified else {}), **({'norm': y} if 'scale' in weights else {}))
  return normalise(y, weights, looking) if 'scale' in weights else y, kept


def normalise(x: jax.Array, weights: Mapping[str, jax.Array], looking: Looking) -> jax.Array:
  """Returns a batch norm by the statistics of the batch, or x where there are none."""
  if not looking.normalised:
    return x
  mean, axes = x.mean((0, 1, 2)), (0, 1, 2)
  variance = jnp.square(x - mean).mean(axes)
  return (x - mean) * (jax.lax.rsqrt(variance + EPSILON) * weights['scale']) + weights['bias']


def average(x: jax.Array, size: int, *, stride: int) -> jax.Array:
  """Averages those pixels of each window of size x size that are inside the image [B, H, W, C]; odd sizes are rounded up."""
  count: Any = 1.0
  for axis in (1, 2):
    length = x.shape[axis]
    steps = -(-length // stride)
    padding = max((steps - 1) * stride + size - length, 0)
    before, counts = padding // 2, np.zeros(steps, x.dtype)
    padded = jnp.pad(x, [(before, padding - before) if a == axis else (0, 0) for a in range(4)])
    windows = [jax.lax.slice_in_dim(padded, i, i + (steps - 1) * stride + 1, stride, axis) for i in range(size)]
    for i in range(size):
      places = np.arange(steps) * stride + i - before
      counts += (places >= 0) & (places < length)
    x, count = functools.reduce(jnp.add, windows), count * counts.reshape([-1 if a == axis else 1 for a in range(4)])
  return x / count


def draw(rng: np.random.Generator, *shape: int, normed: bool = True) -> dict[str, np.ndarray]:
  """Draws kernels [..., k, k, C, D], uniform in +-1 / sqrt(fan in), with batch norms that do nothing at first if `normed`."""
  bound, leading, channels = 1 / math.sqrt(math.prod(shape[-4:-1])), shape[:-4], shape[-1]
  found = {'kernel': rng.uniform(-bound, bound, shape).astype(np.float32)}
  if normed:
    found |= {'scale': np.ones((*leading, channels), np.float32), 'bias': np.zeros((*leading, channels), np.float32)}
  return found

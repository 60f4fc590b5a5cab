"""The network of a NAS-Bench-101 cell, as in google-research/nasbench's model_builder.py and base_ops.py."""
from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from enas_jax.spaces.nasbench101 import KERNELS, Module, NasBench101Architecture

_init = nnx.initializers.lecun_normal()  # TensorFlow 1's variance_scaling_initializer: fan-in, truncated normal.
MOMENTUM, EPSILON = 0.997, 1e-5  # Of batch norm.
_BatchNorm = functools.partial(nnx.BatchNorm, momentum=MOMENTUM, epsilon=EPSILON)
_max_pool = functools.partial(nnx.max_pool, padding='SAME')


class ConvolutionNormReLU(nnx.Module):
  """A k x k convolution with 'same' padding and no bias, batch norm, ReLU. It maps [B, H, W, in] to [B, H, W, out]."""

  def __init__(self, in_channels: int, out_channels: int, kernel: int, *, rngs: nnx.Rngs):
    self.conv = nnx.Conv(in_channels, out_channels, (kernel, kernel), use_bias=False, kernel_init=_init, rngs=rngs)
    self.norm = _BatchNorm(out_channels, rngs=rngs)

  def __call__(self, x: jax.Array) -> jax.Array:
    return nnx.relu(self.norm(self.conv(x)))


class CellModule(nnx.Module):
  """One use of the cell.

  A vertex adds what comes in, cut to its channels. The output concatenates what comes in and adds the projected input.
  """

  def __init__(self, architecture: NasBench101Architecture, module: Module, *, rngs: nnx.Rngs):
    self.matrix, self.channels = architecture.matrix, module.channels
    self.projections = nnx.List([
        ConvolutionNormReLU(self.channels[0], width, 1, rngs=rngs) if edge else None
        for edge, width in zip(self.matrix[0], self.channels, strict=True)])
    self.operations = nnx.List([
        ConvolutionNormReLU(width, width, KERNELS[operation], rngs=rngs) if operation in KERNELS else None
        for operation, width in zip(architecture.operations, self.channels, strict=True)])

  def __call__(self, x: jax.Array) -> jax.Array:
    outputs = [x]
    *inner, last = range(1, len(self.matrix))
    for v in inner:
      terms = [outputs[u][..., :self.channels[v]] for u in inner[:v - 1] if self.matrix[u][v]]
      total: Any = sum(terms + self._projected(x, v))
      operation = self.operations[v]
      outputs.append(operation(total) if operation else _max_pool(total, (3, 3)))
    branches = [outputs[v] for v in inner if self.matrix[v][last]]
    output: Any = sum(([jnp.concatenate(branches, axis=-1)] if branches else []) + self._projected(x, last))
    return output

  def _projected(self, x: jax.Array, v: int) -> list[jax.Array]:
    projection = self.projections[v]
    return [projection(x)] if projection else []


class NasBench101Network(nnx.Module):
  """A network of stem, stacks of modules with max pooling between them, global average pooling and linear head.

  Args:
    architecture: the cell in its skeleton.
    in_channels: channels of the images.
    num_classes: outputs of the head.
    rngs: the key of the initial weights.
  """

  def __init__(self, architecture: NasBench101Architecture, *, in_channels: int, num_classes: int, rngs: nnx.Rngs):
    modules = list(architecture.modules())
    self.cells = architecture.cells
    self.stem = ConvolutionNormReLU(in_channels, architecture.channels, 3, rngs=rngs)
    self.body = nnx.List([CellModule(architecture, module, rngs=rngs) for module in modules])
    self.head = nnx.Linear(modules[-1].channels[-1], num_classes, kernel_init=nnx.initializers.glorot_uniform(), rngs=rngs)

  def features(self, images: jax.Array) -> jax.Array:
    """Maps normalised images [B, H, W, C] to pooled features [B, channels of the last stack], for other heads."""
    x = self.stem(images)
    for i, module in enumerate(self.body):
      if i and i % self.cells == 0:
        x = _max_pool(x, (2, 2), strides=(2, 2))
      x = module(x)
    return x.mean(axis=(1, 2))

  def __call__(self, images: jax.Array) -> jax.Array:
    """Maps normalised images [B, H, W, C] to logits [B, classes]."""
    return self.head(self.features(images))

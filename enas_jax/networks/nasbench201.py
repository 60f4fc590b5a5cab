"""The network of NAS-Bench-201 cells and of NATS-Bench's size space: they differ in channels alone."""
from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from enas_jax.networks.layers import BatchNorm, conv, init
from enas_jax.spaces.nasbench201 import AVG_POOL, EDGES, NONE, SKIP, Layer, NasBench201Architecture
from enas_jax.spaces.nasbench201 import Convolution as Shape
from enas_jax.spaces.nats_size import NatsSizeArchitecture


class Convolution(nnx.Module):
  """A convolution with the stride and a batch norm, after a ReLU unless `rectified` is False."""

  def __init__(self, shape: Shape, *, stride: int = 1, rectified: bool = True, rngs: nnx.Rngs):
    self.rectified = rectified
    self.conv = conv(shape.in_channels, shape.out_channels, shape.kernel, stride=stride, rngs=rngs)
    self.norm = BatchNorm(shape.out_channels, rngs=rngs)

  def __call__(self, x: jax.Array) -> jax.Array:
    return self.norm(self.conv(nnx.relu(x) if self.rectified else x))


class Cell(nnx.Module):
  """A cell of four nodes, each of which sums its edges; a node whose edges are all 'none' is zeros."""

  def __init__(self, layer: Layer, *, rngs: nnx.Rngs):
    self.layer = layer
    # A skip that changes the channels has no ReLU (`FactorizedReduce` of stride 1).
    self.edges = nnx.List([
        shape and Convolution(shape, rectified=operation != SKIP, rngs=rngs)
        for shape, operation in zip(layer.edges(), layer.operations, strict=True)])

  def __call__(self, x: jax.Array) -> jax.Array:
    nodes = [x] + 3 * [jnp.zeros((*x.shape[:-1], self.layer.out_channels), x.dtype)]
    for (source, node), operation, convolution in zip(EDGES, self.layer.operations, self.edges, strict=True):
      if convolution:
        nodes[node] += convolution(nodes[source])
      elif operation != NONE:
        nodes[node] += _average(nodes[source], 3, stride=1) if operation == AVG_POOL else nodes[source]
    return nodes[-1]


class ResidualBlock(nnx.Module):
  """A block of two 3x3 convolutions, the first of stride 2, added to 2x2 average pooling and a 1x1 convolution."""

  def __init__(self, layer: Layer, *, rngs: nnx.Rngs):
    first, second, beside = layer.convolutions()
    self.first = Convolution(first, stride=2, rngs=rngs)
    self.second = Convolution(second, rngs=rngs)
    self.beside = conv(beside.in_channels, beside.out_channels, beside.kernel, rngs=rngs)

  def __call__(self, x: jax.Array) -> jax.Array:
    return self.second(self.first(x)) + self.beside(_average(x, 2, stride=2))


class NasBench201Network(nnx.Module):
  """A network of stem, cells and residual blocks, batch norm and ReLU, global average pooling and linear head.

  Args:
    architecture: a cell in its skeleton, or five widths.
    in_channels: channels of the images.
    num_classes: outputs of the head.
    rngs: the key of the initial weights.
  """

  def __init__(self, architecture: NasBench201Architecture | NatsSizeArchitecture, *, in_channels: int, num_classes: int,
               rngs: nnx.Rngs):
    layers = architecture.layers()
    self.stem = Convolution(Shape(3, in_channels, layers[0].in_channels), rectified=False, rngs=rngs)
    self.layers = nnx.List([(Cell if layer.operations else ResidualBlock)(layer, rngs=rngs) for layer in layers])
    self.norm = BatchNorm(layers[-1].out_channels, rngs=rngs)
    self.head = nnx.Linear(layers[-1].out_channels, num_classes, kernel_init=init, rngs=rngs)

  def features(self, images: jax.Array) -> jax.Array:
    """Maps normalised images [B, H, W, C] to pooled features [B, channels of the last layer], for other heads."""
    x = self.stem(images)
    for layer in self.layers:
      x = layer(x)
    return nnx.relu(self.norm(x)).mean(axis=(1, 2))

  def __call__(self, images: jax.Array) -> jax.Array:
    """Maps normalised images [B, H, W, C] to logits [B, classes]."""
    return self.head(self.features(images))


def _average(x: jax.Array, size: int, *, stride: int) -> jax.Array:
  """Averages the pixels of each window that are inside the image. Odd sizes, which the benchmark lacks, are rounded up."""
  return nnx.avg_pool(x, (size, size), (stride, stride), 'SAME', count_include_pad=False)

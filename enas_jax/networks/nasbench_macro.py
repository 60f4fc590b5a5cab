"""The network of a NAS-Bench-Macro architecture."""
from __future__ import annotations

import jax
from flax import nnx

from enas_jax.networks.layers import BatchNorm, conv, init
from enas_jax.spaces.nasbench_macro import LAST_CHANNELS, STEM_CHANNELS, Layer, NasBenchMacroArchitecture
from enas_jax.spaces.nasbench_macro import Convolution as Shape


class Convolution(nnx.Module):
  """A convolution and a batch norm."""

  def __init__(self, shape: Shape, *, rngs: nnx.Rngs):
    kernel, in_channels, out_channels, stride, groups = shape
    self.conv = conv(in_channels, out_channels, kernel, stride=stride, groups=groups, rngs=rngs)
    self.norm = BatchNorm(out_channels, rngs=rngs)

  def __call__(self, x: jax.Array) -> jax.Array:
    return self.norm(self.conv(x))


class Block(nnx.Module):
  """A layer: its convolutions with ReLU between them. The input is added if the stride is 1."""

  def __init__(self, layer: Layer, *, rngs: nnx.Rngs):
    self.residual = layer.stride == 1
    self.convolutions = nnx.List([Convolution(shape, rngs=rngs) for shape in layer.convolutions()])

  def __call__(self, x: jax.Array) -> jax.Array:
    first, *others = self.convolutions
    y = first(x)
    for convolution in others:
      y = convolution(nnx.relu(y))
    return x + y if self.residual else y


class NasBenchMacroNetwork(nnx.Module):
  """A network of stem, eight layers (without Identities inside a stage), 1x1 convolution, average pooling and linear head.

  Args:
    architecture: the eight operations.
    in_channels: channels of the images.
    num_classes: outputs of the head.
    rngs: the key of the initial weights.
  """

  def __init__(self, architecture: NasBenchMacroArchitecture, *, in_channels: int, num_classes: int, rngs: nnx.Rngs):
    layers = architecture.layers()
    self.stem = Convolution(Shape(3, in_channels, STEM_CHANNELS), rngs=rngs)
    self.layers = nnx.List([Block(layer, rngs=rngs) for layer in layers if layer.convolutions()])
    self.last = Convolution(Shape(1, layers[-1].out_channels, LAST_CHANNELS), rngs=rngs)
    self.head = nnx.Linear(LAST_CHANNELS, num_classes, kernel_init=init, rngs=rngs)

  def features(self, images: jax.Array) -> jax.Array:
    """Maps normalised images [B, H, W, C] to pooled features [B, 1280], for other heads."""
    x = nnx.relu(self.stem(images))
    for layer in self.layers:
      x = layer(x)
    return nnx.relu(self.last(x)).mean(axis=(1, 2))

  def __call__(self, images: jax.Array) -> jax.Array:
    """Maps normalised images [B, H, W, C] to logits [B, classes]."""
    return self.head(self.features(images))

"""The network of a chain architecture, which a search over the chain space hands to its user."""
from __future__ import annotations

import jax
from flax import nnx

from enas_jax.networks.convolution import separable_convolution
from enas_jax.networks.layers import BatchNorm, conv, init
from enas_jax.spaces.chain import SEPARABLE, STEM_KERNEL, ChainArchitecture, Layer


class SeparableConvolution(nnx.Module):
  """A layer of ReLU, depthwise k x k (with the stride), pointwise 1 x 1, batch norm. Nothing is between the convolutions."""

  def __init__(self, layer: Layer, *, rngs: nnx.Rngs):
    self.stride = layer.stride
    self.depthwise = conv(
        layer.in_channels, layer.in_channels, layer.kernel, stride=layer.stride, groups=layer.in_channels, rngs=rngs)
    self.pointwise = conv(layer.in_channels, layer.out_channels, 1, rngs=rngs)
    self.norm = BatchNorm(layer.out_channels, rngs=rngs)

  def __call__(self, x: jax.Array) -> jax.Array:
    kernels = self.depthwise.kernel[...], self.pointwise.kernel[...]
    return self.norm(separable_convolution(nnx.relu(x), *kernels, stride=self.stride))


class Convolution(nnx.Module):
  """A layer of ReLU, k x k convolution (with the stride), batch norm."""

  def __init__(self, layer: Layer, *, rngs: nnx.Rngs):
    self.conv = conv(layer.in_channels, layer.out_channels, layer.kernel, stride=layer.stride, rngs=rngs)
    self.norm = BatchNorm(layer.out_channels, rngs=rngs)

  def __call__(self, x: jax.Array) -> jax.Array:
    return self.norm(self.conv(nnx.relu(x)))


class ChainNetwork(nnx.Module):
  """A network of stem, D body layers, global average pooling and linear head.

  Args:
    architecture: the chain.
    in_channels: channels of the images.
    num_classes: outputs of the head.
    rngs: the key of the initial weights.
  """

  def __init__(self, architecture: ChainArchitecture, *, in_channels: int, num_classes: int, rngs: nnx.Rngs):
    self.stem = conv(in_channels, architecture.stem_channels, STEM_KERNEL, rngs=rngs)
    self.stem_norm = BatchNorm(architecture.stem_channels, rngs=rngs)
    self.layers = nnx.List([
        (SeparableConvolution if layer.operation == SEPARABLE else Convolution)(layer, rngs=rngs)
        for layer in architecture.layers()])
    self.head = nnx.Linear(architecture.out_channels, num_classes, kernel_init=init, rngs=rngs)

  def features(self, images: jax.Array) -> jax.Array:
    """Maps normalised images [B, H, W, C] to pooled features [B, 4W]. This is the network without its head, for other heads."""
    x = self.stem_norm(self.stem(images))
    for layer in self.layers:
      x = layer(x)
    return x.mean(axis=(1, 2))

  def __call__(self, images: jax.Array) -> jax.Array:
    """Maps normalised images [B, H, W, C] to logits [B, classes]."""
    return self.head(self.features(images))

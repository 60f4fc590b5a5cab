"""The networks of DARTS (Liu, Simonyan and Yang, ICLR 2019; the authors' cnn/model.py) for CIFAR and for ImageNet."""
from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
from flax import nnx

from enas_jax.errors import UserError
from enas_jax.networks.darts_operations import FactorizedReduce, Identity, ReluConv, operation
from enas_jax.networks.layers import BatchNorm, conv, init
from enas_jax.spaces.darts import NODES, Cell, DartsArchitecture

AUXILIARY_WEIGHT = 0.4


class DartsCell(nnx.Module):
  """One cell of the stack. It brings both inputs to its channels and resolution and gives its four nodes side by side."""

  def __init__(self, cell: Cell, *, rngs: nnx.Rngs):
    bring = FactorizedReduce if cell.after_reduction else ReluConv
    self.inputs = nnx.List([
        bring(cell.before_last, cell.channels, rngs=rngs), ReluConv(cell.last, cell.channels, rngs=rngs)])
    self.operations = nnx.List([
        operation(edge.operation, cell.channels, stride=cell.stride(edge), rngs=rngs) for edge in cell.edges])
    self.sources = tuple(edge.input for edge in cell.edges)

  def __call__(self, before_last: jax.Array, last: jax.Array, factors: jax.Array | None = None) -> jax.Array:
    """Maps the outputs [B, H, W, C] of both cells before to [B, h, w, NODES x channels].

    `factors` [edges, B] are those of drop path; None: nothing is dropped.
    """
    states = [bring(x) for bring, x in zip(self.inputs, (before_last, last), strict=True)]
    for node in range(NODES):
      states.append(self._edge(2 * node, states, factors) + self._edge(2 * node + 1, states, factors))
    return jnp.concatenate(states[len(self.inputs):], axis=-1)

  def _edge(self, index: int, states: list[jax.Array], factors: jax.Array | None) -> jax.Array:
    y = self.operations[index](states[self.sources[index]])
    if factors is None or isinstance(self.operations[index], Identity):
      return y
    return y * factors[index][:, None, None, None]


class AuxiliaryHead(nnx.Module):
  """The classifier at two thirds of the depth, which serves training alone.

  As published it ends in one position, for features of 8 x 8 (images of 32 x 32, stem 'cifar') or 7 x 7 (224 x 224,
  'imagenet'). If features are larger, the positions are averaged.
  """

  def __init__(self, channels: int, num_classes: int, *, stem: str, rngs: nnx.Rngs):
    self.stride = 3 if stem == 'cifar' else 2
    self.narrow, self.narrow_norm = conv(channels, 128, 1, rngs=rngs), BatchNorm(128, rngs=rngs)
    self.wide = conv(128, 768, 2, rngs=rngs)
    self.wide_norm = BatchNorm(768, rngs=rngs) if stem == 'cifar' else None  # The paper's ImageNet networks had none here.
    self.classifier = nnx.Linear(768, num_classes, kernel_init=init, rngs=rngs)

  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps features [B, H, W, C] to logits [B, classes]. Raises UserError if H or W is too small."""
    check_auxiliary(*x.shape[1:3], stride=self.stride)
    x = nnx.avg_pool(nnx.relu(x), (5, 5), (self.stride, self.stride))
    x = self.wide(nnx.relu(self.narrow_norm(self.narrow(x))))
    x = nnx.relu(x if self.wide_norm is None else self.wide_norm(x))
    return self.classifier(x.mean((1, 2)))


def check_auxiliary(height: int, width: int, *, stride: int) -> None:
  """Raises UserError if features of this height and width are too small for the auxiliary head's 5 x 5 pooling."""
  least = 5 + stride
  if min(height, width) < least:
    raise UserError(
        f'darts: the auxiliary head needs features of {least} x {least} and has {height} x {width}; give larger images or '
        'config.darts.auxiliary=False')


def drop_path(key: jax.Array, probability: jax.Array | float, shape: tuple[int, ...]) -> jax.Array:
  """Draws factors, float32 of a shape: 0 with the `probability` in [0, 1), else 1 / (1 - probability), which keeps the mean."""
  keep = 1 - probability
  return jax.random.bernoulli(key, keep, shape) / keep


class DartsNetwork(nnx.Module):
  """A network of stem, cells, global average pooling and linear head; in training with an auxiliary head and drop path.

  Args:
    architecture: both cells and the network around them.
    in_channels: channels of the images.
    num_classes: outputs of the heads.
    rngs: the key of the initial weights.
  """

  def __init__(self, architecture: DartsArchitecture, *, in_channels: int, num_classes: int, rngs: nnx.Rngs):
    channels, self.drop_probability = architecture.channels, architecture.drop_path
    self.imagenet = architecture.stem == 'imagenet'
    widths = (in_channels, channels // 2, channels, channels) if self.imagenet else (in_channels, 3 * channels)
    stride = 2 if self.imagenet else 1
    self.stem = nnx.List([conv(before, after, 3, stride=stride, rngs=rngs) for before, after in itertools.pairwise(widths)])
    self.stem_norms = nnx.List([BatchNorm(width, rngs=rngs) for width in widths[1:]])
    self.cells = nnx.List([DartsCell(cell, rngs=rngs) for cell in architecture.stack()])
    self.head = nnx.Linear(architecture.out_channels, num_classes, kernel_init=init, rngs=rngs)
    self.auxiliary = AuxiliaryHead(
        architecture.out_channels, num_classes, stem=architecture.stem, rngs=rngs) if architecture.auxiliary else None

  def features(self, images: jax.Array) -> jax.Array:
    """Maps normalised images [B, H, W, C] to pooled features [B, 16 x channels], for other heads."""
    return self._body(images)[-1].mean((1, 2))

  def __call__(self, images: jax.Array) -> jax.Array:
    """Maps normalised images [B, H, W, C] to logits [B, classes], without drop path."""
    return self.head(self.features(images))

  def training_logits(self, images: jax.Array, *, key: jax.Array, progress: jax.Array) -> tuple[tuple[float, jax.Array], ...]:
    """Returns weights and logits [B, classes] of the head and, if there is one, of the auxiliary head.

    Drop path is scheduled (Zoph et al., CVPR 2018) as in the authors' code: for each image, the output of an operation is
    dropped with the probability drop_path x progress, or else scaled to the same expectation. The identity is never dropped.

    Args:
      images: [B, H, W, C], normalised.
      key: decides what is dropped.
      progress: the share of the training that is over, in [0, 1).

    Raises:
      UserError: the images are too small for the auxiliary head.
    """
    factors = None
    if self.drop_probability:
      factors = drop_path(key, self.drop_probability * progress, (len(self.cells), 2 * NODES, len(images)))
    outputs = self._body(images, factors)
    heads = ((1.0, self.head(outputs[-1].mean((1, 2)))),)
    if self.auxiliary is None:
      return heads
    return *heads, (AUXILIARY_WEIGHT, self.auxiliary(outputs[2 * len(self.cells) // 3]))

  def _body(self, images: jax.Array, factors: jax.Array | None = None) -> list[jax.Array]:
    """Returns the output of every cell. `factors` [cells, edges, B] are those of drop path; None: nothing is dropped."""
    stages = [images]
    for i, (convolution, norm) in enumerate(zip(self.stem, self.stem_norms, strict=True)):
      stages.append(norm(convolution(nnx.relu(stages[-1]) if i else images)))
    before_last, last = stages[-2:] if self.imagenet else stages[-1:] * 2
    outputs = []
    for i, cell in enumerate(self.cells):
      before_last, last = last, cell(before_last, last, None if factors is None else factors[i])
      outputs.append(last)
    return outputs

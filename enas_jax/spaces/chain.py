"""The chain space of EG-NAS (arXiv 2502.03553): depth, width, and per layer an operation and a kernel size.

chain_architecture.py says what a chain is.
"""
from __future__ import annotations

import abc
import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from enas_jax.errors import UserError
from enas_jax.spaces.base import Graph
from enas_jax.spaces.chain_architecture import (
    CONVOLUTION,
    KERNELS,
    MIN_DEPTH,
    NAME,
    OPERATIONS,
    SEPARABLE,
    STEM_KERNEL,
    VERSION,
    ChainArchitecture,
    Layer,
)
from enas_jax.spaces.records import check_record
from enas_jax.types import Task

__all__ = [
    'CONVOLUTION', 'KERNELS', 'MIN_DEPTH', 'OPERATIONS', 'SEPARABLE', 'STEM_KERNEL', 'ChainArchitecture', 'ChainSpace',
    'Chains', 'Layer',
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chains(abc.ABC):
  """Chains within a range of depths and widths: what strategies that walk in depth and width need.

  Everything but the cost of a chain is defined here: `ChainSpace` counts the chain itself, a view of a table the network of its
  row. Both are a `SearchSpace[ChainArchitecture]` and a `HasDepthAndWidth[ChainArchitecture]`.

  Attributes:
    min_depth, max_depth: range of D, both included; at least 3.
    min_width, max_width, width_step: W is max_width, max_width - width_step, ... down to min_width.
    kernels: kernel sizes to choose from.
  """

  min_depth: int = 10
  max_depth: int = 100
  min_width: int = 16
  max_width: int = 64
  width_step: int = 2
  kernels: tuple[int, ...] = (3, 5)

  name = NAME

  def __post_init__(self) -> None:
    if not MIN_DEPTH <= self.min_depth <= self.max_depth:
      raise UserError(f'chain: depths {self.min_depth} to {self.max_depth}; give {MIN_DEPTH} <= min_depth <= max_depth')
    if not 1 <= self.min_width <= self.max_width:
      raise UserError(f'chain: widths {self.min_width} to {self.max_width}; give 1 <= min_width <= max_width')
    if self.width_step < 1:
      raise UserError(f'chain: width_step {self.width_step}; give at least 1')
    if not self.kernels or not set(self.kernels) <= set(KERNELS) or len(set(self.kernels)) < len(self.kernels):
      raise UserError(f'chain: kernels {self.kernels}; give some of {KERNELS}, each once')

  @property
  def labels(self) -> tuple[str, ...]:
    layers = (_label(o, k) for o in range(len(OPERATIONS)) for k in self.kernels)
    return ('input', *map(_stem_label, self.widths), *layers, 'head', 'output')

  @property
  def max_nodes(self) -> int:
    return self.max_depth + 4

  @property
  def depths(self) -> range:
    """The depths from the smallest up."""
    return range(self.min_depth, self.max_depth + 1)

  @property
  def widths(self) -> range:
    """The widths from the largest down, in the order of the width walk."""
    return range(self.max_width, self.min_width - 1, -self.width_step)

  def size_steps(self, architecture: ChainArchitecture) -> tuple[int, int]:
    """Returns the layers above `min_depth` and the width steps below `max_width`, rounded down; below 0 if wider."""
    return architecture.depth - self.min_depth, (self.max_width - architecture.width) // self.width_step

  def sample(self, rng: np.random.Generator) -> ChainArchitecture:
    """Draws depth, width, operations and kernels, each uniformly."""
    depth = int(rng.choice(self.depths))
    return ChainArchitecture(
        width=int(rng.choice(self.widths)),
        operations=tuple(int(x) for x in rng.integers(len(OPERATIONS), size=depth)),
        kernels=tuple(int(x) for x in rng.choice(self.kernels, size=depth)))

  def mutate(self, architecture: ChainArchitecture, rng: np.random.Generator) -> ChainArchitecture:
    """Draws one of the `neighbours`, uniformly."""
    neighbours = list(self.neighbours(architecture))
    return neighbours[int(rng.integers(len(neighbours)))]

  def neighbours(self, architecture: ChainArchitecture) -> Iterator[ChainArchitecture]:
    """Yields the chains with one layer more or less, one width step, one other operation, or one other kernel.

    A layer is added at the end, as a copy of the last. The depth walk grows a chain of equal layers, for which it does not
    matter where a layer is added. So a layer that is unlike the one before it can be taken away in one step but comes back in
    two or three; all other steps lead back.
    """
    if architecture.depth < self.max_depth:
      yield dataclasses.replace(
          architecture,
          operations=architecture.operations + architecture.operations[-1:],
          kernels=architecture.kernels + architecture.kernels[-1:])
    if architecture.depth > self.min_depth:
      yield dataclasses.replace(
          architecture, operations=architecture.operations[:-1], kernels=architecture.kernels[:-1])
    for width in (architecture.width - self.width_step, architecture.width + self.width_step):
      if width in self.widths:
        yield dataclasses.replace(architecture, width=width)
    for i, (operation, kernel) in enumerate(zip(architecture.operations, architecture.kernels, strict=True)):
      yield architecture.with_layer(i, operation=1 - operation)
      for other in self.kernels:
        if other != kernel:
          yield architecture.with_layer(i, kernel=other)

  def middle(self) -> ChainArchitecture:
    """Returns the chain in the middle of the space's depths and widths, by ratio: separable layers with the first kernel."""
    depth, width = (round((least * most)**0.5) for least, most in (
        (self.min_depth, self.max_depth), (self.min_width, self.max_width)))
    return ChainArchitecture.uniform(depth, width, kernel=self.kernels[0])

  def size(self) -> int:
    """Returns widths times the sum over depths D of (operations x kernels)^D."""
    choices = len(OPERATIONS) * len(self.kernels)
    return len(self.widths) * sum(choices**depth for depth in self.depths)

  def check(self, architecture: ChainArchitecture) -> None:
    """Checks depth, width and kernels. Raises UserError, which names the limit, if one is outside of this space."""
    if not isinstance(architecture, ChainArchitecture):
      raise UserError(f'{architecture!r} is not a chain')
    for value, allowed, name in ((architecture.depth, self.depths, 'depth'), (architecture.width, self.widths, 'width')):
      if value not in allowed:
        raise UserError(f'chain: {name} {value} is outside {min(allowed)} to {max(allowed)} in steps of {abs(allowed.step)}')
    for i, kernel in enumerate(architecture.kernels):
      if kernel not in self.kernels:
        raise UserError(f'chain: kernel {kernel} at layer {i} is not one of {self.kernels}')

  @abc.abstractmethod
  def num_params(self, architecture: ChainArchitecture, task: Task) -> int:
    """Returns the number of trainable parameters of the network that a chain stands for."""

  @abc.abstractmethod
  def macs(self, architecture: ChainArchitecture, task: Task) -> int:
    """Returns the multiply-adds of one image's forward pass through that network."""

  def graph(self, architecture: ChainArchitecture) -> Graph:
    """Returns a path: input, stem with the width, one node for each layer, head, output."""
    layers = (_label(o, k) for o, k in zip(architecture.operations, architecture.kernels, strict=True))
    nodes = ('input', _stem_label(architecture.width), *layers, 'head', 'output')
    return Graph(nodes, tuple((i, i + 1) for i in range(len(nodes) - 1)))

  def identity(self, architecture: ChainArchitecture) -> str:
    """Returns the text of the architecture itself: a chain has no two forms."""
    return self.to_string(architecture)

  def key(self, architecture: ChainArchitecture) -> bytes:
    """Returns the text as bytes."""
    return self.to_string(architecture).encode()

  def to_string(self, architecture: ChainArchitecture) -> str:
    """Returns width, operations and kernels, such as '16:0010:3353'."""
    operations, kernels = (''.join(map(str, values)) for values in (architecture.operations, architecture.kernels))
    return f'{architecture.width}:{operations}:{kernels}'

  def from_string(self, text: str) -> ChainArchitecture:
    """Reads what `to_string` gives, of any size as `from_json` does."""
    if not re.fullmatch(r'[1-9][0-9]*:[0-9]+:[0-9]+', text, re.ASCII):
      raise UserError(f"chain: '{text}' is not WIDTH:OPERATIONS:KERNELS; give for example 16:0010:3353")
    width, operations, kernels = text.split(':')
    return ChainArchitecture(int(width), tuple(map(int, operations)), tuple(map(int, kernels)))

  def from_json(self, record: Mapping[str, Any]) -> ChainArchitecture:
    """Reads a chain of any size: a hand-written one may lie outside this space's ranges (`check` tells)."""
    check_record(record, self.name, VERSION, 'width', 'operations', 'kernels')
    width = record['width']
    if not isinstance(width, int) or isinstance(width, bool):
      raise UserError(f'architecture: width {width!r} is not an integer')
    return ChainArchitecture(width, _digits(record, 'operations'), _digits(record, 'kernels'))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChainSpace(Chains):
  """All chains within a range of depths and widths, each its own network. The attributes are those of `Chains`."""

  def num_params(self, architecture: ChainArchitecture, task: Task) -> int:
    """Counts the weights of convolutions, batch norms (scale and bias) and the linear head, as EG-NAS's logs do."""
    stem = STEM_KERNEL**2 * task.image_shape[2] * architecture.stem_channels + 2 * architecture.stem_channels
    body = sum(layer.weights + 2 * layer.out_channels for layer in architecture.layers())
    head = architecture.out_channels * task.num_classes + task.num_classes
    return stem + body + head

  def macs(self, architecture: ChainArchitecture, task: Task) -> int:
    """Counts the multiply-adds of convolutions and the head; 'same' padding is counted as full windows."""
    height, width, channels = task.image_shape
    total = STEM_KERNEL**2 * channels * architecture.stem_channels * height * width
    for layer in architecture.layers():
      height, width = -(-height // layer.stride), -(-width // layer.stride)
      total += layer.weights * height * width
    return total + architecture.out_channels * task.num_classes


def _label(operation: int, kernel: int) -> str:
  return f'{OPERATIONS[operation]} {kernel}x{kernel}'


def _stem_label(width: int) -> str:
  return f'stem of width {width}'


def _digits(record: Mapping[str, Any], field: str) -> tuple[int, ...]:
  text = record[field]
  if not isinstance(text, str) or not text.isascii() or not text.isdigit():
    raise UserError(f'architecture: {field} {text!r} is not a string of digits, one a layer')
  return tuple(int(c) for c in text)

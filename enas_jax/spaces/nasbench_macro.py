"""NAS-Bench-Macro: which block stands at each of eight layers of a MobileNetV2-like network.

Su et al., 'Prioritized Architecture Sampling with Monto-Carlo Tree Search', CVPR 2021 (arXiv 2103.11922), and the authors' code
(xiusu/NAS-Bench-Macro, train/model.py). A 3x3 convolution to 32 channels, stages of 2, 3 and 3 layers, each of which begins
with doubled channels and half the resolution, a 1x1 convolution to 1280 channels, global average pooling, one linear layer.
Trained three times on CIFAR-10 for 50 epochs each; an accuracy is the best test accuracy of all epochs (train/train.py).
"""
from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from enas_jax.errors import UserError
from enas_jax.spaces.base import Graph
from enas_jax.spaces.records import check_record
from enas_jax.types import Task

OPERATIONS = ('Identity', 'MB3_K3', 'MB6_K5')
IDENTITY = 0
STAGES = (2, 3, 3)
LAYERS = sum(STAGES)
STEM_CHANNELS, LAST_CHANNELS = 32, 1280
VERSION = 1

_BLOCKS = {1: (3, 3), 2: (6, 5)}  # Expansion and kernel.


class Convolution(NamedTuple):
  """A convolution without bias, padded by kernel // 2, with a batch norm behind it."""

  kernel: int
  in_channels: int
  out_channels: int
  stride: int = 1
  groups: int = 1

  @property
  def weights(self) -> int:
    return self.kernel**2 * self.in_channels * self.out_channels // self.groups


class Layer(NamedTuple):
  """One of the eight layers."""

  operation: int
  stride: int
  in_channels: int
  out_channels: int

  def convolutions(self) -> tuple[Convolution, ...]:
    """Returns expansion, depthwise and projection, which follow one another with ReLU between them.

    An Identity has none, or if it opens a stage a 1x1 convolution.
    """
    if self.operation == IDENTITY:
      return () if self.stride == 1 else (Convolution(1, self.in_channels, self.out_channels, self.stride),)
    expansion, kernel = _BLOCKS[self.operation]
    hidden = expansion * self.in_channels
    return (Convolution(1, self.in_channels, hidden), Convolution(kernel, hidden, hidden, self.stride, hidden),
            Convolution(1, hidden, self.out_channels))


@dataclasses.dataclass(frozen=True)
class NasBenchMacroArchitecture:
  """Eight layers.

  Attributes:
    operations: an index into `OPERATIONS` for each layer.

  Raises:
    UserError: there are not eight, or one is no such index.
  """

  operations: tuple[int, ...]

  def __post_init__(self) -> None:
    if len(self.operations) != LAYERS:
      raise UserError(f'nasbench_macro: {len(self.operations)} operations; give {LAYERS}, one a layer')
    for i, operation in enumerate(self.operations):
      if type(operation) is not int or operation not in range(len(OPERATIONS)):
        raise UserError(f'nasbench_macro: operation {operation!r} at layer {i} is none of 0 to 2 ({", ".join(OPERATIONS)})')

  def stages(self) -> Iterator[tuple[int, ...]]:
    """Yields the operations of each stage."""
    start = 0
    for length in STAGES:
      yield self.operations[start:start + length]
      start += length

  def layers(self) -> tuple[Layer, ...]:
    """Returns the layers of the body, from input to output."""
    layers, channels = [], STEM_CHANNELS
    for first, *others in self.stages():
      layers.append(Layer(first, 2, channels, 2 * channels))
      channels *= 2
      layers += [Layer(operation, 1, channels, channels) for operation in others]
    return tuple(layers)

  def to_json(self) -> dict[str, Any]:
    return {'space': NasBenchMacroSpace.name, 'version': VERSION, 'operations': str(self)}

  def __str__(self) -> str:
    """Returns the benchmark's text, such as '22212202'."""
    return ''.join(map(str, self.operations))


@dataclasses.dataclass(frozen=True)
class NasBenchMacroSpace:
  """All 6,561 choices of eight operations; 3,969 distinct networks."""

  name = 'nasbench_macro'
  labels = ('input', *OPERATIONS, 'output')
  max_nodes = LAYERS + 2
  radices = (len(OPERATIONS),) * LAYERS

  def codes(self, architecture: NasBenchMacroArchitecture) -> tuple[int, ...]:
    """Returns the operations, by which tables are indexed."""
    return architecture.operations

  def from_codes(self, codes: Iterable[int]) -> NasBenchMacroArchitecture:
    """Returns the member with these `codes`."""
    return NasBenchMacroArchitecture(tuple(map(int, codes)))

  def sample(self, rng: np.random.Generator) -> NasBenchMacroArchitecture:
    """Draws each operation uniformly."""
    return self.from_codes(rng.integers(self.radices))

  def mutate(self, architecture: NasBenchMacroArchitecture, rng: np.random.Generator) -> NasBenchMacroArchitecture:
    """Draws one of the `neighbours`, uniformly."""
    layer, step = int(rng.integers(len(architecture.operations))), int(rng.integers(1, len(OPERATIONS)))
    operations = list(architecture.operations)
    operations[layer] = (operations[layer] + step) % len(OPERATIONS)
    return NasBenchMacroArchitecture(tuple(operations))

  def neighbours(self, architecture: NasBenchMacroArchitecture) -> Iterator[NasBenchMacroArchitecture]:
    """Yields the 16 members with another operation at one layer."""
    operations = architecture.operations
    for i, operation in enumerate(operations):
      for other in range(len(OPERATIONS)):
        if other != operation:
          yield NasBenchMacroArchitecture((*operations[:i], other, *operations[i + 1:]))

  def size(self) -> int:
    """Returns 3^8, members that are the same network included."""
    return len(OPERATIONS)**LAYERS

  def check(self, architecture: NasBenchMacroArchitecture) -> None:
    """Checks the type: every architecture of it is a member. Raises UserError for another."""
    if not isinstance(architecture, NasBenchMacroArchitecture):
      raise UserError(f'{architecture!r} is not a member of nasbench_macro')

  def num_params(self, architecture: NasBenchMacroArchitecture, task: Task) -> int:
    """Counts weights of convolutions, batch norms (scale, bias) and linear head; equal to the benchmark's on all its rows."""
    body = sum(c.weights + 2 * c.out_channels for c in _convolutions(architecture, task))
    return body + (LAST_CHANNELS + 1) * task.num_classes

  def macs(self, architecture: NasBenchMacroArchitecture, task: Task) -> int:
    """Counts what the benchmark calls 'flops', equal to its own on all rows.

    These are the multiply-adds of convolutions and of the head without its bias.
    """
    height, width, _ = task.image_shape
    total = LAST_CHANNELS * task.num_classes
    for convolution in _convolutions(architecture, task):
      height, width = -(-height // convolution.stride), -(-width // convolution.stride)
      total += convolution.weights * height * width
    return total

  def graph(self, architecture: NasBenchMacroArchitecture) -> Graph:
    """Returns a path: input, the eight layers, output."""
    nodes = ('input', *(OPERATIONS[operation] for operation in architecture.operations), 'output')
    return Graph(nodes, tuple((i, i + 1) for i in range(len(nodes) - 1)))

  def identity(self, architecture: NasBenchMacroArchitecture) -> str:
    """Returns the text with a stage's Identities at its end, as the authors' `get_real_arch` does: there are 3,969 classes.

    An Identity that does not open a stage is nothing, so its place does not matter. The benchmark trained each class once;
    all its members have the same numbers.
    """
    def ordered(first: int, *others: int) -> tuple[int, ...]:
      return first, *sorted(others, key=lambda operation: operation == IDENTITY)

    return ''.join(str(operation) for stage in architecture.stages() for operation in ordered(*stage))

  def key(self, architecture: NasBenchMacroArchitecture) -> int:
    """Returns the place among all 6,561: the text as a number of base 3."""
    return int(np.ravel_multi_index(architecture.operations, self.radices))

  def to_string(self, architecture: NasBenchMacroArchitecture) -> str:
    """Returns the benchmark's text."""
    return str(architecture)

  def from_string(self, text: str) -> NasBenchMacroArchitecture:
    """Reads what `to_string` gives."""
    if not isinstance(text, str) or not re.fullmatch(r'[0-9]+', text):
      raise UserError(f'nasbench_macro: {text!r} is not one digit a layer; give for example 22212202')
    return NasBenchMacroArchitecture(tuple(map(int, text)))

  def from_json(self, record: Mapping[str, Any]) -> NasBenchMacroArchitecture:
    check_record(record, self.name, VERSION, 'operations')
    return self.from_string(record['operations'])


def _convolutions(architecture: NasBenchMacroArchitecture, task: Task) -> Iterator[Convolution]:
  """Yields the convolutions of the whole network, from input to output."""
  layers = architecture.layers()
  yield Convolution(3, task.image_shape[2], STEM_CHANNELS)
  for layer in layers:
    yield from layer.convolutions()
  yield Convolution(1, layers[-1].out_channels, LAST_CHANNELS)

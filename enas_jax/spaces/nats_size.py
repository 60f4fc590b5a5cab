"""NATS-Bench's size space: the channels of five layers around one fixed cell.

Dong, Liu, Musial and Gabrys, TPAMI 2021 (arXiv 2009.00437), and the authors' code (AutoDL-Projects: `DynamicShapeTinyNet`).
NAS-Bench-201's network with one cell a stage, the cell being the best one of CIFAR-100 there. The five widths are those of
the stem and the first cell, the first residual block, the second cell, the second block and the third cell.
"""
from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from enas_jax.errors import UserError
from enas_jax.spaces.base import Graph
from enas_jax.spaces.nasbench201 import CONV_3X3, SKIP, Layer, count_macs, count_params
from enas_jax.spaces.records import check_record
from enas_jax.types import Task

CELL = (CONV_3X3, CONV_3X3, CONV_3X3, SKIP, CONV_3X3, CONV_3X3)
LAYERS = 5
STEP = 8
WIDTHS = tuple(range(STEP, 65, STEP))
VERSION = 1


@dataclasses.dataclass(frozen=True)
class NatsSizeArchitecture:
  """The widths of five layers.

  Attributes:
    channels: five of `WIDTHS`.

  Raises:
    UserError: there are not five, or one is none of `WIDTHS`.
  """

  channels: tuple[int, ...]

  def __post_init__(self) -> None:
    if len(self.channels) != LAYERS:
      raise UserError(f'nats_size: {len(self.channels)} widths; give {LAYERS}')
    for i, width in enumerate(self.channels):
      if width not in WIDTHS:
        raise UserError(f'nats_size: width {width!r} of layer {i} is not one of {WIDTHS}')

  def layers(self) -> tuple[Layer, ...]:
    """Returns the layers of the body. A skip on a cell's first node becomes a convolution if the cell changes the width."""
    c0, c1, c2, c3, c4 = self.channels
    return Layer(0, c0, c0, CELL), Layer(1, c0, c1), Layer(1, c1, c2, CELL), Layer(2, c2, c3), Layer(2, c3, c4, CELL)

  def to_json(self) -> dict[str, Any]:
    return {'space': NatsSizeSpace.name, 'version': VERSION, 'channels': str(self)}

  def __str__(self) -> str:
    """Returns the benchmark's text, such as '8:16:24:32:40'."""
    return ':'.join(map(str, self.channels))


@dataclasses.dataclass(frozen=True)
class NatsSizeSpace:
  """All 32,768 choices of five widths."""

  name = 'nats_size'
  labels = ('input', *map(str, WIDTHS), 'output')
  max_nodes = LAYERS + 2
  radices = (len(WIDTHS),) * LAYERS

  def codes(self, architecture: NatsSizeArchitecture) -> tuple[int, ...]:
    """Returns each width's place in `WIDTHS`, by which tables are indexed."""
    return tuple(map(WIDTHS.index, architecture.channels))

  def from_codes(self, codes: Iterable[int]) -> NatsSizeArchitecture:
    """Returns the member with these `codes`."""
    return NatsSizeArchitecture(tuple(STEP * (int(code) + 1) for code in codes))

  def sample(self, rng: np.random.Generator) -> NatsSizeArchitecture:
    """Draws each width uniformly."""
    return self.from_codes(rng.integers(self.radices))

  def mutate(self, architecture: NatsSizeArchitecture, rng: np.random.Generator) -> NatsSizeArchitecture:
    """Draws one of the `neighbours`, uniformly."""
    neighbours = list(self.neighbours(architecture))
    return neighbours[int(rng.integers(len(neighbours)))]

  def neighbours(self, architecture: NatsSizeArchitecture) -> Iterator[NatsSizeArchitecture]:
    """Yields the 5 to 10 members with one width one step of 8 wider or narrower."""
    channels = architecture.channels
    for i, width in enumerate(channels):
      for other in (width - STEP, width + STEP):
        if other in WIDTHS:
          yield NatsSizeArchitecture((*channels[:i], other, *channels[i + 1:]))

  def size(self) -> int:
    """Returns 8^5."""
    return len(WIDTHS)**LAYERS

  def check(self, architecture: NatsSizeArchitecture) -> None:
    """Checks the type: every architecture of it is a member. Raises UserError for another."""
    if not isinstance(architecture, NatsSizeArchitecture):
      raise UserError(f'{architecture!r} is not a member of nats_size')

  def num_params(self, architecture: NatsSizeArchitecture, task: Task) -> int:
    """Counts the weights of convolutions, batch norms and the head; equal to the benchmark's on all its rows."""
    return count_params(architecture.layers(), task)

  def macs(self, architecture: NatsSizeArchitecture, task: Task) -> int:
    """Counts what the benchmark calls 'flops', equal to its own on all rows: see `nasbench201.count_macs`."""
    return count_macs(architecture.layers(), task)

  def graph(self, architecture: NatsSizeArchitecture) -> Graph:
    """Returns a path: input, the five widths, output."""
    nodes = ('input', *map(str, architecture.channels), 'output')
    return Graph(nodes, tuple((i, i + 1) for i in range(len(nodes) - 1)))

  def identity(self, architecture: NatsSizeArchitecture) -> str:
    """Returns the widths: no two members are the same network."""
    return str(architecture)

  def key(self, architecture: NatsSizeArchitecture) -> int:
    """Returns the benchmark's index: the place among all 32,768, the first width the most significant."""
    return int(np.ravel_multi_index(self.codes(architecture), self.radices))

  def to_string(self, architecture: NatsSizeArchitecture) -> str:
    """Returns the benchmark's text."""
    return str(architecture)

  def from_string(self, text: str) -> NatsSizeArchitecture:
    """Reads what `to_string` gives."""
    if not isinstance(text, str) or not re.fullmatch(r'[1-9][0-9]{0,8}(:[1-9][0-9]{0,8})*', text):
      raise UserError(f'nats_size: {text!r} is not a list of widths; give for example 8:16:24:32:40')
    return NatsSizeArchitecture(tuple(map(int, text.split(':'))))

  def from_json(self, record: Mapping[str, Any]) -> NatsSizeArchitecture:
    check_record(record, self.name, VERSION, 'channels')
    return self.from_string(record['channels'])

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
  """Five widths, each one of `WIDTHS`."""

  channels: tuple[int, ...]

  def __post_init__(self) -> None:
    if len(self.channels) != LAYERS:
      raise UserError(f'nats_size: {len(self.channels)} widths; give {LAYERS}')
    for i, width in enumerate(self.channels):
      if width not in WIDTHS:
        raise UserError(f'nats_size: width {width!r} of layer {i} is not one of {WIDTHS}')

  def layers(self) -> tuple[Layer, ...]:
    """The body, input to output. A skip on a cell's first node becomes a convolution where the cell changes the width."""
    c0, c1, c2, c3, c4 = self.channels
    return Layer(0, c0, c0, CELL), Layer(1, c0, c1), Layer(1, c1, c2, CELL), Layer(2, c2, c3), Layer(2, c3, c4, CELL)

  def to_json(self) -> dict[str, Any]:
    return {'space': NatsSizeSpace.name, 'version': VERSION, 'channels': str(self)}

  def __str__(self) -> str:
    """The benchmark's text, such as '8:16:24:32:40'."""
    return ':'.join(map(str, self.channels))


@dataclasses.dataclass(frozen=True)
class NatsSizeSpace:
  """All 32,768 choices of five widths."""

  name = 'nats_size'
  labels = ('input', *map(str, WIDTHS), 'output')
  max_nodes = LAYERS + 2
  radices = (len(WIDTHS),) * LAYERS

  def codes(self, architecture: NatsSizeArchitecture) -> tuple[int, ...]:
    """Each width's place in `WIDTHS`: what tables are indexed by."""
    return tuple(map(WIDTHS.index, architecture.channels))

  def from_codes(self, codes: Iterable[int]) -> NatsSizeArchitecture:
    """The member with these `codes`."""
    return NatsSizeArchitecture(tuple(STEP * (int(code) + 1) for code in codes))

  def sample(self, rng: np.random.Generator) -> NatsSizeArchitecture:
    """Each width uniform."""
    return self.from_codes(rng.integers(self.radices))

  def mutate(self, architecture: NatsSizeArchitecture, rng: np.random.Generator) -> NatsSizeArchitecture:
    """One of the `neighbours`, uniform."""
    neighbours = list(self.neighbours(architecture))
    return neighbours[int(rng.integers(len(neighbours)))]

  def neighbours(self, architecture: NatsSizeArchitecture) -> Iterator[NatsSizeArchitecture]:
    """One width one step of 8 wider or narrower: 5 to 10 members."""
    channels = architecture.channels
    for i, width in enumerate(channels):
      for other in (width - STEP, width + STEP):
        if other in WIDTHS:
          yield NatsSizeArchitecture((*channels[:i], other, *channels[i + 1:]))

  def size(self) -> int:
    """8^5."""
    return len(WIDTHS)**LAYERS

  def check(self, architecture: NatsSizeArchitecture) -> None:
    if not isinstance(architecture, NatsSizeArchitecture):
      raise UserError(f'{architecture!r} is not a member of nats_size')

  def num_params(self, architecture: NatsSizeArchitecture, task: Task) -> int:
    """Weights of convolutions, batch norms and the head; the benchmark's on all of its rows."""
    return count_params(architecture.layers(), task)

  def macs(self, architecture: NatsSizeArchitecture, task: Task) -> int:
    """The benchmark's 'flops', on all of its rows: see `nasbench201.count_macs`."""
    return count_macs(architecture.layers(), task)

  def graph(self, architecture: NatsSizeArchitecture) -> Graph:
    """Input, the five widths, output; a path."""
    nodes = ('input', *map(str, architecture.channels), 'output')
    return Graph(nodes, tuple((i, i + 1) for i in range(len(nodes) - 1)))

  def identity(self, architecture: NatsSizeArchitecture) -> str:
    """The widths: no two members are the same network."""
    return str(architecture)

  def key(self, architecture: NatsSizeArchitecture) -> int:
    """The benchmark's index: the place among all 32,768, the first width the most significant."""
    return int(np.ravel_multi_index(self.codes(architecture), self.radices))

  def to_string(self, architecture: NatsSizeArchitecture) -> str:
    """The benchmark's text."""
    return str(architecture)

  def from_string(self, text: str) -> NatsSizeArchitecture:
    """Reads `to_string`."""
    if not isinstance(text, str) or not re.fullmatch(r'[1-9][0-9]{0,8}(:[1-9][0-9]{0,8})*', text):
      raise UserError(f'nats_size: {text!r} is not a list of widths; give for example 8:16:24:32:40')
    return NatsSizeArchitecture(tuple(map(int, text.split(':'))))

  def from_json(self, record: Mapping[str, Any]) -> NatsSizeArchitecture:
    check_record(record, self.name, VERSION, 'channels')
    return self.from_string(record['channels'])

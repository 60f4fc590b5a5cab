"""Macro tables seen as chains, so that strategies that walk in depth and width run on them as they are.

A view is a chain space whose members each stand for a row; `translate` gives it. Where a benchmark has no such thing as an
operation or a kernel of a layer, the view's operation is the step that its layers do have.
"""
from __future__ import annotations

import dataclasses
from typing import ClassVar, Protocol

from enas_jax.errors import UserError
from enas_jax.spaces.chain import ChainArchitecture, ChainSpace
from enas_jax.spaces.nasbench_macro import NasBenchMacroArchitecture, NasBenchMacroSpace
from enas_jax.spaces.nats_size import NatsSizeArchitecture, NatsSizeSpace
from enas_jax.types import Architecture, Task

STAGES = (2, 3, 3)  # Layers of NAS-Bench-Macro's stages: those of a chain of depth 8.
STEP = 8  # Channels between two sizes of NATS-Bench's size space.


class ChainView(Protocol):
  """A chain space over a table's rows."""

  def translate(self, chain: ChainArchitecture) -> Architecture:
    """The row that a chain stands for."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class NasBenchMacroChains(ChainSpace):
  """Depth 3 to 8 of NAS-Bench-Macro: a stage's layers first, Identity in the places left. Operation 0 is MB3_K3, 1 is MB6_K5.

  504 of its 6,561 rows; there is one width.
  """

  min_depth: int = 3
  max_depth: int = 8
  min_width: int = 1
  max_width: int = 1
  kernels: tuple[int, ...] = (3,)

  whole: ClassVar = NasBenchMacroSpace()

  def translate(self, chain: ChainArchitecture) -> NasBenchMacroArchitecture:
    """The chain's stages, which double the channels where it does, each filled up with Identity."""
    borders = (0, chain.depth // 3, 2 * chain.depth // 3, chain.depth)
    layers: list[int] = []
    for start, end, size in zip(borders, borders[1:], STAGES, strict=False):
      layers += [1 + operation for operation in chain.operations[start:end]] + [0] * (size - (end - start))
    return NasBenchMacroArchitecture(tuple(layers))

  def num_params(self, architecture: ChainArchitecture, task: Task) -> int:
    """Of the row's network."""
    return self.whole.num_params(self.translate(architecture), task)

  def macs(self, architecture: ChainArchitecture, task: Task) -> int:
    """Of the row's network."""
    return self.whole.macs(self.translate(architecture), task)


@dataclasses.dataclass(frozen=True, kw_only=True)
class NatsSizeChains(ChainSpace):
  """All five sizes of NATS-Bench's size space at one width; a layer of operation 1 is a step of 8 channels wider.

  224 members, which are 218 of its 32,768 rows.
  """

  min_depth: int = 5
  max_depth: int = 5
  min_width: int = 8
  max_width: int = 56
  width_step: int = STEP
  kernels: tuple[int, ...] = (3,)

  whole: ClassVar = NatsSizeSpace()

  def translate(self, chain: ChainArchitecture) -> NatsSizeArchitecture:
    """Width and operations as sizes."""
    return NatsSizeArchitecture(tuple(chain.width + STEP * operation for operation in chain.operations))

  def num_params(self, architecture: ChainArchitecture, task: Task) -> int:
    """Of the row's network."""
    return self.whole.num_params(self.translate(architecture), task)

  def macs(self, architecture: ChainArchitecture, task: Task) -> int:
    """Of the row's network."""
    return self.whole.macs(self.translate(architecture), task)


VIEWS = {NasBenchMacroSpace.name: NasBenchMacroChains, NatsSizeSpace.name: NatsSizeChains}


def chain_view(name: str) -> ChainView:
  """The view of a space by its name. Raises UserError where there is none."""
  if name not in VIEWS:
    raise UserError(f"space '{name}' has no depth and width to walk in; these have: {', '.join(VIEWS)}")
  return VIEWS[name]()

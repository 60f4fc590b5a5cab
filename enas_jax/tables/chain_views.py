"""Macro tables seen as chains, so that strategies that walk in depth and width run on them as they are.

A view is a space of chains, each of which stands for a row; `translate` tells which. If a benchmark's layers have no operation
or kernel, the view's operation is the step that they do have.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Generic

from enas_jax.errors import UserError
from enas_jax.spaces.base import SearchSpace
from enas_jax.spaces.chain import ChainArchitecture, Chains
from enas_jax.spaces.nasbench_macro import NasBenchMacroArchitecture, NasBenchMacroSpace
from enas_jax.spaces.nats_size import NatsSizeArchitecture, NatsSizeSpace
from enas_jax.types import A, Task

STAGES = (2, 3, 3)  # Layers of NAS-Bench-Macro's stages; a chain of depth 8 has as many.
STEP = 8  # Channels between two sizes of NATS-Bench's size space.


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChainView(Chains, Generic[A]):
  """Chains over the rows of a table: parameters and multiply-adds of a chain are those of its row's network.

  Attributes:
    rows: the space of the table's rows.
    translate: returns the row's architecture for a chain of this view.
  """

  rows: SearchSpace[A]
  translate: Callable[[ChainArchitecture], A]

  def num_params(self, architecture: ChainArchitecture, task: Task) -> int:
    """Returns the trainable parameters of the row's network."""
    return self.rows.num_params(self.translate(architecture), task)

  def macs(self, architecture: ChainArchitecture, task: Task) -> int:
    """Returns the multiply-adds of one image's forward pass through the row's network."""
    return self.rows.macs(self.translate(architecture), task)


def _nasbench_macro(chain: ChainArchitecture) -> NasBenchMacroArchitecture:
  """Returns the chain's stages, which double the channels where NAS-Bench-Macro does, each filled up with Identity."""
  borders = (0, chain.depth // 3, 2 * chain.depth // 3, chain.depth)
  layers: list[int] = []
  for start, end, size in zip(borders, borders[1:], STAGES, strict=False):
    layers += [1 + operation for operation in chain.operations[start:end]] + [0] * (size - (end - start))
  return NasBenchMacroArchitecture(tuple(layers))


def _nats_size(chain: ChainArchitecture) -> NatsSizeArchitecture:
  """Returns the sizes that the chain's width and operations stand for."""
  return NatsSizeArchitecture(tuple(chain.width + STEP * operation for operation in chain.operations))


VIEWS: dict[str, ChainView[Any]] = {
    # Depth 3 to 8 of NAS-Bench-Macro: a stage's layers first, Identity in the places left. Operation 0 is MB3_K3, 1 is MB6_K5.
    # 504 of its 6,561 rows; there is one width.
    NasBenchMacroSpace.name: ChainView(
        rows=NasBenchMacroSpace(), translate=_nasbench_macro,
        min_depth=3, max_depth=8, min_width=1, max_width=1, kernels=(3,)),
    # All five sizes of NATS-Bench's size space at one width; a layer of operation 1 is a step of 8 channels wider.
    # 224 members, which are 218 of its 32,768 rows.
    NatsSizeSpace.name: ChainView(
        rows=NatsSizeSpace(), translate=_nats_size,
        min_depth=5, max_depth=5, min_width=8, max_width=56, width_step=STEP, kernels=(3,)),
}


def chain_view(name: str) -> ChainView[Any]:
  """Returns the view of the space of this name. Raises UserError if it has none."""
  if name not in VIEWS:
    raise UserError(f"space '{name}' has no depth and width to walk in; these have: {', '.join(VIEWS)}")
  return VIEWS[name]

"""What can be built: search spaces as pure data."""
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from enas_jax.errors import UserError
from enas_jax.spaces.base import Graph, HasDepthAndWidth, SearchSpace
from enas_jax.spaces.chain import ChainArchitecture, Chains, ChainSpace
from enas_jax.spaces.darts import DartsArchitecture, DartsSpace
from enas_jax.spaces.nasbench101 import NasBench101Architecture, NasBench101Space
from enas_jax.spaces.nasbench201 import NasBench201Architecture, NasBench201Space
from enas_jax.spaces.nasbench_macro import NasBenchMacroArchitecture, NasBenchMacroSpace
from enas_jax.spaces.nats_size import NatsSizeArchitecture, NatsSizeSpace

__all__ = [
    'SPACES', 'ChainArchitecture', 'ChainSpace', 'Chains', 'DartsArchitecture', 'DartsSpace', 'Graph', 'HasDepthAndWidth',
    'NasBench101Architecture', 'NasBench101Space', 'NasBench201Architecture', 'NasBench201Space', 'NasBenchMacroArchitecture',
    'NasBenchMacroSpace', 'NatsSizeArchitecture', 'NatsSizeSpace', 'SearchSpace', 'make',
]

SPACES: dict[str, Callable[..., SearchSpace[Any]]] = {
    ChainSpace.name: ChainSpace,
    NasBench201Space.name: NasBench201Space,
    NatsSizeSpace.name: NatsSizeSpace,
    NasBench101Space.name: NasBench101Space,
    NasBenchMacroSpace.name: NasBenchMacroSpace,
    DartsSpace.name: DartsSpace,
}

if TYPE_CHECKING:  # A checker then names the method in which a space departs from the contract.
  _CHAIN: SearchSpace[ChainArchitecture] = ChainSpace()
  _DEPTH_AND_WIDTH: HasDepthAndWidth[ChainArchitecture] = ChainSpace()
  _NASBENCH201: SearchSpace[NasBench201Architecture] = NasBench201Space()
  _NATS_SIZE: SearchSpace[NatsSizeArchitecture] = NatsSizeSpace()
  _NASBENCH101: SearchSpace[NasBench101Architecture] = NasBench101Space()
  _NASBENCH_MACRO: SearchSpace[NasBenchMacroArchitecture] = NasBenchMacroSpace()
  _DARTS: SearchSpace[DartsArchitecture] = DartsSpace()


def make(config: Any) -> SearchSpace[Any]:
  """Returns the space `config.space` with the settings that stand under its name. Raises UserError for an unknown one."""
  if config.space not in SPACES:
    raise UserError(f"config.space '{config.space}' is unknown; give one of {', '.join(sorted(SPACES))}")
  return SPACES[config.space](**config[config.space])

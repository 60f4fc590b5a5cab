"""What can be built: search spaces as pure data."""
from __future__ import annotations

from typing import Any

from enas_jax.errors import UserError
from enas_jax.spaces.base import Graph, SearchSpace
from enas_jax.spaces.chain import ChainArchitecture, ChainSpace
from enas_jax.spaces.darts import DartsArchitecture, DartsSpace
from enas_jax.spaces.nasbench101 import NasBench101Architecture, NasBench101Space
from enas_jax.spaces.nasbench201 import NasBench201Architecture, NasBench201Space
from enas_jax.spaces.nasbench_macro import NasBenchMacroArchitecture, NasBenchMacroSpace
from enas_jax.spaces.nats_size import NatsSizeArchitecture, NatsSizeSpace

__all__ = [
    'SPACES', 'ChainArchitecture', 'ChainSpace', 'DartsArchitecture', 'DartsSpace', 'Graph', 'NasBench101Architecture',
    'NasBench101Space', 'NasBench201Architecture', 'NasBench201Space', 'NasBenchMacroArchitecture', 'NasBenchMacroSpace',
    'NatsSizeArchitecture', 'NatsSizeSpace', 'SearchSpace', 'make',
]

SPACES = {s.name: s for s in (ChainSpace, NasBench201Space, NatsSizeSpace, NasBench101Space, NasBenchMacroSpace, DartsSpace)}


def make(config: Any) -> SearchSpace:
  """The space `config.space` with the settings that stand under its name. Raises UserError for an unknown one."""
  if config.space not in SPACES:
    raise UserError(f"config.space '{config.space}' is unknown; give one of {', '.join(sorted(SPACES))}")
  return SPACES[config.space](**config[config.space])

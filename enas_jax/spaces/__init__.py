"""What can be built: search spaces as pure data."""
from __future__ import annotations

from typing import Any

from enas_jax.errors import UserError
from enas_jax.spaces.base import Graph, SearchSpace
from enas_jax.spaces.chain import ChainArchitecture, ChainSpace

__all__ = ['SPACES', 'ChainArchitecture', 'ChainSpace', 'Graph', 'SearchSpace', 'make']

SPACES = {ChainSpace.name: ChainSpace}


def make(config: Any) -> SearchSpace:
  """The space `config.space` with the settings that stand under its name. Raises UserError for an unknown one."""
  if config.space not in SPACES:
    raise UserError(f"config.space '{config.space}' is unknown; give one of {', '.join(sorted(SPACES))}")
  return SPACES[config.space](**config[config.space])

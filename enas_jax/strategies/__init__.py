"""What to try next: strategies that ask for candidates and are told what they are worth.

Adding one: a module with `from_config`, a line in `STRATEGIES`, its settings in config.py. The contract test then covers it.
"""
from __future__ import annotations

from collections.abc import Callable

from ml_collections import ConfigDict

from enas_jax.errors import UserError
from enas_jax.spaces.base import SearchSpace
from enas_jax.strategies import bananas, egnas, evolution, halving, local_search, nsga2, random, regularized_evolution
from enas_jax.strategies.base import Strategy
from enas_jax.strategies.schedules import Schedules
from enas_jax.types import Task

__all__ = ['STRATEGIES', 'Schedules', 'Strategy', 'make']

STRATEGIES: dict[str, Callable[[ConfigDict, SearchSpace, Task], Strategy]] = {
    'bananas': bananas.from_config,
    'egnas': egnas.from_config,
    'evolution': evolution.from_config,
    'halving': halving.from_config,
    'local_search': local_search.from_config,
    'nsga2': nsga2.from_config,
    'random': random.from_config,
    'regularized_evolution': regularized_evolution.from_config,
}


def make(config: ConfigDict, space: SearchSpace, task: Task) -> Strategy:
  """The strategy `config.strategy`. Raises UserError for an unknown one, or for settings out of range."""
  if config.strategy not in STRATEGIES:
    raise UserError(f"config.strategy '{config.strategy}' is unknown; give one of {', '.join(sorted(STRATEGIES))}")
  return STRATEGIES[config.strategy](config, space, task)

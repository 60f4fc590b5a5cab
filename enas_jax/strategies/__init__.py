"""What to try next: strategies that ask for candidates and are told what they are worth.

Adding one: a module with a settings class and a function with the decorator `register`, and its name in the import below; in a
file of the user's own, the decorator alone. The contract test then covers it.
"""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ml_collections import ConfigDict

from enas_jax import registry, settings
from enas_jax.errors import UserError
from enas_jax.spaces.base import SearchSpace
from enas_jax.spaces.part import Limits
from enas_jax.strategies import (  # noqa: F401  Each registers itself.
    bananas,
    egnas,
    evolution,
    halving,
    local_search,
    nsga2,
    random,
    regularized_evolution,
)
from enas_jax.strategies.base import AdaptsToTable, HasDecisions, HasNotice, Needs, Strategy, TableFacts
from enas_jax.strategies.budget import Budget
from enas_jax.strategies.history import History, breed_new, draw_new
from enas_jax.strategies.history_strategy import HistoryStrategy, Memoryless, Proposer
from enas_jax.strategies.registration import STRATEGIES, Setup, register, walks
from enas_jax.strategies.schedules import Epochs, Schedules
from enas_jax.types import A, Task

__all__ = [
    'STRATEGIES', 'AdaptsToTable', 'Budget', 'Epochs', 'HasDecisions', 'HasNotice', 'History', 'HistoryStrategy', 'Memoryless',
    'Needs', 'Proposer', 'Schedules', 'Setup', 'Strategy', 'TableFacts', 'breed_new', 'draw_new', 'make', 'register', 'walks',
]

if TYPE_CHECKING:  # A checker then names the method in which a strategy departs from the contract.
  from enas_jax.spaces.chain import ChainArchitecture
  from enas_jax.strategies.egnas_walks import EgnasState
  from enas_jax.strategies.evolution_rules import EvolutionState
  from enas_jax.strategies.halving import HalvingState
  from enas_jax.strategies.history_strategy import HistoryState, M

  def _egnas(strategy: egnas.Egnas) -> Strategy[ChainArchitecture, EgnasState]:
    return strategy

  def _evolution(strategy: evolution.Evolution) -> Strategy[ChainArchitecture, EvolutionState]:
    return strategy

  def _halving(strategy: halving.Halving[A]) -> Strategy[A, HalvingState[A]]:
    return strategy

  def _with_history(strategy: HistoryStrategy[A, M]) -> Strategy[A, HistoryState[A, M]]:
    return strategy


def make(config: ConfigDict, space: SearchSpace[A], task: Task, *, table: TableFacts | None = None) -> Strategy[A, Any]:
  """Returns the strategy `config.strategy`.

  Args:
    config: of it are read the group with the strategy's name, `budget`, `epochs` and `training`.
    space: what is searched.
    task: what the networks are for.
    table: in a comparison, the table that settings of the strategy may follow from (`AdaptsToTable`).

  Raises:
    UserError: the strategy is unknown, a setting is out of range, the strategy does not fit the space or the table, or what the
      strategy's maker returned lacks a method of the contract.
  """
  entry = STRATEGIES.find(config.strategy)
  owner = STRATEGIES.owner(entry.name)
  chosen = STRATEGIES.read_settings(entry.name, config[entry.name]) if entry.name in config else entry.settings()
  if table is not None and isinstance(chosen, AdaptsToTable):
    chosen = chosen.for_table(table)
    if not isinstance(chosen, entry.settings):
      raise UserError(f'{owner}: for_table returned {chosen!r}; return settings, {entry.settings.__name__}(...)')
  setup = Setup(
      schedules=Schedules.from_config(config, space), task=task, budget=settings.read(Budget, config.budget, 'budget'),
      limits=settings.read(Limits, config.limits, 'limits'), owner=owner)
  made = entry.make(chosen, setup)
  registry.check_methods(made, Strategy, owner)
  if not isinstance(made.needs, Needs):
    raise UserError(f'{owner}: needs of {type(made).__name__} is {made.needs!r}; give enas_jax.strategies.Needs()')
  return made

"""How a strategy becomes known by name: the registry that the package's own strategies and those of users' files join."""
from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from enas_jax.registry import Registry
from enas_jax.settings import NoSettings
from enas_jax.spaces.base import SearchSpace
from enas_jax.spaces.part import Limits, Within
from enas_jax.strategies.base import Strategy
from enas_jax.strategies.budget import Budget
from enas_jax.strategies.schedules import Schedules
from enas_jax.types import A, Task


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setup(Generic[A]):
  """What a strategy is made for, beside its own settings.

  Attributes:
    schedules: how each candidate is trained.
    task: what the networks are for.
    budget: how much the search may spend.
    limits: how large networks may be.
    owner: who answers for the strategy, for messages, such as "mine.py: strategy 'hill'".
  """

  schedules: Schedules[A]
  task: Task
  budget: Budget
  limits: Limits = dataclasses.field(default_factory=Limits)
  owner: str = 'strategy'

  @property
  def space(self) -> SearchSpace[A]:
    """What may be drawn: the space, of it what is within the limits. Strategies that walk in its sizes ask `allows` instead."""
    return Within(self.schedules.space, self.limits, self.task) if self.limits else self.schedules.space

  def allows(self, architecture: A) -> bool:
    """Returns whether a network is within the limits."""
    return self.limits.allow(architecture, self.schedules.space, self.task)


Make = Callable[[Any, Setup[Any]], Strategy[Any, Any]]
F = TypeVar('F', bound=Make)


class Maker:
  """A function from settings and setup to a strategy, with what is known of the strategy before there is a space.

  Attributes:
    walks: whether it walks in depth and width, and so needs a space of chains.
  """

  def __init__(self, make: Make, *, walks: bool) -> None:
    functools.update_wrapper(self, make, updated=())  # The registry names the module that it comes from.
    self._make = make
    self.walks = walks

  def __call__(self, settings: Any, setup: Setup[Any]) -> Strategy[Any, Any]:
    return self._make(settings, setup)


STRATEGIES: Registry[Maker] = Registry('strategy', 'config.strategy', ('settings', 'setup'))


def register(name: str, settings: type[Any] = NoSettings, *, walks: bool = False) -> Callable[[F], F]:
  """Returns a decorator that registers a function as the maker of a strategy.

      @strategies.register('hill_climbing', Settings)
      def make(settings: Settings, setup: Setup[A]) -> HistoryStrategy[A, None]:
        ...

  Args:
    name: the word for it in `config.strategy`; its settings are those of `config.NAME`.
    settings: a frozen dataclass with a plain default for every field, whose `__post_init__` raises UserError for a bad value. A
      method `for_table` adapts them to a comparison on a table (`AdaptsToTable`).
    walks: whether the strategy walks in depth and width (`setup.schedules.chains`). A comparison then shows it the table as
      chains.

  Raises:
    UserError: the name is taken or no word, the settings are no such dataclass, or the function does not take two arguments.
  """
  STRATEGIES.check_name(name)

  def add(make: F) -> F:
    STRATEGIES.add(name, Maker(make, walks=walks), settings)
    return make

  return add


def walks(name: str) -> bool:
  """Returns whether the strategy of this name walks in depth and width. Raises UserError for an unknown one."""
  return STRATEGIES.find(name).make.walks

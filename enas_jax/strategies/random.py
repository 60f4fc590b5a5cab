"""Random search: the control that every other strategy must beat.

Networks are drawn as the space draws them (of chains depth, width, operations and kernels, uniformly and independently), no
network twice. It is the fair control: the same space, the same architecture-aware epochs, the same way of counting the budget
as evolution, and no decision at all. What another strategy finds beyond it at equal cost is due to that strategy's decisions,
not to its space or its training.
"""
from __future__ import annotations

import dataclasses

from enas_jax.settings import at_least
from enas_jax.strategies.history import History, draw_new
from enas_jax.strategies.history_strategy import HistoryStrategy, Memoryless
from enas_jax.strategies.registration import Setup, register
from enas_jax.types import A


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """The settings of random search (`config.random`).

  Attributes:
    batch: how many networks are asked for at once, >= 1; it changes no choice.
  """

  batch: int = 2

  def __post_init__(self) -> None:
    """Raises UserError for a value out of range."""
    at_least(self, 1, 'batch', prefix='config.random')


@register('random', Settings)
def make(settings: Settings, setup: Setup[A]) -> HistoryStrategy[A, None]:
  """Returns random search. Raises UserError for a budget without a limit."""
  def choose(history: History[A], room: int) -> tuple[str, tuple[A, ...]]:
    return 'random', draw_new(setup.space, history, room)

  return HistoryStrategy(setup, Memoryless(choose), label='random search', batch=settings.batch, independent=True)

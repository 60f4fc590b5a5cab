"""How much a search may spend, in evaluations, in multiply-adds of training, or both."""
from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from enas_jax.errors import UserError
from enas_jax.types import Evaluation

FREE_LIMIT = 100  # Evaluations in a row without cost that end a search limited by cost alone; else it might never end.


@dataclasses.dataclass(frozen=True)
class Spent:
  """What a search has spent.

  Attributes:
    evaluations: how many were told, failed ones included.
    train_macs: their multiply-adds of training.
    free: how many of the last ones in a row cost nothing.
  """

  evaluations: int = 0
  train_macs: float = 0.0
  free: int = 0

  def add(self, evaluations: Sequence[Evaluation]) -> Spent:
    """Returns what is spent with these evaluations, failed ones included."""
    spent = self
    for evaluation in evaluations:
      free = 0 if evaluation.train_macs > 0 else spent.free + 1
      spent = Spent(spent.evaluations + 1, spent.train_macs + evaluation.train_macs, free)
    return spent


@dataclasses.dataclass(frozen=True, kw_only=True)
class Budget:
  """What a search may spend (`config.budget`); 0 means no limit. EG-NAS and halving end by their own rules instead.

  Attributes:
    evaluations: how many candidates may be asked for, >= 0. It is never exceeded.
    train_macs: their multiply-adds of training in all, >= 0. The last batch may exceed it, since its cost is known afterwards.
  """

  evaluations: int = 30
  train_macs: float = 0.0

  def __post_init__(self) -> None:
    """Raises UserError for a negative limit."""
    for name, value in dataclasses.asdict(self).items():
      if value < 0:
        raise UserError(f'config.budget.{name} {value} is negative; give 0 for no limit')

  def check_limited(self) -> None:
    """Checks that there is a limit, for strategies that would not end without. Raises UserError if there is none."""
    if not self.evaluations and not self.train_macs:
      raise UserError('config.budget has no limit; give evaluations or train_macs')

  def share(self, share: float) -> Budget:
    """Returns a part of it, at least one evaluation."""
    return Budget(
        evaluations=max(1, round(share * self.evaluations)) if self.evaluations else 0, train_macs=share * self.train_macs)

  def room(self, spent: Spent, batch: int) -> int:
    """Returns how many of a batch may still be asked for."""
    if self.used_up(spent):
      return 0
    return min(batch, self.evaluations - spent.evaluations) if self.evaluations else batch

  def used_up(self, spent: Spent) -> bool:
    """Returns whether a limit is reached."""
    if self.train_macs and spent.train_macs >= self.train_macs:
      return True
    return spent.evaluations >= self.evaluations if self.evaluations else spent.free >= FREE_LIMIT

"""How much a search may spend, in evaluations, in multiply-adds of training, or both."""
from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from ml_collections import ConfigDict

from enas_jax.errors import UserError
from enas_jax.types import Evaluation

FREE_LIMIT = 100  # Evaluations in a row without cost that end a search limited by cost alone; else it might never end.


@dataclasses.dataclass(frozen=True)
class Spent:
  """Evaluations told, their multiply-adds of training, and how many in a row cost nothing."""

  evaluations: int = 0
  train_macs: float = 0.0
  free: int = 0

  def add(self, evaluations: Sequence[Evaluation]) -> Spent:
    """With these evaluations, failed ones included."""
    spent = self
    for evaluation in evaluations:
      free = 0 if evaluation.train_macs > 0 else spent.free + 1
      spent = Spent(spent.evaluations + 1, spent.train_macs + evaluation.train_macs, free)
    return spent


@dataclasses.dataclass(frozen=True)
class Budget:
  """Limits; 0 means none. The last batch may exceed `train_macs`, since its cost is known afterwards; never `evaluations`."""

  evaluations: int
  train_macs: float

  @classmethod
  def from_config(cls, config: ConfigDict) -> Budget:
    """From `config.budget`. Raises UserError for a negative limit, or where there is none."""
    budget = cls(**config.budget.to_dict())
    for name, value in dataclasses.asdict(budget).items():
      if value < 0:
        raise UserError(f'config.budget.{name} {value} is negative; give 0 for no limit')
    if not budget.evaluations and not budget.train_macs:
      raise UserError('config.budget has no limit; give evaluations or train_macs')
    return budget

  def share(self, share: float) -> Budget:
    """A part of it, at least one evaluation."""
    return Budget(max(1, round(share * self.evaluations)) if self.evaluations else 0, share * self.train_macs)

  def room(self, spent: Spent, batch: int) -> int:
    """How many of a batch may still be asked for."""
    if self.used_up(spent):
      return 0
    return min(batch, self.evaluations - spent.evaluations) if self.evaluations else batch

  def used_up(self, spent: Spent) -> bool:
    """Whether a limit is reached."""
    if self.train_macs and spent.train_macs >= self.train_macs:
      return True
    return spent.evaluations >= self.evaluations if self.evaluations else spent.free >= FREE_LIMIT

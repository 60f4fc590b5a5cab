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
  """What a search may spend (`config.budget`). A batch that would exceed a limit is not evaluated, and the search ends.

  Attributes:
    evaluations: how many candidates may be asked for, >= 0; 0 means no limit. EG-NAS and halving end by their own rules
      instead; the other two limits hold for every strategy.
    train_macs: multiply-adds of training of all candidates, the final training aside, >= 0; 0 means no limit.
    seconds: of wall-clock for candidates and final training together, > 0, as far as they can be predicted from the candidates
      before; None means no limit. Which candidate is the last then depends on the machine.
  """

  evaluations: int = 30
  train_macs: float = 0.0
  seconds: float | None = None

  def __post_init__(self) -> None:
    """Raises UserError for a limit out of range."""
    for name in ('evaluations', 'train_macs'):
      if getattr(self, name) < 0:
        raise UserError(f'config.budget.{name} {getattr(self, name)} is negative; give 0 for no limit')
    if self.seconds is not None and not self.seconds > 0:
      raise UserError(f'config.budget.seconds {self.seconds} is not positive; leave it out for no limit')

  def check_limited(self) -> None:
    """Checks that there is a limit, for strategies that would not end without. Raises UserError if there is none."""
    if not self.evaluations and not self.train_macs and self.seconds is None:
      raise UserError('config.budget has no limit; give evaluations, train_macs or seconds')

  def share(self, share: float) -> Budget:
    """Returns a part of it, at least one evaluation."""
    evaluations = max(1, round(share * self.evaluations)) if self.evaluations else 0
    return dataclasses.replace(self, evaluations=evaluations, train_macs=share * self.train_macs)

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

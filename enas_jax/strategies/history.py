"""What a search remembers that takes any space: every architecture asked for with its answer, and how new ones are found."""
from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from enas_jax.errors import UserError
from enas_jax.spaces.base import SearchSpace
from enas_jax.strategies.budget import Budget, Spent
from enas_jax.strategies.random import draw
from enas_jax.strategies.summary import summary
from enas_jax.types import Architecture, Evaluation, Request

TRIES = 100  # Proposals of which one must be new; else a new architecture is drawn at random.


@dataclasses.dataclass(frozen=True, kw_only=True)
class History:
  """What was asked for and told. No architecture comes twice: a repeat would cost an evaluation and tell nothing.

  Attributes:
    seed: random choices follow from it and the number of answers.
    answers: in the order asked for, each architecture's values of the objectives, accuracy first; None where it failed.
    spent: what the answers cost.
  """

  seed: int
  answers: Mapping[Architecture, tuple[float, ...] | None] = dataclasses.field(default_factory=dict)
  spent: Spent = dataclasses.field(default_factory=Spent)

  def add(self, architectures: Sequence[Architecture], evaluations: Sequence[Evaluation],
          objectives: Sequence[str] = ('accuracy',)) -> History:
    """With these answers, in the order of the architectures.

    An evaluation whose value of an objective is no finite number counts as failed, such as a latency never measured.

    Raises:
      UserError: a successful evaluation lacks an objective.
    """
    told = {a: _values(e, objectives) for a, e in zip(architectures, evaluations, strict=True)}
    return dataclasses.replace(self, answers={**self.answers, **told}, spent=self.spent.add(evaluations))

  def accuracy(self, architecture: Architecture) -> float:
    """Of one that was told, a fraction; -inf of a failed one."""
    values = self.answers[architecture]
    return values[0] if values else -math.inf

  def successes(self) -> tuple[Architecture, ...]:
    """Those that did not fail, in the order asked for."""
    return tuple(a for a, values in self.answers.items() if values)

  def best(self) -> Architecture | None:
    """The first of the most accurate; None where none succeeded."""
    return max(self.successes(), key=self.accuracy, default=None)

  def over(self, budget: Budget, space: SearchSpace) -> bool:
    """Whether the budget is used up, or the whole space has been seen."""
    return budget.used_up(self.spent) or len(self.answers) >= space.size()

  def describe(self, name: str) -> str:
    """The best so far in one line, for the progress display."""
    best = self.best()
    found = f'best {summary(best, self.accuracy(best))}' if best else 'nothing yet'
    return f'{name}: {found}, {self.spent.evaluations} evaluations'

  def to_json(self) -> dict[str, Any]:
    """A plain record."""
    answers = [[a.to_json(), values and list(values)] for a, values in self.answers.items()]
    return {'seed': self.seed, 'answers': answers, 'spent': dataclasses.asdict(self.spent)}

  @classmethod
  def from_json(cls, record: Mapping[str, Any], space: SearchSpace) -> History:
    """Reads `to_json`."""
    answers = {space.from_json(a): values and tuple(values) for a, values in record['answers']}
    return cls(seed=record['seed'], answers=answers, spent=Spent(**record['spent']))


def breed_new(space: SearchSpace, history: History, count: int,
              propose: Callable[[np.random.Generator], Architecture]) -> tuple[Architecture, ...]:
  """The next `count` new ones that `propose` makes, or random ones where it only repeats; fewer where the space ends."""
  taken: set[Architecture] = set(history.answers)
  children: list[Architecture] = []
  for _ in range(count):
    rng = np.random.default_rng([history.seed, len(taken)])
    new = (child for child in (propose(rng) for _ in range(TRIES)) if child not in taken)
    found = tuple(itertools.islice(new, 1)) or draw(space, history.seed, tuple(taken), 1)
    children += found
    taken.update(found)
  return tuple(children)


def work_left(batch: Sequence[Request], history: History, budget: Budget) -> Sequence[Request]:
  """The next batch, and for each further evaluation left one of it again, under a replicate of its own.

  What follows the batch hangs on its answers. Where cost alone is limited, only the batch: the least is known.
  """
  count = max(len(batch), budget.evaluations - history.spent.evaluations) if batch else 0
  return tuple(dataclasses.replace(batch[i % len(batch)], replicate=i // len(batch)) for i in range(count))


def _values(evaluation: Evaluation, objectives: Sequence[str]) -> tuple[float, ...] | None:
  if not evaluation.ok:
    return None
  for name in objectives:
    if name not in evaluation.metrics:
      raise UserError(f"objective '{name}' is not measured; give some of {', '.join(sorted(evaluation.metrics))}")
  values = tuple(evaluation.metrics[name] for name in objectives)
  return values if all(map(math.isfinite, values)) else None

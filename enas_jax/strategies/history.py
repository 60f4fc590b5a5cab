"""What a search remembers in any space: every architecture asked for with its answer; and how new architectures are found."""
from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic

import moocore
import numpy as np

from enas_jax.errors import UserError
from enas_jax.spaces.base import SearchSpace
from enas_jax.spaces.part import Within
from enas_jax.strategies.budget import Budget, Spent
from enas_jax.strategies.summary import summary
from enas_jax.types import A, Architecture, Evaluation, Request

DRAWS = 10_000  # Within limits, where it is not known how many networks there are, the search ends if so many are not new.
TRIES = 100  # Proposals of which one must be new; else a new architecture is drawn at random.


@dataclasses.dataclass(frozen=True, kw_only=True)
class History(Generic[A]):
  """What was asked for and told. No architecture comes twice: a repeat would cost an evaluation and tell nothing.

  Attributes:
    seed: random choices follow from it and the number of answers.
    answers: in the order asked for, each architecture's values of the objectives, accuracy first; None if it failed.
    spent: what the answers cost.
  """

  seed: int
  answers: Mapping[A, tuple[float, ...] | None] = dataclasses.field(default_factory=dict)
  spent: Spent = dataclasses.field(default_factory=Spent)

  def add(self, architectures: Sequence[A], evaluations: Sequence[Evaluation],
          objectives: Sequence[str] = ('accuracy',)) -> History[A]:
    """Returns the history with these answers, which are in the order of the architectures.

    An evaluation whose value of an objective is no finite number counts as failed, such as a latency never measured.

    Raises:
      UserError: a successful evaluation lacks an objective.
    """
    told = {a: _values(e, objectives) for a, e in zip(architectures, evaluations, strict=True)}
    return dataclasses.replace(self, answers={**self.answers, **told}, spent=self.spent.add(evaluations))

  def accuracy(self, architecture: A) -> float:
    """Returns the accuracy of one that was told, a fraction; -inf for a failed one."""
    values = self.answers[architecture]
    return values[0] if values else -math.inf

  def successes(self) -> tuple[A, ...]:
    """Returns those that did not fail, in the order asked for."""
    return tuple(a for a, values in self.answers.items() if values)

  def best(self) -> A | None:
    """Returns the first of the most accurate; None if none has succeeded."""
    return max(self.successes(), key=self.accuracy, default=None)

  def costs(self, members: Sequence[A], objectives: Sequence[str]) -> np.ndarray:
    """Returns the values [N, M] of N that succeeded in M objectives, all to be minimised: accuracy is negated."""
    values = np.array([self.answers[a] for a in members], float).reshape(len(members), len(objectives))
    values[:, 0] *= -1
    return values

  def front(self, objectives: Sequence[str]) -> list[dict[str, Any]]:
    """Returns those that no other one dominates, in the order they were found; of equals the first.

    Each is a plain record of `stage` ('search'), `architecture`, and each objective by its name; accuracy is a fraction.
    """
    members = self.successes()
    first = moocore.is_nondominated(self.costs(members, objectives))
    return [
        {'stage': 'search', 'architecture': a.to_json(), **dict(zip(objectives, self.answers[a] or (), strict=True))}
        for a, kept in zip(members, first, strict=True) if kept]

  def over(self, budget: Budget, space: SearchSpace[A]) -> bool:
    """Returns whether the budget is used up, or the whole space has been seen."""
    return budget.used_up(self.spent) or len(self.answers) >= space.size()

  def describe(self, name: str) -> str:
    """Returns the best so far in one line, for the progress display."""
    best = self.best()
    return f'{name}: {best_of(best, self.accuracy(best) if best else 0.0)}, {self.spent.evaluations} evaluations'

  def to_json(self) -> dict[str, Any]:
    """Returns a plain record."""
    answers = [[a.to_json(), values and list(values)] for a, values in self.answers.items()]
    return {'seed': self.seed, 'answers': answers, 'spent': dataclasses.asdict(self.spent)}

  @classmethod
  def from_json(cls, record: Mapping[str, Any], space: SearchSpace[A]) -> History[A]:
    """Reads what `to_json` gives."""
    answers = {space.from_json(a): values and tuple(values) for a, values in record['answers']}
    return cls(seed=record['seed'], answers=answers, spent=Spent(**record['spent']))


def draw(space: SearchSpace[A], seed: int, seen: Sequence[A], count: int) -> tuple[A, ...]:
  """Returns the next `count` architectures at random after those seen, fewer if the space ends.

  Each follows from the seed and the number before it, so that batches do not matter. Drawing again until one is new leaves the
  new ones' odds as they are. Raises UserError if there seems to be no other within the limits.
  """
  taken = set(seen)
  drawn: list[A] = []
  while len(drawn) < count and len(taken) < space.size():
    rng = np.random.default_rng([seed, len(taken)])
    for tries in itertools.count():
      if (architecture := space.sample(rng)) not in taken:
        break
      if tries == DRAWS and isinstance(space, Within):
        raise UserError(f'config.limits: {len(taken)} networks are known and none of {DRAWS:,} drawn is another one; give '
                        'fewer config.budget.evaluations, or higher limits')
    taken.add(architecture)
    drawn.append(architecture)
  return tuple(drawn)


def draw_new(space: SearchSpace[A], history: History[A], count: int) -> tuple[A, ...]:
  """Returns the next `count` new architectures at random, fewer if the space ends: those of random search with this seed."""
  return draw(space, history.seed, tuple(history.answers), count)


def breed_new(space: SearchSpace[A], history: History[A], count: int,
              propose: Callable[[np.random.Generator], A]) -> tuple[A, ...]:
  """Returns the next `count` new ones that `propose` makes, or random ones if it only repeats; fewer if the space ends."""
  taken = set(history.answers)
  children: list[A] = []
  for _ in range(count):
    rng = np.random.default_rng([history.seed, len(taken)])
    new = (child for child in (propose(rng) for _ in range(TRIES)) if child not in taken)
    found = tuple(itertools.islice(new, 1)) or draw(space, history.seed, tuple(taken), 1)
    children += found
    taken.update(found)
  return tuple(children)


def work_left(batch: Sequence[Request], spent: Spent, budget: Budget) -> Sequence[Request]:
  """Returns the next batch, and for each further evaluation left one of it again, under a replicate of its own.

  What follows the batch depends on its answers. If cost alone is limited, only the batch is returned: the least is known.
  """
  count = max(len(batch), budget.evaluations - spent.evaluations) if batch else 0
  return tuple(dataclasses.replace(batch[i % len(batch)], replicate=i // len(batch)) for i in range(count))


def best_of(network: Architecture | None, accuracy: float) -> str:
  """Returns the best so far in a few words; `accuracy`, a fraction, counts if there is a network."""
  return f'best {summary(network, accuracy)}' if network else 'nothing yet'


def _values(evaluation: Evaluation, objectives: Sequence[str]) -> tuple[float, ...] | None:
  if not evaluation.ok:
    return None
  for name in objectives:
    if name not in evaluation.metrics:
      raise UserError(f"objective '{name}' is not measured; give some of {', '.join(sorted(evaluation.metrics))}")
  values = tuple(evaluation.metrics[name] for name in objectives)
  return values if all(map(math.isfinite, values)) else None

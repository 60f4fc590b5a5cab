"""NSGA-II over any space: accuracy and further objectives at once.

Deb, Pratap, Agarwal and Meyarivan, IEEE Transactions on Evolutionary Computation 2002, "A Fast and Elitist Multiobjective
Genetic Algorithm: NSGA-II". Members are ordered by the rank of their front, then by crowding distance (section III); of two
random members the better is a parent; its mutant is a child. Of the population and its children the best survive.

Rules of its own
- Accuracy is maximised, every other objective minimised. Each is a metric of the evaluations.
- Parents are recombined before mutation only where the space offers `crossover(first, second, rng)`.
- A batch of children is bred and then selected from together with the population. A batch as large as the population is the
  published algorithm, a smaller one its steady-state form.
- No architecture is asked for twice. A child known already is thrown away and the step done again; after many such in a row a
  random new architecture takes its place.
- The initial population is what random search draws from the same seed. A failed network never enters.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Generic

import moocore
import numpy as np

from enas_jax.errors import UserError
from enas_jax.settings import at_least
from enas_jax.spaces.base import SearchSpace
from enas_jax.strategies.base import TableFacts
from enas_jax.strategies.history import History, breed_new, draw_new
from enas_jax.strategies.history_strategy import HistoryStrategy
from enas_jax.strategies.registration import Setup, register
from enas_jax.types import A


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """The settings of NSGA-II (`config.nsga2`).

  Attributes:
    objectives: accuracy, which is maximised, and other metrics of the evaluations, which are minimised.
    population: how many networks live, >= 1; as many are drawn at random first.
    batch: how many children are bred and selected from at once, >= 1; as many as the population is the published algorithm.
  """

  objectives: tuple[str, ...] = ('accuracy', 'params')
  population: int = 20
  batch: int = 4

  def __post_init__(self) -> None:
    """Raises UserError for a value out of range."""
    at_least(self, 1, 'population', 'batch', prefix='config.nsga2')
    if self.objectives[:1] != ('accuracy',) or len(set(self.objectives)) < max(2, len(self.objectives)):
      raise UserError(f'config.nsga2.objectives {self.objectives} are not accuracy and others, each once; give for example '
                      "('accuracy', 'params')")

  def for_table(self, table: TableFacts) -> Settings:
    """Returns the settings with the objectives of the comparison, if it has some."""
    return dataclasses.replace(self, objectives=table.objectives) if table.objectives else self


@register('nsga2', Settings)
def make(settings: Settings, setup: Setup[A]) -> HistoryStrategy[A, tuple[A, ...]]:
  """Returns the strategy. Raises UserError for a budget without a limit."""
  breeder = Breeder(settings, setup.space, getattr(setup.schedules.space, 'crossover', None))
  return HistoryStrategy(
      setup, breeder, label='NSGA-II', batch=settings.batch, objectives=settings.objectives, random_start=settings.population)


@dataclasses.dataclass(frozen=True)
class Breeder(Generic[A]):
  """The proposer; see the module. Its memory is the living members, the best first."""

  settings: Settings
  space: SearchSpace[A]
  crossover: Callable[[A, A, np.random.Generator], A] | None

  def begin(self) -> tuple[A, ...]:
    """Returns no members."""
    return ()

  def choose(self, history: History[A], memory: tuple[A, ...], room: int) -> tuple[str, tuple[A, ...]]:
    """Returns the next of the initial population, or children."""
    if missing := self.settings.population - len(memory):
      return 'nsga2', draw_new(self.space, history, min(room, missing))

    def parent(rng: np.random.Generator) -> A:
      return memory[min(rng.integers(len(memory), size=2))]  # The best come first.

    def child(rng: np.random.Generator) -> A:
      start = self.crossover(parent(rng), parent(rng), rng) if self.crossover else parent(rng)
      return self.space.mutate(start, rng)

    return 'nsga2', breed_new(self.space, history, room, child)

  def learn(self, history: History[A], memory: tuple[A, ...], asked: Sequence[A]) -> tuple[A, ...]:
    """Returns the best of the members and of those asked for that succeeded."""
    members = (*memory, *(a for a in asked if history.answers[a]))
    order = crowded_order(history.costs(members, self.settings.objectives))
    return tuple(members[i] for i in order[:self.settings.population])

  def to_json(self, memory: tuple[A, ...]) -> list[dict[str, Any]]:
    """Returns the members' records."""
    return [a.to_json() for a in memory]

  def from_json(self, record: Any) -> tuple[A, ...]:
    """Reads what `to_json` gives."""
    return tuple(self.space.from_json(a) for a in record)


def crowded_order(costs: np.ndarray) -> np.ndarray:
  """Returns the places of the points [N, M], all minimised, by rank of front, then by falling crowding distance, stable."""
  ranks = moocore.pareto_rank(costs)
  distances = np.zeros(len(costs))
  for rank in np.unique(ranks):
    members = np.flatnonzero(ranks == rank)
    distances[members] = crowding_distance(costs[members])
  return np.lexsort((-distances, ranks))


def crowding_distance(costs: np.ndarray) -> np.ndarray:
  """Returns for each point [N, M] of a front the sum over objectives of the gap between its neighbours, in shares of the range.

  It is infinite at an objective's ends (Deb et al. 2002, section III-B).
  """
  distances = np.zeros(len(costs))
  for values in costs.T:
    order = np.argsort(values, kind='stable')
    ordered = values[order]
    distances[order[[0, -1]]] = np.inf
    if ordered[-1] > ordered[0]:
      distances[order[1:-1]] += (ordered[2:] - ordered[:-2]) / (ordered[-1] - ordered[0])
  return distances

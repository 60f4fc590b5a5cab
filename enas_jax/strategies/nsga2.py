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
from collections.abc import Mapping, Sequence
from typing import Any

import moocore
import numpy as np
from ml_collections import ConfigDict

from enas_jax.errors import UserError
from enas_jax.spaces.base import SearchSpace
from enas_jax.strategies.budget import Budget
from enas_jax.strategies.history import History, breed_new, work_left
from enas_jax.strategies.random import draw
from enas_jax.strategies.schedules import Schedules
from enas_jax.types import Architecture, Evaluation, Request, Task


@dataclasses.dataclass(frozen=True, kw_only=True)
class Nsga2State:
  """All that was told, and the living members, the best first."""

  history: History
  population: tuple[Architecture, ...] = ()


def from_config(config: ConfigDict, space: SearchSpace, task: Task) -> Nsga2:
  """From `config.nsga2`, `config.budget`, `config.epochs` and `config.training`. Raises UserError for a bad setting."""
  del task
  settings = config.nsga2.to_dict()
  objectives = settings['objectives'] = tuple(settings['objectives'])
  for name in ('population', 'batch'):
    if settings[name] < 1:
      raise UserError(f'config.nsga2.{name} {settings[name]} is below 1; give at least 1')
  if objectives[:1] != ('accuracy',) or len(set(objectives)) < max(2, len(objectives)):
    raise UserError(
        f"config.nsga2.objectives {objectives} are not accuracy and others, each once; give for example ('accuracy', 'params')")
  return Nsga2(Schedules.from_config(config, space), Budget.from_config(config), **settings)


class Nsga2:
  """The strategy; see the module."""

  def __init__(self, schedules: Schedules, budget: Budget, *, objectives: Sequence[str], population: int, batch: int):
    """Takes the space with its schedules, the budget, the objectives, and how many live and are asked for at once."""
    self._space = schedules.space
    self._schedules = schedules
    self._budget = budget
    self._objectives = objectives
    self._population = population
    self._batch = batch

  def init(self, seed: int) -> Nsga2State:
    """The state before the first question."""
    return Nsga2State(history=History(seed=seed))

  def ask(self, state: Nsga2State) -> tuple[Sequence[Request], Nsga2State]:
    """The next of the initial population, or children; at most a batch."""
    return tuple(Request(a, self._schedules.of_macro(a), phase='nsga2') for a in self._next(state)), state

  def tell(self, state: Nsga2State, evaluations: Sequence[Evaluation]) -> Nsga2State:
    """Takes the answers to the last `ask`. Raises UserError where one lacks an objective."""
    asked = self._next(state)
    history = state.history.add(asked, evaluations, self._objectives)
    members = (*state.population, *(a for a in asked if history.answers[a]))
    order = crowded_order(self._costs(history, members))
    return Nsga2State(history=history, population=tuple(members[i] for i in order[:self._population]))

  def done(self, state: Nsga2State) -> bool:
    """Whether the budget is used up, or the whole space has been seen."""
    return state.history.over(self._budget, self._space)

  def best(self, state: Nsga2State) -> Architecture | None:
    """The most accurate network, or None where no candidate succeeded."""
    return state.history.best()

  def front(self, state: Nsga2State) -> list[dict[str, Any]]:
    """Of all networks told those that no other one dominates, in the order they were found; of equals the first.

    Plain records of `stage` ('search'), `architecture`, and each objective by its name; accuracy is a fraction.
    """
    history, members = state.history, state.history.successes()
    first = moocore.is_nondominated(self._costs(history, members))
    return [
        {'stage': 'search', 'architecture': a.to_json(), **dict(zip(self._objectives, history.answers[a], strict=True))}
        for a, kept in zip(members, first, strict=True) if kept]

  def outlook(self, state: Nsga2State) -> Sequence[Request]:
    """The next batch, repeated up to the evaluations left."""
    return work_left(self.ask(state)[0], state.history, self._budget)

  def describe(self, state: Nsga2State) -> str:
    """The most accurate network in one line."""
    return state.history.describe('NSGA-II')

  def to_json(self, state: Nsga2State) -> dict[str, Any]:
    """The state as a plain record."""
    return {'history': state.history.to_json(), 'population': [a.to_json() for a in state.population]}

  def from_json(self, record: Mapping[str, Any]) -> Nsga2State:
    """Reads `to_json`."""
    population = tuple(self._space.from_json(a) for a in record['population'])
    return Nsga2State(history=History.from_json(record['history'], self._space), population=population)

  def _next(self, state: Nsga2State) -> tuple[Architecture, ...]:
    history, population = state.history, state.population
    room = self._budget.room(history.spent, self._batch)
    missing = self._population - len(population)
    if missing:
      return draw(self._space, history.seed, tuple(history.answers), min(room, missing))
    crossover = getattr(self._space, 'crossover', None)

    def parent(rng: np.random.Generator) -> Architecture:
      return population[min(rng.integers(len(population), size=2))]  # The best come first.

    def child(rng: np.random.Generator) -> Architecture:
      start = crossover(parent(rng), parent(rng), rng) if crossover else parent(rng)
      return self._space.mutate(start, rng)

    return breed_new(self._space, history, room, child)

  def _costs(self, history: History, members: Sequence[Architecture]) -> np.ndarray:
    """Values [N, M], all to be minimised."""
    values = np.array([history.answers[a] for a in members], float).reshape(-1, len(self._objectives))
    values[:, 0] *= -1  # Accuracy.
    return values


def crowded_order(costs: np.ndarray) -> np.ndarray:
  """Places of the points [N, M], all minimised, by rank of front, then by falling crowding distance; of equals the first."""
  ranks = moocore.pareto_rank(costs)
  distances = np.zeros(len(costs))
  for rank in np.unique(ranks):
    members = np.flatnonzero(ranks == rank)
    distances[members] = crowding_distance(costs[members])
  return np.lexsort((-distances, ranks))


def crowding_distance(costs: np.ndarray) -> np.ndarray:
  """Of each point [N, M] of a front, the sum over objectives of the gap between its neighbours, as a share of the range.

  Infinite at an objective's ends (Deb et al. 2002, section III-B).
  """
  distances = np.zeros(len(costs))
  for values in costs.T:
    order = np.argsort(values, kind='stable')
    ordered = values[order]
    distances[order[[0, -1]]] = np.inf
    if ordered[-1] > ordered[0]:
      distances[order[1:-1]] += (ordered[2:] - ordered[:-2]) / (ordered[-1] - ordered[0])
  return distances

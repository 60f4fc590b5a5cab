"""Regularized evolution over any space, as the NAS benchmarks' baseline runs it.

Real, Aggarwal, Huang and Le, AAAI 2019, "Regularized Evolution for Image Classifier Architecture Search", algorithm 1: the
population begins at random; then the most accurate of a random sample is mutated once, its child enters, the oldest leaves.
The sample is drawn with replacement, as in the paper and the baseline of NATS-Bench (that of NAS-Bench-101 draws without).

Rules of its own
- No architecture is asked for twice. A child known already is thrown away and the step, sample included, done again; after
  many such in a row a random new architecture takes its place.
- The initial population is what random search draws from the same seed. A failed network never enters: another is drawn.
- A batch's children are bred from one population. A batch of one is the published algorithm.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from enas_jax.errors import UserError
from enas_jax.spaces.base import SearchSpace
from enas_jax.strategies.budget import Budget
from enas_jax.strategies.history import History, breed_new, work_left
from enas_jax.strategies.random import draw
from enas_jax.strategies.schedules import Schedules
from enas_jax.types import Architecture, Evaluation, Request, Task


def from_config(config: ConfigDict, space: SearchSpace, task: Task) -> RegularizedEvolution:
  """From `config.regularized_evolution`, `config.budget`, `config.epochs` and `config.training`.

  Raises UserError for a setting out of range.
  """
  del task
  settings = config.regularized_evolution.to_dict()
  for name, value in settings.items():
    if value < 1:
      raise UserError(f'config.regularized_evolution.{name} {value} is below 1; give at least 1')
  return RegularizedEvolution(Schedules.from_config(config, space), Budget.from_config(config), **settings)


class RegularizedEvolution:
  """The strategy; see the module. Its state is the history alone: the population is the last to succeed."""

  def __init__(self, schedules: Schedules, budget: Budget, *, population: int, sample: int, batch: int):
    """Takes the space with its schedules, the budget, and how many live, enter a tournament and are asked for at once."""
    self._space = schedules.space
    self._schedules = schedules
    self._budget = budget
    self._population = population
    self._sample = sample
    self._batch = batch

  def init(self, seed: int) -> History:
    """The state before the first question."""
    return History(seed=seed)

  def ask(self, state: History) -> tuple[Sequence[Request], History]:
    """The next of the initial population, or children; at most a batch."""
    phase = 'start' if self._missing(state) else 'evolution'
    return tuple(Request(a, self._schedules.of_macro(a), phase=phase) for a in self._next(state)), state

  def tell(self, state: History, evaluations: Sequence[Evaluation]) -> History:
    """Takes the answers to the last `ask`."""
    return state.add(self._next(state), evaluations)

  def done(self, state: History) -> bool:
    """Whether the budget is used up, or the whole space has been seen."""
    return state.over(self._budget, self._space)

  def best(self, state: History) -> Architecture | None:
    """The most accurate network, or None where no candidate succeeded."""
    return state.best()

  def front(self, state: History) -> list[dict[str, Any]]:
    """Empty: accuracy is the only objective."""
    del state
    return []

  def outlook(self, state: History) -> Sequence[Request]:
    """The next batch, repeated up to the evaluations left."""
    return work_left(self.ask(state)[0], state, self._budget)

  def describe(self, state: History) -> str:
    """The best network in one line."""
    return state.describe('evolution')

  def to_json(self, state: History) -> dict[str, Any]:
    """The state as a plain record."""
    return state.to_json()

  def from_json(self, record: Mapping[str, Any]) -> History:
    """Reads `to_json`."""
    return History.from_json(record, self._space)

  def _missing(self, state: History) -> int:
    """How many the initial population lacks."""
    return max(0, self._population - len(state.successes()))

  def _next(self, state: History) -> tuple[Architecture, ...]:
    population = state.successes()[-self._population:]
    room = self._budget.room(state.spent, self._batch)
    if missing := self._missing(state):
      return draw(self._space, state.seed, tuple(state.answers), min(room, missing))

    def child(rng: np.random.Generator) -> Architecture:
      sample = [population[i] for i in rng.integers(len(population), size=self._sample)]
      return self._space.mutate(max(sample, key=state.accuracy), rng)

    return breed_new(self._space, state, room, child)

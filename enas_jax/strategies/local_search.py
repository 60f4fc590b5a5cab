"""Local search over any space: from the best of a few random networks, to better neighbours while there are any.

White, Nolen and Savani, UAI 2021, "Exploring the Loss Landscape in Neural Architecture Search" (first as arXiv 2005.02960,
"Local Search is State of the Art for NAS Benchmarks"), algorithm 1; Den Ottelander et al., EMO 2021, "Local Search is a
Remarkably Strong Baseline for Neural Architecture Search". At a local optimum, all of whose neighbours are known and none is
more accurate, a new start is drawn, until the budget ends.

Rules of its own
- Neighbours are asked for in batches, in random order. With `first_improvement` the walk moves to the best of the first batch
  that holds a better one; else it asks for all neighbours and moves to the best.
- No architecture is asked for twice. What is known of a neighbour, from this walk or another, counts at once.
- A failed network is a neighbour worse than any. While a start has no success more of its networks are drawn.
"""
from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from enas_jax.errors import UserError
from enas_jax.spaces.base import SearchSpace
from enas_jax.strategies.budget import Budget
from enas_jax.strategies.history import History, work_left
from enas_jax.strategies.random import draw
from enas_jax.strategies.schedules import Schedules
from enas_jax.types import Architecture, Evaluation, Request, Task


@dataclasses.dataclass(frozen=True, kw_only=True)
class LocalState:
  """Where local search stands.

  Attributes:
    history: all that was told.
    centre: whose neighbours are asked for; None while a start is drawn.
    since: answers before the start, or before the centre was moved to.
  """

  history: History
  centre: Architecture | None = None
  since: int = 0


def from_config(config: ConfigDict, space: SearchSpace, task: Task) -> LocalSearch:
  """From `config.local_search`, `config.budget`, `config.epochs` and `config.training`.

  Raises UserError for a setting out of range.
  """
  del task
  settings = config.local_search.to_dict()
  for name in ('initial', 'batch'):
    if settings[name] < 1:
      raise UserError(f'config.local_search.{name} {settings[name]} is below 1; give at least 1')
  return LocalSearch(Schedules.from_config(config, space), Budget.from_config(config), **settings)


class LocalSearch:
  """The strategy; see the module."""

  def __init__(self, schedules: Schedules, budget: Budget, *, initial: int, batch: int, first_improvement: bool):
    """Takes the space with its schedules, the budget, and the settings of the module's text."""
    self._space = schedules.space
    self._schedules = schedules
    self._budget = budget
    self._initial = initial
    self._batch = batch
    self._first_improvement = first_improvement

  def init(self, seed: int) -> LocalState:
    """The state before the first question."""
    return LocalState(history=History(seed=seed))

  def ask(self, state: LocalState) -> tuple[Sequence[Request], LocalState]:
    """The next of a start's networks, or of the centre's neighbours; at most a batch."""
    phase = 'start' if state.centre is None else 'neighbours'
    return tuple(Request(a, self._schedules.of_macro(a), phase=phase) for a in self._next(state)), state

  def tell(self, state: LocalState, evaluations: Sequence[Evaluation]) -> LocalState:
    """Takes the answers to the last `ask`, and walks as far as they allow."""
    return self._walk(dataclasses.replace(state, history=state.history.add(self._next(state), evaluations)))

  def done(self, state: LocalState) -> bool:
    """Whether the budget is used up, or the whole space has been seen."""
    return state.history.over(self._budget, self._space)

  def best(self, state: LocalState) -> Architecture | None:
    """The most accurate network, or None where no candidate succeeded."""
    return state.history.best()

  def front(self, state: LocalState) -> list[dict[str, Any]]:
    """Empty: accuracy is the only objective."""
    del state
    return []

  def outlook(self, state: LocalState) -> Sequence[Request]:
    """The next batch, repeated up to the evaluations left."""
    return work_left(self.ask(state)[0], state.history, self._budget)

  def describe(self, state: LocalState) -> str:
    """The best network in one line."""
    return state.history.describe('local search')

  def to_json(self, state: LocalState) -> dict[str, Any]:
    """The state as a plain record."""
    return {'history': state.history.to_json(), 'centre': state.centre and state.centre.to_json(), 'since': state.since}

  def from_json(self, record: Mapping[str, Any]) -> LocalState:
    """Reads `to_json`."""
    history, centre = History.from_json(record['history'], self._space), record['centre']
    return LocalState(history=history, centre=centre and self._space.from_json(centre), since=record['since'])

  def _next(self, state: LocalState) -> tuple[Architecture, ...]:
    history = state.history
    room = self._budget.room(history.spent, self._batch)
    if state.centre is None:
      drawn = len(history.answers) - state.since
      return draw(self._space, history.seed, tuple(history.answers), min(room, self._initial - drawn % self._initial))
    neighbours = list(self._space.neighbours(state.centre))
    order = np.random.default_rng([history.seed, state.since]).permutation(len(neighbours))
    return tuple(itertools.islice((neighbours[i] for i in order if neighbours[i] not in history.answers), room))

  def _walk(self, state: LocalState) -> LocalState:
    """Moves while the answers known show where to, and ends a walk at a local optimum."""
    history, centre = state.history, state.centre
    told = len(history.answers)
    if centre is None:
      start = [a for a in itertools.islice(history.answers, state.since, None) if history.answers[a]]
      if told - state.since < self._initial or not start:
        return state
      centre = max(start, key=history.accuracy)
    while True:
      neighbours = list(self._space.neighbours(centre))
      known = [a for a in neighbours if a in history.answers]
      complete = len(known) == len(neighbours)
      best = max(known, key=history.accuracy, default=centre)
      if history.accuracy(best) > history.accuracy(centre) and (complete or self._first_improvement):
        centre = best
      elif complete:
        return LocalState(history=history, since=told)
      else:
        return LocalState(history=history, centre=centre, since=state.since if centre == state.centre else told)

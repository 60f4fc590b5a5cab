"""Local search over any space: from the best of a few random networks, to better neighbours while there are any.

White, Nolen and Savani, UAI 2021, "Exploring the Loss Landscape in Neural Architecture Search" (first as arXiv 2005.02960,
"Local Search is State of the Art for NAS Benchmarks"), algorithm 1; Den Ottelander et al., EMO 2021, "Local Search is a
Remarkably Strong Baseline for Neural Architecture Search". At a local optimum, all of whose neighbours are known and none is
more accurate, a new start is drawn, until the budget ends.

Rules of its own
- Neighbours are asked for in batches, in random order. With `first_improvement` the walk moves to the best of the first batch
  that holds a better one; else it asks for all neighbours and moves to the best.
- No architecture is asked for twice. What is known of a neighbour, from this walk or another, counts at once.
- A failed network is a neighbour worse than any. While a start has no success, more networks are drawn for it.
"""
from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any, Generic

import numpy as np

from enas_jax.settings import at_least
from enas_jax.spaces.base import SearchSpace
from enas_jax.strategies.history import History, draw_new
from enas_jax.strategies.history_strategy import HistoryStrategy
from enas_jax.strategies.registration import Setup, register
from enas_jax.types import A


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """The settings of local search (`config.local_search`).

  Attributes:
    initial: how many networks are drawn for every start, >= 1; the best of them is where the walk begins.
    batch: how many neighbours are asked for at once, >= 1.
    first_improvement: whether the walk moves at the first better batch; False: to the best of all neighbours.
  """

  initial: int = 10
  batch: int = 4
  first_improvement: bool = True

  def __post_init__(self) -> None:
    """Raises UserError for a value out of range."""
    at_least(self, 1, 'initial', 'batch', prefix='config.local_search')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Walk(Generic[A]):
  """Where local search stands.

  Attributes:
    centre: the network whose neighbours are asked for; None while a start is drawn.
    since: how many answers there were before the start, or before the walk moved to the centre.
  """

  centre: A | None = None
  since: int = 0


@register('local_search', Settings)
def make(settings: Settings, setup: Setup[A]) -> HistoryStrategy[A, Walk[A]]:
  """Returns the strategy. Raises UserError for a budget without a limit."""
  return HistoryStrategy(
      setup, Walker(settings, setup.space), label='local search', batch=settings.batch, random_start=settings.initial)


@dataclasses.dataclass(frozen=True)
class Walker(Generic[A]):
  """The proposer; see the module."""

  settings: Settings
  space: SearchSpace[A]

  def begin(self) -> Walk[A]:
    """Returns the beginning of a start."""
    return Walk()

  def choose(self, history: History[A], memory: Walk[A], room: int) -> tuple[str, tuple[A, ...]]:
    """Returns the next of a start's networks, or of the centre's neighbours."""
    if memory.centre is None:
      drawn, initial = len(history.answers) - memory.since, self.settings.initial
      return 'start', draw_new(self.space, history, min(room, initial - drawn % initial))
    neighbours = list(self.space.neighbours(memory.centre))
    order = np.random.default_rng([history.seed, memory.since]).permutation(len(neighbours))
    new = (neighbours[i] for i in order if neighbours[i] not in history.answers)
    return 'neighbours', tuple(itertools.islice(new, room))

  def learn(self, history: History[A], memory: Walk[A], asked: Sequence[A]) -> Walk[A]:
    """Moves while the answers known show where to, and ends a walk at a local optimum."""
    del asked
    centre, told = memory.centre, len(history.answers)
    if centre is None:
      start = [a for a in itertools.islice(history.answers, memory.since, None) if history.answers[a]]
      if told - memory.since < self.settings.initial or not start:
        return memory
      centre = max(start, key=history.accuracy)
    while True:
      neighbours = list(self.space.neighbours(centre))
      known = [a for a in neighbours if a in history.answers]
      complete = len(known) == len(neighbours)
      best = max(known, key=history.accuracy, default=centre)
      if history.accuracy(best) > history.accuracy(centre) and (complete or self.settings.first_improvement):
        centre = best
      elif complete:
        return Walk(since=told)
      else:
        return Walk(centre=centre, since=memory.since if centre == memory.centre else told)

  def to_json(self, memory: Walk[A]) -> dict[str, Any]:
    """Returns a plain record."""
    return {'centre': memory.centre and memory.centre.to_json(), 'since': memory.since}

  def from_json(self, record: Any) -> Walk[A]:
    """Reads what `to_json` gives."""
    return Walk(centre=record['centre'] and self.space.from_json(record['centre']), since=record['since'])

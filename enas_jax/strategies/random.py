"""Random search: the control that every other strategy must beat.

Networks are drawn as the space draws them (of chains depth, width, operations and kernels, uniformly and independently), no
network twice. It is the fair control: the same space, the same architecture-aware epochs, the same way of counting the budget
as evolution, and no decision at all. What another strategy finds beyond it at equal cost is due to that strategy's decisions,
not to its space or its training.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from enas_jax.errors import UserError
from enas_jax.spaces.base import SearchSpace
from enas_jax.strategies.budget import Budget, Spent
from enas_jax.strategies.schedules import Schedules
from enas_jax.strategies.summary import summary
from enas_jax.types import Architecture, Evaluation, Request, Task


def draw(space: SearchSpace, seed: int, seen: Sequence[Architecture], count: int) -> tuple[Architecture, ...]:
  """The next `count` networks after those seen, fewer where the space ends.

  Each follows from the seed and the number before it, so that batches do not matter. Drawing again until one is new leaves the
  new ones' odds as they are.
  """
  taken = set(seen)
  drawn: list[Architecture] = []
  while len(drawn) < count and len(taken) < space.size():
    rng = np.random.default_rng([seed, len(taken)])
    network = space.sample(rng)
    while network in taken:
      network = space.sample(rng)
    taken.add(network)
    drawn.append(network)
  return tuple(drawn)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomState:
  """The networks drawn so far, what they cost, and the most accurate of them."""

  seed: int
  seen: tuple[Architecture, ...] = ()
  spent: Spent = dataclasses.field(default_factory=Spent)
  best: Architecture | None = None
  accuracy: float | None = None


def from_config(config: ConfigDict, space: SearchSpace, task: Task) -> RandomSearch:
  """From `config.random`, `config.budget`, `config.epochs` and `config.training`. Raises UserError for a bad setting."""
  del task
  if config.random.batch < 1:
    raise UserError(f'config.random.batch {config.random.batch} is below 1; give at least 1')
  return RandomSearch(Schedules.from_config(config, space), Budget.from_config(config), config.random.batch)


class RandomSearch:
  """The strategy; see the module."""

  def __init__(self, schedules: Schedules, budget: Budget, batch: int):
    """Takes the space with its schedules, the budget, and how many networks are asked for at once."""
    self._space = schedules.space
    self._schedules = schedules
    self._budget = budget
    self._batch = batch

  def init(self, seed: int) -> RandomState:
    """The state before the first question."""
    return RandomState(seed=seed)

  def ask(self, state: RandomState) -> tuple[Sequence[Request], RandomState]:
    """The next networks. Each follows from the seed and those before it, so that the batch does not matter."""
    return self._requests(self._draw(state, self._budget.room(state.spent, self._batch))), state

  def tell(self, state: RandomState, evaluations: Sequence[Evaluation]) -> RandomState:
    """Takes the answers to the last `ask`; of equally accurate networks the first is kept."""
    networks = self._draw(state, self._budget.room(state.spent, self._batch))
    best, accuracy = state.best, state.accuracy
    for network, evaluation in zip(networks, evaluations, strict=True):
      if evaluation.ok and (accuracy is None or evaluation.accuracy > accuracy):
        best, accuracy = network, evaluation.accuracy
    return dataclasses.replace(
        state, seen=state.seen + networks, spent=state.spent.add(evaluations), best=best, accuracy=accuracy)

  def done(self, state: RandomState) -> bool:
    """Whether the budget is used up, or the whole space has been seen."""
    return self._budget.used_up(state.spent) or len(state.seen) == self._space.size()

  def best(self, state: RandomState) -> Architecture | None:
    """The most accurate network, or None where no candidate succeeded."""
    return state.best

  def front(self, state: RandomState) -> list[dict[str, Any]]:
    """Empty: accuracy is the only objective."""
    del state
    return []

  def outlook(self, state: RandomState) -> Sequence[Request]:
    """All requests that the evaluations left allow. Where cost alone is limited, the next batch: the least is known."""
    if self.done(state) or not self._budget.evaluations:
      return self.ask(state)[0]
    return self._requests(self._draw(state, self._budget.evaluations - state.spent.evaluations))

  def describe(self, state: RandomState) -> str:
    """The best network in one line."""
    best = f'best {summary(state.best, state.accuracy)}' if state.best and state.accuracy is not None else 'nothing yet'
    return f'random search: {best}, {state.spent.evaluations} evaluations'

  def to_json(self, state: RandomState) -> dict[str, Any]:
    """The state as a plain record."""
    networks = {'seen': [a.to_json() for a in state.seen], 'best': state.best and state.best.to_json()}
    return {**dataclasses.asdict(state), **networks}

  def from_json(self, record: Mapping[str, Any]) -> RandomState:
    """Reads `to_json`."""
    read = self._space.from_json
    networks = {'seen': tuple(read(a) for a in record['seen']), 'best': record['best'] and read(record['best'])}
    return RandomState(**{**record, **networks, 'spent': Spent(**record['spent'])})

  def _draw(self, state: RandomState, count: int) -> tuple[Architecture, ...]:
    return draw(self._space, state.seed, state.seen, count)

  def _requests(self, networks: Sequence[Architecture]) -> tuple[Request, ...]:
    return tuple(Request(a, self._schedules.of_macro(a), phase='random') for a in networks)

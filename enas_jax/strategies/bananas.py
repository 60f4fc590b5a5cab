"""Bayesian optimisation with an ensemble of predictors, over any space: BANANAS.

White, Neiswanger and Savani, AAAI 2021, "BANANAS: Bayesian Optimization with Neural Architectures for Neural Architecture
Search", algorithm 1: after a few random networks, in every round an ensemble is fitted to all answers, mutants of the best
networks are ranked by independent Thompson sampling (a draw from each one's predicted normal distribution), and the first of
the ranking are asked for.

Rules of its own
- No network is asked for twice. The first are what random search draws from the same seed.
- A failed network teaches the ensemble nothing; where none has succeeded yet, networks are drawn at random.
- Candidates are `candidates` new networks: one of the `parents` best, mutated one to `mutations` times; where mutants repeat
  themselves random new ones take their place.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from ml_collections import ConfigDict

from enas_jax.errors import UserError
from enas_jax.spaces.base import SearchSpace
from enas_jax.strategies.budget import Budget
from enas_jax.strategies.history import History, breed_new, work_left
from enas_jax.strategies.random import draw
from enas_jax.strategies.schedules import Schedules
from enas_jax.types import Architecture, Evaluation, Request, Task

if TYPE_CHECKING:
  from enas_jax.predictors import Predictor


@dataclasses.dataclass(frozen=True, kw_only=True)
class BananasState:
  """What was told, and what the ensemble chose to ask for next: choosing takes a fit."""

  history: History
  chosen: tuple[Architecture, ...] = ()


def from_config(config: ConfigDict, space: SearchSpace, task: Task) -> Bananas:
  """From `config.bananas`, `config.budget`, `config.epochs` and `config.training`. Raises UserError for a bad setting."""
  from enas_jax import predictors  # Brings JAX along, which other strategies do without.

  del task
  settings = config.bananas.to_dict()
  name, features = settings.pop('predictor'), settings.pop('features')
  for setting, value in settings.items():
    if value < 1:
      raise UserError(f'config.bananas.{setting} {value} is below 1; give at least 1')
  chosen = {'features': features} if features else {}
  predictor = predictors.make(name, predictors.GraphEncoding.of(space), **chosen)
  return Bananas(Schedules.from_config(config, space), Budget.from_config(config), predictor, **settings)


class Bananas:
  """The strategy; see the module."""

  def __init__(self, schedules: Schedules, budget: Budget, predictor: Predictor, *, initial: int, batch: int, candidates: int,
               parents: int, mutations: int):
    """Takes the space with its schedules, the budget, the predictor and the numbers that the module explains."""
    self._space = schedules.space
    self._schedules = schedules
    self._budget = budget
    self._predictor = predictor
    self._initial, self._batch, self._candidates = initial, batch, candidates
    self._parents, self._mutations = parents, mutations

  def init(self, seed: int) -> BananasState:
    """The state before the first question."""
    return BananasState(history=History(seed=seed))

  def ask(self, state: BananasState) -> tuple[Sequence[Request], BananasState]:
    """The first networks, or the ensemble's choice; at most a batch."""
    if not state.chosen:
      state = dataclasses.replace(state, chosen=self._choose(state.history))
    return tuple(Request(a, self._schedules.of_macro(a), phase='bananas') for a in state.chosen), state

  def tell(self, state: BananasState, evaluations: Sequence[Evaluation]) -> BananasState:
    """Takes the answers to the last `ask`."""
    state = self.ask(state)[1]
    return BananasState(history=state.history.add(state.chosen, evaluations))

  def done(self, state: BananasState) -> bool:
    """Whether the budget is used up, or the whole space has been seen."""
    return state.history.over(self._budget, self._space)

  def best(self, state: BananasState) -> Architecture | None:
    """The most accurate network, or None where no candidate succeeded."""
    return state.history.best()

  def front(self, state: BananasState) -> list[dict[str, Any]]:
    """Empty: accuracy is the only objective."""
    del state
    return []

  def outlook(self, state: BananasState) -> Sequence[Request]:
    """The next batch, repeated up to the evaluations left."""
    return work_left(self.ask(state)[0], state.history, self._budget)

  def describe(self, state: BananasState) -> str:
    """The best network in one line."""
    return state.history.describe('bananas')

  def to_json(self, state: BananasState) -> dict[str, Any]:
    """The state as a plain record."""
    return {'history': state.history.to_json(), 'chosen': [a.to_json() for a in state.chosen]}

  def from_json(self, record: Mapping[str, Any]) -> BananasState:
    """Reads `to_json`."""
    chosen = tuple(self._space.from_json(a) for a in record['chosen'])
    return BananasState(history=History.from_json(record['history'], self._space), chosen=chosen)

  def _choose(self, history: History) -> tuple[Architecture, ...]:
    known = history.successes()
    missing = self._initial - len(history.answers)
    room = self._budget.room(history.spent, self._batch)
    if missing > 0 or not known:
      return draw(self._space, history.seed, tuple(history.answers), min(room, max(missing, 1)))
    candidates = self._mutants(history, known)
    if room == 0 or not candidates:
      return ()
    seed = [history.seed, len(history.answers)]
    graph = self._space.graph
    fitted = self._predictor.fit(
        [graph(a) for a in known], [history.accuracy(a) for a in known], seed=int(np.random.default_rng(seed).integers(2**31)))
    mean, std = fitted.predict([graph(a) for a in candidates])
    sampled = np.random.default_rng([*seed, 1]).normal(mean, std)
    return tuple(candidates[i] for i in np.argsort(-sampled, kind='stable')[:room])

  def _mutants(self, history: History, known: Sequence[Architecture]) -> tuple[Architecture, ...]:
    best = sorted(known, key=history.accuracy, reverse=True)[:self._parents]

    def mutant(rng: np.random.Generator) -> Architecture:
      child = best[rng.integers(len(best))]
      for _ in range(rng.integers(1, self._mutations + 1)):
        child = self._space.mutate(child, rng)
      return child

    return breed_new(self._space, history, self._candidates, mutant)

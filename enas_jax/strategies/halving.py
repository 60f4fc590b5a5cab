"""Successive halving: many networks trained a little, the better part of them longer, one to the end.

Jamieson and Talwalkar, AISTATS 2016, "Non-stochastic Best Arm Identification and Hyperparameter Optimization", figure 3; the
factor is the eta of Li et al., JMLR 2018, "Hyperband", section 3.1. Networks are those that random search would draw from the
same seed, so that the two compare in pairs: what halving saves is the epochs of networks that look poor early.

Rules
- Of a rung's n networks the best floor(n / factor) go on, at least one. The rung of one is the last.
- A network's epochs are random search's, by its depth and width. The last rung trains all of them, the k-th before it
  epochs / factor^k, rounded, at least one. The learning rate follows the whole schedule in every rung, so that going on from
  the rung before is the same as training anew.
- Of equally accurate networks the one drawn first goes on. A failed one never does; fewer may be left then.
- The best network is, of those that never failed, the one that came furthest, and of these the most accurate in its last rung.

With `fidelities` the rungs are given: the k-th trains the k-th of these epochs, each a whole training of its own, as
benchmarks' tables have them.

A short schedule may have the same stop in two rungs. Then the same is asked again, and the ledger knows the answer.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Generic

from enas_jax.errors import UserError
from enas_jax.settings import at_least
from enas_jax.strategies.base import Needs, TableFacts, no_front
from enas_jax.strategies.history import best_of, draw
from enas_jax.strategies.registration import Setup, register
from enas_jax.types import A, Evaluation, Request, Schedule


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """The settings of successive halving (`config.halving`).

  Attributes:
    candidates: how many networks are drawn for the first rung, >= 1.
    fidelities: the epochs of each rung in rising order, each a training of its own; () for parts of one training.
    factor: a rung keeps one in this many, >= 2. Without fidelities it trains this many times as long as the one before it.
  """

  candidates: int = 9
  fidelities: tuple[int, ...] = ()
  factor: int = 3

  def __post_init__(self) -> None:
    """Raises UserError for a value out of range."""
    at_least(self, 1, 'candidates', prefix='config.halving')
    at_least(self, 2, 'factor', prefix='config.halving')
    if self.fidelities and (min(self.fidelities) < 1 or list(self.fidelities) != sorted(set(self.fidelities))):
      raise UserError(
          f'config.halving.fidelities {self.fidelities} do not rise from 1 on; give for example (12, 200), or ()')

  def for_table(self, table: TableFacts) -> Settings:
    """Returns the settings with the table's fidelities, and as many candidates as the budget has for all rungs.

    Raises:
      UserError: the table has one fidelity, or the budget is less than one network costs on its way through all of them.
    """
    if len(table.fidelities) < 2:
      raise UserError(f'strategy halving: {table.name} has one fidelity of {table.dataset}; take another strategy')

    def cost(count: int) -> float:
      return sum(max(1, count // self.factor**k) * table.costs[epochs] for k, epochs in enumerate(table.fidelities))

    if cost(1) > table.queries:
      raise UserError(f'strategy halving: {table.queries} queries are fewer than the {cost(1):g} of one network on its way '
                      'through all fidelities; give more')
    candidates = 1
    while candidates < table.rows and cost(candidates + 1) <= table.queries:
      candidates += 1
    return dataclasses.replace(self, fidelities=table.fidelities, candidates=candidates)


@dataclasses.dataclass(frozen=True, kw_only=True)
class HalvingState(Generic[A]):
  """Where halving stands.

  Attributes:
    networks: those drawn.
    results: what each rung told: accuracies in the order asked for, None for a failed one.
  """

  networks: tuple[A, ...]
  results: tuple[tuple[float | None, ...], ...] = ()


@register('halving', Settings)
@dataclasses.dataclass(frozen=True)
class Halving(Generic[A]):
  """The strategy; see the module. Its attributes are its settings and what it is made for."""

  settings: Settings
  setup: Setup[A]

  front = no_front

  @property
  def needs(self) -> Needs:
    """The given fidelities; without, parts of trainings."""
    fidelities = self.settings.fidelities
    return Needs(fidelities=fidelities, parts=not fidelities, setting='halving.fidelities')

  def init(self, seed: int) -> HalvingState[A]:
    """Returns the state before the first question: all networks are drawn, fewer if the space is smaller."""
    return HalvingState(networks=draw(self.setup.space, seed, (), self.settings.candidates))

  def ask(self, state: HalvingState[A]) -> tuple[Sequence[Request], HalvingState[A]]:
    """Returns a whole rung: none of its networks depends on another's answer."""
    return self._requests(state, self._places(state), len(state.results)), state

  def tell(self, state: HalvingState[A], evaluations: Sequence[Evaluation]) -> HalvingState[A]:
    """Returns the state after the answers to the last `ask`."""
    answers = tuple(
        evaluation.accuracy if evaluation.ok else None
        for _, evaluation in zip(self._places(state), evaluations, strict=True))
    return dataclasses.replace(state, results=(*state.results, answers))

  def done(self, state: HalvingState[A]) -> bool:
    """Returns whether the last rung was told, or all of a rung failed."""
    return not self._places(state)

  def best(self, state: HalvingState[A]) -> A | None:
    """Returns the network that came furthest and was most accurate there, or None if all have failed."""
    best = self._best(state)
    return best and best[0]

  def outlook(self, state: HalvingState[A]) -> Sequence[Request]:
    """Returns this rung, and those after it with the first networks in the places of the best."""
    places = self._places(state)
    requests: list[Request] = []
    for rung in range(len(state.results), self._rungs(state)):
      requests += self._requests(state, places, rung)
      places = places[:self._kept(len(places))]
    return tuple(dict.fromkeys(requests))

  def describe(self, state: HalvingState[A]) -> str:
    """Returns the rung and the best network in one line."""
    best = self._best(state)
    rung = 'done' if self.done(state) else f'rung {len(state.results) + 1} of {self._rungs(state)}'
    return f'halving, {rung}: {best_of(*(best or (None, 0.0)))}'

  def to_json(self, state: HalvingState[A]) -> dict[str, Any]:
    """Returns the state as a plain record."""
    return {'networks': [a.to_json() for a in state.networks], 'results': [list(answers) for answers in state.results]}

  def from_json(self, record: Mapping[str, Any]) -> HalvingState[A]:
    """Reads what `to_json` gives."""
    networks = tuple(self.setup.space.from_json(a) for a in record['networks'])
    return HalvingState(networks=networks, results=tuple(tuple(answers) for answers in record['results']))

  def _kept(self, count: int) -> int:
    """Returns how many of a rung's networks go on."""
    return max(1, count // self.settings.factor)

  def _rungs(self, state: HalvingState[A]) -> int:
    """Returns how many rungs there are; failures do not change it, so that a rung's epochs do not depend on them."""
    if self.settings.fidelities:
      return len(self.settings.fidelities)
    count, rungs = len(state.networks), 1
    while count > 1:
      count, rungs = self._kept(count), rungs + 1
    return rungs

  def _rung_places(self, state: HalvingState[A]) -> Iterator[tuple[int, ...]]:
    """Yields the places in the draw of each rung's networks: of those told, and of the survivors of the last."""
    places = tuple(range(len(state.networks)))
    for answers in state.results:
      yield places
      scores = {p: accuracy for p, accuracy in zip(places, answers, strict=True) if accuracy is not None}
      ranked = sorted(scores, key=lambda p: -scores[p])  # Stable: of equals the first drawn.
      places = tuple(sorted(ranked[:self._kept(len(places))]))
    yield places

  def _places(self, state: HalvingState[A]) -> tuple[int, ...]:
    """Returns the places in the draw of the networks to ask for; none when done."""
    *_, places = self._rung_places(state)
    return places if len(state.results) < self._rungs(state) else ()

  def _best(self, state: HalvingState[A]) -> tuple[A, float] | None:
    """Returns the best network and its accuracy in its last rung."""
    standing: dict[int, tuple[int, float]] = {}
    for rung, (places, answers) in enumerate(zip(self._rung_places(state), state.results, strict=False)):
      for place, accuracy in zip(places, answers, strict=True):
        if accuracy is None:
          standing.pop(place, None)
        else:
          standing[place] = rung, accuracy
    if not standing:
      return None
    place = max(standing, key=lambda p: standing[p])  # Of equals the first drawn: none enters after the first rung.
    return state.networks[place], standing[place][1]

  def _requests(self, state: HalvingState[A], places: Sequence[int], rung: int) -> tuple[Request, ...]:
    later = self._rungs(state) - 1 - rung
    return tuple(Request(a, self._schedule(a, later), phase=f'rung {rung + 1}') for a in (state.networks[p] for p in places))

  def _schedule(self, network: A, later: int) -> Schedule:
    """Returns the schedule in a rung with `later` rungs after it. A whole training has no stop, so that it has one name."""
    if self.settings.fidelities:
      return self.setup.schedules.of(self.settings.fidelities[-1 - later])
    whole = self.setup.schedules.of_macro(network)
    stop = max(1, round(whole.epochs / self.settings.factor**later))
    return whole if stop == whole.epochs else dataclasses.replace(whole, stop_epoch=stop)

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
from typing import Any

from ml_collections import ConfigDict

from enas_jax.errors import UserError
from enas_jax.spaces.base import SearchSpace
from enas_jax.strategies.random import draw
from enas_jax.strategies.schedules import Schedules
from enas_jax.strategies.summary import summary
from enas_jax.types import Architecture, Evaluation, Request, Schedule, Task


@dataclasses.dataclass(frozen=True, kw_only=True)
class HalvingState:
  """The networks drawn, and what each rung told: accuracies in the order asked for, None for a failed one."""

  networks: tuple[Architecture, ...]
  results: tuple[tuple[float | None, ...], ...] = ()


def from_config(config: ConfigDict, space: SearchSpace, task: Task) -> Halving:
  """From `config.halving`, `config.epochs` and `config.training`. Raises UserError for a bad setting."""
  del task
  for name, least in (('candidates', 1), ('factor', 2)):
    if config.halving[name] < least:
      raise UserError(f'config.halving.{name} {config.halving[name]} is below {least}; give at least {least}')
  fidelities = tuple(config.halving.fidelities)
  if fidelities and (min(fidelities) < 1 or list(fidelities) != sorted(set(fidelities))):
    raise UserError(f'config.halving.fidelities {fidelities} do not rise from 1 on; give for example (12, 200), or ()')
  return Halving(Schedules.from_config(config, space), config.halving.candidates, config.halving.factor, fidelities)


class Halving:
  """The strategy; see the module."""

  def __init__(self, schedules: Schedules, candidates: int, factor: int, fidelities: Sequence[int] = ()):
    """Takes the space with its schedules, how many networks the first rung has, one in how many goes on, and epochs by rung."""
    self._space = schedules.space
    self._schedules = schedules
    self._candidates = candidates
    self._factor = factor
    self._fidelities = tuple(fidelities)

  def init(self, seed: int) -> HalvingState:
    """The state before the first question: all networks are drawn, fewer where the space is smaller."""
    return HalvingState(networks=draw(self._space, seed, (), self._candidates))

  def ask(self, state: HalvingState) -> tuple[Sequence[Request], HalvingState]:
    """A whole rung: none of its networks depends on another's answer."""
    return self._requests(state, self._places(state), len(state.results)), state

  def tell(self, state: HalvingState, evaluations: Sequence[Evaluation]) -> HalvingState:
    """Takes the answers to the last `ask`."""
    answers = tuple(
        evaluation.accuracy if evaluation.ok else None
        for _, evaluation in zip(self._places(state), evaluations, strict=True))
    return dataclasses.replace(state, results=(*state.results, answers))

  def done(self, state: HalvingState) -> bool:
    """Whether the last rung was told, or all of a rung failed."""
    return not self._places(state)

  def best(self, state: HalvingState) -> Architecture | None:
    """The network that came furthest and was most accurate there, or None where none is without a failure."""
    best = self._best(state)
    return best and best[0]

  def front(self, state: HalvingState) -> list[dict[str, Any]]:
    """Empty: accuracy is the only objective."""
    del state
    return []

  def outlook(self, state: HalvingState) -> Sequence[Request]:
    """This rung, and those after it with the first networks in the places of the best."""
    places, requests = self._places(state), []
    for rung in range(len(state.results), self._rungs(state)):
      requests += self._requests(state, places, rung)
      places = places[:self._kept(len(places))]
    return tuple(dict.fromkeys(requests))

  def describe(self, state: HalvingState) -> str:
    """The rung and the best network in one line."""
    best = self._best(state)
    rung = 'done' if self.done(state) else f'rung {len(state.results) + 1} of {self._rungs(state)}'
    return f"halving, {rung}: {f'best {summary(*best)}' if best else 'nothing yet'}"

  def to_json(self, state: HalvingState) -> dict[str, Any]:
    """The state as a plain record."""
    return {'networks': [a.to_json() for a in state.networks], 'results': [list(answers) for answers in state.results]}

  def from_json(self, record: Mapping[str, Any]) -> HalvingState:
    """Reads `to_json`."""
    networks = tuple(self._space.from_json(a) for a in record['networks'])
    return HalvingState(networks=networks, results=tuple(tuple(answers) for answers in record['results']))

  def _kept(self, count: int) -> int:
    """How many of a rung's networks go on."""
    return max(1, count // self._factor)

  def _rungs(self, state: HalvingState) -> int:
    """How many rungs there are; failures do not change it, so that a rung's epochs do not hang on them."""
    if self._fidelities:
      return len(self._fidelities)
    count, rungs = len(state.networks), 1
    while count > 1:
      count, rungs = self._kept(count), rungs + 1
    return rungs

  def _rung_places(self, state: HalvingState) -> Iterator[tuple[int, ...]]:
    """The places in the draw of each rung's networks: of those told, and of the survivors of the last."""
    places = tuple(range(len(state.networks)))
    for answers in state.results:
      yield places
      scores = {p: accuracy for p, accuracy in zip(places, answers, strict=True) if accuracy is not None}
      ranked = sorted(scores, key=lambda p: -scores[p])  # Stable: of equals the first drawn.
      places = tuple(sorted(ranked[:self._kept(len(places))]))
    yield places

  def _places(self, state: HalvingState) -> tuple[int, ...]:
    """The places in the draw of the networks to ask for; none when done."""
    *_, places = self._rung_places(state)
    return places if len(state.results) < self._rungs(state) else ()

  def _best(self, state: HalvingState) -> tuple[Architecture, float] | None:
    """The best network and its accuracy in its last rung."""
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

  def _requests(self, state: HalvingState, places: Sequence[int], rung: int) -> tuple[Request, ...]:
    later = self._rungs(state) - 1 - rung
    return tuple(Request(a, self._schedule(a, later), phase=f'rung {rung + 1}') for a in (state.networks[p] for p in places))

  def _schedule(self, network: Architecture, later: int) -> Schedule:
    """The network's schedule in a rung with so many after it. A stop at its end is none: a whole training has one name."""
    if self._fidelities:
      return self._schedules.of(self._fidelities[-1 - later])
    whole = self._schedules.of_macro(network)
    stop = max(1, round(whole.epochs / self._factor**later))
    return whole if stop == whole.epochs else dataclasses.replace(whole, stop_epoch=stop)

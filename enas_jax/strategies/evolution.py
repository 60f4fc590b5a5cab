"""Evolution with ageing over the chain space, macro before micro.

Regularised evolution (Real et al., AAAI 2019, "Regularized Evolution for Image Classifier Architecture Search", section
"Search algorithm"): the best of a random tournament is mutated, the child enters the population, the oldest leaves. As EG-NAS
it parts the space: first depth and width, all layers separable; then operations and kernels at the depth and width found.
Children are asked for in batches, bred from one population.

Rules of its own
- No network is asked for twice in a stage. A parent's child is drawn among its neighbours not asked for yet; where none is
  left another parent of the population is taken, in the macro stage at last any network of the stage. A stage where nothing
  new is left ends.
- Limits on parameters and multiply-adds hold for every network asked for: others are not drawn.
- A failed network never enters the population or the archive. It costs what it costs.
- The micro stage starts from the macro stage's most accurate network, asked for again at the micro stage's epochs, and its
  mutants: accuracies are compared at equal epochs only. Until a network succeeds the macro stage goes on.
- Two objectives: the archive holds the networks that no other one of the stage dominates (as accurate and as small, and
  better in one); a tournament is won by one of its non-dominated members, at random. The search's best is the archive's most
  accurate. The macro stage's archive, the only one that spans depths and widths, is kept beside the micro stage's.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from enas_jax.errors import UserError
from enas_jax.spaces.chain import ChainArchitecture
from enas_jax.strategies.base import Needs
from enas_jax.strategies.budget import Budget
from enas_jax.strategies.evolution_rules import (
    EvolutionSettings,
    EvolutionState,
    Member,
    Stage,
    most_accurate,
    non_dominated,
    tournament,
)
from enas_jax.strategies.history import best_of, work_left
from enas_jax.strategies.registration import Setup, register
from enas_jax.types import Evaluation, Request


@register('evolution', EvolutionSettings, walks=True)
class Evolution:
  """The strategy; see the module."""

  needs = Needs()  # The space computes parameters and multiply-adds.

  def __init__(self, settings: EvolutionSettings, setup: Setup[ChainArchitecture]) -> None:
    """Takes the settings and what to search.

    Raises:
      UserError: the budget has no limit, the space is not of chains, or no network of the macro stage is within the limits.
    """
    setup.budget.check_limited()
    self._settings = settings
    self._schedules = setup.schedules
    self._space = setup.schedules.chains
    self._budget = setup.budget
    self._macro_budget = setup.budget.share(settings.macro_share)
    self._stage = Stage(self._space, setup.task, settings, setup.allows)
    if not self._stage.macro_networks:
      limits = f'max_params {settings.max_params} and max_macs {settings.max_macs}'
      limits += f', and {setup.limits}' if setup.limits else ''
      raise UserError(f'config.evolution: no depth and width is within {limits}; raise them or widen the space downwards')

  def init(self, seed: int) -> EvolutionState:
    """Returns the state before the first question."""
    return EvolutionState(seed=seed)

  def ask(self, state: EvolutionState) -> tuple[Sequence[Request], EvolutionState]:
    """Returns the next networks, at most a batch."""
    return tuple(self._request(state, network) for network in self._breed(state)), state

  def tell(self, state: EvolutionState, evaluations: Sequence[Evaluation]) -> EvolutionState:
    """Returns the state after the answers to the last `ask`."""
    networks = self._breed(state)
    members = tuple(
        Member(network, evaluation.accuracy, self._stage.size_of(network))
        for network, evaluation in zip(networks, evaluations, strict=True) if evaluation.ok)
    return self._next_stage(dataclasses.replace(
        state,
        round=state.round + 1,
        spent=state.spent.add(evaluations),
        seen=state.seen + networks,
        population=(state.population + members)[-self._settings.population:],
        archive=non_dominated(state.archive + members)))

  def done(self, state: EvolutionState) -> bool:
    """Returns whether the budget is used up or nothing new is left."""
    return state.stage == 'done'

  def best(self, state: EvolutionState) -> ChainArchitecture | None:
    """Returns the most accurate network of the stage, or else of the macro stage; None if no candidate has succeeded."""
    member = self._best(state)
    return member.architecture if member else None

  def front(self, state: EvolutionState) -> list[dict[str, Any]]:
    """Returns each stage's networks that no other one of it dominates, in the order they were found."""
    names = self._settings.objectives[1:]
    macro, micro = (state.macro_front, state.archive) if state.macro_front else (state.archive, ())
    return [
        {'stage': stage, 'architecture': m.architecture.to_json(), 'accuracy': m.accuracy, name: m.size}
        for name in names for stage, members in (('macro', macro), ('micro', micro)) for m in members]

  def outlook(self, state: EvolutionState) -> Sequence[Request]:
    """Returns the next batch, repeated up to the evaluations left."""
    return work_left(self.ask(state)[0], state.spent, self._budget)

  def describe(self, state: EvolutionState) -> str:
    """Returns the stage and the best network in one line."""
    member = self._best(state)
    best = best_of(member.architecture, member.accuracy) if member else best_of(None, 0.0)
    return f"{'done' if self.done(state) else state.stage + ' evolution'}: {best}, {state.spent.evaluations} evaluations"

  def to_json(self, state: EvolutionState) -> dict[str, Any]:
    """Returns the state as a plain record."""
    return state.to_json()

  def from_json(self, record: Mapping[str, Any]) -> EvolutionState:
    """Reads what `to_json` gives."""
    return EvolutionState.from_json(record, self._space)

  def _breed(self, state: EvolutionState) -> tuple[ChainArchitecture, ...]:
    if self.done(state):
      return ()
    rng = np.random.default_rng([state.seed, state.round])
    taken, networks = set(state.seen), []
    for _ in range(self._limit(state).room(state.spent, self._settings.batch)):
      network = self._propose(state, len(taken) < self._settings.population, taken, rng)
      if network is None:
        break
      taken.add(network)
      networks.append(network)
    return tuple(networks)

  def _propose(
      self, state: EvolutionState, initial: bool, taken: set[ChainArchitecture], rng: np.random.Generator,
  ) -> ChainArchitecture | None:
    """Returns a network not taken yet, of the initial population or a child; None if none is left."""
    winner = state.macro_winner and state.macro_winner.architecture
    if winner and not taken:
      return winner
    population = [m.architecture for m in state.population]
    parents = [population[i] for i in rng.permutation(len(population))]
    if initial:
      parents = [winner, *parents] if winner else []
    elif parents:
      parents.insert(0, tournament(state.population, self._settings, rng).architecture)
    for parent in (*parents, winner) if winner else parents:
      children = [n for n in self._stage.neighbours(parent, state.stage) if n not in taken]
      if children:
        return children[rng.integers(len(children))]
    newcomers = [] if winner else [n for n in self._stage.macro_networks if n not in taken]
    return newcomers[rng.integers(len(newcomers))] if newcomers else None

  def _request(self, state: EvolutionState, network: ChainArchitecture) -> Request:
    schedule = self._schedules.of_macro(network) if state.stage == 'macro' else self._schedules.of_micro()
    return Request(network, schedule, phase=state.stage)

  def _limit(self, state: EvolutionState) -> Budget:
    """Returns the stage's limit; a macro stage without a success at its end goes on."""
    overtime = not state.archive and self._macro_budget.used_up(state.spent)
    return self._macro_budget if state.stage == 'macro' and not overtime else self._budget

  def _next_stage(self, state: EvolutionState) -> EvolutionState:
    if self._budget.used_up(state.spent):
      return dataclasses.replace(state, stage='done')
    if self._breed(state):
      return state
    if state.stage == 'macro' and state.archive:
      return dataclasses.replace(state, stage='micro', seen=(), population=(), archive=(), macro_front=state.archive)
    return dataclasses.replace(state, stage='done')

  def _best(self, state: EvolutionState) -> Member | None:
    return most_accurate(state.archive) or state.macro_winner

"""EG-NAS: a greedy walk over depth, width, operations and kernels (Siddiqui et al., arXiv 2502.03553, and the authors' code).

The network grows deeper while that pays, then narrower while that costs nothing; then each layer in turn tries an ordinary
convolution and a larger kernel at matched parameters. The winner has the operations and kernels found, at the macro phases'
width (section 4, end). The rules are in `egnas_rules`, the phases in `egnas_walks`.

Three protocols, told apart by settings (`egnas_rules.EgnasSettings`). The default knows its noise: a change is kept if it is
sure to gain, by replicates of both networks (`contest`); as that is costly, it grows from the smallest network, where training
is cheap and gains are large, to where none is worth its cost, past the space's largest sizes if need be: first the kernels of
all layers, then depth, then width. It tries micro changes on all layers at once. The sound one walks as the paper does; a
narrower network is compared with the kept one at equal epochs, and a micro change must gain more than a margin, over as many
seeds as wanted. The published one has neither.

A window asks for several steps at once. Which candidates follow hardly depends on the outcomes, only the stop does; so a
window assumes that nothing is accepted and nothing stops, and `tell` replays the rules over the answers, in order, as long as
they hold what the next decision needs. The decisions are those of window 1. What was asked in vain is asked again where it
is needed, as the same request.

Failures: a failed candidate is a bad one. Until a network succeeds the depth walk goes on, up to its number of failures; then
the search is over without a winner.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from enas_jax.errors import UserError
from enas_jax.spaces.chain import ChainArchitecture
from enas_jax.strategies import egnas_rules, egnas_walks
from enas_jax.strategies.base import Needs, no_front
from enas_jax.strategies.contest import Decision
from enas_jax.strategies.egnas_rules import EgnasSettings, Outcome
from enas_jax.strategies.egnas_state import Accuracies, EgnasState, not_none
from enas_jax.strategies.egnas_walks import label
from enas_jax.strategies.registration import Setup, register
from enas_jax.strategies.summary import summary
from enas_jax.types import Evaluation, Request


@register('egnas', EgnasSettings, walks=True)
class Egnas:
  """The strategy; see the module."""

  front = no_front

  def __init__(self, settings: EgnasSettings, setup: Setup[ChainArchitecture]) -> None:
    """Takes the settings and what to search.

    Raises:
      UserError: the space is not of chains, or the network that the walk begins with is beyond the limits.
    """
    self._settings = settings
    self._space = setup.schedules.chains
    self._context = egnas_walks.Context(settings, self._space, setup.schedules, setup.task, setup.limits)
    self._phases = egnas_walks.phases(self._context)
    if not self._phases['depth'].requests(EgnasState(phase='depth')):
      raise UserError(f'{setup.limits}: the network that the walk begins with, the narrowest if it grows and else the widest, '
                      'is larger; raise the limit, or lower config.chain.min_width or max_width')

  @property
  def needs(self) -> Needs:
    """What it needs of the estimator: the metric that it decides by."""
    return Needs(objectives=('train_loss',) if self._settings.by_train_loss else ())

  def init(self, seed: int) -> EgnasState:
    """Returns the state before the first question. The walk draws nothing: the seed does not matter."""
    del seed
    kernels = self._settings.grow and self._settings.kernel_walk and len(self._space.kernels) > 1
    return EgnasState(phase='kernels' if kernels else 'depth')

  def ask(self, state: EgnasState) -> tuple[Sequence[Request], EgnasState]:
    """Returns the requests of the next decisions of this phase, as many as its window, assuming neutral outcomes."""
    requests: dict[Request, None] = {}
    ahead = state
    for _ in range(self._settings.window_of(state.phase)):
      if label(ahead.phase) != label(state.phase) or self.done(ahead):
        break
      requests.update(dict.fromkeys(self._phases[ahead.phase].requests(ahead)))
      ahead = self._move(ahead, Outcome.NEUTRAL, ahead.accuracies)
    return tuple(requests), state

  def tell(self, state: EgnasState, evaluations: Sequence[Evaluation]) -> EgnasState:
    """Returns the state after the answers to the last `ask`, in its order; it drops those that no decision came to need."""
    requests, _ = self.ask(state)
    return self.replay(state, dict(zip(requests, evaluations, strict=True)))[0]

  def replay(self, state: EgnasState, answers: Mapping[Request, Evaluation]) -> tuple[EgnasState, list[Request]]:
    """Decides for as long as the answers suffice. Returns the state reached and the requests used, in order."""
    used: list[Request] = []
    while not self.done(state):
      phase = self._phases[state.phase]
      needed = phase.requests(state)
      if not all(request in answers for request in needed):
        break
      used += needed
      outcome, accuracies, decision, spread = phase.decide(state, [answers[request] for request in needed])
      decisions = state.decisions + ((decision,) if decision else ())
      state = dataclasses.replace(
          self._move(state, outcome, accuracies), spread=spread or state.spread, decisions=decisions)
    return state, used

  def done(self, state: EgnasState) -> bool:
    """Returns whether the search is over."""
    return state.phase == 'done'

  def best(self, state: EgnasState) -> ChainArchitecture | None:
    """Returns the kept operations and kernels at the macro phases' width, or None if no candidate has succeeded.

    Where that is beyond the limits it is narrower: the widest that is within them.
    """
    if state.kept is None or state.macro is None:
      return state.kept
    wide = dataclasses.replace(state.kept, width=state.macro.width)
    return egnas_rules.shrink(self._space, self._context.task, wide, None, self._context.allows)

  def decisions(self, state: EgnasState) -> Sequence[Decision]:
    """Returns what was decided, and how sure it was; nothing without a confidence."""
    return state.decisions

  def outlook(self, state: EgnasState) -> Sequence[Request]:
    """Returns the requests to come if nothing more is accepted but what has no rival: the first network and the baseline."""
    requests: dict[Request, None] = {}
    while not self.done(state):
      requests.update(dict.fromkeys(self._phases[state.phase].requests(state)))
      rival = state.kept is not None and state.phase != 'baseline'
      state = self._move(state, Outcome.BAD if rival else Outcome.ACCEPT, state.accuracies)
    return tuple(requests)

  def describe(self, state: EgnasState) -> str:
    """Returns the phase and the kept network in one line."""
    walk = ' walk' if state.phase in ('kernels', 'depth', 'width') else ' phase'
    phase = 'done' if self.done(state) else label(state.phase).removesuffix('s') + walk
    best = self.best(state)
    return f"{phase}: keeps {summary(best, not_none(state.accuracy)) if best else 'nothing yet'}"

  def to_json(self, state: EgnasState) -> dict[str, Any]:
    """Returns the state as a plain record."""
    return state.to_json()

  def from_json(self, record: Mapping[str, Any]) -> EgnasState:
    """Reads what `to_json` gives."""
    return EgnasState.from_json(dict(record), self._space)

  def _move(self, state: EgnasState, outcome: Outcome, accuracies: Accuracies) -> EgnasState:
    """Moves on, and past the decisions that need no training: candidates beyond the limits or of which no width fits."""
    if outcome is Outcome.OPEN:
      return dataclasses.replace(state, look=state.look + 1)
    state = dataclasses.replace(self._phases[state.phase].move(state, outcome, accuracies), look=0)
    while not self.done(state) and not self._phases[state.phase].requests(state):
      state = self._phases[state.phase].move(state, Outcome.BAD, state.accuracies)
    return state


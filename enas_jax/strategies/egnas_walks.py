"""The phases of EG-NAS. Each says which requests its next decision needs, decides, and moves the state.

Deciding and moving are apart so that a move can also be assumed: for a window of candidates, and for the work left.
"""
from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

from enas_jax.spaces.chain import CONVOLUTION, ChainArchitecture, Chains
from enas_jax.strategies import egnas_rules
from enas_jax.strategies.egnas_rules import EgnasSettings, Outcome
from enas_jax.strategies.schedules import Schedules
from enas_jax.types import Evaluation, Request, Task

Accuracies = tuple[float | None, ...]
T = TypeVar('T')
ARCHITECTURES = ('kept', 'macro', 'start')  # Fields of the state.


@dataclasses.dataclass(frozen=True, kw_only=True)
class EgnasState:
  """Where the walk stands.

  Attributes:
    phase: 'depth', 'width', 'baseline', 'operation', 'kernel' or 'done'.
    step: decisions of this phase so far.
    failures: bad candidates since the last acceptance.
    kept: the last accepted network; None before the first. In the micro phases at its shrunk width.
    accuracies: of the kept network, by replicate; None for a failed one.
    width_start: epochs from which the width walk's rule counts.
    macro: the result of the macro phases.
    start: the network with which a micro phase began: the width to shrink from, and the parameters to stay near.
  """

  phase: str = 'depth'
  step: int = 0
  failures: int = 0
  kept: ChainArchitecture | None = None
  accuracies: Accuracies = ()
  width_start: int = 0
  macro: ChainArchitecture | None = None
  start: ChainArchitecture | None = None

  @property
  def accuracy(self) -> float | None:
    """Of the kept network, the mean over its successful replicates."""
    known = [a for a in self.accuracies if a is not None]
    return statistics.fmean(known) if known else None

  def to_json(self) -> dict[str, Any]:
    """Returns a plain record."""
    networks = {name: getattr(self, name) for name in ARCHITECTURES}
    networks = {name: network and network.to_json() for name, network in networks.items()}
    return {**dataclasses.asdict(self), **networks, 'accuracies': list(self.accuracies)}

  @classmethod
  def from_json(cls, record: dict[str, Any], space: Chains) -> EgnasState:
    """Reads what `to_json` gives."""
    networks = {name: record[name] and space.from_json(record[name]) for name in ARCHITECTURES}
    return cls(**{**record, **networks, 'accuracies': tuple(record['accuracies'])})


def not_none(value: T | None) -> T:
  """Returns a field of the state that this phase always has."""
  assert value is not None
  return value


@dataclasses.dataclass(frozen=True)
class Context:
  """What all phases share."""

  settings: EgnasSettings
  space: Chains
  schedules: Schedules[ChainArchitecture]
  task: Task


class Phase(Protocol):
  """One phase of the search: pure functions of the state."""

  def requests(self, state: EgnasState) -> tuple[Request, ...]:
    """Returns what the next decision needs; nothing if it is a rejection without training."""

  def decide(self, state: EgnasState, evaluations: Sequence[Evaluation]) -> tuple[Outcome, Accuracies]:
    """Returns the outcome, and the accuracies of the network that is then kept."""

  def move(self, state: EgnasState, outcome: Outcome, accuracies: Accuracies) -> EgnasState:
    """Returns the state after this outcome, which may be an assumed one."""


@dataclasses.dataclass(frozen=True)
class _DepthWalk:
  """One layer more each step, at the largest width, all layers separable (section 3.1)."""

  context: Context

  def requests(self, state: EgnasState) -> tuple[Request, ...]:
    candidate = self._candidate(state)
    schedules = self.context.schedules
    return (Request(candidate, schedules.of(schedules.depth_epochs(candidate.depth)), phase='depth'),)

  def decide(self, state: EgnasState, evaluations: Sequence[Evaluation]) -> tuple[Outcome, Accuracies]:
    (candidate,) = evaluations
    outcome = egnas_rules.depth_rule(self.context.settings, state.accuracy, candidate)
    return outcome, (candidate.accuracy,) if outcome.accepted else state.accuracies

  def move(self, state: EgnasState, outcome: Outcome, accuracies: Accuracies) -> EgnasState:
    candidate = self._candidate(state)
    kept = candidate if outcome.accepted else state.kept
    failures = egnas_rules.failures_after(outcome, state.failures)
    over = outcome is Outcome.FINISH or failures == self.context.settings.depth_failures
    if not over and candidate.depth < self.context.space.max_depth:
      return dataclasses.replace(state, step=state.step + 1, failures=failures, kept=kept, accuracies=accuracies)
    if kept is None:
      return dataclasses.replace(state, phase='done')
    return self._finish(kept, candidate.depth, accuracies)

  def _candidate(self, state: EgnasState) -> ChainArchitecture:
    space = self.context.space
    return ChainArchitecture.uniform(space.min_depth + state.step, space.max_width, kernel=space.kernels[0])

  def _finish(self, kept: ChainArchitecture, last_depth: int, accuracies: Accuracies) -> EgnasState:
    if len(self.context.space.widths) == 1:
      return EgnasState(phase='baseline', kept=kept, accuracies=accuracies, macro=kept, start=kept)
    depth = last_depth if self.context.settings.epochs_continue else kept.depth
    width_start = self.context.schedules.depth_epochs(depth)
    return EgnasState(phase='width', kept=kept, accuracies=accuracies, width_start=width_start)


@dataclasses.dataclass(frozen=True)
class _WidthWalk:
  """One width step narrower each step, at the found depth (section 3.2).

  With the control, each candidate is asked together with the kept network at the candidate's epochs, and compared with
  that; if the kept network was trained at these epochs before, the request is the same. A failed control leaves the kept
  network's last accuracy as the bar.
  """

  context: Context

  def requests(self, state: EgnasState) -> tuple[Request, ...]:
    schedules = self.context.schedules
    schedule = schedules.of(schedules.width_epochs(state.width_start, state.step + 1))
    networks = [self._candidate(state)]
    if self.context.settings.width_control:
      networks.append(not_none(state.kept))
    return tuple(Request(network, schedule, phase='width') for network in networks)

  def decide(self, state: EgnasState, evaluations: Sequence[Evaluation]) -> tuple[Outcome, Accuracies]:
    candidate, *control = evaluations
    bar = control[0].accuracy if control and control[0].ok else not_none(state.accuracy)
    outcome = egnas_rules.width_rule(self.context.settings, bar, candidate)
    return outcome, (candidate.accuracy if outcome.accepted else bar,)

  def move(self, state: EgnasState, outcome: Outcome, accuracies: Accuracies) -> EgnasState:
    candidate = self._candidate(state)
    kept = candidate if outcome.accepted else state.kept
    failures = egnas_rules.failures_after(outcome, state.failures)
    if failures == self.context.settings.width_failures or candidate.width == self.context.space.widths[-1]:
      return EgnasState(phase='baseline', kept=kept, accuracies=accuracies, macro=kept, start=kept)
    return dataclasses.replace(state, step=state.step + 1, failures=failures, kept=kept, accuracies=accuracies)

  def _candidate(self, state: EgnasState) -> ChainArchitecture:
    return dataclasses.replace(not_none(state.kept), width=self.context.space.widths[state.step + 1])


@dataclasses.dataclass(frozen=True)
class _Baseline:
  """The macro network at the micro phases' epochs. If it fails altogether, nothing can be compared: the search ends."""

  context: Context

  def requests(self, state: EgnasState) -> tuple[Request, ...]:
    return _replicates(self.context, not_none(state.macro), 'operation')

  def decide(self, state: EgnasState, evaluations: Sequence[Evaluation]) -> tuple[Outcome, Accuracies]:
    if not any(e.ok for e in evaluations):
      return Outcome.BAD, state.accuracies
    return Outcome.ACCEPT, tuple(e.accuracy if e.ok else None for e in evaluations)

  def move(self, state: EgnasState, outcome: Outcome, accuracies: Accuracies) -> EgnasState:
    phase = 'done' if outcome is Outcome.BAD else 'operation'
    return dataclasses.replace(state, phase=phase, accuracies=accuracies)


@dataclasses.dataclass(frozen=True)
class _MicroPhase:
  """One change a step, layer by layer from the input, at matched parameters (section 4).

  In the phase 'operation' a layer becomes an ordinary convolution, in the phase 'kernel' it gets each of the space's other
  kernels. The width is shrunk by 1 from that of the phase's start until the parameters are within the slack.
  """

  context: Context
  phase: str

  def requests(self, state: EgnasState) -> tuple[Request, ...]:
    candidate = self._candidate(state)
    return _replicates(self.context, candidate, self.phase) if candidate else ()

  def decide(self, state: EgnasState, evaluations: Sequence[Evaluation]) -> tuple[Outcome, Accuracies]:
    outcome = egnas_rules.micro_rule(self.context.settings, state.accuracies, evaluations)
    return outcome, tuple(e.accuracy for e in evaluations) if outcome.accepted else state.accuracies

  def move(self, state: EgnasState, outcome: Outcome, accuracies: Accuracies) -> EgnasState:
    kept = self._candidate(state) if outcome.accepted else state.kept
    moved = dataclasses.replace(state, step=state.step + 1, kept=kept, accuracies=accuracies)
    others = len(self.context.space.kernels) - 1
    if moved.step < not_none(kept).depth * (others if self.phase == 'kernel' else 1):
      return moved
    follows = 'kernel' if self.phase == 'operation' and others else 'done'
    return dataclasses.replace(moved, phase=follows, step=0, start=kept)

  def _candidate(self, state: EgnasState) -> ChainArchitecture | None:
    space, task = self.context.space, self.context.task
    kept, start = not_none(state.kept), not_none(state.start)
    if self.phase == 'operation':
      changed = kept.with_layer(state.step, operation=CONVOLUTION)
    else:
      layer, other = divmod(state.step, len(space.kernels) - 1)
      changed = kept.with_layer(layer, kernel=space.kernels[other + 1])
    limit = space.num_params(start, task) + self.context.settings.parameter_slack
    return egnas_rules.shrink(space, task, dataclasses.replace(changed, width=start.width), limit)


def _replicates(context: Context, architecture: ChainArchitecture, phase: str) -> tuple[Request, ...]:
  schedule = context.schedules.of_micro()
  return tuple(Request(architecture, schedule, r, phase) for r in range(context.settings.micro_replicates))


def phases(context: Context) -> dict[str, Phase]:
  """Returns the phases by the name that the state holds."""
  return {
      'depth': _DepthWalk(context),
      'width': _WidthWalk(context),
      'baseline': _Baseline(context),
      'operation': _MicroPhase(context, 'operation'),
      'kernel': _MicroPhase(context, 'kernel'),
  }

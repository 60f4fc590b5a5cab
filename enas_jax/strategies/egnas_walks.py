"""The phases of EG-NAS. Each says which requests its next decision needs, decides, and moves the state.

Deciding and moving are apart so that a move can also be assumed: for a window of candidates, and for the work left.
"""
from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from enas_jax.errors import UserError
from enas_jax.spaces import Limits
from enas_jax.spaces.chain import CONVOLUTION, ChainArchitecture, Chains
from enas_jax.strategies import egnas_rules
from enas_jax.strategies.contest import Decision, Spread, Verdict, certainty, judge
from enas_jax.strategies.egnas_rules import EgnasSettings, Outcome
from enas_jax.strategies.egnas_state import Accuracies, EgnasState, not_none
from enas_jax.strategies.schedules import Schedules
from enas_jax.types import Evaluation, Request, Schedule, Task


@dataclasses.dataclass(frozen=True)
class Context:
  """What all phases share."""

  settings: EgnasSettings
  space: Chains
  schedules: Schedules[ChainArchitecture]
  task: Task
  limits: Limits

  def allows(self, network: ChainArchitecture) -> bool:
    """Returns whether a network is within the limits."""
    return self.limits.allow(network, self.space, self.task)

  @property
  def growth_gain(self) -> float:
    """The gain in accuracy that a larger network must show: none where the walk does not grow, or within limits."""
    return self.settings.growth_gain if self.settings.grow and not self.limits else 0.0

  def beyond(self, outcome: Outcome, sizes: range) -> bool:
    """Returns whether a walk at the end of the space's sizes goes on: its last step paid, and they are more than one."""
    sure = self.settings.widen and self.settings.confidence > 0
    return sure and outcome is Outcome.ACCEPT and len(sizes) > 1

  def largest(self, steps: Sequence[ChainArchitecture]) -> ChainArchitecture:
    """Returns the first within the limits of a step and its cuts, largest first; the step itself if none is."""
    return next((network for network in steps if self.allows(network)), steps[0])

  def pairs(self, candidate: ChainArchitecture, kept: ChainArchitecture, schedule: Schedule, look: int,
            phase: str) -> tuple[Request, ...]:
    """Returns the requests of a comparison: the candidate's replicates, then as many of the kept network."""
    count = self.settings.pairs(look)
    return tuple(Request(network, schedule, r, phase) for network in (candidate, kept) for r in range(count))

  def walk_pairs(self, candidate: ChainArchitecture, state: EgnasState, schedule: Schedule) -> tuple[Request, ...]:
    """Returns `pairs` with the kept network; before there is one, the candidate's replicates alone."""
    pairs = self.pairs(candidate, state.kept or candidate, schedule, state.look, state.phase)
    return pairs if state.kept else pairs[:len(pairs) // 2]

  def compare(self, state: EgnasState, candidate: ChainArchitecture, evaluations: Sequence[Evaluation],
              margin: float = 0.0, least: float = 0.0) -> Decided:
    """Decides by the answers to `pairs`: the gain that is to be sure of exceeds `margin`, that in accuracy is `least` or more.

    A candidate of which a replicate failed is refused. One that failed for the kept network is left out; where none is left the
    candidate is accepted, as the first network is.
    """
    of_candidate, of_kept = evaluations[:len(evaluations) // 2], evaluations[len(evaluations) // 2:]
    if not all(e.ok for e in of_candidate):
      return Decided(Outcome.BAD, state.accuracies)
    both = [(a.metrics, b.metrics) for a, b in zip(of_candidate, of_kept, strict=True) if b.ok]
    if not both:
      return Decided(Outcome.ACCEPT, accuracies_of(of_candidate))
    accuracy = gains = [a['accuracy'] - b['accuracy'] for a, b in both]
    if self.settings.by_train_loss:
      if not all('train_loss' in metrics for pair in both for metrics in pair):
        raise UserError('config.egnas.decide_by train_loss: the estimator does not measure it; give accuracy')
      gains = [b['train_loss'] - a['train_loss'] for a, b in both]
    verdict = judge(
        gains, margin, state.spread, confidence=self.settings.confidence, share=self.settings.share(state.look),
        last=self.settings.last(state.look), accuracy=accuracy, least=least)
    if verdict is Verdict.OPEN:
      return Decided(Outcome.OPEN, state.accuracies)
    better = verdict is Verdict.BETTER
    decision = Decision(label(state.phase), str(candidate), statistics.fmean(accuracy), len(gains),
                        certainty(gains, margin, state.spread), better, margin, self.settings.decide_by, least)
    return Decided(Outcome.ACCEPT if better else Outcome.BAD, accuracies_of(of_candidate if better else of_kept), decision,
                   state.spread.add(gains))


class Decided(NamedTuple):
  """A decision: its outcome, the accuracies of the network that is then kept; with a confidence, what is told and learnt."""

  outcome: Outcome
  accuracies: Accuracies
  decision: Decision | None = None
  spread: Spread | None = None


class Phase(Protocol):
  """One phase of the search: pure functions of the state."""

  def requests(self, state: EgnasState) -> tuple[Request, ...]:
    """Returns what the next decision needs; nothing if it is a rejection without training."""

  def decide(self, state: EgnasState, evaluations: Sequence[Evaluation]) -> Decided:
    """Returns the decision."""

  def move(self, state: EgnasState, outcome: Outcome, accuracies: Accuracies) -> EgnasState:
    """Returns the state after this outcome, which may be an assumed one."""


@dataclasses.dataclass(frozen=True)
class _KernelWalk:
  """A larger kernel in all layers each step, of the smallest network: not in the paper, for walks that grow."""

  context: Context

  def requests(self, state: EgnasState) -> tuple[Request, ...]:
    candidate = self._candidate(state)
    if not self.context.allows(candidate):
      return ()
    return self.context.walk_pairs(candidate, state, self.context.schedules.of_macro(candidate))

  def decide(self, state: EgnasState, evaluations: Sequence[Evaluation]) -> Decided:
    if state.kept is None:
      outcome = egnas_rules.depth_rule(self.context.settings, None, evaluations[0])
      return Decided(outcome, accuracies_of(evaluations) if outcome.accepted else ())
    return self.context.compare(state, self._candidate(state), evaluations, least=self.context.growth_gain)

  def move(self, state: EgnasState, outcome: Outcome, accuracies: Accuracies) -> EgnasState:
    moved = dataclasses.replace(
        state, step=state.step + 1, kept=self._candidate(state) if outcome.accepted else state.kept, accuracies=accuracies)
    if moved.step < len(self.context.space.kernels):
      return moved
    return dataclasses.replace(moved, phase='depth', step=1 if moved.kept else 0)

  def _candidate(self, state: EgnasState) -> ChainArchitecture:
    space = self.context.space
    return ChainArchitecture.uniform(space.min_depth, space.widths[-1], kernel=space.kernels[state.step])


@dataclasses.dataclass(frozen=True)
class _DepthWalk:
  """Deeper each step, all layers separable: at the largest width (section 3.1), or at the smallest where the walk grows.

  There a step beyond the limits is cut to the layers that they leave.
  """

  context: Context

  def requests(self, state: EgnasState) -> tuple[Request, ...]:
    candidate, settings = self._candidate(state), self.context.settings
    if not self.context.allows(candidate):
      return ()
    if not settings.confidence:
      return (Request(candidate, self._schedule(candidate), phase='depth'),)
    return self.context.walk_pairs(candidate, state, self._schedule(candidate))

  def decide(self, state: EgnasState, evaluations: Sequence[Evaluation]) -> Decided:
    settings, candidate = self.context.settings, evaluations[0]
    if not settings.confidence or state.kept is None:
      outcome = egnas_rules.depth_rule(settings, state.accuracy, candidate)
      return Decided(outcome, accuracies_of(evaluations) if outcome.accepted else state.accuracies)
    decided = self.context.compare(state, self._candidate(state), evaluations, least=self.context.growth_gain)
    target = decided.outcome.accepted and egnas_rules.on_target(settings, candidate)
    return decided._replace(outcome=Outcome.FINISH) if target else decided

  def move(self, state: EgnasState, outcome: Outcome, accuracies: Accuracies) -> EgnasState:
    candidate = self._candidate(state)
    kept = candidate if outcome.accepted else state.kept
    failures = egnas_rules.failures_after(outcome, state.failures)
    cut = candidate.depth < self._nominal(state) and not outcome.accepted  # A longer step would be cut to the same.
    over = outcome is Outcome.FINISH or failures == self.context.settings.depth_failures or cut
    inside = candidate.depth + self.context.settings.depth_step <= self.context.space.max_depth
    if not over and (inside or self.context.beyond(outcome, self.context.space.depths)):
      return dataclasses.replace(state, step=state.step + 1, failures=failures, kept=kept, accuracies=accuracies)
    if kept is None:
      return dataclasses.replace(state, phase='done')
    return self._finish(kept, candidate.depth, accuracies)

  def _candidate(self, state: EgnasState) -> ChainArchitecture:
    space, grow = self.context.space, self.context.settings.grow
    width, depth = space.widths[-1] if grow else space.max_width, self._nominal(state)
    kernel, least = space.kernels[0], depth - 1
    if grow and state.kept:
      kernel, least = state.kept.kernels[0], state.kept.depth
    return self.context.largest([ChainArchitecture.uniform(d, width, kernel=kernel) for d in range(depth, least, -1)])

  def _nominal(self, state: EgnasState) -> int:
    return self.context.space.min_depth + self.context.settings.depth_step * state.step

  def _schedule(self, candidate: ChainArchitecture) -> Schedule:
    schedules = self.context.schedules
    if self.context.settings.grow:
      return schedules.of_macro(candidate)
    return schedules.of(schedules.depth_epochs(candidate.depth))

  def _finish(self, kept: ChainArchitecture, last_depth: int, accuracies: Accuracies) -> EgnasState:
    if len(self.context.space.widths) == 1:
      return EgnasState(phase='baseline', kept=kept, accuracies=accuracies, macro=kept, start=kept)
    depth = last_depth if self.context.settings.epochs_continue else kept.depth
    width_start = self.context.schedules.depth_epochs(depth)
    return EgnasState(phase='width', kept=kept, accuracies=accuracies, width_start=width_start)


@dataclasses.dataclass(frozen=True)
class _WidthWalk:
  """One width step narrower each step, at the found depth (section 3.2).

  Where the walk grows it is one wider, cut where the limits end, and the first that is not better ends it: each costs much more
  than the one before.

  With the control, each candidate is asked together with the kept network at the candidate's epochs, and compared with
  that; if the kept network was trained at these epochs before, the request is the same. A failed control leaves the kept
  network's last accuracy as the bar.
  """

  context: Context

  def requests(self, state: EgnasState) -> tuple[Request, ...]:
    candidate, kept, settings = self._candidate(state), not_none(state.kept), self.context.settings
    if not self.context.allows(candidate):
      return ()
    if settings.confidence:
      return self.context.pairs(candidate, kept, self._schedule(state), state.look, 'width')
    networks = [candidate, kept] if settings.width_control else [candidate]
    return tuple(Request(network, self._schedule(state), phase='width') for network in networks)

  def decide(self, state: EgnasState, evaluations: Sequence[Evaluation]) -> Decided:
    settings = self.context.settings
    if settings.confidence:
      margin = 0.0 if settings.grow else -settings.width_tolerance
      return self.context.compare(
          state, self._candidate(state), evaluations, margin, self.context.growth_gain if settings.grow else margin)
    candidate, *control = evaluations
    bar = control[0].accuracy if control and control[0].ok else not_none(state.accuracy)
    outcome = egnas_rules.width_rule(settings, bar, candidate)
    return Decided(outcome, (candidate.accuracy if outcome.accepted else bar,))

  def move(self, state: EgnasState, outcome: Outcome, accuracies: Accuracies) -> EgnasState:
    kept = self._candidate(state) if outcome.accepted else state.kept
    failures, settings = egnas_rules.failures_after(outcome, state.failures), self.context.settings
    inside = state.step + 2 < len(self.context.space.widths) or (
        settings.grow and self.context.beyond(outcome, self.context.space.widths))
    if failures == (1 if settings.grow else settings.width_failures) or not inside:
      return EgnasState(phase='baseline', kept=kept, accuracies=accuracies, macro=kept, start=kept)
    return dataclasses.replace(state, step=state.step + 1, failures=failures, kept=kept, accuracies=accuracies)

  def _candidate(self, state: EgnasState) -> ChainArchitecture:
    widths, step = self.context.space.widths, state.step + 1
    kept = not_none(state.kept)
    if not self.context.settings.grow:
      return dataclasses.replace(kept, width=widths[step])
    width = widths[-1] + step * self.context.space.width_step
    return self.context.largest([dataclasses.replace(kept, width=w) for w in range(width, kept.width, -1)])

  def _schedule(self, state: EgnasState) -> Schedule:
    schedules = self.context.schedules
    if self.context.settings.grow:
      return schedules.of_macro(self._candidate(state))
    return schedules.of(schedules.width_epochs(state.width_start, state.step + 1))


@dataclasses.dataclass(frozen=True)
class _Baseline:
  """The macro network at the micro phases' epochs. If it fails altogether, nothing can be compared: the search ends."""

  context: Context

  def requests(self, state: EgnasState) -> tuple[Request, ...]:
    schedule, count = self.context.schedules.of_micro(), self.context.settings.pairs(0)
    return tuple(Request(not_none(state.macro), schedule, r, 'operation') for r in range(count))

  def decide(self, state: EgnasState, evaluations: Sequence[Evaluation]) -> Decided:
    if not any(e.ok for e in evaluations):
      return Decided(Outcome.BAD, state.accuracies)
    return Decided(Outcome.ACCEPT, accuracies_of(evaluations))

  def move(self, state: EgnasState, outcome: Outcome, accuracies: Accuracies) -> EgnasState:
    phase = 'done' if outcome is Outcome.BAD else 'operation'
    return dataclasses.replace(state, phase=phase, accuracies=accuracies)


@dataclasses.dataclass(frozen=True)
class _MicroPhase:
  """One change a step, layer by layer from the input or group by group, at matched parameters (section 4).

  In the phase 'operation' a layer becomes an ordinary convolution, in the phase 'kernel' it gets each of the kernels that
  follow its own in the space. The width is shrunk by 1 from that of the phase's start until the parameters are within the
  slack.
  """

  context: Context
  phase: str

  def requests(self, state: EgnasState) -> tuple[Request, ...]:
    candidate, settings = self._candidate(state), self.context.settings
    if candidate is None:
      return ()
    pairs = self.context.pairs(candidate, not_none(state.kept), self.context.schedules.of_micro(), state.look, self.phase)
    return pairs if settings.confidence else pairs[:len(pairs) // 2]

  def decide(self, state: EgnasState, evaluations: Sequence[Evaluation]) -> Decided:
    settings, candidate = self.context.settings, not_none(self._candidate(state))
    if settings.confidence:
      return self.context.compare(state, candidate, evaluations)
    outcome = egnas_rules.micro_rule(settings, state.accuracies, evaluations)
    return Decided(outcome, accuracies_of(evaluations) if outcome.accepted else state.accuracies)

  def move(self, state: EgnasState, outcome: Outcome, accuracies: Accuracies) -> EgnasState:
    kept = not_none(self._candidate(state) if outcome.accepted else state.kept)
    moved = dataclasses.replace(state, step=state.step + 1, kept=kept, accuracies=accuracies)
    others = len(self._others(state))
    if moved.step < len(self._groups(kept)) * (others if self.phase == 'kernel' else 1):
      return moved
    follows = 'kernel' if self.phase == 'operation' and others else 'done'
    return dataclasses.replace(moved, phase=follows, step=0, start=kept)

  def _others(self, state: EgnasState) -> tuple[int, ...]:
    """Returns the kernels after that with which the phase began: those before it lost against it, or there are none."""
    kernels = self.context.space.kernels
    return kernels[kernels.index(not_none(state.start).kernels[0]) + 1:]

  def _groups(self, network: ChainArchitecture) -> list[range]:
    """Returns the layers of each group, from the input; groups are as equal as can be."""
    count = min(self.context.settings.micro_groups or network.depth, network.depth)
    return [range(network.depth * i // count, network.depth * (i + 1) // count) for i in range(count)]

  def _candidate(self, state: EgnasState) -> ChainArchitecture | None:
    space, task = self.context.space, self.context.task
    changed, start = not_none(state.kept), not_none(state.start)
    if self.phase == 'operation':
      group, change = state.step, {'operation': CONVOLUTION}
    else:
      group, other = divmod(state.step, len(self._others(state)))
      change = {'kernel': self._others(state)[other]}
    for layer in self._groups(changed)[group]:
      changed = changed.with_layer(layer, **change)
    limit = space.num_params(start, task) + self.context.settings.parameter_slack
    return egnas_rules.shrink(space, task, dataclasses.replace(changed, width=start.width), limit, self.context.allows)


def accuracies_of(evaluations: Sequence[Evaluation]) -> Accuracies:
  """Returns the accuracy of each replicate, None for a failed one."""
  return tuple(e.accuracy if e.ok else None for e in evaluations)


def label(phase: str) -> str:
  """Returns the name under which a phase's requests go."""
  return 'operation' if phase == 'baseline' else phase


def phases(context: Context) -> dict[str, Phase]:
  """Returns the phases by the name that the state holds."""
  return {
      'kernels': _KernelWalk(context),
      'depth': _DepthWalk(context),
      'width': _WidthWalk(context),
      'baseline': _Baseline(context),
      'operation': _MicroPhase(context, 'operation'),
      'kernel': _MicroPhase(context, 'kernel'),
  }

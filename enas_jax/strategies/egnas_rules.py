"""The decision rules of EG-NAS, each a pure function of accuracies and settings.

Accuracies are fractions of images, so rules such as "at most 0.05 points less" meet exact ties, and a tie must not hang on
rounding. The authors' code compares percentages in float32; their KMNIST search at cap 128 has a candidate with 9901 of 10000
images right against a best of 9906: a tie in exact numbers and in float32, which float64 would call a miss, as the logged
percentages are float32. Hence accuracies count as equal within `ROUNDING`: more than float32 loses, less than one image
in five million. With it all published searches replay; it holds in both protocols.
"""
from __future__ import annotations

import dataclasses
import enum
import statistics
from collections.abc import Sequence

from enas_jax.errors import UserError
from enas_jax.spaces.chain import ChainArchitecture, ChainSpace
from enas_jax.types import Evaluation, Task

ROUNDING = 2e-7


class Outcome(enum.Enum):
  """What a decision does to a walk."""

  ACCEPT = 'accept'
  FINISH = 'finish'  # Accepted, and so good that the walk ends.
  NEUTRAL = 'neutral'  # Neither accepted nor counted.
  BAD = 'bad'

  @property
  def accepted(self) -> bool:
    """Whether the candidate is kept."""
    return self in (Outcome.ACCEPT, Outcome.FINISH)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rules:
  """The settings of EG-NAS (`config.egnas`); accuracies are fractions.

  The paper's protocol: depth_gain 0.001, depth_loss 0.0005, three failures each, width_tolerance 0, target_accuracy 0.999,
  target_train_accuracy 1 in the logged runs (0.995 in the code), parameter_slack 10000, epochs_continue, no
  width_control, micro_replicates 1, micro_margin 0.

  Attributes:
    window: candidates of a walk decided upon at once, >= 1; their controls come along.
    micro_window: likewise of the micro phases; their replicates come along.
    depth_gain, depth_loss: a deeper network is accepted at this much more, and a failure at more than this much less.
    depth_failures, width_failures: failures since the last acceptance at which the walk stops, >= 1.
    width_tolerance: what a narrower network may lose.
    target_accuracy, target_train_accuracy: the depth walk stops where an accepted network reaches one of them.
    parameter_slack: parameters that a micro candidate may have more than its baseline.
    epochs_continue: quirk of the published code: the width walk's epochs go on from those of the last depth step, failed
      steps included. False: from those of the depth that was kept, so that epochs follow from the architecture.
    width_control: compare a narrower network with the kept one at equal epochs. The published code compares it with what
      the kept one reached in fewer.
    micro_replicates: seeds that a micro decision averages over, >= 1.
    micro_margin: a micro change must gain more than this.
  """

  window: int
  micro_window: int
  depth_gain: float
  depth_loss: float
  depth_failures: int
  width_tolerance: float
  width_failures: int
  target_accuracy: float
  target_train_accuracy: float
  parameter_slack: int
  epochs_continue: bool
  width_control: bool
  micro_replicates: int
  micro_margin: float

  def __post_init__(self):
    """Raises UserError for a value out of range."""
    for name in ('window', 'micro_window', 'depth_failures', 'width_failures', 'micro_replicates'):
      if getattr(self, name) < 1:
        raise UserError(f'config.egnas.{name} {getattr(self, name)} is below 1; give at least 1')
    for name in ('depth_gain', 'depth_loss', 'width_tolerance', 'parameter_slack', 'micro_margin'):
      if getattr(self, name) < 0:
        raise UserError(f'config.egnas.{name} {getattr(self, name)} is negative; give 0 or more')


def reaches(accuracy: float, bar: float) -> bool:
  """accuracy >= bar, equal within rounding."""
  return accuracy >= bar - ROUNDING


def exceeds(accuracy: float, bar: float) -> bool:
  """accuracy > bar, and not equal within rounding."""
  return accuracy > bar + ROUNDING


def depth_rule(rules: Rules, best: float | None, candidate: Evaluation) -> Outcome:
  """Accept at best + gain, neutral from best - loss, bad below or failed. Without a best, any success is accepted."""
  if not candidate.ok:
    return Outcome.BAD
  if best is None or reaches(candidate.accuracy, best + rules.depth_gain):
    return Outcome.FINISH if _on_target(rules, candidate) else Outcome.ACCEPT
  return Outcome.NEUTRAL if reaches(candidate.accuracy, best - rules.depth_loss) else Outcome.BAD


def _on_target(rules: Rules, candidate: Evaluation) -> bool:
  trained = candidate.metrics.get('train_accuracy', 0.0)
  return reaches(candidate.accuracy, rules.target_accuracy) or reaches(trained, rules.target_train_accuracy)


def width_rule(rules: Rules, best: float, candidate: Evaluation) -> Outcome:
  """Accept at best - tolerance, ties included; a failed candidate is bad."""
  accepted = candidate.ok and reaches(candidate.accuracy, best - rules.width_tolerance)
  return Outcome.ACCEPT if accepted else Outcome.BAD


def micro_rule(rules: Rules, incumbent: Sequence[float | None], candidates: Sequence[Evaluation]) -> Outcome:
  """Accept where the mean gain over the replicates exceeds the margin.

  Candidate and incumbent are compared replicate by replicate; one that failed for the incumbent (None) is left out, a
  candidate with a failed one is bad. The incumbent's accuracies are those it was accepted with: the same requests would give
  the same answers. Selection makes them optimistic, which only raises the bar for later changes.
  """
  if not all(c.ok for c in candidates):
    return Outcome.BAD
  gain = statistics.fmean(c.accuracy - a for a, c in zip(incumbent, candidates, strict=True) if a is not None)
  return Outcome.ACCEPT if exceeds(gain, rules.micro_margin) else Outcome.BAD


def failures_after(outcome: Outcome, failures: int) -> int:
  """Failures since the last acceptance; a neutral candidate neither counts nor resets them."""
  return 0 if outcome.accepted else failures + (outcome is Outcome.BAD)


def shrink(space: ChainSpace, task: Task, architecture: ChainArchitecture, limit: int) -> ChainArchitecture | None:
  """The widest form of the architecture, no wider than it is, with at most `limit` parameters; None where width 1 has more.

  Goes below the space's smallest width, as the published code does.
  """
  for width in range(architecture.width, 0, -1):
    shrunk = dataclasses.replace(architecture, width=width)
    if space.num_params(shrunk, task) <= limit:
      return shrunk
  return None

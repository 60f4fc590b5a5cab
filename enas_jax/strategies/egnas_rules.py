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
from collections.abc import Callable, Sequence

from enas_jax.errors import UserError
from enas_jax.settings import at_least
from enas_jax.spaces.chain import ChainArchitecture, Chains
from enas_jax.strategies.base import TableFacts
from enas_jax.strategies.contest import ROUNDING, WHAT_OF
from enas_jax.types import Evaluation, Task


class Outcome(enum.Enum):
  """What a decision does to a walk."""

  ACCEPT = 'accept'
  FINISH = 'finish'  # Accepted, and so good that the walk ends.
  NEUTRAL = 'neutral'  # Neither accepted nor counted.
  BAD = 'bad'
  OPEN = 'open'  # Not decided: more replicates are needed.

  @property
  def accepted(self) -> bool:
    """Whether the candidate is kept."""
    return self in (Outcome.ACCEPT, Outcome.FINISH)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EgnasSettings:
  """The settings of EG-NAS (`config.egnas`); accuracies are fractions.

  The paper's protocol: depth_gain 0.001, depth_loss 0.0005, three failures each, width_tolerance 0, target_accuracy 0.999,
  target_train_accuracy 1 in the logged runs (0.995 in the code), parameter_slack 10000, epochs_continue, no
  width_control, micro_replicates 1, micro_margin 0, confidence 0, not grow, depth_step 1, micro_groups 0.

  With a `confidence` every decision compares replicates of both networks at equal epochs (`contest`): a change is kept if it is
  that sure to gain (`decide_by`), a narrower network if it is that sure to lose less than width_tolerance. The thresholds of
  the other rules (depth_gain, depth_loss, width_control, micro_margin) then say nothing.

  Attributes:
    window: candidates of a walk asked for at once, >= 1; their controls come along. It changes the cost, never a decision.
    micro_window: likewise of the micro phases, and with a confidence of the walks: there an acceptance makes those asked with
      it worthless. Replicates come along.
    depth_gain: a deeper network is accepted at this much more accuracy.
    depth_loss: a deeper network counts as a failure at more than this much less accuracy.
    depth_failures: the depth walk stops at this many failures since the last acceptance, >= 1.
    width_tolerance: the accuracy that a narrower network may lose.
    width_failures: the width walk stops at this many failures since the last acceptance, >= 1.
    target_accuracy: the depth walk stops if an accepted network reaches this,
    target_train_accuracy: or this on the training part.
    parameter_slack: the parameters that a micro candidate may have more than its baseline.
    epochs_continue: quirk of the published code: the width walk's epochs go on from those of the last depth step, failed
      steps included. False: from those of the depth that was kept, so that epochs follow from the architecture.
    width_control: compare a narrower network with the kept one at equal epochs. The published code compares it with what
      the kept one reached in fewer.
    micro_replicates: seeds that a micro decision averages over, >= 1.
    micro_margin: a micro change must gain more accuracy than this.
    confidence: how sure an accepted change is to gain, in (0, 1); 0: decisions are by the accuracies seen, sure or not.
    decide_by: with a confidence, the metric in which a change is to gain. 'train_loss': the mean training loss of the last
      epoch is lower, and the pairs' mean held-out accuracy is not (see growth_gain). It is quieter than the held-out 'accuracy'
      (Ru et al., NeurIPS 2021). Where the walk does not grow, 'accuracy' alone: a narrower network hardly fits as well.
    most_replicates: with a confidence, the seeds of a network at which an undecided comparison ends as a refusal; they begin
      with micro_replicates, at least 2, and double.
    grow: walk from the smallest width up, as long as wider is better: with a confidence alone. Else from the largest down, as
      long as narrower costs nothing.
    growth_gain: where the walk grows, the mean gain in accuracy that a larger network must show beside being sure to gain, as
      it costs more to train and to run. Accuracies of short trainings differ more than those of whole ones. Within
      `config.limits`, which say how large is too large, it says nothing.
    kernel_walk: where the walk grows, begin with the kernels: each of the space's in all layers of the smallest network, where
      that is cheap. Else larger kernels are micro changes alone, at matched parameters.
    widen: go on past the largest depth of the space, and where the walk grows past its largest width, for as long as each step
      is accepted. Without a confidence, and in a direction of one size, it says nothing.
    depth_step: layers more each step of the depth walk, >= 1.
    micro_groups: a micro change is tried on this many groups of neighbouring layers, one after the other; 0: on each layer.
  """

  window: int = 4
  micro_window: int = 1
  depth_gain: float = 0.005
  depth_loss: float = 0.005
  depth_failures: int = 2
  width_tolerance: float = 0.0
  width_failures: int = 4
  target_accuracy: float = 0.999
  target_train_accuracy: float = 0.995
  parameter_slack: int = 100
  epochs_continue: bool = False
  width_control: bool = True
  micro_replicates: int = 2
  micro_margin: float = 0.005
  confidence: float = 0.95
  decide_by: str = 'train_loss'
  most_replicates: int = 8
  grow: bool = True
  growth_gain: float = 0.01
  kernel_walk: bool = True
  widen: bool = True
  depth_step: int = 3
  micro_groups: int = 1

  def __post_init__(self) -> None:
    """Raises UserError for a value out of range."""
    at_least(self, 1, 'window', 'micro_window', 'depth_failures', 'width_failures', 'micro_replicates', 'depth_step',
             prefix='config.egnas')
    at_least(self, 0, 'micro_groups', prefix='config.egnas')
    if self.grow and not self.confidence:
      raise UserError('config.egnas.grow needs config.egnas.confidence; give for example 0.95')
    if not 0 <= self.confidence < 1:
      raise UserError(f'config.egnas.confidence {self.confidence} is outside (0, 1); give for example 0.95, or 0 for decisions '
                      'by the accuracies seen')
    if self.confidence and not 2 <= self.micro_replicates <= self.most_replicates:
      raise UserError(f'config.egnas.micro_replicates {self.micro_replicates} is outside 2 to config.egnas.most_replicates '
                      f'{self.most_replicates}; give one within, or config.egnas.confidence=0')
    if self.decide_by not in WHAT_OF:
      raise UserError(f"config.egnas.decide_by '{self.decide_by}' is not one of {', '.join(WHAT_OF)}")
    if self.by_train_loss and not self.grow:
      raise UserError('config.egnas.decide_by train_loss needs config.egnas.grow; give config.egnas.decide_by=accuracy')
    for name in ('depth_gain', 'depth_loss', 'width_tolerance', 'parameter_slack', 'micro_margin', 'growth_gain'):
      if getattr(self, name) < 0:
        raise UserError(f'config.egnas.{name} {getattr(self, name)} is negative; give 0 or more')

  def for_table(self, table: TableFacts) -> EgnasSettings:
    """Returns the settings without a limit on parameters, with one replicate, and as they were before there was a confidence.

    Chains of a table have no width to pay for an operation with, and a table answers once: without noise to know of.
    """
    del table
    return dataclasses.replace(
        self, parameter_slack=10**9, micro_replicates=1, confidence=0.0, grow=False, depth_step=1, micro_groups=0)

  def window_of(self, phase: str) -> int:
    """Returns how many decisions of a phase are asked for at once."""
    return self.window if phase in ('depth', 'width') and not self.confidence else self.micro_window

  def pairs(self, look: int) -> int:
    """Returns the replicates of each network at a look, the first being 0: without a confidence always as many."""
    return min(self.micro_replicates * 2**look, self.most_replicates) if self.confidence else self.micro_replicates

  @property
  def by_train_loss(self) -> bool:
    """Whether changes are to lower the training loss."""
    return self.confidence > 0 and self.decide_by == 'train_loss'

  def last(self, look: int) -> bool:
    """Returns whether no more replicates may be added after this look."""
    return not self.confidence or self.pairs(look) == self.most_replicates

  def share(self, look: int) -> float:
    """Returns the share of the allowed error that a look has (`contest`)."""
    before = self.pairs(look - 1) if look else 0
    return (self.pairs(look) - before) / self.most_replicates


def reaches(accuracy: float, bar: float) -> bool:
  """Returns whether accuracy >= bar, equal within rounding."""
  return accuracy >= bar - ROUNDING


def exceeds(accuracy: float, bar: float) -> bool:
  """Returns whether accuracy > bar, and not equal within rounding."""
  return accuracy > bar + ROUNDING


def depth_rule(settings: EgnasSettings, best: float | None, candidate: Evaluation) -> Outcome:
  """Accepts at best + gain; neutral from best - loss, bad below or failed. Without a best, any success is accepted."""
  if not candidate.ok:
    return Outcome.BAD
  if best is None or reaches(candidate.accuracy, best + settings.depth_gain):
    return Outcome.FINISH if on_target(settings, candidate) else Outcome.ACCEPT
  return Outcome.NEUTRAL if reaches(candidate.accuracy, best - settings.depth_loss) else Outcome.BAD


def on_target(settings: EgnasSettings, candidate: Evaluation) -> bool:
  """Returns whether a network is so good that the depth walk ends."""
  trained = candidate.metrics.get('train_accuracy', 0.0)
  return reaches(candidate.accuracy, settings.target_accuracy) or reaches(trained, settings.target_train_accuracy)


def width_rule(settings: EgnasSettings, best: float, candidate: Evaluation) -> Outcome:
  """Accepts at best - tolerance, ties included; a failed candidate is bad."""
  accepted = candidate.ok and reaches(candidate.accuracy, best - settings.width_tolerance)
  return Outcome.ACCEPT if accepted else Outcome.BAD


def micro_rule(settings: EgnasSettings, incumbent: Sequence[float | None], candidates: Sequence[Evaluation]) -> Outcome:
  """Accepts if the mean gain over the replicates exceeds the margin.

  Candidate and incumbent are compared replicate by replicate; one that failed for the incumbent (None) is left out, a
  candidate with a failed one is bad. The incumbent's accuracies are those it was accepted with: the same requests would give
  the same answers. Selection makes them optimistic, which only raises the bar for later changes.
  """
  if not all(c.ok for c in candidates):
    return Outcome.BAD
  gain = statistics.fmean(c.accuracy - a for a, c in zip(incumbent, candidates, strict=True) if a is not None)
  return Outcome.ACCEPT if exceeds(gain, settings.micro_margin) else Outcome.BAD


def failures_after(outcome: Outcome, failures: int) -> int:
  """Returns the failures since the last acceptance; a neutral candidate neither counts nor resets them."""
  return 0 if outcome.accepted else failures + (outcome is Outcome.BAD)


def shrink(space: Chains, task: Task, architecture: ChainArchitecture, limit: int | None,
           allows: Callable[[ChainArchitecture], bool]) -> ChainArchitecture | None:
  """Returns the architecture at the largest width up to its own that is allowed, with at most `limit` parameters; else None.

  It goes below the space's smallest width, as the published code does.
  """
  for width in range(architecture.width, 0, -1):
    shrunk = dataclasses.replace(architecture, width=width)
    if (limit is None or space.num_params(shrunk, task) <= limit) and allows(shrunk):
      return shrunk
  return None

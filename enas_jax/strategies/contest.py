"""How sure it is that one network is better than another, from replicates of both: decisions that know their noise.

A pair is one replicate of each network, trained on the same batches; what the pairs differ by has a spread, which all decisions
of a search estimate together. The certainty is Student's: the probability that the true mean gain exceeds the margin, given the
gains seen and nothing known before.

What pairs differ by may be another metric than the one that matters: a quieter one, such as the training loss, shows a
difference with fewer replicates (Ru et al., NeurIPS 2021, arXiv 2006.04492). Then the mean gain in accuracy over the pairs must
be as large as is asked for, too, whether that is sure or not.

Replicates are added until it is decided, each time as many as there are, so there are a few looks at the same gains. Each look
has its share of the allowed error (Bonferroni), as large as its part of the pairs is new (linear spending: Lan and DeMets,
Biometrika 1983): of changes that change nothing at most 1 - confidence are accepted. A change that looks like a loss, or as if
it gained less accuracy than is asked for, is given up at any look: that only makes errors of this kind rarer.
"""
from __future__ import annotations

import dataclasses
import enum
import math
import statistics
from collections.abc import Sequence
from typing import Any

import scipy.special

ROUNDING = 2e-7  # Accuracies this near are equal; see egnas_rules.
KNOWS_ITS_SPREAD = 4  # Pairs; two alike by chance would seem to be sure of what they say.
# What a decision is sure of, by the metric that pairs are compared by.
WHAT_OF = {'accuracy': 'of a gain', 'train_loss': 'of a lower training loss'}


class Verdict(enum.Enum):
  """What a look at the gains says."""

  BETTER = 'better'
  NOT = 'not'  # Not shown to be better.
  OPEN = 'open'  # More replicates are needed.


@dataclasses.dataclass(frozen=True)
class Spread:
  """The spread of gains about the mean of their decision, over decisions: sum of squares and degrees of freedom."""

  squares: float = 0.0
  degrees: int = 0

  def add(self, gains: Sequence[float]) -> Spread:
    """Returns the spread with a decision's gains, one a pair."""
    mean = statistics.fmean(gains) if gains else 0.0
    return Spread(self.squares + sum((g - mean)**2 for g in gains), self.degrees + max(0, len(gains) - 1))


@dataclasses.dataclass(frozen=True)
class Decision:
  """What is told of a decision.

  Attributes:
    phase: where in the search.
    network: the candidate, as text.
    gain: its mean gain in accuracy over the network kept so far.
    pairs: how many replicates of both were compared.
    certainty: that the true gain in the metric decided by exceeds the margin; None where nothing is known of the spread.
    accepted: whether the candidate was kept.
    margin: the gain that was asked for; below 0 a loss that was allowed.
    metric: 'accuracy', or 'train_loss', of which a gain is a lower one.
    least: the mean gain in accuracy that was asked for beside.
  """

  phase: str
  network: str
  gain: float
  pairs: int
  certainty: float | None
  accepted: bool
  margin: float = 0.0
  metric: str = 'accuracy'
  least: float = 0.0

  def to_json(self) -> dict[str, Any]:
    """Returns a plain record."""
    return dataclasses.asdict(self)

  def __str__(self) -> str:
    what = f'of more than {100 * self.margin:+.2f}' if self.margin else WHAT_OF[self.metric]
    sure = 'certainty unknown' if self.certainty is None else f'{100 * self.certainty:.1f} % sure {what}'
    pairs = f'{self.pairs} pair{"s" if self.pairs > 1 else ""}'
    gain = f'{100 * self.gain:+.2f} points' + (f' ({100 * self.least:.2f} asked)' if self.least > 0 else '')
    return f"{self.phase}: {self.network} {'is kept' if self.accepted else 'is not kept'}, {gain} over {pairs}, {sure}"


def certainty(gains: Sequence[float], margin: float, spread: Spread) -> float | None:
  """Returns the probability that the true mean gain exceeds the margin; None without any degree of freedom.

  Args:
    gains: one a pair, at least one.
    margin: the gain that is asked for.
    spread: of all decisions before; that of these gains is added.
  """
  pooled = spread.add(gains)
  if not pooled.degrees:
    return None
  excess = statistics.fmean(gains) - margin
  if abs(excess) <= ROUNDING:
    return 0.5
  error = math.sqrt(pooled.squares / pooled.degrees / len(gains))
  return float(scipy.special.stdtr(pooled.degrees, excess / error)) if error > ROUNDING else float(excess > 0)


def judge(gains: Sequence[float], margin: float, spread: Spread, *, confidence: float, share: float, last: bool,
          accuracy: Sequence[float], least: float = 0.0) -> Verdict:
  """Decides whether a candidate is better by the margin, is not, or needs more replicates.

  Args:
    gains, margin, spread: as of `certainty`.
    confidence: of the whole decision, in (0, 1).
    share: of the error 1 - confidence that this look may make, in (0, 1]; those of all looks sum to 1 at most.
    last: whether this is the last look.
    accuracy: the gains in accuracy, likewise one a pair;
    least: what their mean must be. Where four or more are two standard errors below, there is no use in more pairs.
  """
  sure = certainty(gains, margin, spread)
  missing = least - statistics.fmean(accuracy)
  if sure is not None and sure >= 1 - (1 - confidence) * share and missing <= ROUNDING:
    return Verdict.BETTER
  error = statistics.stdev(accuracy) / math.sqrt(len(accuracy)) if len(accuracy) >= KNOWS_ITS_SPREAD else math.inf
  hopeless = statistics.fmean(gains) <= margin + ROUNDING or missing > 2 * error + ROUNDING
  return Verdict.NOT if last or hopeless else Verdict.OPEN

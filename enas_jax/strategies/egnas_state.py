"""The state of EG-NAS: a plain record of where the walk stands."""
from __future__ import annotations

import dataclasses
import statistics
from typing import Any, TypeVar

from enas_jax.spaces.chain import ChainArchitecture, Chains
from enas_jax.strategies.contest import Decision, Spread

Accuracies = tuple[float | None, ...]
T = TypeVar('T')
ARCHITECTURES = ('kept', 'macro', 'start')  # Fields of the state.


@dataclasses.dataclass(frozen=True, kw_only=True)
class EgnasState:
  """Where the walk stands.

  Attributes:
    phase: 'kernels', 'depth', 'width', 'baseline', 'operation', 'kernel' or 'done'.
    step: decisions of this phase so far.
    failures: bad candidates since the last acceptance.
    kept: the last accepted network; None before the first. In the micro phases at its shrunk width.
    accuracies: of the kept network, by replicate; None for a failed one.
    width_start: epochs from which the width walk's rule counts.
    macro: the result of the macro phases.
    start: the network with which a micro phase began: the width to shrink from, and the parameters to stay near.
    look: how often the open comparison was looked at without being decided.
    spread: of the gains in all decided comparisons.
    decisions: what was decided so far, with a confidence.
  """

  phase: str = 'depth'
  step: int = 0
  failures: int = 0
  kept: ChainArchitecture | None = None
  accuracies: Accuracies = ()
  width_start: int = 0
  macro: ChainArchitecture | None = None
  start: ChainArchitecture | None = None
  look: int = 0
  spread: Spread = dataclasses.field(default_factory=Spread)
  decisions: tuple[Decision, ...] = ()

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
    decisions = tuple(Decision(**decision) for decision in record.get('decisions', ()))
    spread = Spread(**record.get('spread', {}))
    return cls(**{**record, **networks, 'accuracies': tuple(record['accuracies']), 'spread': spread, 'decisions': decisions})


def not_none(value: T | None) -> T:
  """Returns a field of the state that this phase always has."""
  assert value is not None
  return value

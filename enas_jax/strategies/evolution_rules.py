"""What evolution is made of: its settings, its state, the stages' networks, domination and tournaments."""
from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from enas_jax.errors import UserError
from enas_jax.settings import at_least
from enas_jax.spaces.chain import ChainArchitecture, Chains
from enas_jax.strategies.budget import Spent
from enas_jax.types import Task

OBJECTIVES = (('accuracy',), ('accuracy', 'params'), ('accuracy', 'macs'))


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvolutionSettings:
  """The settings of evolution (`config.evolution`).

  Attributes:
    population: how many networks live, >= 1; as many are asked for before the first tournament of a stage.
    batch: how many children are asked for at once, >= 1.
    tournament: how many members are drawn for a tournament, 1 to `population`.
    macro_share: the macro stage's part of the budget, in (0, 1]; the rest is for operations and kernels.
    objectives: accuracy alone, or with the parameters or the multiply-adds: one of `OBJECTIVES`.
    max_params: the parameters that a network may have, beside `config.limits`, which hold for every strategy; 0 for no limit.
    max_macs: likewise the multiply-adds.
  """

  population: int = 8
  batch: int = 2
  tournament: int = 3
  macro_share: float = 0.5
  objectives: tuple[str, ...] = ('accuracy',)
  max_params: int = 0
  max_macs: int = 0

  def __post_init__(self) -> None:
    """Raises UserError for a value out of range."""
    at_least(self, 1, 'population', 'batch', 'tournament', prefix='config.evolution')
    if self.tournament > self.population:
      raise UserError(f'config.evolution.tournament {self.tournament} is above population {self.population}; lower it')
    if not 0 < self.macro_share <= 1:
      raise UserError(f'config.evolution.macro_share {self.macro_share} is outside (0, 1]; give for example 0.5')
    if self.objectives not in OBJECTIVES:
      raise UserError(f'config.evolution.objectives {self.objectives} is not one of {OBJECTIVES}')
    for name in ('max_params', 'max_macs'):
      if getattr(self, name) < 0:
        raise UserError(f'config.evolution.{name} {getattr(self, name)} is negative; give 0 for no limit')


@dataclasses.dataclass(frozen=True)
class Member:
  """A successful network; `size` is the second objective, 0 without one."""

  architecture: ChainArchitecture
  accuracy: float
  size: int

  def dominates(self, other: Member) -> bool:
    """Returns whether this one is as accurate and as small as the other, and better in one."""
    no_worse = self.accuracy >= other.accuracy and self.size <= other.size
    return no_worse and (self.accuracy > other.accuracy or self.size < other.size)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvolutionState:
  """Where evolution stands.

  Attributes:
    seed: random choices follow from it
    round: and the number of batches told.
    stage: 'macro', 'micro' or 'done'.
    spent: what both stages have spent.
    seen: every network of this stage told so far, failed ones included.
    population: the living members, the oldest first.
    archive: the stage's non-dominated members.
    macro_front: the macro stage's archive at its end; empty before.
  """

  seed: int
  round: int = 0
  stage: str = 'macro'
  spent: Spent = dataclasses.field(default_factory=Spent)
  seen: tuple[ChainArchitecture, ...] = ()
  population: tuple[Member, ...] = ()
  archive: tuple[Member, ...] = ()
  macro_front: tuple[Member, ...] = ()

  @property
  def macro_winner(self) -> Member | None:
    """The macro stage's most accurate member; None during that stage."""
    return most_accurate(self.macro_front)

  def to_json(self) -> dict[str, Any]:
    """Returns a plain record."""
    return {
        **dataclasses.asdict(self),
        'seen': [a.to_json() for a in self.seen],
        'population': [_member_to_json(m) for m in self.population],
        'archive': [_member_to_json(m) for m in self.archive],
        'macro_front': [_member_to_json(m) for m in self.macro_front],
    }

  @classmethod
  def from_json(cls, record: Mapping[str, Any], space: Chains) -> EvolutionState:
    """Reads what `to_json` gives."""

    def member(plain: Mapping[str, Any]) -> Member:
      return Member(**{**plain, 'architecture': space.from_json(plain['architecture'])})

    return cls(**{
        **record,
        'spent': Spent(**record['spent']),
        'seen': tuple(space.from_json(a) for a in record['seen']),
        'population': tuple(member(m) for m in record['population']),
        'archive': tuple(member(m) for m in record['archive']),
        'macro_front': tuple(member(m) for m in record['macro_front']),
    })


def _member_to_json(member: Member) -> dict[str, Any]:
  return {'architecture': member.architecture.to_json(), 'accuracy': member.accuracy, 'size': member.size}


def most_accurate(members: Sequence[Member]) -> Member | None:
  """Returns the first of the most accurate; None of none."""
  return max(members, key=lambda m: m.accuracy, default=None)


def non_dominated(members: Sequence[Member]) -> tuple[Member, ...]:
  """Returns the members that no other one dominates, in their order; of equals the first."""
  kept: list[Member] = []
  for m in members:
    if not any(k.dominates(m) or (k.accuracy, k.size) == (m.accuracy, m.size) for k in kept):
      kept = [k for k in kept if not m.dominates(k)] + [m]
  return tuple(kept)


def tournament(population: Sequence[Member], settings: EvolutionSettings, rng: np.random.Generator) -> Member:
  """Returns one of the non-dominated members of a random sample; with one objective, the sample's most accurate."""
  drawn = rng.choice(len(population), size=min(settings.tournament, len(population)), replace=False)
  front = non_dominated([population[i] for i in drawn])
  return front[rng.integers(len(front))]


class Stage:
  """The networks of the two stages, within the limits."""

  def __init__(self, space: Chains, task: Task, settings: EvolutionSettings,
               allows: Callable[[ChainArchitecture], bool] = lambda network: True) -> None:
    """Takes the space, what networks are for, and the limits: evolution's own and those of every strategy."""
    self._space = space
    self._task = task
    self._settings = settings
    self._allows = allows
    self.macro_networks = tuple(
        a for depth in space.depths for width in space.widths if self._fits(a := self._plain(depth, width)))

  def neighbours(self, network: ChainArchitecture, stage: str) -> Iterator[ChainArchitecture]:
    """Yields those one change away: of depth or width in the macro stage, of an operation or a kernel in the micro stage."""
    for other in self._space.neighbours(network):
      if stage == 'macro':
        belongs = other == self._plain(other.depth, other.width)
      else:
        belongs = (other.depth, other.width) == (network.depth, network.width)
      if belongs and self._fits(other):
        yield other

  def size_of(self, network: ChainArchitecture) -> int:
    """Returns the second objective, 0 without one."""
    sizes = {'params': self._space.num_params, 'macs': self._space.macs}
    return sum(sizes[name](network, self._task) for name in self._settings.objectives[1:])

  def _plain(self, depth: int, width: int) -> ChainArchitecture:
    return ChainArchitecture.uniform(depth, width, kernel=self._space.kernels[0])

  def _fits(self, network: ChainArchitecture) -> bool:
    settings, sizes = self._settings, (self._space.num_params, self._space.macs)
    limits = (settings.max_params, settings.max_macs)
    own = all(not limit or size(network, self._task) <= limit for limit, size in zip(limits, sizes, strict=True))
    return own and self._allows(network)

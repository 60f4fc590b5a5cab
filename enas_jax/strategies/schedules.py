"""The architecture-aware part of a schedule: how many epochs a candidate gets (EG-NAS, section "variable training scheme").

Only the epoch count depends on the architecture, and with it the horizon of the cosine; the rest is one setting for all.
Outside the chain space, where there is no depth and width to follow, all have the first epochs.
"""
from __future__ import annotations

import dataclasses

from ml_collections import ConfigDict

from enas_jax.errors import UserError
from enas_jax.spaces.base import SearchSpace
from enas_jax.spaces.chain import ChainArchitecture, ChainSpace
from enas_jax.types import Architecture, Schedule


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedules:
  """Epochs by depth and width, and the schedules that follow.

  Attributes:
    space: of chains its smallest depth and largest width are where `first` holds.
    template: a schedule whose epochs are replaced.
    first: epochs at the smallest depth and the largest width, >= 1; in other spaces of every network.
    per_layer: more for each layer more, >= 0. Of chains alone, as the next two.
    per_width_step: more for each width step narrower, >= 0.
    micro: epochs of every candidate of a micro phase, >= 1.
    final: epochs of the winner, >= 1.
  """

  space: SearchSpace
  template: Schedule
  first: int
  per_layer: int
  per_width_step: int
  micro: int
  final: int

  def __post_init__(self):
    """Raises UserError for a value out of range."""
    for name, least in (('first', 1), ('per_layer', 0), ('per_width_step', 0), ('micro', 1), ('final', 1)):
      if getattr(self, name) < least:
        raise UserError(f'config.epochs.{name} {getattr(self, name)} is below {least}; give at least {least}')

  @classmethod
  def from_config(cls, config: ConfigDict, space: SearchSpace) -> Schedules:
    """From `config.epochs` and `config.training`. Raises UserError for a setting out of range."""
    return cls(space=space, template=Schedule(epochs=1, **config.training.to_dict()), **config.epochs.to_dict())

  @property
  def chains(self) -> ChainSpace:
    """The space, for strategies that walk in depth and width. Raises UserError for one without."""
    if not isinstance(self.space, ChainSpace):
      raise UserError(f"space '{self.space.name}' has no depth and width to walk in; give the space chain or another strategy")
    return self.space

  def depth_epochs(self, depth: int) -> int:
    """first + per_layer (depth - smallest depth)."""
    return self.first + self.per_layer * (depth - self.chains.min_depth)

  def width_epochs(self, start: int, steps: int) -> int:
    """start + per_width_step x steps, where `steps` counts how often the width was narrowed."""
    return start + self.per_width_step * steps

  def of(self, epochs: int) -> Schedule:
    """The common schedule over this many epochs."""
    return dataclasses.replace(self.template, epochs=epochs)

  def of_macro(self, architecture: Architecture) -> Schedule:
    """Both rules at once: the epochs depend on depth and width alone, not on the way of a search."""
    if not (isinstance(self.space, ChainSpace) and isinstance(architecture, ChainArchitecture)):
      return self.of(self.first)
    steps = (self.space.max_width - architecture.width) // self.space.width_step
    return self.of(self.width_epochs(self.depth_epochs(architecture.depth), steps))

  def of_micro(self) -> Schedule:
    """For every candidate of a micro phase."""
    return self.of(self.micro)

"""The architecture-aware part of a schedule: how many epochs a candidate gets (EG-NAS, section "variable training scheme").

Only the epoch count depends on the architecture, and with it the horizon of the cosine; the rest is one setting for all.
"""
from __future__ import annotations

import dataclasses

from ml_collections import ConfigDict

from enas_jax.errors import UserError
from enas_jax.spaces.base import SearchSpace
from enas_jax.spaces.chain import ChainArchitecture, ChainSpace
from enas_jax.types import Schedule


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedules:
  """Epochs by depth and width, and the schedules that follow.

  Attributes:
    space: its smallest depth and largest width are where `first` holds.
    template: a schedule whose epochs are replaced.
    first: epochs at the smallest depth and the largest width, >= 1.
    per_layer: more for each layer more, >= 0.
    per_width_step: more for each width step narrower, >= 0.
    micro: epochs of every candidate of a micro phase, >= 1.
    final: epochs of the winner, >= 1.
  """

  space: ChainSpace
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
    """From `config.epochs` and `config.training`. Raises UserError for a space without depth and width."""
    if not isinstance(space, ChainSpace):
      raise UserError(f"space '{space.name}' has no depth and width for epochs to follow; give --config.space=chain")
    return cls(space=space, template=Schedule(epochs=1, **config.training.to_dict()), **config.epochs.to_dict())

  def depth_epochs(self, depth: int) -> int:
    """first + per_layer (depth - smallest depth)."""
    return self.first + self.per_layer * (depth - self.space.min_depth)

  def width_epochs(self, start: int, steps: int) -> int:
    """start + per_width_step x steps, where `steps` counts how often the width was narrowed."""
    return start + self.per_width_step * steps

  def of(self, epochs: int) -> Schedule:
    """The common schedule over this many epochs."""
    return dataclasses.replace(self.template, epochs=epochs)

  def of_macro(self, architecture: ChainArchitecture) -> Schedule:
    """Both rules at once: the epochs depend on depth and width alone, not on the way of a search."""
    steps = (self.space.max_width - architecture.width) // self.space.width_step
    return self.of(self.width_epochs(self.depth_epochs(architecture.depth), steps))

  def of_micro(self) -> Schedule:
    """For every candidate of a micro phase."""
    return self.of(self.micro)

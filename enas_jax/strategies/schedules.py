"""The architecture-aware part of a schedule: how many epochs a candidate gets (EG-NAS, section "variable training scheme").

Only the epoch count depends on the architecture, and with it the horizon of the cosine; the rest is one setting for all. In a
space without depth and width every candidate gets the first epochs.
"""
from __future__ import annotations

import dataclasses
import functools
from typing import Generic

from ml_collections import ConfigDict

from enas_jax import settings
from enas_jax.errors import UserError
from enas_jax.spaces.base import HasDepthAndWidth, SearchSpace
from enas_jax.spaces.chain import Chains
from enas_jax.types import A, Schedule


@dataclasses.dataclass(frozen=True, kw_only=True)
class Epochs:
  """How long networks are trained (`config.epochs`).

  Attributes:
    first: epochs at the smallest depth and the largest width or beyond, >= 1; in spaces without these of all networks.
    per_layer: epochs more for each layer more, >= 0.
    per_width_step: epochs more for each width step narrower, >= 0. (With the paper's 2 a kept network is trained anew, too.)
    micro: epochs of every candidate of a micro phase, >= 1.
    final: epochs of the winner, >= 1.
  """

  first: int = 2
  per_layer: int = 0
  per_width_step: int = 0
  micro: int = 2
  final: int = 14

  def __post_init__(self) -> None:
    """Raises UserError for a value out of range."""
    for name, least in (('first', 1), ('per_layer', 0), ('per_width_step', 0), ('micro', 1), ('final', 1)):
      settings.at_least(self, least, name, prefix='config.epochs')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedules(Generic[A]):
  """The schedule of each candidate of a space.

  Attributes:
    space: if it has depth and width, `epochs.first` holds at its smallest depth and largest width.
    template: a schedule whose epochs are replaced.
    epochs: how many they are, by depth and width.
  """

  space: SearchSpace[A]
  template: Schedule
  epochs: Epochs

  @classmethod
  def from_config(cls, config: ConfigDict, space: SearchSpace[A]) -> Schedules[A]:
    """Reads `config.epochs` and `config.training`. Raises UserError for a setting out of range."""
    template = Schedule(epochs=1, **config.training.to_dict())
    return cls(space=space, template=template, epochs=settings.read(Epochs, config.epochs, 'epochs'))

  @property
  def chains(self) -> Chains:
    """The space, for strategies that walk in depth and width. Raises UserError for a space of something else than chains."""
    if not isinstance(self.space, Chains):
      raise UserError(f"space '{self.space.name}' has no depth and width to walk in; give the space chain, or another "
                      'strategy, such as --config.strategy=random')
    return self.space

  def depth_epochs(self, depth: int) -> int:
    """Returns first + per_layer (depth - smallest depth). Raises UserError as `chains` does."""
    return self.epochs.first + self.epochs.per_layer * (depth - self.chains.min_depth)

  def width_epochs(self, start: int, steps: int) -> int:
    """Returns start + per_width_step x steps, where `steps` counts how often the width was narrowed."""
    return start + self.epochs.per_width_step * steps

  def of(self, epochs: int) -> Schedule:
    """Returns the common schedule over this many epochs."""
    return dataclasses.replace(self.template, epochs=epochs)

  def of_macro(self, architecture: A) -> Schedule:
    """Returns the schedule by both rules at once: epochs depend on depth and width alone, not on the way of a search."""
    layers, steps = (0, 0) if self._sizes is None else self._sizes.size_steps(architecture)
    return self.of(self.width_epochs(self.epochs.first + self.epochs.per_layer * layers, max(0, steps)))

  def of_micro(self) -> Schedule:
    """Returns the schedule of every candidate of a micro phase."""
    return self.of(self.epochs.micro)

  @functools.cached_property
  def _sizes(self) -> HasDepthAndWidth[A] | None:
    return self.space if isinstance(self.space, HasDepthAndWidth) else None

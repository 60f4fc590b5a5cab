"""Parts of a space: what a search may draw from where not all of it is allowed or known."""
from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, Generic

import numpy as np

from enas_jax import settings
from enas_jax.errors import UserError
from enas_jax.spaces.base import Graph, SearchSpace
from enas_jax.types import A, Architecture, Task

TRIES = 10_000  # Draws of which one must be within the limits.
STEPS = 100  # Changes of which one must be.


class Part(Generic[A]):
  """Some members of a space. What it tells of one of them is as in the whole space; subclasses draw, walk and count."""

  def __init__(self, whole: SearchSpace[A]) -> None:
    self._whole = whole

  @property
  def name(self) -> str:
    return self._whole.name

  @property
  def labels(self) -> tuple[str, ...]:
    return self._whole.labels

  @property
  def max_nodes(self) -> int:
    return self._whole.max_nodes

  def check(self, architecture: A) -> None:
    self._whole.check(architecture)

  def num_params(self, architecture: A, task: Task) -> int:
    return self._whole.num_params(architecture, task)

  def macs(self, architecture: A, task: Task) -> int:
    return self._whole.macs(architecture, task)

  def graph(self, architecture: A) -> Graph:
    return self._whole.graph(architecture)

  def identity(self, architecture: A) -> str:
    return self._whole.identity(architecture)

  def key(self, architecture: A) -> int | bytes:
    return self._whole.key(architecture)

  def to_string(self, architecture: A) -> str:
    return self._whole.to_string(architecture)

  def from_string(self, text: str) -> A:
    return self._whole.from_string(text)

  def from_json(self, record: Mapping[str, Any]) -> A:
    return self._whole.from_json(record)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
  """How large networks may be (`config.limits`), whatever the strategy; larger ones are never trained.

  Attributes:
    params: the parameters that a network may have; 0 for no limit.
    macs: its multiply-adds for one image; 0 for no limit.
  """

  params: int = 0
  macs: int = 0

  def __post_init__(self) -> None:
    """Raises UserError for a value out of range."""
    settings.at_least(self, 0, 'params', 'macs', prefix='config.limits')

  def __bool__(self) -> bool:
    return bool(self.params or self.macs)

  def __str__(self) -> str:
    return ' and '.join(f'config.limits.{name} {value:,}' for name, value in dataclasses.asdict(self).items() if value)

  def allow(self, architecture: Architecture, space: SearchSpace[Any], task: Task) -> bool:
    """Returns whether a network of a space is within the limits."""
    return all(not limit or size(architecture, task) <= limit for limit, size in (
        (self.params, space.num_params), (self.macs, space.macs)))


class Within(Part[A]):
  """A `SearchSpace` of those members of a space whose networks for a task are within the limits."""

  def __init__(self, whole: SearchSpace[A], limits: Limits, task: Task) -> None:
    super().__init__(whole)
    self._limits, self._task = limits, task

  def sample(self, rng: np.random.Generator) -> A:
    """Draws from the whole space until a member is within. Raises UserError if that takes more than `TRIES` draws."""
    for _ in range(TRIES):
      if self._allows(drawn := self._whole.sample(rng)):
        return drawn
    raise UserError(f"{self._limits}: none of {TRIES:,} networks drawn from the space '{self.name}' is that small; raise it, "
                    'or make the space smaller')

  def mutate(self, architecture: A, rng: np.random.Generator) -> A:
    """Draws a change that stays within; any other member if none of `STEPS` does."""
    for _ in range(STEPS):
      if self._allows(changed := self._whole.mutate(architecture, rng)):
        return changed
    return self.sample(rng)

  def neighbours(self, architecture: A) -> Iterator[A]:
    """Yields the whole space's neighbours that are within."""
    return filter(self._allows, self._whole.neighbours(architecture))

  def size(self) -> int:
    """Returns the size of the whole space: how many of its members are within is not known."""
    return self._whole.size()

  def _allows(self, architecture: A) -> bool:
    return self._limits.allow(architecture, self._whole, self._task)

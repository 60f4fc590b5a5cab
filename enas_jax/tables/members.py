"""A part of a space: the rows of a table."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from enas_jax.spaces.base import SearchSpace
from enas_jax.tables.table import Table
from enas_jax.types import Architecture


class Members:
  """The space of a table's rows; what is not said here is as in the whole space."""

  def __init__(self, table: Table):
    self._table = table
    self._near: dict[Architecture, tuple[Architecture, ...]] = {}

  def __getattr__(self, name: str) -> Any:
    if name.startswith('_'):  # As copying asks for, before there is a table.
      raise AttributeError(name)
    return getattr(self._table.space, name)

  def sample(self, rng: np.random.Generator) -> Architecture:
    """A row, uniform."""
    return self._table.architecture(int(rng.integers(len(self._table))))

  def mutate(self, architecture: Architecture, rng: np.random.Generator) -> Architecture:
    """One of the `neighbours`, uniform; where none is in the table, any other row."""
    if neighbours := self._neighbours(architecture):
      return neighbours[int(rng.integers(len(neighbours)))]
    row = self._table.row(architecture)
    assert row is not None  # It is a member.
    return self._table.architecture((row + int(rng.integers(1, len(self._table)))) % len(self._table))

  def neighbours(self, architecture: Architecture) -> Iterator[Architecture]:
    """The whole space's neighbours that are in the table, isomorphic ones once and as the table has them."""
    return iter(self._neighbours(architecture))

  def size(self) -> int:
    """The number of rows."""
    return len(self._table)

  def _neighbours(self, architecture: Architecture) -> tuple[Architecture, ...]:
    """Found once: strategies ask again and again, and a key can cost much (NAS-Bench-101's hash)."""
    if architecture not in self._near:
      rows = (self._table.row(n) for n in self._table.space.neighbours(architecture))
      self._near[architecture] = tuple(map(self._table.architecture, dict.fromkeys(r for r in rows if r is not None)))
    return self._near[architecture]


def members(table: Table) -> SearchSpace:
  """What a search on the table can draw from: its space, or its rows where it lacks some, or each is many architectures."""
  is_whole = len(table) == table.space.size() and table.keys.dtype.kind != 'S'
  return table.space if is_whole else Members(table)

"""The rows of a table as a space, for a table that does not hold all of its space."""
from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from enas_jax.spaces.base import SearchSpace
from enas_jax.spaces.part import Part
from enas_jax.tables.table import Table
from enas_jax.types import A


class Members(Part[A]):
  """A `SearchSpace` whose members are the rows of a table."""

  def __init__(self, table: Table[A]):
    super().__init__(table.space)
    self._table = table
    self._near: dict[A, tuple[A, ...]] = {}

  def sample(self, rng: np.random.Generator) -> A:
    """Draws a row, uniformly."""
    return self._table.architecture(int(rng.integers(len(self._table))))

  def mutate(self, architecture: A, rng: np.random.Generator) -> A:
    """Draws one of the `neighbours`, uniformly; any other row if none of them is in the table."""
    if neighbours := self._neighbours(architecture):
      return neighbours[int(rng.integers(len(neighbours)))]
    row = self._table.row(architecture)
    assert row is not None  # It is a member.
    return self._table.architecture((row + int(rng.integers(1, len(self._table)))) % len(self._table))

  def neighbours(self, architecture: A) -> Iterator[A]:
    """Yields the whole space's neighbours that are in the table, isomorphic ones once and as the table has them."""
    return iter(self._neighbours(architecture))

  def size(self) -> int:
    """Returns the number of rows."""
    return len(self._table)

  def _neighbours(self, architecture: A) -> tuple[A, ...]:
    """Returns the neighbours, found once: strategies ask again and again, and a key can cost much (NAS-Bench-101's hash)."""
    if architecture not in self._near:
      rows = (self._table.row(n) for n in self._whole.neighbours(architecture))
      self._near[architecture] = tuple(map(self._table.architecture, dict.fromkeys(r for r in rows if r is not None)))
    return self._near[architecture]


def members(table: Table[A]) -> SearchSpace[A]:
  """Returns the space that a search on the table draws from.

  That is the table's own space if it has a row for each member, and `Members` if it lacks some, or if its keys are texts: then
  many architectures can be one row.
  """
  is_whole = len(table) == table.space.size() and table.keys.dtype.kind != 'S'
  return table.space if is_whole else Members(table)

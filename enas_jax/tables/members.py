"""The rows of a table as a space, for a table that does not hold all of its space."""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Generic

import numpy as np

from enas_jax.spaces.base import Graph, SearchSpace
from enas_jax.tables.table import Table
from enas_jax.types import A, Task


class Members(Generic[A]):
  """A `SearchSpace` whose members are the rows of a table. What it tells of one architecture is as in the whole space."""

  def __init__(self, table: Table[A]):
    self._table, self._whole = table, table.space
    self._near: dict[A, tuple[A, ...]] = {}

  @property
  def name(self) -> str:
    return self._whole.name

  @property
  def labels(self) -> tuple[str, ...]:
    return self._whole.labels

  @property
  def max_nodes(self) -> int:
    return self._whole.max_nodes

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

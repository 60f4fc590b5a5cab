"""What a search space offers. A space is pure data: it imports no network, strategy or estimator."""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np

from enas_jax.types import Architecture, Task


class Graph(NamedTuple):
  """An architecture as a labelled directed graph: an operation a node, edges (i, j) with i < j. Of cells with operations on
  edges each edge is a node here."""

  operations: tuple[str, ...]
  edges: tuple[tuple[int, int], ...]


class SearchSpace(Protocol):
  """A set of architectures that can be drawn from, walked in and counted.

  `rng` is a NumPy generator: choices are made on the host, and a strategy's state then holds integers alone.

  Attributes:
    name: as in `config.space` and in JSON.
    labels: every operation that a node of a `graph` can have, in a fixed order.
    max_nodes: of any member's graph.
  """

  name: str
  labels: tuple[str, ...]
  max_nodes: int

  def sample(self, rng: np.random.Generator) -> Architecture:
    """A member, uniform over the space's own parametrisation."""

  def mutate(self, architecture: Architecture, rng: np.random.Generator) -> Architecture:
    """A different member, one elementary change away."""

  def neighbours(self, architecture: Architecture) -> Iterator[Architecture]:
    """Every member one elementary change away, each once."""

  def size(self) -> int:
    """The number of members, exact."""

  def check(self, architecture: Architecture) -> None:
    """Raises UserError where the architecture is not a member."""

  def num_params(self, architecture: Architecture, task: Task) -> int:
    """Trainable parameters of the network."""

  def macs(self, architecture: Architecture, task: Task) -> int:
    """Multiply-adds of one image's forward pass (convolutions and linear layers). FLOPs are twice that."""

  def graph(self, architecture: Architecture) -> Graph:
    """The network as a labelled graph."""

  def identity(self, architecture: Architecture) -> str:
    """Equal for two members exactly where they are isomorphic: the same network up to the order of nodes and dead parts."""

  def key(self, architecture: Architecture) -> int | bytes:
    """What names a member's row in a table: its place in the enumeration of a small space, else a text of it.

    Raises UserError where a benchmark's skeleton around the cell is not the one that was trained.
    """

  def to_string(self, architecture: Architecture) -> str:
    """The benchmark's own text for an architecture, or a short one of ours; `from_string` reads it."""

  def from_string(self, text: str) -> Architecture:
    """Reads `to_string`. Raises UserError, which names the bad part, for anything else."""

  def from_json(self, record: Mapping[str, Any]) -> Architecture:
    """Reads `Architecture.to_json`. Raises UserError for another space, version, field or value."""

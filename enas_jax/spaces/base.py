"""What a search space offers. A space is pure data: it imports no network, strategy or estimator."""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np

from enas_jax.types import A, Architecture, Task

A_co = TypeVar('A_co', bound=Architecture, covariant=True)
A_contra = TypeVar('A_contra', bound=Architecture, contravariant=True)


class Graph(NamedTuple):
  """An architecture as a labelled directed graph. A cell with operations on its edges has one node here for each edge.

  Attributes:
    operations: the label of each node.
    edges: pairs of nodes (i, j) with i < j, from i to j.
  """

  operations: tuple[str, ...]
  edges: tuple[tuple[int, int], ...]


class SearchSpace(Protocol[A]):
  """A set of architectures of type A that can be drawn from, walked in and counted.

  `rng` is a NumPy generator: choices are made on the host, and a strategy's state then holds integers alone. A space with depth
  and width is a `HasDepthAndWidth` too.
  """

  @property
  def name(self) -> str:
    """The word for the space in `config.space` and in JSON."""

  @property
  def labels(self) -> tuple[str, ...]:
    """Every operation that a node of a `graph` can have, in a fixed order."""

  @property
  def max_nodes(self) -> int:
    """The most nodes that the graph of a member has."""

  def sample(self, rng: np.random.Generator) -> A:
    """Draws a member, uniformly over the space's own parametrisation."""

  def mutate(self, architecture: A, rng: np.random.Generator) -> A:
    """Draws a different member, one elementary change away."""

  def neighbours(self, architecture: A) -> Iterator[A]:
    """Yields every member that is one elementary change away, each once."""

  def size(self) -> int:
    """Returns the exact number of members."""

  def check(self, architecture: A) -> None:
    """Checks that an architecture is a member. Raises UserError if it is not."""

  def num_params(self, architecture: A, task: Task) -> int:
    """Returns the number of trainable parameters of the network."""

  def macs(self, architecture: A, task: Task) -> int:
    """Returns the multiply-adds of one image's forward pass (convolutions and linear layers). FLOPs are twice that."""

  def graph(self, architecture: A) -> Graph:
    """Returns the network as a labelled graph."""

  def identity(self, architecture: A) -> str:
    """Returns a text that two members share exactly if they are isomorphic.

    Isomorphic members are the same network up to the order of its nodes and up to parts that the output does not use.
    """

  def key(self, architecture: A) -> int | bytes:
    """Returns what names a member's row in a table: its place in the enumeration of a small space, else a text of it.

    Raises UserError if a benchmark's skeleton around the cell is not the one that was trained.
    """

  def to_string(self, architecture: A) -> str:
    """Returns the benchmark's own text for an architecture, or a short one of ours; `from_string` reads it."""

  def from_string(self, text: str) -> A:
    """Reads what `to_string` gives. Raises UserError, which names the bad part, for anything else."""

  def from_json(self, record: Mapping[str, Any]) -> A:
    """Reads what `Architecture.to_json` gives. Raises UserError for another space, version, field or value."""


@runtime_checkable
class HasDepthAndWidth(Protocol[A_contra]):
  """What a space offers beside `SearchSpace` if its members have a depth and a width: optional, and asked for by `isinstance`.

  Epochs that follow depth and width need it (`config.epochs`); spaces without it train every network for the same epochs.
  """

  @property
  def depths(self) -> range:
    """The depths of members, from the smallest up."""

  @property
  def widths(self) -> range:
    """The widths of members, from the largest down."""

  def size_steps(self, architecture: A_contra) -> tuple[int, int]:
    """Returns how many layers a member is deeper than the smallest depth, and how many width steps below the largest width."""


@runtime_checkable
class HasMiddle(Protocol[A_co]):
  """What a space offers beside `SearchSpace` if it has a member that one would take without a search: optional."""

  def middle(self) -> A_co:
    """Returns it: of middling size, and alike in every layer."""

"""Spaces whose members are one choice at each of several places: what follows from the choices, written once."""
from __future__ import annotations

import abc
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Generic

import numpy as np

from enas_jax.errors import UserError
from enas_jax.spaces.base import Graph
from enas_jax.types import A, Task

SEPARATOR = ','
LARGEST_KEY = 2**63  # Keys of larger spaces are texts.


class Choices(abc.ABC, Generic[A]):
  """A space of all ways to choose one option at each place. A subclass, a frozen dataclass of its settings, says the rest.

  Members are distinct networks, and their graph is a path of the options chosen; a subclass of other networks has `identity`,
  `labels`, `max_nodes` and `graph` of its own.

  Attributes:
    name: the word for the space in `config.space` and in JSON.
    options: the words for the options at each place, each word once a place and without a comma.
  """

  name: str
  options: Sequence[Sequence[str]]

  @abc.abstractmethod
  def member(self, chosen: tuple[str, ...]) -> A:
    """Returns the member with these options."""

  @abc.abstractmethod
  def chosen(self, architecture: A) -> tuple[str, ...]:
    """Returns the option at each place: what `member` takes."""

  @abc.abstractmethod
  def num_params(self, architecture: A, task: Task) -> int:
    """Returns the number of trainable parameters of the network."""

  @abc.abstractmethod
  def macs(self, architecture: A, task: Task) -> int:
    """Returns the multiply-adds of one image's forward pass (convolutions and linear layers)."""

  @abc.abstractmethod
  def from_json(self, record: Mapping[str, Any]) -> A:
    """Reads the architecture's `to_json`."""

  @property
  def labels(self) -> tuple[str, ...]:
    """Every operation that a node of a `graph` can have."""
    return ('input', *dict.fromkeys(word for words in self.options for word in words), 'output')

  @property
  def max_nodes(self) -> int:
    """The nodes of each member's graph."""
    return len(self.options) + 2

  def sample(self, rng: np.random.Generator) -> A:
    """Draws the option at each place, uniformly."""
    return self.member(tuple(words[int(rng.integers(len(words)))] for words in self.options))

  def mutate(self, architecture: A, rng: np.random.Generator) -> A:
    """Draws one of the `neighbours`, uniformly."""
    neighbours = list(self.neighbours(architecture))
    return neighbours[int(rng.integers(len(neighbours)))]

  def neighbours(self, architecture: A) -> Iterator[A]:
    """Yields every member with another option at one place."""
    chosen = self.chosen(architecture)
    for place, words in enumerate(self.options):
      for word in words:
        if word != chosen[place]:
          yield self.member((*chosen[:place], word, *chosen[place + 1:]))

  def size(self) -> int:
    """Returns the number of ways to choose."""
    return math.prod(map(len, self.options))

  def check(self, architecture: A) -> None:
    """Checks that an architecture is a member. Raises UserError if it is not."""
    if type(architecture) is not type(self.member(tuple(words[0] for words in self.options))):
      raise UserError(f'{architecture!r} is not a member of {self.name}')
    self._check(self.chosen(architecture))
    if self.member(self.chosen(architecture)) != architecture:
      raise UserError(f'{architecture!r} is not a member of {self}')

  def graph(self, architecture: A) -> Graph:
    """Returns input, the options and output; a path."""
    nodes = ('input', *self.chosen(architecture), 'output')
    return Graph(nodes, tuple((i, i + 1) for i in range(len(nodes) - 1)))

  def identity(self, architecture: A) -> str:
    """Returns the text: no two members are the same network."""
    return self.to_string(architecture)

  def key(self, architecture: A) -> int | bytes:
    """Returns the place in the enumeration, the first place the most significant; the text in spaces too large for that."""
    if self.size() > LARGEST_KEY:
      return self.to_string(architecture).encode()
    key = 0
    for word, words in zip(self.chosen(architecture), self.options, strict=True):
      key = key * len(words) + list(words).index(word)
    return key

  def to_string(self, architecture: A) -> str:
    """Returns the options with commas between."""
    return SEPARATOR.join(self.chosen(architecture))

  def from_string(self, text: str) -> A:
    """Reads what `to_string` gives. Raises UserError, which names the bad part, for anything else."""
    chosen = tuple(str(text).split(SEPARATOR))
    self._check(chosen)
    return self.member(chosen)

  def _check(self, chosen: Sequence[str]) -> None:
    if len(chosen) != len(self.options):
      raise UserError(f'{self.name}: {len(chosen)} options {tuple(chosen)}; give {len(self.options)}')
    for place, (word, words) in enumerate(zip(chosen, self.options, strict=True)):
      if word not in words:
        raise UserError(f"{self.name}: '{word}' at place {place} is not one of {', '.join(words)}")

"""What trains requests: one interface for the two engines, slots_engine.py and host_engine.py."""
from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from enas_jax.training.ladder import Outcome
from enas_jax.training.layout import Execution
from enas_jax.training.state import TrainingData
from enas_jax.types import Request


class Engine(Protocol):
  """What trains requests."""

  def train(self, requests: Sequence[Request]) -> Iterator[tuple[int, Outcome]]:
    """Yields (index into requests, outcome) as candidates end. Raises `Stopped` when told to stop."""

  def prepare(self, requests: Iterable[Request]) -> None:
    """Compiles the first program that these need and that is missing, while the present ones train."""

  def describe(self) -> str:
    """Says how candidates are trained, and why so; a line each."""

  def report(self) -> dict[str, float]:
    """Says how the programs were used so far; for result.json."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resources:
  """What an engine works with.

  Attributes:
    data: what to train and score on.
    seed: the search's.
    execution: how candidates run.
    memory_limit: bytes that a program may need; None: what the device has free.
    should_stop: polled every second or so; then `Stopped` is raised, and the candidates in training are lost.
  """

  data: TrainingData
  seed: int
  execution: Execution
  memory_limit: int | None = None
  should_stop: Callable[[], bool] = lambda: False

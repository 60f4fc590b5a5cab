"""The contract of a search strategy: it asks for candidates, is told what they are worth, and says when it is done.

All methods are pure: the whole search is in the state, one frozen dataclass that `to_json` turns into a plain record. A
strategy never trains anything and never imports an estimator.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

from enas_jax.strategies.contest import Decision
from enas_jax.types import Architecture, Evaluation, Needs, Request

A_co = TypeVar('A_co', bound=Architecture, covariant=True)
S = TypeVar('S')
S_contra = TypeVar('S_contra', contravariant=True)


class Strategy(Protocol[A_co, S]):
  """A search for architectures of type A_co whose whole state is an S: pure functions of the state."""

  @property
  def needs(self) -> Needs:
    """What it needs of the estimator."""

  def init(self, seed: int) -> S:
    """Returns the state before the first question."""

  def ask(self, state: S) -> tuple[Sequence[Request], S]:
    """Returns the next candidates, at least one unless `done`, and the state that `tell` takes.

    Asking again, from the state before or after, gives the same candidates.
    """

  def tell(self, state: S, evaluations: Sequence[Evaluation]) -> S:
    """Returns the state after the answers to the last `ask`, which are in its order."""

  def done(self, state: S) -> bool:
    """Returns whether the search is over."""

  def best(self, state: S) -> A_co | None:
    """Returns the network to train in the end, or None if no candidate has succeeded."""

  def front(self, state: S) -> list[dict[str, Any]]:
    """Returns the networks that no other network of their stage dominates; none if accuracy is the only objective.

    Each is a plain record of `stage` ('macro' or 'micro', or 'search' if there is one stage), `architecture`, `accuracy` (a
    fraction) and the other objectives by their names. Networks of different stages were trained for different epochs: compare
    accuracies within a stage only.
    """

  def outlook(self, state: S) -> Sequence[Request]:
    """Returns the requests that are still expected, for the estimate of the time left and for what is compiled ahead.

    Where the real ones are not known yet there are stand-ins of similar cost. No request comes twice.
    """

  def describe(self, state: S) -> str:
    """Returns the phase and the best network so far in one short line, for the progress display."""

  def to_json(self, state: S) -> dict[str, Any]:
    """Returns the state as a plain record."""

  def from_json(self, record: Mapping[str, Any]) -> S:
    """Reads what `to_json` gives.

    Raises AttributeError, KeyError, TypeError or ValueError for anything else; the search then finds its state from the ledger.
    """


@runtime_checkable
class HasNotice(Protocol):
  """What a strategy may say before it begins. Optional."""

  @property
  def notice(self) -> str:
    """One line for the user, such as that the budget is too small for any decision; empty if there is none."""


@runtime_checkable
class HasDecisions(Protocol[S_contra]):
  """What a strategy may tell of its decisions. Optional."""

  def decisions(self, state: S_contra) -> Sequence[Decision]:
    """Returns those so far, in order."""


def no_front(strategy: object, state: object) -> list[dict[str, Any]]:
  """Returns the front of a strategy whose only objective is accuracy: none. Write `front = no_front` in its class."""
  del strategy, state
  return []


@dataclasses.dataclass(frozen=True, kw_only=True)
class TableFacts:
  """A comparison on a table, as far as the settings of a strategy may follow from it.

  Attributes:
    name: the table's name, for messages.
    dataset: the data set that is searched for.
    rows: the number of architectures in the table.
    queries: the budget of a trial, in trainings at the highest fidelity.
    costs: what a training costs in units of `queries`, by its epochs; the fidelities, in rising order.
    objectives: the metrics that strategies with several objectives search by; empty for their own.
  """

  name: str
  dataset: str
  rows: int
  queries: int
  costs: Mapping[int, float]
  objectives: tuple[str, ...] = ()

  @property
  def fidelities(self) -> tuple[int, ...]:
    """The epochs of the trainings that the table has, in rising order."""
    return tuple(self.costs)


@runtime_checkable
class AdaptsToTable(Protocol):
  """Settings of a strategy that follow from the table in a comparison. Optional."""

  def for_table(self, table: TableFacts) -> Any:
    """Returns these settings as they suit the table. Raises UserError if the strategy cannot run on it."""

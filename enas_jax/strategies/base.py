"""What a search strategy offers: ask for candidates, be told what they are worth, say when it is done.

All methods are pure: the whole search is in the state, one frozen dataclass that `to_json` turns into a plain
record. A strategy never trains anything and never imports an estimator.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

from enas_jax.types import Architecture, Evaluation, Request

State = TypeVar('State')


class Strategy(Protocol[State]):
  """Ask, tell, done; pure functions of the state."""

  def init(self, seed: int) -> State:
    """The state before the first question."""

  def ask(self, state: State) -> tuple[Sequence[Request], State]:
    """The next candidates, at least one unless `done`. Asking twice from one state asks for the same."""

  def tell(self, state: State, evaluations: Sequence[Evaluation]) -> State:
    """Takes the answers to the last `ask`, in its order."""

  def done(self, state: State) -> bool:
    """Whether the search is over."""

  def best(self, state: State) -> Architecture | None:
    """The network to train finally, or None where no candidate succeeded."""

  def front(self, state: State) -> list[dict[str, Any]]:
    """The networks that no other one of their stage beats in all objectives; empty where accuracy is the only one.

    Plain records of `stage` ('macro' and 'micro', or 'search' where there is one), `architecture`, `accuracy` (a fraction) and
    the other objectives by their names. Accuracies of different stages are of different epochs: compare within a stage only.
    """

  def outlook(self, state: State) -> Sequence[Request]:
    """The work left as far as it is known, no request twice: those to come, or others of like cost in their place."""

  def describe(self, state: State) -> str:
    """The phase and the best so far in one short line, for the progress display."""

  def to_json(self, state: State) -> dict[str, Any]:
    """The state as a plain record."""

  def from_json(self, record: Mapping[str, Any]) -> State:
    """Reads `to_json`."""

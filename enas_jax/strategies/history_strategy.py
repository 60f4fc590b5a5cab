"""Strategies whose state is the history: all of the contract but the idea, which is a function or a `Proposer`."""
from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

from enas_jax.errors import UserError
from enas_jax.registry import check_methods
from enas_jax.strategies.base import Needs
from enas_jax.strategies.history import History, work_left
from enas_jax.strategies.registration import Setup
from enas_jax.types import A, Evaluation, Request

M = TypeVar('M')
WANTED = 'return a word for the phase and a list of architectures'
LONGEST_SHOWN = 120  # Characters of a wrong answer in a message.


class Proposer(Protocol[A, M]):
  """The idea of a strategy: which architectures of type A come next, by the history and a memory M of its own.

  The memory holds what the history does not tell, such as a population. It is a frozen dataclass or a tuple. A strategy without
  one is a function, see `Memoryless`. All methods are pure.
  """

  def begin(self) -> M:
    """Returns the memory before the first question."""

  def choose(self, history: History[A], memory: M, room: int) -> tuple[str, tuple[A, ...]]:
    """Returns a word for the phase, and the architectures to ask for: from 1 to `room` that the history does not hold.

    There are fewer than one only if the whole space has been seen. Random choices follow from `history.seed` and the number of
    answers, as those of `draw_new` and `breed_new` do.
    """

  def learn(self, history: History[A], memory: M, asked: Sequence[A]) -> M:
    """Returns the memory after the answers to `asked`, which the history holds now."""

  def to_json(self, memory: M) -> Any:
    """Returns the memory as plain values."""

  def from_json(self, record: Any) -> M:
    """Reads what `to_json` gives; it may raise AttributeError, KeyError, TypeError or ValueError for anything else."""


@dataclasses.dataclass(frozen=True)
class Memoryless(Generic[A]):
  """A proposer that needs the history alone.

  Attributes:
    function: takes the history and the room, and returns what `Proposer.choose` does.
  """

  function: Callable[[History[A], int], tuple[str, tuple[A, ...]]]

  def begin(self) -> None:
    """Returns no memory."""

  def choose(self, history: History[A], memory: None, room: int) -> tuple[str, tuple[A, ...]]:
    """Returns what the function does."""
    del memory
    return self.function(history, room)

  def learn(self, history: History[A], memory: None, asked: Sequence[A]) -> None:
    """Returns no memory."""

  def to_json(self, memory: None) -> None:
    """Returns no record."""

  def from_json(self, record: None) -> None:
    """Returns no memory."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class HistoryState(Generic[A, M]):
  """Where such a strategy stands.

  Attributes:
    history: all that was told.
    memory: what the proposer remembers beside it.
    phase: the proposer's word for what is asked for; empty before it is asked for.
    chosen: what is asked for, kept because choosing can be costly; empty before.
  """

  history: History[A]
  memory: M
  phase: str = ''
  chosen: tuple[A, ...] = ()


@dataclasses.dataclass(frozen=True)
class HistoryStrategy(Generic[A, M]):
  """A strategy that asks for what its proposer chooses until the budget is used up or the whole space has been seen.

  Every architecture is trained by its depth and width (`Schedules.of_macro`). The best is the most accurate.

  Attributes:
    setup: the space with its schedules, and the budget.
    proposer: the idea.
    label: the strategy's name on the progress display.
    batch: how many architectures are asked for at once, at most.
    objectives: the metrics that the history keeps and the front compares: accuracy, maximised, and others, minimised.
    independent: whether choices do not depend on answers, so that all requests to come are known.
    random_start: how many architectures are drawn at random before choices depend on answers; 0 if none are.

  Raises:
    UserError: the budget has no limit, or an attribute is not what it should be.
  """

  setup: Setup[A]
  proposer: Proposer[A, M]
  _: dataclasses.KW_ONLY
  label: str
  batch: int
  objectives: tuple[str, ...] = ('accuracy',)
  independent: bool = False
  random_start: int = 0

  def __post_init__(self) -> None:
    self.setup.budget.check_limited()
    hint = ' of a function write Memoryless(function)' if callable(self.proposer) else ''
    check_methods(self.proposer, Proposer, f'{self.setup.owner}: proposer{hint}')
    if not isinstance(self.batch, int) or self.batch < 1:
      raise UserError(f'{self.setup.owner}: batch {self.batch!r} is no whole number from 1 up; give one')

  @property
  def notice(self) -> str:
    """One line for the user where the budget ends before a choice depends on an answer; else empty."""
    count = self.setup.budget.evaluations
    if not 0 < count <= self.random_start:
      return ''
    return (f'{self.label}: all {count} are drawn at random, since it begins with {self.random_start} such; raise the budget '
            'or begin with fewer')

  @property
  def needs(self) -> Needs:
    """The objectives beside accuracy."""
    return Needs(objectives=self.objectives[1:])

  def init(self, seed: int) -> HistoryState[A, M]:
    """Returns the state before the first question."""
    return HistoryState(history=History(seed=seed), memory=self.proposer.begin())

  def ask(self, state: HistoryState[A, M]) -> tuple[tuple[Request, ...], HistoryState[A, M]]:
    """Returns what the proposer chooses, at most a batch, and the state that keeps it.

    Raises UserError if it chooses what it must not, see `Proposer.choose`: the search might never end.
    """
    if not state.chosen and (room := self.setup.budget.room(state.history.spent, self.batch)):
      phase, chosen = self._choose(state, room)
      new = {a for a in chosen if a not in state.history.answers}
      if not len(new) == len(chosen) <= room or not (chosen or self.done(state)):
        raise UserError(f'{self.setup.owner}: choose returned {len(chosen)} architectures, {len(new)} of them new; return new '
                        f'ones, from 1 to {room}')
      state = dataclasses.replace(state, phase=phase, chosen=chosen)
    return self._requests(state.phase, state.chosen), state

  def tell(self, state: HistoryState[A, M], evaluations: Sequence[Evaluation]) -> HistoryState[A, M]:
    """Returns the state after the answers to the last `ask`. Raises UserError if a successful one lacks an objective."""
    asked = self.ask(state)[1].chosen
    history = state.history.add(asked, evaluations, self.objectives)
    return HistoryState(history=history, memory=self.proposer.learn(history, state.memory, asked))

  def done(self, state: HistoryState[A, M]) -> bool:
    """Returns whether the budget is used up, or the whole space has been seen."""
    return state.history.over(self.setup.budget, self.setup.space)

  def best(self, state: HistoryState[A, M]) -> A | None:
    """Returns the most accurate network, or None if no candidate has succeeded."""
    return state.history.best()

  def front(self, state: HistoryState[A, M]) -> list[dict[str, Any]]:
    """Returns the networks that no other one dominates, in the order they were found; none with one objective."""
    return state.history.front(self.objectives) if len(self.objectives) > 1 else []

  def outlook(self, state: HistoryState[A, M]) -> Sequence[Request]:
    """Returns the next batch, and up to the evaluations left those to come if they are known, else the batch again."""
    batch, state = self.ask(state)
    left = self.setup.budget.evaluations - state.history.spent.evaluations
    if self.independent and 0 < len(batch) < left:
      return self._requests(*self._choose(state, left))
    return work_left(batch, state.history.spent, self.setup.budget)

  def describe(self, state: HistoryState[A, M]) -> str:
    """Returns the best network in one line."""
    return state.history.describe(self.label)

  def to_json(self, state: HistoryState[A, M]) -> dict[str, Any]:
    """Returns the state as a plain record."""
    memory, chosen = self.proposer.to_json(state.memory), [a.to_json() for a in state.chosen]
    return {'history': state.history.to_json(), 'memory': memory, 'phase': state.phase, 'chosen': chosen}

  def from_json(self, record: Mapping[str, Any]) -> HistoryState[A, M]:
    """Reads what `to_json` gives."""
    space = self.setup.space
    return HistoryState(
        history=History.from_json(record['history'], space), memory=self.proposer.from_json(record['memory']),
        phase=record['phase'], chosen=tuple(space.from_json(a) for a in record['chosen']))

  def _choose(self, state: HistoryState[A, M], room: int) -> tuple[str, tuple[A, ...]]:
    """Returns what the proposer chooses. Raises UserError for anything but a word and members of the space."""
    answer: Any = self.proposer.choose(state.history, state.memory, room)
    match answer:
      case (str(phase), (tuple() | list()) as chosen):
        pass
      case _:
        raise UserError(f'{self.setup.owner}: choose returned {_short(answer)}; {WANTED}')
    for architecture in chosen:
      try:
        self.setup.space.check(architecture)
      except Exception as error:  # A user's check may stumble over something else.
        raise UserError(f"{self.setup.owner}: choose returned {_short(architecture)}, which is no member of space "
                        f"'{self.setup.space.name}'; {WANTED}") from error
    return phase, tuple(chosen)

  def _requests(self, phase: str, architectures: Sequence[A]) -> tuple[Request, ...]:
    return tuple(Request(a, self.setup.schedules.of_macro(a), phase=phase) for a in architectures)


def _short(value: object) -> str:
  text = repr(value)
  return text if len(text) <= LONGEST_SHOWN else f'{text[:LONGEST_SHOWN]}...'

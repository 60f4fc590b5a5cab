"""The loop of every search: a strategy asks, an estimator answers, the strategy is told.

    answers = loop.InMemory()
    state = loop.drive(strategy, estimator, strategy.init(seed=0), answers)
    strategy.best(state)

The search command runs it over the ledger, a comparison of strategies over answers in memory. Imports no JAX.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from enas_jax.errors import Stopped, UserError
from enas_jax.types import Evaluation, Request

if TYPE_CHECKING:
  from enas_jax.estimators.base import Estimator
  from enas_jax.strategies.base import Strategy


class Answers(Protocol):
  """The evaluations that are known, by request."""

  def get(self, request: Request, /) -> Evaluation | None:
    """Returns a request's evaluation, or None where it is not known."""

  def add(self, request: Request, evaluation: Evaluation, /) -> None:
    """Keeps a new evaluation."""


class InMemory(dict[Request, Evaluation]):
  """Answers that end with the process, in the order in which they came."""

  add = dict.__setitem__


def drive(
    strategy: Strategy,
    estimator: Estimator,
    state: Any,
    answers: Answers,
    *,
    on_answer: Callable[[Request, Evaluation, Any], None] | None = None,
    on_tell: Callable[[Any], None] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Any:
  """Runs a strategy from a state to its end.

  Args:
    strategy: what asks.
    estimator: what answers. A request whose answer is known is not evaluated again.
    state: where the strategy stands, such as `strategy.init(seed)`.
    answers: the evaluations known so far; each new one is added as soon as it is there.
    on_answer: is called after each new evaluation is added, with the request, the evaluation and the strategy's state.
    on_tell: is called with the state after each `tell`.
    should_stop: is asked after each `tell`.

  Returns:
    The strategy's last state.

  Raises:
    Stopped: `should_stop` returned True. What was answered is in `answers`.
    UserError: the strategy asks for nothing though it is not done, or the estimator leaves out a request.
  """
  while not strategy.done(state):
    requests, state = strategy.ask(state)
    if not requests:
      raise UserError(f'{type(strategy).__name__} asks for nothing and is not done; let `done` be True then')
    new = [request for request in dict.fromkeys(requests) if answers.get(request) is None]
    estimator.prepare(_expected(strategy, state, new, answers))
    for index, evaluation in estimator.estimate(new):
      answers.add(new[index], evaluation)
      if on_answer is not None:
        on_answer(new[index], evaluation, state)
    told = [known for request in requests if (known := answers.get(request)) is not None]
    if len(told) < len(requests):
      raise UserError(f'{type(estimator).__name__} left {len(requests) - len(told)} of {len(requests)} requests without an '
                      'evaluation; yield one for each')
    state = strategy.tell(state, told)
    if on_tell is not None:
      on_tell(state)
    if should_stop():
      raise Stopped
  return state


def _expected(strategy: Strategy, state: Any, new: Sequence[Request], answers: Answers) -> Iterator[Request]:
  """Yields what is to be evaluated now and probably later, each once. Computed when it is read: an outlook can take long."""
  yield from dict.fromkeys([*new, *(request for request in strategy.outlook(state) if answers.get(request) is None)])

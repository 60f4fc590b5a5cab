"""The loop of every search: a strategy asks, an estimator answers, the strategy is told.

    answers = loop.InMemory()
    state = loop.drive(strategy, estimator, strategy.init(seed=0), answers)
    strategy.best(state)

The search command runs it over the ledger, a comparison of strategies over answers in memory. Imports no JAX.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from enas_jax.errors import Stopped, UserError
from enas_jax.registry import file_of
from enas_jax.types import Evaluation, Request, impossible

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
    cut: Callable[[Sequence[Request], Sequence[Request], Any], bool] = lambda *batch: False,
    should_stop: Callable[[], bool] = lambda: False,
    estimate: Callable[[Estimator, Sequence[Request], Iterable[Request]], Iterator[tuple[int, Evaluation]]] | None = None,
) -> Any:
  """Runs a strategy from a state to its end.

  Args:
    strategy: what asks.
    estimator: what answers. A request whose answer is known is not evaluated again.
    state: where the strategy stands, such as `strategy.init(seed)`.
    answers: the evaluations known so far; each new one is added as soon as it is there.
    on_answer: is called after each new evaluation is added, with the request, the evaluation and the strategy's state.
    on_tell: is called with the state after each `tell`.
    cut: is asked before a batch is evaluated whether the search ends there, with the batch, those of it whose answer is not
      known, and the strategy's state.
    should_stop: is asked after each `tell`.
    estimate: has a batch estimated; None for `together`.

  Returns:
    The strategy's last state; where it was cut, that before the batch.

  Raises:
    Stopped: `should_stop` returned True. What was answered is in `answers`.
    UserError: the strategy asks for nothing though it is not done, the estimator leaves out a request, or one of them returns
      something else than its contract says.
  """
  while not strategy.done(state):
    before = state
    requests, state = _asked(strategy, state)
    if not requests:
      raise UserError(f'{type(strategy).__name__} asks for nothing and is not done; let `done` be True then')
    new = [request for request in dict.fromkeys(requests) if answers.get(request) is None]
    if cut(requests, new, before):
      return before
    for index, evaluation in (estimate or together)(estimator, new, _expected(strategy, state, new, answers)):
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


def together(estimator: Estimator, requests: Sequence[Request],
             expected: Iterable[Request]) -> Iterator[tuple[int, Evaluation]]:
  """Yields (index into requests, evaluation) as the estimator gives them, all requests being given to it at once.

  Args:
    estimator: what answers.
    requests: the batch.
    expected: what is probably to be evaluated now and later, the first first, for the estimator to prepare.

  Raises:
    UserError: the estimator returns something else than its contract says.
  """
  estimator.prepare(expected)
  yield from _estimated(estimator, requests)


def _asked(strategy: Strategy, state: Any) -> tuple[Sequence[Request], Any]:
  answer: Any = strategy.ask(state)
  match answer:
    case ((tuple() | list()) as requests, after) if all(isinstance(request, Request) for request in requests):
      return requests, after
  raise UserError(f'{_named(strategy)}.ask returned {answer!r}; return a tuple of enas_jax.Request and the state')


def _estimated(estimator: Estimator, requests: Sequence[Request]) -> Iterator[tuple[int, Evaluation]]:
  answers: Any = estimator.estimate(requests)
  if not isinstance(answers, Iterable):
    raise UserError(f'{_named(estimator)}.estimate returned {answers!r}; yield (index of the request, Evaluation) for each')
  for answer in answers:
    match answer:
      case (index, Evaluation() as evaluation) if index in range(len(requests)):
        if evaluation.ok and 'accuracy' not in evaluation.metrics:
          raise UserError(f"{_named(estimator)}.estimate gave {evaluation!r}; give the metric 'accuracy', or a reason why it "
                          'failed')
        if reason := impossible(evaluation):
          evaluation = Evaluation(reason=evaluation.reason or reason)
        yield index, evaluation
      case _:
        raise UserError(f'{_named(estimator)}.estimate gave {answer!r}; yield (index of the request, Evaluation) for each')


def _named(made: object) -> str:
  return f'{file_of(type(made))}: {type(made).__name__}'


def _expected(strategy: Strategy, state: Any, new: Sequence[Request], answers: Answers) -> Iterator[Request]:
  """Yields what is to be evaluated now and probably later, each once. Computed when it is read: an outlook can take long."""
  yield from dict.fromkeys([*new, *(request for request in strategy.outlook(state) if answers.get(request) is None)])

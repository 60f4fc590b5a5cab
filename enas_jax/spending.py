"""Where a search ends because its budget does: looked at before anything new is evaluated."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from enas_jax.errors import UserError
from enas_jax.progress import TimeLeft
from enas_jax.strategies import Budget
from enas_jax.types import Evaluation, Request


class Spending:
  """A search's ledger against its budget.

  What was spent is what the ledger says, never what a clock does, so that a search ends at the same candidate however often it
  is stopped and resumed: a batch that was begun is within its multiply-adds still, and its time is not looked at again.

  Args:
    budget: the limits.
    ledger: what was evaluated so far; it may grow.
    predict_macs: gives a request's multiply-adds of training.
    final: gives what is trained after the search as it stands, for which time is kept back.
  """

  def __init__(self, budget: Budget, ledger: Iterable[tuple[Request, Evaluation]], predict_macs: Callable[[Request], float],
               final: Callable[[], Iterable[Request]]):
    self._budget, self._ledger, self._predict_macs, self._final = budget, ledger, predict_macs, final

  def cut(self, requests: Sequence[Request], new: Sequence[Request]) -> str:
    """Returns why a batch may not be evaluated; empty if it may.

    Args:
      requests: the batch.
      new: those of it whose evaluation is not known.

    Raises:
      UserError: the budget does not pay for a single batch and the final training.
    """
    if not new:
      return ''
    entries = list(self._ledger)
    coming = [self._predict_macs(request) for request in new]
    spent = sum(evaluation.train_macs for _, evaluation in entries)
    limit = self._budget.train_macs
    if limit and spent + sum(coming) > limit:
      text = f'{spent:.3g} multiply-adds are spent, what comes next takes {sum(coming):.3g}'
      if not entries:
        raise UserError(f'config.budget.train_macs {limit:.3g} is too small: {text}; give more')
      return f'budget.train_macs {limit:.3g}: {text}'
    if self._budget.seconds is None or (entries and entries[-1][0] in requests):  # Begun before a restart: it is finished.
      return ''
    return self._out_of_time(self._budget.seconds, coming)

  def _out_of_time(self, limit: float, coming: Sequence[float]) -> str:
    time_left, seconds = TimeLeft(), []
    for _, evaluation in self._ledger:
      seconds.append(evaluation.seconds)
      if evaluation.ok:
        time_left.add(evaluation.train_macs, evaluation.seconds, evaluation.compile_seconds)
    next_, final = time_left.predict(coming), time_left.predict([self._predict_macs(r) for r in self._final()])
    if next_ is None or final is None or sum(seconds) + next_ + final <= limit:
      return ''
    if seconds[0] + final > limit:
      raise UserError(f'config.budget.seconds {limit:g} is too small: a candidate took {seconds[0]:.0f} s, the final training '
                      f'takes about {final:.0f} s; give more, or fewer config.epochs.final')
    return (f'budget.seconds {limit:g}: {sum(seconds):.0f} s are spent, what comes next takes about {next_:.0f} s and '
            f'the final training {final:.0f} s')

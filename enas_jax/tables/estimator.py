"""An estimator that reads its answers from a benchmark's table, in microseconds, with the interface of training."""
from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from enas_jax.errors import UserError
from enas_jax.tables import Table
from enas_jax.types import Architecture, Evaluation, Request

COSTS = ('train_seconds',)  # Columns that a table has once for each fidelity.


class TableEstimator:
  """Answers requests from a table. The epochs of a request's schedule are the fidelity; its other settings change nothing.

  Metrics are `accuracy` (the score), `validation_accuracy` and `test_accuracy` if the table has them, and every other value of
  the data set by its name, such as `params`, `macs`, `latency_ms/raspi4`, `train_seconds` (what that training took: the
  simulated cost). Replicates get the same answer: a table holds one.

  Args:
    table: the table.
    dataset: one of its data sets.
    score: the split that `accuracy` is read from, 'valid' or 'test'. Choosing by the test split is optimistic.
    budget: how much may be asked for, in trainings at the table's highest fidelity; a training of fewer epochs counts as its
      share of epochs. None: no limit.
    translate: returns the member of the table's space that an architecture of the strategy stands for; None: it is the same.
    required: metrics beside `accuracy` without which a query fails, such as the objectives of a strategy: a device may not
      have run all rows.

  Attributes:
    queries: how many requests were answered so far, each counted as often as it was asked.
    spent: what they cost, in units of the budget.

  Raises:
    UserError: the table lacks the data set, the split or a required metric, or a column has the name of an accuracy here.
  """

  def __init__(self, table: Table[Any], dataset: str, *, score: str = 'valid', budget: float | None = None,
               translate: Callable[[Any], Architecture] | None = None, required: Sequence[str] = ()):
    self.fidelities = table.fidelities(dataset, score)
    self.queries, self.spent = 0, 0.0
    self._table, self._dataset, self._score, self._budget = table, dataset, score, budget
    self._translate = translate or (lambda architecture: architecture)
    self._required = ('accuracy', *required)
    self._values = {epochs: self._columns(epochs) for epochs in self.fidelities}
    known, _ = self._values[self.fidelities[-1]]
    for name in self._required:
      if name not in known:
        raise UserError(f"table {table.name} has no metric '{name}' of {dataset}; it has {_join(known)}")

  def estimate(self, requests: Sequence[Request]) -> Iterator[tuple[int, Evaluation]]:
    """Yields (index into requests, evaluation) in order. A request past the budget, or not in the table, gets a failed one."""
    for index, request in enumerate(requests):
      yield index, self._answer(request)

  def predict_macs(self, request: Request) -> float:
    """Returns 0, as nothing is trained."""
    del request
    return 0.0

  def prepare(self, requests: Iterable[Request]) -> None:
    """Does nothing: there is nothing to prepare."""
    del requests

  def describe(self) -> str:
    """Returns a line that names the table, its data set and what is read from it."""
    table, epochs = self._table, _join(self.fidelities)
    return f'table {table.name}: {len(table):,} rows, {self._dataset}, {self._score} accuracy after {epochs} epochs'

  def report(self) -> dict[str, float]:
    """Returns how many queries were answered, and what they cost in whole trainings."""
    return {'queries': self.queries, 'full_trainings': self.spent}

  def cost(self, epochs: int) -> float:
    """Returns what a query at this fidelity costs, in units of the budget."""
    return epochs / self.fidelities[-1]

  def _answer(self, request: Request) -> Evaluation:
    epochs = request.schedule.epochs
    if epochs not in self._values or request.schedule.trained_epochs != epochs:
      asked = f'{request.schedule.trained_epochs} of {epochs}'
      return Evaluation(reason=f'the table has whole trainings of {_join(self.fidelities)} epochs, not {asked}')
    if self._budget is not None and self.spent + self.cost(epochs) > self._budget + 1e-9:
      return Evaluation(reason=f'refused: the budget of {self._budget:g} trainings is spent; raise it')
    self.queries += 1
    self.spent += self.cost(epochs)
    try:
      row = self._table.row(self._translate(request.architecture))
    except UserError as error:
      return Evaluation(reason=str(error))
    if row is None:
      return Evaluation(reason='not in the table')
    names, values = self._values[epochs]
    metrics = {name: value for name, value in zip(names, values[row].tolist(), strict=True) if not math.isnan(value)}
    for name in self._required:
      if name not in metrics:
        return Evaluation(reason=f'{name} was not measured at {epochs} epochs')
    return Evaluation(metrics=metrics)

  def _columns(self, epochs: int) -> tuple[tuple[str, ...], np.ndarray]:
    """Returns the names of the metrics that a query at this fidelity tells, and their values [rows, metrics], float64."""
    table, dataset = self._table, self._dataset
    names = {'accuracy': f'{self._score}/{epochs}', 'validation_accuracy': f'valid/{epochs}', 'test_accuracy': f'test/{epochs}'}
    names |= {cost: f'{cost}/{epochs}' for cost in COSTS}
    taken = {f'{dataset}/{name}' for name in names.values()}
    values = {metric: table.columns[c] for metric, name in names.items() if (c := f'{dataset}/{name}') in table.columns}
    for column, data in table.columns.items():
      group, _, name = column.partition('/')
      if group == dataset and column not in taken and name.partition('/')[0] not in ('valid', 'test', *COSTS):
        if name in names:
          raise UserError(f"table {table.name}: column '{column}' has the name of a metric; rename it, accuracies to "
                          f'{dataset}/valid/EPOCHS or {dataset}/test/EPOCHS')
        values[name] = data
    return tuple(values), np.stack(list(values.values()), axis=1, dtype=np.float64)


def _join(values: Iterable[object]) -> str:
  return ', '.join(map(str, values))

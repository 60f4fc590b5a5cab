"""What trials found: by strategy and by query, in numbers."""
from __future__ import annotations

import dataclasses
import functools
import statistics
from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np

from enas_jax import strategies
from enas_jax.compare.benchmark import CHAINS
from enas_jax.errors import UserError
from enas_jax.strategies.hypervolume import hypervolume
from enas_jax.tables import Table

CONTROL = 'random'


@dataclasses.dataclass(frozen=True)
class Found:
  """One trial: what it held to be best, query by query.

  Attributes:
    spent: after each query, in trainings at the highest fidelity [Q].
    rows: the table's rows of the queries at the highest fidelity that succeeded.
    best: the row of the best so far after each query, -1 before the first success [Q]: the most accurate on the split that
      scores, the first of equals. Accuracies of different fidelities do not compare: a higher one decides as soon as the best
      of the one below was asked for there, too.
    seconds: wall-clock of the trial.
  """

  spent: np.ndarray
  rows: np.ndarray
  best: np.ndarray
  seconds: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
  """Trials of several strategies on one table.

  Attributes:
    table: the table.
    dataset: one of its data sets.
    score: the split by which strategies choose.
    queries: the budget of a trial.
    objectives: metrics for the hypervolume, the first of them 'accuracy'; empty for none.
    trials: records of `benchmark.run` by strategy.

  Raises:
    UserError: the table lacks an objective, or what is wanted of it has no value or only one.
  """

  table: Table
  dataset: str
  score: str
  queries: int
  objectives: Sequence[str]
  trials: Mapping[str, Sequence[Mapping[str, Any]]]

  def __post_init__(self) -> None:
    if self.score not in self.splits:
      name = f'{self.dataset}/{self.score}/{self.epochs}'
      raise UserError(f'table {self.table.name}: column {name} has no value; take another split or data set')
    if self.objectives and not self._whole:
      raise UserError(f"objectives {', '.join(self.objectives)}: no row of table {self.table.name} is better than the worst "
                      'values in all; take others')

  @property
  def splits(self) -> tuple[str, ...]:
    """Those of which the table has a value at the highest fidelity."""
    return tuple(
        split for split in self.table.splits(self.dataset)
        if self.epochs in self.table.fidelities(self.dataset, split) and not np.isnan(self.accuracy(split)).all())

  @property
  def epochs(self) -> int:
    """Of the highest fidelity."""
    return self.table.fidelities(self.dataset, self.score)[-1]

  def accuracy(self, split: str) -> np.ndarray:
    """Of all rows at the highest fidelity."""
    return self.table.column(f'{self.dataset}/{split}/{self.epochs}')

  def optimum(self, split: str) -> float:
    """The table's best."""
    return float(np.nanmax(self.accuracy(split)))

  @functools.cached_property
  def found(self) -> dict[str, list[Found]]:
    """By strategy, each trial."""
    return {name: [self._follow(record) for record in records] for name, records in self.trials.items()}

  def curve(self, name: str, split: str) -> np.ndarray:
    """The accuracy of each trial's best so far after 1, 2, ... queries, NaN before the first success, [trials, queries]."""
    values = np.append(self.accuracy(split), np.nan)  # Row -1, as before the first query: nothing yet.
    budget = np.arange(1, self.queries + 1) + 1e-6  # Shares of trainings add up to whole ones but for rounding.
    rows = []
    for found in self.found[name]:
      rows.append(values[np.append(-1, found.best)[np.searchsorted(found.spent, budget, side='right')]])
    return np.array(rows)

  def summary(self) -> list[dict[str, Any]]:
    """A record a strategy; accuracies and regrets are fractions, `mean` and `std` (of a sample) over trials that succeeded.

    `regret` is the distance to the table's best of the split. `random` is what random search's best has, in the mean, after as
    many queries: for a strategy that sees chains, random search among them where that was run.
    """
    return [self._summarise(name) for name in self.trials]

  def results(self) -> list[dict[str, Any]]:
    """A record a trial: what it found."""
    records = []
    for name, found in self.found.items():
      for record, f in zip(self.trials[name], found, strict=True):
        best = int(f.best[-1]) if len(f.best) else -1
        accuracies = {split: _known(self.accuracy(split)[best]) if best >= 0 else None for split in self.splits}
        text = self.table.text(best) if best >= 0 else ''
        records.append({'strategy': name, 'seed': record['seed'], 'architecture': text, **accuracies,
                        'queries': round(float(f.spent[-1]), 6) if len(f.spent) else 0, 'seconds': f.seconds})
    return records

  def _summarise(self, name: str) -> dict[str, Any]:
    found = self.found[name]
    spent = statistics.fmean(f.spent[-1] if len(f.spent) else 0.0 for f in found)
    record: dict[str, Any] = {'strategy': name, 'trials': len(found), 'queries': spent}
    for split in self.splits:
      last = self.curve(name, split)[:, -1]
      last = last[~np.isnan(last)]
      mean = float(last.mean()) if len(last) else None
      record[split] = {
          'mean': mean, 'std': float(last.std(ddof=1)) if len(last) > 1 else None,
          'regret': None if mean is None else self.optimum(split) - mean, 'random': self._control(name, split, spent)}
    if self.objectives:
      record['hypervolume'] = _moments([self._hypervolume(f.rows) for f in found])
    return {**record, 'seconds': statistics.fmean(f.seconds for f in found)}

  def _control(self, name: str, split: str, spent: float) -> float | None:
    control = CONTROL
    if CONTROL + CHAINS in self.trials and (name.endswith(CHAINS) or strategies.walks(name)):
      control += CHAINS
    if control not in self.trials or spent < 1:
      return None
    at_equal = self.curve(control, split)[:, min(round(spent), self.queries) - 1]
    return None if np.isnan(at_equal).all() else float(np.nanmean(at_equal))

  def _follow(self, record: Mapping[str, Any]) -> Found:
    spent, best, rows, total = [], [], [], 0.0
    leaders: dict[int, tuple[float, int]] = {}  # By epochs, the first of the most accurate and its row.
    asked = set()
    for text, epochs, accuracy, _ in record['queries']:
      total += epochs / self.epochs
      row = self.table.row(self.table.space.from_string(text))
      asked.add((epochs, row))
      if accuracy is not None:
        assert row is not None  # It has an accuracy.
        if accuracy > leaders.get(epochs, (-1.0, -1))[0]:
          leaders[epochs] = accuracy, row
        if epochs == self.epochs:
          rows.append(row)
      spent.append(total)
      best.append(_best(leaders, asked))
    return Found(np.array(spent), np.array(rows, int), np.array(best, int), record['seconds'])

  def _hypervolume(self, rows: np.ndarray) -> float:
    """Of these rows as a share of all rows' one, in the box of the table's values: 1 is the whole front."""
    if not len(rows):
      return 0.0
    return self._volume(self._points(rows)) / self._whole

  @functools.cached_property
  def _whole(self) -> float:
    return self._volume(self._points(np.arange(len(self.table))))

  def _volume(self, points: np.ndarray) -> float:
    maximise = [objective == 'accuracy' for objective in self.objectives]
    reference = np.array([0.0 if up else 1.0 for up in maximise])
    return hypervolume(points[~np.isnan(points).any(axis=1)], reference, maximise)

  def _points(self, rows: np.ndarray) -> np.ndarray:
    """The objectives of these rows, each scaled so that the table's least is 0 and its greatest 1, [rows, objectives]."""
    columns = []
    for objective in self.objectives:
      name = f'{self.score}/{self.epochs}' if objective == 'accuracy' else objective
      values = self.table.column(f'{self.dataset}/{name}').astype(np.float64)
      known = values[~np.isnan(values)]
      if not len(known) or known.min() == known.max():
        raise UserError(f'objective {objective} has not two values in table {self.table.name}; take another')
      least, greatest = known.min(), known.max()
      columns.append((values[rows] - least) / (greatest - least))
    return np.stack(columns, axis=1)


def _best(leaders: Mapping[int, tuple[float, int]], asked: Set[tuple[int, int | None]]) -> int:
  """The row of the best so far, given those of each fidelity and all (epochs, row) asked for; -1 of none."""
  fidelities = sorted(leaders)
  row = leaders[fidelities[0]][1] if fidelities else -1
  for epochs in fidelities[1:]:
    if (epochs, row) not in asked:
      break
    row = leaders[epochs][1]
  return row


def _known(value: float) -> float | None:
  return None if np.isnan(value) else float(value)


def _moments(values: Sequence[float]) -> dict[str, float | None]:
  return {'mean': statistics.fmean(values), 'std': statistics.stdev(values) if len(values) > 1 else None}

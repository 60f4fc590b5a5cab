"""One trial: one strategy with one seed on a table, from its first question to the end of its budget.

Imports no JAX, so that a process for trials starts quickly.
"""
from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any

from ml_collections import ConfigDict

from enas_jax import spaces, strategies, tables
from enas_jax.estimators.table import task_of
from enas_jax.loop import InMemory, drive
from enas_jax.spaces import SearchSpace
from enas_jax.strategies import Strategy, TableFacts
from enas_jax.tables import Table
from enas_jax.tables.chain_views import chain_view
from enas_jax.tables.estimator import TableEstimator
from enas_jax.tables.members import members
from enas_jax.types import Architecture, Evaluation, Request, Task

FIELDS = {'strategy', 'seed', 'seconds', 'queries'}  # Of a trial's record.
CHAINS = ':chains'  # Behind another strategy's name: it sees the chains, too, as a fair control.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Benchmark:
  """What is searched, in plain values, so that it goes to other processes.

  Attributes:
    space: name of the space.
    table: name of a shipped table, or path of a user's own; None: the space's.
    dataset: one of the table's.
    score: the split by which strategies choose, 'valid' or 'test'.
    queries: the budget of a trial, in trainings at the table's highest fidelity.
    objectives: metrics for strategies that take several; empty for their settings' own.
  """

  space: str
  table: str | None
  dataset: str
  score: str
  queries: int
  objectives: tuple[str, ...] = ()

  @property
  def data(self) -> Table:
    """The table. Raises UserError where it cannot be read."""
    return _find(self.space, self.table)

  @property
  def task(self) -> Task:
    """What the networks are for."""
    return task_of(self.dataset)


@dataclasses.dataclass(frozen=True)
class Trial:
  """A strategy and what answers it.

  Attributes:
    strategy: the strategy.
    estimator: with the whole budget of the trial.
    translate: from what the strategy asks for to a member of the table's space.
  """

  strategy: Strategy
  estimator: TableEstimator
  translate: Callable[[Any], Architecture]


def set_up(name: str, benchmark: Benchmark, config: ConfigDict) -> Trial:
  """Makes a trial of the strategy `name`, with the settings of `config` for it.

  Raises:
    UserError: the strategy is unknown or does not fit the table, or the table lacks the data set or the split.
  """
  data, kind = benchmark.data, name.removesuffix(CHAINS)
  space: SearchSpace[Any]
  if strategies.walks(kind) or kind != name:
    space = chain_view(benchmark.space)
    translate = space.translate
  else:
    space, translate = members(data), _same
  fidelities = data.fidelities(benchmark.dataset, benchmark.score)
  full = fidelities[-1]
  config = config.copy_and_resolve_references()
  config.strategy = kind
  config.budget.update(evaluations=benchmark.queries, train_macs=0.0)
  config.epochs.update(first=full, per_layer=0, per_width_step=0, micro=full, final=full)
  facts = TableFacts(
      name=data.name, dataset=benchmark.dataset, rows=len(data), queries=benchmark.queries,
      costs={epochs: epochs / full for epochs in fidelities}, objectives=benchmark.objectives)
  strategy = strategies.make(config, space, benchmark.task, table=facts)
  estimator = TableEstimator(
      data, benchmark.dataset, score=benchmark.score, budget=benchmark.queries, translate=translate,
      required=strategy.needs.objectives)
  return Trial(strategy, estimator, translate)


def run(name: str, benchmark: Benchmark, config: ConfigDict, seed: int) -> dict[str, Any]:
  """Runs a trial. Returns a plain record: `strategy`, `seed`, `seconds` (wall-clock, once the table is there) and `queries`.

  A query is [architecture, epochs, accuracy or None, reason of a failure]; they stand in the order asked. What is past the
  budget is refused, and is none.
  """
  to_string = benchmark.data.space.to_string
  started = time.perf_counter()
  trial = set_up(name, benchmark, config)
  queries: list[list[Any]] = []

  def on_answer(request: Request, evaluation: Evaluation, state: Any) -> None:
    del state
    if trial.estimator.queries > len(queries):  # Else it was refused.
      accuracy = evaluation.accuracy if evaluation.ok else None
      queries.append([to_string(trial.translate(request.architecture)), request.schedule.epochs, accuracy, evaluation.reason])

  drive(trial.strategy, trial.estimator, trial.strategy.init(seed), InMemory(), on_answer=on_answer)
  return {'strategy': name, 'seed': seed, 'seconds': time.perf_counter() - started, 'queries': queries}


@functools.cache
def _find(space: str, table: str | None) -> Table:
  """Read once a process, and no part of a benchmark, which goes to other processes without it."""
  return tables.find(spaces.make_default(space), table)


def _same(architecture: Architecture) -> Architecture:
  return architecture

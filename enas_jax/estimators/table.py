"""The estimator 'table': candidates are looked up in a benchmark's table."""
from __future__ import annotations

import dataclasses
from typing import Any

from ml_collections import ConfigDict

from enas_jax import tables
from enas_jax.errors import UserError
from enas_jax.estimators.base import Setup
from enas_jax.spaces.base import SearchSpace
from enas_jax.tables.estimator import TableEstimator
from enas_jax.types import Task

NAME = 'table'
TASKS = {'cifar10': Task((32, 32, 3), 10), 'cifar100': Task((32, 32, 3), 100), 'imagenet16-120': Task((16, 16, 3), 120)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TableSettings:
  """Which table, and what of it.

  Attributes:
    name: a table that comes with the package, or a CSV or npz file; None: the first of the space.
    dataset: one of the table's.
    score: the split by which candidates are chosen, 'valid' or 'test'.
  """

  name: str | None = None
  dataset: str = 'cifar10'
  score: str = 'valid'


def looked_up_in(config: ConfigDict, space: SearchSpace[Any]) -> tables.Table[Any] | None:
  """Returns the table that candidates are looked up in, or None where `config.estimator` needs none.

  Raises:
    UserError: there is no such table, or it is of another space.
  """
  return tables.find(space, config[NAME].name) if config.estimator == NAME else None


def task_of(dataset: str) -> Task:
  """Returns what the networks of a table's data set are for; for a data set of the user's own, as for CIFAR-10."""
  return TASKS.get(dataset, TASKS['cifar10'])


def make(settings: TableSettings, setup: Setup) -> TableEstimator:
  """Makes the estimator. Raises UserError where the table lacks what the settings or the strategy ask for."""
  needs = setup.needs
  table = tables.find(setup.space, settings.name)
  estimator = TableEstimator(table, settings.dataset, score=settings.score, required=needs.objectives)
  if needs.parts:
    raise UserError(f'config.{needs.setting} (): the table has whole trainings alone; give {estimator.fidelities}')
  for epochs in needs.fidelities or (setup.config.epochs.first,):
    if epochs not in estimator.fidelities:
      known = ' or '.join(map(str, estimator.fidelities))
      raise UserError(f'config.{needs.setting} {epochs}: the table has trainings of other epochs; give {known}')
  return estimator

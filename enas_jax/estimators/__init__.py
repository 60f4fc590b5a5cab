"""How good is it: estimators behind one interface."""
from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from absl import flags
from ml_collections import ConfigDict

from enas_jax import families, tables
from enas_jax.data import Dataset, hold_out, published_statistics, statistics
from enas_jax.data.augment import from_config
from enas_jax.data.dataset import ImageSet
from enas_jax.errors import UserError
from enas_jax.estimators.base import Estimator
from enas_jax.estimators.trained import TrainedEstimator
from enas_jax.families.chain.trial import trial
from enas_jax.families.planes import LOWERINGS
from enas_jax.spaces import SearchSpace
from enas_jax.tables.estimator import TableEstimator
from enas_jax.training.compile_cache import keep_programs
from enas_jax.training.engine import Resources
from enas_jax.training.family import Family
from enas_jax.training.layout import Execution
from enas_jax.training.lowering import choose
from enas_jax.training.state import TrainingData

__all__ = ['Estimator', 'Execution', 'TrainedEstimator', 'execution', 'family_of', 'make', 'training_data']

PRECISIONS = {'float32': jnp.float32, 'bfloat16': jnp.bfloat16}


def make(config: ConfigDict, space: SearchSpace, dataset: Dataset, *, execution: Execution,
         should_stop: Callable[[], bool]) -> Estimator:
  """The estimator `config.estimator`. Raises UserError for an unknown one, or data that it cannot part as asked."""
  if config.estimator == 'table':
    return _table(config, space)
  if config.estimator != 'trained':
    raise UserError(f"config.estimator '{config.estimator}' is unknown; give 'trained' or 'table'")
  if config.memory_limit_gb < 0:
    raise UserError(f'config.memory_limit_gb {config.memory_limit_gb} is negative; give 0 for what the device has free')
  if config.data.score_on_test:
    train, score = dataset.train, dataset.test
  else:
    train, score = hold_out(
        dataset.train, config.data.validation_share, seed=config.seed, num_classes=dataset.task.num_classes)
  resources = Resources(
      data=training_data(config, dataset, train, score), seed=config.seed, execution=execution,
      memory_limit=int(config.memory_limit_gb * 1e9) or None, should_stop=should_stop)
  return TrainedEstimator(space, resources, family_of(config, space, resources.data))


def family_of(config: ConfigDict, space: SearchSpace, data: TrainingData) -> Family[Any, Any] | None:
  """Returns the space's family, with its programs planned for candidates under these settings; None if there is none."""
  batch_size = config.training.batch_size
  steps = data.train_size // batch_size * config.epochs.first
  return families.of(space, data.task, batch_size=batch_size, steps=steps, platform=jax.default_backend())


def _table(config: ConfigDict, space: SearchSpace) -> TableEstimator:
  objectives = config.nsga2.objectives if config.strategy == 'nsga2' else ()
  table = tables.find(space, config.table.name)
  estimator = TableEstimator(table, config.table.dataset, score=config.table.score, required=tuple(objectives))
  if config.strategy == 'halving' and not config.halving.fidelities:
    raise UserError(f'config.halving.fidelities (): the table has whole trainings alone; give {estimator.fidelities}')
  by_rung = config.strategy == 'halving' and config.halving.fidelities
  for epochs in by_rung or (config.epochs.first,):
    if epochs not in estimator.fidelities:
      known, field = ' or '.join(map(str, estimator.fidelities)), 'halving.fidelities' if by_rung else 'epochs.first'
      raise UserError(f'config.{field} {epochs}: the table has trainings of other epochs; give {known}')
  return estimator


def execution(values: flags.FlagValues, workdir: pathlib.Path) -> Execution:
  """How candidates run on this machine, as the flags say: `slots`, `lowering`, `compilation_cache`, `config.precision`.

  Compiled programs are kept in the work folder, or where the flag says.

  Raises:
    UserError: a flag's value is unknown, or others can write where compiled programs shall be kept.
  """
  config = values.config
  if config.precision not in ('auto', *PRECISIONS):
    raise UserError(f"config.precision '{config.precision}' is unknown; give 'auto', 'float32' or 'bfloat16'")
  if values.slots < 0:
    raise UserError(f'--slots={values.slots} is negative; give at least 1, or 0 for what suits the machine')
  if values.compilation_cache not in ('workdir', 'none'):
    keep_programs(pathlib.Path(values.compilation_cache))
  elif values.compilation_cache == 'workdir' and jax.config.jax_compilation_cache_dir is None:  # JAX's own setting stands.
    keep_programs(workdir / 'compilation_cache')
  settings = {'lowering': choose(values.lowering, LOWERINGS, workdir / 'lowering.json', trial)}
  if config.precision != 'auto':
    settings['dtype'] = PRECISIONS[config.precision]
  return Execution.default(values.slots or None, **settings)


def training_data(config: ConfigDict, dataset: Dataset, train: ImageSet, score: ImageSet) -> TrainingData:
  """Puts a training and a scoring part on the device, with the statistics and augmentation that the config asks for.

  Raises:
    UserError: the training part is smaller than a batch, or a setting of the augmentation is out of range.
  """
  if len(train.labels) < config.training.batch_size:
    raise UserError(
        f'data: {len(train.labels)} training images are fewer than config.training.batch_size={config.training.batch_size}; '
        'lower it')
  published = config.data.published_statistics
  mean, std = published_statistics(dataset.name) if published else statistics(train.images)
  augmentation = from_config(config.data.augmentation, dataset.name, dataset.task.image_shape)
  return TrainingData.put(train, score, mean=mean, std=std, augmentation=augmentation, task=dataset.task)

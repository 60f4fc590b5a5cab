"""From a config to what trains: the estimator 'trained', its data on the device, and how candidates run on this machine."""
from __future__ import annotations

import os
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from enas_jax import families
from enas_jax.data import Dataset, hold_out, published_statistics, statistics
from enas_jax.data.augment import from_config
from enas_jax.data.dataset import ImageSet
from enas_jax.errors import UserError
from enas_jax.estimators.base import Setup
from enas_jax.estimators.trained import TrainedEstimator
from enas_jax.spaces.base import SearchSpace
from enas_jax.training.compile_cache import keep_programs_as_asked
from enas_jax.training.engine import Resources
from enas_jax.training.family import Family
from enas_jax.training.layout import Execution
from enas_jax.training.lowering import choose
from enas_jax.training.memory import limit_bytes
from enas_jax.training.state import TrainingData

ACCURACIES = ('plain', 'balanced')
PRECISIONS = {'float32': jnp.float32, 'bfloat16': jnp.bfloat16}


def trained(setup: Setup) -> TrainedEstimator:
  """Makes the estimator 'trained'. Raises UserError for settings out of range, or data that it cannot part as asked."""
  config, dataset = setup.config, setup.dataset
  if dataset is None:
    raise UserError("config.estimator 'trained' needs images to train on; give a data set")
  memory_limit = limit_bytes(config.memory_limit_gb)
  if config.data.score_on_test:
    train, score = dataset.train, dataset.test
  elif dataset.valid is not None:
    train, score = dataset.train, dataset.valid
  else:
    train, score = hold_out(
        dataset.train, config.data.validation_share, seed=config.seed, num_classes=dataset.task.num_classes)
  resources = Resources(
      data=training_data(config, dataset, train, score, accuracy=config.data.accuracy), seed=config.seed,
      execution=setup.execution or Execution.default(), memory_limit=memory_limit, should_stop=setup.should_stop)
  return TrainedEstimator(setup.space, resources, family_of(config, setup.space, resources.data))


def family_of(config: ConfigDict, space: SearchSpace[Any], data: TrainingData) -> Family[Any, Any] | None:
  """Returns the space's family, with its programs planned for candidates under these settings; None if there is none."""
  batch_size = config.training.batch_size
  steps = data.train_size // batch_size * config.epochs.first
  return families.of(space, data.task, batch_size=batch_size, steps=steps, platform=jax.default_backend())


def execution(precision: str, workdir: pathlib.Path, *, slots: int = 0, lowering: str = 'auto',
              compilation_cache: str | os.PathLike[str] = 'workdir') -> Execution:
  """Decides how candidates run on this machine, and where compiled programs are kept.

  Args:
    precision: of activations and products: 'float32', 'bfloat16', or 'auto' for what suits the device.
    workdir: the work folder, which remembers the lowering that was tried.
    slots: most candidates that train on a device at once; 0: what suits the device.
    lowering: the form of the convolutions: 'shifts', 'xla', or 'auto': known for the platform, or tried once.
    compilation_cache: a folder, 'workdir' for one in the work folder, or 'none'.

  Raises:
    UserError: a value is unknown, or others can write where compiled programs shall be kept.
  """
  if precision not in ('auto', *PRECISIONS):
    raise UserError(f"config.precision '{precision}' is unknown; give 'auto', 'float32' or 'bfloat16'")
  if slots < 0:
    raise UserError(f'--slots={slots} is negative; give at least 1, or 0 for what suits the machine')
  keep_programs_as_asked(compilation_cache, workdir)
  chosen: dict[str, Any] = {'lowering': choose(lowering, families.LOWERINGS, workdir / 'lowering.json', families.trial)}
  if precision != 'auto':
    chosen['dtype'] = PRECISIONS[precision]
  return Execution.default(slots or None, **chosen)


def training_data(config: ConfigDict, dataset: Dataset, train: ImageSet, score: ImageSet, *,
                  accuracy: str = 'plain') -> TrainingData:
  """Puts a training and a scoring part on the device, with the statistics and augmentation that the config asks for.

  Args:
    config: all settings.
    dataset: whose parts they are.
    train, score: what is trained and scored on.
    accuracy: of the scoring part: 'plain', of all images, or 'balanced', the mean of those of the classes.

  Raises:
    UserError: the training part is smaller than a batch, or a setting of the augmentation or `accuracy` is out of range.
  """
  if accuracy not in ACCURACIES:
    raise UserError(f"config.data.accuracy '{accuracy}' is unknown; give one of {', '.join(ACCURACIES)}")
  if len(train.labels) < config.training.batch_size:
    raise UserError(
        f'data: {len(train.labels)} training images are fewer than config.training.batch_size={config.training.batch_size}; '
        'lower it')
  published = config.data.published_statistics
  mean, std = published_statistics(dataset.name, dataset.train.images) if published else statistics(train.images)
  augmentation = from_config(config.data.augmentation, dataset.name, dataset.task.image_shape)
  return TrainingData.put(train, score, mean=mean, std=std, augmentation=augmentation, task=dataset.task,
                          balanced_score=accuracy == 'balanced')

"""How good is it: estimators behind one interface."""
from __future__ import annotations

from collections.abc import Callable

from ml_collections import ConfigDict

from enas_jax.data import Dataset, hold_out, published_statistics, statistics
from enas_jax.data.augment import from_config
from enas_jax.data.dataset import ImageSet
from enas_jax.errors import UserError
from enas_jax.estimators.base import Estimator
from enas_jax.estimators.program import TrainingData
from enas_jax.estimators.trained import TrainedEstimator
from enas_jax.spaces import SearchSpace

__all__ = ['Estimator', 'TrainedEstimator', 'make', 'training_data']


def make(config: ConfigDict, space: SearchSpace, dataset: Dataset, *, should_stop: Callable[[], bool]) -> Estimator:
  """The estimator `config.estimator`. Raises UserError for an unknown one, or data that it cannot part as asked."""
  if config.estimator != 'trained':
    raise UserError(f"config.estimator '{config.estimator}' is unknown; give 'trained'")
  if config.memory_limit_gb < 0:
    raise UserError(f'config.memory_limit_gb {config.memory_limit_gb} is negative; give 0 for what the device has free')
  if config.data.score_on_test:
    train, score = dataset.train, dataset.test
  else:
    train, score = hold_out(
        dataset.train, config.data.validation_share, seed=config.seed, num_classes=dataset.task.num_classes)
  limit = int(config.memory_limit_gb * 1e9) or None
  return TrainedEstimator(
      space, training_data(config, dataset, train, score), seed=config.seed, memory_limit=limit, should_stop=should_stop)


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

"""What training works on: the images on the device, the weights and the optimiser's state, and what an epoch gave."""
from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from enas_jax.data.augment import Augmentation
from enas_jax.data.dataset import ImageSet
from enas_jax.training.loss import balanced
from enas_jax.types import Task

SCORE_BATCH = 500  # Images.


class Arrays(NamedTuple):
  """The images that every program reads; they are on the device once.

  Attributes:
    images, labels: the training part, uint8 [N, H, W, C] and int32 [N].
    score_images, score_labels: the part that scores, padded to whole batches with labels of -1.
    mean, std: float32 [C], of pixels in [0, 1].
  """

  images: jax.Array
  labels: jax.Array
  score_images: jax.Array
  score_labels: jax.Array
  mean: jax.Array
  std: jax.Array


@dataclasses.dataclass(frozen=True)
class TrainingData:
  """The arrays on the device, and what is fixed when a program is compiled.

  Attributes:
    arrays: the images.
    score_size: how many images score, padding aside.
    augmentation: what a training batch goes through.
    task: shape of the images and number of classes.
    score_batch: images that a module's program scores at once; only memory depends on it.
    score_weights: what a right answer counts by class, float32 [classes]; None: 1 each.
  """

  arrays: Arrays
  score_size: int
  augmentation: Augmentation
  task: Task
  score_batch: int
  score_weights: np.ndarray | None = None

  @classmethod
  def put(cls, train: ImageSet, score: ImageSet, *, mean: np.ndarray, std: np.ndarray, augmentation: Augmentation,
          task: Task, score_batch: int = SCORE_BATCH, balanced_score: bool = False) -> TrainingData:
    """Moves both parts to the default device. `balanced_score`: the accuracy is the mean of those of the classes."""
    score_batch = min(score_batch, len(score.labels))
    padding = -len(score.labels) % score_batch
    score_images = np.pad(score.images, ((0, padding), (0, 0), (0, 0), (0, 0)))
    score_labels = np.pad(score.labels, (0, padding), constant_values=-1)
    arrays = Arrays(*jax.device_put((train.images, train.labels, score_images, score_labels, mean, std)))
    weights = balanced(np.asarray(score.labels), task.num_classes) if balanced_score else None
    return cls(arrays, len(score.labels), augmentation, task, score_batch, weights)

  def class_weights(self, kind: str) -> np.ndarray | None:
    """Returns the weight of a training image of each class, float32 [classes], by `Schedule.class_weights`; None: all are 1."""
    return None if kind == 'equal' else balanced(np.asarray(self.arrays.labels), self.task.num_classes)

  @property
  def train_size(self) -> int:
    """The number of training images."""
    return len(self.arrays.labels)


class TrainState(NamedTuple):
  """What training changes: weights, batch-norm statistics, the optimiser's state; each a pytree of arrays."""

  params: Any
  stats: Any
  optimizer: Any


class Tally(NamedTuple):
  """Sums over the epoch's images so far: the loss (float32) and the right answers (int32)."""

  loss: Any
  correct: Any


class Hyperparameters(NamedTuple):
  """The numbers of one epoch.

  Attributes:
    learning_rate: of each of its steps; within a step, its own.
    momentum, weight_decay, clip_norm: as in `types.Schedule`.
    progress: the share of the schedule's epochs that is over, in [0, 1); None if no module asks for it.
  """

  learning_rate: Any
  momentum: Any
  weight_decay: Any
  clip_norm: Any
  progress: Any = None


class Control(NamedTuple):
  """What a call does with each slot, all [slots].

  Attributes:
    key: of batch order and augmentation.
    epoch: the epoch, from 0; with the key it gives the order of the images.
    first: the first step, of this epoch.
    steps: how many to train; 0 leaves the slot alone.
    finish: whether the epoch ends with them: then the last, smaller batch is trained, if there is one.
    score: whether to score after them.
    hyperparameters: of this epoch; learning rates [slots, steps].
  """

  key: Any
  epoch: Any
  first: Any
  steps: Any
  finish: Any
  score: Any
  hyperparameters: Hyperparameters


class EpochResult(NamedTuple):
  """What an epoch of one candidate gave: mean training loss, training accuracy, accuracy on the scoring part (fractions)."""

  loss: float
  train_accuracy: float
  score: float


class Snapshot(NamedTuple):
  """Where a training stands, `step` steps into epoch `epoch` (both counted from 0): all that resuming needs."""

  state: TrainState
  tally: Tally
  epoch: int
  step: int


def optimizer(hyperparameters: Hyperparameters, *, nesterov: bool = False) -> optax.GradientTransformation:
  """Returns SGD as PyTorch has it: clip, add the decayed weights, then momentum; the rate scales the momentum's output."""
  return optax.chain(
      optax.clip_by_global_norm(hyperparameters.clip_norm),
      optax.add_decayed_weights(hyperparameters.weight_decay),
      optax.sgd(hyperparameters.learning_rate, hyperparameters.momentum, nesterov=nesterov))


def optimizer_shapes(params: Any) -> Any:
  """Returns shapes and types of the optimiser's state for these weights."""
  return jax.eval_shape(lambda: optimizer(Hyperparameters(0.0, 0.0, 0.0, 1.0)).init(jax.tree.map(jnp.asarray, params)))


def zeros_like(shapes: Any) -> Any:
  """Returns zeros of these shapes and types, on the host."""
  return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)

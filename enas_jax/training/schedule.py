"""A schedule in numbers: the learning rate of an epoch, its steps and images, and what a training costs."""
from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from enas_jax.training.state import Hyperparameters
from enas_jax.types import Schedule


def learning_rate(schedule: Schedule, epoch: int) -> float:
  """Returns the cosine from the peak to 0 over the candidate's own epochs; 0 after them.

  With `rate_steps_first` epoch e has the rate of e + 1 (egnas quirk: the last epoch trains at rate 0).
  """
  position = min(1.0, (epoch + schedule.rate_steps_first) / schedule.epochs)
  return schedule.learning_rate * 0.5 * (1.0 + math.cos(math.pi * position))


def progress(schedule: Schedule, epoch: int) -> float:
  """Returns the share of the candidate's own epochs that is over, in [0, 1); after them it stays that of the last."""
  return min(epoch, schedule.epochs - 1) / schedule.epochs


def images_an_epoch(schedule: Schedule, train_size: int) -> int:
  """Returns how many images one epoch trains on: all, or those in whole batches."""
  return train_size if schedule.keep_last_batch else train_size // schedule.batch_size * schedule.batch_size


def steps_an_epoch(schedule: Schedule, train_size: int) -> int:
  """Returns how many batches an epoch has, a smaller last one included if it is trained on."""
  return -(-images_an_epoch(schedule, train_size) // schedule.batch_size)


def train_macs(macs: int, schedule: Schedule, train_size: int) -> float:
  """Returns the multiply-adds of a whole training: one forward pass, and about two for gradients."""
  return 3.0 * macs * schedule.trained_epochs * images_an_epoch(schedule, train_size)


def hyperparameters(schedules: Sequence[Schedule], epoch: int) -> Hyperparameters:
  """Returns the numbers of an epoch, float32 [M] each, for M candidates."""
  rows = [(learning_rate(s, epoch), s.momentum, s.weight_decay, s.clip_norm, progress(s, epoch)) for s in schedules]
  return Hyperparameters(*np.asarray(rows, np.float32).T)

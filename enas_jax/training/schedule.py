"""A schedule in numbers: the learning rate of an epoch, its steps and images, and what a training costs."""
from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from enas_jax.training.state import Hyperparameters
from enas_jax.types import Schedule


def learning_rates(schedule: Schedule, epoch: int, steps: int) -> np.ndarray:
  """Returns the rates of an epoch's steps, float64 [steps], falling to 0 over the candidate's own epochs; 0 after them.

  With decay 'epoch_cosine' they are equal, and with `rate_steps_first` epoch e has the rate of e + 1 (egnas quirk: the last
  epoch trains at rate 0). Otherwise each step has its own, with a linear rise before and rate 0 at the end if so wished.
  """
  if schedule.decay == 'epoch_cosine':
    position = min(1.0, (epoch + schedule.rate_steps_first) / schedule.epochs)
    return np.full(steps, schedule.learning_rate * 0.5 * (1.0 + math.cos(math.pi * position)))
  total = schedule.epochs * steps
  rise, fall = schedule.warmup * total, (1 - schedule.warmup - schedule.settle) * total
  step = epoch * steps + np.arange(steps)
  position = np.clip((step - rise) / fall, 0, 1)
  decayed = 1 - position if schedule.decay == 'linear' else 0.5 * (1 + np.cos(np.pi * position))
  return schedule.learning_rate * decayed * np.minimum(1, (step + 1) / max(rise, 1))


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


def hyperparameters(epochs: Sequence[tuple[Schedule, int]], steps: int) -> Hyperparameters:
  """Returns the numbers of M epochs of so many steps, each of a schedule: float32 [M]; learning rates [M, steps]."""
  rates = np.stack([learning_rates(s, epoch, steps) for s, epoch in epochs]).astype(np.float32)
  rows = [(s.momentum, s.weight_decay, s.clip_norm, progress(s, epoch)) for s, epoch in epochs]
  return Hyperparameters(rates, *np.asarray(rows, np.float32).T)

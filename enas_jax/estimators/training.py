"""The loop that trains one architecture as its module (chains go through slots.py): epochs and steps on the host.

It goes on from any point, with everything keyed by the candidate's identity.

The loop stays on the host because on a CPU a convolution inside an XLA loop is many times slower.
"""
from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np

from enas_jax.estimators.program import Hyperparameters, Program, Tally, TrainState
from enas_jax.types import Request, Schedule

_DATA = 0xDA7A  # Parts the keys of batches from those of weights.


class Snapshot(NamedTuple):
  """Where training stands, `step` steps into epoch `epoch` (both from 0): all that resuming needs."""

  state: TrainState
  tally: Tally
  epoch: int
  step: int


class Epoch(NamedTuple):
  """What an epoch gave, each [M]: mean training loss, training accuracy, score (None where not asked for)."""

  loss: np.ndarray
  train_accuracy: np.ndarray
  score: np.ndarray | None


def train(program: Program, requests: Sequence[Request], *, seed: int, start: Snapshot | None = None, score: bool = True,
          should_stop: Callable[[], bool] = lambda: False) -> Iterator[tuple[Snapshot, Epoch | None]]:
  """Trains replicates of the program's architecture, each under its own schedule, to the longest of these.

  Args:
    program: compiled for as many members as there are requests.
    requests: of one architecture and batch size. A shorter one goes on at learning rate 0; read its result at its end.
    seed: the search's.
    start: resumes there. Its arrays are consumed.
    score: whether to score every epoch.
    should_stop: polled after every step.

  Yields:
    After each epoch, the snapshot and what the epoch gave. When told to stop, a last snapshot and None. A snapshot is
    good until the next one is asked for.
  """
  schedules = [r.schedule for r in requests]
  steps = _steps(schedules[0], program.data.train_size)
  keys = jax.numpy.stack([data_key(seed, r) for r in requests])
  if start is None:
    start = Snapshot(program.init(jax.numpy.stack([initial_key(seed, r) for r in requests])), program.new_tally(), 0, 0)
  state, tally, first_epoch, first_step = start
  for epoch in range(first_epoch, max(s.trained_epochs for s in schedules)):
    order_keys, step_keys = _epoch_keys(keys, epoch)
    order = _orders(order_keys, program.data.train_size)
    hyperparameters = _hyperparameters(schedules, epoch)
    for step in range(first_step, steps):
      state, tally = program.step(state, tally, hyperparameters, order, step_keys, step)
      if should_stop() and step + 1 < steps:
        yield Snapshot(state, tally, epoch, step + 1), None
        return
    images = images_an_epoch(schedules[0], program.data.train_size)
    result = Epoch(
        np.asarray(tally.loss) / images, np.asarray(tally.correct) / images, program.score(state) if score else None)
    tally, first_step = program.new_tally(), 0
    yield Snapshot(state, tally, epoch + 1, 0), result


def learning_rate(schedule: Schedule, epoch: int) -> float:
  """The cosine from the peak to 0 over the candidate's own epochs; 0 after them.

  With `rate_steps_first` epoch e has the rate of e + 1 (egnas quirk: the last epoch trains at rate 0).
  """
  position = min(1.0, (epoch + schedule.rate_steps_first) / schedule.epochs)
  return schedule.learning_rate * 0.5 * (1.0 + math.cos(math.pi * position))


def progress(schedule: Schedule, epoch: int) -> float:
  """The share of the candidate's own epochs that is over, in [0, 1); after them it stays that of the last."""
  return min(epoch, schedule.epochs - 1) / schedule.epochs


def images_an_epoch(schedule: Schedule, train_size: int) -> int:
  """Images that one epoch trains on: all, or those in whole batches."""
  return train_size if schedule.keep_last_batch else train_size // schedule.batch_size * schedule.batch_size


def train_macs(macs: int, schedule: Schedule, train_size: int) -> float:
  """Multiply-adds of a whole training: forward once, backward about twice that (to the inputs and to the weights)."""
  return 3.0 * macs * schedule.trained_epochs * images_an_epoch(schedule, train_size)


def initial_key(seed: int, request: Request) -> jax.Array:
  """Of the first weights: follows from the architecture and the replicate, never from a place in a group."""
  return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), request.replicate), _digest(request))


def initial_seed(seed: int, request: Request) -> list[int]:
  """As `initial_key`, for weights that are drawn on the host."""
  return [seed, request.replicate, _digest(request)]


def data_key(seed: int, request: Request) -> jax.Array:
  """Of batch order and augmentation: the same for all candidates of one replicate, which so compare in pairs."""
  return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), request.replicate), _DATA)


@jax.jit
def _epoch_keys(keys: jax.Array, epoch: int) -> tuple[jax.Array, jax.Array]:
  """The keys of an epoch's order and of its augmentation for each member, [M] both."""
  both = jax.vmap(lambda key: jax.random.split(jax.random.fold_in(key, epoch)))(keys)
  return both[:, 0], both[:, 1]


@functools.partial(jax.jit, static_argnums=1)
def _orders(keys: jax.Array, size: int) -> jax.Array:
  """The order of an epoch's images for each member, [M, size]."""
  return jax.vmap(lambda key: jax.random.permutation(key, size))(keys)


def _digest(request: Request) -> int:
  digest = hashlib.sha256(json.dumps(request.architecture.to_json(), sort_keys=True).encode()).digest()
  return int.from_bytes(digest[:4], 'big')


def _steps(schedule: Schedule, train_size: int) -> int:
  return -(-images_an_epoch(schedule, train_size) // schedule.batch_size)


def _hyperparameters(schedules: Sequence[Schedule], epoch: int) -> Hyperparameters:
  rows = [(learning_rate(s, epoch), s.momentum, s.weight_decay, s.clip_norm, progress(s, epoch)) for s in schedules]
  return Hyperparameters(*np.asarray(rows, np.float32).T)

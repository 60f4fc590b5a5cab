"""The training of one architecture as its module: epochs and steps are a loop on the host.

It goes on from any point, with everything keyed by the candidate's identity. The loop stays on the host because on a CPU a
convolution inside an XLA loop is many times slower. Families of architectures go through slots.py instead.
"""
from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np

from enas_jax.training.keys import data_key, initial_key
from enas_jax.training.module_program import ModuleProgram
from enas_jax.training.schedule import hyperparameters, images_an_epoch, steps_an_epoch
from enas_jax.training.state import Snapshot
from enas_jax.types import Request


class Epoch(NamedTuple):
  """What an epoch gave, each [M]: mean training loss, training accuracy, score (NaN where not asked for)."""

  loss: np.ndarray
  train_accuracy: np.ndarray
  score: np.ndarray


def train(program: ModuleProgram, requests: Sequence[Request], *, seed: int, start: Snapshot | None = None, score: bool = True,
          should_stop: Callable[[], bool] = lambda: False) -> Iterator[tuple[Snapshot, Epoch | None]]:
  """Trains replicates of the program's architecture, each under its own schedule, to the longest of these.

  Args:
    program: compiled for as many replicates as there are requests.
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
  steps = steps_an_epoch(schedules[0], program.data.train_size)
  keys = jax.numpy.stack([data_key(seed, r) for r in requests])
  if start is None:
    start = Snapshot(program.init(jax.numpy.stack([initial_key(seed, r) for r in requests])), program.new_tally(), 0, 0)
  state, tally, first_epoch, first_step = start
  for epoch in range(first_epoch, max(s.trained_epochs for s in schedules)):
    order_keys, step_keys = _epoch_keys(keys, epoch)
    order = _orders(order_keys, program.data.train_size)
    numbers = hyperparameters([(s, epoch) for s in schedules], steps)
    for step in range(first_step, steps):
      own = numbers._replace(learning_rate=numbers.learning_rate[:, step])
      state, tally = program.step(state, tally, own, order, step_keys, step)
      if should_stop() and step + 1 < steps:
        yield Snapshot(state, tally, epoch, step + 1), None
        return
    images = images_an_epoch(schedules[0], program.data.train_size)
    scores = program.score(state) if score else np.full(len(requests), np.nan)
    result = Epoch(np.asarray(tally.loss) / images, np.asarray(tally.correct) / images, scores)
    tally, first_step = program.new_tally(), 0
    yield Snapshot(state, tally, epoch + 1, 0), result


@jax.jit
def _epoch_keys(keys: jax.Array, epoch: int) -> tuple[jax.Array, jax.Array]:
  """The keys of an epoch's order and of its augmentation for each member, [M] both."""
  both = jax.vmap(lambda key: jax.random.split(jax.random.fold_in(key, epoch)))(keys)
  return both[:, 0], both[:, 1]


@functools.partial(jax.jit, static_argnums=1)
def _orders(keys: jax.Array, size: int) -> jax.Array:
  """The order of an epoch's images for each member, [M, size]."""
  return jax.vmap(lambda key: jax.random.permutation(key, size))(keys)

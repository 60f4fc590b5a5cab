"""One network trained to its end, from any point and to any point: the last act of a search."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from flax import nnx

from enas_jax.estimators.population import Layout, PopulationProgram
from enas_jax.estimators.program import Program, Tally, TrainingData, TrainState
from enas_jax.estimators.slots import EpochResult, train_one
from enas_jax.estimators.trained import Execution
from enas_jax.estimators.training import Snapshot, train
from enas_jax.networks import build
from enas_jax.networks.stacked_weights import Capacity
from enas_jax.spaces.chain import ChainArchitecture
from enas_jax.types import Architecture, Request


class Alone:
  """The training of one network on all devices: each takes a part of every batch.

  On a CPU one device takes it all, since its cores share the work anyway; so it is where the batch cannot be parted equally.

  Attributes:
    memory_bytes: that training needs beside the data.
    state_shape: shapes and types of the weights, statistics and optimiser's state.
  """

  def __init__(self, request: Request, data: TrainingData, execution: Execution):
    self._request, self._data = request, data
    architecture, schedule = request.architecture, request.schedule
    self._stacked = isinstance(architecture, ChainArchitecture)
    if not self._stacked:
      self._program = Program(architecture, data, batch_size=schedule.batch_size)
      self.memory_bytes, self.state_shape = self._program.memory_bytes, self._program.state_shape
      return
    tail = data.train_size % schedule.batch_size if schedule.keep_last_batch else 0
    devices = execution.devices[:1] if execution.devices[0].platform == 'cpu' else execution.devices
    parts = next(n for n in range(len(devices), 0, -1) if schedule.batch_size % n == tail % n == 0)
    self._program = PopulationProgram(
        Capacity.of([architecture]), data, batch_size=schedule.batch_size, keep_last_batch=schedule.keep_last_batch,
        layout=Layout(devices[:parts], data_parallel=parts > 1), dtype=execution.dtype, lowering=execution.lowering)
    self.memory_bytes = self._program.memory_bytes
    self.state_shape = jax.eval_shape(lambda: jax.tree.map(
        jax.numpy.asarray, self._program.initial(architecture, np.random.default_rng(0))))

  def new_tally(self) -> Tally:
    return self._program.new_tally()

  def train(self, *, seed: int, start: Snapshot | None, score: bool,
            should_stop: Callable[[], bool]) -> Iterator[tuple[Snapshot, EpochResult | None]]:
    """After each epoch, a snapshot and what the epoch gave. When told to stop, a last snapshot and None.

    Args:
      seed: the search's.
      start: goes on there.
      score: whether to score every epoch, or only the last.
      should_stop: polled every second or so.
    """
    if self._stacked:
      yield from train_one(self._program, self._request, seed=seed, start=start, score=score, should_stop=should_stop)
      return
    epochs = self._request.schedule.trained_epochs
    for snapshot, epoch in train(self._program, [self._request], seed=seed, start=start, score=score, should_stop=should_stop):
      if epoch is None:
        yield snapshot, None
        return
      last = snapshot.epoch == epochs
      accuracy = epoch.score[0] if score else self._program.score(snapshot.state)[0] if last else np.nan
      yield snapshot, EpochResult(float(epoch.loss[0]), float(epoch.train_accuracy[0]), float(accuracy))

  def network(self, state: TrainState) -> nnx.Module:
    """The trained module, in evaluation mode."""
    if self._stacked:
      params, stats = self._program.unpack(self._request.architecture, state)
    else:
      params, stats = (nnx.to_pure_dict(jax.tree.map(lambda x: x[0], tree)) for tree in (state.params, state.stats))
    return with_weights(self._request.architecture, self._data, params, stats)


def with_weights(architecture: Architecture, data: TrainingData, params: Any, stats: Any) -> nnx.Module:
  """The module with these weights and batch-norm statistics (nested dicts), in evaluation mode."""
  empty = nnx.eval_shape(lambda: build(architecture, task=data.task, key=jax.random.key(0)))
  graph, param_state, stat_state = nnx.split(empty, nnx.Param, nnx.BatchStat)
  for state, values in ((param_state, params), (stat_state, stats)):
    nnx.replace_by_pure_dict(state, jax.tree.map(jax.numpy.asarray, values))
  network = nnx.merge(graph, param_state, stat_state)
  network.eval()
  return network

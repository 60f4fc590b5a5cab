"""One network trained to its end, from any point and to any point: the last act of a search."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import jax
import numpy as np
from flax import nnx

from enas_jax.networks import build
from enas_jax.training.family import Family, family_network
from enas_jax.training.host_loop import train
from enas_jax.training.layout import Execution, Layout
from enas_jax.training.module_program import ModuleProgram
from enas_jax.training.population import PopulationProgram
from enas_jax.training.slots import train_one
from enas_jax.training.state import EpochResult, Snapshot, Tally, TrainingData, TrainState
from enas_jax.types import Architecture, Request

Epochs = Iterator[tuple[Snapshot, EpochResult | None]]


class SingleTraining(Protocol):
  """The training of one network.

  Attributes:
    memory_bytes: what training needs beside the data.
    state_shape: shapes and types of the weights, statistics and optimiser's state.
  """

  memory_bytes: int
  state_shape: Any

  def new_tally(self) -> Tally:
    """Returns the tally of an epoch that has not begun."""

  def train(self, *, seed: int, start: Snapshot | None, score: bool, should_stop: Callable[[], bool]) -> Epochs:
    """Yields, after each epoch, a snapshot and what the epoch gave; when told to stop, a last snapshot and None.

    Args:
      seed: the search's.
      start: goes on there.
      score: whether to score every epoch, or only the last.
      should_stop: polled every second or so.
    """

  def network(self, state: TrainState) -> nnx.Module:
    """Returns the trained module, in evaluation mode."""


def single_training(request: Request, data: TrainingData, execution: Execution,
                    family: Family[Any, Any] | None) -> SingleTraining:
  """Compiles the training of one network: as its family's program, or as its module if there is no family."""
  if family is None:
    return _ModuleTraining(request, data)
  return _FamilyTraining(request, data, execution, family)


class _FamilyTraining:
  """The training on all devices: each takes a part of every batch.

  On a CPU one device takes it all, since its cores share the work anyway; so it is if the batch cannot be split equally.
  """

  def __init__(self, request: Request, data: TrainingData, execution: Execution, family: Family[Any, Any]):
    self._request, self._data = request, data
    architecture, schedule = request.architecture, request.schedule
    tail = data.train_size % schedule.batch_size if schedule.keep_last_batch else 0
    devices = execution.devices[:1] if execution.platform == 'cpu' else execution.devices
    parts = next(n for n in range(len(devices), 0, -1) if schedule.batch_size % n == tail % n == 0)
    layout = Layout(devices[:parts], data_parallel=parts > 1)
    network = family_network(family, family.own_capacity(architecture), execution, layout)
    self._program = PopulationProgram(network, data, schedule.recipe, layout=layout)
    self.memory_bytes = self._program.memory_bytes
    self.state_shape = jax.eval_shape(lambda: jax.tree.map(
        jax.numpy.asarray, self._program.initial(architecture, np.random.default_rng(0))))

  def new_tally(self) -> Tally:
    return self._program.new_tally()

  def train(self, *, seed: int, start: Snapshot | None, score: bool, should_stop: Callable[[], bool]) -> Epochs:
    return train_one(self._program, self._request, seed=seed, start=start, score=score, should_stop=should_stop)

  def network(self, state: TrainState) -> nnx.Module:
    params, stats = self._program.unpack(self._request.architecture, state)
    return with_weights(self._request.architecture, self._data, params, stats)


class _ModuleTraining:
  """The training of a module, on the default device."""

  def __init__(self, request: Request, data: TrainingData):
    self._request, self._data = request, data
    self._program = ModuleProgram(request.architecture, data, request.schedule.recipe)
    self.memory_bytes, self.state_shape = self._program.memory_bytes, self._program.state_shape

  def new_tally(self) -> Tally:
    return self._program.new_tally()

  def train(self, *, seed: int, start: Snapshot | None, score: bool, should_stop: Callable[[], bool]) -> Epochs:
    epochs = self._request.schedule.trained_epochs
    for snapshot, epoch in train(self._program, [self._request], seed=seed, start=start, score=score, should_stop=should_stop):
      if epoch is None:
        yield snapshot, None
        return
      last = not score and snapshot.epoch == epochs
      accuracy = self._program.score(snapshot.state)[0] if last else epoch.score[0]
      yield snapshot, EpochResult(float(epoch.loss[0]), float(epoch.train_accuracy[0]), float(accuracy))

  def network(self, state: TrainState) -> nnx.Module:
    params, stats = (nnx.to_pure_dict(jax.tree.map(lambda x: x[0], tree)) for tree in (state.params, state.stats))
    return with_weights(self._request.architecture, self._data, params, stats)


def with_weights(architecture: Architecture, data: TrainingData, params: Any, stats: Any) -> nnx.Module:
  """Returns the module with these weights and batch-norm statistics (nested dicts), in evaluation mode."""
  empty = nnx.eval_shape(lambda: build(architecture, task=data.task, key=jax.random.key(0)))
  graph, *states = nnx.split(empty, nnx.Param, nnx.BatchStat)
  for state, values in zip(states, (params, stats), strict=True):
    nnx.replace_by_pure_dict(state, jax.tree.map(jax.numpy.asarray, values))
  network: nnx.Module = nnx.merge(graph, *states)
  network.eval()
  return network

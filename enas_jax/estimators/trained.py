"""The estimator that trains: every candidate from scratch under its own schedule, as many at once as there is room for."""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from enas_jax.spaces.base import SearchSpace
from enas_jax.training import host_engine, slots_engine
from enas_jax.training.engine import Engine, Resources
from enas_jax.training.family import Family
from enas_jax.training.ladder import Outcome
from enas_jax.training.schedule import train_macs
from enas_jax.types import Evaluation, Request


class TrainedEstimator:
  """Trains candidates and scores them on the data's scoring part.

  Architectures of a family train together in the few programs that the family plans. Others share a program if they
  differ in nothing but replicate and schedule. A candidate that diverges, does not fit in memory or does not compile yields a
  failed evaluation.

  Args:
    space: counts parameters and multiply-adds.
    resources: what to train with: data, seed, devices, memory.
    family: the space's family; None: each architecture is compiled as its module.
  """

  def __init__(self, space: SearchSpace, resources: Resources, family: Family[Any, Any] | None = None):
    self._space, self._resources = space, resources
    self._engine: Engine = (
        host_engine.HostEngine(resources) if family is None else slots_engine.SlotsEngine(family, resources))
    self._train_seconds = self._work = self._padded_work = 0.0

  def estimate(self, requests: Sequence[Request]) -> Iterator[tuple[int, Evaluation]]:
    """Yields (index into requests, evaluation) as candidates end. Raises `Stopped` when told to stop."""
    for index, outcome in self._engine.train(requests):
      evaluation = self._evaluation(requests[index], outcome)
      self._train_seconds += outcome.seconds - outcome.compile_seconds
      self._work += evaluation.train_macs
      self._padded_work += evaluation.train_macs * outcome.padding
      yield index, evaluation

  def prepare(self, requests: Iterable[Request]) -> None:
    """Compiles the first program that these need and that is missing, while the present ones train."""
    self._engine.prepare(requests)

  def predict_macs(self, request: Request) -> float:
    """Predicts the multiply-adds of training a request."""
    resources = self._resources
    return train_macs(self._space.macs(request.architecture, resources.data.task), request.schedule, resources.data.train_size)

  def describe(self) -> str:
    """Says how candidates are trained, and why so; a line each."""
    return self._engine.describe()

  def report(self) -> dict[str, float]:
    """Says what was trained so far and how.

    Returns:
      The engine's report (`programs` and `compile_seconds`, of a family `slot_fill` and `core_fill`); `train_seconds` of
      wall-clock without compilation; `padding_waste`, the share of the work that fell on padding, as predicted, in [0, 1];
      `model_flops_per_second` of all devices, padding aside.
    """
    return {
        **self._engine.report(),
        'train_seconds': self._train_seconds,
        'padding_waste': 1 - self._work / self._padded_work if self._padded_work else 0.0,
        'model_flops_per_second': 2 * self._work / self._train_seconds if self._train_seconds else 0.0,
    }

  def _evaluation(self, request: Request, outcome: Outcome) -> Evaluation:
    epochs, seconds, compile_seconds = outcome.epochs, outcome.seconds, outcome.compile_seconds
    if outcome.reason:
      return Evaluation(reason=outcome.reason, seconds=seconds, compile_seconds=compile_seconds)
    scores = tuple(epoch.score for epoch in epochs)
    diverged = next((i for i, epoch in enumerate(epochs) if not np.isfinite(epoch.loss)), None)
    trained = len(epochs) if diverged is None else diverged + 1
    macs = self.predict_macs(request) * trained / request.schedule.trained_epochs
    if diverged is not None:
      return Evaluation(
          reason=f'diverged: training loss {epochs[diverged].loss} in epoch {diverged + 1}', curve=scores[:diverged],
          train_macs=macs, seconds=seconds, compile_seconds=compile_seconds)
    chosen = int(np.argmax(scores)) if request.schedule.best_epoch else len(scores) - 1
    task = self._resources.data.task
    metrics = {
        'accuracy': scores[chosen],
        'train_accuracy': epochs[chosen].train_accuracy,
        'train_loss': epochs[chosen].loss,
        'params': self._space.num_params(request.architecture, task),
        'macs': self._space.macs(request.architecture, task),
    }
    return Evaluation(metrics=metrics, curve=scores, train_macs=macs, seconds=seconds, compile_seconds=compile_seconds)

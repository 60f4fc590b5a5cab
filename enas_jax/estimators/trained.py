"""The estimator that trains: every candidate from scratch, each under its own schedule."""
from __future__ import annotations

import collections
import time
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np

from enas_jax.errors import Stopped
from enas_jax.estimators.memory import shortage
from enas_jax.estimators.program import Program, TrainingData
from enas_jax.estimators.training import train, train_macs
from enas_jax.spaces import SearchSpace
from enas_jax.types import Evaluation, Request

PROGRAMS_KEPT = 4


class TrainedEstimator:
  """Trains candidates and scores them on the data's scoring part.

  Requests that differ in nothing but replicate and schedule share a program and train together; the rest train one after
  the other. A candidate that diverges, does not fit in memory or does not compile yields a failed evaluation.

  Args:
    space: counts parameters and multiply-adds.
    data: what to train and score on.
    seed: the search's.
    group_size: most candidates trained at once. None: 1 on CPU, where more gain nothing, else 8.
    memory_limit: bytes that a program may need. None: what the device has free.
    should_stop: polled after every training step; then `Stopped` is raised and the candidate in training is lost.
  """

  def __init__(self, space: SearchSpace, data: TrainingData, *, seed: int, group_size: int | None = None,
               memory_limit: int | None = None, should_stop: Callable[[], bool] = lambda: False):
    self._space, self._data, self._seed = space, data, seed
    self._group_size = group_size or (1 if jax.default_backend() == 'cpu' else 8)
    self._memory_limit, self._should_stop = memory_limit, should_stop
    self._programs: collections.OrderedDict[tuple, Program] = collections.OrderedDict()

  def estimate(self, requests: Sequence[Request]) -> Iterator[tuple[int, Evaluation]]:
    """Yields (index, evaluation) group by group. Raises `Stopped` when told to stop."""
    for group in _groups(requests, self._group_size):
      yield from zip(group, self._train([requests[i] for i in group]), strict=True)

  def predict_macs(self, request: Request) -> float:
    """Multiply-adds that training will take."""
    return train_macs(self._space.macs(request.architecture, self._data.task), request.schedule, self._data.train_size)

  def _train(self, group: list[Request]) -> list[Evaluation]:
    start = time.perf_counter()
    try:
      program, spent_before = self._compiled(group)
    except Exception as error:  # Whatever a candidate's build raises is its own failure; the reason is recorded.
      if not _out_of_memory(error):  # Some compilers refuse what will not fit.
        seconds = (time.perf_counter() - start) / len(group)
        return [_failed(f'does not compile: {_one_line(error)}', seconds)] * len(group)
      reason = _one_line(error)
    else:
      reason = shortage(program.memory_bytes, self._memory_limit)
      if not reason:
        try:
          return self._run(program, group, start, spent_before)
        except jax.errors.JaxRuntimeError as error:
          if not _out_of_memory(error):
            raise
          reason = _one_line(error)
    if len(group) > 1:  # Half as many may fit.
      half = len(group) // 2
      return self._train(group[:half]) + self._train(group[half:])
    return [_failed(f'out of memory: {reason}', time.perf_counter() - start)]

  def _compiled(self, group: list[Request]) -> tuple[Program, float]:
    """The group's program and the seconds spent on compiling it before. The last few are kept: replicates come back."""
    signature = (*_signature(group[0]), len(group))
    if signature in self._programs:
      self._programs.move_to_end(signature)
      return self._programs[signature], self._programs[signature].compile_seconds
    architecture, batch_size, _ = _signature(group[0])
    program = Program(architecture, self._data, batch_size=batch_size, members=len(group))
    self._programs[signature] = program
    if len(self._programs) > PROGRAMS_KEPT:
      self._programs.popitem(last=False)
    return program, 0.0

  def _run(self, program: Program, group: list[Request], start: float, spent_before: float) -> list[Evaluation]:
    epochs, most = [], max(request.schedule.epochs for request in group)
    for _, epoch in train(program, group, seed=self._seed, should_stop=self._should_stop):
      if epoch is not None:
        epochs.append(epoch)
        if len(epochs) == most or not np.isfinite(epoch.loss).any():
          break  # Finished: kept even where a stop was asked for meanwhile.
      if epoch is None or self._should_stop():
        raise Stopped
    seconds = (time.perf_counter() - start) / len(group)
    compile_seconds = (program.compile_seconds - spent_before) / len(group)  # A last, smaller batch compiles at its first use.
    return [
        self._evaluation(request, [(e.loss[i], e.train_accuracy[i], e.score[i]) for e in epochs[:request.schedule.epochs]],
                         seconds=seconds, compile_seconds=compile_seconds)
        for i, request in enumerate(group)]

  def _evaluation(self, request: Request, epochs: list[tuple], **cost: float) -> Evaluation:
    losses, train_accuracies, scores = (tuple(float(x) for x in column) for column in zip(*epochs, strict=True))
    diverged = next((i for i, loss in enumerate(losses) if not np.isfinite(loss)), None)
    trained = len(losses) if diverged is None else diverged + 1
    cost['train_macs'] = self.predict_macs(request) * trained / request.schedule.epochs
    if diverged is not None:
      return Evaluation(
          reason=f'diverged: training loss {losses[diverged]} in epoch {diverged + 1}', curve=scores[:diverged], **cost)
    chosen = int(np.argmax(scores)) if request.schedule.best_epoch else len(scores) - 1
    metrics = {
        'accuracy': scores[chosen],
        'train_accuracy': train_accuracies[chosen],
        'train_loss': losses[chosen],
        'params': self._space.num_params(request.architecture, self._data.task),
        'macs': self._space.macs(request.architecture, self._data.task),
    }
    return Evaluation(metrics=metrics, curve=scores, **cost)


def _signature(request: Request) -> tuple:
  """What a compiled program depends on."""
  return request.architecture, request.schedule.batch_size, request.schedule.keep_last_batch


def _groups(requests: Sequence[Request], size: int) -> Iterator[list[int]]:
  """Indices of requests that share a program, at most `size` each, in the order of their first."""
  by_signature: dict[tuple, list[int]] = {}
  for i, request in enumerate(requests):
    by_signature.setdefault(_signature(request), []).append(i)
  for members in by_signature.values():
    for start in range(0, len(members), size):
      yield members[start:start + size]


def _failed(reason: str, seconds: float) -> Evaluation:
  return Evaluation(reason=reason, seconds=seconds)


def _out_of_memory(error: Exception) -> bool:
  return isinstance(error, jax.errors.JaxRuntimeError) and 'RESOURCE_EXHAUSTED' in str(error)


def _one_line(error: Exception) -> str:
  lines = str(error).strip().splitlines() or ['']
  return f'{type(error).__name__}: {lines[0][:300]}'

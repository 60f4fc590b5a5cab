"""The estimator that trains: every candidate from scratch under its own schedule, as many at once as there is room for."""
from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import functools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from enas_jax.errors import Stopped
from enas_jax.estimators.memory import shortage
from enas_jax.estimators.packing import Packing, rates, step_seconds
from enas_jax.estimators.population import Layout, PopulationProgram
from enas_jax.estimators.program import Program, TrainingData
from enas_jax.estimators.slots import EpochResult, Progressed, Usage, train_in_slots
from enas_jax.estimators.training import train, train_macs
from enas_jax.networks.stacked_weights import Capacity
from enas_jax.spaces import SearchSpace
from enas_jax.spaces.chain import ChainArchitecture
from enas_jax.types import Evaluation, Request

PROGRAMS_KEPT = 8
PAUSED_KEPT = 256  # Candidates that a schedule stopped early and may go on; their weights are on the host.


@dataclasses.dataclass(frozen=True)
class Execution:
  """How candidates run; rounding apart, nothing of it changes a result.

  Attributes:
    devices: that train.
    slots: most candidates on each at once.
    vmapped: train a device's candidates side by side instead of in turn.
    shared_batches: of those side by side, draw a batch once for all: they then start together.
    dtype: of planes and products; weights and sums are float32.
    lowering: of convolutions, see networks/planes.py.
  """

  devices: tuple[jax.Device, ...]
  slots: int = 1
  vmapped: bool = False
  shared_batches: bool = False
  dtype: Any = jnp.float32
  lowering: str = 'shifts'

  @classmethod
  def default(cls, slots: int | None = None, **settings: Any) -> Execution:
    """What suits the platform: on CPU one candidate a device in turn, elsewhere many side by side in bfloat16."""
    cpu = jax.default_backend() == 'cpu'
    given = {
        'devices': tuple(jax.local_devices()), 'dtype': jnp.float32 if cpu else jnp.bfloat16, 'vmapped': not cpu,
        'shared_batches': not cpu, **settings}
    return cls(slots=slots or (1 if cpu else 16), **given)

  def layout(self, candidates: int, branches: int = 1) -> Layout:
    """For so many: side by side, no more slots than they need, in powers of two so that there are few programs.

    Layers of several branches run in turn everywhere: side by side, each would run all of its branches.
    """
    if not self.vmapped or branches > 1:
      return Layout(self.devices, 1 if self.vmapped else self.slots)
    slots = min(self.slots, 1 << (-(-candidates // len(self.devices)) - 1).bit_length())
    return Layout(self.devices, slots, True, self.shared_batches)


class TrainedEstimator:
  """Trains candidates and scores them on the data's scoring part.

  Chains of all sizes train together in the few programs that `packing` plans. Candidates of other spaces share a program
  where they differ in nothing but replicate and schedule. A candidate that diverges, does not fit in memory or does not compile
  yields a failed evaluation.

  Args:
    space: counts parameters and multiply-adds.
    data: what to train and score on.
    seed: the search's.
    packing: into which programs chains go. None: each into one of its own size.
    execution: how they run. None: what suits the platform, but for the `settings`.
    memory_limit: bytes that a program may need. None: what the device has free.
    should_stop: polled every second or so; then `Stopped` is raised and the candidates in training are lost.
    settings: fields of `Execution`, such as `slots`.
  """

  def __init__(self, space: SearchSpace, data: TrainingData, *, seed: int, packing: Packing | None = None,
               execution: Execution | None = None, memory_limit: int | None = None,
               should_stop: Callable[[], bool] = lambda: False, **settings: Any):
    self._space, self._data, self._seed = space, data, seed
    self._packing = Packing() if packing is None else packing
    self._execution = Execution.default(**settings) if execution is None else execution
    self._memory_limit, self._should_stop = memory_limit, should_stop
    self._platform = self._execution.devices[0].platform
    self._programs: collections.OrderedDict[tuple, concurrent.futures.Future] = collections.OrderedDict()
    self._compiler = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix='compile')
    self._paused: collections.OrderedDict[tuple[Capacity, Request], Progressed] = collections.OrderedDict()
    self._too_large: dict[tuple, str] = {}  # What did not fit, with the reason; so that it is not compiled again.
    self._usage, self._compiled, self._compile_seconds = Usage(), 0, 0.0
    self._train_seconds = self._work = self._padded_work = 0.0

  def estimate(self, requests: Sequence[Request]) -> Iterator[tuple[int, Evaluation]]:
    """Yields (index, evaluation) as candidates end. Raises `Stopped` when told to stop."""
    stacked: dict[tuple, dict[int, Request]] = {}  # Batches that are shared are those of one replicate.
    apart: dict[tuple, list[int]] = {}
    for i, request in enumerate(requests):
      if isinstance(request.architecture, ChainArchitecture):
        shares = request.replicate if self._execution.shared_batches else None
        stacked.setdefault((self._signature(request), shares), {})[i] = request
      else:
        apart.setdefault((request.architecture, *_batches(request)), []).append(i)
    for (signature, _), group in stacked.items():
      yield from self._train_stacked(signature, group, self._layout(signature, len(group)))
    for indices in apart.values():
      for start in range(0, len(indices), self._execution.slots):
        group = indices[start:start + self._execution.slots]
        yield from zip(group, self._train_apart([requests[i] for i in group]), strict=True)

  def prepare(self, requests: Iterable[Request]) -> None:
    """Compiles the first program that these need and that is missing, while the present ones train."""
    groups = collections.Counter(self._signature(r) for r in requests if isinstance(r.architecture, ChainArchitecture))
    there = {key[0] for key in (*self._programs, *self._too_large)}
    missing = next((signature for signature in groups if signature not in there), None)
    if missing is not None and all(future.done() for future in self._programs.values()):
      self._submit(missing, self._layout(missing, groups[missing]))

  def predict_macs(self, request: Request) -> float:
    """Multiply-adds that training will take."""
    return train_macs(self._space.macs(request.architecture, self._data.task), request.schedule, self._data.train_size)

  def describe(self) -> str:
    """How candidates are trained, and why so; one line."""
    chosen = self._execution
    way = 'side by side' if chosen.vmapped else 'in turn'
    return (f'{len(chosen.devices)} {self._platform} device{"s" * (len(chosen.devices) > 1)}, {chosen.slots} '
            f'candidate{"s" * (chosen.slots > 1)} each {way}, {jnp.dtype(chosen.dtype)}; {self._packing.reason}')

  def report(self) -> dict[str, float]:
    """How the programs were used so far.

    `programs` and `compile_seconds`; `train_seconds` of wall-clock in them; `slot_fill`, the share of all devices' time with
    a candidate to train, as predicted; `padding_waste`, the share of the work that fell on padding, as predicted;
    `model_flops_per_second`, of all devices, padding aside.
    """
    return {
        'programs': self._compiled,
        'compile_seconds': self._compile_seconds,
        'train_seconds': self._train_seconds,
        'slot_fill': self._usage.busy / self._usage.available if self._usage.available else 0.0,
        'padding_waste': 1 - self._work / self._padded_work if self._padded_work else 0.0,
        'model_flops_per_second': 2 * self._work / self._train_seconds if self._train_seconds else 0.0,
    }

  def _layout(self, signature: tuple, candidates: int) -> Layout:
    return self._execution.layout(candidates, len(signature[0].branches))

  @functools.cached_property
  def _spread(self) -> TrainingData:
    """The data on all devices, once for all programs."""
    return dataclasses.replace(self._data, arrays=jax.device_put(self._data.arrays, self._execution.layout(1).sharding()))

  def _signature(self, request: Request) -> tuple[Capacity, int, bool]:
    return self._packing.capacity(request.architecture), *_batches(request)

  def _submit(self, signature: tuple, layout: Layout) -> concurrent.futures.Future:
    capacity, batch_size, keep_last_batch = signature
    make = functools.partial(
        PopulationProgram, capacity, self._spread, batch_size=batch_size, keep_last_batch=keep_last_batch, layout=layout,
        dtype=self._execution.dtype, lowering=self._execution.lowering)
    return self._keep((signature, layout), make)

  def _keep(self, key: tuple, make: Callable[[], Any]) -> concurrent.futures.Future:
    """Compiled once, in the compiler's thread; the last few are kept."""
    if key not in self._programs:
      self._programs[key] = self._compiler.submit(make)
      self._programs[key].add_done_callback(self._count)
    self._programs.move_to_end(key)
    while len(self._programs) > PROGRAMS_KEPT:
      self._programs.popitem(last=False)
    return self._programs[key]

  def _count(self, future: concurrent.futures.Future) -> None:
    if not future.cancelled() and future.exception() is None:
      self._compiled += 1
      self._compile_seconds += future.result().compile_seconds

  def _train_stacked(self, signature: tuple, group: dict[int, Request], layout: Layout) -> Iterator[tuple[int, Evaluation]]:
    """Trains chains in one program. Where they do not fit, fewer at once; at last each in a program of its own size."""
    start = time.perf_counter()
    left = dict(group)
    try:
      program = None if (signature, layout) in self._too_large else self._wait(self._submit(signature, layout))
    except Stopped:
      raise
    except Exception as error:  # Whatever a candidate's build raises is its own failure; the reason is recorded.
      if not _out_of_memory(error):  # Some compilers refuse what will not fit.
        seconds = (time.perf_counter() - start) / len(group)
        yield from ((i, _failed(f'does not compile: {_one_line(error)}', seconds)) for i in group)
        return
      reason = _one_line(error)
    else:
      waited = (time.perf_counter() - start) / len(group)
      reason = self._too_large.get((signature, layout)) or self._shortage(program, layout)
      if not reason:
        try:
          for index, evaluation in self._run_stacked(program, left, waited):
            del left[index]
            yield index, evaluation
          return
        except jax.errors.JaxRuntimeError as error:
          if not _out_of_memory(error):
            raise
          reason = _one_line(error)
      del program  # Its memory, before a smaller one takes its place.
    self._programs.pop((signature, layout), None)
    self._too_large[signature, layout] = reason
    if layout.slots > 1 or (self._platform == 'cpu' and len(layout.devices) > 1):
      yield from self._train_stacked(signature, left, layout.halved())
      return
    for i, request in left.items():
      own = Capacity.of([request.architecture]), *signature[1:]
      if own == signature:
        yield i, _failed(f'out of memory: {reason}', (time.perf_counter() - start) / len(left))
      else:
        yield from self._train_stacked(own, {i: request}, layout)

  def _wait(self, future: concurrent.futures.Future) -> Any:
    """The compiled program. Raises Stopped when told to stop meanwhile."""
    while not future.done():
      concurrent.futures.wait([future], timeout=1)
      if not future.done() and self._should_stop():
        raise Stopped
    return future.result()

  def _shortage(self, program: PopulationProgram, layout: Layout) -> str:
    """Why a program does not fit, or ''. A CPU's devices share its memory; the members have theirs already."""
    devices = len(layout.devices) if self._platform == 'cpu' else 1
    held = program.member_bytes if self._memory_limit is None else 0
    return shortage((program.memory_bytes - held) * devices, self._memory_limit)

  def _run_stacked(self, program: PopulationProgram, group: dict[int, Request],
                   waited: float) -> Iterator[tuple[int, Evaluation]]:
    indices, requests = list(group), list(group.values())
    table = rates(self._platform)
    own, padded = ([step_seconds(r.architecture, self._data.task, program.batch_size, table, width=width) for r in requests]
                   for width in (0, program.capacity.width))
    starts = {i: begun for i, r in enumerate(requests)
              if (begun := self._paused.pop((program.capacity, _whole(r)), None)) is not None
              and len(begun.epochs) < r.schedule.trained_epochs}
    keep = frozenset(i for i, r in enumerate(requests) if r.schedule.stop_epoch is not None)
    for trained in train_in_slots(program, requests, seed=self._seed, costs=padded, starts=starts, keep=keep, usage=self._usage,
                                  should_stop=self._should_stop):
      request = requests[trained.index]
      if trained.state is not None:
        self._paused[program.capacity, _whole(request)] = trained.state
        while len(self._paused) > PAUSED_KEPT:
          self._paused.popitem(last=False)
      evaluation = self._evaluation(request, trained.epochs, seconds=trained.seconds + waited, compile_seconds=waited)
      self._train_seconds += trained.seconds
      self._work += evaluation.train_macs
      self._padded_work += evaluation.train_macs * padded[trained.index] / own[trained.index]
      yield indices[trained.index], evaluation

  def _train_apart(self, group: list[Request]) -> list[Evaluation]:
    """Trains replicates of one architecture, as its module."""
    start = time.perf_counter()
    architecture, batch_size = group[0].architecture, group[0].schedule.batch_size
    make = functools.partial(Program, architecture, self._data, batch_size=batch_size, members=len(group))
    try:
      future = self._keep((architecture, *_batches(group[0]), len(group)), make)
      spent_before = future.result().compile_seconds if future.done() else 0.0
      program = future.result()
    except Exception as error:  # As above.
      if not _out_of_memory(error):  # Some compilers refuse what will not fit.
        seconds = (time.perf_counter() - start) / len(group)
        return [_failed(f'does not compile: {_one_line(error)}', seconds)] * len(group)
      reason = _one_line(error)
    else:
      reason = shortage(program.memory_bytes, self._memory_limit)
      if not reason:
        try:
          return self._run_apart(program, group, start, spent_before)
        except jax.errors.JaxRuntimeError as error:
          if not _out_of_memory(error):
            raise
          reason = _one_line(error)
    if len(group) > 1:  # Half as many may fit.
      half = len(group) // 2
      return self._train_apart(group[:half]) + self._train_apart(group[half:])
    return [_failed(f'out of memory: {reason}', time.perf_counter() - start)]

  def _run_apart(self, program: Program, group: list[Request], start: float, spent_before: float) -> list[Evaluation]:
    epochs, most = [], max(request.schedule.trained_epochs for request in group)
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
        self._evaluation(request, [EpochResult(float(e.loss[i]), float(e.train_accuracy[i]), float(e.score[i]))
                                   for e in epochs[:request.schedule.trained_epochs]],
                         seconds=seconds, compile_seconds=compile_seconds)
        for i, request in enumerate(group)]

  def _evaluation(self, request: Request, epochs: Sequence[EpochResult], **cost: float) -> Evaluation:
    scores = tuple(epoch.score for epoch in epochs)
    diverged = next((i for i, epoch in enumerate(epochs) if not np.isfinite(epoch.loss)), None)
    trained = len(epochs) if diverged is None else diverged + 1
    cost['train_macs'] = self.predict_macs(request) * trained / request.schedule.trained_epochs
    if diverged is not None:
      return Evaluation(
          reason=f'diverged: training loss {epochs[diverged].loss} in epoch {diverged + 1}', curve=scores[:diverged], **cost)
    chosen = int(np.argmax(scores)) if request.schedule.best_epoch else len(scores) - 1
    metrics = {
        'accuracy': scores[chosen],
        'train_accuracy': epochs[chosen].train_accuracy,
        'train_loss': epochs[chosen].loss,
        'params': self._space.num_params(request.architecture, self._data.task),
        'macs': self._space.macs(request.architecture, self._data.task),
    }
    return Evaluation(metrics=metrics, curve=scores, **cost)


def _batches(request: Request) -> tuple[int, bool]:
  """What of a schedule a compiled program depends on."""
  return request.schedule.batch_size, request.schedule.keep_last_batch


def _whole(request: Request) -> Request:
  """The request of the whole schedule: under this a candidate that was stopped early is kept."""
  return dataclasses.replace(request, schedule=dataclasses.replace(request.schedule, stop_epoch=None), phase='')


def _failed(reason: str, seconds: float) -> Evaluation:
  return Evaluation(reason=reason, seconds=seconds)


def _out_of_memory(error: Exception) -> bool:
  """XLA's own words, and those of a GPU's libraries."""
  texts = 'RESOURCE_EXHAUSTED', 'CUDA_ERROR_OUT_OF_MEMORY', 'CUDNN_STATUS_ALLOC_FAILED', 'CUBLAS_STATUS_ALLOC_FAILED'
  return isinstance(error, jax.errors.JaxRuntimeError) and any(text in str(error) for text in texts)


def _one_line(error: Exception) -> str:
  lines = str(error).strip().splitlines() or ['']
  return f'{type(error).__name__}: {lines[0][:300]}'

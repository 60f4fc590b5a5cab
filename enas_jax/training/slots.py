"""Trains any number of candidates in the slots of one program: who runs where, how far a call goes, what it gave.

Each candidate follows its own schedule; one that ends or diverges hands its slot to the next. Nothing here enters a result: a
candidate's numbers follow from its request alone, in whichever slot, beside whichever others, in however many calls.
"""
from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from enas_jax.errors import Stopped
from enas_jax.training.keys import data_key, initial_seed
from enas_jax.training.layout import Layout
from enas_jax.training.population import Member, PopulationProgram
from enas_jax.training.schedule import hyperparameters, images_an_epoch
from enas_jax.training.state import Control, EpochResult, Snapshot
from enas_jax.types import Request

CALL_SECONDS = 1.0  # A call is kept near this, so that a stop is obeyed soon.
FIRST_STEPS = 8  # Before anything is known about speed.


class Paused(NamedTuple):
  """A candidate between two epochs: all that going on needs. The member's arrays are on the host."""

  member: Member
  epochs: tuple[EpochResult, ...]


@dataclasses.dataclass(frozen=True)
class Trained:
  """A candidate that ended: its index, what its epochs gave, the seconds it took, and its state if that was asked for."""

  index: int
  epochs: tuple[EpochResult, ...]
  seconds: float
  state: Paused | None


@dataclasses.dataclass
class Usage:
  """How the slots were used.

  Attributes:
    busy: predicted seconds of work, over all devices.
    available: what they could have done meanwhile, in the same seconds.
    seconds: measured, by the clock.
    cpu_seconds: measured, of all this process's threads.
  """

  busy: float = 0.0
  available: float = 0.0
  seconds: float = 0.0
  cpu_seconds: float = 0.0


@dataclasses.dataclass
class _Running:
  """A candidate in a slot."""

  index: int
  request: Request
  cost: float  # Of a step, in the model's seconds.
  key: jax.Array
  epochs: list[EpochResult] = dataclasses.field(default_factory=list)
  earlier: int = 0  # Epochs before those.
  step: int = 0
  seconds: float = 0.0

  @property
  def epoch(self) -> int:
    return self.earlier + len(self.epochs)

  @property
  def over(self) -> bool:
    return (len(self.epochs) == self.request.schedule.trained_epochs
            or (bool(self.epochs) and not np.isfinite(self.epochs[-1].loss)))


def train_in_slots(program: PopulationProgram[Any], requests: Sequence[Request], *, seed: int, costs: Sequence[float],
                   starts: Mapping[int, Paused] = {}, keep: frozenset[int] = frozenset(), usage: Usage | None = None,
                   should_stop: Callable[[], bool] = lambda: False) -> Iterator[Trained]:
  """Trains every request to its end, as many at once as there are slots, the most expensive first.

  Args:
    program: holds all the requests' architectures, for their batch size.
    requests: what to train.
    seed: the search's.
    costs: of a training step of each, in seconds; only their ratios matter much.
    starts: by index, where to go on from.
    keep: indices whose state is wanted at the end.
    usage: is added to.
    should_stop: polled after every call.

  Raises:
    Stopped: told to stop; candidates in training are lost.
  """
  usage = Usage() if usage is None else usage
  layout = program.layout
  waiting = sorted(range(len(requests)), key=lambda i: -costs[i] * requests[i].schedule.trained_epochs)
  running: dict[int, _Running] = {}
  pace = None  # Measured seconds of a step for each of the model's.
  while waiting or running:
    _fill(program, running, waiting, requests, costs, starts, seed)
    start, cpu_start = time.perf_counter(), time.process_time()
    most = FIRST_STEPS * min(r.cost for r in running.values()) if pace is None else CALL_SECONDS / pace
    steps = (_equal_steps if layout.vmapped else _equal_work)(running, program.steps, most, layout)
    tally, correct = jax.device_get(program.advance(_control(program, running, steps)))
    seconds = time.perf_counter() - start
    work = [sum(r.cost * steps[slot] for slot, r in running.items() if slot // layout.slots == device)
            for device in range(layout.groups)]
    pace = seconds / max(work)
    usage.seconds, usage.cpu_seconds = usage.seconds + seconds, usage.cpu_seconds + time.process_time() - cpu_start
    usage.busy, usage.available = usage.busy + sum(work), usage.available + max(work) * len(work)
    for slot, r in list(running.items()):
      r.seconds += seconds / len(running)
      r.step += steps[slot]
      if r.step < program.steps:
        continue
      images = images_an_epoch(r.request.schedule, program.data.train_size)
      r.epochs.append(EpochResult(
          float(tally.loss[slot]) / images, int(tally.correct[slot]) / images, float(correct[slot]) / program.data.score_size))
      r.step = 0
      if r.over:
        del running[slot]
        state = Paused(program.member(slot), tuple(r.epochs)) if r.index in keep else None
        yield Trained(r.index, tuple(r.epochs), r.seconds, state)
    if should_stop() and (waiting or running):
      raise Stopped


def train_one(program: PopulationProgram[Any], request: Request, *, seed: int, start: Snapshot | None = None,
              score: bool = True, should_stop: Callable[[], bool] = lambda: False,
              ) -> Iterator[tuple[Snapshot, EpochResult | None]]:
  """Trains one candidate in a program of one slot, from any point.

  Args:
    start: goes on there; None: from fresh weights.
    score: whether to score after every epoch, or only after the last; the others' scores are then NaN.
    should_stop: polled after every call; obeyed within an epoch.

  Yields:
    After each epoch, a snapshot (arrays on the host) and what the epoch gave. When told to stop within one, a last snapshot
    and None.
  """
  schedule, architecture = request.schedule, request.architecture
  if start is None:
    rng = np.random.default_rng(initial_seed(seed, request))
    start = Snapshot(program.initial(architecture, rng), program.new_tally(), 0, 0)
  program.insert({0: program.new_member(architecture, start.state, start.tally)})
  images = images_an_epoch(schedule, program.data.train_size)
  epoch, step, most = start.epoch, start.step, FIRST_STEPS
  while epoch < schedule.trained_epochs:
    running = _Running(0, request, 1.0, data_key(seed, request), earlier=epoch, step=step)
    steps = min(most, program.steps - step)
    scored = score or epoch + 1 == schedule.trained_epochs
    begin = time.perf_counter()
    tally, correct = jax.device_get(program.advance(_control(program, {0: running}, {0: steps}, score=scored)))
    most = max(1, int(steps * CALL_SECONDS / (time.perf_counter() - begin)))
    step += steps
    ended = step == program.steps
    if ended:
      epoch, step = epoch + 1, 0
    if should_stop() or ended:
      member = program.member(0)
      snapshot = Snapshot(member.state, program.new_tally() if ended else member.tally, epoch, step)
      if not ended:
        yield snapshot, None
        return
      accuracy = float(correct[0]) / program.data.score_size if scored else float('nan')
      yield snapshot, EpochResult(float(tally.loss[0]) / images, int(tally.correct[0]) / images, accuracy)


def _fill(program: PopulationProgram[Any], running: dict[int, _Running], waiting: list[int], requests: Sequence[Request],
          costs: Sequence[float], starts: Mapping[int, Paused], seed: int) -> None:
  """Gives the free slots to those that wait, one on each device a round, so that all devices have work first."""
  layout = program.layout
  if layout.vmapped and layout.shared_batches and running:
    return  # They would draw other batches than those that run.
  if layout.vmapped and any(r.step for r in running.values()):
    return  # All are at one step: new ones begin with an epoch.
  while waiting:
    free: dict[int, int] = {}
    for slot in range(layout.total):
      if slot not in running:
        free.setdefault(slot // layout.slots, slot)
    members = {}
    for slot in free.values():
      if waiting and (index := _next(layout, running, waiting, requests, starts)) is not None:
        waiting.remove(index)
        request = requests[index]
        begun = starts.get(index)
        running[slot] = _Running(index, request, costs[index], data_key(seed, request), list(begun.epochs) if begun else [])
        architecture = request.architecture
        members[slot] = begun.member if begun else program.new_member(
            architecture, program.initial(architecture, np.random.default_rng(initial_seed(seed, request))))
    if not members:
      return
    program.insert(members)


def _next(layout: Layout, running: Mapping[int, _Running], waiting: Sequence[int], requests: Sequence[Request],
          starts: Mapping[int, Paused]) -> int | None:
  """Returns who goes in next; None if nobody may."""
  if not (layout.vmapped and layout.shared_batches and running):
    return waiting[0]
  begun = next(iter(running.values()))
  return next((i for i in waiting if requests[i].replicate == begun.request.replicate
               and (len(starts[i].epochs) if i in starts else 0) == begun.epoch), None)


def _equal_steps(running: Mapping[int, _Running], epoch_steps: int, most: float, layout: Layout) -> dict[int, int]:
  """Returns the same number of steps for all slots: to the epoch's end, or as far as the time allows."""
  slowest = max(sum(r.cost for slot, r in running.items() if slot // layout.slots == device) for device in range(layout.groups))
  at = next(iter(running.values())).step
  return dict.fromkeys(running, max(1, min(epoch_steps - at, int(most / slowest))))


def _equal_work(running: Mapping[int, _Running], epoch_steps: int, most: float, layout: Layout) -> dict[int, int]:
  """Returns steps of as much work for each slot: until the first reaches its epoch's end, or as far as the time allows."""
  slice_ = min(most / layout.slots, min(r.cost * (epoch_steps - r.step) for r in running.values()))
  return {slot: max(1, min(epoch_steps - r.step, round(slice_ / r.cost))) for slot, r in running.items()}


def _control(program: PopulationProgram[Any], running: Mapping[int, _Running], steps: Mapping[int, int], *,
             score: bool = True) -> Control:
  """Returns the control of a call. Empty slots are left alone; under vmap they go along with another."""
  total = program.layout.total
  of = [slot if slot in running else next(iter(running)) for slot in range(total)]
  columns = {name: np.zeros(total, np.int32) for name in ('epoch', 'first', 'steps')}
  columns.update({name: np.zeros(total, bool) for name in ('finish', 'score')})
  for slot in range(total) if program.layout.vmapped else running:
    r, count = running[of[slot]], steps[of[slot]]
    ends = r.step + count == program.steps
    for column, value in zip(columns.values(), (r.epoch, r.step, count, ends, ends and score), strict=True):
      column[slot] = value
  numbers = hyperparameters([(running[slot].request.schedule, running[slot].epoch) for slot in of], program.all_steps)
  keys = jax.numpy.stack([running[slot].key for slot in of])
  return program.put(Control(key=keys, hyperparameters=numbers, **columns))

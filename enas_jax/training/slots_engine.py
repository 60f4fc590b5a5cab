"""The engine for families: many candidates at once, in the slots of few programs."""
from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Any

import jax

from enas_jax.machine import usable_cores
from enas_jax.training import ladder
from enas_jax.training.engine import Resources
from enas_jax.training.family import Family, family_network
from enas_jax.training.ladder import Group, Outcome
from enas_jax.training.layout import Layout
from enas_jax.training.memory import shortage
from enas_jax.training.population import PopulationProgram
from enas_jax.training.programs import Programs
from enas_jax.training.slots import Paused, Usage, train_in_slots
from enas_jax.training.state import TrainingData
from enas_jax.types import Recipe, Request

PAUSED_KEPT = 256  # Candidates that a schedule stopped early and may go on; their weights are on the host.


class SlotsEngine:
  """Trains architectures of a family: many at once, in the slots of few programs.

  Args:
    family: says into which program a candidate goes.
    resources: what to work with.
  """

  def __init__(self, family: Family[Any, Any], resources: Resources):
    self.family, self.resources = family, resources
    self._programs = Programs(resources.should_stop)
    self._paused: collections.OrderedDict[tuple[Hashable, Request], Paused] = collections.OrderedDict()
    self._usage = Usage()

  def train(self, requests: Sequence[Request]) -> Iterator[tuple[int, Outcome]]:
    """Yields (index, outcome) as candidates end."""
    groups: dict[tuple[Hashable, Recipe, int | None], Group] = {}  # Batches that are shared are those of one replicate.
    for i, request in enumerate(requests):
      shares = request.replicate if self.resources.execution.shared_batches else None
      try:
        signature = self._signature(request)
      except Exception as error:  # A family that cannot place a candidate must not end the search; the reason is recorded.
        yield i, Outcome(reason=f'has no program: {ladder.one_line(error)}')
        continue
      groups.setdefault((*signature, shares), {})[i] = request
    for (capacity, recipe, _), group in groups.items():
      yield from ladder.train(self._rung((capacity, recipe), len(group)), group, self._programs)

  def prepare(self, requests: Iterable[Request]) -> None:
    """Compiles the first program that is missing."""
    groups: collections.Counter[tuple[Hashable, Recipe]] = collections.Counter()
    for request in requests:
      with contextlib.suppress(Exception):  # It fails, with its reason, when it is to be trained.
        groups[self._signature(request)] += 1
    there = {signature for signature, _ in self._programs}
    missing = next((signature for signature in groups if signature not in there), None)
    if missing is not None and self._programs.idle:
      rung = self._rung(missing, groups[missing])
      self._programs.submit(rung.name, rung.compile)

  def describe(self) -> str:
    """Says how candidates are trained, and why so."""
    return f'{self.resources.execution}\n{self.family.reason}'

  def report(self) -> dict[str, float]:
    """Says how many programs there are, the seconds of compiling them, and how busy the devices were while candidates trained.

    `slot_fill` is the share of all devices' time with a candidate to train, as the cost model predicts it, in [0, 1]. On a CPU
    `core_fill` is the share of all cores' time that this process had, measured: other programs on the machine lower it, and
    compiling beside the training raises it.
    """
    usage, execution = self._usage, self.resources.execution
    report = {**self._programs.report(), 'slot_fill': usage.busy / usage.available if usage.available else 0.0}
    if execution.platform == 'cpu':
      cores = usage.seconds * usable_cores()
      report['core_fill'] = usage.cpu_seconds / cores if cores else 0.0
    return report

  @functools.cached_property
  def spread_data(self) -> TrainingData:
    """The data on all devices, once for all programs."""
    data, layout = self.resources.data, self.resources.execution.layout(1)
    return dataclasses.replace(data, arrays=jax.device_put(data.arrays, layout.sharding()))

  def run(self, program: PopulationProgram[Any], capacity: Hashable, group: Group,
          waited: float) -> Iterator[tuple[int, Outcome]]:
    """Trains a group in a program, and goes on with those of it that a schedule stopped before."""
    indices, requests = list(group), list(group.values())
    steps = [self.family.step_seconds(r.architecture, program.batch_size, capacity) for r in requests]
    starts = {i: begun for i, r in enumerate(requests)
              if (begun := self._paused.pop((capacity, _whole(r)), None)) is not None
              and len(begun.epochs) < r.schedule.trained_epochs}
    keep = frozenset(i for i, r in enumerate(requests) if r.schedule.stop_epoch is not None)
    for trained in train_in_slots(
        program, requests, seed=self.resources.seed, costs=steps, starts=starts, keep=keep, usage=self._usage,
        should_stop=self.resources.should_stop):
      request = requests[trained.index]
      if trained.state is not None:
        self._paused[capacity, _whole(request)] = trained.state
        while len(self._paused) > PAUSED_KEPT:
          self._paused.popitem(last=False)
      padding = steps[trained.index] / self.family.step_seconds(request.architecture, program.batch_size)
      yield indices[trained.index], Outcome(
          epochs=trained.epochs, seconds=trained.seconds + waited, compile_seconds=waited, padding=padding)

  def _signature(self, request: Request) -> tuple[Hashable, Recipe]:
    return self.family.capacity(request.architecture), request.schedule.recipe

  def _rung(self, signature: tuple[Any, Recipe], candidates: int) -> _SlotsRung:
    capacity, recipe = signature
    layout = self.resources.execution.layout(candidates, side_by_side=self.family.side_by_side(capacity))
    return _SlotsRung(self, capacity, recipe, layout)


@dataclasses.dataclass(frozen=True)
class _SlotsRung:
  """A program of a family. If it is out of memory: fewer at once; at last each candidate in a program of its own size."""

  engine: SlotsEngine
  capacity: Any
  recipe: Recipe
  layout: Layout

  @property
  def name(self) -> Hashable:
    return (self.capacity, self.recipe), self.layout

  def compile(self) -> PopulationProgram[Any]:
    network = family_network(self.engine.family, self.capacity, self.engine.resources.execution, self.layout)
    return PopulationProgram(network, self.engine.spread_data, self.recipe, layout=self.layout)

  def shortage(self, program: PopulationProgram[Any]) -> str:
    """Compares with what is free. A CPU's devices share its memory; the members have theirs already."""
    limit, cpu = self.engine.resources.memory_limit, self.engine.resources.execution.platform == 'cpu'
    held = program.member_bytes if limit is None else 0
    return shortage((program.memory_bytes - held) * (len(self.layout.devices) if cpu else 1), limit)

  def run(self, program: PopulationProgram[Any], group: Group, waited: float) -> Iterator[tuple[int, Outcome]]:
    return self.engine.run(program, self.capacity, group, waited)

  def smaller(self, group: Group) -> Sequence[tuple[_SlotsRung, Group]]:
    cpu = self.engine.resources.execution.platform == 'cpu'
    if self.layout.slots > 1 or (cpu and len(self.layout.devices) > 1):
      return [(dataclasses.replace(self, layout=self.layout.halved()), group)]
    own = {i: self.engine.family.own_capacity(request.architecture) for i, request in group.items()}
    return [(dataclasses.replace(self, capacity=c), {i: group[i]}) for i, c in own.items() if c != self.capacity]


def _whole(request: Request) -> Request:
  """Returns the request of the whole schedule: under this a candidate that was stopped early is kept."""
  return dataclasses.replace(request, schedule=dataclasses.replace(request.schedule, stop_epoch=None), phase='')

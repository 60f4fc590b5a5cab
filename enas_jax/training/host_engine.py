"""The engine for everything else: architectures one after the other, each as its module."""
from __future__ import annotations

import dataclasses
import time
from collections.abc import Hashable, Iterable, Iterator, Sequence

import numpy as np

from enas_jax.errors import Stopped
from enas_jax.training import ladder
from enas_jax.training.engine import Resources
from enas_jax.training.host_loop import train
from enas_jax.training.ladder import Group, Outcome
from enas_jax.training.memory import shortage
from enas_jax.training.module_program import ModuleProgram
from enas_jax.training.programs import Programs
from enas_jax.training.state import EpochResult
from enas_jax.types import Request


class HostEngine:
  """Trains architectures one after the other, each as its module; replicates of one architecture share a program.

  Args:
    resources: what to work with.
  """

  def __init__(self, resources: Resources):
    self.resources = resources
    self._programs = Programs(resources.should_stop)
    self._told: dict[Hashable, float] = {}  # Seconds of compiling by program that an outcome has already.

  def train(self, requests: Sequence[Request]) -> Iterator[tuple[int, Outcome]]:
    """Yields (index, outcome) as candidates end."""
    alike: dict[Hashable, list[int]] = {}
    for i, request in enumerate(requests):
      alike.setdefault((request.architecture, request.schedule.recipe), []).append(i)
    slots = self.resources.execution.slots
    for indices in alike.values():
      for start in range(0, len(indices), slots):
        group = {i: requests[i] for i in indices[start:start + slots]}
        yield from ladder.train(_HostRung(self, next(iter(group.values())), len(group)), group, self._programs)

  def prepare(self, requests: Iterable[Request]) -> None:
    """Prepares nothing: a program serves one architecture."""
    del requests

  def describe(self) -> str:
    """Says how candidates are trained."""
    return f'{self.resources.execution}\nEach architecture is compiled as a program of its own'

  def report(self) -> dict[str, float]:
    """Says how many programs there are, and the seconds of compiling them."""
    return self._programs.report()

  def run(self, name: Hashable, program: ModuleProgram, group: Group, waited: float) -> Iterator[tuple[int, Outcome]]:
    """Trains replicates of one architecture, to the end of the longest schedule."""
    start = time.perf_counter()
    requests, resources = list(group.values()), self.resources
    epochs, most = [], max(request.schedule.trained_epochs for request in requests)
    for _, epoch in train(program, requests, seed=resources.seed, should_stop=resources.should_stop):
      if epoch is not None:
        epochs.append(epoch)
        if len(epochs) == most or not np.isfinite(epoch.loss).any():
          break  # Finished: kept even if a stop was asked for meanwhile.
      if epoch is None or resources.should_stop():
        raise Stopped
    spent = program.compile_seconds  # Now, as a last, smaller batch compiles at its first use.
    compiling, self._told[name] = (spent - self._told.get(name, 0.0)) / len(group), spent
    seconds = waited + (time.perf_counter() - start) / len(group)
    for k, (index, request) in enumerate(group.items()):
      results = tuple(EpochResult(float(e.loss[k]), float(e.train_accuracy[k]), float(e.score[k]))
                      for e in epochs[:request.schedule.trained_epochs])
      yield index, Outcome(epochs=results, seconds=seconds, compile_seconds=compiling)


@dataclasses.dataclass(frozen=True)
class _HostRung:
  """The program of one architecture for so many replicates. If it is out of memory: for half as many."""

  engine: HostEngine
  request: Request
  replicates: int

  @property
  def name(self) -> Hashable:
    return self.request.architecture, self.request.schedule.recipe, self.replicates

  def compile(self) -> ModuleProgram:
    return ModuleProgram(self.request.architecture, self.engine.resources.data, self.request.schedule.recipe,
                         replicates=self.replicates)

  def shortage(self, program: ModuleProgram) -> str:
    return shortage(program.memory_bytes, self.engine.resources.memory_limit)

  def run(self, program: ModuleProgram, group: Group, waited: float) -> Iterator[tuple[int, Outcome]]:
    return self.engine.run(self.name, program, group, waited)

  def smaller(self, group: Group) -> Sequence[tuple[_HostRung, Group]]:
    indices = list(group)
    halves = [indices[:len(indices) // 2], indices[len(indices) // 2:]] if len(indices) > 1 else []
    return [(dataclasses.replace(self, replicates=len(half)), {i: group[i] for i in half}) for half in halves]

"""What happens to candidates that do not compile or do not fit in memory: smaller programs, and at last a recorded failure."""
from __future__ import annotations

import dataclasses
import time
from collections.abc import Hashable, Iterator, Sequence
from typing import Any, Protocol

import jax

from enas_jax.errors import Stopped
from enas_jax.training.programs import Compiled, Programs
from enas_jax.training.state import EpochResult
from enas_jax.types import Request

Group = dict[int, Request]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
  """What a candidate's training came to.

  Attributes:
    epochs: each epoch's result, up to one that diverged.
    seconds: wall-clock spent on it, compilation included; of a group, its share.
    compile_seconds: the part of `seconds` that went into compilation.
    padding: the work of a step in its program, as predicted, as a multiple of the candidate's own.
    reason: why it was not trained, one line; empty if it was.
  """

  epochs: tuple[EpochResult, ...] = ()
  seconds: float = 0.0
  compile_seconds: float = 0.0
  padding: float = 1.0
  reason: str = ''


class Rung(Protocol):
  """One way to train a group of candidates: with one program.

  Attributes:
    name: the program's.
  """

  @property
  def name(self) -> Hashable: ...

  def compile(self) -> Compiled:
    """Compiles the program."""

  def shortage(self, program: Any) -> str:
    """Returns why the program does not fit in memory, or ''."""

  def run(self, program: Any, group: Group, waited: float) -> Iterator[tuple[int, Outcome]]:
    """Trains the group, and yields (index, outcome) as candidates end. `waited`: seconds of compilation for each."""

  def smaller(self, group: Group) -> Sequence[tuple[Rung, Group]]:
    """Returns what to try instead, and for whom; candidates that it leaves out are too large for any program."""


def train(rung: Rung, group: Group, programs: Programs) -> Iterator[tuple[int, Outcome]]:
  """Trains a group by a rung, or if that is out of memory by smaller ones. Yields (index, outcome), one for each candidate.

  Raises:
    Stopped: told to stop.
    jax.errors.JaxRuntimeError: the device failed for another reason than its memory.
  """
  start = time.perf_counter()
  left = dict(group)
  reason = programs.too_large.get(rung.name, '')
  if not reason:
    try:
      program = programs.get(rung.name, rung.compile)
    except Stopped:
      raise
    except Exception as error:  # Whatever a candidate's build raises is its own failure; the reason is recorded.
      if not out_of_memory(error):
        share = (time.perf_counter() - start) / len(group)
        yield from ((i, Outcome(reason=f'does not compile: {one_line(error)}', seconds=share)) for i in group)
        return
      reason = one_line(error)  # Some compilers refuse what will not fit.
    else:
      reason = rung.shortage(program)
      if not reason:
        try:
          for index, outcome in rung.run(program, dict(left), (time.perf_counter() - start) / len(group)):
            del left[index]
            yield index, outcome
          return
        except jax.errors.JaxRuntimeError as error:
          if not out_of_memory(error):
            raise
          reason = one_line(error)
      del program  # Its memory, before a smaller one takes its place.
  programs.drop(rung.name, reason)
  smaller = rung.smaller(left)
  tried = {index for _, part in smaller for index in part}
  for index in left.keys() - tried:
    yield index, Outcome(reason=f'out of memory: {reason}', seconds=(time.perf_counter() - start) / len(left))
  for other, part in smaller:
    yield from train(other, part, programs)


def out_of_memory(error: Exception) -> bool:
  """Returns whether an error says so in XLA's own words, or in those of a GPU's libraries."""
  texts = 'RESOURCE_EXHAUSTED', 'CUDA_ERROR_OUT_OF_MEMORY', 'CUDNN_STATUS_ALLOC_FAILED', 'CUBLAS_STATUS_ALLOC_FAILED'
  return isinstance(error, jax.errors.JaxRuntimeError) and any(text in str(error) for text in texts)


def one_line(error: Exception) -> str:
  """Returns the kind of an error and the first line of its text, at most 300 characters of it."""
  lines = str(error).strip().splitlines() or ['']
  return f'{type(error).__name__}: {lines[0][:300]}'

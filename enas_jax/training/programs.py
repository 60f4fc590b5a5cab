"""The compiled programs of a process: made in a thread of their own, the last few kept, too large ones remembered."""
from __future__ import annotations

import collections
import concurrent.futures
from collections.abc import Callable, Hashable, Iterator
from typing import Any, Protocol

from enas_jax.errors import Stopped

KEPT = 8


class Compiled(Protocol):
  """A compiled program.

  Attributes:
    compile_seconds: the time spent on tracing and compiling.
  """

  compile_seconds: float


class Programs:
  """Compiled programs by their names.

  Args:
    should_stop: polled every second while one is waited for.

  Attributes:
    compiled: how many were made.
    compile_seconds: the time that they took.
    too_large: the names of those that did not fit in memory, with the reason, so that they are not made again.
  """

  def __init__(self, should_stop: Callable[[], bool] = lambda: False):
    self.compiled, self.compile_seconds = 0, 0.0
    self.too_large: dict[Hashable, str] = {}
    self._should_stop = should_stop
    self._futures: collections.OrderedDict[Hashable, concurrent.futures.Future[Any]] = collections.OrderedDict()
    self._compiler = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix='compile')

  def get(self, name: Hashable, make: Callable[[], Compiled]) -> Any:
    """Returns the program of this name, made now or before. Raises what making it raised, or `Stopped` when told to stop."""
    future = self.submit(name, make)
    while not future.done():
      concurrent.futures.wait([future], timeout=1)
      if not future.done() and self._should_stop():
        raise Stopped
    return future.result()

  def submit(self, name: Hashable, make: Callable[[], Compiled]) -> concurrent.futures.Future[Any]:
    """Has a program made in the compiler's thread, unless it is there."""
    if name not in self._futures:
      self._futures[name] = self._compiler.submit(make)
      self._futures[name].add_done_callback(self._count)
    self._futures.move_to_end(name)
    while len(self._futures) > KEPT:
      self._futures.popitem(last=False)
    return self._futures[name]

  def drop(self, name: Hashable, reason: str) -> None:
    """Forgets a program that did not fit in memory, and remembers why."""
    self._futures.pop(name, None)
    self.too_large[name] = reason

  @property
  def idle(self) -> bool:
    """Whether nothing is being made."""
    return all(future.done() for future in self._futures.values())

  def report(self) -> dict[str, float]:
    """Says how many programs were made, and the seconds that it took."""
    return {'programs': self.compiled, 'compile_seconds': self.compile_seconds}

  def __iter__(self) -> Iterator[Any]:
    """Iterates over the names of the programs that are there, being made, or known to be too large."""
    return iter((*self._futures, *self.too_large))

  def _count(self, future: concurrent.futures.Future[Any]) -> None:
    if not future.cancelled() and future.exception() is None:
      self.compiled += 1
      self.compile_seconds += future.result().compile_seconds

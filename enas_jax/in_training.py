"""Who is in training, kept on the disk, so that a candidate that kills the process is found, and recorded as failed.

    in_training.json    written before networks are trained; gone when nobody trains. Found at a start: a process was killed.

A start that finds it runs the command in a child process (supervise.py). First all goes on as ever: the kill may have been
anybody's. Candidates during whose training a supervised child is killed, or two processes with whatever watched over them, are
from then on trained alone, one after the other. The one during whose lone training the process is killed again failed.
"""
from __future__ import annotations

import dataclasses
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from enas_jax import quotas
from enas_jax.estimators.base import Estimator
from enas_jax.loop import together
from enas_jax.supervise import MARK, last_death
from enas_jax.types import Evaluation, Request
from enas_jax.workdir import Folder

KILLED = 'killed the process'  # How the reasons of such failures begin.
OUTSIDE = -1  # A death that nobody saw, while the kernel killed nobody for memory.


@dataclasses.dataclass(frozen=True)
class _Deaths:
  """The deaths of processes that had one request in training.

  Attributes:
    request: the request's record.
    together: those while others trained, too; a witnessed one counts twice.
    alone: those while it trained alone: the signal; where nobody was left to see it 0, or OUTSIDE.
  """

  request: dict[str, Any]
  together: int = 0
  alone: tuple[int, ...] = ()

  @property
  def suspect(self) -> bool:
    return self.together > 1 or bool(self.alone)

  @property
  def verdict(self) -> str:
    """Why the request failed; empty if it did not.

    A crash is its own doing; a SIGKILL, or an unseen end, may be another's. It most likely is if the kernel has not killed for
    memory; but others kill for it, too, such as a cluster's manager, and no run shall die for ever.
    """
    if crashes := [number for number in self.alone if number not in (0, OUTSIDE, signal.SIGKILL)]:
      return f'{KILLED} ({signal.Signals(crashes[0]).name}) while it trained alone'
    verdict = f'{KILLED} ({len(self.alone)} times) while it trained alone'
    if self.alone.count(signal.SIGKILL) > 1 or len(self.alone) - self.alone.count(OUTSIDE) > 2:
      return f'{verdict}: out of memory, probably'
    return f'{verdict}: nobody saw why' if len(self.alone) > 9 else ''


class InTraining:
  """Keeps who is in training. A context manager: at its end nobody is, however it ends, unless the process is killed.

  Args:
    folder: the open work folder.
    note: shows a line.
    answered: whether the request with a key is known to have come to its end.

  Attributes:
    path: the file.
  """

  def __init__(self, folder: Folder, note: Callable[[str], None], answered: Callable[[str], bool] = lambda key: False):
    self.path = folder.path / MARK
    self._folder, self._answered = folder, answered
    self._known: dict[str, _Deaths] = {}
    self._training: list[str] = []  # Keys.
    self._alone = False
    record, signum = folder.read_json(MARK, damaged=note), last_death()
    try:
      if record is not None:
        self._note_death(record, signum, note)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
      note(f'{self.path} is damaged ({type(error).__name__}: {error}) and is left out')
      self._known = {}

  def __enter__(self) -> InTraining:
    return self

  def __exit__(self, *_: object) -> None:
    self.end()

  def begin(self, requests: Sequence[Request], *, alone: bool = False) -> None:
    """Notes that these, and no others, are in training from now on; it is on the disk when this returns."""
    known = {request.key: self._known.get(request.key) or _Deaths(request.to_json()) for request in requests}
    self._known, self._training, self._alone = {**self._open_suspects(), **known}, list(known), alone
    self._write()

  def went_on(self, request: Request) -> None:
    """Notes that a training came further than ever: what ended earlier processes was not its beginning."""
    known = self._known[request.key]
    if known.together or known.alone:
      self._known[request.key] = _Deaths(known.request)
      self._write()

  def end(self) -> None:
    """Notes that nobody is in training. What is known of suspects without an answer stays."""
    self._known, self._training = self._open_suspects(), []
    if self._known:
      self._write()
    else:
      self._folder.remove(MARK)

  def suspects(self, request: Request) -> bool:
    """Returns whether a request is to be trained alone."""
    return request.key in self._known and self._known[request.key].suspect

  def verdict(self, request: Request) -> str:
    """Returns why a request is not to be trained again: it killed the process. Empty if it did not."""
    return self._known[request.key].verdict if request.key in self._known else ''

  def estimate(self, estimator: Estimator, requests: Sequence[Request],
               expected: Iterable[Request]) -> Iterator[tuple[int, Evaluation]]:
    """Yields (index, evaluation) as `loop.together` does; suspects are estimated first, each alone."""
    apart = [i for i, request in enumerate(requests) if self.suspects(request)]
    for i in apart:
      if reason := self.verdict(requests[i]):
        yield i, Evaluation(reason=reason)
      else:
        self.begin([requests[i]], alone=True)
        yield from ((i, evaluation) for _, evaluation in together(estimator, [requests[i]], [requests[i]]))
    if rest := [i for i in range(len(requests)) if i not in apart]:
      self.begin([requests[i] for i in rest])
      yield from ((rest[i], evaluation) for i, evaluation in together(estimator, [requests[i] for i in rest], expected))

  def _open_suspects(self) -> dict[str, _Deaths]:
    return {key: deaths for key, deaths in self._known.items() if deaths.suspect and not self._answered(key)}

  def _write(self) -> None:
    requests = {key: dataclasses.asdict(deaths) for key, deaths in self._known.items()}
    self._folder.write_json(MARK, {'in_training': self._training, 'alone': self._alone, 'requests': requests,
                                   'kills_for_memory': quotas.kills_for_memory()})

  def _note_death(self, record: Any, signum: int, note: Callable[[str], None]) -> None:
    """Adds the death of the process that left the record."""
    self._known = {key: _Deaths(dict(known['request']), int(known['together']), tuple(map(int, known['alone'])))
                   for key, known in record['requests'].items() if not self._answered(key)}
    keys = [key for key in record['in_training'] if key in self._known]
    for key in keys:
      known = self._known[key]
      if record['alone']:
        outside = not signum and '' != quotas.kills_for_memory() == record.get('kills_for_memory')
        self._known[key] = dataclasses.replace(known, alone=(*known.alone, OUTSIDE if outside else signum))
      else:
        self._known[key] = dataclasses.replace(known, together=known.together + (2 if signum else 1))
    if keys:
      self._write()
      how = f' by {signal.Signals(signum).name}' if signum else ''
      names = f'{len(keys)} networks' if len(keys) > 1 else 'a network'
      then = ' alone' if record['alone'] else '; each is trained alone now' if self._known[keys[0]].suspect else ''
      note(f'the last process was killed{how} while it trained {names}{then} ({self.path})')


def killers_in_a_row(answers: Iterable[tuple[Request, Evaluation]]) -> int:
  """Returns how many of the last candidates killed their processes: no process lives to count them."""
  count = 0
  for _, evaluation in answers:
    count = count + 1 if evaluation.reason.startswith(KILLED) else 0
  return count

"""What a person sees of a running search: a few lines redrawn in place on a terminal, else one line an event."""
from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from enas_jax.output import Output, tell_loss
from enas_jax.types import Evaluation, Request

DECAY = 0.9  # A candidate's weight in the rate after each later one: about the last ten count.


class TimeLeft:
  """Seconds that the work left takes at the rate measured so far, later candidates counting more.

  Running time goes by multiply-adds of training, compilation by candidate, though no more of it is expected than there was:
  most programs serve several. Where nothing is trained (tables, scores) all time goes by candidate. All is then scaled by the
  process's own pace: the time that passed for what was told of, waiting and other processes' load included.

  Args:
    clock: returns seconds.
  """

  def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
    self._clock, self._started = clock, clock()
    self._candidates = self._macs = self._run_seconds = self._compile_seconds = 0.0
    self._seconds = self._compiled = 0.0  # In all.
    self._pace = 1.0

  def add(self, train_macs: float, seconds: float, compile_seconds: float) -> None:
    """A candidate that succeeded. `seconds` include `compile_seconds`, as in Evaluation."""
    self._candidates = DECAY * self._candidates + 1
    self._macs = DECAY * self._macs + train_macs
    self._run_seconds = DECAY * self._run_seconds + seconds - compile_seconds
    self._compile_seconds = DECAY * self._compile_seconds + compile_seconds
    self._seconds, self._compiled = self._seconds + seconds, self._compiled + compile_seconds

  def told(self) -> None:
    """All candidates of a batch were added: within one, which train together, none tells how much time passed for it."""
    if self._seconds:
      self._pace = (self._clock() - self._started) / self._seconds

  def predict(self, train_macs: Sequence[float]) -> float | None:
    """Seconds for candidates of these costs, one after the other; None until something was measured."""
    if not self._candidates:
      return None
    compiling = min(len(train_macs) * self._compile_seconds / self._candidates, self._compiled)
    if self._macs:
      running = sum(train_macs) * self._run_seconds / self._macs
    else:
      running = len(train_macs) * self._run_seconds / self._candidates
    return self._pace * (compiling + running)


class Progress:
  """Shows a search and the final training. A context manager, so that the terminal is left as it was.

  Accuracies are fractions, shown in %. Where nothing can be shown any more, that is told once, and nothing fails of it.

  Args:
    console: where to show it; by default the standard output.
  """

  def __init__(self, console: Console | None = None):
    self._console = console or Console()
    if not isinstance(self._console.file, Output):
      out: Any = Output(self._console.file, tell_loss)  # Rich would end the process, silently.
      self._console.file = out
    self._live: Live | None = None
    self._started = time.monotonic()
    self._end: float | None = None
    self._phase = self._describe = self._training = self._best_text = self._best_architecture = ''
    self._done = self._failed = self._reused = 0
    self._best = float('-inf')

  @classmethod
  def silent(cls) -> Progress:
    """Returns one that shows nothing."""
    return cls(Console(quiet=True))

  def start(self, earlier: Iterable[tuple[Request, Evaluation]] = ()) -> None:
    """Begins the display. `earlier`: the ledger, whose entries are done already."""
    for request, evaluation in earlier:
      self._count(request, evaluation)
    self._reused = self._done
    if self._console.is_terminal and not self._console.is_dumb_terminal:
      self._live = Live(console=self._console, get_renderable=self._lines, refresh_per_second=2)
      self._live.start()
    elif self._reused:
      self._print('; '.join(text for text in (self._counts(), self._best_text) if text))

  def phase(self, text: str) -> None:
    """What the program does now, such as 'search' or 'final training'."""
    self._phase, self._training = text, ''
    self._event(text)

  def describe(self, text: str) -> None:
    """The strategy's own line. On a terminal only: elsewhere the candidates' lines tell it."""
    self._describe = text

  def candidate(self, request: Request, evaluation: Evaluation) -> None:
    """A candidate is finished, well or not."""
    self._count(request, evaluation)
    result = f'accuracy {_percent(evaluation.accuracy)}' if evaluation.ok else f'failed: {evaluation.reason}'
    label = f'{request.phase}: ' if request.phase else ''
    epochs, stop = request.schedule.epochs, request.schedule.stop_epoch
    part = f'{stop} of ' if stop else ''
    again = f', replicate {request.replicate}' if request.replicate else ''
    training = f'{part}{epochs} epoch{"s" if epochs > 1 else ""}{again}'
    self._event(f'{self._done}. {label}{request.architecture}, {training}: {result} ({_duration(evaluation.seconds)}); '
                f'{self._best_text or "none succeeded yet"}; {self._clock()}')

  def left(self, seconds: float | None) -> None:
    """The time left if nothing more is accepted, at the pace so far; None where it is not known."""
    self._end = None if seconds is None else time.monotonic() + seconds

  def training(self, epoch: int, epochs: int, accuracy: float, loss: float) -> None:
    """The final training has finished `epoch` of `epochs`, counted from 1."""
    self._training = f'epoch {epoch} of {epochs}: accuracy {_percent(accuracy)}, loss {loss:.4f}'
    self._event(f'{self._training}; {self._clock()}')

  def note(self, text: str) -> None:
    """A line that stays."""
    self._print(text)

  def close(self) -> None:
    """Ends the display; its last state stays on the terminal."""
    if self._live is not None:
      self._live.stop()
      self._live = None

  def __enter__(self) -> Progress:
    return self

  def __exit__(self, *_: object) -> None:
    self.close()

  def _count(self, request: Request, evaluation: Evaluation) -> None:
    self._done += 1
    if not evaluation.ok:
      self._failed += 1
    elif evaluation.accuracy > self._best:
      self._best = evaluation.accuracy
      self._best_text = f'best {_percent(self._best)}'
      self._best_architecture = str(request.architecture)

  def _lines(self) -> Group:
    best = f'{self._best_text}: {self._best_architecture}' if self._best_text else ''
    texts = (self._phase, self._describe, best, self._counts(), self._training, self._clock())
    return Group(*(Text(text, no_wrap=True, overflow='ellipsis') for text in texts if text))

  def _counts(self) -> str:
    details = []
    if self._failed:
      details.append(f'{self._failed} failed')
    if self._reused:
      details.append(f'{self._reused} reused from the ledger')
    candidates = 'candidate' if self._done == 1 else 'candidates'
    return f'{self._done} {candidates} done' + (f' ({", ".join(details)})' if details else '')

  def _clock(self) -> str:
    now = time.monotonic()
    left = f', about {_duration(self._end - now)} left' if self._end is not None and self._end > now else ''
    return f'elapsed {_duration(now - self._started)}{left}'

  def _event(self, text: str) -> None:
    if self._live is None:
      self._print(text)

  def _print(self, text: str) -> None:
    self._console.print(Text(text), soft_wrap=True)


def _percent(accuracy: float) -> str:
  return f'{100 * accuracy:.2f} %'


def _duration(seconds: float) -> str:
  if seconds < 10:
    return f'{seconds:.1f} s'
  if seconds < 90:
    return f'{seconds:.0f} s'
  minutes = round(seconds / 60)
  return f'{minutes} min' if minutes < 90 else f'{minutes // 60} h {minutes % 60:02} min'

"""Text for people. It may be lost; what it tells of goes on."""
from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable, Iterator
from typing import IO, Any


class Output:
  """A text stream that never raises: what its encoding lacks is escaped, and once nobody takes text any more it is silent.

  Nobody does where a pipe's reader has ended, the disk is full, or the stream was closed. All else is the stream's own.

  Args:
    stream: where text goes; None: nowhere, as where a process has no standard output.
    when_lost: is called once with the reason why the first text was lost, if one is.

  Attributes:
    lost: why text is lost; None as long as all was written.
  """

  def __init__(self, stream: IO[str] | None, when_lost: Callable[[OSError], None] = lambda error: None):
    self.lost: OSError | None = None
    self._stream, self._when_lost = stream, when_lost

  def write(self, text: str) -> int:
    self._attempt(_write, text)
    return len(text)

  def flush(self) -> None:
    self._attempt(lambda stream: stream.flush())

  def isatty(self) -> bool:
    return self._stream is not None and not self._stream.closed and self._stream.isatty()

  def end(self) -> None:
    """Writes what is buffered. Where that is lost, the interpreter is kept from trying again, and failing, when it exits."""
    self.flush()
    stream = self._stream
    own = any(stream is known for known in (sys.__stdout__, sys.__stderr__))
    if self.lost is not None and own and stream is not None and not stream.closed:
      null = os.open(os.devnull, os.O_WRONLY)
      os.dup2(null, stream.fileno())
      os.close(null)

  def _attempt(self, do: Callable[..., Any], *arguments: str) -> None:
    if self._stream is None or self.lost is not None:
      return
    try:
      if self._stream.closed:
        raise OSError(errno.EBADF, 'it is closed')
      do(self._stream, *arguments)
    except OSError as error:
      self.lost = error
      self._when_lost(error)

  def __getattr__(self, name: str) -> Any:
    return getattr(self._stream, name)


def tell_loss(error: OSError) -> None:
  """Says on the standard error, if that is there, that the standard output is lost."""
  Output(sys.stderr).write(f'the output is lost ({error.strerror}); the run goes on without it\n')


@contextlib.contextmanager
def lasting(when_lost: Callable[[OSError], None] = tell_loss) -> Iterator[Output]:
  """Within the block the standard output and the standard error may be lost, and nothing fails of it.

  Args:
    when_lost: is called once with the reason if the standard output is.

  Yields:
    The standard output.
  """
  out, err = Output(sys.stdout, when_lost), Output(sys.stderr)
  streams: tuple[Any, Any] = out, err
  with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
    try:
      yield out
    finally:
      out.end()
      err.end()


def _write(stream: IO[str], text: str) -> None:
  try:
    stream.write(text)
  except UnicodeEncodeError:
    encoding = getattr(stream, 'encoding', None) or 'ascii'
    stream.write(text.encode(encoding, 'backslashreplace').decode(encoding))

"""Runs a command as a child process, and again where that is killed while networks train.

A command that finds the mark of an earlier death (in_training.py) puts this in its own place before it touches a device: the
same process goes on as the parent, which holds nothing, and what kills the child does not end the run. How a child ended is
told to the next one, which trains the suspects one by one. It is run as a script and imports nothing of the package.
"""
from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

MARK = 'in_training.json'  # Of a work folder.
DEATH = 'ENAS_JAX_LAST_DEATH'  # Environment variable of a child: the signal that ended the one before it, or 0.
# What a program's own doing can bring upon it. Other signals are somebody's wish that it end.
KILLERS = frozenset({signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE,
                     signal.SIGTRAP, signal.SIGSYS})
_PR_SET_PDEATHSIG = 1  # prctl(2)


def take_over(mark: Path) -> None:
  """Becomes the supervisor of this process's own command where there is a mark; it never returns then.

  Otherwise, and in the supervisor's child, it returns at once.
  """
  if DEATH in os.environ or not os.path.exists(mark):  # Nor where it may not be looked for, as the command will say.
    return
  sys.stdout.flush()
  sys.stderr.flush()
  os.execv(sys.executable, [sys.executable, '-P', __file__, str(mark), sys.executable, *sys.orig_argv[1:]])


def last_death() -> int:
  """Returns the signal that ended the child before this one; 0 if there was none. The second call returns 0."""
  return int(os.environ.pop(DEATH, '0'))


def supervise(mark: Path, command: Sequence[str]) -> int:
  """Runs a command until it ends otherwise than by a signal of its own doing.

  SIGTERM, SIGINT and SIGHUP are handed on to the child; Ctrl-Z stops both. The child is killed with its parent (on Linux).

  Returns:
    The command's exit code, as a shell gives it: 128 and the signal if one ended it. A child that was killed before it had
    anything trained, which the mark tells, is not started again.
  """
  child: subprocess.Popen[bytes] | None = None
  asked = 0

  def hand_on(signum: int, _: object) -> None:
    nonlocal asked
    asked = signum
    if child is not None:
      child.send_signal(signum)

  def pause(*_: object) -> None:
    if child is not None:
      child.send_signal(signal.SIGSTOP)
    os.kill(os.getpid(), signal.SIGSTOP)
    if child is not None:
      child.send_signal(signal.SIGCONT)

  for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup: the child is to ignore it, too.
      signal.signal(number, hand_on)
  signal.signal(signal.SIGTSTP, pause)
  death = 0
  while not asked:
    before = _identity(mark)
    child = subprocess.Popen(
        command, env={**os.environ, DEATH: str(death)}, process_group=0,  # The terminal's signals come through here, once.
        preexec_fn=_dying_with_parent())
    if asked:
      child.send_signal(asked)
    code = child.wait()
    if code >= 0:
      return code
    death = -code
    if death not in KILLERS:
      return 128 + death
    # Before a child trains anything, it writes the mark anew (in_training.py), if only to note the death before.
    if _identity(mark) in (None, before):
      print(f'error: killed by {signal.Signals(death).name} before anything was trained; give the process more memory, '
            'and run the same command again', file=sys.stderr)
      return 128 + death
  return 128 + asked


def _identity(mark: Path) -> tuple[int, int] | None:
  """Returns what tells one writing of the file from the next; None where there is no file."""
  try:
    status = mark.stat()
  except FileNotFoundError:
    return None
  return status.st_ino, status.st_mtime_ns


def _dying_with_parent():  # type: ignore[no-untyped-def]
  """Returns what a child does first, so that it does not outlive its parent; None where the system has no such thing."""
  if not sys.platform.startswith('linux'):
    return None
  libc, parent = ctypes.CDLL(None), os.getpid()

  def first() -> None:
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # It died meanwhile.
      os._exit(128 + signal.SIGKILL)

  return first


if __name__ == '__main__':
  sys.exit(supervise(Path(sys.argv[1]), sys.argv[2:]))

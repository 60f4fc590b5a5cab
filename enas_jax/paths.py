"""Paths from users, whether by flag, setting or argument: all are read here."""
from __future__ import annotations

import os
from pathlib import Path

from enas_jax.errors import UserError


def read(path: str | os.PathLike[str], source: str) -> Path:
  """Returns a path that a user gave, with `~` and `~USER` as home folders. Nothing need be there.

  Args:
    path: what was given.
    source: what stands before it in messages, such as '--workdir='.

  Raises:
    UserError: it is empty or no text, its user is unknown, or no file can have such a name.
  """
  text = os.fspath(path) if isinstance(path, str | os.PathLike) else path
  if not isinstance(text, str):
    raise UserError(f'{source}{path!r} is no path; give text or a pathlib.Path')
  if not text:
    raise UserError(f'{source} is empty; give a path')
  expanded = Path(os.path.expanduser(text))
  if expanded.parts[:1] and expanded.parts[0].startswith('~'):
    if text.startswith('~'):
      user = expanded.parts[0]
      raise UserError(f"{source}{_short(text)}: no home folder is known for {user}; write ./{user} if that is a folder's name")
    expanded = Path.cwd() / expanded  # './~x', which is to stay what it is when it is read again.
  try:
    os.lstat(expanded)
  except (FileNotFoundError, NotADirectoryError, PermissionError):
    pass  # Who reads or makes it says so.
  except (OSError, ValueError) as error:  # Too long, a NUL in it, or not to be written in the file system's encoding.
    reason = error.strerror if isinstance(error, OSError) else error
    raise UserError(f'{source}{_short(text)} can be no path ({reason}); give another') from error
  return expanded


def content(path: Path, source: str, give: str) -> bytes:
  """Returns what a user's file holds.

  Args:
    path: the file.
    source: what stands before it in messages, such as '--plugin='.
    give: the way out, such as 'give a Python file'.

  Raises:
    UserError: it is not there, or cannot be read.
  """
  try:
    return path.read_bytes()
  except FileNotFoundError as error:
    raise UserError(f'{source}{path}: no such file; {give}') from error
  except OSError as error:
    raise UserError(f'{source}{path} cannot be read ({error.strerror}); {give}') from error


def _short(text: str) -> str:
  shown = ascii(text)[1:-1]
  return shown if len(shown) <= 200 else f'{shown[:100]}...{shown[-60:]}'

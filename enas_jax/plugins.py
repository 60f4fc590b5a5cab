"""Plugins: Python files and packages of the user's own that register spaces, strategies, estimators, networks or tables.

    python -m enas_jax.search --plugin=mine.py --config.strategy=mine --config.mine.sample=5 --workdir=DIR

A file is given by --plugin. A package names its module as an entry point of the group `enas_jax.plugins` and is read wherever
it is installed. Both are read before the settings are made, so that theirs are among them.
"""
from __future__ import annotations

import hashlib
import importlib.metadata
import os
import sys
import types
from collections.abc import Sequence
from pathlib import Path

from enas_jax import paths, registry
from enas_jax.errors import UserError, line_in

GROUP = 'enas_jax.plugins'


def load_all(paths: Sequence[str] = ()) -> None:
  """Reads the plugins of installed packages, then these files. What was read already is not read again.

  Raises:
    UserError: one of them cannot be read, or registers what cannot be.
  """
  for entry_point in importlib.metadata.entry_points(group=GROUP):
    if entry_point.module not in sys.modules:
      source = f'plugin {entry_point.value}'
      with registry.reading(source):
        try:
          entry_point.load()
        except UserError as error:
          raise UserError(str(error) if str(error).startswith(source) else f'{source}: {error}') from error
        except (Exception, SystemExit) as error:
          raise UserError(f'{source}: {type(error).__name__}: {error}; mend it or uninstall its package') from error
  for path in paths:
    load(path)


def load(path: str) -> None:
  """Runs a file once as a module. Its name depends on the path alone: what it defines can be sent to other processes.

  Raises:
    UserError: there is no such file, it fails, or it registers what cannot be; the message names the file and the line.
  """
  path = str(paths.read(path, '--plugin='))
  flag = f'--plugin={path}'
  source = paths.content(
      Path(path), '--plugin=', 'give a Python file that registers a space, strategy, estimator, network or table')
  name = module_name(path)
  if name in sys.modules:
    return
  module = sys.modules[name] = types.ModuleType(name)
  module.__file__ = path
  try:
    with registry.reading(flag):
      exec(compile(source, path, 'exec'), vars(module))
  except (Exception, SystemExit) as error:
    del sys.modules[name]
    line = line_in(error, path)
    if isinstance(error, UserError):
      raise UserError(f"{flag}{line}: {str(error).removeprefix(f'{flag}: ')}") from error
    message = error.msg if isinstance(error, SyntaxError) else error
    raise UserError(f'{flag}{line}: {type(error).__name__}: {message}') from error


def module_name(path: str) -> str:
  """Returns the name of a plugin's module, the same in every process."""
  resolved = Path(path).resolve()
  return f'enas_jax_plugin_{resolved.stem}_{hashlib.sha256(os.fsencode(resolved)).hexdigest()[:8]}'

"""Where JAX keeps compiled programs."""
from __future__ import annotations

import os
import pathlib

import jax

from enas_jax import paths
from enas_jax.errors import UserError


def keep_programs_as_asked(asked: str | os.PathLike[str], workdir: pathlib.Path) -> None:
  """Has JAX keep compiled programs where --compilation_cache asks for it: a folder, 'workdir' for one in it, or 'none'.

  Where JAX has been told a folder already, 'workdir' leaves it at that. Raises UserError as `keep_programs` does.
  """
  if asked not in ('workdir', 'none'):
    keep_programs(paths.read(asked, '--compilation_cache='))
  elif asked == 'workdir' and jax.config.values['jax_compilation_cache_dir'] is None:
    keep_programs(workdir / 'compilation_cache')


def keep_programs(folder: pathlib.Path) -> None:
  """Has JAX keep compiled programs in a folder of the user's own: they are executable code, and run when they are read.

  Raises:
    UserError: the folder cannot be made, or others can write there.
  """
  try:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.stat()
  except OSError as error:
    raise UserError(f'--compilation_cache={folder}: {error.strerror}; give a folder that can be written, or none') from error
  if status.st_uid != os.getuid() or status.st_mode & 0o022:
    raise UserError(f'--compilation_cache={folder} can be written by others, whose code would run; chmod 700 it, or give none')
  jax.config.update('jax_compilation_cache_dir', str(folder))
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.5)

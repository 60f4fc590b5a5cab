"""Where JAX keeps compiled programs."""
from __future__ import annotations

import os
import pathlib

import jax

from enas_jax.errors import UserError


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

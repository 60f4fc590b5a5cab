"""How much memory a program may take."""
from __future__ import annotations

import ctypes
import math
import platform

import jax

from enas_jax import quotas
from enas_jax.errors import UserError

MOST_GB = 1e9  # More than any machine has.


def limit_bytes(gigabytes: float) -> int | None:
  """Returns `config.memory_limit_gb` in bytes; None for 0, which means no limit.

  Raises:
    UserError: it is negative, or more than any machine has.
  """
  if gigabytes < 0:
    raise UserError(f'config.memory_limit_gb {gigabytes} is negative; give 0 for what the device has free')
  if gigabytes > MOST_GB:
    raise UserError(f'config.memory_limit_gb {gigabytes} is above {MOST_GB:g}; give 0 for what the device has free')
  return max(1, int(gigabytes * 1e9)) if gigabytes else None


def free_bytes(device: jax.Device) -> float:
  """Bytes free on an accelerator, or for this process in the machine (quotas.py) for a CPU device; inf where nobody tells.

  Asked before a candidate runs, since a CPU process that takes too much is killed, and with it the search.
  """
  stats = device.memory_stats()
  if stats:
    return stats['bytes_limit'] - stats['bytes_in_use'] if 'bytes_limit' in stats else math.inf
  if platform.libc_ver()[0] == 'glibc':
    ctypes.CDLL(None).malloc_trim(0)  # Memory kept for the next step is free, too.
  return quotas.free_memory()


def shortage(needed: int, limit: float | None = None) -> str:
  """Why a program that needs so many bytes does not fit, or '' where it does. `limit`: None for what the device has free."""
  limit = free_bytes(jax.local_devices()[0]) if limit is None else limit
  return '' if needed <= limit else f'needs {_readable(needed)}, {_readable(limit)} are free'


def program_bytes(compiled: jax.stages.Compiled) -> int:
  """Returns the device memory that a call needs beside its arguments, as the compiler reports it."""
  analysis = compiled.memory_analysis()
  if analysis is None:  # A back end that does not tell.
    return 0
  return analysis.temp_size_in_bytes + analysis.output_size_in_bytes - analysis.alias_size_in_bytes


def _readable(num_bytes: float) -> str:
  return f'{num_bytes / 1e9:.2f} GB' if num_bytes >= 1e7 else f'{num_bytes / 1e6:.2f} MB'

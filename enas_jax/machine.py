"""The machine that a process runs on: its cores, its memory, and how JAX and malloc are told of them. Importing it is cheap."""
from __future__ import annotations

import contextlib
import ctypes
import math
import os
import platform
import sys
from typing import Any

from enas_jax import environment, quotas
from enas_jax.errors import UserError

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # malloc.h


def usable_cores() -> int:
  """Returns the number of cores that this process may keep busy: those it may run on, or fewer where it has a quota of time."""
  there = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
  return max(1, math.ceil(min(there, quotas.cores())))


def prepare() -> None:
  """Gets this process ready for training, as each command does first. Call it before anything runs on JAX."""
  keep_freed_memory()
  one_cpu_device_a_core()


def one_cpu_device_a_core() -> None:
  """Has JAX see each usable core as a device, so that a core trains a candidate. Call it before anything runs on JAX.

  Nothing changes where the user has set a number (XLA_FLAGS or JAX_NUM_CPU_DEVICES), or where JAX runs already. It does not
  concern accelerators.
  """
  if devices_are_set():
    return
  if quotas.cores() < math.inf:
    os.environ.setdefault('NPROC', str(usable_cores()))  # XLA's threads: it looks at no quota itself.
  import jax
  with contextlib.suppress(RuntimeError):  # JAX runs already, with the devices that it has.
    jax.config.update('jax_num_cpu_devices', usable_cores())


def devices() -> list[Any]:
  """Starts JAX, if it does not run yet, and returns its devices.

  Raises:
    UserError: there is none of the kind that JAX_PLATFORMS asks for, or none that works.
  """
  import jax
  try:
    return jax.devices()
  except Exception as error:  # JAX and the makers of its back ends have no common class for it.
    platforms = jax.config.jax_platforms
    asked = f'JAX_PLATFORMS={platforms}: ' if platforms else ''
    reason = str(error) or 'it is not installed'
    raise UserError(f'{asked}JAX finds no such device ({reason}); set JAX_PLATFORMS to one that is there, as cpu is') from error


def devices_are_set() -> bool:
  """Returns whether the user has set how many CPU devices there are."""
  flag = '--xla_force_host_platform_device_count'
  return flag in os.environ.get('XLA_FLAGS', '') or 'JAX_NUM_CPU_DEVICES' in os.environ


def keep_freed_memory() -> None:
  """Has glibc keep freed memory for the next training step, instead of handing it back and getting it again zeroed.

  A step's buffers above 32 MB are otherwise mapped anew each time: a quarter of a step's CPU time, measured on small
  networks (benchmarks/README.md). Nothing changes where the C library is another.
  """
  if platform.libc_ver()[0] != 'glibc':
    return
  libc = ctypes.CDLL(None)
  for option, value in ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 2**26)):
    libc.mallopt(option, value)


def peak_memory_bytes() -> int:
  """Returns the most memory that this process has held so far."""
  import resource
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == 'darwin' else 1024)


def hardware() -> dict[str, Any]:
  """Returns what of the hardware, and of the variables that steer it, can change the last digits of a result: a plain record.

  Raises UserError where JAX finds no device.
  """
  device = devices()[0]
  return {
      'backend': device.platform,
      'device_kind': device.device_kind,
      **({} if device.platform == 'cpu' else {'device_count': len(devices())}),  # A CPU's change no result.
      'cpu_count': usable_cores(),
      **environment.recorded(),
  }

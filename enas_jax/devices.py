"""The devices that a process trains on."""
from __future__ import annotations

import contextlib
import os

import jax


def one_cpu_device_a_core() -> None:
  """Has JAX see each usable core as a device, so that a core trains a candidate. Call it before anything runs.

  Nothing where the user has set a number (XLA_FLAGS or JAX_NUM_CPU_DEVICES), or where JAX runs already. It does not
  concern accelerators.
  """
  flag = '--xla_force_host_platform_device_count'
  if flag in os.environ.get('XLA_FLAGS', '') or 'JAX_NUM_CPU_DEVICES' in os.environ:
    return
  cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
  with contextlib.suppress(RuntimeError):  # JAX runs already, with the devices that it has.
    jax.config.update('jax_num_cpu_devices', cores)

import math
import os
import pathlib
import platform
import subprocess
import sys

import jax
import pytest

from enas_jax.training.memory import free_bytes


class Device:
  def __init__(self, stats):
    self.memory_stats = lambda: stats


def test_an_accelerator_tells():
  assert free_bytes(Device({'bytes_limit': 100, 'bytes_in_use': 30})) == 70
  assert free_bytes(Device({'bytes_in_use': 30})) == math.inf


@pytest.mark.skipif(not pathlib.Path('/proc/meminfo').exists(), reason='not Linux')
def test_a_cpu_has_what_the_machine_has():
  total = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
  assert 0 < free_bytes(jax.local_devices(backend='cpu')[0]) < total


KEPT_UNTIL_ASKED = """
import ctypes, os, pathlib
import jax
from enas_jax.machine import keep_freed_memory
from enas_jax.training.memory import free_bytes

def resident():  # Of this process alone: what the machine has free changes with its other processes.
  return int(pathlib.Path('/proc/self/statm').read_text().split()[1]) * os.sysconf('SC_PAGE_SIZE')

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
cpu = jax.local_devices(backend='cpu')[0]
keep_freed_memory()
free_bytes(cpu)
before = resident()
buffer = libc.malloc(200_000_000)
ctypes.memset(buffer, 1, 200_000_000)
libc.free(buffer)
assert resident() > before + 150_000_000  # Kept.
free_bytes(cpu)
assert resident() < before + 50_000_000
"""


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='keeps freed memory with glibc alone')
def test_memory_kept_for_the_next_step_is_free():
  """In a process of its own: where a heap of gigabytes has holes, glibc cannot hand it back."""
  subprocess.run([sys.executable, '-c', KEPT_UNTIL_ASKED], check=True)


def test_elsewhere_nobody_tells(monkeypatch):
  def absent(self, **_):
    raise FileNotFoundError

  monkeypatch.setattr(pathlib.Path, 'read_text', absent)
  assert free_bytes(Device(None)) == math.inf

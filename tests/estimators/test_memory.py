import math
import os
import pathlib

import jax
import pytest

from enas_jax.estimators.memory import free_bytes


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


def test_elsewhere_nobody_tells(monkeypatch):
  def absent(self):
    raise FileNotFoundError

  monkeypatch.setattr(pathlib.Path, 'read_text', absent)
  assert free_bytes(Device(None)) == math.inf

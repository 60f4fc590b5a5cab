"""How much memory a program may take."""
from __future__ import annotations

import math
import pathlib
import re

import jax


def free_bytes(device: jax.Device) -> float:
  """Bytes free on an accelerator, or in the machine for a CPU device; inf where nobody tells.

  Asked before a candidate runs, since a CPU process that takes too much is killed, and with it the search.
  """
  stats = device.memory_stats()
  if stats:
    return stats['bytes_limit'] - stats['bytes_in_use'] if 'bytes_limit' in stats else math.inf
  try:
    text = pathlib.Path('/proc/meminfo').read_text()
  except FileNotFoundError:  # Not Linux.
    return math.inf
  return int(re.search(r'^MemAvailable:\s+(\d+) kB', text, re.MULTILINE)[1]) * 1024

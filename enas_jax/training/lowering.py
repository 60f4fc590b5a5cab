"""Which form of the convolutions a platform runs fastest: known, tried once, or told."""
from __future__ import annotations

import json
import pathlib
from collections.abc import Callable, Mapping, Sequence

import jax

from enas_jax.errors import UserError

KNOWN = {'cpu': 'shifts'}  # Tens of times faster there, always: XLA finds no fast layout in a loop (benchmarks/README.md).


def choose(asked: str, known: Sequence[str], cache: pathlib.Path, trial: Callable[[], Mapping[str, float]]) -> str:
  """Returns the lowering to use.

  Args:
    asked: one of `known`, or 'auto'.
    known: the lowerings that there are.
    cache: file that keeps what a trial found, by kind of device, so that a resumed run takes the same. May be absent.
    trial: measures the seconds of a training step under each lowering, on the present device.

  Raises:
    UserError: `asked` is neither.
  """
  if asked in known:
    return asked
  if asked != 'auto':
    raise UserError(f"--lowering={asked} is unknown; give 'auto', {' or '.join(map(repr, known))}")
  device = jax.local_devices()[0]
  if device.platform in KNOWN:
    return KNOWN[device.platform]
  found = _read(cache, known)
  if device.device_kind not in found:
    found[device.device_kind] = dict(trial())
    part = cache.with_suffix('.part')
    part.write_text(json.dumps(found))
    part.rename(cache)
  seconds = found[device.device_kind]
  return min(seconds, key=lambda form: seconds[form])


def _read(cache: pathlib.Path, known: Sequence[str]) -> dict[str, dict[str, float]]:
  """Returns what trials found, by kind of device; nothing where the file is absent or damaged: it is tried again."""
  try:
    found = json.loads(cache.read_text())
  except (FileNotFoundError, RecursionError, ValueError):
    return {}
  if not isinstance(found, dict):
    return {}
  return {kind: seconds for kind, seconds in found.items()
          if isinstance(seconds, dict) and seconds and set(seconds) <= set(known)
          and all(isinstance(value, float) for value in seconds.values())}

"""Which lowering of the convolutions a platform runs fastest: known, tried once, or told."""
from __future__ import annotations

import json
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np

from enas_jax.errors import UserError
from enas_jax.estimators.population import CPU_OPTIONS
from enas_jax.networks.planes import LOWERINGS
from enas_jax.networks.stacked_chain import StackedChain
from enas_jax.networks.stacked_weights import Capacity, initial, pack, plan
from enas_jax.spaces.chain import ChainArchitecture
from enas_jax.types import Task

KNOWN = {'cpu': 'shifts'}  # Tens of times faster there, always: XLA has no fast convolution in a loop (benchmarks/README.md).
CANDIDATES, BATCH, STEPS = 4, 64, 5  # Of a trial.


def choose(asked: str, cache: pathlib.Path) -> str:
  """The lowering to use.

  Args:
    asked: one of `LOWERINGS`, or 'auto'.
    cache: file that keeps what a trial found, by kind of device, so that a resumed run takes the same. May be absent.

  Raises:
    UserError: `asked` is neither.
  """
  if asked in LOWERINGS:
    return asked
  if asked != 'auto':
    raise UserError(f"--lowering={asked} is unknown; give 'auto', {' or '.join(map(repr, LOWERINGS))}")
  device = jax.local_devices()[0]
  if device.platform in KNOWN:
    return KNOWN[device.platform]
  try:
    found = json.loads(cache.read_text())
  except (FileNotFoundError, ValueError):  # None yet, or cut short by a crash: tried again.
    found = {}
  if device.device_kind not in found:
    found[device.device_kind] = trial(jnp.bfloat16)
    part = cache.with_suffix('.part')
    part.write_text(json.dumps(found))
    part.rename(cache)
  seconds = found[device.device_kind]
  return min(seconds, key=seconds.get)


def trial(dtype: jnp.dtype) -> dict[str, float]:
  """Seconds of a training step of a few small candidates side by side, by lowering."""
  task, architecture = Task((32, 32, 3), 10), ChainArchitecture.uniform(6, 16)
  capacity = Capacity.of([architecture])
  rng = np.random.default_rng(0)
  weights = pack(architecture, *initial(architecture, task, rng), capacity)
  weights = jax.device_put(jax.tree.map(lambda x: np.stack([x] * CANDIDATES), weights))
  images = rng.normal(size=(BATCH, *task.image_shape)).astype(np.float32)
  labels = rng.integers(task.num_classes, size=BATCH)
  seconds = {}
  for lowering in LOWERINGS:
    network = StackedChain(capacity, dtype, lowering, masked=True)
    candidate = jax.tree.map(jnp.asarray, plan(architecture, capacity))

    def step(params, stats, network=network, candidate=candidate):
      def one(params, stats):
        forward = network.forward(params, stats, candidate, candidate.counts, images, network.scratch(images.shape), True)
        return network.backward(params, candidate, candidate.counts, images, labels, forward)
      return jax.vmap(one)(params, stats)

    options = CPU_OPTIONS if jax.default_backend() == 'cpu' else None
    compiled = jax.jit(step).lower(*weights).compile(compiler_options=options)
    times = []
    for _ in range(STEPS):
      start = time.perf_counter()
      jax.block_until_ready(compiled(*weights))
      times.append(time.perf_counter() - start)
    seconds[lowering] = min(times)
  return seconds

"""The trial of lowerings: a training step of a few small chains side by side, under each."""
from __future__ import annotations

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from enas_jax.families.chain.network import StackedChain
from enas_jax.families.chain.weights import Capacity, Weights
from enas_jax.families.planes import LOWERINGS
from enas_jax.spaces.chain import ChainArchitecture
from enas_jax.training.family import Mode
from enas_jax.training.layout import CPU_OPTIONS
from enas_jax.types import Task

CANDIDATES, BATCH, STEPS = 4, 64, 5


def trial(dtype: Any = jnp.bfloat16) -> dict[str, float]:
  """Measures the seconds of a training step on the default device, by lowering."""
  task, architecture = Task((32, 32, 3), 10), ChainArchitecture.uniform(6, 16)
  capacity, rng = Capacity.of([architecture]), np.random.default_rng(0)
  weights = StackedChain(capacity).initial(architecture, task, rng)
  weights = jax.device_put(jax.tree.map(lambda x: np.stack([x] * CANDIDATES), weights))
  images = jnp.asarray(rng.normal(size=(BATCH, *task.image_shape)), jnp.float32)
  labels = jnp.asarray(rng.integers(task.num_classes, size=BATCH), jnp.int32)
  seconds = {}
  for lowering in LOWERINGS:
    network = StackedChain(capacity, dtype, lowering, masked=True)
    candidate = jax.tree.map(jnp.asarray, network.plan(architecture))
    limits = network.limits(candidate)

    def step(params: Weights, stats: Weights, network: StackedChain = network, candidate: Any = candidate,
             limits: jax.Array = limits) -> tuple[jax.Array, Weights]:
      def one(params: Weights, stats: Weights) -> tuple[jax.Array, Weights]:
        forward = network.forward(params, stats, candidate, limits, images, network.scratch(images.shape), Mode(True))
        return network.backward(params, candidate, limits, images, labels, forward)
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

"""The rows of throughput.py, each in a process of its own: `python benchmarks/rows.py SETTINGS`, in JSON.

A row is a generator. It yields a dict of facts once it has compiled and warmed up, then a list of parts a round:
(indices of the candidates, how often each was trained, process seconds, wall seconds).
"""
from __future__ import annotations

import functools
import importlib.metadata
import json
import os
import resource
import sys
import time
import traceback
from unittest import mock

import workload

from enas_jax.errors import UserError
from enas_jax.machine import keep_freed_memory, one_cpu_device_a_core

KEPT = 8  # Modules in memory, as in the engine: sixty at once pass the kernel's limit of memory maps.


def plain_row(load, settings):
  """XLA's own grouped convolution."""
  with _xla_form():
    yield from _one_by_one(load, range(len(load.requests)), members=1)


def module_row(load, settings):
  """The package's choice."""
  yield from _one_by_one(load, range(len(load.requests)), members=1)


def vmap_row(load, settings):
  """Replicates of a sample of the architectures."""
  count, sample = len(load.requests), min(settings['vmap_sample'], len(load.requests))
  with _xla_form():
    yield from _one_by_one(load, [(2 * i + 1) * count // (2 * sample) for i in range(sample)], members=settings['vmap_members'])


def population_row(load, settings):
  """The public estimator: all that it is given, in one call."""
  import jax
  import jax.numpy as jnp

  from enas_jax import families
  from enas_jax.estimators import Execution, TrainedEstimator
  from enas_jax.training.engine import Resources
  arrays, requests = _training_data(load), workload.repeated(load.requests, settings['slots'])
  family = families.of(
      load.space, load.task, batch_size=settings['batch'], steps=settings['packing_steps'], platform=jax.default_backend())
  if settings['side_by_side'] != 'auto':
    family.__class__.side_by_side = lambda self, capacity: settings['side_by_side'] == 'yes'
  execution = Execution.default(
      settings['slots'], dtype=jnp.dtype(settings['dtype']), lowering=settings['lowering'], shared_batches=False)

  def compiled():
    estimator = TrainedEstimator(load.space, Resources(data=arrays, seed=0, execution=execution), family)
    _estimate(estimator, requests)
    return estimator, estimator.report()['compile_seconds']

  _, cold = compiled()
  jax.clear_caches()
  estimator, warm = compiled()
  report = estimator.report()
  yield {'compile_cold': cold, 'compile_warm': warm, 'padding': report['padding_waste'], 'slot_fill': report['slot_fill'],
         'programs': report['programs'], 'note': family.reason}
  repeats = len(requests) // len(load.requests)
  while True:
    yield [_timed(list(range(len(load.requests))), repeats, _estimate, estimator, requests)]
    if estimator.report()['programs'] > report['programs']:
      raise RuntimeError('the estimator has dropped a program and compiled it again: give fewer --packing_steps')


def torch_row(load, settings):
  """PyTorch's fastest."""
  try:
    import torch
    import torch_chain
  except ImportError as error:
    raise UserError(f'{error}; pip install -r benchmarks/requirements.txt') from error
  torch_chain.setup()
  clock = time.process_time if torch_chain.DEVICE == 'cpu' else time.perf_counter
  variant, remark = torch_chain.choose(load, compile_too=settings['torch_compile'], clock=clock)
  images = torch_chain.TorchData(load, variant.layout)
  seconds = {}
  for when in ('cold', 'warm'):  # The second time from Inductor's cache on the disk; the trial's candidate is in it already.
    torch._dynamo.reset()
    start = time.perf_counter()
    trainers = [torch_chain.Trainer(request, load, images, variant) for request in load.requests]
    for trainer in trainers:
      trainer.train(steps=1)
    seconds[when] = time.perf_counter() - start
  yield {'compile_cold': seconds['cold'], 'compile_warm': seconds['warm'], 'note': f'chose {variant}, of {remark}',
         'versions': {'torch': torch.__version__}}
  while True:
    yield [_timed([i], 1, trainer.train) for i, trainer in enumerate(trainers)]


def _one_by_one(load, indices, *, members):
  """The package's loop on one architecture after the other."""
  import dataclasses

  import jax

  from enas_jax.training.host_loop import train
  from enas_jax.training.module_program import ModuleProgram
  arrays = _training_data(load)
  groups = {i: [dataclasses.replace(load.requests[i], replicate=m) for m in range(members)] for i in indices}
  if members == 1:
    groups = {i: [load.requests[i]] for i in indices}

  @functools.lru_cache(KEPT)
  def program(architecture, recipe):
    return ModuleProgram(architecture, arrays, recipe, replicates=members)

  def of(group):
    return program(group[0].architecture, group[0].schedule.recipe)

  def compiled():
    program.cache_clear()
    jax.clear_caches()
    first = {group[0].architecture: group for group in groups.values()}  # Scaling may have made two equal.
    return len(first), sum(of(group).compile_seconds for group in first.values())

  def run(group):
    for snapshot, _ in train(of(group), group, seed=0):
      jax.block_until_ready(snapshot.state)

  _, cold = compiled()
  count, warm = compiled()
  for group in groups.values():  # Compiles what all share, and takes the memory that each needs.
    run(group)
  yield {'compile_cold': cold, 'compile_warm': warm, 'programs': count}
  while True:
    parts = []
    for i, group in groups.items():
      of(group)  # Compiled, again if it was dropped, before the clock starts.
      parts.append(_timed([i], members, run, group))
    yield parts


def _estimate(estimator, requests):
  """Trains all. Raises where a candidate failed."""
  evaluations = [evaluation for _, evaluation in estimator.estimate(requests)]
  if reason := next((e.reason for e in evaluations if not e.ok), ''):
    raise RuntimeError(f'a candidate failed: {reason}')


def _training_data(load):
  from enas_jax.training.state import TrainingData
  return TrainingData.put(
      load.train, load.score, mean=load.mean, std=load.std, augmentation=load.augmentation, task=load.task)


def _xla_form():
  from enas_jax.networks import chain, convolution

  def form(inputs, depthwise, pointwise, *, stride):
    grouped = convolution._convolve(inputs, depthwise, stride, groups=inputs.shape[-1])
    return convolution._convolve(grouped, pointwise, 1)

  return mock.patch.object(chain, 'separable_convolution', form)


def _clocks():
  return time.process_time(), time.perf_counter()


def _timed(indices, repeats, function, *arguments):
  start = _clocks()
  function(*arguments)
  end = _clocks()
  return indices, repeats, end[0] - start[0], end[1] - start[1]


def machine_row(load, settings):
  """Not a row: what the machine is, and its peaks from a large matrix product and a large copy. One yield."""
  import jax
  import jax.numpy as jnp
  backend, device = jax.default_backend(), jax.devices()[0]
  size, length = (1536, 2**24) if backend == 'cpu' else (8192, 2**28)
  matrix, vector = jnp.ones((size, size), settings['dtype']), jnp.ones(length, jnp.float32)
  seconds = []
  for function, x in ((lambda x: x @ x, matrix), (lambda x: x + 1, vector)):
    function = jax.jit(function)
    function(x).block_until_ready()
    times = [_timed([], 1, lambda f=function, x=x: f(x).block_until_ready())[3] for _ in range(8)]
    seconds.append(min(times))
  yield {'backend': backend, 'device': device.device_kind, 'cores': len(os.sched_getaffinity(0)),
         'peak_flops': 2 * size**3 / seconds[0], 'peak_bandwidth': 8 * length / seconds[1],
         'versions': {name: importlib.metadata.version(name) for name in ('jax', 'flax')}}


def work(settings):
  """The body of a row's process: sets up, then answers each line on stdin with a round, in JSON; at its end, peak memory."""
  answers = os.fdopen(os.dup(1), 'w', buffering=1)
  os.dup2(2, 1)  # Whatever libraries print goes with the errors.
  keep_freed_memory()
  if settings['cores']:  # Before a library counts them.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:settings['cores']])
  kind = settings['row'].split('-')[0]
  if kind == 'population':
    one_cpu_device_a_core()  # As the commands do.
  if kind not in ('torch', 'machine'):
    import jax
    jax.config.update('jax_compilation_cache_dir', settings['scratch'])
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)
    jax.config.update('jax_persistent_cache_min_entry_size_bytes', -1)
  try:
    load = None if kind == 'machine' else workload.make(settings)
    base = _resident()
    for facts in globals()[f'{kind}_row'](load, settings):
      answers.write(json.dumps({**facts, 'base_bytes': base} if isinstance(facts, dict) else facts) + '\n')
      if not sys.stdin.readline().strip():
        break
    answers.write(json.dumps({'peak_bytes': _device_peak(kind) or _resident()}) + '\n')
  except Exception as error:
    traceback.print_exc()
    kind = '' if isinstance(error, UserError) else f'{type(error).__name__}: '
    answers.write(json.dumps({'failed': kind + (str(error).splitlines() or [''])[0]}) + '\n')


def _resident() -> int:
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return peak if sys.platform == 'darwin' else peak * 1024


def _device_peak(kind) -> int:
  """Peak bytes on an accelerator; 0 on a CPU."""
  if kind == 'torch':
    import torch
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
  import jax
  return (jax.local_devices()[0].memory_stats() or {}).get('peak_bytes_in_use', 0)


if __name__ == '__main__':
  work(json.loads(sys.argv[1]))

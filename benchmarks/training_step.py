"""CPU time of one training step of a chain, with each form of the separable convolution, as ratios within one run.

    python benchmarks/training_step.py [--widths=4,8,16,32,64] [--depth=6] [--batch=64] [--rounds=3]

Forms: `xla` (XLA's own grouped convolution), `shifts` (shifted multiply-adds), `composed` (one ordinary convolution), and what
the package chooses. The forms take turns, and a figure is the least over the rounds, so that other work on the machine
counts little. Prints a table; times are process time (all cores together) and wall-clock, in ms a step.
"""
import argparse
import time
from unittest import mock

import jax
import numpy as np

from enas_jax import data
from enas_jax.data.augment import Augmentation
from enas_jax.machine import keep_freed_memory
from enas_jax.networks import chain, convolution
from enas_jax.spaces import ChainArchitecture
from enas_jax.training.host_loop import train
from enas_jax.training.module_program import ModuleProgram
from enas_jax.training.state import TrainingData
from enas_jax.types import Recipe, Request, Schedule

STEPS = 12


def xla(inputs, depthwise, pointwise, *, stride):
  """Two of XLA's convolutions."""
  grouped = convolution._convolve(inputs, depthwise, stride, groups=inputs.shape[-1])
  return convolution._convolve(grouped, pointwise, 1)


def shifts(inputs, depthwise, pointwise, *, stride):
  """Shifted multiply-adds, then a matrix product."""
  return convolution._depthwise_by_shifts(inputs, depthwise[:, :, 0], stride) @ pointwise[0, 0]


def composed(inputs, depthwise, pointwise, *, stride):
  """One ordinary convolution with the product of the kernels."""
  return convolution._convolve(inputs, depthwise.swapaxes(2, 3) * pointwise, stride)


FORMS = {'xla': xla, 'shifts': shifts, 'composed': composed, 'chosen': convolution.separable_convolution}


def time_steps(program, request):
  """(process, wall) seconds of one epoch of STEPS steps."""
  start = time.process_time(), time.perf_counter()
  for snapshot, _ in train(program, [request], seed=0, score=False):
    jax.block_until_ready(snapshot.state)
  return time.process_time() - start[0], time.perf_counter() - start[1]


def main():
  """Compiles all forms of a width, then times them in turn."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--widths', default='4,8,16,32,64')
  parser.add_argument('--depth', type=int, default=6)
  parser.add_argument('--batch', type=int, default=64)
  parser.add_argument('--rounds', type=int, default=3)
  args = parser.parse_args()
  keep_freed_memory()
  dataset = data.load('fashion_mnist_10k')
  part = data.ImageSet(*(array[:STEPS * args.batch] for array in dataset.train))
  mean, std = data.statistics(part.images)
  arrays = TrainingData.put(
      part, part, mean=mean, std=std, augmentation=Augmentation(crop_padding=0, flip=True, cutout=0), task=dataset.task)
  print('| width | form | CPU ms | of xla | wall ms | compile s |')
  print('| --- | --- | --- | --- | --- | --- |')
  for width in map(int, args.widths.split(',')):
    request = Request(ChainArchitecture.uniform(args.depth, width), Schedule(epochs=1, batch_size=args.batch))
    programs = {}
    for name, form in FORMS.items():
      with mock.patch.object(chain, 'separable_convolution', form):
        programs[name] = ModuleProgram(request.architecture, arrays, Recipe(args.batch))
    times = {name: [] for name in FORMS}
    for _ in range(args.rounds + 1):
      for name, program in programs.items():
        times[name].append(time_steps(program, request))
    best = {name: np.min(rows[1:], axis=0) * 1e3 / STEPS for name, rows in times.items()}
    for name, (process, wall) in best.items():
      print(f'| {width} | {name} | {process:.1f} | {process / best["xla"][0]:.2f} | {wall:.1f} '
            f'| {programs[name].compile_seconds:.1f} |', flush=True)


if __name__ == '__main__':
  main()

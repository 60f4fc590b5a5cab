"""Measures training steps and fits the cost model's rates to them (enas_jax/families/cost.py).

    python benchmarks/cost_model.py [--batch=32] [--rounds=3]

Times the step of chains of several widths, operations and kernels, one at a time on one device, and prints measured against
modelled times with the present rates, the rates of a non-negative least-squares fit (of relative errors), and compile seconds
by number of branches.
"""
import argparse
import time

import jax
import numpy as np
from scipy.optimize import nnls

from enas_jax import data
from enas_jax.data.augment import Augmentation
from enas_jax.families import cost
from enas_jax.families.chain import packing
from enas_jax.families.chain.network import StackedChain
from enas_jax.families.chain.weights import Capacity
from enas_jax.machine import keep_freed_memory
from enas_jax.spaces.chain import ChainArchitecture
from enas_jax.training.layout import Layout
from enas_jax.training.population import PopulationProgram
from enas_jax.training.slots import train_one
from enas_jax.training.state import TrainingData
from enas_jax.types import Recipe, Request, Schedule

STEPS = 40


def main():
  """Measures, fits, prints."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--batch', type=int, default=32)
  parser.add_argument('--rounds', type=int, default=3)
  args = parser.parse_args()
  keep_freed_memory()
  dataset = data.load('fashion_mnist_10k')
  train = data.ImageSet(*(array[:STEPS * args.batch] for array in dataset.train))
  score = data.ImageSet(*(array[:125] for array in dataset.test))
  part = TrainingData.put(train, score, mean=np.zeros(1, np.float32), std=np.ones(1, np.float32),
                          augmentation=Augmentation(crop_padding=0, flip=True, cutout=0), task=dataset.task)
  rows, compiled = [], []
  for operation, kernel, depth, widths in (
      (0, 3, 6, (4, 8, 12, 24)), (0, 3, 12, (8,)), (0, 5, 6, (8,)), (1, 3, 6, (4, 8, 12)), (1, 5, 6, (8,))):
    for width in widths:
      architecture = ChainArchitecture.uniform(depth, width, operation, kernel)
      program = PopulationProgram(StackedChain(Capacity.of([architecture])), part, Recipe(args.batch),
                                  layout=Layout(tuple(jax.devices()[:1])))
      compiled.append(program.compile_seconds)
      request = Request(architecture, Schedule(epochs=args.rounds + 1, batch_size=args.batch))
      start, times = time.process_time(), []
      for _ in train_one(program, request, seed=0, score=False):
        times.append((time.process_time() - start) / STEPS)
        start = time.process_time()
      macs, elements = packing.work(architecture, dataset.task)
      features = [6 * macs * args.batch / 1e9, 4 * elements * cost.PASSES * args.batch / 1e9, depth + 2]
      rows.append((architecture, min(times[1:]), features))
  measured, features = np.array([r[1] for r in rows]), np.array([r[2] for r in rows])
  fitted, _ = nnls(features / measured[:, None], np.ones(len(rows)))
  table = cost.rates(jax.default_backend())
  print('| chain | measured ms | model ms | fitted ms |')
  print('| --- | --- | --- | --- |')
  for architecture, seconds, row in rows:
    model = packing.step_seconds(architecture, dataset.task, args.batch, table)
    print(f'| {architecture} | {seconds * 1e3:.1f} | {model * 1e3:.1f} | {np.dot(fitted, row) * 1e3:.1f} |')
  print(f'fitted: per_gflop={fitted[0]:.4f}, per_gbyte={fitted[1]:.4f}, per_layer={fitted[2]:.2e}')
  mixed = [Capacity((1, 1, 1), 8, branches) for branches in (((0, 3),), ((0, 3), (1, 3)), ((0, 3), (0, 5), (1, 3), (1, 5)))]
  for capacity in mixed:
    program = PopulationProgram(StackedChain(capacity), part, Recipe(args.batch),
                                layout=Layout(tuple(jax.devices()[:1])))
    print(f'{len(capacity.branches)} branches: compiled in {program.compile_seconds:.1f} s')


if __name__ == '__main__':
  main()

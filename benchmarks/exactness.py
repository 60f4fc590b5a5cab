"""How exact a family's program is: steps on one full batch from equal weights, compared with the plain module in float64.

    python benchmarks/exactness.py [--data=NAME] [--space=chain --seed=0 | --architecture=JSON] [--steps=20] [--variants=...]

The program is compiled as the product does, and again with other options of the compiler or other convolutions. A step multiplies
any difference, rounding among them: so float64 trains also from weights that are moved by 6e-8, half a unit in the last place of
float32. Prints the relative difference from float64 of loss and of weights (norm of the difference by the norm) after some
steps, and the least process time of a step. Settings whose noise differs between module and family (drop path) do not compare.
"""
import argparse
import json
import time
from unittest import mock

import jax
import numpy as np
import optax
from flax import nnx

from enas_jax import data, families
from enas_jax.config import get_config
from enas_jax.data.augment import Augmentation
from enas_jax.machine import keep_freed_memory
from enas_jax.networks import build
from enas_jax.spaces import make
from enas_jax.training import population
from enas_jax.training.layout import CPU_OPTIONS, Layout
from enas_jax.training.module_program import _training_logits
from enas_jax.training.state import Hyperparameters, TrainingData, optimizer

SHOWN = (1, 2, 5, 10, 20, 50, 100)
ULP = 6e-8
NO_FAST = {'xla_cpu_enable_fast_math': False}
VARIANTS = {  # Of the program: options of the compiler, and the lowering.
    'program': ({}, 'shifts'),
    'no fast math': (NO_FAST, 'shifts'),
    'exact functions': ({'xla_cpu_fast_math_honor_functions': True}, 'shifts'),
    'exact division': ({'xla_cpu_fast_math_honor_division': True}, 'shifts'),
    'vectors of 256': ({'xla_cpu_prefer_vector_width': '256'}, 'shifts'),
    'xla': ({}, 'xla'),
    'xla, no fast math': (NO_FAST, 'xla'),
}


def by_module(architecture, part, weights, hyperparameters, steps, dtype):
  """By the plain module, of each step: the loss, weights and statistics after it (flat float64), process seconds."""
  graph, *like = nnx.split(build(architecture, task=part.task, key=jax.random.key(0)), nnx.Param, nnx.BatchStat)
  labels, raw = np.asarray(part.arrays.labels), np.asarray(part.arrays.images)
  inputs = (raw.astype(dtype) / dtype(255) - np.asarray(part.arrays.mean, dtype)) / np.asarray(part.arrays.std, dtype)

  @jax.jit
  def step(params, stats, state, inputs, labels):
    def loss_of(params):
      model = nnx.merge(graph, params, stats, copy=True)
      model.train()
      heads = _training_logits(model, inputs, key=jax.random.key(0), progress=0.0)
      loss = sum(weight * optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean() for weight, logits in heads)
      return loss, nnx.state(model, nnx.BatchStat)

    (loss, stats), gradients = jax.value_and_grad(loss_of, has_aux=True)(params)
    updates, state = optimizer(hyperparameters).update(gradients, state, params)
    return optax.apply_updates(params, updates), stats, state, loss

  with jax.enable_x64(dtype is np.float64):
    cast = [jax.tree.unflatten(jax.tree.structure(tree), [x.astype(dtype) for x in jax.tree.leaves(own)])
            for tree, own in zip(like, weights, strict=True)]
    carry = [*cast, optimizer(hyperparameters).init(cast[0])]
    run = step.lower(*carry, inputs, labels).compile()
    rows = []
    for _ in range(steps):
      start = time.process_time()
      *carry, loss = jax.block_until_ready(run(*carry, inputs, labels))
      rows.append((float(loss), _flat(carry[0]), _flat(carry[1]), time.process_time() - start))
  return rows


def by_program(architecture, part, weights, hyperparameters, steps, family, options=None, lowering='shifts'):
  """The same by the family's program: an epoch is one batch."""
  network = family.network(
      family.own_capacity(architecture), dtype=np.float32, lowering=lowering, masked=False, axis=None)
  with mock.patch.object(population, 'CPU_OPTIONS', {**CPU_OPTIONS, **(options or {})}):
    program = population.PopulationProgram(
        network, part, batch_size=part.train_size, keep_last_batch=False, layout=Layout(tuple(jax.devices()[:1])))
  program.insert({0: program.new_member(architecture, program.pack(architecture, *weights))})
  whole, one, no = np.zeros(1, np.int32), np.ones(1, np.int32), np.zeros(1, bool)
  like = program._control().hyperparameters
  settings = Hyperparameters(*(None if one is None else np.full_like(one, x) for x, one in zip(hyperparameters, like, strict=True)))
  rows = []
  for index in range(steps):
    control = program.put(population.Control(
        jax.random.split(jax.random.key(0), 1), whole + np.int32(index), whole, one, no, no, settings))
    start = time.process_time()
    tally = jax.device_get(program.advance(control)[0])
    seconds = time.process_time() - start
    after = program.unpack(architecture, program.member(0).state)
    rows.append((float(tally.loss[0]) / part.train_size, *map(_flat, after), seconds))
  return rows


def by_any(name, architecture, part, weights, hyperparameters, steps, family):
  """A row of the table."""
  if name == 'moved':
    rng = np.random.default_rng(0)
    weights = jax.tree.map(lambda x: x * (1 + ULP * rng.standard_normal(x.shape)), weights[0]), weights[1]
  if name in ('float64', 'moved', 'module'):
    return by_module(architecture, part, weights, hyperparameters, steps, np.float32 if name == 'module' else np.float64)
  return by_program(architecture, part, weights, hyperparameters, steps, family, *VARIANTS[name])


def initial(architecture, task):
  """The plain module's fresh weights and statistics, as nested dicts."""
  parts = nnx.split(build(architecture, task=task, key=jax.random.key(0)), nnx.Param, nnx.BatchStat)[1:]
  return tuple(jax.tree.map(np.asarray, nnx.to_pure_dict(part)) for part in parts)


def _distance(x, exact):
  return np.linalg.norm(np.subtract(x, exact)) / np.linalg.norm(exact)


def _flat(tree):
  return np.concatenate([np.ravel(np.asarray(x, np.float64)) for x in jax.tree.leaves(tree)])


def main():
  """Trains all, prints a table."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  for name, default in (('data', 'fashion_mnist_10k'), ('data_dir', None), ('space', 'chain'), ('architecture', None),
                        ('variants', ','.join(VARIANTS))):
    parser.add_argument(f'--{name}', default=default)
  for name, default in (('seed', 0), ('batch', 512), ('steps', 20), ('learning_rate', 0.1), ('momentum', 0.9),
                        ('weight_decay', 5e-4), ('clip_norm', 5.0)):
    parser.add_argument(f'--{name}', default=default, type=type(default))
  args = parser.parse_args()
  keep_freed_memory()
  record = json.loads(args.architecture) if args.architecture else {'space': args.space}
  space = make(get_config(), record['space'])
  architecture = space.from_json(record) if args.architecture else space.sample(np.random.default_rng(args.seed))
  dataset = data.load(args.data, data_dir=args.data_dir)
  batch = data.ImageSet(*(array[:args.batch] for array in dataset.train))
  mean, std = data.statistics(batch.images)
  part = TrainingData.put(batch, batch, mean=mean, std=std, task=dataset.task,
                          augmentation=Augmentation(crop_padding=0, flip=False, cutout=0))
  family = families.of(space, dataset.task, batch_size=args.batch, steps=args.steps, platform='cpu')
  hyperparameters = Hyperparameters(*map(float, map(
      np.float32, (args.learning_rate, args.momentum, args.weight_decay, args.clip_norm))), 0.0)
  shown = [n for n in SHOWN if n <= args.steps]
  print(f'{architecture}: difference from float64 of loss / weights / statistics, at step\n')
  print('|', ' | '.join(['', *map(str, shown), 'CPU ms']), '|\n' + '| --- ' * (len(shown) + 2) + '|')
  truth = None
  for name in ('float64', 'moved', 'module', *(args.variants.split(',') if family else ())):
    rows = by_any(name, architecture, part, initial(architecture, dataset.task), hyperparameters, args.steps, family)
    truth = truth or rows
    cells = [' / '.join(f'{_distance(*pair):.1e}' for pair in zip(rows[n - 1][:3], truth[n - 1][:3], strict=True)) for n in shown]
    print('|', ' | '.join([name, *cells, f'{1e3 * min(row[3] for row in rows):.0f}']), '|', flush=True)


if __name__ == '__main__':
  main()

"""How exact a family's program is: steps on one batch from equal weights, compared with the plain module in float64.

    python benchmarks/exactness.py [--data=NAME] [--space=chain --seed=0 | --architecture=JSON] [--steps=20] [--variants=...]

The program is compiled as the product does, with other options of the compiler, and with other sums or convolutions
(--clip_norm=1e9 takes out the clip). Steps multiply any difference: so float64 trains also from weights that are moved by 6e-8,
a unit in the last place of float32. Prints relative differences from float64 (norm of the difference by the norm) and the least
process time of a step. Statistics tell most: a ReLU that rounds to its other side makes weights and losses jump, not those.
Networks with noise of their own (drop path) do not compare.
"""
import argparse
import contextlib
import json
import sys
import time
from unittest import mock

import jax
import numpy as np
import optax
from flax import nnx

from enas_jax import data, families
from enas_jax.config import get_config
from enas_jax.data.augment import Augmentation
from enas_jax.families import planes
from enas_jax.machine import keep_freed_memory
from enas_jax.networks import build
from enas_jax.spaces import make
from enas_jax.training import population
from enas_jax.training.layout import CPU_OPTIONS, Layout
from enas_jax.training.module_program import training_logits
from enas_jax.training.state import Hyperparameters, TrainingData, optimizer
from enas_jax.types import Recipe

SHOWN, MOVE = (1, 2, 5, 10, 20, 50, 100), 6e-8
NO_FAST = {'xla_cpu_enable_fast_math': False}


def sums_in_a_row(*arrays):
  """What planes.sums was: XLA adds all terms one after the other."""
  return jax.lax.reduce(
      list(arrays), [np.float32(0)] * len(arrays), lambda a, b: [x + y for x, y in zip(a, b, strict=True)], (1, 2, 3))


VARIANTS = {  # Of the program: options of the compiler, the lowering, the sums.
    'program': ({}, 'shifts', planes.sums),
    'no fast math': (NO_FAST, 'shifts', planes.sums),
    'sums in a row': ({}, 'shifts', sums_in_a_row),
    'sums in a row, no fast math': (NO_FAST, 'shifts', sums_in_a_row),
    'exact functions': ({'xla_cpu_fast_math_honor_functions': True}, 'shifts', planes.sums),
    'exact division': ({'xla_cpu_fast_math_honor_division': True}, 'shifts', planes.sums),
    'xla': ({}, 'xla', planes.sums),
}


def by_module(architecture, part, weights, hyperparameters, steps, dtype):
  """By the plain module, of each step: the loss, weights and statistics after it (flat float64), process seconds."""
  graph, *like = nnx.split(build(architecture, task=part.task, key=jax.random.key(0)), nnx.Param, nnx.BatchStat)
  images, mean, std = (np.asarray(x).astype(dtype) for x in (part.arrays.images, part.arrays.mean, part.arrays.std))
  inputs, labels = (images / dtype(255) - mean) / std, np.asarray(part.arrays.labels)

  @jax.jit
  def step(params, stats, state, inputs, labels):
    def loss_of(params):
      model = nnx.merge(graph, params, stats, copy=True)
      model.train()
      heads = training_logits(model, inputs, key=jax.random.key(0), progress=0.0)
      loss = sum(weight * optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean() for weight, logits in heads)
      return loss, nnx.state(model, nnx.BatchStat)

    (loss, stats), gradients = jax.value_and_grad(loss_of, has_aux=True)(params)
    updates, state = optimizer(hyperparameters).update(gradients, state, params)
    return optax.apply_updates(params, updates), stats, state, loss

  with jax.enable_x64(dtype is np.float64):
    carry = [jax.tree.unflatten(jax.tree.structure(tree), [x.astype(dtype) for x in jax.tree.leaves(own)])
             for tree, own in zip(like, weights, strict=True)]
    carry.append(optimizer(hyperparameters).init(carry[0]))
    run = step.lower(*carry, inputs, labels).compile()
    for _ in range(steps):
      start = time.process_time()
      *carry, loss = jax.block_until_ready(run(*carry, inputs, labels))
      yield float(loss), _flat(carry[0]), _flat(carry[1]), time.process_time() - start


def by_program(architecture, part, weights, hyperparameters, steps, family, options, lowering, sums):
  """The same by the family's program. An epoch is one batch, so that the product's own loop gives every step's loss."""
  network = family.network(family.own_capacity(architecture), dtype=np.float32, lowering=lowering, masked=False, axis=None)
  with contextlib.ExitStack() as patches:
    patches.enter_context(mock.patch.object(population, 'CPU_OPTIONS', {**CPU_OPTIONS, **options}))
    for module in [m for name, m in sys.modules.items() if name.startswith('enas_jax.families') and hasattr(m, 'sums')]:
      patches.enter_context(mock.patch.object(module, 'sums', sums))
    program = population.PopulationProgram(
        network, part, Recipe(part.train_size), layout=Layout(tuple(jax.devices()[:1])))
  program.insert({0: program.new_member(architecture, program.pack(architecture, *weights))})
  given = Hyperparameters(*(np.full(1, x, np.float32) for x in hyperparameters))
  given = given._replace(learning_rate=given.learning_rate[:, None])
  control = program._control()._replace(steps=np.ones(1, np.int32), hyperparameters=given)
  for epoch in range(steps):
    control = program.put(control._replace(epoch=np.full(1, epoch, np.int32)))
    start = time.process_time()
    tally = jax.device_get(program.advance(control)[0])
    seconds = time.process_time() - start
    yield (float(tally.loss[0]) / part.train_size, *map(_flat, program.unpack(architecture, program.member(0).state)), seconds)


def rows(architecture, part, hyperparameters, steps, family, variants):
  """Yields the name and the steps of each way to train."""
  parts = nnx.split(build(architecture, task=part.task, key=jax.random.key(0)), nnx.Param, nnx.BatchStat)[1:]
  weights = tuple(jax.tree.map(np.asarray, nnx.to_pure_dict(x)) for x in parts)
  rng = np.random.default_rng(0)
  moved = jax.tree.map(lambda x: x * (1 + MOVE * rng.standard_normal(x.shape)), weights[0]), weights[1]
  for name, start, dtype in (('float64', weights, np.float64), ('moved', moved, np.float64), ('module', weights, np.float32)):
    yield name, list(by_module(architecture, part, start, hyperparameters, steps, dtype))
  for name in variants:
    yield name, list(by_program(architecture, part, weights, hyperparameters, steps, family, *VARIANTS[name]))


def _flat(tree):
  return np.concatenate([np.ravel(np.asarray(x, np.float64)) for x in jax.tree.leaves(tree)])


def _distance(x, exact):
  return np.linalg.norm(np.subtract(x, exact)) / np.linalg.norm(exact)


def main():
  """Trains all, prints a table."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  for name, default in {
      'data': 'fashion_mnist_10k', 'data_dir': '', 'space': 'chain', 'architecture': '', 'variants': '', 'seed': 0,
      'batch': 512, 'steps': 20, 'learning_rate': 0.1, 'momentum': 0.9, 'weight_decay': 5e-4, 'clip_norm': 5.0}.items():
    parser.add_argument(f'--{name}', default=default, type=type(default))
  args = parser.parse_args()
  keep_freed_memory()
  record = json.loads(args.architecture or json.dumps({'space': args.space}))
  space = make(get_config(), record['space'])
  architecture = space.from_json(record) if args.architecture else space.sample(np.random.default_rng(args.seed))
  dataset = data.load(args.data, data_dir=args.data_dir or None)
  batch = data.ImageSet(*(array[:args.batch] for array in dataset.train))
  mean, std = data.statistics(batch.images)
  part = TrainingData.put(batch, batch, mean=mean, std=std, task=dataset.task,
                          augmentation=Augmentation(crop_padding=0, flip=False, cutout=0))
  family = families.of(space, dataset.task, batch_size=args.batch, steps=args.steps, platform='cpu')
  settings = args.learning_rate, args.momentum, args.weight_decay, args.clip_norm, 0.0
  variants = (args.variants.split(',') if args.variants else VARIANTS) if family else ()
  shown, truth = [n for n in SHOWN if n <= args.steps], None
  print(f'{architecture}: difference from float64 of loss / weights / statistics, after so many steps\n')
  print('|', ' | '.join(['', *map(str, shown), 'CPU ms']), '|\n' + '| --- ' * (len(shown) + 2) + '|')
  for name, steps in rows(architecture, part, Hyperparameters(*map(np.float32, settings)), args.steps, family, variants):
    truth = truth or steps
    pairs = [zip(steps[n - 1][:3], truth[n - 1][:3], strict=True) for n in shown]
    cells = [' / '.join(f'{_distance(*pair):.1e}' for pair in three) for three in pairs]
    print('|', ' | '.join([name, *cells, f'{1e3 * min(step[3] for step in steps):.0f}']), '|', flush=True)


if __name__ == '__main__':
  main()

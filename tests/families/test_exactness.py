"""A family's program, as the product compiles it, is about as near to float64 as the plain module in float32."""
import os

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from families.test_contract import FAMILIES
from flax import nnx

from enas_jax.data.augment import Augmentation
from enas_jax.data.dataset import ImageSet
from enas_jax.families import planes
from enas_jax.networks import build
from enas_jax.spaces import ChainArchitecture
from enas_jax.training.layout import CPU_OPTIONS, Layout
from enas_jax.training.population import PopulationProgram
from enas_jax.training.state import Control, Hyperparameters, TrainingData, optimizer
from enas_jax.types import Recipe, Request, Schedule, Task

IMAGES, SIDE = 256, 24  # So that a sum has many terms: 150 thousand.
FACTOR = 1.5  # Of the module's distance from float64.
FLOOR = {'weights': 1e-3, 'statistics': 2e-7}  # Relative. One ReLU that rounds to the other side moves weights by 1e-3.
SETTINGS = Hyperparameters(*map(np.float32, (0.02, 0.9, 1e-2, 0.5)), np.float32(0))


@pytest.fixture(scope='module')
def data():
  rng = np.random.default_rng(0)
  labels = np.arange(IMAGES) % 3
  images = rng.integers(0, 120, (IMAGES, SIDE, SIDE, 1)) + 60 * labels[:, None, None, None]
  part = ImageSet(images.astype(np.uint8), labels.astype(np.int32))
  return TrainingData.put(part, part, mean=np.float32([0.4]), std=np.float32([0.2]), task=Task((SIDE, SIDE, 1), 3),
                          augmentation=Augmentation(crop_padding=0, flip=False, cutout=0))


def fresh(architecture, task):
  return nnx.split(build(architecture, task=task, key=jax.random.key(1)), nnx.Param, nnx.BatchStat)


def flat(tree):
  return np.concatenate([np.ravel(np.asarray(x, np.float64)) for x in jax.tree.leaves(tree)])


def by_module(architecture, data, dtype):
  """Weights and batch norms' statistics after a step on the whole set as one batch."""
  graph, params, stats = fresh(architecture, data.task)
  images, labels, mean, std = (np.asarray(getattr(data.arrays, name)) for name in ('images', 'labels', 'mean', 'std'))
  images = (images.astype(dtype) / dtype(255) - mean.astype(dtype)) / std.astype(dtype)
  with jax.enable_x64(dtype is np.float64):
    @jax.jit
    def step(params, stats, state, images, labels):
      def loss_of(params):
        model = nnx.merge(graph, params, stats, copy=True)
        model.train()
        return optax.softmax_cross_entropy_with_integer_labels(model(images), labels).mean(), nnx.state(model, nnx.BatchStat)

      gradients, after = jax.grad(loss_of, has_aux=True)(params)
      updates, _ = optimizer(SETTINGS).update(gradients, state, params)
      return optax.apply_updates(params, updates), after

    params, stats = jax.tree.map(lambda x: np.asarray(x, dtype), (params, stats))
    return tuple(map(flat, step(params, stats, optimizer(SETTINGS).init(params), images, labels)))


def by_program(architecture, data, network):
  """The same by a family's network, as the product compiles it: an epoch is one batch."""
  program = PopulationProgram(
      network, data, Recipe(IMAGES), layout=Layout(tuple(jax.devices()[:1])))
  _, *weights = fresh(architecture, data.task)
  program.insert({0: program.new_member(architecture, program.pack(architecture, *map(nnx.to_pure_dict, weights)))})
  whole, no = np.zeros(1, np.int32), np.zeros(1, bool)
  settings = Hyperparameters(*(np.full(1, x) for x in SETTINGS))._replace(learning_rate=np.full((1, 1), SETTINGS.learning_rate))
  keys = jax.random.split(jax.random.key(0), 1)
  program.advance(program.put(Control(keys, whole, whole, whole + np.int32(1), no, no, settings)))
  return tuple(map(flat, program.unpack(architecture, program.member(0).state)))


CHANNELWISE = (  # Planes and width are large enough for families/chain/channelwise.py.
    FAMILIES['chain'][0], FAMILIES['chain'][1], [Request(ChainArchitecture.uniform(4, 8), Schedule(epochs=1, batch_size=8))])
HELD = FAMILIES if 'ENAS_JAX_THOROUGH' in os.environ else ('chain',)  # Others compile long.


@pytest.mark.once
@pytest.mark.slow
@pytest.mark.parametrize(('make', 'space', 'requests'), [
    CHANNELWISE, *(FAMILIES[name] for name in HELD)], ids=['channelwise', *HELD])
def test_the_program_is_as_exact_as_the_module(make, space, requests, data):
  family, architecture = make(data), requests[0].architecture
  network = family.network(family.own_capacity(architecture), dtype=jnp.float32, lowering='shifts', masked=False, axis=None)
  exact, plain = (by_module(architecture, data, dtype) for dtype in (np.float64, np.float32))
  ours = by_program(architecture, data, network)
  start = tuple(map(flat, fresh(architecture, data.task)[1:]))
  for name, truth, x, other, before in zip(('weights', 'statistics'), exact, ours, plain, start, strict=True):
    found, theirs = (np.linalg.norm(y - truth) / np.linalg.norm(truth - before) for y in (x, other))
    assert found <= FACTOR * max(theirs, FLOOR[name]), (name, found, theirs)


@pytest.mark.parametrize('shape', [(3, 32, 32, 256), (3, 28, 28, 32), (3, 2, 300, 5)])
def test_sums_of_many_terms_keep_their_digits(shape):
  numbers = np.random.default_rng(0).normal(0.5, 1, shape).astype(np.float32)
  found = jax.jit(lambda x: planes.sums(x, x * x)).lower(numbers).compile(compiler_options=CPU_OPTIONS)(numbers)
  wide = numbers.astype(np.float64)
  for ours, exact in zip(found, (wide.sum((1, 2, 3)), (wide**2).sum((1, 2, 3))), strict=True):
    np.testing.assert_allclose(ours, exact, rtol=5e-7)

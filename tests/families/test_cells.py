"""What families of cells are made of: pooling, DARTS's second head, the widths of sizes, which networks have no family."""
import functools
import itertools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from enas_jax import families
from enas_jax.families import pooling
from enas_jax.families.cells import Pass
from enas_jax.families.darts.network import StackedDarts
from enas_jax.families.darts.weights import Capacity
from enas_jax.networks.darts import AuxiliaryHead
from enas_jax.spaces import DartsSpace, NatsSizeArchitecture, NatsSizeSpace
from enas_jax.training.family import Mode
from enas_jax.types import Task

CIFAR = Task((32, 32, 3), 10)
POOLS = {  # Ours on planes [C, H, W, B], and Flax's on [B, H, W, C].
    'average': (lambda x: pooling.average(x, 1),
                functools.partial(nnx.avg_pool, window_shape=(3, 3), padding='SAME', count_include_pad=False)),
    'average, strided': (lambda x: pooling.average(x, 2),
                         functools.partial(nnx.avg_pool, window_shape=(3, 3), strides=(2, 2), padding=[(1, 1)] * 2,
                                           count_include_pad=False)),
    'maximum': (lambda x: pooling.maximum(x, 1), functools.partial(nnx.max_pool, window_shape=(3, 3), padding='SAME')),
    'maximum, strided': (lambda x: pooling.maximum(x, 2),
                         functools.partial(nnx.max_pool, window_shape=(3, 3), strides=(2, 2), padding=[(1, 1)] * 2)),
    'halved average': (pooling.halved_average,
                       functools.partial(nnx.avg_pool, window_shape=(2, 2), strides=(2, 2), padding='SAME',
                                         count_include_pad=False)),
    'halved maximum': (pooling.halved_maximum,
                       functools.partial(nnx.max_pool, window_shape=(2, 2), strides=(2, 2), padding='SAME')),
}


@pytest.mark.once
@pytest.mark.parametrize(('ours', 'theirs'), POOLS.values(), ids=POOLS)
@pytest.mark.parametrize('size', [(4, 6), (5, 7)])
def test_pooling_and_its_gradient_are_those_of_flax(ours, theirs, size):
  rng = np.random.default_rng(0)
  planes = jnp.asarray(rng.normal(size=(3, *size, 2)), jnp.float32)  # Negative ones, too: padding must not win.

  def other(x):
    return theirs(x.transpose(3, 1, 2, 0)).transpose(3, 1, 2, 0)

  (found, pull), (expected, other_pull) = (jax.vjp(function, planes) for function in (ours, other))
  np.testing.assert_allclose(found, expected, rtol=1e-6)
  gradient = jnp.asarray(rng.normal(size=expected.shape), jnp.float32)
  np.testing.assert_allclose(pull(gradient)[0], other_pull(gradient)[0], rtol=1e-5, atol=1e-6)


@pytest.mark.once
def test_the_auxiliary_head_is_that_of_the_module():
  capacity, rng = Capacity(3, 2, True, 0.0), np.random.default_rng(0)
  network = StackedDarts(capacity, mock.Mock())
  head = AuxiliaryHead(32, 3, stem='cifar', rngs=nnx.Rngs(0))
  features = jnp.asarray(rng.normal(size=(4, 8, 8, 32)), jnp.float32)
  expected = head(features)  # In training mode.
  weights = nnx.to_pure_dict(nnx.state(head, nnx.Param))

  def norm(name):
    return {**weights[name], 'mean': jnp.zeros_like(weights[name]['bias']), 'var': jnp.ones_like(weights[name]['bias'])}

  params = {'narrow': {'kernel': weights['narrow']['kernel'][0, 0].T, **norm('narrow_norm')},
            'wide': {'kernel': weights['wide']['kernel'].swapaxes(2, 3), **norm('wide_norm')},
            'classifier': weights['classifier']}
  run = Pass(network, params, params, {}, {}, Mode(True))
  np.testing.assert_allclose(network._auxiliary(run, params, features.transpose(3, 1, 2, 0)), expected, rtol=1e-3, atol=1e-4)
  after = nnx.to_pure_dict(nnx.state(head, nnx.BatchStat))
  for name in ('narrow', 'wide'):
    for statistic, value in after[f'{name}_norm'].items():
      np.testing.assert_allclose(run.after[name][statistic], value, rtol=1e-4, atol=1e-5)


def test_features_too_small_for_the_auxiliary_head_are_a_user_error(user_error):
  with user_error('auxiliary head', '8 x 8', '4 x 8'):
    StackedDarts(Capacity(3, 2, True, 0.0), mock.Mock())._auxiliary(mock.Mock(), {}, jnp.zeros((32, 4, 8, 2)))


def test_networks_with_the_stem_of_imagenet_train_as_their_modules():
  settings = {'task': CIFAR, 'batch_size': 8, 'steps': 10, 'platform': 'cpu'}
  assert families.of(DartsSpace(stem='imagenet', channels=4), **settings) is None
  assert families.of(DartsSpace(), **settings) is not None


def test_sizes_are_padded_the_less_the_longer_they_train():
  space = NatsSizeSpace()
  members = [NatsSizeArchitecture(c) for c in itertools.product((8, 24, 64), (16, 40), (8,), (32,), (64, 8))]
  programs = []
  for steps in (1, 10**7):
    family = families.of(space, CIFAR, batch_size=32, steps=steps, platform='gpu')
    capacities = [family.capacity(a) for a in members]
    assert all(shared >= own for a, c in zip(members, capacities, strict=True)
               for shared, own in zip(c.widths, family.own_capacity(a).widths, strict=True))
    programs.append(len(set(capacities)))
  assert programs[0] == 1 < programs[1]


@pytest.mark.parametrize(('platform', 'steps', 'together'), [
    ('cpu', 1, True), ('cpu', 10, True), ('cpu', 500, False), ('cpu', 10**5, False), ('gpu', 10**5, True)])
def test_sizes_train_as_their_modules_where_that_costs_less(platform, steps, together):
  """On a CPU a step of planes takes longer than the module's, so shared programs pay for short trainings alone."""
  found = families.of(NatsSizeSpace(), CIFAR, batch_size=32, steps=steps, platform=platform)
  assert (found is not None) == together


def test_on_an_accelerator_the_model_decides_who_runs_side_by_side():
  """Small networks do not fill a device, so the branches that are not theirs cost less than waiting; large ones do."""
  decided = []
  for channels in (4, 512):
    space = families.nasbench201.NasBench201Space(channels=channels)
    family = families.of(space, CIFAR, batch_size=128, steps=10, platform='gpu')
    decided.append(family.side_by_side(family.capacity(space.sample(np.random.default_rng(0)))))
  assert decided == [True, False]

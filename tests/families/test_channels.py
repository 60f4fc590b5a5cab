"""Layers channel by channel against passes over all planes; on a CPU alone."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from enas_jax.families import channels, planes
from enas_jax.families.chain import channelwise
from enas_jax.families.chain.channelwise import ChannelwiseChain
from enas_jax.families.chain.network import StackedChain
from enas_jax.families.chain.weights import Capacity
from enas_jax.families.norm import BatchNorm, apply
from enas_jax.spaces.chain import SEPARABLE, ChainArchitecture
from enas_jax.training.family import Mode
from enas_jax.types import Task

TASK = Task((8, 8, 3), 10)


def drawn(*shape, seed=0):
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@pytest.mark.once
@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('size', [3, 5])
@pytest.mark.parametrize('side', [7, 8])
def test_a_depthwise_layer_and_its_gradient(stride, size, side):
  stack, kernel = drawn(3, 4, side, side, 5), drawn(size, size, 4, seed=1)
  weights = {'scale': drawn(4, seed=2), 'bias': drawn(4, seed=3)}
  form, moments, _ = BatchNorm().affine(weights, {'mean': jnp.zeros(4), 'var': jnp.ones(4)}, stack[1], True)
  norm = jnp.concatenate([form, jnp.stack([moments['mean'], jax.lax.rsqrt(moments['var'] + BatchNorm().epsilon)])])
  layer = channels.Layer(stack, jnp.int32(1), norm)

  def whole(z, weights, kernel):
    form, _, _ = BatchNorm().affine(weights, {'mean': jnp.zeros(4), 'var': jnp.ones(4)}, z, True)
    return planes.depthwise(jnp.maximum(apply(form, z), 0), kernel, stride)

  expected, pull = jax.vjp(whole, stack[1], weights, kernel)
  np.testing.assert_allclose(channels.depthwise(layer, kernel, stride), expected, rtol=1e-5, atol=1e-5)
  gradient = drawn(*expected.shape, seed=4)
  to_z, to_weights, to_kernel = pull(gradient)
  found, to_norm, found_kernel = channels.depthwise_backward(layer, kernel, stride, gradient)
  for a, b in ((found, to_z), (to_norm[0], to_weights['scale']), (to_norm[1], to_weights['bias']), (found_kernel, to_kernel)):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.once
@pytest.mark.parametrize('others', [[], [ChainArchitecture.uniform(7, 4, 1 - SEPARABLE, 5)]], ids=['separable', 'mixed'])
def test_a_chain_and_its_gradient(others, monkeypatch):
  """One step of training and a score, in both forms: large planes take the one, small ones the other."""
  architectures = [ChainArchitecture.uniform(8, 4, SEPARABLE, 3), *others]
  capacity = Capacity.of(architectures)
  images, labels = drawn(6, 8, 8, 3), jnp.arange(6)
  for architecture in architectures:
    found = []
    for large in (False, True):
      monkeypatch.setattr(channelwise, 'PLANE_BYTES', 0 if large else 1e9)
      network = ChannelwiseChain(capacity)
      params, stats = network.initial(architecture, TASK, np.random.default_rng(1))
      plan = jax.tree.map(jnp.asarray, network.plan(architecture))

      def step(params, stats, network=network, plan=plan):
        limits, scratch = network.limits(plan), network.scratch(images.shape)
        forward = network.forward(params, stats, plan, limits, images, scratch, Mode(True))
        assert jax.tree.structure(forward.scratch) == jax.tree.structure(scratch)
        scored = network.forward(params, stats, plan, limits, images, scratch, Mode(False)).logits
        return forward.stats, network.backward(params, plan, limits, images, labels, forward), scored

      found.append(jax.jit(step)(params, stats))
    for a, b in zip(*map(jax.tree.leaves, found), strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * max(1, float(jnp.abs(a).max())))


def test_the_default_search_keeps_its_form():
  assert not ChannelwiseChain(Capacity.of([ChainArchitecture.uniform(3, 16)]))._large((32, 28, 28, 1))
  assert issubclass(ChannelwiseChain, StackedChain)

"""The network of NAS-Bench-201 cells and of NATS-Bench widths against NumPy, and against published weights."""
import functools
from unittest import mock

import jax
import numpy as np
import pytest
from flax import nnx
from support.counting import num_params

from enas_jax.networks.nasbench201 import NasBench201Network
from enas_jax.spaces.nasbench201 import NasBench201Architecture
from enas_jax.spaces.nats_size import NatsSizeArchitecture
from enas_jax.types import Task

TASK = Task((8, 12, 3), 4)
ODD = Task((7, 5, 1), 3)
NONE, SKIP, CONV_1X1, CONV_3X3, AVG_POOL = range(5)
EVERYTHING = NasBench201Architecture((CONV_3X3, CONV_1X1, AVG_POOL, SKIP, CONV_3X3, NONE), 2, 1)
TWO_A_STAGE = NasBench201Architecture((AVG_POOL, NONE, CONV_1X1, NONE, SKIP, CONV_3X3), 3, 2)
ALL_NONE = NasBench201Architecture((NONE,) * 6, 2, 1)
WIDTHS = NatsSizeArchitecture((8, 16, 8, 8, 8))  # One cell narrows, so that its skip is a convolution; two do not.

quick_jit = functools.partial(jax.jit, compiler_options={'xla_backend_optimization_level': 0})


def network_of(architecture, task, key):
  return NasBench201Network(architecture, in_channels=task.image_shape[2], num_classes=task.num_classes, rngs=nnx.Rngs(key))


def abstract(architecture, task):
  """Without random values, which take long to trace."""
  with mock.patch('enas_jax.networks.layers.init', nnx.initializers.zeros):
    return nnx.split(nnx.eval_shape(lambda: network_of(architecture, task, 0)))


def perturbed(architecture, task):
  """A network whose every array, statistics too, is random, so that no mistake hides behind a 0 or 1."""
  rng = np.random.default_rng(0)

  def draw(path, x):
    values = rng.uniform(0.2, 1, x.shape).astype(np.float32)
    return values if 'var' in jax.tree_util.keystr(path) else values * rng.choice((-1, 1), x.shape).astype(np.float32)

  graph, state = abstract(architecture, task)
  return nnx.merge(graph, jax.tree_util.tree_map_with_path(draw, state))


def reference(network, architecture, images, *, train):
  """Logits in float64 as AutoDL-Projects' modules have them, in NumPy."""
  def array(variable):
    return np.asarray(variable[...], np.float64)

  def convolve(x, conv, stride=1):
    kernel, (height, width) = array(conv.kernel), x.shape[1:3]
    half = len(kernel) // 2
    padded = np.pad(x, ((0, 0), (half, half), (half, half), (0, 0)))
    return sum(padded[:, i:i + height:stride, j:j + width:stride] @ kernel[i, j]
               for i in range(len(kernel)) for j in range(len(kernel)))

  def normed(x, norm):
    mean, var = (x.mean((0, 1, 2)), x.var((0, 1, 2))) if train else (array(norm.mean), array(norm.var))
    return (x - mean) / np.sqrt(var + 1e-5) * array(norm.scale) + array(norm.bias)

  def relu_conv_norm(x, module, stride=1):
    return normed(convolve(np.maximum(x, 0), module.conv, stride), module.norm)

  def pooled(x, before, after, stride):
    """The mean of the pixels from `before` to `after` of every `stride`-th one."""
    rows = [[x[:, max(i - before, 0):i + after + 1, max(j - before, 0):j + after + 1].mean((1, 2))
             for j in range(0, x.shape[2], stride)] for i in range(0, x.shape[1], stride)]
    return np.moveaxis(np.array(rows), 2, 0)

  def cell(x, module, operations, channels):
    def edge(i, x):
      operation, convolution = operations[i], module.edges[i]
      if operation == SKIP and x.shape[-1] != channels:
        return normed(convolve(x, convolution.conv), convolution.norm)
      if operation in (CONV_1X1, CONV_3X3):
        assert convolution.conv.kernel_size == ((1, 1) if operation == CONV_1X1 else (3, 3))
        return relu_conv_norm(x, convolution)
      return {NONE: np.zeros((*x.shape[:3], channels)), SKIP: x, AVG_POOL: pooled(x, 1, 1, 1)}[operation]

    first = edge(0, x)
    second = edge(1, x) + edge(2, first)
    return edge(3, x) + edge(4, first) + edge(5, second)

  x = normed(convolve(images, network.stem.conv), network.stem.norm)
  for layer, module in zip(architecture.layers(), network.layers, strict=True):
    if layer.operations:
      x = cell(x, module, layer.operations, layer.out_channels)
    else:
      residual = convolve(pooled(x, 0, 1, 2), module.beside)
      x = relu_conv_norm(relu_conv_norm(x, module.first, 2), module.second) + residual
  features = np.maximum(normed(x, network.norm), 0).mean((1, 2))
  return features @ array(network.head.kernel) + array(network.head.bias)


def run(network, images):
  """Logits, the network left as it is."""
  graph, state = nnx.split(network)
  return quick_jit(lambda state, images: nnx.merge(graph, state)(images))(state, images)


@pytest.mark.parametrize(
    ('architecture', 'task'), [(EVERYTHING, TASK), (TWO_A_STAGE, ODD), (WIDTHS, ODD)], ids=['everything', 'two', 'widths'])
def test_logits_are_those_of_a_plain_network(architecture, task):
  images = np.random.default_rng(1).normal(size=(3, *task.image_shape)).astype(np.float32)
  network = perturbed(architecture, task)
  for train in (False, True):
    network.train() if train else network.eval()
    expected = reference(network, architecture, images, train=train)
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(run(network, images), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_a_cell_of_none_is_zero():
  network = perturbed(ALL_NONE, TASK)
  network.eval()
  black, white = (run(network, np.full((1, *TASK.image_shape), x, np.float32)) for x in (0, 1))
  np.testing.assert_array_equal(black, white)
  assert np.isfinite(black).all()


def test_params_of_the_benchmarks_own_skeleton():
  """Its first architecture: 0.129306 M in the README of NAS-Bench-201."""
  assert num_params(abstract(NasBench201Architecture((4, 2, 1, 2, 1, 1)), Task((32, 32, 3), 10))[1]) == 129_306

"""The network of NAS-Bench-Macro against NumPy."""
import functools
import math
from unittest import mock

import jax
import numpy as np
import pytest
from flax import nnx

from enas_jax.networks.nasbench_macro import NasBenchMacroNetwork
from enas_jax.spaces.nasbench_macro import NasBenchMacroArchitecture, NasBenchMacroSpace
from enas_jax.types import Task

TASK = Task((9, 8, 3), 4)
SPACE = NasBenchMacroSpace()
MIXED = NasBenchMacroArchitecture((1, 1, 2, 0, 1, 0, 0, 2))
IDENTITIES = NasBenchMacroArchitecture((0,) * 8)
SMALL = NasBenchMacroArchitecture((1, 0, 0, 1, 0, 0, 0, 0))  # Grouped convolutions are slow on a CPU.

quick_jit = functools.partial(jax.jit, compiler_options={'xla_backend_optimization_level': 0})


def network_of(architecture, task, key):
  return NasBenchMacroNetwork(
      architecture, in_channels=task.image_shape[2], num_classes=task.num_classes, rngs=nnx.Rngs(key))


def abstract(architecture, task):
  """Without random values, which take long to trace."""
  with mock.patch('enas_jax.networks.layers.init', nnx.initializers.zeros):
    return nnx.split(nnx.eval_shape(lambda: network_of(architecture, task, 0)))


def perturbed(architecture, task):
  """A network whose every array, statistics too, is random, so that no mistake hides behind a 0 or 1."""
  rng = np.random.default_rng(0)

  def draw(path, x):
    fan_in = math.prod(x.shape[:-1])
    values = rng.uniform(0.2, 1, x.shape).astype(np.float32) / np.float32(math.sqrt(fan_in))
    return values if 'var' in jax.tree_util.keystr(path) else values * rng.choice((-1, 1), x.shape).astype(np.float32)

  graph, state = abstract(architecture, task)
  return nnx.merge(graph, jax.tree_util.tree_map_with_path(draw, state))


def reference(network, architecture, images, *, train):
  """Logits in float64 as train/model.py of xiusu/NAS-Bench-Macro has them, in NumPy, from the weights in their order."""
  def array(variable):
    return np.asarray(variable[...], np.float64)

  def conv_norm(x, module, size, stride=1):
    kernel, (height, width) = array(module.conv.kernel), x.shape[1:3]
    assert kernel.shape[:2] == (size, size)
    half = size // 2
    padded = np.pad(x, ((0, 0), (half, half), (half, half), (0, 0)))
    product = np.multiply if kernel.shape[2] == 1 < x.shape[3] else np.matmul  # Depthwise, or ordinary.
    x = sum(product(padded[:, i:i + height:stride, j:j + width:stride], kernel[i, j]) for i in range(size) for j in range(size))
    mean, var = (x.mean((0, 1, 2)), x.var((0, 1, 2))) if train else (array(module.norm.mean), array(module.norm.var))
    return (x - mean) / np.sqrt(var + 1e-5) * array(module.norm.scale) + array(module.norm.bias)

  def relu(x):
    return np.maximum(x, 0)

  x = relu(conv_norm(images, network.stem, 3))
  layers = iter(network.layers)
  for i, operation in enumerate(architecture.operations):
    stride = 2 if i in (0, 2, 5) else 1
    if operation == 0 and stride == 1:
      continue
    modules = next(layers).convolutions
    if operation == 0:
      x = conv_norm(x, modules[0], 1, 2)
      continue
    expand, depthwise, project = modules
    y = relu(conv_norm(x, expand, 1))
    assert y.shape[-1] == x.shape[-1] * {1: 3, 2: 6}[operation]
    y = conv_norm(relu(conv_norm(y, depthwise, {1: 3, 2: 5}[operation], stride)), project, 1)
    x = x + y if stride == 1 else y
  assert next(layers, None) is None
  features = relu(conv_norm(x, network.last, 1)).mean((1, 2))
  return features @ array(network.head.kernel) + array(network.head.bias)


@pytest.mark.parametrize('architecture', [MIXED, IDENTITIES], ids=str)
def test_logits_are_those_of_a_plain_network(architecture):
  images = np.random.default_rng(1).normal(size=(3, *TASK.image_shape)).astype(np.float32)
  network = perturbed(architecture, TASK)
  for train in (False, True):
    network.train() if train else network.eval()
    graph, state = nnx.split(network)
    logits = quick_jit(lambda state, images, graph=graph: nnx.merge(graph, state)(images))(state, images)
    expected = reference(network, architecture, images, train=train)
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_members_of_a_class_are_one_network():
  first, second = (abstract(SPACE.from_string(text), TASK) for text in ('10102021', '10120021'))
  assert first[0] == second[0]
  assert jax.tree.map(lambda x: x.shape, first[1]) == jax.tree.map(lambda x: x.shape, second[1])

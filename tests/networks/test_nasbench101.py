"""The Flax network of a NAS-Bench-101 cell against loops in NumPy, and against published weights."""
import math

import jax
import numpy as np
import pytest
from flax import nnx
from support.counting import num_params, traced_macs

from enas_jax.networks.nasbench101 import ConvolutionNormReLU, NasBench101Network
from enas_jax.spaces.nasbench101 import NasBench101Space
from enas_jax.types import Task

TASK = Task((5, 3, 2), 4)
TINY = NasBench101Space(channels=5, cells=2, stacks=2)
# Has all that can happen: channels split unevenly, a sum with the projected input, a wider vertex into a narrower one, pooling,
# a 1x1 and a 3x3 convolution, and the input at the output.
RICH = '0110100110000010000100000:input,conv3x3-bn-relu,maxpool3x3,conv1x1-bn-relu,output'
# Of NASBench.ipynb in google-research/nasbench.
INCEPTION = ('0111100000000100000010000001000001000000010000000:'
             'input,conv3x3-bn-relu,conv1x1-bn-relu,maxpool3x3,conv3x3-bn-relu,conv3x3-bn-relu,output')


def abstract(architecture, task):
  return nnx.split(nnx.eval_shape(lambda: NasBench101Network(
      architecture, in_channels=task.image_shape[2], num_classes=task.num_classes, rngs=nnx.Rngs(0))))


def perturbed(architecture, task):
  """A network whose every array, statistics too, is random, so that no mistake hides behind a 0 or 1."""
  rng = np.random.default_rng(0)
  graph, state = abstract(architecture, task)
  state = jax.tree.map(lambda x: (rng.uniform(0.2, 1, x.shape) * rng.choice((-1, 1), x.shape)).astype(np.float32), state)
  network = nnx.merge(graph, state)
  for norm in norms(network):
    norm.var[...] = np.abs(norm.var[...])
  return network


def norms(network):
  return [module.norm for _, module in nnx.iter_modules(network) if isinstance(module, ConvolutionNormReLU)]


def windows(inputs, size, stride, fill):
  """[out H, out W, H, W, C] of [H, W, C] by loops, with TensorFlow's 'same' padding: what is odd goes to the end."""
  shape = [-(-n // stride) for n in inputs.shape[:2]]
  pads = [max((out - 1) * stride + size - n, 0) for n, out in zip(inputs.shape, shape, strict=False)]
  padded = np.pad(inputs, [*((p // 2, p - p // 2) for p in pads), (0, 0)], constant_values=fill)
  return np.array([[padded[i * stride:i * stride + size, j * stride:j * stride + size] for j in range(shape[1])]
                   for i in range(shape[0])])


def pooled(images, size, stride):
  return np.stack([windows(x, size, stride, -np.inf).max((2, 3)) for x in images])


def reference(network, architecture, images, *, train):
  """Logits in float64, and every batch norm's (mean, variance) of the batch."""
  seen = {}

  def block(module, xs):
    kernel = np.asarray(module.conv.kernel[...], np.float64)
    xs = np.stack([np.tensordot(windows(x, kernel.shape[0], 1, 0), kernel, 3) for x in xs])
    norm = module.norm
    seen[id(norm)] = xs.mean((0, 1, 2)), xs.var((0, 1, 2))
    mean, var = seen[id(norm)] if train else (norm.mean[...], norm.var[...])
    xs = (xs - np.asarray(mean, np.float64)) / np.sqrt(np.asarray(var, np.float64) + 1e-5)
    return np.maximum(xs * np.asarray(norm.scale[...], np.float64) + np.asarray(norm.bias[...], np.float64), 0)

  def cell(module, xs):
    edges, last = TINY.graph(architecture).edges, len(architecture.operations) - 1
    vertices = [xs]
    for v in range(1, last):
      width = module.channels[v]
      total = np.zeros((*xs.shape[:3], width))
      for u in (u for u, w in edges if w == v):
        total += block(module.projections[v], xs) if u == 0 else vertices[u][..., :width]
      pools = architecture.operations[v] == 'maxpool3x3'
      vertices.append(pooled(total, 3, 1) if pools else block(module.operations[v], total))
    branches = [vertices[u] for u, w in edges if w == last and u]
    output = np.concatenate(branches, -1) if branches else 0
    return output + (block(module.projections[last], xs) if (0, last) in edges else 0)

  xs = block(network.stem, images)
  for i, module in enumerate(network.body):
    xs = cell(module, pooled(xs, 2, 2) if i == TINY.cells else xs)
  logits = xs.mean((1, 2)) @ np.asarray(network.head.kernel[...], np.float64) + np.asarray(network.head.bias[...], np.float64)
  return logits, seen


@pytest.mark.parametrize('text', [RICH, '0100:input,output'])
def test_logits_and_statistics_are_those_of_a_plain_network(text):
  architecture = TINY.from_string(text)
  images = np.random.default_rng(1).normal(size=(3, *TASK.image_shape)).astype(np.float32)
  network = perturbed(architecture, TASK)
  before = [(np.asarray(n.mean[...]), np.asarray(n.var[...])) for n in norms(network)]
  run = nnx.jit(lambda network, images: network(images))

  network.eval()
  expected, _ = reference(network, architecture, images, train=False)
  np.testing.assert_allclose(run(network, images), expected, rtol=1e-4, atol=1e-4)

  network.train()
  expected, seen = reference(network, architecture, images, train=True)
  np.testing.assert_allclose(run(network, images), expected, rtol=1e-3, atol=1e-3)
  for norm, old in zip(norms(network), before, strict=True):
    mean, var = seen[id(norm)]
    np.testing.assert_allclose(norm.mean[...], 0.997 * old[0] + 0.003 * mean, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(norm.var[...], 0.997 * old[1] + 0.003 * var, rtol=1e-4, atol=1e-4)


def test_published_params_and_the_macs_of_the_benchmarks_own_skeleton(monkeypatch):
  monkeypatch.setattr('enas_jax.networks.nasbench101._init', nnx.initializers.zeros)  # Random values take long to trace.
  space, task = NasBench101Space(), Task((32, 32, 3), 10)
  architecture = space.from_string(INCEPTION)
  graph, state = abstract(architecture, task)
  assert num_params(state) == space.num_params(architecture, task) == 2694282  # As published.
  assert traced_macs(graph, state, task) == space.macs(architecture, task)


def test_initial_weights_are_tensorflows():
  """Truncated normal with the variance 1 / fan-in, cut at two of its deviations before scaling; the head's Glorot uniform."""
  space = NasBench101Space(channels=64, cells=1, stacks=1)
  network = NasBench101Network(
      space.from_string('010001000:input,conv3x3-bn-relu,output'), in_channels=64, num_classes=50, rngs=nnx.Rngs(0))
  kernel = np.asarray(network.body[0].operations[1].conv.kernel[...]) * math.sqrt(9 * 64)
  assert abs(kernel.std() - 1) < 0.02 and abs(kernel.mean()) < 0.02
  assert 2.2 < np.abs(kernel).max() < 2 / 0.87
  head = np.abs(network.head.kernel[...]) * math.sqrt((64 + 50) / 6)
  assert 0.98 < head.max() <= 1 and abs(head.mean() - 0.5) < 0.02
  assert not network.head.bias[...].any()

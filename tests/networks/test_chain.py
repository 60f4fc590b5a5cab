"""The Flax network of a chain against loops in NumPy, counted weights and counted convolutions."""
import functools
import json
import math
import pathlib
import types

import jax
import numpy as np
import pytest
from flax import nnx
from support.counting import num_params, traced_macs

from enas_jax.networks import build
from enas_jax.networks.chain import ChainNetwork, Convolution, SeparableConvolution
from enas_jax.spaces import ChainArchitecture, ChainSpace
from enas_jax.types import Task

LOGS = pathlib.Path(__file__).parents[2] / '../shared/data/egnas/search_logs.json'
SMALL = ChainArchitecture(2, (0, 1, 0, 1), (3, 5, 5, 3))
TASK = Task((7, 6, 3), 4)
TASKS = {
    'CIFAR10': Task((32, 32, 3), 10),
    'CIFAR100': Task((32, 32, 3), 100),
    'FashionMNIST': Task((28, 28, 1), 10),
    'KMNIST': Task((28, 28, 1), 10),
    'EMNIST': Task((28, 28, 1), 47),
}


@functools.partial(jax.jit, static_argnums=0, compiler_options={'xla_backend_optimization_level': 0})
def built(architecture, key):
  return nnx.split(build(architecture, task=TASK, key=key))


def abstract(architecture, task):
  return nnx.split(nnx.eval_shape(lambda: build(architecture, task=task, key=jax.random.key(0))))


@functools.cache
def layer_params(layer):
  module = (SeparableConvolution, Convolution)[layer.operation]
  return num_params(nnx.state(nnx.eval_shape(lambda: module(layer, rngs=nnx.Rngs(0)))))


@functools.cache
def ends_params(width, task):
  """Of stem, its norm and head: the network's own, without a body."""
  bodiless = types.SimpleNamespace(stem_channels=2 * width, out_channels=4 * width, layers=lambda: ())
  return num_params(nnx.state(nnx.eval_shape(lambda: ChainNetwork(
      bodiless, in_channels=task.image_shape[2], num_classes=task.num_classes, rngs=nnx.Rngs(0)))))


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
  return [network.stem_norm, *(layer.norm for layer in network.layers)]


def convolve(inputs, kernel, stride):
  """By loops, of [H, W, C] and [k, k, C, D]: zero padding k // 2 on every side."""
  height, width, _ = inputs.shape
  size = kernel.shape[0]
  padded = np.zeros((height + size - 1, width + size - 1, inputs.shape[2]))
  padded[size // 2:size // 2 + height, size // 2:size // 2 + width] = inputs
  outputs = np.zeros((-(-height // stride), -(-width // stride), kernel.shape[3]))
  for row in range(outputs.shape[0]):
    for column in range(outputs.shape[1]):
      window = padded[row * stride:row * stride + size, column * stride:column * stride + size]
      for channel in range(kernel.shape[3]):
        outputs[row, column, channel] = (window * kernel[..., channel]).sum()
  return outputs


def reference(network, architecture, images, *, train):
  """Logits in float64, and every batch norm's (mean, variance) of the batch."""
  seen = []

  def normed(xs, norm):
    seen.append((xs.mean((0, 1, 2)), xs.var((0, 1, 2))))
    mean, var = seen[-1] if train else (np.asarray(norm.mean[...], np.float64), np.asarray(norm.var[...], np.float64))
    return (xs - mean) / np.sqrt(var + 1e-5) * np.asarray(norm.scale[...], np.float64) + np.asarray(norm.bias[...])

  def all_images(xs, kernel, stride=1):
    kernel = np.asarray(kernel, np.float64)
    return np.stack([convolve(x, kernel, stride) for x in xs])

  xs = normed(all_images(images, network.stem.kernel[...]), network.stem_norm)
  for layer, module in zip(architecture.layers(), network.layers, strict=True):
    xs = np.maximum(xs, 0)
    if layer.operation == 0:
      depthwise = np.asarray(module.depthwise.kernel[...], np.float64)[:, :, 0]  # [k, k, C]
      diagonal = np.einsum('ijc,cd->ijcd', depthwise, np.eye(layer.in_channels))
      xs = all_images(all_images(xs, diagonal, layer.stride), module.pointwise.kernel[...])
    else:
      xs = all_images(xs, module.conv.kernel[...], layer.stride)
    xs = normed(xs, module.norm)
  features = xs.mean((1, 2))
  return features @ np.asarray(network.head.kernel[...], np.float64) + np.asarray(network.head.bias[...]), seen


@pytest.mark.parametrize('many_channels', [False, True], ids=['composed', 'shifts'])
def test_logits_and_statistics_are_those_of_a_plain_network(many_channels, monkeypatch):
  if many_channels:
    monkeypatch.setattr('enas_jax.networks.convolution.COMPOSE_UP_TO', 0)
  images = np.random.default_rng(1).normal(size=(3, *TASK.image_shape)).astype(np.float32)
  network = perturbed(SMALL, TASK)
  before = [(np.asarray(n.mean[...]), np.asarray(n.var[...])) for n in norms(network)]
  run = nnx.jit(lambda network, images: network(images))

  network.eval()
  expected, _ = reference(network, SMALL, images, train=False)
  np.testing.assert_allclose(run(network, images), expected, rtol=2e-5, atol=2e-5)
  for norm, (mean, var) in zip(norms(network), before, strict=True):
    np.testing.assert_array_equal(norm.mean[...], mean)
    np.testing.assert_array_equal(norm.var[...], var)

  network.train()
  expected, seen = reference(network, SMALL, images, train=True)
  np.testing.assert_allclose(run(network, images), expected, rtol=1e-4, atol=1e-4)
  # Momentum as Flax has it: 0.9 stays (PyTorch calls that 0.1). The variance is the batch's biased one, where PyTorch's
  # running variance takes n / (n - 1) of it.
  for norm, old, new in zip(norms(network), before, seen, strict=True):
    np.testing.assert_allclose(norm.mean[...], 0.9 * old[0] + 0.1 * new[0], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(norm.var[...], 0.9 * old[1] + 0.1 * new[1], rtol=1e-4, atol=1e-4)


def test_initial_weights_are_uniform_in_the_inverse_root_of_the_fan_in():
  network = nnx.merge(*built(ChainArchitecture(8, (0, 1, 0), (3, 5, 3)), jax.random.key(0)))
  first, second, _ = network.layers
  kernels = [(network.stem.kernel, 27), (first.depthwise.kernel, 9), (first.pointwise.kernel, 16), (second.conv.kernel, 25 * 8),
             (network.head.kernel, 32)]
  for kernel, fan_in in kernels:
    values = np.abs(np.asarray(kernel[...])) * math.sqrt(fan_in)
    assert 0.9 < values.max() <= 1
    assert 0.4 < values.mean() < 0.6
  for norm in norms(network):
    assert (np.asarray(norm.scale[...]) == 1).all() and (np.asarray(norm.bias[...]) == 0).all()
    assert norm.epsilon == 1e-5 and norm.momentum == 0.9


@pytest.mark.once
@pytest.mark.slow
@pytest.mark.skipif(not LOGS.exists(), reason=f'the published logs are not at {LOGS}')
def test_params_of_every_network_in_the_published_logs(monkeypatch):
  """Layer by layer, each kind traced once: a trace of a whole network takes a third of a second."""
  monkeypatch.setattr('enas_jax.networks.layers.init', nnx.initializers.zeros)  # Random values take long to trace.
  count = 0
  for log in json.loads(LOGS.read_text()):
    task = TASKS[log['dataset']]
    for record in log['candidates']:
      architecture = ChainArchitecture(record['width'], *(tuple(map(int, record[name])) for name in ('operations', 'kernels')))
      params = ends_params(architecture.width, task) + sum(map(layer_params, architecture.layers()))
      assert params == ChainSpace().num_params(architecture, task) == round(1e6 * record['params_M'])
      count += 1
  assert count == 484


@pytest.mark.parametrize(('name', 'depth', 'width', 'convolutions', 'fives', 'params', 'macs'), [
    ('CIFAR10', 26, 46, (0, 2), (13, 17), 0.466, 117),
    ('CIFAR10', 21, 102, (0, 1, 5, 8, 13), (10,), 2.494, 749),
    ('CIFAR100', 21, 56, (), (3,), 0.489, 78),  # As logged.
    ('CIFAR100', 21, 46, (1,), (), 0.354, 70),  # As in the released command.
    ('CIFAR100', 21, 118, (1, 12), (7,), 2.593, 547),
    ('FashionMNIST', 18, 54, (1, 5, 9), (8,), 0.508, 100),
    ('FashionMNIST', 16, 120, (1, 2, 4, 8, 11, 15), (6, 12), 6.160, 730),
    ('KMNIST', 18, 50, (2, 10), (17,), 0.420, 71),
    ('KMNIST', 24, 120, (0, 1), (), 2.711, 553),
    ('EMNIST', 17, 50, (1, 4, 5), (11, 13), 0.406, 76),
    ('EMNIST', 21, 106, (0, 3, 10), (), 2.253, 475),
])
def test_published_networks(name, depth, width, convolutions, fives, params, macs, monkeypatch):
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')  # Convolutions in XLA's own form. Nothing runs.
  """EG-NAS's final networks; the multiply-adds are recomputed, not published."""
  task, space = TASKS[name], ChainSpace()
  architecture = ChainArchitecture(
      width, tuple(int(i in convolutions) for i in range(depth)), tuple(5 if i in fives else 3 for i in range(depth)))
  graph, state = abstract(architecture, task)
  counted = num_params(state)
  assert counted == space.num_params(architecture, task) and round(counted / 1e6, 3) == params
  counted = traced_macs(graph, state, task)
  assert counted == space.macs(architecture, task) and round(counted / 1e6) == macs


def test_an_unknown_architecture_has_no_network(user_error):
  with user_error('no network is registered for str', 'enas_jax.networks.build.register(str, builder)'):
    build('chain', task=TASK, key=jax.random.key(0))

"""The networks of DARTS against loops in NumPy, counted weights and counted convolutions."""
import functools
import itertools
import math

import jax
import numpy as np
import pytest
from flax import nnx
from support.counting import traced_macs

from enas_jax.data.augment import Augmentation
from enas_jax.data.dataset import ImageSet
from enas_jax.networks.darts import AuxiliaryHead, DartsNetwork, drop_path
from enas_jax.spaces.darts import DartsArchitecture, DartsSpace, Edge
from enas_jax.training.host_loop import train
from enas_jax.training.module_program import ModuleProgram
from enas_jax.training.state import TrainingData
from enas_jax.types import Recipe, Request, Schedule, Task

# Every operation, in the reduction cell at both strides or at the one that a normal cell does not have.
NORMAL = tuple(itertools.starmap(Edge, (
    ('sep_conv_3x3', 0), ('sep_conv_5x5', 1), ('dil_conv_3x3', 0), ('dil_conv_5x5', 2),
    ('max_pool_3x3', 1), ('avg_pool_3x3', 3), ('skip_connect', 0), ('skip_connect', 4))))
REDUCE = tuple(itertools.starmap(Edge, (
    ('max_pool_3x3', 0), ('skip_connect', 1), ('dil_conv_5x5', 0), ('sep_conv_3x3', 1),
    ('avg_pool_3x3', 0), ('dil_conv_3x3', 1), ('sep_conv_5x5', 0), ('skip_connect', 3))))
SMALL = DartsArchitecture(NORMAL, REDUCE, cells=3, channels=2, drop_path=0.5)
SMALL_IMAGENET = DartsArchitecture(NORMAL, REDUCE, cells=3, channels=2, stem='imagenet', auxiliary=False)
CLASSES = 4
fast = functools.partial(jax.jit, compiler_options={'xla_backend_optimization_level': 0})


def abstract(architecture, channels=3, classes=CLASSES):
  return nnx.split(nnx.eval_shape(
      lambda: DartsNetwork(architecture, in_channels=channels, num_classes=classes, rngs=nnx.Rngs(0))))


def params_of(state):
  """With and without the auxiliary head."""
  sizes = [('auxiliary' in path, math.prod(leaf.shape)) for path, leaf in nnx.to_flat_state(nnx.filter_state(state, nnx.Param))]
  return sum(size for _, size in sizes), sum(size for auxiliary, size in sizes if not auxiliary)


def randomised(architecture):
  """A network whose weights are all random, batch norms' too, so that no mistake hides behind a 0 or 1."""
  rng = np.random.default_rng(0)
  graph, state = abstract(architecture)
  return graph, jax.tree.map(lambda x: rng.uniform(0.2, 1, x.shape).astype(x.dtype) * rng.choice((-1, 1), x.shape), state)


def windows(x, size, stride, dilation, fill):
  """[B, H, W, C] to [B, h, w, size, size, C], padded so that a window stands on every pixel, by loops."""
  reach = dilation * (size // 2)
  padded = np.pad(x, ((0, 0), (reach, reach), (reach, reach), (0, 0)), constant_values=fill)
  rows, columns = (range(0, extent, stride) for extent in x.shape[1:3])
  taps = range(0, dilation * size, dilation)
  return np.stack([np.stack([np.stack([np.stack([
      padded[:, row + i, column + j] for j in taps], 1) for i in taps], 1) for column in columns], 1) for row in rows], 1)


def convolve(x, module, stride=1, dilation=1):
  """`module` holds a kernel [k, k, C or 1, D]: of one channel it is depthwise."""
  kernel = np.asarray(module.kernel[...], np.float64)
  patches = windows(x, kernel.shape[0], stride, dilation, 0)
  if module.feature_group_count > 1:
    return np.einsum('bhwijc,ijc->bhwc', patches, kernel[:, :, 0])
  return np.einsum('bhwijc,ijcd->bhwd', patches, kernel)


def norm(x, module):
  """By the batch's own statistics, as in training."""
  scale, bias = (np.asarray(value[...], np.float64) for value in (module.scale, module.bias))
  return (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-5) * scale + bias


def relu(x):
  return np.maximum(x, 0)


def reduced(x, module):
  """Both halves see every other pixel, the second from the second row and column on, zeros beyond the image."""
  x = np.pad(relu(x), ((0, 0), (0, 1), (0, 1), (0, 0)))
  height, width = (-(-(extent - 1) // 2) * 2 for extent in x.shape[1:3])
  halves = [convolve(x[:, i:i + height:2, i:i + width:2][:, :height // 2, :width // 2], half)
            for i, half in enumerate((module.even, module.odd))]
  height, width = (max(half.shape[axis] for half in halves) for axis in (1, 2))
  return norm(np.concatenate(
      [np.pad(half, ((0, 0), (0, height - half.shape[1]), (0, width - half.shape[2]), (0, 0))) for half in halves], -1),
      module.norm)


def separable(x, module, stride=1, dilation=1):
  return norm(convolve(convolve(relu(x), module.depthwise, stride, dilation), module.pointwise), module.norm)


def operate(name, x, module, stride):
  if name == 'skip_connect':
    return x if stride == 1 else reduced(x, module)
  if name == 'max_pool_3x3':
    return windows(x, 3, stride, 1, -np.inf).max((3, 4))
  if name == 'avg_pool_3x3':
    return np.nanmean(windows(x, 3, stride, 1, np.nan), (3, 4))
  if name.startswith('dil'):
    return separable(x, module, stride, 2)
  return separable(separable(x, module.first, stride), module.second)


def auxiliary(x, module, stride):
  size = [(extent - 5) // stride + 1 for extent in x.shape[1:3]]
  x = np.stack([np.stack([relu(x)[:, stride * i:stride * i + 5, stride * j:stride * j + 5].mean((1, 2))
                          for j in range(size[1])], 1) for i in range(size[0])], 1)
  x = relu(norm(convolve(x, module.narrow), module.narrow_norm))
  kernel = np.asarray(module.wide.kernel[...], np.float64)
  x = np.stack([np.stack([np.einsum('bijc,ijcd->bd', x[:, i:i + 2, j:j + 2], kernel) for j in range(size[1] - 1)], 1)
                for i in range(size[0] - 1)], 1)
  x = relu(norm(x, module.wide_norm) if stride == 3 else x)
  return linear(x.mean((1, 2)), module.classifier)


def linear(x, module):
  return x @ np.asarray(module.kernel[...], np.float64) + np.asarray(module.bias[...], np.float64)


def reference(network, architecture, images, factors=None):
  """Logits and auxiliary logits in float64; `factors` [cells, edges, B] on what all operations but the identity give."""
  stages = [np.asarray(images, np.float64)]
  strides = [1] if architecture.stem == 'cifar' else [2, 2, 2]
  for i, stride in enumerate(strides):
    stages.append(norm(convolve(relu(stages[-1]) if i else stages[-1], network.stem[i], stride), network.stem_norms[i]))
  s0, s1 = (stages[-1], stages[-1]) if architecture.stem == 'cifar' else stages[-2:]
  was_reduction = architecture.stem == 'imagenet'
  for i, cell in enumerate(network.cells):
    reduction = i in (architecture.cells // 3, 2 * architecture.cells // 3)
    bring = reduced if was_reduction else lambda x, module: norm(convolve(relu(x), module.conv), module.norm)
    states = [bring(s0, cell.inputs[0]), norm(convolve(relu(s1), cell.inputs[1].conv), cell.inputs[1].norm)]
    edges = architecture.reduce if reduction else architecture.normal
    for j, (name, source) in enumerate(edges):
      stride = 2 if reduction and source < 2 else 1
      y = operate(name, states[source], cell.operations[j], stride)
      if factors is not None and (name != 'skip_connect' or stride == 2):
        y = y * np.asarray(factors[i][j], np.float64)[:, None, None, None]
      if j % 2:
        states[-1] = states[-1] + y
      else:
        states.append(y)
    s0, s1, was_reduction = s1, np.concatenate(states[2:], -1), reduction
    if i == 2 * architecture.cells // 3 and architecture.auxiliary:
      others = auxiliary(s1, network.auxiliary, 3)
  logits = linear(s1.mean((1, 2)), network.head)
  return (logits, others) if architecture.auxiliary else (logits,)


@pytest.fixture(scope='module')
def small():
  """The graph and random weights, and images of 29 x 30: odd and even sizes, features of 8 x 8 for the auxiliary head."""
  return *randomised(SMALL), np.random.default_rng(1).normal(size=(3, 29, 30, 3)).astype(np.float32)


@pytest.fixture(scope='module')
def heads(small):
  graph, state, images = small

  @fast
  def run(state, images, key, progress):
    return nnx.merge(graph, state, copy=True).training_logits(images, key=key, progress=progress)

  return lambda seed, progress: run(state, images, jax.random.key(seed), progress)


def close(one, other):
  np.testing.assert_allclose(one, other, rtol=2e-3, atol=2e-3 * np.abs(other).max())


def test_both_logits_are_those_of_a_plain_network(small, heads):
  """At the beginning of training drop path drops nothing."""
  graph, state, images = small
  (weight, logits), (other_weight, others) = heads(0, 0.0)
  assert (weight, other_weight) == (1, pytest.approx(0.4))
  for ours, plain in zip((logits, others), reference(nnx.merge(graph, state), SMALL, images), strict=True):
    close(ours, plain)
  np.testing.assert_array_equal(heads(1, 0.0)[0][1], logits)


def test_drop_path_is_on_every_operation_but_the_identity(small, heads):
  graph, state, images = small
  factors = drop_path(jax.random.key(3), 0.5 * 0.8, (3, 8, 3))
  assert {0.0} < set(np.unique(factors).tolist())
  plain = reference(nnx.merge(graph, state), SMALL, images, factors)
  for ours, other in zip((logits for _, logits in heads(3, 0.8)), plain, strict=True):
    close(ours, other)


def test_the_key_alone_decides_what_is_dropped(heads):
  first, again, other = (heads(seed, 0.8)[0][1] for seed in (0, 0, 1))
  np.testing.assert_array_equal(first, again)
  assert (first != other).any()


def test_drop_path_keeps_the_expectation():
  factors = np.asarray(drop_path(jax.random.key(0), 0.2, (100, 100)))
  assert factors.dtype == np.float32
  np.testing.assert_allclose(np.unique(factors), [0, 1.25])
  assert abs(factors.mean() - 1) < 5 * 0.5 / 100  # The mean of 10,000; a factor's standard deviation is 0.5.
  np.testing.assert_array_equal(drop_path(jax.random.key(0), 0.0, (9,)), 1)


def test_the_imagenet_network_is_a_plain_one():
  graph, state = randomised(SMALL_IMAGENET)
  images = np.random.default_rng(1).normal(size=(3, 32, 24, 3)).astype(np.float32)
  logits = fast(lambda state, images: nnx.merge(graph, state, copy=True)(images))(state, images)
  close(logits, reference(nnx.merge(graph, state), SMALL_IMAGENET, images)[0])


@pytest.mark.parametrize(('stem', 'stride', 'sizes'), [('cifar', 3, (8, 11, 14)), ('imagenet', 2, (7, 8, 10))])
def test_auxiliary_heads_take_larger_features_but_no_smaller(stem, stride, sizes, user_error):
  graph, state = fast(lambda: nnx.split(AuxiliaryHead(3, CLASSES, stem=stem, rngs=nnx.Rngs(0))))()
  run = fast(lambda state, x: nnx.merge(graph, state, copy=True)(x))
  x = np.random.default_rng(0).normal(size=(4, *sizes[1:], 3)).astype(np.float32)
  close(run(state, x), auxiliary(x.astype(np.float64), nnx.merge(graph, state), stride))
  least = sizes[0]
  with user_error('auxiliary head', f'{least} x {least}', f'{least} x {least - 1}', 'config.darts.auxiliary'):
    run(state, x[:, :least, :least - 1])


def test_neither_params_nor_macs_count_the_auxiliary_head(monkeypatch):
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')  # Depthwise convolutions in XLA's own form. Nothing runs.
  space, task = DartsSpace(), Task((32, 16, 3), CLASSES)
  graph, state = abstract(SMALL)
  assert params_of(state)[0] > params_of(state)[1] == space.num_params(SMALL, task)
  assert traced_macs(graph, state, task) == space.macs(SMALL, task)


def test_published_params_of_the_auxiliary_head():
  """P-DARTS has 3,910,224 parameters with its auxiliary head and 3,433,798 without, issue 7 of chenxin061/pdarts."""
  head = nnx.eval_shape(lambda: AuxiliaryHead(576, 10, stem='cifar', rngs=nnx.Rngs(0)))
  assert params_of(nnx.state(head))[0] == 3_910_224 - 3_433_798


@pytest.mark.once
@pytest.mark.slow  # Compiles a whole training.
def test_a_program_trains_both_heads():
  """Cells of mean pools and skips, which compile fast."""
  edges = (('skip_connect', 0), ('avg_pool_3x3', 1)) * 4
  architecture = DartsArchitecture(edges, edges, cells=3, channels=2)
  rng, labels = np.random.default_rng(0), np.arange(8, dtype=np.int32) % 2
  images = ImageSet((rng.integers(0, 128, (8, 29, 29, 1)) + 100 * labels[:, None, None, None]).astype(np.uint8), labels)
  data = TrainingData.put(
      images, images, mean=np.float32([0.4]), std=np.float32([0.2]),
      augmentation=Augmentation(crop_padding=0, flip=False, cutout=0), task=Task((29, 29, 1), 2))
  request = Request(architecture, Schedule(epochs=3, batch_size=4))
  program = ModuleProgram(architecture, data, Recipe(4))
  weights, losses = [], []
  for snapshot, epoch in train(program, [request], seed=0):
    weights.append(jax.tree.map(np.array, nnx.to_pure_dict(snapshot.state.params)))
    losses.append(epoch.loss[0])
  assert losses[-1] < losses[0]
  moved = jax.tree.leaves(jax.tree.map(lambda x, y: bool((x != y).any()), weights[0], weights[-1]))
  assert all(moved) and len(jax.tree.leaves(weights[0]['auxiliary'])) == 8

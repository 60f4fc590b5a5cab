"""What the network of every space does, on small members: its size against the formulas, its modes and its training."""
import dataclasses
import functools
import itertools
import math
from typing import Any
from unittest import mock

import jax
import jax.extend.core
import numpy as np
import pytest
from flax import nnx
from support.counting import num_params, traced_macs

from enas_jax import spaces
from enas_jax.networks import HasTrainingLogits, build
from enas_jax.spaces import (
  ChainArchitecture,
  ChainSpace,
  DartsArchitecture,
  DartsSpace,
  NasBench101Space,
  NasBench201Architecture,
  NasBench201Space,
  NasBenchMacroArchitecture,
  NasBenchMacroSpace,
  NatsSizeArchitecture,
  NatsSizeSpace,
)
from enas_jax.types import Task

EVEN, ODD = Task((8, 12, 3), 4), Task((7, 5, 1), 3)
IMAGES = 8
quick_jit = functools.partial(jax.jit, compiler_options={'xla_backend_optimization_level': 0})


@dataclasses.dataclass(frozen=True)
class Case:
  """Small members of a space. The first is run, the others are only traced; so are some that are drawn."""

  space: Any
  members: tuple[Any, ...]
  tasks: tuple[Task, ...] = (EVEN, ODD)
  counts_bias: bool = False  # Whether the benchmark counts the head's bias among the multiply-adds.


CELLS_101 = (
    '010001000:input,conv3x3-bn-relu,output', '0100:input,output', '010001000:input,maxpool3x3,output',
    # Channels split unevenly, a sum with the projected input, a wider vertex into a narrower one, and the input at the output.
    '0110100110000010000100000:input,conv3x3-bn-relu,maxpool3x3,conv1x1-bn-relu,output',
    '0111100000000100000010000001000001000000010000000:'
    'input,conv3x3-bn-relu,conv1x1-bn-relu,maxpool3x3,conv3x3-bn-relu,conv3x3-bn-relu,output')
DARTS_PLAIN = (('skip_connect', 0), ('avg_pool_3x3', 1)) * 4  # Compiles fast.
DARTS_RICH = (('sep_conv_5x5', 0), ('dil_conv_3x3', 1), ('dil_conv_5x5', 0), ('skip_connect', 1), ('sep_conv_3x3', 2),
              ('skip_connect', 3), ('avg_pool_3x3', 1), ('max_pool_3x3', 4))
NONE, SKIP, CONV_1X1, CONV_3X3, AVG_POOL = range(5)

TINY_101 = NasBench101Space(channels=5, cells=1, stacks=2)
CASES = {
    'chain': Case(ChainSpace(min_depth=3, max_depth=5, min_width=1, max_width=3, width_step=1), (
        ChainArchitecture(2, (0, 1, 0, 1), (3, 5, 5, 3)), ChainArchitecture(3, (1, 0, 0), (7, 7, 3)),
        ChainArchitecture.uniform(8, 1, kernel=5))),
    'nasbench201': Case(NasBench201Space(channels=2, cells=1), (
        # One convolution is of zeros: its batch norm sees no variance.
        NasBench201Architecture((NONE, CONV_1X1, CONV_3X3, SKIP, AVG_POOL, CONV_3X3), 2, 1),
        NasBench201Architecture((AVG_POOL, NONE, CONV_1X1, NONE, SKIP, CONV_3X3), 3, 2),
        NasBench201Architecture((NONE,) * 6, 2, 1),
        NasBench201Architecture((NONE, NONE, CONV_3X3, SKIP, NONE, CONV_1X1), 2, 1)), counts_bias=True),
    'nats_size': Case(NatsSizeSpace(), (
        NatsSizeArchitecture((8, 16, 8, 8, 8)), NatsSizeArchitecture((8,) * 5)), counts_bias=True),
    'nasbench101': Case(TINY_101, tuple(map(TINY_101.from_string, CELLS_101))),
    'nasbench_macro': Case(NasBenchMacroSpace(), (
        NasBenchMacroArchitecture((1, 0, 0, 1, 0, 0, 0, 0)),  # Grouped convolutions are slow on a CPU.
        NasBenchMacroArchitecture((0,) * 8), NasBenchMacroArchitecture((1, 1, 2, 0, 1, 0, 0, 2)))),
    'darts': Case(DartsSpace(cells=3, channels=2, auxiliary=False), (
        DartsArchitecture(DARTS_PLAIN, DARTS_PLAIN, cells=3, channels=2, auxiliary=False, drop_path=0.5),
        DartsArchitecture(DARTS_RICH, DARTS_PLAIN, cells=4, channels=2, auxiliary=False),
        DartsArchitecture(DARTS_PLAIN, DARTS_RICH, cells=3, channels=4, stem='imagenet', auxiliary=False)),
        tasks=(Task((64, 32, 3), 4), Task((32, 64, 1), 3))),  # A dilated convolution pads an odd height or width by one.
}
every_network = pytest.mark.parametrize('case', CASES.values(), ids=list(CASES))
every_module = pytest.mark.parametrize(  # Widths of NATS-Bench are networks of NAS-Bench-201's module.
    'case', [case for name, case in CASES.items() if name != 'nats_size'], ids=[name for name in CASES if name != 'nats_size'])


def abstract(architecture, task):
  """The graph and the shapes of a network, without random values, which take long to trace."""
  zeros = nnx.initializers.zeros
  with mock.patch('enas_jax.networks.layers.init', zeros), mock.patch('enas_jax.networks.nasbench101._init', zeros):
    return nnx.split(nnx.eval_shape(lambda: build(architecture, task=task, key=jax.random.key(0))))


def weighted(architecture):
  """The graph, weights and statistics of a network, drawn by NumPy: what draws random numbers takes seconds to compile."""
  rng = np.random.default_rng(0)

  def draw(path, x):
    if x.ndim > 1:
      return rng.uniform(-1, 1, x.shape).astype(np.float32) / np.float32(math.sqrt(math.prod(x.shape[:-1])))
    return np.full(x.shape, any(name in jax.tree_util.keystr(path) for name in ('scale', 'var')), np.float32)

  graph, state = abstract(architecture, EVEN)
  return graph, *nnx.split_state(jax.tree_util.tree_map_with_path(draw, state), nnx.Param, ...)


def batch():
  rng = np.random.default_rng(0)
  return rng.normal(size=(IMAGES, *EVEN.image_shape)).astype(np.float32), np.arange(IMAGES) % EVEN.num_classes


def test_every_space_has_a_case():
  assert set(CASES) == set(spaces.SPACES)


@every_network
def test_parameters_are_those_of_the_formula(case):
  rng = np.random.default_rng(0)
  for architecture in (*case.members, *(case.space.sample(rng) for _ in range(4))):
    assert num_params(abstract(architecture, EVEN)[1]) == case.space.num_params(architecture, EVEN)


@every_network
def test_multiply_adds_of_a_trace_are_those_of_the_formula(case, monkeypatch):
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')  # Convolutions in XLA's own form. Nothing runs.
  for architecture, task in itertools.product(case.members, case.tasks):
    bias = task.num_classes if case.counts_bias else 0
    assert traced_macs(*abstract(architecture, task), task) + bias == case.space.macs(architecture, task)


@every_network
def test_the_key_alone_decides_the_weights(case):
  trace = jax.make_jaxpr(lambda key: nnx.split(build(case.members[0], task=EVEN, key=key))[1], return_shape=True)
  (closed, shapes), (again, _) = trace(jax.random.key(0)), trace(jax.random.key(0))
  assert str(closed) == str(again)
  decided = set(closed.jaxpr.invars)
  for equation in closed.jaxpr.eqns:
    if any(x in decided for x in equation.invars if not isinstance(x, jax.extend.core.Literal)):
      decided.update(equation.outvars)
  for x, shape in zip(closed.jaxpr.outvars, jax.tree.leaves(shapes), strict=True):
    assert (x in decided) == (len(shape.shape) > 1)  # All kernels; no bias and nothing of a batch norm.


@every_module
def test_scoring_takes_each_image_alone_and_keeps_the_statistics_unlike_training(case):
  graph, params, statistics = weighted(case.members[0])

  @functools.partial(quick_jit, static_argnums=0)
  def run(train, params, statistics, images):
    network = nnx.merge(graph, params, statistics, copy=True)
    network.train() if train else network.eval()
    return network(images), nnx.split(network, nnx.Param, ...)[2]

  images, _ = batch()
  other = np.concatenate([images[:1], -images[1:]])
  for train in (False, True):
    (logits, after), (logits_of_other, _) = (run(train, params, statistics, x) for x in (images, other))
    assert logits.shape == (IMAGES, EVEN.num_classes) and logits.dtype == np.float32 and np.isfinite(logits).all()
    moved = [(x != y).any() for x, y in zip(jax.tree.leaves(statistics), jax.tree.leaves(after), strict=True)]
    assert any(moved) == train
    assert np.allclose(logits[0], logits_of_other[0], rtol=1e-4, atol=1e-5) != train


@every_module
def test_training_has_finite_gradients_and_learns_a_batch(case):
  images, labels = batch()
  graph, params, statistics = weighted(case.members[0])

  @quick_jit
  def step(params, statistics, key):
    def loss(params):
      network = nnx.merge(graph, params, statistics, copy=True)
      network.train()
      if isinstance(network, HasTrainingLogits):
        ((weight, logits),) = network.training_logits(images, key=key, progress=0.1)
        assert weight == 1
      else:
        logits = network(images)
      return -jax.nn.log_softmax(logits)[np.arange(IMAGES), labels].mean(), nnx.split(network, nnx.Param, ...)[2]

    (value, statistics), gradients = jax.value_and_grad(loss, has_aux=True)(params)
    return jax.tree.map(lambda p, g: p - 0.1 * g, params, gradients), statistics, value, gradients

  losses = []
  for i in range(15):
    params, statistics, value, gradients = step(params, statistics, jax.random.key(i))
    losses.append(float(value))
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradients))
  assert losses[-1] < 0.8 * losses[0]


def test_darts_alone_trains_by_other_logits():
  hooked = {name for name, case in CASES.items()
            if isinstance(nnx.merge(*abstract(case.members[0], EVEN)), HasTrainingLogits)}
  assert hooked == {'darts'}

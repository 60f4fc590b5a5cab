"""Chains of all sizes as one program, against the plain Flax module of each."""
import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from enas_jax.families.chain.network import StackedChain
from enas_jax.families.chain.weights import Capacity, initial, pack, plan, unpack
from enas_jax.networks import build
from enas_jax.spaces import ChainArchitecture, ChainSpace
from enas_jax.training.family import Mode
from enas_jax.training.layout import CPU_OPTIONS
from enas_jax.types import Task

TOLERANCE = 1e-4  # Of losses, gradients and logits of size 1 through up to 7 layers in float32.
TASK = Task((9, 10, 2), 4)
MIXED = [  # Depths, widths, operations and kernels differ.
    ChainArchitecture(2, (0, 1, 0), (3, 5, 7)),
    ChainArchitecture(3, (1, 0, 0, 1), (5, 3, 7, 5)),
    ChainArchitecture.uniform(7, 1, 0, 3),
    ChainArchitecture(3, (0, 1, 0, 0, 1, 1, 0), (7, 5, 3, 3, 5, 5, 7)),
]
CAPACITY = Capacity.of(MIXED)
SMALL = [ChainArchitecture(2, (0, 1, 0, 1, 0), (3, 5, 3, 5, 3)), ChainArchitecture(1, (1, 0, 0), (5, 3, 3))]
SMALL_CAPACITY = Capacity.of(SMALL)


def holds(capacity, architecture):
  own = Capacity.of([architecture])
  return (own.width <= capacity.width and set(own.branches) <= set(capacity.branches)
          and all(n <= most for n, most in zip(own.bodies, capacity.bodies, strict=True)))


def batch(size=6):
  rng = np.random.default_rng(7)
  images = rng.normal(size=(size, *TASK.image_shape)).astype(np.float32)
  return images, rng.integers(TASK.num_classes, size=size).astype(np.int32)


@functools.cache
def weights(architecture):
  """Params and statistics of the module that are nowhere 0 or 1."""
  rng = np.random.default_rng(3)
  return jax.tree.map(lambda x: x + rng.uniform(0.05, 0.3, x.shape).astype(np.float32), initial(architecture, TASK, rng))


class Pass(NamedTuple):
  loss: jax.Array
  correct: jax.Array
  gradients: Any
  stats: Any
  logits: jax.Array


@functools.cache
def compiled(capacity, options=None, **settings):
  """A pass of a capacity, there and back: (params, stats, plan, limits, images, labels, training) to `Pass`."""
  network = StackedChain(capacity, **settings)

  def run(params, stats, candidate, limits, images, labels, training):
    forward = network.forward(params, stats, candidate, limits, images, network.scratch(images.shape), Mode(training))
    loss, gradients = network.backward(params, candidate, limits, images, labels, forward)
    return Pass(loss, network.correct(forward, labels), gradients, forward.stats, forward.logits.T)

  if settings.get('masked'):
    run = jax.vmap(run, (0, 0, 0, None, None, None, None))
  return jax.jit(run, compiler_options=dict(options) if options else None)


CPU = tuple(CPU_OPTIONS.items()) if jax.default_backend() == 'cpu' else None
DEFAULT = {'options': CPU}
QUICK = (('xla_backend_optimization_level', 0),)  # To compile.


def run(architecture, capacity=CAPACITY, *, params_and_stats=None, **settings):
  """Loss, right answers, gradients, statistics, and logits with the running ones, in the module's form."""
  params, stats = pack(architecture, *(params_and_stats or weights(architecture)), capacity)
  candidate = plan(architecture, capacity)
  step, scored = (compiled(capacity, **settings)(
      params, stats, candidate, candidate.counts, *batch(), training) for training in (True, False))
  return step.loss, step.correct, *unpack(architecture, step.gradients, step.stats, TASK), scored.logits


@functools.cache
def by_module(architecture):
  """The same by Flax and Optax."""
  graph, params, stats = nnx.split(
      nnx.eval_shape(lambda: build(architecture, task=TASK, key=jax.random.key(0))), nnx.Param, nnx.BatchStat)
  for state, values in zip((params, stats), weights(architecture), strict=True):
    nnx.replace_by_pure_dict(state, jax.tree.map(jnp.asarray, values))
  images, labels = batch()

  def loss_of(params):
    model = nnx.merge(graph, params, stats, copy=True)
    model.train()
    logits = model(images)
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    return loss, ((logits.argmax(-1) == labels).sum(), nnx.state(model, nnx.BatchStat))

  @functools.partial(jax.jit, compiler_options={'xla_backend_optimization_level': 0})
  def all_of(params):
    model = nnx.merge(graph, params, stats, copy=True)
    model.eval()
    return jax.value_and_grad(loss_of, has_aux=True)(params), model(images)

  ((loss, (correct, new_stats)), gradients), logits = all_of(params)
  return loss, correct, nnx.to_pure_dict(gradients), nnx.to_pure_dict(new_stats), logits


def assert_close(one, other, tolerance):
  assert jax.tree.structure(one) == jax.tree.structure(other)
  for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
    np.testing.assert_allclose(np.asarray(x, np.float32), np.asarray(y, np.float32), rtol=tolerance, atol=tolerance)


@pytest.mark.once
@pytest.mark.slow
@pytest.mark.parametrize('settings', [
    pytest.param(DEFAULT, id='shifts'), pytest.param({'lowering': 'xla', 'options': QUICK}, id='xla')])
@pytest.mark.parametrize('architecture', MIXED, ids=str)
def test_it_is_the_plain_module(architecture, settings):
  right = by_module(architecture)
  result = run(architecture, **settings)
  assert_close(result, right, TOLERANCE)
  assert int(result[1]) == int(right[1])
  assert max(np.abs(x).max() for x in jax.tree.leaves(right[2]['layers'])) > 0.01  # There is something to compare.


def test_it_is_the_plain_module_in_little():
  for architecture in SMALL:
    assert_close(run(architecture, SMALL_CAPACITY, **DEFAULT), by_module(architecture), TOLERANCE)


@pytest.mark.slow
def test_the_capacity_changes_nothing():
  """Its depth, width, branches and largest kernel."""
  for architecture in SMALL:
    assert holds(CAPACITY, architecture)
    assert_close(run(architecture, CAPACITY, **DEFAULT), run(architecture, SMALL_CAPACITY, **DEFAULT), 1e-5)


def test_padding_stays_zero_while_training():
  architecture = SMALL[1]
  step = compiled(SMALL_CAPACITY, **DEFAULT)
  params, stats = pack(architecture, *weights(architecture), SMALL_CAPACITY)
  ones = jax.tree.map(np.ones_like, weights(architecture))
  used, used_stats = pack(architecture, *ones, SMALL_CAPACITY)
  assert all(set(np.unique(x)) <= {0, 1} for x in jax.tree.leaves((used, used_stats)))
  assert any((x == 0).any() for x in jax.tree.leaves(used))
  candidate, first = plan(architecture, SMALL_CAPACITY), params
  velocity = jax.tree.map(np.zeros_like, params)
  for _ in range(4):
    result = step(params, stats, candidate, candidate.counts, *batch(), True)
    velocity = jax.tree.map(lambda v, g, w: 0.9 * v + np.asarray(g) + np.float32(3e-4) * w, velocity, result.gradients, params)
    params = jax.tree.map(lambda w, v: w - np.float32(0.1) * v, params, velocity)
    stats = jax.tree.map(np.asarray, result.stats)
    for tree, places in ((result.gradients, used), (params, used), (stats, used_stats)):
      for values, own in zip(jax.tree.leaves(tree), jax.tree.leaves(places), strict=True):
        assert np.isfinite(values).all()
        assert (np.asarray(values)[own == 0] == 0).all()  # To the last bit.
  moved = [np.abs(a - b)[own == 1].min() for a, b, own in zip(*map(jax.tree.leaves, (params, first, used)), strict=True)
           if own.any()]
  assert min(moved) > 0  # While every weight of its own has been trained.


@pytest.mark.once
@pytest.mark.slow
def test_side_by_side_and_masked_it_is_the_same():
  members = [pack(a, *weights(a), SMALL_CAPACITY) for a in SMALL]
  plans = [plan(a, SMALL_CAPACITY) for a in SMALL]
  params, stats, candidates = (
      jax.tree.map(lambda *x: np.stack(x), *trees) for trees in (*zip(*members, strict=True), plans))
  both, scored = (compiled(SMALL_CAPACITY, masked=True, **DEFAULT)(
      params, stats, candidates, candidates.counts.max(0), *batch(), training) for training in (True, False))
  for i, architecture in enumerate(SMALL):
    own = jax.tree.map(lambda x, i=i: x[i], both)
    result = own.loss, own.correct, *unpack(architecture, own.gradients, own.stats, TASK), scored.logits[i]
    assert_close(result, run(architecture, SMALL_CAPACITY, **DEFAULT), 1e-5)
  # A candidate with nothing but zeros in a layer that is not its own.
  used, used_stats = pack(SMALL[1], *jax.tree.map(np.ones_like, weights(SMALL[1])), SMALL_CAPACITY)
  for tree, places in ((both.gradients, used), (both.stats, used_stats)):
    for values, own in zip(jax.tree.leaves(tree), jax.tree.leaves(places), strict=True):
      assert (np.asarray(values[1])[own == 0] == 0).all()


@pytest.mark.once
@pytest.mark.slow
def test_bfloat16_is_close():
  for architecture in SMALL:
    low, high = (run(architecture, SMALL_CAPACITY, **DEFAULT, **s) for s in ({'dtype': jnp.bfloat16}, {}))
    assert all(x.dtype == np.float32 for x in jax.tree.leaves((low[0], low[2], low[3])))
    np.testing.assert_allclose(low[0], high[0], rtol=0.02)
    for x, y in zip(*(jax.tree.leaves(r[2:4]) for r in (low, high)), strict=True):
      assert np.linalg.norm(x - y) < 0.15 * np.linalg.norm(y) + 0.02
    np.testing.assert_allclose(low[4], high[4], atol=0.1)
    assert any((x != y).any() for x, y in zip(jax.tree.leaves(low[2]), jax.tree.leaves(high[2]), strict=True))


@pytest.mark.parametrize('architecture', [*MIXED, *SMALL], ids=str)
def test_weights_go_in_and_out_as_the_module_has_them(architecture):
  params, stats = initial(architecture, TASK, np.random.default_rng(0))
  network = nnx.eval_shape(lambda: build(architecture, task=TASK, key=jax.random.key(0)))
  for values, kind in ((params, nnx.Param), (stats, nnx.BatchStat)):
    shapes = nnx.to_pure_dict(nnx.state(network, kind))
    assert jax.tree.structure(values) == jax.tree.structure(shapes)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), values) == jax.tree.map(lambda x: (x.shape, x.dtype), shapes)
  assert sum(x.size for x in jax.tree.leaves(params)) == ChainSpace().num_params(architecture, TASK)
  own = Capacity.of([architecture])
  for capacity in (own, CAPACITY, dataclasses.replace(CAPACITY, bodies=(4, 5, 6), width=9)):
    if not holds(capacity, architecture):
      continue
    packed = pack(architecture, *weights(architecture), capacity)
    back = unpack(architecture, *packed, TASK)
    assert jax.tree.structure(back) == jax.tree.structure(weights(architecture))
    for x, y, z in zip(*map(jax.tree.leaves, (back, weights(architecture))), jax.tree.leaves((params, stats)), strict=True):
      np.testing.assert_array_equal(x, y)
      assert x.dtype == y.dtype == z.dtype == np.float32
    # Nothing is written twice or lost on the way in.
    assert sum(np.count_nonzero(x) for x in jax.tree.leaves(packed)) == sum(
        np.count_nonzero(x) for x in jax.tree.leaves(weights(architecture)))


def test_fresh_weights_are_those_of_the_module_in_law():
  architecture = ChainArchitecture(8, (0, 1, 0), (3, 5, 3))
  params, stats = initial(architecture, TASK, np.random.default_rng(0))
  again, _ = initial(architecture, TASK, np.random.default_rng(0))
  other, _ = initial(architecture, TASK, np.random.default_rng(1))
  assert all((x == y).all() for x, y in zip(jax.tree.leaves(params), jax.tree.leaves(again), strict=True))
  assert any((x != y).any() for x, y in zip(jax.tree.leaves(params), jax.tree.leaves(other), strict=True))
  layers = params['layers']
  for kernel, fan_in in ((params['stem'], 18), (layers[0]['depthwise'], 9), (layers[0]['pointwise'], 16),
                         (layers[1]['conv'], 25 * 8), (params['head'], 32)):
    values = np.abs(kernel['kernel']) * fan_in**0.5  # Uniform in +-1/sqrt(fan in), as tests/networks/test_chain.py has it.
    assert 0.9 < values.max() <= 1.000001
    assert 0.4 < values.mean() < 0.6
  assert all((x['norm']['scale'] == 1).all() and (x['norm']['bias'] == 0).all() for x in layers.values())
  assert (params['head']['bias'] == 0).all()
  assert all((x['norm']['mean'] == 0).all() and (x['norm']['var'] == 1).all() for x in stats['layers'].values())


def test_what_a_capacity_holds():
  assert (CAPACITY.bodies, CAPACITY.width, CAPACITY.branches) == ((1, 1, 2), 3, ((0, 3), (0, 7), (1, 5)))
  assert CAPACITY.kernel == 7
  assert all(holds(CAPACITY, a) for a in MIXED)
  assert holds(CAPACITY, ChainArchitecture.uniform(6, 3, 0, 3))
  assert not holds(CAPACITY, ChainArchitecture.uniform(8, 3, 0, 3))  # Layers 3 and 4 stand between those that double.
  assert not holds(CAPACITY, ChainArchitecture.uniform(3, 4, 0, 3))
  assert not holds(CAPACITY, ChainArchitecture.uniform(3, 3, 1, 3))
  for architecture in MIXED:
    own = Capacity.of([architecture])
    assert holds(own, architecture)
    counts = plan(architecture, own).counts
    assert counts.sum() == architecture.depth - 3


def test_a_plan_names_every_layer():
  """Read back from the plan: entry, bodies, doubling layers in their order are the chain's layers."""
  for architecture in MIXED:
    candidate = plan(architecture, CAPACITY)
    layers = []
    for site, bodies in (('entry', 'body1'), ('double1', 'body2'), ('double2', 'body3')):
      layers.append(int(candidate.choices[site]))
      layers.extend(candidate.choices[bodies][:candidate.counts[int(bodies[-1]) - 1]].tolist())
    assert [CAPACITY.branches[i] for i in layers] == list(zip(architecture.operations, architecture.kernels, strict=True))


def test_the_program_does_not_grow_with_depth():
  def text(depth):
    architecture = ChainArchitecture.uniform(depth, 2)
    capacity = Capacity.of([architecture])
    params, stats = pack(architecture, *weights(architecture), capacity)
    candidate = plan(architecture, capacity)
    return compiled(capacity).lower(params, stats, candidate, candidate.counts, *batch(), True).as_text()

  assert len(text(40)) < 1.2 * len(text(10))

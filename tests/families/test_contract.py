"""What every family does: its programs compute what the plain modules compute. A new family is a row of FAMILIES."""
import functools
import os

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from support.asking import answers, chain, chains, estimator_by, result
from support.compiled_once import compiled_once
from support.line_family import LineFamily
from support.line_space import LineSpace, line

from enas_jax import families
from enas_jax.families.chain.packing import Packing
from enas_jax.networks import build
from enas_jax.spaces import (
    ChainSpace,
    DartsSpace,
    NasBench101Space,
    NasBench201Space,
    NasBenchMacroSpace,
    NatsSizeArchitecture,
    NatsSizeSpace,
)
from enas_jax.training import slots_engine
from enas_jax.training.family import Mode
from enas_jax.training.layout import Execution
from enas_jax.training.module_program import training_logits
from enas_jax.training.slots_engine import SlotsEngine
from enas_jax.types import Request, Schedule

pytest_plugins = ['support.training_fixtures']

KEY, PROGRESS = jax.random.key(11), 0.5  # Of a step: for noise.
TOLERANCE = 1e-4  # Of losses, gradients and statistics of size 1 in float32.
PACKING = Packing(widths=(3,), mixed_widths=(3,), depths=(7,))


def family_of(space):
  """Makes the family as a search does."""
  return lambda data: families.of(space, data.task, batch_size=8, steps=2, platform='cpu')


def sampled(space, count=3):
  """Requests for members at random, of two schedules."""
  rng = np.random.default_rng(0)
  return [Request(space.sample(rng), Schedule(epochs=2 - i % 2, batch_size=8, learning_rate=0.05)) for i in range(count)]


CELLS, SIZES, BLOCKS = NasBench201Space(channels=2, cells=2), NatsSizeSpace(), NasBenchMacroSpace()
GRAPHS = NasBench101Space(channels=5, cells=2, stacks=2)
DARTS = DartsSpace(cells=3, channels=2, auxiliary=False, drop_path=0.3)
FAMILIES = {  # How the family is made, its space, and requests that share a program.
    'chain': (lambda data: chains(data, PACKING), ChainSpace(),
              [chain(2, '010', 3), chain(3, '0010110'), chain(1, '1101', 1), chain(2, '010', 1, replicate=1)]),
    'nasbench201': (family_of(CELLS), CELLS, sampled(CELLS)),
    'nats_size': (family_of(SIZES), SIZES, [
        Request(NatsSizeArchitecture(widths), Schedule(epochs=1, batch_size=8, learning_rate=0.05))
        for widths in ((8, 8, 16, 8, 8), (8, 16, 8, 8, 8), (8, 8, 16, 8, 8))]),
    'nasbench_macro': (family_of(BLOCKS), BLOCKS, sampled(BLOCKS)[:2]),
    'nasbench101': (family_of(GRAPHS), GRAPHS, [r for r in sampled(GRAPHS, 12) if r.architecture.branches == 2][:3]),
    'darts': (family_of(DARTS), DARTS, sampled(DARTS)[:2]),
    'line': (lambda data: LineFamily(4), LineSpace(),
             [line(0, width=2), line(1, width=4), line(0, width=1, epochs=1), line(2, width=3, learning_rate=0.02)]),
}
every_family = pytest.mark.parametrize(('make', 'space', 'requests'), FAMILIES.values(), ids=FAMILIES)
LARGE = [name for name in FAMILIES if name not in ('chain', 'line')]  # CI has these on one Python alone.
every_family_compiled = pytest.mark.parametrize(('make', 'space', 'requests'), [
    pytest.param(*row, marks=[pytest.mark.slow, pytest.mark.once] if name in LARGE else []) for name, row in FAMILIES.items()
], ids=FAMILIES)


def batch(task, size=6):
  rng = np.random.default_rng(7)
  images = rng.normal(size=(size, *task.image_shape)).astype(np.float32)
  return jnp.asarray(images), jnp.asarray(rng.integers(task.num_classes, size=size), jnp.int32)


def module(architecture, task):
  """The plain module's graph, and weights that are nowhere 0 or 1."""
  graph, *state = nnx.split(
      nnx.eval_shape(lambda: build(architecture, task=task, key=jax.random.key(3))), nnx.Param, nnx.BatchStat)
  rng = np.random.default_rng(3)
  state = jax.tree.map(lambda x: jnp.asarray(rng.uniform(0.05, 1.0, x.shape), jnp.float32), state)
  return graph, *state


quick = functools.partial(jax.jit, compiler_options={'xla_backend_optimization_level': 0})  # To compile.


@functools.lru_cache(4)
def by_module(architecture, task):
  """Loss, right answers, gradients and statistics of a batch in training, and right answers in evaluation mode."""
  graph, params, stats = module(architecture, task)

  @quick
  def run(params, stats, images, labels):
    def loss_of(params):
      model = nnx.merge(graph, params, stats, copy=True)
      model.train()
      heads = training_logits(model, images, key=KEY, progress=PROGRESS)
      loss = sum(weight * optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean() for weight, logits in heads)
      return loss, ((heads[0][1].argmax(-1) == labels).sum(), nnx.state(model, nnx.BatchStat))

    (loss, (correct, after)), gradients = jax.value_and_grad(loss_of, has_aux=True)(params)
    model = nnx.merge(graph, params, stats, copy=True)
    model.eval()
    return loss, correct, gradients, after, (model(images).argmax(-1) == labels).sum()

  return run(params, stats, *batch(task))


@functools.cache
def compiled(network):
  """A pass of a network there and back, compiled once for all that it holds and for both modes."""
  @quick
  def run(params, stats, plan, images, labels, training):
    limits = network.limits(plan)
    forward = network.forward(params, stats, plan, limits, images, network.scratch(images.shape),
                              Mode(training, KEY, PROGRESS))
    loss, gradients = network.backward(params, plan, limits, images, labels, forward)
    return loss, network.correct(forward, labels), gradients, forward.stats

  return run


def by_network(network, architecture, task):
  """The same by a family's network, packed."""
  _, params, stats = module(architecture, task)
  packed = network.pack(architecture, *map(nnx.to_pure_dict, (params, stats)))
  plan = jax.tree.map(jnp.asarray, network.plan(architecture))
  trained, scored = (compiled(network)(*packed, plan, *batch(task), jnp.asarray(training)) for training in (True, False))
  return *trained, scored[1]


def assert_close(one, other):
  leaves = [jax.tree.leaves(jax.tree.map(np.asarray, tree)) for tree in (one, other)]
  for a, b in zip(*leaves, strict=True):
    np.testing.assert_allclose(a, b, rtol=TOLERANCE, atol=TOLERANCE)


def family_is_large(requests):
  return any(requests is FAMILIES[name][2] for name in LARGE)


@every_family_compiled
def test_padded_and_in_its_own_size_it_computes_what_the_module_computes(make, space, requests, data):
  family, task = make(data), data.task
  for request in requests[:1 if family_is_large(requests) else 2]:
    architecture = request.architecture
    for capacity in {family.capacity(architecture), family.own_capacity(architecture)}:
      network = family.network(capacity, dtype=jnp.float32, lowering='shifts', masked=False, axis=None)
      assert_same(network, architecture, task)


@every_family
def test_weights_and_plans_have_one_shape_for_all_and_come_back(make, space, requests, data):
  family = make(data)
  capacity = family.capacity(requests[0].architecture)
  network = family.network(capacity, dtype=jnp.float32, lowering='shifts', masked=False, axis=None)
  shapes = set()
  for architecture in (network.example(), *(r.architecture for r in requests)):
    weights = network.initial(architecture, data.task, np.random.default_rng(0))
    shapes.add(str(jax.tree.map(np.shape, (weights, network.plan(architecture)))))
    back = network.pack(architecture, *network.unpack(architecture, *weights, data.task))
    jax.tree.map(np.testing.assert_array_equal, back, weights)
  assert len(shapes) == 1
  assert hash(network) == hash(family.network(capacity, dtype=jnp.float32, lowering='shifts', masked=False, axis=None))


@pytest.mark.once
@every_family_compiled
def test_together_or_alone_and_in_any_order_the_bits_are_the_same(make, space, requests, data, monkeypatch):
  monkeypatch.setattr(slots_engine, 'PopulationProgram', compiled_once())
  family = make(data)
  assert len({family.capacity(r.architecture) for r in requests}) == 1
  together = answers(estimator_by(space, data, family=family, slots=2), requests)
  assert all(e.ok for e in together), together
  backwards = answers(estimator_by(space, data, family=family, slots=2), requests[::-1])
  assert [result(e) for e in backwards[::-1]] == [result(e) for e in together]
  alone = estimator_by(space, data, family=family, slots=2)
  assert [result(answers(alone, [r])[0]) for r in requests] == [result(e) for e in together]
  assert alone.report()['programs'] == 1


@every_family
def test_it_predicts_costs_and_says_why(make, space, requests, data):
  family = make(data)
  for request in requests:
    own, shared = (family.step_seconds(request.architecture, 8, capacity)
                   for capacity in (None, family.capacity(request.architecture)))
    assert 0 < own <= shared
    assert family.side_by_side(family.capacity(request.architecture)) in (True, False)
  assert family.reason and '  ' not in family.reason


def test_a_family_of_ones_own_is_found_by_its_space(data):
  """tests/support/line_family.py registers it; nothing in training/ or estimators/ knows of lines."""
  family = families.of(LineSpace(), data.task, batch_size=8, steps=10, platform='cpu')
  assert isinstance(family, LineFamily)
  assert isinstance(estimator_by(LineSpace(), data, family=family)._engine, SlotsEngine)


def test_a_space_has_one_family(user_error):
  with user_error('line', 'registered already'):
    families.register('line')(LineFamily)


@pytest.mark.slow
@pytest.mark.once
@pytest.mark.parametrize('name', ['line', 'nasbench201'])
def test_they_run_side_by_side_too(name, data, monkeypatch):
  """Under vmap, as on accelerators."""
  make, space, requests = FAMILIES[name]
  family = make(data)
  monkeypatch.setattr(type(family), 'side_by_side', lambda self, capacity: True)
  in_turn, side_by_side = (
      answers(estimator_by(space, data, family=family, slots=2, vmapped=vmapped), requests) for vmapped in (False, True))
  for one, other in zip(in_turn, side_by_side, strict=True):
    assert one.metrics == pytest.approx(other.metrics, rel=1e-3)


SMALL = {  # Smaller networks of the same spaces, whose modules compile faster.
    'chain': ChainSpace(min_depth=3, max_depth=7, min_width=1, max_width=3),
    'nasbench201': NasBench201Space(channels=2, cells=1),
    'nats_size': SIZES,
    'nasbench101': NasBench101Space(channels=5, cells=1, stacks=2),
    'nasbench_macro': BLOCKS,
    'darts': DARTS,
}


@pytest.mark.slow
@pytest.mark.skipif('ENAS_JAX_THOROUGH' not in os.environ, reason='minutes; ENAS_JAX_THOROUGH=1 asks for it')
@pytest.mark.parametrize('name', SMALL)
def test_twenty_at_random_are_what_their_modules_are(name, data):
  space, task = SMALL[name], data.task
  family, rng = family_of(space)(data), np.random.default_rng(20)
  for architecture in [space.sample(rng) for _ in range(20)]:
    network = family.network(family.capacity(architecture), dtype=jnp.float32, lowering='shifts', masked=False, axis=None)
    assert_same(network, architecture, task)


def assert_same(network, architecture, task):
  """Compares a network with the module: losses, right answers, gradients, statistics, and right answers in evaluation mode."""
  loss, correct, gradients, stats, scored = by_module(architecture, task)
  found = by_network(network, architecture, task)
  assert_close((found[0], found[1], found[4]), (loss, correct, scored))
  unpacked = network.unpack(architecture, found[2], found[3], task)
  assert_close(unpacked, tuple(map(nnx.to_pure_dict, (gradients, stats))))
  again, _ = network.pack(architecture, *unpacked)
  jax.tree.map(np.testing.assert_array_equal, again, jax.tree.map(np.asarray, found[2]))  # Padding has gradients of 0.


def test_execution_is_told_in_words():
  device = jax.devices()[0]
  assert str(Execution.default(devices=(device,))) == '1 CPU device trains one candidate at a time, in float32'
  several = Execution.default(devices=(device, device), slots=4)
  assert str(several) == '2 CPU devices train 4 candidates in turn each, in float32'

"""A supernet's member and its module are the same to every score: what is seen, gradients, blocks, with and without norms."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from enas_jax import scores
from enas_jax.networks import build
from enas_jax.spaces import NasBench201Architecture
from enas_jax.supernets import NasBench201Supernet
from enas_jax.supernets.convolving import convolve
from enas_jax.supernets.nasbench201 import CONVOLUTIONS
from enas_jax.supernets.operations import average
from enas_jax.types import Task

CHANNELS, CELLS, SIZE = 2, 2, 6
TASK = Task((SIZE, SIZE, 3), 4)
SUPERNET = NasBench201Supernet(CHANNELS, CELLS, TASK)
CELL_SAMPLE = ((3, 2, 4, 1, 0, 3), (0, 0, 0, 0, 0, 0), (1, 1, 1, 1, 1, 1), (3, 3, 3, 3, 3, 3), (4, 0, 2, 3, 1, 2))


def filled(module, architecture):
  """The supernet's weights with those of a module in the places of its operations."""
  weights, layers = jax.tree.map(np.array, SUPERNET.draw([0])), list(module.layers)

  def put(place, convolution, index=()):
    place['kernel'][index] = convolution.conv.kernel[...]
    place['scale'][index], place['bias'][index] = convolution.norm.scale[...], convolution.norm.bias[...]

  put(weights['stem'], module.stem)
  for stage in range(3):
    first = stage * (CELLS + 1)
    for cell in range(CELLS):
      for edge, operation in enumerate(architecture.operations):
        if operation in CONVOLUTIONS:
          put(weights['stages'][stage][CONVOLUTIONS[operation]], layers[first + cell].edges[edge], (cell, edge))
    if stage < 2:
      block, place = layers[first + CELLS], weights['blocks'][stage]
      put(place['first'], block.first)
      put(place['second'], block.second)
      place['beside']['kernel'][...] = block.beside.kernel[...]
  weights['norm'] = {'scale': module.norm.scale[...], 'bias': module.norm.bias[...]}
  weights['head'] = {'kernel': module.head.kernel[...], 'bias': module.head.bias[...]}
  return weights


def observe(network, weights, batch):
  """All that a score may ask of a network, as numbers; of places [sites, ...] the active ones' are to be compared."""
  network = network.with_weights(weights)
  sizes = {kind: lambda x: jnp.stack([jnp.abs(x).mean(), x.std()]) for kind in scores.Kind}
  seen = network.forward(weights, batch.images, taps=sizes)
  by_gates = jax.grad(lambda gates: jnp.square(network.forward(weights, batch.images, gates=gates).logits).sum())(
      network.gates(batch.images))
  kernels = network.layers(scores.loss_gradient(network, batch))
  return {
      'logits': seen.logits,
      'without norms': network.forward(weights, batch.images, normalised=False).logits,
      'kept': dict(seen.kept),
      'kernels': [scores.Sites(jnp.linalg.norm(k.values, axis=-1), k.active) for k in kernels],
      'gates': sum(jax.tree.leaves(jax.tree.map(
          lambda g, count: (g**2 * count).sum(), by_gates, network.fan_ins(batch.images)))),
      'steps': network.steps(weights, batch.images, lambda block, x: jnp.stack([
          x.std(), block(x).std(), jnp.abs(jax.grad(lambda x: jnp.square(block(x)).sum())(x)).mean()])),
      'times fan in': network.layers(network.map_kernels(weights, lambda kernel, fan_in: kernel * fan_in, jnp.zeros_like)),
  }


def active(sites):
  """The numbers of the active sites of all groups, in rising order of their first."""
  rows = np.concatenate([np.asarray(s.values).reshape(len(s.active), -1)[np.asarray(s.active)] for s in sites])
  return rows[np.lexsort(rows.T[::-1].round(4))]


@pytest.fixture(scope='module')
def supernet():
  """What the supernet's program observes, compiled once for all cells."""
  return jax.jit(lambda choices, weights, batch: observe(SUPERNET.network(choices, weights), weights, batch))


@pytest.mark.slow
@pytest.mark.once
@pytest.mark.parametrize('cell', CELL_SAMPLE, ids=str)
def test_a_member_is_its_module(supernet, cell):
  rng, architecture = np.random.default_rng(0), NasBench201Architecture(cell, CHANNELS, CELLS)
  batch = scores.Batch(jnp.asarray(rng.normal(size=(6, SIZE, SIZE, 3)), jnp.float32), jnp.asarray(rng.integers(0, 4, 6)))
  module = build(architecture, task=TASK, key=jax.random.key(1))
  weights = filled(module, architecture)
  network = scores.ModuleNetwork(module)
  expected = jax.jit(lambda weights, batch: observe(network, weights, batch))(network.weights, batch)
  got = supernet(jnp.asarray(SUPERNET.choices(architecture)), weights, batch)
  for name in ('logits', 'without norms', 'gates'):
    np.testing.assert_allclose(got[name], expected[name], rtol=2e-3, atol=1e-5)
  for kind in scores.Kind:
    np.testing.assert_allclose(active(got['kept'][kind]), active(expected['kept'][kind]), rtol=1e-3, atol=1e-5)
  np.testing.assert_allclose(active(got['kernels']), active(expected['kernels']), rtol=2e-3, atol=1e-5)
  steps = [np.concatenate([np.asarray(s.values) for s in sites['steps']]) for sites in (got, expected)]  # In their order.
  np.testing.assert_allclose(*steps, rtol=1e-3, atol=1e-5)
  changed = [sum(float(np.abs(s.values).sum(-1) @ s.active) for s in sites['times fan in']) for sites in (got, expected)]
  assert changed[0] == pytest.approx(changed[1], rel=1e-5)


def test_what_flows_through_a_mixture_is_not_seen():
  mixture, weights = jnp.full((6, 5), 0.2), SUPERNET.draw([0])
  network = SUPERNET.network(mixture, weights)
  with pytest.raises(ValueError, match='mixture'):
    network.forward(weights, jnp.zeros((2, SIZE, SIZE, 3)), taps={scores.Kind.RELU: jnp.sum})
  assert all(bool(layer.active.all()) for layer in network.layers(weights))


def test_a_convolution_and_its_gradients_are_jaxs_own():
  """Up to the third derivative, which a score of gradients' derivatives takes."""
  x, kernel = (jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate([(2, 5, 6, 3), (3, 3, 3, 4)]))

  def plain(x, kernel):
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), [(1, 1)] * 2, dimension_numbers=('NHWC', 'HWIO', 'NHWC'))

  def derivatives(function):
    found, current = [], lambda x, k: jnp.square(jnp.sin(function(x, k))).sum()
    for _ in range(3):
      gradient = jax.grad(current, (0, 1))
      found.append(gradient(x, kernel))
      current = lambda x, k, g=gradient: sum(jnp.square(a).mean() for a in g(x, k))  # noqa: E731
    return found

  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3), derivatives(convolve), derivatives(plain))


@pytest.mark.parametrize(('size', 'stride'), [(3, 1), (2, 2)])
@pytest.mark.parametrize('height', [5, 6])
def test_averages_count_the_pixels_inside(size, stride, height):
  x = np.random.default_rng(0).normal(size=(1, height, 7, 1))
  got = average(jnp.asarray(x, jnp.float32), size, stride=stride)
  before = [max((-(-length // stride) - 1) * stride + size - length, 0) // 2 for length in (height, 7)]
  for place in np.ndindex(*got.shape[1:3]):
    starts = [index * stride - first for index, first in zip(place, before, strict=True)]
    rows, columns = (slice(max(0, start), start + size) for start in starts)
    assert got[0, *place, 0] == pytest.approx(x[0, rows, columns].mean(), rel=1e-5, abs=1e-6)

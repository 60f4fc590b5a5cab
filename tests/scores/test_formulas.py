"""Each score against its formula, written down plainly: NumPy in float64, derivatives by central differences."""
import pathlib

import jax
import numpy as np
import pytest
from flax import nnx
from support.plain_network import CLASSES, KERNELS, STEM, WIDTH, Network, Plain, derivative, weights_of

from enas_jax import scores
from enas_jax.scores import equations, initial

SIZE, SEED = 7, [7]  # Odd, so that a stride leaves a row over.
RNG = np.random.default_rng(3)
IMAGES = RNG.normal(size=(8, SIZE, SIZE, 2)).astype(np.float32)
LABELS = RNG.integers(0, CLASSES, 8)


@pytest.fixture
def plain():
  """The network in NumPy."""
  return Plain(weights_of(Network(nnx.Rngs(0))))


@pytest.fixture
def value(monkeypatch):
  """Returns a score of the network by our own implementation, on few images."""
  def score(name, images=8, rule=None):
    monkeypatch.setattr(scores.SCORES[name].make, 'images', images)
    if rule:
      monkeypatch.setattr(scores.SCORES[name].make, 'initial', rule)
    return scores.score(scores.ModuleNetwork(Network(nnx.Rngs(0))), [name], IMAGES, LABELS, SEED)[name]
  return score


def key():
  """What a score draws with."""
  return jax.random.key(np.random.default_rng(SEED).integers(2**32, dtype=np.uint32))


def loss(plain, images=IMAGES, labels=LABELS):
  logits = plain.run(images)
  shifted = logits - logits.max(1, keepdims=True)
  return (np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(labels)), labels]).mean()


def gradients(plain, names, *data):
  weights = plain.weights
  return {name: derivative(lambda: loss(plain, *data), weights[name]).reshape(weights[name].shape) for name in names}


def jacobian(plain, output, names=None):
  """The derivatives of a vector of the logits by weights, all unless they are named: [outputs, weights]."""
  rows = [derivative(lambda: output(plain.run(IMAGES)), plain.weights[name]) for name in names or plain.weights]
  return np.concatenate(rows).T


def test_gradient_norm(plain, value):
  expected = sum(np.linalg.norm(g) for g in gradients(plain, KERNELS).values())
  assert value('grad_norm') == pytest.approx(expected, rel=1e-4)


@pytest.mark.once
def test_snip(plain, value):
  expected = sum(np.abs(plain.weights[name] * g).sum() for name, g in gradients(plain, KERNELS).items())
  assert value('snip') == pytest.approx(expected, rel=1e-4)


@pytest.mark.once
def test_grasp(plain, value):
  step, gradient = 1e-4, gradients(plain, KERNELS)
  kept, sides = {name: plain.weights[name].copy() for name in KERNELS}, []
  for sign in (1, -1):
    for name in KERNELS:
      plain.weights[name] = kept[name] + sign * step * gradient[name]
    sides.append(gradients(plain, KERNELS))
  expected = sum(-(kept[n] * (sides[0][n] - sides[1][n]) / (2 * step)).sum() for n in KERNELS)
  assert value('grasp') == pytest.approx(expected, rel=2e-3)


@pytest.mark.once
def test_fisher(plain, value):
  plain.run(IMAGES)
  expected = 0.0
  for name, output in zip(KERNELS, plain.layers, strict=True):
    plain.gates = {name: np.ones((len(IMAGES), output.shape[-1]))}
    by_gate = derivative(lambda: loss(plain), plain.gates[name]).reshape(len(IMAGES), -1)
    expected += 0.5 * (by_gate**2).mean(0).sum() * np.prod(plain.weights[name].shape[:-1])  # As often as it has weights.
  assert value('fisher') == pytest.approx(expected, rel=1e-4)


def test_synflow(plain, value):
  ones = np.ones((1, SIZE, SIZE, 2))
  total = 0.0
  plain.weights = {name: np.abs(array) for name, array in plain.weights.items()}
  for name in KERNELS:
    flow = derivative(lambda: plain.run(ones, normalised=False).sum(), plain.weights[name])
    total += np.abs(plain.weights[name].reshape(-1) * flow).sum()
  assert value('synflow', 1) == pytest.approx(np.log(total), rel=1e-7)


@pytest.mark.once
def test_jacob_cov(plain, value):
  images = IMAGES.astype(np.float64)
  by_pixels = derivative(lambda: plain.run(images).sum(), images).reshape(len(images), -1)
  eigenvalues = np.linalg.eigvalsh(np.corrcoef(by_pixels)) + 1e-5
  assert value('jacob_cov') == pytest.approx(-(np.log(eigenvalues) + 1 / eigenvalues).sum(), rel=1e-3)


@pytest.mark.once
def test_naswot_counts_the_units_that_agree(plain, value):
  plain.run(IMAGES)
  codes = np.concatenate([x.reshape(len(x), -1) > 0 for x in plain.relus], axis=1)
  agreeing = np.array([[(a == b).sum() for b in codes] for a in codes], float)
  assert value('naswot') == pytest.approx(np.linalg.slogdet(agreeing)[1], abs=1e-6)


@pytest.mark.once
def test_zico(plain, value):
  halves = [gradients(plain, KERNELS, IMAGES[part], LABELS[part]) for part in (slice(4), slice(4, 8))]
  expected = 0.0
  for name in KERNELS:
    first, second = halves[0][name], halves[1][name]
    expected += np.log((((np.abs(first) + np.abs(second)) / 2) / (np.abs(first - second) / 2)).sum())
  assert value('zico') == pytest.approx(expected, rel=1e-2)  # Where two gradients nearly agree float32 tells them apart badly.


@pytest.mark.once
def test_zen(plain, value):
  x, z = np.asarray(jax.random.normal(key(), (2, *IMAGES.shape)), np.float64)
  running, pooled = None, []
  for images in (x, x + 0.01 * z):
    plain.run(images)
    pooled.append(plain.pooled)
    running = running or [np.ones(norm.shape[-1]) for norm in plain.norms]
    running = [0.9 * r + 0.1 * norm.var((0, 1, 2), ddof=1) for r, norm in zip(running, plain.norms, strict=True)]
  difference = np.abs(pooled[0] - pooled[1]).sum((1, 2, 3)).mean()
  expected = np.log(difference) + sum(np.log(np.sqrt(r.mean())) for r in running)
  assert value('zen', rule='own') == pytest.approx(expected, rel=1e-4)


@pytest.mark.once
def test_meco(plain, value):
  plain.run(jax.random.normal(key(), (1, 64, 64, 2)))
  seen = [*(np.maximum(x, 0) for x in plain.relus), *plain.layers, *plain.norms, *plain.blocks]
  flat = [x.reshape(-1, x.shape[-1]) for x in seen]
  correlations = [np.corrcoef(x.T) for x in flat if len(x) > 1]  # The head's output is one sample, which varies with nothing.
  assert value('meco', 1) == pytest.approx(sum(np.linalg.eigvalsh(c)[0] for c in correlations), abs=1e-4)


@pytest.mark.once
def test_the_kernels_trace_and_the_estimate_of_it(plain, value):
  trace = (jacobian(plain, np.ravel)**2).sum()
  assert value('ntk_trace') == pytest.approx(trace, rel=1e-4)
  estimate = sum((g**2).sum() for g in gradients(plain, plain.weights).values())
  assert value('ntk_estimate') == pytest.approx(estimate, rel=1e-4)


@pytest.mark.once
def test_condition_numbers_and_hnas(plain, value):
  rows = jacobian(plain, lambda logits: logits.sum(1), [name for name in plain.weights if 'bias' not in name])
  eigenvalues = np.linalg.eigvalsh(rows @ rows.T)
  assert value('ntk_condition', rule='own') == pytest.approx(-eigenvalues[-1] / eigenvalues[0], rel=1e-2)
  rows = jacobian(plain, lambda logits: logits[np.arange(len(LABELS)), LABELS])
  eigenvalues = np.linalg.eigvalsh(rows @ rows.T)
  assert value('hnas_m') == pytest.approx(np.sqrt((rows**2).sum() / len(LABELS)), rel=1e-4)
  assert value('hnas_kappa') == pytest.approx(-eigenvalues[-1] / eigenvalues[0], rel=1e-2)


def entropies(features):
  found = []
  for x in features:
    shares = np.linalg.svd(x.reshape(-1, x.shape[-1]) - x.mean((0, 1, 2)), compute_uv=False)**2
    shares = shares / shares.sum()
    found.append(-(shares * np.log(shares + 1e-8)).sum())
  return np.array(found)


@pytest.mark.once
def test_expressivity_and_progressivity(plain, value):
  plain.run(jax.random.normal(key(), IMAGES.shape))
  expected = entropies(plain.blocks)
  assert value('az_expressivity', rule='own') == pytest.approx(expected.sum(), rel=1e-4)
  assert value('az_progressivity', rule='own') == pytest.approx(np.diff(expected).min(), rel=1e-3)


def test_trainability(plain, value):
  plain.run(jax.random.normal(key(), IMAGES.shape))
  inputs, expected = plain.blocks[:-1], []
  for index, x in enumerate(inputs):
    y = plain.block(index, x)
    signs = np.asarray(jax.random.rademacher(jax.random.fold_in(key(), y.size), y.shape, np.float32), float)
    back = derivative(lambda: (plain.block(index, x) * signs).sum(), x).reshape(x.shape)  # noqa: B023
    stride = -(-x.shape[1] // y.shape[1])
    back = np.pad(back, [(0, 0), *[(0, stride * n - m) for n, m in zip(y.shape[1:3], x.shape[1:3], strict=True)], (0, 0)])
    shuffled = np.concatenate([back[:, i::stride, j::stride] for i in range(stride) for j in range(stride)], axis=-1)
    mean = np.einsum('bhwi,bhwo->io', shuffled, signs) / signs[..., 0].size
    largest = np.linalg.svd(mean, compute_uv=False)[0]
    expected.append(2 - largest - 1 / (largest + 1e-6))
  assert value('az_trainability', rule='own') == pytest.approx(np.mean(expected), rel=1e-3)


DEFINED_FOR = {  # Images, precision and initial weights.
    'fisher': (64, 'float32', 'own'), 'grad_norm': (64, 'float32', 'own'), 'grasp': (64, 'float32', 'own'),
    'jacob_cov': (64, 'float32', 'own'), 'meco': (1, 'float32', 'own'), 'naswot': (128, 'float32', 'own'),
    'ntk_trace': (16, 'float32', 'own'), 'ntk_estimate': (64, 'float32', 'own'),
    'ntk_condition': (72, 'float64', 'kaiming_normal'), 'hnas_m': (64, 'float32', 'own'), 'hnas_kappa': (64, 'float32', 'own'),
    'snip': (64, 'float32', 'own'), 'synflow': (1, 'float64', 'own'), 'zen': (64, 'float32', 'gaussian'),
    'zico': (256, 'float32', 'own'), 'az_expressivity': (64, 'float32', 'kaiming_normal'),
    'az_progressivity': (64, 'float32', 'kaiming_normal'), 'az_trainability': (64, 'float32', 'kaiming_normal')}


def test_what_scores_are_defined_for():
  assert {name: (s.images, s.precision, s.initial) for name, entry in scores.SCORES.items()
          for s in [entry.make()]} == DEFINED_FOR


def test_every_score_has_a_test():
  """The formulas of this file are those of all scores that come with the package."""
  text = pathlib.Path(__file__).read_text()
  assert [name for name in scores.SCORES if f"value('{name}'" not in text] == []


@pytest.mark.once
@pytest.mark.parametrize('seed', range(3))
def test_the_inequalities_between_the_trace_and_its_estimate(seed):
  """NASI's chain: 2 x trace >= sum of the squared gradients of each image's loss >= B x that of the mean loss."""
  network, rng = scores.ModuleNetwork(Network(nnx.Rngs(seed))), np.random.default_rng(seed)
  images, labels = rng.normal(size=IMAGES.shape).astype(np.float32), rng.integers(0, CLASSES, len(IMAGES))
  batch = scores.Batch(jax.numpy.asarray(images), jax.numpy.asarray(labels))

  def losses(weights):
    logits = network.forward(weights, batch.images).logits
    return -jax.nn.log_softmax(logits)[np.arange(len(labels)), labels]

  each = sum((np.asarray(g)**2).sum() for g in jax.tree.leaves(jax.jit(jax.jacobian(losses))(network.weights)))
  found = {name: scores.SCORES[name].make().measure(network, batch, key()) for name in ('ntk_trace', 'ntk_estimate')}
  assert 2 * found['ntk_trace'] >= each >= len(labels) * found['ntk_estimate'] > 0


def test_what_is_seen_is_what_the_module_computes(plain):
  """Every activation of each kind is shown, in order, and the logits are the module's in training."""
  network = scores.ModuleNetwork(Network(nnx.Rngs(0)))
  seen = jax.jit(lambda: network.forward(network.weights, IMAGES, taps={kind: lambda x: x for kind in scores.Kind}))()
  logits = plain.run(IMAGES)
  np.testing.assert_allclose(seen.logits, logits, atol=1e-5)
  for kind, expected in zip(scores.Kind, (plain.relus, plain.layers, [plain.pooled], plain.norms, plain.blocks), strict=True):
    assert len(seen.kept[kind]) == len(expected)
    for site, x in zip(seen.kept[kind], expected, strict=True):
      np.testing.assert_allclose(site.values[0], x, atol=1e-4)


def test_drawn_weights_have_the_variance_of_their_rule():
  network = scores.ModuleNetwork(Network(nnx.Rngs(0)))
  own = {'a': {'kernel': np.zeros((3, 3, 64, 64), np.float32)}, 'b': {'scale': np.ones(3, np.float32)}}
  network = network.with_weights(own)
  for rule, expected in (('kaiming_normal', 2 / (9 * 64)), ('gaussian', 1.0)):
    drawn = initial.scaled(network.with_weights(initial.noise(network, rule, SEED)), rule).weights
    assert np.var(drawn['a']['kernel']) == pytest.approx(expected, rel=0.03)
    np.testing.assert_array_equal(drawn['b']['scale'], 1)
  assert initial.scaled(network.with_weights(initial.noise(network, 'own', SEED)), 'own').weights is own


def test_a_visitor_can_change_what_flows():
  """What a visitor returns takes the place of what it was shown, under differentiation, too."""
  trace = jax.make_jaxpr(lambda x: jax.nn.relu(x).sum())(np.ones((2, 3), np.float32))
  x = np.array([[1., -2, 3], [4, -5, 6]], np.float32)
  doubled = jax.grad(lambda x: equations.run(trace, [x], lambda kind, value: 2 * value)[0])(x)
  np.testing.assert_array_equal(doubled, [[2, 0, 2], [2, 0, 2]])


def test_bad_input(user_error):
  network = scores.ModuleNetwork(Network(nnx.Rngs(0)))
  with user_error("'naswott'", 'naswot'):
    scores.score(network, ['naswott'], IMAGES, LABELS, SEED)
  with user_error("'naswot'", '128', '8'):
    scores.score(network, ['naswot'], IMAGES, LABELS, SEED)


class Constant(Network):
  """Its pooling follows a batch norm, so that the sum of all logits is the same whatever the images."""

  def __call__(self, images):
    return self.head(self.norm(self.stem(images)).mean((1, 2)) @ np.ones((STEM, WIDTH), np.float32))


def test_rounding_errors_are_no_score(monkeypatch):
  monkeypatch.setattr(scores.SCORES['jacob_cov'].make, 'images', 8)
  assert np.isnan(scores.score(scores.ModuleNetwork(Constant(nnx.Rngs(0))), ['jacob_cov'], IMAGES, LABELS, SEED)['jacob_cov'])


class Hidden(Network):
  """A network that calls its blocks inside of nnx.jit, where they cannot be told apart."""

  def __call__(self, images):
    x = self.norm(self.stem(images))
    for layer in self.layers:
      x = nnx.jit(lambda layer, x: layer(x))(layer, x)
    return self.head(nnx.relu(self.last(x)).mean((1, 2)))


def test_blocks_that_cannot_be_seen_are_told(user_error, monkeypatch):
  monkeypatch.setattr(scores.SCORES['az_expressivity'].make, 'images', 8)
  with user_error('of 3 blocks could be seen', 'nnx.jit'):
    scores.score(scores.ModuleNetwork(Hidden(nnx.Rngs(0))), ['az_expressivity'], IMAGES, LABELS, SEED)


def test_a_block_still_has_what_it_had():
  network = Network(nnx.Rngs(0))
  scores.ModuleNetwork(network)
  assert network.layers[1].added is False and not hasattr(network.layers[1], 'nothing')


class Flat(nnx.Module):
  """A network without blocks."""

  def __init__(self):
    self.head = nnx.Linear(2 * SIZE**2, CLASSES, rngs=nnx.Rngs(0))

  def __call__(self, x):
    return self.head(x.reshape(len(x), -1))


@pytest.mark.parametrize('name', ['az_expressivity', 'zen', 'naswot'])
def test_a_network_without_what_a_score_looks_at(name, user_error, monkeypatch):
  monkeypatch.setattr(scores.SCORES[name].make, 'images', 8)
  with user_error('which the score needs'):
    scores.score(scores.ModuleNetwork(Flat()), [name], IMAGES, LABELS, SEED)

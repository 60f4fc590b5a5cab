"""NASI's one step against plain loops, and its gradient against central differences."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from enas_jax import scores
from enas_jax.scores import nasi
from enas_jax.supernets import NasBench201Supernet
from enas_jax.types import Task

RNG = np.random.default_rng(0)
SUPERNET = NasBench201Supernet(2, 1, Task((6, 6, 1), 3))
WEIGHTS = SUPERNET.draw([0])
IMAGES, LABELS = RNG.normal(size=(8, 6, 6, 1)).astype(np.float32), (np.arange(8) % 3).astype(np.int32)
BATCH = scores.Batch(jnp.asarray(IMAGES), jnp.asarray(LABELS))
SHAPE = (6, 5)


def samples(count=7):
  return [nasi.Sampled(float(RNG.uniform(0, 10)), RNG.normal(size=SHAPE) * RNG.uniform(0.1, 3)) for _ in range(count)]


@pytest.mark.parametrize(('mu', 'rule'), [(0.0, 'fixed'), (2.0, 'fixed'), (1.0, 'mean'), (2.0, 'mean')])
def test_the_step_is_that_of_algorithm_1(mu, rule):
  drawn = samples()
  total, norms = np.zeros(SHAPE), []
  for count, (trace, gradient) in enumerate(drawn, 1):
    nu = 4.0 if rule == 'fixed' else sum(sample.trace for sample in drawn[:count]) / count
    g = gradient if trace <= nu else (1 - mu) * gradient  # The gradient of T - mu max(0, T - nu).
    norms.append(np.sqrt((g**2).sum()))
    if max(norms) > 0:
      total += g / max(norms)
  got = nasi.logits(iter(drawn), nasi.Settings(mu=mu, rule=rule, nu=4.0))
  np.testing.assert_allclose(got, total / len(drawn), rtol=1e-6)


def test_a_search_whose_samples_are_all_above_nu_stays_where_it_is():
  got = nasi.logits(iter(samples()), nasi.Settings(mu=1.0, rule='fixed', nu=0.0))
  np.testing.assert_array_equal(got, 0)  # And no 0 / 0.


@pytest.mark.slow
@pytest.mark.once
def test_a_mixture_of_one_operation_an_edge_is_that_cell():
  cell = jnp.array([3, 2, 0, 1, 4, 3])

  def estimate(choices):
    return scores.SCORES['ntk_estimate'].make().measure(SUPERNET.network(choices, WEIGHTS), BATCH, jax.random.key(0))

  assert jax.jit(estimate)(jax.nn.one_hot(cell, 5)) == pytest.approx(float(jax.jit(estimate)(cell)), rel=1e-4)


@pytest.mark.slow
@pytest.mark.once
@pytest.mark.parametrize('sample', nasi.SAMPLES)
def test_the_gradient_of_a_sample(sample):
  settings, key = nasi.Settings(sample=sample, temperature=2.0), jax.random.key(5)
  drawn = nasi.sampler(SUPERNET.network, WEIGHTS, SHAPE, settings)(BATCH, key)
  noise = np.asarray(jax.random.gumbel(key, SHAPE), np.float64)

  def softmax(logits):
    e = np.exp(logits - logits.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)

  soft = softmax(noise / 2)
  at = soft if sample == 'soft' else np.eye(5)[soft.argmax(1)]
  with jax.enable_x64(True):  # T jumps where a ReLU's input passes 0, so that steps must be small.
    weights, images = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), (WEIGHTS, IMAGES))

    @jax.jit
    def trace(mixture):
      gradient = scores.loss_gradient(SUPERNET.network(mixture, weights), scores.Batch(images, jnp.asarray(LABELS)))
      return sum((leaf**2).sum() for leaf in jax.tree.leaves(gradient))

    assert drawn.trace == pytest.approx(float(trace(at)), rel=1e-4)
    for edge, operation in ((0, 3), (2, 1), (5, 4)):
      # Along the softmax's derivative by one logit, from the point at which T is taken.
      direction = np.zeros(SHAPE)
      direction[edge] = soft[edge] * (np.eye(5)[operation] - soft[edge, operation]) / 2
      step = 1e-6
      expected = float(trace(at + step * direction) - trace(at - step * direction)) / (2 * step)
      assert drawn.gradient[edge, operation] == pytest.approx(expected, rel=1e-2, abs=1e-3 * drawn.trace)


def test_a_seed_decides_on_batches_and_noise():
  settings, seen = nasi.Settings(steps=6, batch=5), []

  def draw(batch, key):
    seen.append((np.asarray(batch.images[:, 0, 0, 0]), np.asarray(batch.labels), np.asarray(jax.random.key_data(key))))
    return nasi.Sampled(1.0, np.full(SHAPE, float(batch.images.sum())))

  alpha, traces = nasi.search(draw, IMAGES, LABELS, 1, settings)
  again, _ = nasi.search(draw, IMAGES, LABELS, 1, settings)
  other, _ = nasi.search(draw, IMAGES, LABELS, 2, settings)
  np.testing.assert_array_equal(alpha, again)
  assert traces == [1.0] * 6 and not np.array_equal(alpha, other)
  for pixels, labels, _ in seen[:6]:  # Images with their own labels, none twice in a batch.
    rows = [int(np.flatnonzero(IMAGES[:, 0, 0, 0] == pixel)[0]) for pixel in pixels]
    assert len(set(rows)) == 5 and (LABELS[rows] == labels).all()
  assert len({tuple(key) for _, _, key in seen}) == 12  # Noise of its own in every step.


def test_bad_input(user_error):
  for changes, part in (({'steps': 0}, 'steps 0 is below 1'), ({'batch': 1}, 'batch 1 is below 2'), ({'mu': -1}, 'mu -1'),
                        ({'temperature': 0}, 'temperature 0'), ({'temperature': float('nan')}, 'temperature nan'),
                        ({'sample': 'odd'}, "sample 'odd' is unknown; give one of soft"), ({'rule': 'odd'}, "rule 'odd'")):
    with user_error('nasi', part):
      nasi.Settings(**changes)
  with user_error('8 images', '64'):
    nasi.search(lambda batch, key: pytest.fail('it began'), IMAGES, LABELS, 0, nasi.Settings())

"""NASI: a whole space's distribution at initialisation, in one step of gradient ascent (Shu et al., ICLR 2022, 2109.00817).

The supernet is never trained. A sample mixes the operations of each edge by Gumbel-softmax weights at logits of zero. What
is maximised is T, the squared norm of the gradient of a mini-batch's mean loss by the supernet's weights, as an estimate of
the tangent kernel's trace, with a penalty above nu: R = T - mu max(0, T - nu) (section 3). The step is a mean of the
samples' gradients of R by the logits, each divided by the largest norm so far (algorithm 1). What the paper leaves open is
a setting here.
"""
from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from enas_jax.errors import UserError
from enas_jax.scores.base import Batch, loss_gradient, squared_norm
from enas_jax.scores.network import Network, Weights

RULES = ('mean', 'fixed')
SAMPLES = ('soft', 'hard')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """How NASI searches.

  Attributes:
    steps: samples, each of a mini-batch and of Gumbel noise of its own, at least 1.
    batch: images a step, at least 2; the paper has 64.
    temperature: of the softmax, above 0; not told by the paper.
    sample: 'soft': all operations are mixed; 'hard': the largest weight becomes 1 and the others 0, gradients being those of
      the soft weights (straight-through). Not told by the paper.
    rule: 'fixed': nu is `nu`; 'mean': it is the mean of T over the samples so far. The paper's adaptive rule is not known.
    nu: the limit above which T is penalised, for the rule 'fixed'; its scale is that of the network.
    mu: the penalty; with 1 a sample above nu counts nothing, with 2 it pulls back. At least 0.

  Raises:
    UserError: a value is out of range.
  """

  steps: int = 100
  batch: int = 64
  temperature: float = 1.0
  sample: str = 'soft'
  rule: str = 'mean'
  nu: float = 100.0
  mu: float = 1.0

  def __post_init__(self) -> None:
    for name in ('temperature', 'mu', 'nu'):
      if not math.isfinite(getattr(self, name)):
        raise UserError(f'nasi: {name} {getattr(self, name)} is no finite number; give one')
    for name, least in (('steps', 1), ('batch', 2), ('mu', 0)):
      if getattr(self, name) < least:
        raise UserError(f'nasi: {name} {getattr(self, name)} is below {least}; give at least {least}')
    if not self.temperature > 0:
      raise UserError(f'nasi: temperature {self.temperature} is not positive; give for example 1')
    for name, known in (('sample', SAMPLES), ('rule', RULES)):
      if getattr(self, name) not in known:
        raise UserError(f"nasi: {name} '{getattr(self, name)}' is unknown; give one of {', '.join(known)}")


class Sampled(NamedTuple):
  """What a sample told: T, and its gradient [places, options] by the logits."""

  trace: float
  gradient: np.ndarray


def logits(samples: Iterator[Sampled], settings: Settings) -> np.ndarray:
  """Returns the logits [places, options] after the step, in the order of the samples (the paper's algorithm 1)."""
  total, largest, traces = None, 0.0, []
  for trace, gradient in samples:
    traces.append(trace)
    nu = settings.nu if settings.rule == 'fixed' else float(np.mean(traces))
    penalised = gradient * (1 - settings.mu * (trace > nu))
    largest = max(largest, float(np.linalg.norm(penalised)))
    step = penalised / largest if largest else penalised  # With mu = 1 all samples so far may have been above nu.
    total = step if total is None else total + step
  if total is None:
    raise ValueError('no samples')
  return total / len(traces)


def sampler(network: Callable[[jax.Array, Weights], Network], weights: Weights, shape: tuple[int, int],
            settings: Settings) -> Callable[[Batch, jax.Array], Sampled]:
  """Returns a function of a batch and a key that draws one sample.

  Args:
    network: from the weights of options [places, options] to the mixture's network.
    weights: the supernet's.
    shape: places and options.
    settings: of the search.
  """

  @jax.jit
  def draw(weights: Weights, batch: Batch, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    noise = jax.random.gumbel(key, shape)

    def trace(alpha: jax.Array) -> jax.Array:
      soft = jax.nn.softmax((alpha + noise) / settings.temperature, axis=-1)
      mixture = soft
      if settings.sample == 'hard':
        mixture = jax.nn.one_hot(soft.argmax(-1), shape[1]) + soft - jax.lax.stop_gradient(soft)
      return squared_norm(loss_gradient(network(mixture, weights), batch))

    with jax.default_matmul_precision('highest'):
      return jax.value_and_grad(trace)(jnp.zeros(shape))

  def sample(batch: Batch, key: jax.Array) -> Sampled:
    trace, gradient = jax.device_get(draw(weights, batch, key))
    return Sampled(float(trace), gradient)

  return sample


def search(draw: Callable[[Batch, jax.Array], Sampled], images: np.ndarray, labels: np.ndarray, seed: int,
           settings: Settings) -> tuple[np.ndarray, list[float]]:
  """Runs the whole search.

  Args:
    draw: a supernet's `sampler`.
    images: normalised images [N, H, W, C].
    labels: their classes [N].
    seed: of mini-batches and Gumbel noise.
    settings: of the search.

  Returns:
    The logits [places, options], whose largest at each place is the network; and every sample's T.

  Raises:
    UserError: there are fewer images than a batch.
  """
  if len(images) < settings.batch:
    raise UserError(f'nasi: {len(images)} images are fewer than a batch of {settings.batch}; lower nasi.batch')
  rng, traces = np.random.default_rng(seed), []

  def samples() -> Iterator[Sampled]:
    for step in range(settings.steps):
      rows = rng.choice(len(images), settings.batch, replace=False)
      batch = Batch(jnp.asarray(images[rows]), jnp.asarray(labels[rows]))
      sampled = draw(batch, jax.random.fold_in(jax.random.key(seed), step))
      traces.append(sampled.trace)
      yield sampled

  return logits(samples(), settings), traces

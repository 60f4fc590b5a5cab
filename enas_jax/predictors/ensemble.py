"""Ensembles of small Flax networks: all members trained by one compiled program."""
from __future__ import annotations

import abc
import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from enas_jax import environment
from enas_jax.errors import UserError
from enas_jax.predictors.base import Prediction, Scale, check_positive, standardise
from enas_jax.predictors.encoding import GraphEncoding
from enas_jax.spaces.base import Graph

MIN_ROWS = 256  # Row counts are padded to powers of two from here on, so that few programs are compiled.
MAX_ROWS = 1024  # So many graphs are predicted at once.

Encoder = Callable[[Sequence[Graph]], Any]  # Turns graphs into arrays [B, ...].

CPU_OPTIONS = {'xla_backend_optimization_level': 1}  # Compiles in half the time of the default, and runs as fast.


@dataclasses.dataclass(frozen=True)
class Ensemble(abc.ABC):
  """Networks that differ in their initial weights and in their batches. `std` is the members' standard deviation.

  One program trains all members. The number of rows is padded, so that a search that refits does not compile again.
  Each step minimises the mean absolute error (as BANANAS does) of a batch drawn with replacement, by AdamW under a cosine.

  Attributes:
    encoding: the encoding of the space's graphs.
    members: how many networks there are, >= 1. If there is one, `std` is 0.
    steps: steps of the optimiser, >= 1.
    batch: rows in each step, >= 1.
    learning_rate: the rate at the start, > 0.
    weight_decay: decoupled decay of the weights, >= 0.
  """

  encoding: GraphEncoding
  _: dataclasses.KW_ONLY
  members: int = 5
  steps: int = 500
  batch: int = 16
  learning_rate: float = 0.01
  weight_decay: float = 1e-4

  def __post_init__(self) -> None:
    """Raises UserError for a value out of range."""
    check_positive(self, 'members', 'steps', 'batch', 'learning_rate')
    if not self.weight_decay >= 0:
      raise UserError(f'predictor: weight_decay {self.weight_decay} is below 0; give 0 for none')

  @abc.abstractmethod
  def network(self, inputs: Any, rngs: nnx.Rngs) -> nnx.Module:
    """Makes a member. It maps inputs [B, ...] to [B]."""

  @abc.abstractmethod
  def encoder(self, graphs: Sequence[Graph]) -> Encoder:
    """Returns the function that turns graphs into inputs, after a look at those to train on."""

  def fit(self, graphs: Sequence[Graph], targets: Sequence[float], *, seed: int) -> FittedEnsemble:
    environment.check()
    values, scale = standardise(graphs, targets)
    encoder = self.encoder(graphs)
    inputs, values = _padded((encoder(graphs), values.astype(np.float32)), len(graphs))
    key = jax.random.key(np.random.SeedSequence(seed).generate_state(1)[0])
    params = _compiled(_train)(self, inputs, values, len(graphs), key)
    return FittedEnsemble(self, encoder, params, scale)


@dataclasses.dataclass(frozen=True)
class FittedEnsemble:
  """An ensemble with its members' weights `params`, stacked [members, ...]."""

  ensemble: Ensemble
  encoder: Encoder
  params: nnx.State
  scale: Scale

  def predict(self, graphs: Sequence[Graph]) -> Prediction:
    """Predicts the value of each graph. Raises UserError if the training has diverged."""
    parts = [self._outputs(graphs[i:i + MAX_ROWS]) for i in range(0, len(graphs), MAX_ROWS)]
    outputs = np.concatenate([np.zeros((self.ensemble.members, 0)), *parts], axis=1)
    if not np.isfinite(outputs).all():
      raise UserError(f'predictor: its training diverged at learning_rate {self.ensemble.learning_rate}; give a lower one')
    return self.scale.restore(outputs.mean(0), outputs.std(0))

  def _outputs(self, graphs: Sequence[Graph]) -> np.ndarray:
    inputs = _padded(self.encoder(graphs), len(graphs))
    return np.asarray(_compiled(_apply)(self.ensemble, self.params, inputs), np.float64)[:, :len(graphs)]


@functools.cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
  """Compiles a function of an ensemble and arrays for the default device."""
  return jax.jit(function, static_argnums=0, compiler_options=CPU_OPTIONS if jax.default_backend() == 'cpu' else None)


def _train(ensemble: Ensemble, inputs: Any, targets: jax.Array, rows: int, key: jax.Array) -> nnx.State:
  """Returns the members' weights after training. Rows from `rows` on are padding, which no batch draws."""
  optimiser = optax.adamw(
      optax.cosine_decay_schedule(ensemble.learning_rate, ensemble.steps), weight_decay=ensemble.weight_decay)

  def member(key: jax.Array) -> nnx.State:
    weights_key, batch_key = jax.random.split(key)
    graph, params = nnx.split(ensemble.network(inputs, nnx.Rngs(params=weights_key)))

    def step(state: tuple[nnx.State, optax.OptState], chosen: jax.Array) -> tuple[tuple[nnx.State, optax.OptState], None]:
      params, moments = state

      def loss(params: nnx.State) -> jax.Array:
        outputs = nnx.merge(graph, params)(jax.tree.map(lambda x: x[chosen], inputs))
        return jnp.abs(outputs - targets[chosen]).mean()

      updates, moments = optimiser.update(jax.grad(loss)(params), moments, params)
      return (optax.apply_updates(params, updates), moments), None

    batches = jax.random.randint(batch_key, (ensemble.steps, ensemble.batch), 0, rows)
    return jax.lax.scan(step, (params, optimiser.init(params)), batches)[0][0]

  return jax.vmap(member)(jax.random.split(key, ensemble.members))


def _apply(ensemble: Ensemble, params: nnx.State, inputs: Any) -> jax.Array:
  """Returns the outputs of all members, [members, B]."""
  graph = nnx.graphdef(nnx.eval_shape(lambda: ensemble.network(inputs, nnx.Rngs(0))))
  return jax.vmap(lambda p: nnx.merge(graph, p)(inputs))(params)


def _padded(arrays: Any, rows: int) -> Any:
  """Returns arrays whose rows are padded with zeros to a power of two."""
  extra = max(MIN_ROWS, 1 << (rows - 1).bit_length()) - rows
  return jax.tree.map(lambda x: np.pad(x, [(0, extra)] + [(0, 0)] * (x.ndim - 1)), arrays)

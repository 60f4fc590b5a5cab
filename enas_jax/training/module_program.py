"""One architecture's training as compiled functions, for one or several replicates of it at once.

What differs between candidates of one architecture (weights, batch order, learning rate, weight decay, ...) is data, so one
program serves them all. Every array of a candidate has a leading axis M of replicates; images and labels are shared.
"""
from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from enas_jax.data.augment import augment, normalise
from enas_jax.networks import build
from enas_jax.training.keys import NOISE
from enas_jax.training.loss import count, cross_entropy
from enas_jax.training.memory import program_bytes
from enas_jax.training.state import Arrays, Hyperparameters, Tally, TrainingData, TrainState, optimizer
from enas_jax.types import Architecture, Recipe


class ModuleProgram:
  """The compiled training of one architecture.

  Attributes:
    graph: the network without its arrays (nnx.GraphDef).
    state_shape: shapes and types of a TrainState.
    replicates: M, replicates trained at once. One is compiled plain, several under vmap.
    compile_seconds: spent on tracing and compiling so far.
    memory_bytes: device memory that training and scoring need beside the data, as the compiler reports it.
  """

  def __init__(self, architecture: Architecture, data: TrainingData, recipe: Recipe, *, replicates: int = 1):
    self.data, self.recipe, self.replicates = data, recipe, replicates
    weights = data.class_weights(recipe.class_weights)
    self._weights = None if weights is None else jnp.asarray(weights)
    self.batch_size = recipe.batch_size
    self.compile_seconds = 0.0
    self.graph = nnx.eval_shape(lambda: nnx.split(build(architecture, task=data.task, key=jax.random.key(0))))[0]

    def init(key: jax.Array) -> TrainState:
      parts: tuple[Any, ...] = nnx.split(build(architecture, task=data.task, key=key), nnx.Param, nnx.BatchStat)
      params, stats = parts[1:]
      return TrainState(params, stats, optimizer(Hyperparameters(0.0, 0.0, 0.0, 1.0)).init(params))

    keys = jax.random.split(jax.random.key(0), replicates)
    # keys [M] -> TrainState. It runs once and is all random numbers, whose code a CPU back end takes seconds to optimise.
    options: dict[str, str | bool] | None = {'xla_backend_optimization_level': '0'} if jax.default_backend() == 'cpu' else None
    self.init = self._compile(jax.vmap(init), keys, options=options)
    self.state_shape = jax.eval_shape(jax.vmap(init), keys)
    self._step = self._compile_step(self.batch_size)
    score = _over_replicates(self._score_batch, replicates, (0, None, None))
    self._score = self._compile(score, self.state_shape, np.int32(0), data.arrays)
    state_bytes = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(self.state_shape))
    self.memory_bytes = state_bytes + max(program_bytes(self._step), program_bytes(self._score))

  def step(self, state: TrainState, tally: Tally, hyperparameters: Hyperparameters, order: jax.Array, keys: jax.Array,
           index: int) -> tuple[TrainState, Tally]:
    """Trains on batch `index` of an epoch; the last may be a smaller one. Consumes state and tally."""
    whole = (index + 1) * self.batch_size <= self.data.train_size
    run = self._step if whole else self._last_step
    return run(state, tally, hyperparameters, order, keys, np.int32(index), self.data.arrays)

  def score(self, state: TrainState) -> np.ndarray:
    """Returns the accuracy on the scoring part, [M], with the running batch-norm statistics."""
    starts = range(0, len(self.data.arrays.score_labels), self.data.score_batch)
    correct = sum(self._score(state, np.int32(start), self.data.arrays) for start in starts)
    return np.asarray(correct) / self.data.score_size

  def new_tally(self) -> Tally:
    """Returns the tally of an epoch that has not begun."""
    return Tally(np.zeros(self.replicates, np.float32), np.zeros(self.replicates, np.int32))

  @functools.cached_property
  def _last_step(self) -> jax.stages.Compiled:
    return self._compile_step(self.data.train_size % self.batch_size)

  def _compile_step(self, size: int) -> jax.stages.Compiled:
    keys = jax.random.split(jax.random.key(0), self.replicates)
    order = jax.ShapeDtypeStruct((self.replicates, self.data.train_size), jnp.int32)
    hyperparameters = Hyperparameters(*[np.zeros(self.replicates, np.float32)] * len(Hyperparameters._fields))
    step = _over_replicates(functools.partial(self._train_batch, size), self.replicates, (0, 0, 0, 0, 0, None, None))
    return self._compile(
        step, self.state_shape, self.new_tally(), hyperparameters, order, keys, np.int32(0), self.data.arrays, donate=(0, 1))

  def _compile(self, function: Callable[..., Any], *arguments: Any, donate: tuple[int, ...] = (),
               options: dict[str, str | bool] | None = None) -> jax.stages.Compiled:
    start = time.perf_counter()
    compiled = jax.jit(function, donate_argnums=donate).lower(*arguments).compile(compiler_options=options)
    self.compile_seconds += time.perf_counter() - start
    return compiled

  def _train_batch(self, size: int, state: TrainState, tally: Tally, hyperparameters: Hyperparameters, order: jax.Array,
                   key: jax.Array, index: jax.Array, arrays: Arrays) -> tuple[TrainState, Tally]:
    """Trains one replicate for one step on `size` images."""
    rows = jax.lax.dynamic_slice(order, (index * self.batch_size,), (size,))
    images, labels = arrays.images[rows], arrays.labels[rows]
    key = jax.random.fold_in(key, index)
    inputs = augment(key, images, arrays.mean, arrays.std, self.data.augmentation)

    def loss_of(params: Any) -> tuple[jax.Array, tuple[Any, jax.Array]]:
      model = nnx.merge(self.graph, params, state.stats, copy=True)
      model.train()
      heads = training_logits(model, inputs, key=jax.random.fold_in(key, NOISE), progress=hyperparameters.progress)
      smoothing, weights = self.recipe.label_smoothing, None if self._weights is None else self._weights[labels]
      loss: Any = sum(weight * cross_entropy(logits, labels, smoothing, weights).mean() for weight, logits in heads)
      return loss, (nnx.state(model, nnx.BatchStat), (heads[0][1].argmax(-1) == labels).sum())

    (loss, (stats, correct)), gradients = jax.value_and_grad(loss_of, has_aux=True)(state.params)
    rule = optimizer(hyperparameters, nesterov=self.recipe.nesterov)
    updates, opt_state = rule.update(gradients, state.optimizer, state.params)
    params = optax.apply_updates(state.params, updates)
    return TrainState(params, stats, opt_state), Tally(tally.loss + loss * size, tally.correct + correct)

  def _score_batch(self, state: TrainState, start: jax.Array, arrays: Arrays) -> jax.Array:
    """Counts how many of the scoring images from `start` on one replicate gets right."""
    size = self.data.score_batch
    images = jax.lax.dynamic_slice_in_dim(arrays.score_images, start, size)
    labels = jax.lax.dynamic_slice_in_dim(arrays.score_labels, start, size)
    model = nnx.merge(self.graph, state.params, state.stats, copy=True)
    model.eval()
    weights = None if self.data.score_weights is None else jnp.asarray(self.data.score_weights)[labels]
    return count(model(normalise(images, arrays.mean, arrays.std)).argmax(-1) == labels, weights)


def training_logits(model: Any, inputs: jax.Array, *, key: jax.Array, progress: Any) -> Sequence[tuple[float, jax.Array]]:
  """Returns weights and logits whose cross entropies are summed: those of the module's own hook (networks/), or its output."""
  if hasattr(model, 'training_logits'):
    return model.training_logits(inputs, key=key, progress=progress)
  return ((1.0, model(inputs)),)


def _over_replicates(function: Callable[..., Any], replicates: int, in_axes: tuple[int | None, ...]) -> Callable[..., Any]:
  """Maps over the leading axis by vmap; of one replicate without vmap, whose grouped convolutions are slow."""
  if replicates > 1:
    return jax.vmap(function, in_axes)

  def single(*arguments: Any) -> Any:
    ones = [jax.tree.map(lambda x: x[0], a) if axis == 0 else a for a, axis in zip(arguments, in_axes, strict=True)]
    return jax.tree.map(lambda x: x[None], function(*ones))

  return single

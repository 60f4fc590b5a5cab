"""One architecture's training as compiled functions, for one or several replicates of it at once.

What differs between candidates of one architecture (weights, batch order, learning rate, weight decay, ...) is data, so one
program serves them all. Every array of a candidate has a leading axis M of members; images and labels are shared.
"""
from __future__ import annotations

import dataclasses
import functools
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from enas_jax.data.augment import Augmentation, augment, normalise
from enas_jax.data.dataset import ImageSet
from enas_jax.networks import build
from enas_jax.types import Architecture, Task

SCORE_BATCH = 500  # Images scored at once; only memory depends on it.
_MODULE = 0x30D5  # Parts the key of what a module draws from that of its batch's augmentation.


class Arrays(NamedTuple):
  """What every program reads; on the device once.

  Attributes:
    images, labels: the training part, uint8 [N, H, W, C] and int32 [N].
    score_images, score_labels: the part that scores, padded to whole batches with labels of -1.
    mean, std: float32 [C], of pixels in [0, 1].
  """

  images: jax.Array
  labels: jax.Array
  score_images: jax.Array
  score_labels: jax.Array
  mean: jax.Array
  std: jax.Array


@dataclasses.dataclass(frozen=True)
class TrainingData:
  """The arrays on the device, and what is fixed when a program is compiled."""

  arrays: Arrays
  score_size: int
  augmentation: Augmentation
  task: Task

  @classmethod
  def put(cls, train: ImageSet, score: ImageSet, *, mean: np.ndarray, std: np.ndarray, augmentation: Augmentation,
          task: Task) -> TrainingData:
    """Moves both parts to the default device."""
    padding = -len(score.labels) % min(SCORE_BATCH, len(score.labels))
    score_images = np.pad(score.images, ((0, padding), (0, 0), (0, 0), (0, 0)))
    score_labels = np.pad(score.labels, (0, padding), constant_values=-1)
    arrays = jax.device_put(Arrays(train.images, train.labels, score_images, score_labels, mean, std))
    return cls(arrays, len(score.labels), augmentation, task)

  @property
  def train_size(self) -> int:
    return len(self.arrays.labels)


class TrainState(NamedTuple):
  """What training changes: weights, batch-norm statistics, the optimiser's state."""

  params: Any
  stats: Any
  optimizer: Any


class Tally(NamedTuple):
  """Sums over the epoch's images so far."""

  loss: jax.Array
  correct: jax.Array


class Hyperparameters(NamedTuple):
  """Of one epoch. `progress`: the share of the schedule's epochs that is over, in [0, 1); None where no module asks for it."""

  learning_rate: Any
  momentum: Any
  weight_decay: Any
  clip_norm: Any
  progress: Any = None


def optimizer(hyperparameters: Hyperparameters) -> optax.GradientTransformation:
  """SGD as in PyTorch: clip, add the decayed weights, then momentum; the rate scales the momentum's output."""
  return optax.chain(
      optax.clip_by_global_norm(hyperparameters.clip_norm),
      optax.add_decayed_weights(hyperparameters.weight_decay),
      optax.sgd(hyperparameters.learning_rate, hyperparameters.momentum))


class Program:
  """The compiled training of one architecture.

  Attributes:
    graph: the network without its arrays (nnx.GraphDef).
    state_shape: shapes and types of a TrainState.
    members: M, replicates trained at once. One is compiled plain, several under vmap.
    compile_seconds: spent on tracing and compiling so far.
    memory_bytes: device memory that training and scoring need beside the data, as the compiler reports it.
  """

  def __init__(self, architecture: Architecture, data: TrainingData, *, batch_size: int, members: int = 1):
    self.data, self.batch_size, self.members = data, batch_size, members
    self.compile_seconds = 0.0
    self.graph = nnx.eval_shape(lambda: nnx.split(build(architecture, task=data.task, key=jax.random.key(0))))[0]

    def init(key):
      _, params, stats = nnx.split(build(architecture, task=data.task, key=key), nnx.Param, nnx.BatchStat)
      return TrainState(params, stats, optimizer(Hyperparameters(0.0, 0.0, 0.0, 1.0)).init(params))

    keys = jax.random.split(jax.random.key(0), members)
    # keys [M] -> TrainState. It runs once and is all random numbers, whose code a CPU back end takes seconds to optimise.
    options = {'xla_backend_optimization_level': 0} if jax.default_backend() == 'cpu' else None
    self.init = self._compile(jax.vmap(init), keys, options=options)
    self.state_shape = jax.eval_shape(jax.vmap(init), keys)
    self._step = self._compile_step(batch_size)
    score = _over_members(self._score_batch, members, (0, None, None))
    self._score = self._compile(score, self.state_shape, np.int32(0), data.arrays)
    state_bytes = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(self.state_shape))
    self.memory_bytes = state_bytes + max(memory_bytes(self._step), memory_bytes(self._score))

  def step(self, state: TrainState, tally: Tally, hyperparameters: Hyperparameters, order: jax.Array, keys: jax.Array,
           index: int) -> tuple[TrainState, Tally]:
    """Trains on batch `index` of an epoch; the last may be a smaller one. Consumes state and tally."""
    whole = (index + 1) * self.batch_size <= self.data.train_size
    run = self._step if whole else self._last_step
    return run(state, tally, hyperparameters, order, keys, np.int32(index), self.data.arrays)

  def score(self, state: TrainState) -> np.ndarray:
    """Accuracy on the scoring part, [M], with the running batch-norm statistics."""
    size = len(self.data.arrays.score_labels)
    starts = range(0, size, min(SCORE_BATCH, size))
    correct = sum(self._score(state, np.int32(start), self.data.arrays) for start in starts)
    return np.asarray(correct) / self.data.score_size

  def new_tally(self) -> Tally:
    return Tally(np.zeros(self.members, np.float32), np.zeros(self.members, np.int32))

  @functools.cached_property
  def _last_step(self):
    return self._compile_step(self.data.train_size % self.batch_size)

  def _compile_step(self, size):
    keys = jax.random.split(jax.random.key(0), self.members)
    order = jax.ShapeDtypeStruct((self.members, self.data.train_size), jnp.int32)
    hyperparameters = Hyperparameters(*[np.zeros(self.members, np.float32)] * len(Hyperparameters._fields))
    step = _over_members(functools.partial(self._train_batch, size), self.members, (0, 0, 0, 0, 0, None, None))
    return self._compile(
        step, self.state_shape, self.new_tally(), hyperparameters, order, keys, np.int32(0), self.data.arrays, donate=(0, 1))

  def _compile(self, function, *arguments, donate=(), options=None):
    start = time.perf_counter()
    compiled = jax.jit(function, donate_argnums=donate).lower(*arguments).compile(compiler_options=options)
    self.compile_seconds += time.perf_counter() - start
    return compiled

  def _train_batch(self, size, state, tally, hyperparameters, order, key, index, arrays):
    """One step of one member on `size` images."""
    rows = jax.lax.dynamic_slice(order, (index * self.batch_size,), (size,))
    images, labels = arrays.images[rows], arrays.labels[rows]
    key = jax.random.fold_in(key, index)
    inputs = augment(key, images, arrays.mean, arrays.std, self.data.augmentation)

    def loss_of(params):
      model = nnx.merge(self.graph, params, state.stats, copy=True)
      model.train()
      heads = _training_logits(model, inputs, key=jax.random.fold_in(key, _MODULE), progress=hyperparameters.progress)
      loss = sum(weight * optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean() for weight, logits in heads)
      return loss, (nnx.state(model, nnx.BatchStat), (heads[0][1].argmax(-1) == labels).sum())

    (loss, (stats, correct)), gradients = jax.value_and_grad(loss_of, has_aux=True)(state.params)
    updates, opt_state = optimizer(hyperparameters).update(gradients, state.optimizer, state.params)
    params = optax.apply_updates(state.params, updates)
    return TrainState(params, stats, opt_state), Tally(tally.loss + loss * size, tally.correct + correct)

  def _score_batch(self, state, start, arrays):
    """How many of the scoring images from `start` on one member gets right."""
    size = min(SCORE_BATCH, len(arrays.score_labels))
    images = jax.lax.dynamic_slice_in_dim(arrays.score_images, start, size)
    labels = jax.lax.dynamic_slice_in_dim(arrays.score_labels, start, size)
    model = nnx.merge(self.graph, state.params, state.stats, copy=True)
    model.eval()
    return (model(normalise(images, arrays.mean, arrays.std)).argmax(-1) == labels).sum()


def _training_logits(model, inputs, *, key, progress):
  """Weights and logits whose cross entropies are summed: those of the module's own hook (networks/), or its output."""
  if hasattr(model, 'training_logits'):
    return model.training_logits(inputs, key=key, progress=progress)
  return ((1.0, model(inputs)),)


def _over_members(function, members, in_axes):
  """vmap over the leading axis; of one member, without vmap, whose grouped convolutions are slow."""
  if members > 1:
    return jax.vmap(function, in_axes)

  def single(*arguments):
    members = [jax.tree.map(lambda x: x[0], a) if axis == 0 else a for a, axis in zip(arguments, in_axes, strict=True)]
    return jax.tree.map(lambda x: x[None], function(*members))

  return single


def memory_bytes(compiled: jax.stages.Compiled) -> int:
  """Device memory that a call needs beside its arguments, as the compiler reports it."""
  analysis = compiled.memory_analysis()
  if analysis is None:  # A back end that does not tell.
    return 0
  return analysis.temp_size_in_bytes + analysis.output_size_in_bytes - analysis.alias_size_in_bytes

"""Chains of any depth, width, operations and kernels as one program: what differs between them is data.

A stage's body layers have one shape, so a stage is one layer under a loop over stacked weights, as long as the candidate's
own. A narrower candidate is padded with channels of zeros, which stay zeros: their weights get no gradient, and batch norm
maps them to zero. A layer's operation and kernel select a branch. So training is that of the plain module
(networks/chain.py), padding or not, and the time to compile does not grow with depth.

The gradient is written by hand: a loop of unknown length has no automatic one, and only each layer's output is kept.
"""
from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from enas_jax.networks.planes import barrier, column, convolution, depthwise, pointwise, sums
from enas_jax.spaces.chain import SEPARABLE, STEM_KERNEL, ChainArchitecture, Layer
from enas_jax.types import Task

EPSILON, MOMENTUM = 1e-5, 0.9  # Of batch norm, as in networks/chain.py.
# Where a layer stands: the first (2W to W channels), the two that double, and the bodies between.
ENTRY, BODY1, DOUBLE1, BODY2, DOUBLE2, BODY3 = SITES = ('entry', 'body1', 'double1', 'body2', 'double2', 'body3')
BODIES = (BODY1, BODY2, BODY3)
Weights = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Capacity:
  """What a program holds: all that is fixed when it is compiled, beside the task.

  Attributes:
    bodies: most body layers of each of the three stages, each at least 1.
    width: W to which candidates are padded.
    branches: (operation, kernel) that a layer may have.
  """

  bodies: tuple[int, int, int]
  width: int
  branches: tuple[tuple[int, int], ...]

  @classmethod
  def of(cls, architectures: Sequence[ChainArchitecture]) -> Capacity:
    """The least that holds all of these."""
    counts = np.array([_counts(a) for a in architectures]).max(0)
    branches = {(layer.operation, layer.kernel) for a in architectures for layer in a.layers()}
    return cls(tuple(max(1, int(n)) for n in counts), max(a.width for a in architectures), tuple(sorted(branches)))

  def holds(self, architecture: ChainArchitecture) -> bool:
    return (architecture.width <= self.width
            and all(n <= most for n, most in zip(_counts(architecture), self.bodies, strict=True))
            and all((layer.operation, layer.kernel) in self.branches for layer in architecture.layers()))

  @property
  def kernel(self) -> int:
    """The largest."""
    return max(kernel for _, kernel in self.branches)

  def channels(self, site: str) -> tuple[int, int]:
    """Into and out of a layer there."""
    w = self.width
    return {ENTRY: (2 * w, w), BODY1: (w, w), DOUBLE1: (w, 2 * w), BODY2: (2 * w, 2 * w), DOUBLE2: (2 * w, 4 * w),
            BODY3: (4 * w, 4 * w)}[site]


class Plan(NamedTuple):
  """A candidate as data.

  Attributes:
    counts: int32 [3], body layers of each stage.
    choices: by site, the index into `Capacity.branches`: int32 [], for a body [most layers].
  """

  counts: Any
  choices: dict[str, Any]


class Forward(NamedTuple):
  """What a forward pass leaves.

  Attributes:
    logits: [classes, B].
    stats: the batch norms' statistics after it.
    pooled: [C, B], what the head saw.
    kept: by site, what the way back needs.
  """

  logits: jax.Array
  stats: Weights
  pooled: jax.Array
  kept: dict[str, Any]


class Backward(NamedTuple):
  """What a training step gives.

  Attributes:
    loss: mean over the batch.
    correct: right answers.
    gradients: as the weights.
    stats: the batch norms' statistics after it.
    scratch: memory for the next step.
  """

  loss: jax.Array
  correct: jax.Array
  gradients: Weights
  stats: Weights
  scratch: dict[str, jax.Array]


def plan(architecture: ChainArchitecture, capacity: Capacity) -> Plan:
  """The data by which a program of this capacity becomes this candidate."""
  choices = {site: np.zeros(_stack(site, capacity), np.int32) for site in SITES}
  for site, index, layer in _placed(architecture):
    choices[site][index] = capacity.branches.index((layer.operation, layer.kernel))
  return Plan(np.array(_counts(architecture), np.int32), choices)


def initial(architecture: ChainArchitecture, task: Task, rng: np.random.Generator) -> tuple[Weights, Weights]:
  """Fresh weights and statistics of the plain module, as nested dicts of float32 arrays.

  Kernels are uniform in +-1/sqrt(fan in), as in networks/chain.py; drawn on the host, so that no shape compiles anything.
  """
  def kernel(*shape):
    return rng.uniform(-1, 1, shape).astype(np.float32) / np.float32(math.sqrt(math.prod(shape[:-1])))

  def scale(channels):
    return {'scale': np.ones(channels, np.float32), 'bias': np.zeros(channels, np.float32)}

  def moments(channels):
    return {'mean': np.zeros(channels, np.float32), 'var': np.ones(channels, np.float32)}

  def body(layer: Layer) -> Weights:
    size = layer.kernel, layer.kernel
    if layer.operation == SEPARABLE:
      kernels = {'depthwise': {'kernel': kernel(*size, 1, layer.in_channels)},
                 'pointwise': {'kernel': kernel(1, 1, layer.in_channels, layer.out_channels)}}
    else:
      kernels = {'conv': {'kernel': kernel(*size, layer.in_channels, layer.out_channels)}}
    return {**kernels, 'norm': scale(layer.out_channels)}

  stem = kernel(STEM_KERNEL, STEM_KERNEL, task.image_shape[2], architecture.stem_channels)
  params = {
      'stem': {'kernel': stem},
      'stem_norm': scale(architecture.stem_channels),
      'layers': {i: body(layer) for i, layer in enumerate(architecture.layers())},
      'head': {'kernel': kernel(architecture.out_channels, task.num_classes), 'bias': np.zeros(task.num_classes, np.float32)},
  }
  stats = {
      'stem_norm': moments(architecture.stem_channels),
      'layers': {i: {'norm': moments(layer.out_channels)} for i, layer in enumerate(architecture.layers())},
  }
  return params, stats


def pack(architecture: ChainArchitecture, params: Weights, stats: Weights, capacity: Capacity) -> tuple[Weights, Weights]:
  """The module's weights and statistics, as `initial` gives them, in the program's padded and stacked form."""
  packed, packed_stats = _empty(architecture, params, capacity)
  _copy(architecture, params, stats, packed, packed_stats, into_packed=True)
  return packed, packed_stats


def unpack(architecture: ChainArchitecture, packed: Weights, packed_stats: Weights, task: Task) -> tuple[Weights, Weights]:
  """The way back: the module's weights and statistics."""
  params, stats = initial(architecture, task, np.random.default_rng(0))
  packed, packed_stats = jax.tree.map(np.asarray, (packed, packed_stats))
  _copy(architecture, params, stats, packed, packed_stats, into_packed=False)
  return params, stats


@dataclasses.dataclass(frozen=True)
class StackedChain:
  """The functions of one capacity. Planes are [C, H, W, B]; weights as `pack` gives them.

  Attributes:
    masked: loops run to `limits`, and layers past a candidate's own are masked out: under vmap. Else to its own counts.
    axis: name of the mapped axis over which the images of a batch are spread; None: they are all here.
  """

  capacity: Capacity
  dtype: Any = jnp.float32
  lowering: str = 'shifts'
  masked: bool = False
  axis: str | None = None

  def scratch(self, shape: tuple[int, ...]) -> dict[str, jax.Array]:
    """Memory for the inputs of every body layer, for images [B, H, W, C] of this shape.

    It is handed from step to step: made anew in each it would be filled with zeros each time, which takes a fifth of a step.
    """
    batch, height, width, _ = shape
    planes = {}
    for site in BODIES:
      channels, most = self.capacity.channels(site)[0], self.capacity.bodies[BODIES.index(site)]
      planes[site] = jnp.zeros((most + 1, channels, height, width, batch), self.dtype)
      height, width = -(-height // 2), -(-width // 2)
    return planes

  def forward(self, params: Weights, stats: Weights, candidate: Plan, limits: jax.Array, images: jax.Array,
              scratch: dict[str, jax.Array], training: jax.Array | bool) -> Forward:
    """Images [B, H, W, C] through the network: with the batch's own statistics in training, else with the running ones.

    Which of the two is data, so that a program holds the layers once for both.
    """
    z = self._stem(_planes(images, self.dtype), params['stem'])
    affine, moments, stem_stats = self._norm(params['stem_norm'], stats['stem_norm'], z, training)
    kept, new_stats = {'stem': (z, moments)}, {'stem_norm': stem_stats}
    for site in SITES:
      weights, running, choice = params[site], stats[site], candidate.choices[site]
      if site in BODIES:
        stage = BODIES.index(site)
        z, affine, kept[site], new_stats[site] = self._stage(
            site, z, affine, weights, running, choice, candidate.counts[stage], limits[stage], scratch[site], training)
      else:
        before = z, affine
        z = self._forward(site, z, affine, weights, choice)
        affine, moments, new_stats[site] = self._norm(weights, running, z, training)
        kept[site] = before, z, moments
    pooled = z.astype(jnp.float32).mean((1, 2)) * affine[0][:, None] + affine[1][:, None]
    kept['head'] = z.shape
    return Forward(_head(params['head'], pooled), new_stats, pooled, kept)

  def backward(self, params: Weights, candidate: Plan, limits: jax.Array, images: jax.Array, labels: jax.Array,
               forward: Forward) -> tuple[jax.Array, Weights]:
    """Mean loss and gradients of a batch whose forward pass was one of training. With an `axis`, B is this device's part."""
    loss, to_logits = self._loss(forward.logits, labels)
    gradients = {}
    gradients['head'], to_pooled = jax.vjp(_head, params['head'], forward.pooled)[1](to_logits)
    shape = forward.kept['head']
    gradient = jnp.broadcast_to((to_pooled / (shape[1] * shape[2]))[:, None, None, :], shape).astype(self.dtype)
    for site in reversed(SITES):
      weights, choice = params[site], candidate.choices[site]
      if site in BODIES:
        stage = BODIES.index(site)
        gradient, gradients[site] = self._stage_backward(
            site, gradient, forward.kept[site], weights, choice, candidate.counts[stage], limits[stage])
      else:
        (z, affine), after, moments = forward.kept[site]
        gradient, gradients[site] = self._backward(site, gradient, after, moments, z, affine, weights, choice)
    gradient, gradients['stem_norm'] = self._norm_backward(params['stem_norm'], *forward.kept['stem'], gradient)
    gradients['stem'] = jax.vjp(functools.partial(self._stem, _planes(images, self.dtype)), params['stem'])[1](gradient)[0]
    return self._total(loss), self._total(gradients)

  def logits(self, params: Weights, stats: Weights, candidate: Plan, limits: jax.Array, images: jax.Array) -> jax.Array:
    """With the running statistics: images [B, H, W, C] to [B, classes]."""
    return self.forward(params, stats, candidate, limits, images, self.scratch(images.shape), False).logits.T

  def loss_and_gradients(self, params: Weights, stats: Weights, candidate: Plan, limits: jax.Array, images: jax.Array,
                         labels: jax.Array, scratch: dict[str, jax.Array] | None = None) -> Backward:
    """One batch of training: images [B, H, W, C], labels [B]. With an `axis`, B is this device's part; the sums are of all."""
    scratch = self.scratch(images.shape) if scratch is None else scratch
    forward = self.forward(params, stats, candidate, limits, images, scratch, True)
    loss, gradients = self.backward(params, candidate, limits, images, labels, forward)
    return Backward(loss, self.correct(forward, labels), gradients, forward.stats, scratch_of(forward))

  def correct(self, forward: Forward, labels: jax.Array) -> jax.Array:
    """Right answers, on all devices."""
    return self._total((forward.logits.argmax(0) == labels).sum())

  def _stem(self, inputs, weights):
    return barrier(convolution(inputs, weights['kernel'].astype(self.dtype), 1, self.lowering))

  def _branches(self, site) -> list[Callable]:
    """What a layer may do between ReLU and batch norm: a function of (planes, kernels) for each of the capacity's branches."""
    stride = 2 if site in (DOUBLE1, DOUBLE2) else 1

    def branch(operation, size, planes, kernels):
      margin = (self.capacity.kernel - size) // 2
      kernels = jax.tree.map(lambda x: x.astype(self.dtype), kernels)
      if operation == SEPARABLE:
        kernel = _centre(kernels['depthwise'], margin)
        return barrier(pointwise(depthwise(planes, kernel, stride, self.lowering), kernels['pointwise']))
      return barrier(convolution(planes, _centre(kernels['convolution'], margin), stride, self.lowering))

    return [functools.partial(branch, operation, size) for operation, size in self.capacity.branches]

  def _forward(self, site, z, affine, weights, choice):
    """ReLU of the normalised input, and the layer's operation."""
    def run(branch):
      return lambda z, affine, kernels: branch(jnp.maximum(_apply(affine, z), 0), kernels)

    return _switch(choice, [run(b) for b in self._branches(site)], z, affine, _kernels(weights))

  def _backward(self, site, gradient, after, moments, z, affine, weights, choice):
    """From the gradient to a layer's normalised output to that of its normalised input, and of its weights."""
    gradient, norm = self._norm_backward(weights, after, moments, gradient)

    def run(branch):
      def pull(gradient, z, affine, kernels):
        y = _apply(affine, z)
        to_planes, to_kernels = jax.vjp(branch, jnp.maximum(y, 0), kernels)[1](gradient)
        return barrier(jnp.where(y > 0, to_planes, 0)), to_kernels
      return pull

    gradient, kernels = _switch(choice, [run(b) for b in self._branches(site)], gradient, z, affine, _kernels(weights))
    return gradient, {**kernels, **norm}

  def _stage(self, site, z, affine, weights, running, choice, count, limit, inputs, training):
    """The body layers of a stage. Kept for the way back: each layer's input with its affine form, and the moments."""
    inputs = _put(inputs, 0, z)
    affines = _put(jnp.zeros((len(inputs), *affine.shape)), 0, affine)
    moments = jax.tree.map(jnp.zeros_like, running)

    def layer(i, carry):
      z, affine, inputs, affines, moments, running = carry
      own, before = _at(weights, i), _at(running, i)
      new = self._forward(site, z, affine, own, choice[i])
      new_affine, new_moments, after = self._norm(own, before, new, training)
      z, affine, after = self._where(i < count, (new, new_affine, after), (z, affine, before))
      moments, running = (jax.tree.map(lambda stack, x: _put(stack, i, x), *pair)
                          for pair in ((moments, new_moments), (running, after)))
      return z, affine, _put(inputs, i + 1, z), _put(affines, i + 1, affine), moments, running

    carry = z, affine, inputs, affines, moments, running
    z, affine, inputs, affines, moments, running = jax.lax.fori_loop(0, limit, layer, carry)
    return z, affine, (inputs, affines, moments), running

  def _stage_backward(self, site, gradient, kept, weights, choice, count, limit):
    inputs, affines, moments = kept

    def layer(step, carry):
      i = limit - 1 - step
      gradient, gradients = carry
      new, own = self._backward(
          site, gradient, _at(inputs, i + 1), _at(moments, i), _at(inputs, i), _at(affines, i), _at(weights, i), choice[i])
      gradient, own = self._where(i < count, (new, own), (gradient, jax.tree.map(jnp.zeros_like, own)))
      return gradient, jax.tree.map(lambda stack, x: _put(stack, i, x), gradients, own)

    return jax.lax.fori_loop(0, limit, layer, (gradient, jax.tree.map(jnp.zeros_like, weights)))

  def _where(self, active, new, old):
    """The new values, where the loop may have run past the candidate's own layers only if it has not."""
    return jax.tree.map(lambda a, b: jnp.where(active, a, b), new, old) if self.masked else new

  def _count(self, z):
    return z[0].size * (1 if self.axis is None else jax.lax.axis_size(self.axis))

  def _total(self, tree):
    return tree if self.axis is None else jax.lax.psum(tree, self.axis)

  def _norm(self, weights, running, z, training):
    """Batch norm over (H, W, B): its affine form [2, C], the batch's moments, the statistics after it. z is [C, H, W, B]."""
    wide = z.astype(jnp.float32)
    total, squares = self._total(sums(wide, wide * wide))
    mean = total / self._count(z)
    moments = {'mean': mean, 'var': jnp.maximum(squares / self._count(z) - mean * mean, 0)}
    moved = jax.tree.map(lambda a, b: MOMENTUM * a + (1 - MOMENTUM) * b, running, moments)
    used, after = (jax.tree.map(lambda a, b: jnp.where(training, a, b), new, running) for new in (moments, moved))
    scale = weights['scale'] * jax.lax.rsqrt(used['var'] + EPSILON)
    return jnp.stack([scale, weights['bias'] - used['mean'] * scale]), moments, after

  def _norm_backward(self, weights, z, moments, gradient):
    """The gradients to z, and to scale and bias (this device's part of them)."""
    inverse = jax.lax.rsqrt(moments['var'] + EPSILON)
    wide = gradient.astype(jnp.float32)
    normalised = (z.astype(jnp.float32) - column(moments['mean'])) * column(inverse)
    scale, bias = sums(wide * normalised, wide)
    of_all = [column(x / self._count(z)) for x in self._total([scale, bias])]
    to_z = column(weights['scale'] * inverse) * (wide - of_all[1] - normalised * of_all[0])
    return barrier(to_z.astype(self.dtype)), {'scale': scale, 'bias': bias}

  def _loss(self, logits, labels):
    """Cross entropy, this device's part of the mean, and its gradient to the logits [classes, B]."""
    batch = len(labels) * (1 if self.axis is None else jax.lax.axis_size(self.axis))
    log_likelihood = jax.nn.log_softmax(logits, axis=0)
    one_hot = labels == jnp.arange(len(logits))[:, None]
    return -jnp.where(one_hot, log_likelihood, 0).sum() / batch, (jnp.exp(log_likelihood) - one_hot) / batch


def scratch_of(forward: Forward) -> dict[str, jax.Array]:
  """The memory that a forward pass was given, for the next."""
  return {site: forward.kept[site][0] for site in BODIES}


def _placed(architecture: ChainArchitecture) -> Iterator[tuple[str, Any, Layer]]:
  """Each layer with its site and its index there (() where the site holds one)."""
  doubles = architecture.depth // 3, 2 * architecture.depth // 3
  starts = {ENTRY: 0, BODY1: 1, DOUBLE1: doubles[0], BODY2: doubles[0] + 1, DOUBLE2: doubles[1], BODY3: doubles[1] + 1}
  for i, layer in enumerate(architecture.layers()):
    site = [s for s in SITES if starts[s] <= i][-1] if i not in doubles else (DOUBLE1, DOUBLE2)[doubles.index(i)]
    yield site, (i - starts[site] if site in BODIES else ()), layer


def _counts(architecture: ChainArchitecture) -> tuple[int, int, int]:
  first, second = architecture.depth // 3, 2 * architecture.depth // 3
  return first - 1, second - first - 1, architecture.depth - second - 1


def _stack(site, capacity) -> tuple[int, ...]:
  """The leading axes of a site's arrays."""
  return (capacity.bodies[BODIES.index(site)],) if site in BODIES else ()


def _empty(architecture, params, capacity) -> tuple[Weights, Weights]:
  """Zeros of the packed shapes."""
  def zeros(*shape):
    return np.zeros(shape, np.float32)

  stem, classes = params['stem']['kernel'].shape, params['head']['kernel'].shape[1]
  packed = {
      'stem': {'kernel': zeros(*stem[:2], 2 * capacity.width, stem[2])},
      'stem_norm': {'scale': zeros(2 * capacity.width), 'bias': zeros(2 * capacity.width)},
      'head': {'kernel': zeros(4 * capacity.width, classes), 'bias': zeros(classes)},
  }
  stats = {'stem_norm': {'mean': zeros(2 * capacity.width), 'var': zeros(2 * capacity.width)}}
  operations = {operation for operation, _ in capacity.branches}
  for site in SITES:
    stack, (inputs, outputs), size = _stack(site, capacity), capacity.channels(site), capacity.kernel
    packed[site] = {'scale': zeros(*stack, outputs), 'bias': zeros(*stack, outputs)}
    if SEPARABLE in operations:
      packed[site]['depthwise'] = zeros(*stack, size, size, inputs)
      packed[site]['pointwise'] = zeros(*stack, outputs, inputs)
    if operations - {SEPARABLE}:
      packed[site]['convolution'] = zeros(*stack, size, size, outputs, inputs)
    stats[site] = {'mean': zeros(*stack, outputs), 'var': zeros(*stack, outputs)}
  return packed, stats


def _copy(architecture, params, stats, packed, packed_stats, *, into_packed):
  """Copies all weights one way or the other, each to the corner (channels) and centre (kernels) of its padded place."""
  def copy(small, large, axes, *, taps=0):
    """`axes`: the module's order in the packed one; `taps`: leading axes that are kernels."""
    view = small.transpose(axes)
    starts = [(big - n) // 2 if axis < taps else 0 for axis, (big, n) in enumerate(zip(large.shape, view.shape, strict=True))]
    place = large[tuple(slice(start, start + n) for start, n in zip(starts, view.shape, strict=True))]
    if into_packed:
      place[...] = view
    else:
      view[...] = place

  def vectors(small, large):
    for name in small:
      copy(small[name], large[name], (0,))

  copy(params['stem']['kernel'], packed['stem']['kernel'], (0, 1, 3, 2))
  copy(params['head']['kernel'], packed['head']['kernel'], (0, 1))
  copy(params['head']['bias'], packed['head']['bias'], (0,))
  vectors(params['stem_norm'], packed['stem_norm'])
  vectors(stats['stem_norm'], packed_stats['stem_norm'])
  for i, (site, index, layer) in enumerate(_placed(architecture)):
    own, place = params['layers'][i], {name: x[index] if index != () else x for name, x in packed[site].items()}
    vectors(own['norm'], {name: place[name] for name in own['norm']})
    vectors(stats['layers'][i]['norm'], {name: x[index] if index != () else x for name, x in packed_stats[site].items()})
    if layer.operation == SEPARABLE:
      copy(own['depthwise']['kernel'][:, :, 0], place['depthwise'], (0, 1, 2), taps=2)
      copy(own['pointwise']['kernel'][0, 0], place['pointwise'], (1, 0))
    else:
      copy(own['conv']['kernel'], place['convolution'], (0, 1, 3, 2), taps=2)


def _planes(images, dtype):
  """[B, H, W, C] to [C, H, W, B]."""
  return barrier(images.transpose(3, 1, 2, 0).astype(dtype))


def _head(weights, pooled):
  return weights['kernel'].T @ pooled + weights['bias'][:, None]


def _apply(affine, z):
  return (z.astype(jnp.float32) * column(affine[0]) + column(affine[1])).astype(z.dtype)


def _kernels(weights):
  return {name: x for name, x in weights.items() if name not in ('scale', 'bias')}


def _centre(kernel, margin):
  return kernel[margin:len(kernel) - margin, margin:len(kernel) - margin]


def _switch(choice, branches, *operands):
  return branches[0](*operands) if len(branches) == 1 else jax.lax.switch(choice, branches, *operands)


def _at(tree, index):
  return jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, index, 0, keepdims=False), tree)


def _put(stack, index, x):
  return jax.lax.dynamic_update_index_in_dim(stack, x.astype(stack.dtype), index, 0)

"""Chains of any depth, width, operations and kernels as one program: what differs between them is data.

A stage's body layers have one shape, so a stage is one layer under a loop over stacked weights, as long as the candidate's
own. A narrower candidate is padded with channels of zeros, which stay zeros: their weights get no gradient, and batch norm
maps them to zero. A layer's operation and kernel select a branch. So training is that of the plain module
(networks/chain.py), padding or not, and the time to compile does not grow with depth.

The gradient is written by hand: a loop of unknown length has no automatic one, and only each layer's output is kept.

Letters of shapes: C and D channels in and out, H and W height and width, B images, L layers of a stage. A layer's batch norm is
kept as its affine form [2, C]: a factor and a summand a channel.
"""
from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from enas_jax.families.chain import weights as weights_
from enas_jax.families.chain.weights import BODIES, DOUBLE1, DOUBLE2, SITES, Capacity, Plan, Weights
from enas_jax.families import channels
from enas_jax.families.channels import Layer
from enas_jax.families.loops import at, put, switch
from enas_jax.families.planes import Planes, barrier, column, convolution, depthwise, pointwise, sums
from enas_jax.networks.layers import EPSILON, MOMENTUM
from enas_jax.spaces.chain import MIN_DEPTH, SEPARABLE, ChainArchitecture
from enas_jax.types import Task


class Forward(NamedTuple):
  """What a forward pass leaves.

  Attributes:
    logits: the head's outputs.
    stats: the batch norms' statistics after it.
    pooled: what the head saw.
    kept: by site, what the way back needs.
  """

  logits: Float[Array, 'classes B']
  stats: Weights
  pooled: Float[Array, 'C B']
  kept: dict[str, Any]

  @property
  def scratch(self) -> dict[str, jax.Array]:
    """The memory that the pass was given, for the next."""
    return {site: self.kept[site][0] for site in SITES}


@dataclasses.dataclass(frozen=True)
class StackedChain:
  """The functions of one capacity, on weights as `weights.pack` gives them.

  Attributes:
    capacity: what the program holds.
    dtype: of planes and products; weights and sums are float32.
    lowering: the form of the convolutions, one of `planes.LOWERINGS`.
    masked: whether loops may run past a candidate's own layers, as under vmap; what comes after these is then masked out.
    axis: name of the mapped axis over which the images of a batch are spread; None: they are all here.
  """

  capacity: Capacity
  dtype: Any = jnp.float32
  lowering: str = 'shifts'
  masked: bool = False
  axis: str | None = None

  def example(self) -> ChainArchitecture:
    """Returns the smallest chain that the capacity holds."""
    operation, kernel = self.capacity.branches[0]
    return ChainArchitecture.uniform(MIN_DEPTH, 1, operation, kernel)

  def initial(self, architecture: ChainArchitecture, task: Task, rng: np.random.Generator) -> tuple[Weights, Weights]:
    """Draws fresh packed weights and statistics, on the host."""
    return weights_.pack(architecture, *weights_.initial(architecture, task, rng), self.capacity)

  def pack(self, architecture: ChainArchitecture, params: Weights, stats: Weights) -> tuple[Weights, Weights]:
    """Returns the weights and statistics of the plain module in packed form."""
    return weights_.pack(architecture, params, stats, self.capacity)

  def unpack(self, architecture: ChainArchitecture, params: Weights, stats: Weights, task: Task) -> tuple[Weights, Weights]:
    """Returns packed weights and statistics as those of the plain module."""
    return weights_.unpack(architecture, params, stats, task)

  def plan(self, architecture: ChainArchitecture) -> Plan:
    """Returns the chain as data."""
    return weights_.plan(architecture, self.capacity)

  def limits(self, plan: Plan) -> Int[Array, ' 3']:
    """Returns the body layers of each stage."""
    return plan.counts

  def scratch(self, shape: tuple[int, ...]) -> dict[str, jax.Array]:
    """Returns memory for the inputs of every body layer, for images [B, H, W, C] of this shape.

    It is handed from step to step: made anew in each it would be filled with zeros each time, which takes a fifth of a step.
    """
    batch, height, width, _ = shape
    planes: dict[str, Any] = {}
    for site in SITES:
      inputs, stride = self.capacity.channels(site)[0], _stride(site)
      whole, (height, width) = (height, width), (-(-height // stride), -(-width // stride))
      between = jnp.zeros((inputs, height, width, batch), self.dtype) if self._by_channels_alone else None
      if site in BODIES:
        most = self.capacity.bodies[BODIES.index(site)]
        planes[site] = jnp.zeros((most + 1, inputs, *whole, batch), self.dtype), between
      else:
        planes[site] = between
    return planes

  def forward(self, params: Weights, stats: Weights, candidate: Plan, limits: Int[Array, ' 3'], images: Float[Array, 'B H W C'],
              scratch: dict[str, jax.Array], training: jax.Array | bool) -> Forward:
    """Runs images through the network: with the batch's own statistics in training, else with the running ones.

    Which of the two is data, so that a program holds the layers once for both.
    """
    z = self._stem(_planes(images, self.dtype), params['stem'])
    affine, moments, stem_stats = self._norm(params['stem_norm'], stats['stem_norm'], self._sums(z), training)
    kept: dict[str, Any] = {'stem': (z, moments)}
    new_stats = {'stem_norm': stem_stats}
    for site in SITES:
      weights, running, choice = params[site], stats[site], candidate.choices[site]
      if site in BODIES:
        stage = BODIES.index(site)
        z, affine, kept[site], new_stats[site] = self._stage(
            site, z, affine, weights, running, choice, candidate.counts[stage], limits[stage], scratch[site], training)
      else:
        before = Layer(z[None], jnp.int32(0), affine)
        z, between = self._forward(site, before, weights, choice, scratch[site])
        affine, moments, new_stats[site] = self._norm(weights, running, self._sums(z), training)
        kept[site] = between, before, z, moments
    pooled = z.astype(jnp.float32).mean((1, 2)) * affine[0][:, None] + affine[1][:, None]
    kept['head'] = z.shape
    return Forward(_head(params['head'], pooled), new_stats, pooled, kept)

  def backward(self, params: Weights, candidate: Plan, limits: Int[Array, ' 3'], images: Float[Array, 'B H W C'],
               labels: Int[Array, ' B'], forward: Forward) -> tuple[Float[Array, ''], Weights]:
    """Returns the mean loss and the gradients of a batch whose forward pass was one of training.

    With an `axis`, B is this device's part of the batch.
    """
    loss, to_logits = self._loss(forward.logits, labels)
    gradients: Weights = {}
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
        between, before, after, moments = forward.kept[site]
        gradient, gradients[site], _ = self._backward(site, gradient, (after[None], jnp.int32(0)), moments, before, weights, choice, between)
    z, moments = forward.kept['stem']
    gradient, gradients['stem_norm'] = self._norm_backward(params['stem_norm'], z[None], jnp.int32(0), moments, gradient)
    gradients['stem'] = jax.vjp(functools.partial(self._stem, _planes(images, self.dtype)), params['stem'])[1](gradient)[0]
    return self._total(loss), self._total(gradients)

  def correct(self, forward: Forward, labels: Int[Array, ' B']) -> Int[Array, '']:
    """Returns the number of right answers, on all devices."""
    return self._total((forward.logits.argmax(0) == labels).sum())

  def _stem(self, inputs: Planes, weights: Weights) -> Float[Array, 'D H W B']:
    return barrier(convolution(inputs, weights['kernel'].astype(self.dtype), 1, self.lowering))

  @property
  def _by_channels(self) -> bool:
    """Whether separable layers go channel by channel."""
    return self.lowering == 'shifts' and not self.masked and self.axis is None and jax.default_backend() == 'cpu'

  @property
  def _by_channels_alone(self) -> bool:
    """Whether all layers do, so that memory can be handed on."""
    return self._by_channels and len(self.capacity.branches) == 1 and self.capacity.branches[0][0] == SEPARABLE

  def _kernels_of(self, size: int, kernels: Weights) -> Weights:
    """Returns a layer's kernels in the type of the planes, cut to a branch's size."""
    margin = (self.capacity.kernel - size) // 2
    inner = slice(margin, margin + size)
    kernels = jax.tree.map(lambda x: x.astype(self.dtype), kernels)
    return {name: x if name == 'pointwise' else x[inner, inner] for name, x in kernels.items()}

  def _branch(self, site: str, operation: int, size: int) -> Callable[[Planes, Weights], Float[Array, 'D h w B']]:
    """Returns what a layer does between ReLU and batch norm, by one of the capacity's branches."""
    stride = _stride(site)

    def branch(planes: Planes, kernels: Weights) -> Float[Array, 'D h w B']:
      kernels = self._kernels_of(size, kernels)
      if operation == SEPARABLE:
        return barrier(pointwise(depthwise(planes, kernels['depthwise'], stride, self.lowering), kernels['pointwise']))
      return barrier(convolution(planes, kernels['convolution'], stride, self.lowering))

    return branch

  def _forward(self, site: str, before: Layer, weights: Weights, choice: Int[Array, ''],
               memory: Any) -> tuple[Float[Array, 'D h w B'], Any]:
    """Applies ReLU to the normalised input, and the layer's operation. Returns also what is between, in the memory."""
    def run(operation: int, size: int) -> Callable[..., Any]:
      def by_channels(before: Layer, kernels: Weights, memory: Any) -> Any:
        kernels = self._kernels_of(size, kernels)
        between = channels.depthwise(before, kernels['depthwise'], _stride(site), memory)
        return barrier(pointwise(between, kernels['pointwise'])), None if memory is None else between

      def whole(before: Layer, kernels: Weights, memory: Any) -> Any:
        return self._branch(site, operation, size)(jnp.maximum(before.planes(), 0), kernels), memory

      return by_channels if operation == SEPARABLE and self._by_channels else whole

    return switch(choice, [run(*b) for b in self.capacity.branches], before, _kernels(weights), memory)

  def _backward(self, site: str, gradient: Float[Array, 'D h w B'], after: tuple[jax.Array, Any], moments: Weights,
                before: Layer, weights: Weights, choice: Int[Array, ''], memory: Any) -> tuple[Planes, Weights, Any]:
    """Takes the gradient of a layer's normalised output to that of its normalised input, and of its weights."""
    gradient, norm = self._norm_backward(weights, *after, moments, gradient)

    def run(operation: int, size: int) -> Callable[..., Any]:
      def by_channels(gradient: jax.Array, before: Layer, kernels: Weights, memory: Any) -> Any:
        kernels, to_all = jax.vjp(functools.partial(self._kernels_of, size), kernels)
        between = memory
        if memory is None or site in BODIES:
          between = channels.depthwise(before, kernels['depthwise'], _stride(site), memory)
        to_between, to_pointwise = jax.vjp(pointwise, between, kernels['pointwise'])[1](gradient)
        gradient, to_between, to_pointwise = barrier((gradient, to_between, to_pointwise))
        free = [x for x in (gradient, to_between) if x.shape == before.shape]
        gradient, to_depthwise = channels.depthwise_backward(
            before, kernels['depthwise'], _stride(site), to_between, free[0] if free else None)
        own = {'depthwise': to_depthwise, 'pointwise': to_pointwise}
        kernels = to_all({name: own.get(name, jnp.zeros_like(x)) for name, x in kernels.items()})[0]
        return gradient, kernels, None if memory is None else between

      def pull(gradient: jax.Array, before: Layer, kernels: Weights, memory: Any) -> Any:
        y = before.planes()
        to_planes, to_kernels = jax.vjp(self._branch(site, operation, size), jnp.maximum(y, 0), kernels)[1](gradient)
        return barrier(jnp.where(y > 0, to_planes, 0)), to_kernels, memory

      return by_channels if operation == SEPARABLE and self._by_channels else pull

    gradient, kernels, memory = switch(
        choice, [run(*b) for b in self.capacity.branches], gradient, before, _kernels(weights), memory)
    return gradient, {**kernels, **norm}, memory

  def _stage(self, site: str, z: Planes, affine: Float[Array, '2 C'], weights: Weights, running: Weights,
             choice: Int[Array, ' L'], count: Int[Array, ''], limit: Int[Array, ''], scratch: Any,
             training: jax.Array | bool) -> tuple[Planes, Float[Array, '2 C'], Any, Weights]:
    """Runs the body layers of a stage. Kept for the way back: each layer's input with its affine form, and the moments."""
    inputs, between = scratch
    inputs = put(inputs, 0, z)
    affines = put(jnp.zeros((len(inputs), *affine.shape)), 0, affine)
    moments = jax.tree.map(jnp.zeros_like, running)

    def layer(i: jax.Array, carry: Any) -> Any:
      z, affine, inputs, affines, moments, running, between = carry
      own, before = at(weights, i), at(running, i)
      new, between = self._forward(site, Layer(inputs, i, affine), own, choice[i], between)
      inputs, totals = self._keep(inputs, i + 1, new)
      new_affine, new_moments, after = self._norm(own, before, totals, training)
      z, affine, after = self._where(i < count, (new, new_affine, after), (z, affine, before))
      moments, running = (jax.tree.map(lambda stack, x: put(stack, i, x), *pair)
                          for pair in ((moments, new_moments), (running, after)))
      return z, affine, inputs, put(affines, i + 1, affine), moments, running, between

    carry = z, affine, inputs, affines, moments, running, between
    z, affine, inputs, affines, moments, running, between = jax.lax.fori_loop(0, limit, layer, carry)
    return z, affine, ((inputs, between), affines, moments), running

  def _stage_backward(self, site: str, gradient: Planes, kept: Any, weights: Weights, choice: Int[Array, ' L'],
                      count: Int[Array, ''], limit: Int[Array, '']) -> tuple[Planes, Weights]:
    (inputs, between), affines, moments = kept

    def layer(step: jax.Array, carry: Any) -> Any:
      i = limit - 1 - step
      gradient, gradients, between = carry
      new, own, between = self._backward(
          site, gradient, (inputs, i + 1), at(moments, i), Layer(inputs, i, at(affines, i)), at(weights, i), choice[i],
          between)
      gradient, own = self._where(i < count, (new, own), (gradient, jax.tree.map(jnp.zeros_like, own)))
      return gradient, jax.tree.map(lambda stack, x: put(stack, i, x), gradients, own), between

    carry = gradient, jax.tree.map(jnp.zeros_like, weights), jax.tree.map(jnp.zeros_like, between)
    return jax.lax.fori_loop(0, limit, layer, carry)[:2]

  def _where(self, active: jax.Array, new: Any, old: Any) -> Any:
    """Returns `new` while this is one of the candidate's own layers, else `old`.

    That is only needed under vmap, where the loop runs to the deepest candidate's end.
    """
    return jax.tree.map(lambda a, b: jnp.where(active, a, b), new, old) if self.masked else new

  def _count(self, z: Planes) -> int:
    return z[0].size * (1 if self.axis is None else jax.lax.axis_size(self.axis))

  def _total(self, tree: Any) -> Any:
    return tree if self.axis is None else jax.lax.psum(tree, self.axis)

  def _keep(self, inputs: Float[Array, 'L1 C H W B'], index: jax.Array, z: Planes) -> tuple[Float[Array, 'L1 C H W B'], Any]:
    """Puts a layer's output among the inputs. Returns its sums as well."""
    if not self._by_channels:
      return put(inputs, index, z), self._sums(z)
    inputs, total, squares = channels.keep(inputs, index, z)
    return inputs, (total, squares, self._count(z))

  def _sums(self, z: Planes) -> tuple[Float[Array, ' C'], Float[Array, ' C'], int]:
    """Sums each channel and its squares, on all devices. Returns also of how many numbers."""
    wide = z.astype(jnp.float32)
    total, squares = self._total(sums(wide, wide * wide))
    return total, squares, self._count(z)

  def _norm(self, weights: Weights, running: Weights, totals: tuple[jax.Array, jax.Array, int],
            training: jax.Array | bool) -> tuple[Float[Array, '2 C'], Weights, Weights]:
    """Computes batch norm over (H, W, B): its affine form, the batch's moments, the statistics after it."""
    total, squares, count = totals
    mean = total / count
    moments = {'mean': mean, 'var': jnp.maximum(squares / count - mean * mean, 0)}
    moved = jax.tree.map(lambda a, b: MOMENTUM * a + (1 - MOMENTUM) * b, running, moments)
    used, after = (jax.tree.map(lambda a, b: jnp.where(training, a, b), new, running) for new in (moments, moved))
    scale = weights['scale'] * jax.lax.rsqrt(used['var'] + EPSILON)
    return jnp.stack([scale, weights['bias'] - used['mean'] * scale]), moments, after

  def _norm_backward(self, weights: Weights, stack: Float[Array, 'L C H W B'], index: Any, moments: Weights,
                     gradient: Planes) -> tuple[Planes, Weights]:
    """Returns the gradients to the norm's inputs, a layer of the stack, and to scale and bias (this device's part of them)."""
    inverse = jax.lax.rsqrt(moments['var'] + EPSILON)
    if self._by_channels:
      gradient, scale, bias = channels.norm_backward(gradient, stack, index, moments['mean'], inverse, weights['scale'])
      return gradient, {'scale': scale, 'bias': bias}
    z = jax.lax.dynamic_index_in_dim(stack, index, 0, keepdims=False)
    wide = gradient.astype(jnp.float32)
    normalised = (z.astype(jnp.float32) - column(moments['mean'])) * column(inverse)
    scale, bias = sums(wide * normalised, wide)
    of_all = [column(x / self._count(z)) for x in self._total([scale, bias])]
    to_z = column(weights['scale'] * inverse) * (wide - of_all[1] - normalised * of_all[0])
    return barrier(to_z.astype(self.dtype)), {'scale': scale, 'bias': bias}

  def _loss(self, logits: Float[Array, 'classes B'],
            labels: Int[Array, ' B']) -> tuple[Float[Array, ''], Float[Array, 'classes B']]:
    """Returns the cross entropy, this device's part of the mean, and its gradient to the logits."""
    batch = len(labels) * (1 if self.axis is None else jax.lax.axis_size(self.axis))
    log_likelihood = jax.nn.log_softmax(logits, axis=0)
    one_hot = labels == jnp.arange(len(logits))[:, None]
    return -jnp.where(one_hot, log_likelihood, 0).sum() / batch, (jnp.exp(log_likelihood) - one_hot) / batch


def _planes(images: Float[Array, 'B H W C'], dtype: Any) -> Planes:
  """Returns images as planes."""
  return barrier(images.transpose(3, 1, 2, 0).astype(dtype))


def _head(weights: Weights, pooled: Float[Array, 'C B']) -> Float[Array, 'classes B']:
  return weights['kernel'].T @ pooled + weights['bias'][:, None]


def _stride(site: str) -> int:
  return 2 if site in (DOUBLE1, DOUBLE2) else 1


def _kernels(weights: Weights) -> Weights:
  return {name: x for name, x in weights.items() if name not in ('scale', 'bias')}

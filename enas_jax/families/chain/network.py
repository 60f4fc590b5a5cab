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
from enas_jax.families.chain.weights import BODIES, SITES, Capacity, Plan, Weights, stride
from enas_jax.families.convolution import convolution
from enas_jax.families.loops import at, put, switch
from enas_jax.families.norm import BatchNorm, apply
from enas_jax.families.planes import Planes, barrier, depthwise, pointwise
from enas_jax.spaces.chain import MIN_DEPTH, SEPARABLE, ChainArchitecture
from enas_jax.training.family import Mode
from enas_jax.training.loss import count
from enas_jax.types import Task


class Forward(NamedTuple):
  """What a forward pass leaves.

  Attributes:
    logits: the head's outputs.
    stats: the batch norms' statistics after it.
    pooled: what the head saw.
    kept: by site, what the way back needs.
    scratch: the memory that the pass was given, for the next.
  """

  logits: Float[Array, 'classes B']
  stats: Weights
  pooled: Float[Array, 'C B']
  kept: dict[str, Any]
  scratch: dict[str, Any]


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
    planes = {}
    for site in BODIES:
      channels, most = self.capacity.channels(site)[0], self.capacity.bodies[BODIES.index(site)]
      planes[site] = jnp.zeros((most + 1, channels, height, width, batch), self.dtype)
      height, width = -(-height // 2), -(-width // 2)
    return planes

  def forward(self, params: Weights, stats: Weights, candidate: Plan, limits: Int[Array, ' 3'], images: Float[Array, 'B H W C'],
              scratch: dict[str, jax.Array], mode: Mode) -> Forward:
    """Runs images through the network: with the batch's own statistics in training, else with the running ones.

    Which of the two is data, so that a program holds the layers once for both.
    """
    training = mode.training
    z = self._stem(to_planes(images, self.dtype), params['stem'])
    affine, moments, stem_stats = self._norm.affine(params['stem_norm'], stats['stem_norm'], z, training)
    kept: dict[str, Any] = {'stem': (z, moments)}
    new_stats = {'stem_norm': stem_stats}
    for site in SITES:
      weights, running, choice = params[site], stats[site], candidate.choices[site]
      if site in BODIES:
        stage = BODIES.index(site)
        z, affine, kept[site], new_stats[site] = self._stage(
            site, z, affine, weights, running, choice, candidate.counts[stage], limits[stage], scratch[site], training)
      else:
        before = z, affine
        z = self._forward(site, z, affine, weights, choice)
        affine, moments, new_stats[site] = self._norm.affine(weights, running, z, training)
        kept[site] = before, z, moments
    pooled = z.astype(jnp.float32).mean((1, 2)) * affine[0][:, None] + affine[1][:, None]
    kept['head'] = z.shape
    memory = {site: kept[site][0] for site in BODIES}
    return Forward(head(params['head'], pooled), new_stats, pooled, kept, memory)

  def backward(self, params: Weights, candidate: Plan, limits: Int[Array, ' 3'], images: Float[Array, 'B H W C'],
               labels: Int[Array, ' B'], forward: Forward, smoothing: float = 0.0,
               weights: Float[Array, ' B'] | None = None) -> tuple[Float[Array, ''], Weights]:
    """Returns the mean loss and the gradients of a batch whose forward pass was one of training.

    With an `axis`, B is this device's part of the batch.
    """
    loss, to_logits = self._loss(forward.logits, labels, smoothing, weights)
    gradients: Weights = {}
    gradients['head'], to_pooled = jax.vjp(head, params['head'], forward.pooled)[1](to_logits)
    shape = forward.kept['head']
    gradient = jnp.broadcast_to((to_pooled / (shape[1] * shape[2]))[:, None, None, :], shape).astype(self.dtype)
    for site in reversed(SITES):
      layer_weights, choice = params[site], candidate.choices[site]
      if site in BODIES:
        stage = BODIES.index(site)
        gradient, gradients[site] = self._stage_backward(
            site, gradient, forward.kept[site], layer_weights, choice, candidate.counts[stage], limits[stage])
      else:
        (z, affine), after, moments = forward.kept[site]
        gradient, gradients[site] = self._backward(site, gradient, after, moments, z, affine, layer_weights, choice)
    z, moments = forward.kept['stem']
    gradient, gradients['stem_norm'] = self._norm.pull(params['stem_norm'], z, moments, gradient)
    gradients['stem'] = jax.vjp(functools.partial(self._stem, to_planes(images, self.dtype)), params['stem'])[1](gradient)[0]
    return self._norm.total(loss), self._norm.total(gradients)

  def correct(self, forward: Forward, labels: Int[Array, ' B'], weights: Float[Array, ' B'] | None = None) -> Array:
    """Returns the number of right answers, or the sum of their weights, on all devices."""
    return self._norm.total(count(forward.logits.argmax(0) == labels, weights))

  def _stem(self, inputs: Planes, weights: Weights) -> Float[Array, 'D H W B']:
    return barrier(convolution(inputs, weights['kernel'].astype(self.dtype), 1, self.lowering, masked=self.masked))

  def _branches(self, site: str) -> list[Callable[[Planes, Weights], jax.Array]]:
    """Returns what a layer may do between ReLU and batch norm: a function for each of the capacity's branches."""
    return [functools.partial(self._branch, site, operation, size) for operation, size in self.capacity.branches]

  def _branch(self, site: str, operation: int, size: int, planes: Planes, kernels: Weights) -> Float[Array, 'D h w B']:
    kernels = self._cut(size, kernels)
    if operation == SEPARABLE:
      return barrier(pointwise(depthwise(planes, kernels['depthwise'], stride(site), self.lowering), kernels['pointwise']))
    return barrier(convolution(planes, kernels['convolution'], stride(site), self.lowering, masked=self.masked))

  def _cut(self, size: int, kernels: Weights) -> Weights:
    """Returns a layer's kernels in the type of the planes, cut to a branch's size."""
    margin = (self.capacity.kernel - size) // 2
    inner = slice(margin, margin + size)
    kernels = jax.tree.map(lambda x: x.astype(self.dtype), kernels)
    return {name: x if name == 'pointwise' else x[inner, inner] for name, x in kernels.items()}

  def _forward(self, site: str, z: Planes, affine: Float[Array, '2 C'], weights: Weights,
               choice: Int[Array, '']) -> Float[Array, 'D h w B']:
    """Applies ReLU to the normalised input, and the layer's operation."""
    def run(branch: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
      return lambda z, affine, kernels: branch(jnp.maximum(apply(affine, z), 0), kernels)

    return switch(choice, [run(b) for b in self._branches(site)], z, affine, kernels_of(weights))

  def _backward(self, site: str, gradient: Float[Array, 'D h w B'], after: Float[Array, 'D h w B'], moments: Weights, z: Planes,
                affine: Float[Array, '2 C'], weights: Weights, choice: Int[Array, '']) -> tuple[Planes, Weights]:
    """Takes the gradient of a layer's normalised output to that of its normalised input, and of its weights."""
    gradient, norm = self._norm.pull(weights, after, moments, gradient)

    def run(branch: Callable[..., jax.Array]) -> Callable[..., tuple[jax.Array, Weights]]:
      def pull(gradient: jax.Array, z: jax.Array, affine: jax.Array, kernels: Weights) -> tuple[jax.Array, Weights]:
        y = apply(affine, z)
        to_planes, to_kernels = jax.vjp(branch, jnp.maximum(y, 0), kernels)[1](gradient)
        return barrier(jnp.where(y > 0, to_planes, 0)), to_kernels
      return pull

    gradient, kernels = switch(choice, [run(b) for b in self._branches(site)], gradient, z, affine, kernels_of(weights))
    return gradient, {**kernels, **norm}

  def _stage(self, site: str, z: Planes, affine: Float[Array, '2 C'], weights: Weights, running: Weights,
             choice: Int[Array, ' L'], count: Int[Array, ''], limit: Int[Array, ''], inputs: Float[Array, 'L1 C H W B'],
             training: jax.Array | bool) -> tuple[Planes, Float[Array, '2 C'], Any, Weights]:
    """Runs the body layers of a stage. Kept for the way back: each layer's input with its affine form, and the moments."""
    inputs = put(inputs, 0, z)
    affines = put(jnp.zeros((len(inputs), *affine.shape)), 0, affine)
    moments = jax.tree.map(jnp.zeros_like, running)

    def layer(i: jax.Array, carry: Any) -> Any:
      z, affine, inputs, affines, moments, running = carry
      own, before = at(weights, i), at(running, i)
      new = self._forward(site, z, affine, own, choice[i])
      new_affine, new_moments, after = self._norm.affine(own, before, new, training)
      z, affine, after = self._where(i < count, (new, new_affine, after), (z, affine, before))
      moments, running = (jax.tree.map(lambda stack, x: put(stack, i, x), *pair)
                          for pair in ((moments, new_moments), (running, after)))
      return z, affine, put(inputs, i + 1, z), put(affines, i + 1, affine), moments, running

    carry = z, affine, inputs, affines, moments, running
    z, affine, inputs, affines, moments, running = jax.lax.fori_loop(0, limit, layer, carry)
    return z, affine, (inputs, affines, moments), running

  def _stage_backward(self, site: str, gradient: Planes, kept: Any, weights: Weights, choice: Int[Array, ' L'],
                      count: Int[Array, ''], limit: Int[Array, '']) -> tuple[Planes, Weights]:
    inputs, affines, moments = kept

    def layer(step: jax.Array, carry: Any) -> Any:
      i = limit - 1 - step
      gradient, gradients = carry
      new, own = self._backward(
          site, gradient, at(inputs, i + 1), at(moments, i), at(inputs, i), at(affines, i), at(weights, i), choice[i])
      gradient, own = self._where(i < count, (new, own), (gradient, jax.tree.map(jnp.zeros_like, own)))
      return gradient, jax.tree.map(lambda stack, x: put(stack, i, x), gradients, own)

    return jax.lax.fori_loop(0, limit, layer, (gradient, jax.tree.map(jnp.zeros_like, weights)))

  def _where(self, active: jax.Array, new: Any, old: Any) -> Any:
    """Returns `new` while this is one of the candidate's own layers, else `old`.

    That is only needed under vmap, where the loop runs to the deepest candidate's end.
    """
    return jax.tree.map(lambda a, b: jnp.where(active, a, b), new, old) if self.masked else new

  @property
  def _norm(self) -> BatchNorm:
    return BatchNorm(axis=self.axis)

  def _loss(self, logits: Float[Array, 'classes B'], labels: Int[Array, ' B'], smoothing: float,
            weights: Float[Array, ' B'] | None) -> tuple[Float[Array, ''], Float[Array, 'classes B']]:
    """Returns the cross entropy, this device's part of the mean, and its gradient to the logits; see training/loss.py."""
    batch = len(labels) * (1 if self.axis is None else jax.lax.axis_size(self.axis))
    log_likelihood = jax.nn.log_softmax(logits, axis=0)
    one_hot = labels == jnp.arange(len(logits))[:, None]
    if smoothing or weights is not None:
      target = (1 - smoothing) * one_hot + smoothing / len(logits)
      if weights is not None:
        return -(weights * (target * log_likelihood).sum(0)).sum() / batch, weights * (jnp.exp(log_likelihood) - target) / batch
      return -(target * log_likelihood).sum() / batch, (jnp.exp(log_likelihood) - target) / batch
    return -jnp.where(one_hot, log_likelihood, 0).sum() / batch, (jnp.exp(log_likelihood) - one_hot) / batch


def to_planes(images: Float[Array, 'B H W C'], dtype: Any) -> Planes:
  """Returns images as planes."""
  return barrier(images.transpose(3, 1, 2, 0).astype(dtype))


def head(weights: Weights, pooled: Float[Array, 'C B']) -> Float[Array, 'classes B']:
  """Returns the logits."""
  return weights['kernel'].T @ pooled + weights['bias'][:, None]


def kernels_of(weights: Weights) -> Weights:
  """Returns a layer's weights without those of its norm."""
  return {name: x for name, x in weights.items() if name not in ('scale', 'bias')}

"""The chain on a CPU where planes are large: layer by layer and channel by channel, so that a channel stays in the cache.

The arithmetic is that of network.py in another order, so results differ in rounding; hence small planes, where little is to be
gained, keep the other form. On the way back a layer takes the gradient of its own inputs before their batch norm: a channel's
depthwise convolution, ReLU and batch norm are gone through while it is in the cache.

Letters of shapes: as in network.py. A batch norm is kept as `channels.NORM` numbers a channel.
"""
from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from enas_jax.families import channels
from enas_jax.families.chain.network import Forward, StackedChain, head, kernels_of, to_planes
from enas_jax.families.chain.weights import BODIES, SITES, Plan, Weights, stride
from enas_jax.families.channels import NORM, Layer
from enas_jax.families.loops import at, put, switch
from enas_jax.families.norm import totals
from enas_jax.families.planes import Planes, barrier, product
from enas_jax.spaces.chain import SEPARABLE
from enas_jax.training.family import Mode

# From such planes of the images and such a width on. Less was not measured (benchmarks/README.md), and keeps its results to the
# last bit. The default search's planes have 100 KB.
PLANE_BYTES, LEAST_WIDTH = 2**17, 4


@dataclasses.dataclass(frozen=True)
class ChannelwiseChain(StackedChain):
  """A chain for CPUs, neither `masked` nor spread over an `axis`; lowering 'shifts'."""

  def scratch(self, shape: tuple[int, ...]) -> dict[str, Any]:
    """Returns memory for the inputs of body layers; if all layers are separable, also for what is between a layer's parts."""
    inputs = super().scratch(shape)
    if not self._large(shape):
      return inputs
    alone = len(self.capacity.branches) == 1 and self.capacity.branches[0][0] == SEPARABLE
    between = {}
    batch, height, width, _ = shape
    for site in SITES:
      height, width = -(-height // stride(site)), -(-width // stride(site))
      between[site] = jnp.zeros((self.capacity.channels(site)[0], height, width, batch), self.dtype) if alone else None
    return {'inputs': inputs, 'between': between}

  def forward(self, params: Weights, stats: Weights, candidate: Plan, limits: Int[Array, ' 3'], images: Float[Array, 'B H W C'],
              scratch: dict[str, Any], mode: Mode) -> Forward:
    """Runs images through the network, as the other form does."""
    if not self._large(images.shape):
      return super().forward(params, stats, candidate, limits, images, scratch, mode)
    z = self._stem(to_planes(images, self.dtype), params['stem'])
    norm, after = self._normed(params['stem_norm'], stats['stem_norm'], z, totals(z), mode.training)
    layer = Layer(z[None], jnp.int32(0), norm)
    kept: dict[str, Any] = {'stem': layer, 'inputs': {}, 'between': {}, 'norms': {}}
    new_stats = {'stem_norm': after}
    for site in SITES:
      weights, running, choice = params[site], stats[site], candidate.choices[site]
      if site in BODIES:
        limit = limits[BODIES.index(site)]
        inputs, norms, kept['between'][site], new_stats[site] = self._body(
            site, layer, weights, running, choice, limit, scratch['inputs'][site], scratch['between'][site], mode.training)
        kept['inputs'][site], kept['norms'][site] = inputs, norms
        layer = Layer(inputs, limit, at(norms, limit))
      else:
        kept[site] = layer
        z, kept['between'][site] = self._layer(site, layer, weights, choice, scratch['between'][site])
        norm, new_stats[site] = self._normed(weights, running, z, totals(z), mode.training)
        layer = Layer(z[None], jnp.int32(0), norm)
    pooled = layer.raw().astype(jnp.float32).mean((1, 2)) * layer.norm[0][:, None] + layer.norm[1][:, None]
    kept['head'] = layer
    memory = {name: kept[name] for name in ('inputs', 'between')}
    return Forward(head(params['head'], pooled), new_stats, pooled, kept, memory)

  def backward(self, params: Weights, candidate: Plan, limits: Int[Array, ' 3'], images: Float[Array, 'B H W C'],
               labels: Int[Array, ' B'], forward: Forward, smoothing: float = 0.0,
               weights: Float[Array, ' B'] | None = None) -> tuple[Float[Array, ''], Weights]:
    """Returns the mean loss and the gradients of a batch, as the other form does."""
    if not self._large(images.shape):
      return super().backward(params, candidate, limits, images, labels, forward, smoothing, weights)
    loss, to_logits = self._loss(forward.logits, labels, smoothing, weights)
    kept, gradients = forward.kept, {}
    gradients['head'], to_pooled = jax.vjp(head, params['head'], forward.pooled)[1](to_logits)
    layer = kept['head']
    shape = layer.shape
    gradient = jnp.broadcast_to((to_pooled / (shape[1] * shape[2]))[:, None, None, :], shape).astype(self.dtype)
    gradient, to_norm = channels.norm_backward(layer, gradient)
    for site in reversed(SITES):
      layer_weights, choice, between = params[site], candidate.choices[site], kept['between'][site]
      if site in BODIES:
        gradient, to_norm, gradients[site] = self._body_backward(
            site, gradient, to_norm, kept['inputs'][site], kept['norms'][site], layer_weights, choice,
            limits[BODIES.index(site)], between)
      else:
        own = _norm_gradients(to_norm)
        gradient, to_norm, kernels, _ = self._layer_backward(
            site, gradient, kept[site], layer_weights, choice, between, again=False)
        gradients[site] = {**kernels, **own}
    gradients['stem_norm'] = _norm_gradients(to_norm)
    stem = functools.partial(self._stem, to_planes(images, self.dtype))
    gradients['stem'] = jax.vjp(stem, params['stem'])[1](gradient)[0]
    return loss, gradients

  def _large(self, shape: tuple[int, ...]) -> bool:
    batch, height, width, _ = shape
    size = batch * height * width * jnp.dtype(self.dtype).itemsize
    separable = any(operation == SEPARABLE for operation, _ in self.capacity.branches)  # Others gain nothing.
    return separable and size >= PLANE_BYTES and self.capacity.width >= LEAST_WIDTH

  def _layer(self, site: str, before: Layer, weights: Weights, choice: Int[Array, ''],
             memory: Any) -> tuple[Float[Array, 'D h w B'], Any]:
    """Applies ReLU to the normalised input, and the layer's operation. Returns also what is between, in the memory."""
    def run(operation: int, size: int) -> Callable[..., Any]:
      def separable(before: Layer, kernels: Weights, memory: Any) -> Any:
        kernels = self._cut(size, kernels)
        between = channels.depthwise(before, kernels['depthwise'], stride(site), memory)
        return barrier(product(kernels['pointwise'], between)), None if memory is None else between

      def whole(before: Layer, kernels: Weights, memory: Any) -> Any:
        return self._branch(site, operation, size, jnp.maximum(before.planes(), 0), kernels), memory

      return separable if operation == SEPARABLE else whole

    return switch(choice, [run(*b) for b in self.capacity.branches], before, kernels_of(weights), memory)

  def _layer_backward(self, site: str, gradient: Float[Array, 'D h w B'], before: Layer, weights: Weights,
                      choice: Int[Array, ''], memory: Any, *,
                      again: bool) -> tuple[Planes, Float[Array, '2 C'], Weights, Any]:
    """Takes the gradient of a layer's output to that of its input, both before their norms, of the input's norm and kernels.

    `again`: the memory does not hold this layer's planes between its convolutions; they are computed again.
    """
    def run(operation: int, size: int) -> Callable[..., Any]:
      def separable(gradient: jax.Array, before: Layer, kernels: Weights, memory: Any) -> Any:
        kernels, to_all = jax.vjp(functools.partial(self._cut, size), kernels)
        between = memory
        if memory is None or again:
          between = channels.depthwise(before, kernels['depthwise'], stride(site), memory)
        flat = gradient.reshape(len(gradient), -1)
        to_pointwise = flat @ between.reshape(len(between), -1).T
        to_between = product(kernels['pointwise'].T, gradient)
        gradient, to_between, to_pointwise = barrier((gradient, to_between, to_pointwise))
        free = [x for x in (gradient, to_between) if x.shape == before.shape]
        gradient, to_norm, to_depthwise = channels.depthwise_backward(
            before, kernels['depthwise'], stride(site), to_between, free[0] if free else None)
        own = {'depthwise': to_depthwise, 'pointwise': to_pointwise}
        kernels = to_all({name: own.get(name, jnp.zeros_like(x)) for name, x in kernels.items()})[0]
        return gradient, to_norm, kernels, None if memory is None else between

      def whole(gradient: jax.Array, before: Layer, kernels: Weights, memory: Any) -> Any:
        y = before.planes()
        branch = functools.partial(self._branch, site, operation, size)
        to_planes, to_kernels = jax.vjp(branch, jnp.maximum(y, 0), kernels)[1](gradient)
        gradient, to_norm = channels.norm_backward(before, barrier(jnp.where(y > 0, to_planes, 0)))
        return gradient, to_norm, to_kernels, memory

      return separable if operation == SEPARABLE else whole

    return switch(choice, [run(*b) for b in self.capacity.branches], gradient, before, kernels_of(weights), memory)

  def _body(self, site: str, before: Layer, weights: Weights, running: Weights, choice: Int[Array, ' L'],
            limit: Int[Array, ''], inputs: Float[Array, 'L1 C H W B'], between: Any,
            training: jax.Array | bool) -> tuple[Any, Any, Any, Weights]:
    """Runs the body layers of a stage. Returns each one's input, the inputs' norms, what is between, the statistics."""
    inputs = put(inputs, 0, before.raw())
    norms = put(jnp.zeros((len(inputs), *before.norm.shape)), 0, before.norm)

    def layer(i: jax.Array, carry: Any) -> Any:
      inputs, norms, running, between = carry
      own = at(weights, i)
      z, between = self._layer(site, Layer(inputs, i, at(norms, i)), own, choice[i], between)
      inputs, both = channels.keep(inputs, i + 1, z)
      norm, after = self._normed(own, at(running, i), z, both, training)
      return inputs, put(norms, i + 1, norm), jax.tree.map(lambda stack, x: put(stack, i, x), running, after), between

    inputs, norms, running, between = jax.lax.fori_loop(0, limit, layer, (inputs, norms, running, between))
    return inputs, norms, between, running

  def _body_backward(self, site: str, gradient: Planes, to_norm: Float[Array, '2 C'], inputs: Float[Array, 'L1 C H W B'],
                     norms: Float[Array, 'L1 n C'], weights: Weights, choice: Int[Array, ' L'], limit: Int[Array, ''],
                     between: Any) -> tuple[Planes, Float[Array, '2 C'], Weights]:
    def layer(step: jax.Array, carry: Any) -> Any:
      i = limit - 1 - step
      gradient, to_norm, gradients, between = carry
      own = _norm_gradients(to_norm)
      before = Layer(inputs, i, at(norms, i))
      gradient, to_norm, kernels, between = self._layer_backward(
          site, gradient, before, at(weights, i), choice[i], between, again=True)
      gradients = jax.tree.map(lambda stack, x: put(stack, i, x), gradients, {**kernels, **own})
      return gradient, to_norm, gradients, between

    carry = gradient, to_norm, jax.tree.map(jnp.zeros_like, weights), between
    return jax.lax.fori_loop(0, limit, layer, carry)[:3]

  def _normed(self, weights: Weights, running: Weights, z: Planes, both: list[Float[Array, ' C']],
              training: jax.Array | bool) -> tuple[Float[Array, 'n C'], Weights]:
    """Returns a batch norm from `both` sums, of its inputs and of their squares, and its statistics after it."""
    form, moments, after = self._norm.of_sums(weights, running, both, z[0].size, training)
    inverse = jax.lax.rsqrt(moments['var'] + self._norm.epsilon)
    norm = jnp.concatenate([form, jnp.stack([moments['mean'], inverse])])
    assert len(norm) == len(NORM)
    return norm, after


def _norm_gradients(to_norm: Float[Array, '2 C']) -> Weights:
  return {'scale': to_norm[0], 'bias': to_norm[1]}

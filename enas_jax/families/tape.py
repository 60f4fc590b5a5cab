"""Cells as data: instructions that read a register of planes, transform it, and add the result to another register.

A cell network differs from another in which operation joins which nodes. As instructions (operation, source, target) that is
data: a loop over them trains every cell in one program, runs the chosen operation alone, and is as long as the cell needs.
All registers of a tape have one shape; what changes the resolution reads another tape's registers.

A loop whose length is data has no automatic gradient, so the way back is written by hand, once for all cells.

Letters of shapes: R registers, C channels, H and W height and width, B images, L instructions, N batch norms, K kernels.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from enas_jax.families.loops import at, put, switch
from enas_jax.families.norm import BatchNorm, Weights, apply
from enas_jax.families.planes import Planes

Registers = Float[Array, 'R C H W B']
Read = Float[Array, 'S h w B']  # A register that is read, of another tape perhaps.


@dataclasses.dataclass(frozen=True)
class Operation:
  """What an instruction may do.

  Attributes:
    function: a function of planes and kernels, up to where a batch norm may follow.
    kernels: the names of the kernels that it takes.
    normed: whether a batch norm follows.
    rectified: whether a ReLU follows that.
    macs: its multiply-adds for each pixel of the result, for the model of cost.
  """

  function: Callable[[Planes, Weights], Planes]
  kernels: tuple[str, ...] = ()
  normed: bool = True
  rectified: bool = False
  macs: int = 0


class Step(NamedTuple):
  """An instruction on the host.

  Attributes:
    operation: its index among the tape's operations.
    source, target: registers. A target must not have been read before.
    norm: its batch norm among the tape's, if it has one.
    kernel: its kernels' place in each stack that it takes.
    channels: only so many channels of the result are added, if the tape cuts; 0: all.
    factor: the row of `factors` that the result is multiplied by, if there are any.
  """

  operation: int
  source: int
  target: int
  norm: int = -1
  kernel: int = 0
  channels: int = 0
  factor: int = 0


class Program(NamedTuple):
  """Instructions as data, int32 [L] each but for `count`, how many there are."""

  operation: Any
  source: Any
  target: Any
  norm: Any
  kernel: Any
  channels: Any
  factor: Any
  count: Any

  @classmethod
  def of(cls, steps: Sequence[Step], length: int, norms: int) -> Program:
    """Returns instructions for a tape of this length and number of batch norms; those without one name the place after all."""
    assert len(steps) <= length, (len(steps), length)
    columns = np.zeros((len(Step._fields), length), np.int32)
    columns[Step._fields.index('norm')] = norms
    for i, step in enumerate(steps):
      columns[:, i] = step._replace(norm=norms if step.norm < 0 else step.norm)
    return cls(**dict(zip(Step._fields, columns, strict=True)), count=np.int32(len(steps)))


class _Kept(NamedTuple):
  """What the way back needs of each batch norm: its input [N + 1, C, H, W, B] and moments; the last place is for no norm."""

  inputs: Any
  moments: Any


@dataclasses.dataclass(frozen=True)
class Tape:
  """Runs instructions over registers.

  Attributes:
    operations: what they may do.
    norm: the batch norm.
    masked: whether the loop may run past a candidate's own instructions, as under vmap.
    cut: whether `Step.channels` is obeyed.
  """

  operations: tuple[Operation, ...]
  norm: BatchNorm
  masked: bool = False
  cut: bool = False

  def __call__(self, registers: Registers, weights: Weights, running: Weights, program: Program, limit: Int[Array, ''],
               training: jax.Array | bool, *, sources: Any = None,
               factors: Any = None) -> tuple[Registers, Weights]:
    """Returns the registers after all instructions, and the running statistics.

    Args:
      registers: the initial ones; zeros but for those that hold inputs.
      weights: 'scale' and 'bias' [N, C], and stacks of kernels by name [K, ...].
      running: 'mean' and 'var' [N, C].
      program: the instructions.
      limit: how many to run; at least as many as there are.
      training: whether batch norms use the batch's own moments.
      sources: registers [S, C', H', W', B] that are read instead of those written to.
      factors: rows [F, B], one of which an instruction's result is multiplied by, image by image.
    """
    @jax.custom_vjp
    def run(registers: Any, sources: Any, weights: Weights, *rest: Any) -> tuple[Any, Weights]:
      return self._forward(registers, sources, weights, *rest)[0]

    def forward(registers: Any, sources: Any, weights: Weights, running: Weights, *rest: Any) -> tuple[Any, Any]:
      out, kept = self._forward(registers, sources, weights, running, *rest)
      return out, (out[0] if sources is None else sources, weights, kept, *rest)

    def backward(residual: Any, gradients: Any) -> tuple[Any, ...]:
      to = self._backward(gradients[0], sources is None, *residual)
      return *to, None, None, None, None, None

    run.defvjp(forward, backward)
    return run(registers, sources, weights, running, program, limit, training, factors)

  def _forward(self, registers: Any, sources: Any, weights: Weights, running: Weights, program: Program, limit: Any,
               training: Any, factors: Any) -> tuple[tuple[Any, Weights], _Kept]:
    shape, norms = registers.shape[1:], len(running['mean'])
    kept = _Kept(jnp.zeros((norms + 1, *shape), registers.dtype),
                 {name: jnp.zeros((norms + 1, shape[0])) for name in ('mean', 'var')})

    def step(i: jax.Array, carry: Any) -> Any:
      registers, kept, running = carry
      now = _now(program, i)
      norm, before = at(_norms(weights), now.norm), at(running, now.norm)
      z = self._operate(now, registers if sources is None else sources, weights)

      def normed(z: Planes) -> Any:
        return self.norm.affine(norm, before, z, training)

      def plain(z: Planes) -> Any:
        zeros = jnp.zeros(len(z))
        return jnp.stack([zeros + 1, zeros]), {'mean': zeros, 'var': zeros}, before

      form, moments, after = self._choose(now, normed, plain, z)
      y = self._after(now, apply(form, z), factors)
      active = i < program.count
      if self.masked:
        y, after = jnp.where(active, y, 0), jax.tree.map(lambda a, b: jnp.where(active, a, b), after, before)
      kept = _Kept(put(kept.inputs, now.norm, z), _put(kept.moments, now.norm, moments))
      return put(registers, now.target, at(registers, now.target) + y), kept, _put(running, now.norm, after)

    registers, kept, running = jax.lax.fori_loop(0, limit, step, (registers, kept, running))
    return (registers, running), kept

  def _backward(self, gradient: Any, own: bool, sources: Any, weights: Weights, kept: _Kept, program: Program, limit: Any,
                training: Any, factors: Any) -> tuple[Any, Any, Weights]:
    """Returns the gradients of registers, sources and weights; of the sources, None if they are the registers `own`."""
    del training

    def step(j: jax.Array, carry: Any) -> Any:
      registers, others, gradients = carry
      i = limit - 1 - j
      now = _now(program, i)
      norm, moments, z = at(_norms(weights), now.norm), at(kept.moments, now.norm), at(kept.inputs, now.norm)
      y = self._after(now, at(registers, now.target), factors, before=lambda: apply(self.norm.form(norm, moments), z))

      def normed(y: Planes) -> Any:
        return self.norm.pull(norm, z, moments, y)

      def plain(y: Planes) -> Any:
        return y, jax.tree.map(jnp.zeros_like, norm)

      to_z, to_norm = self._choose(now, normed, plain, y)
      to_planes, to_kernels = self._pull(now, to_z, sources, weights)
      if self.masked:
        to_planes, to_norm, to_kernels = jax.tree.map(
            lambda x: jnp.where(i < program.count, x, 0), (to_planes, to_norm, to_kernels))
      if own:
        registers = put(registers, now.source, at(registers, now.source) + to_planes)
      else:
        others = put(others, now.source, at(others, now.source) + to_planes)
      gradients = {**_add(gradients, now.norm, to_norm), **_add(gradients, now.kernel, to_kernels)}
      return registers, others, gradients

    zeros = jax.tree.map(jnp.zeros_like, weights)
    return jax.lax.fori_loop(0, limit, step, (gradient, None if own else jnp.zeros_like(sources), zeros))

  def _operate(self, now: Program, sources: Any, weights: Weights) -> Planes:
    """Applies the chosen operation to its source."""
    def branch(operation: Operation) -> Callable[..., Planes]:
      return lambda sources, kernels: operation.function(at(sources, now.source), _own(operation, kernels, now))

    return switch(now.operation, [branch(o) for o in self.operations], sources, _kernels(weights))

  def _pull(self, now: Program, gradient: Planes, sources: Any, weights: Weights) -> tuple[Read, Weights]:
    """Takes the gradient of the chosen operation's result to that of its source and kernels; 0 for others' kernels."""
    def branch(operation: Operation) -> Callable[..., tuple[Read, Weights]]:
      def pull(gradient: Planes, sources: Any, kernels: Weights) -> tuple[Read, Weights]:
        own = _own(operation, kernels, now)
        to_planes, to_own = jax.vjp(operation.function, at(sources, now.source), own)[1](gradient)
        return to_planes, {name: to_own[name] if name in own else jnp.zeros_like(x[0]) for name, x in kernels.items()}
      return pull

    return switch(now.operation, [branch(o) for o in self.operations], gradient, sources, _kernels(weights))

  def _choose(self, now: Program, normed: Callable[[Planes], Any], plain: Callable[[Planes], Any], planes: Planes) -> Any:
    flags = [o.normed for o in self.operations]
    if all(flags):
      return normed(planes)
    return jax.lax.cond(jnp.asarray(flags)[now.operation], normed, plain, planes) if any(flags) else plain(planes)

  def _after(self, now: Program, y: Planes, factors: Any,
             before: Callable[[], Planes] | None = None) -> Planes:
    """Applies what follows the batch norm: ReLU, factors, the cut of channels.

    On the way back y is a gradient, and `before` gives what the ReLU was applied to.
    """
    flags = [o.rectified for o in self.operations]
    if any(flags):
      rectified = jnp.asarray(flags)[now.operation]
      y = jnp.where(rectified, jnp.maximum(y, 0) if before is None else jnp.where(before() > 0, y, 0), y)
    if factors is not None:
      y = y * factors[now.factor].astype(y.dtype)
    if self.cut:
      y = jnp.where((jnp.arange(len(y)) < now.channels)[:, None, None, None] | (now.channels == 0), y, 0)
    return y


def same(planes: Planes, kernels: Weights) -> Planes:
  """Returns its input: the function of an operation that is a skip, or a batch norm alone."""
  del kernels
  return planes


def registers(count: int, inputs: Iterable[Planes]) -> Registers:
  """Returns so many registers, the first of which hold the inputs, and the others zeros."""
  first = jnp.stack(list(inputs))
  return jnp.pad(first, ((0, count - len(first)), *[(0, 0)] * 4))


def _now(program: Program, i: jax.Array) -> Program:
  return program._replace(**{name: getattr(program, name)[i] for name in Step._fields})


def _norms(weights: Weights) -> Weights:
  return {name: weights[name] for name in ('scale', 'bias')}


def _kernels(weights: Weights) -> Weights:
  return {name: x for name, x in weights.items() if name not in ('scale', 'bias')}


def _own(operation: Operation, kernels: Weights, now: Program) -> Weights:
  return at({name: kernels[name] for name in operation.kernels}, now.kernel)


def _put(stacks: Weights, index: jax.Array, values: Weights) -> Weights:
  return {name: put(x, index, values[name]) for name, x in stacks.items()}


def _add(stacks: Weights, index: jax.Array, values: Weights) -> Weights:
  return {name: put(stacks[name], index, at(stacks[name], index) + x) for name, x in values.items()}

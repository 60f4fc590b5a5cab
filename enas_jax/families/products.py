"""Pointwise convolutions of long planes on a CPU: a block of columns at a time where memory binds them, each block used while it is cached.

Columns are all numbers of a plane in a row. Results differ from those of `planes.pointwise` in rounding alone.

Letters of shapes: as in planes.py, n columns, and L layers of a stack.
"""
from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from enas_jax.families.planes import Planes, barrier, sums

# Measured (benchmarks/README.md): below, or with more products a number than this, whole matrices are as fast.
BLOCK, LEAST_BYTES, MOST_PRODUCTS = 512, 2**24, 63


def product(kernel: Float[Array, 'D C'], planes: Planes) -> Float[Array, 'D H W B']:
  """Computes what `planes.pointwise` does.

  XLA leaves a product to Eigen where the first matrix comes transposed: on such long ones that is a fifth faster than YNN.
  """
  return _columns(kernel, planes.reshape(planes.shape[0], -1)).reshape(-1, *planes.shape[1:])


def product_into(stack: Float[Array, 'L D H W B'], index: Int[Array, ''], kernel: Float[Array, 'D C'],
                 planes: Planes) -> tuple[Float[Array, 'L D H W B'], list[Float[Array, ' D']]]:
  """Puts the product into a stack. Returns also the sums of each of its channels and of their squares."""
  flat, flat_stack = planes.reshape(len(planes), -1), stack.reshape(*stack.shape[:2], -1)

  def one(i: jax.Array, carry: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
    stack, *totals = carry
    z = barrier(_columns(kernel, barrier(_block(flat, i))))
    wide = z.astype(jnp.float32)[:, :, None, None]
    totals = [total + x for total, x in zip(totals, sums(wide, wide * wide), strict=True)]
    return jax.lax.dynamic_update_slice(stack, z[None], (index, 0, i * BLOCK)), *totals

  out, *totals = jax.lax.fori_loop(0, flat.shape[1] // BLOCK, one, (flat_stack, *[jnp.zeros(len(kernel))] * 2))
  return out.reshape(stack.shape), totals


def product_backward(kernel: Float[Array, 'D C'], planes: Planes,
                     gradient: Float[Array, 'D H W B']) -> tuple[Planes, Float[Array, 'D C']]:
  """Takes the gradient of a product to that of its planes, which may take the planes' place, and of its kernel."""
  flat, flat_gradient = planes.reshape(len(planes), -1), gradient.reshape(len(gradient), -1)
  if not blockwise(kernel, planes):
    return barrier((product(kernel.T, gradient), flat_gradient @ flat.T))

  def one(i: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
    flat, total = carry
    own, to_own = barrier((_block(flat, i), _block(flat_gradient, i)))
    flat = jax.lax.dynamic_update_slice_in_dim(flat, _columns(kernel.T, to_own), i * BLOCK, 1)
    return flat, total + to_own @ own.T

  out, total = jax.lax.fori_loop(0, flat.shape[1] // BLOCK, one, (flat, jnp.zeros(kernel.shape, kernel.dtype)))
  return barrier((out.reshape(planes.shape), total))


def blockwise(kernel: Float[Array, 'D C'], planes: Planes) -> bool:
  """Returns whether memory binds the product."""
  (outputs, inputs), columns = kernel.shape, planes[0].size
  return (columns % BLOCK == 0 and (outputs + inputs) * columns * planes.dtype.itemsize >= LEAST_BYTES
          and outputs * inputs // (outputs + inputs) <= MOST_PRODUCTS)


def _columns(kernel: Float[Array, 'D C'], columns: Float[Array, 'C n']) -> Float[Array, 'D n']:
  return jax.lax.dot_general(barrier(kernel.T), columns, (((0,), (0,)), ((), ())))


def _block(flat: Float[Array, 'C HWB'], i: jax.Array) -> Float[Array, 'C n']:
  return jax.lax.dynamic_slice_in_dim(flat, i * BLOCK, BLOCK, 1)

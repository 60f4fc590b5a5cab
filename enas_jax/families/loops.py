"""Loops and branches over stacked weights: a layer of many, and an operation of several, both chosen by data."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jaxtyping import Array, Int


def switch(choice: Int[Array, ''], branches: Sequence[Callable[..., Any]], *operands: Any) -> Any:
  """Runs the chosen branch alone; of a single one no choice is compiled."""
  return branches[0](*operands) if len(branches) == 1 else jax.lax.switch(choice, branches, *operands)


def at(tree: Any, index: jax.Array) -> Any:
  """Returns the arrays of one layer, of a pytree of stacks."""
  return jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, index, 0, keepdims=False), tree)


def put(stack: jax.Array, index: Any, x: jax.Array) -> jax.Array:
  """Returns a stack with another array at one layer."""
  return jax.lax.dynamic_update_index_in_dim(stack, x.astype(stack.dtype), index, 0)

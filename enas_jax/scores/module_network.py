"""Any Flax NNX module as a score sees it: no space needs anything of its own to be scored."""
from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from enas_jax.errors import UserError
from enas_jax.scores.equations import Kind, blocks, fan_ins, run, tag
from enas_jax.scores.network import Seen, Sites, Tap, Weights, alone


class Norm(nnx.Module):
  """A batch norm that is told apart in a trace, and can be left out."""

  def __init__(self, inner: nnx.BatchNorm):
    self.inner, self.left_out = inner, False

  def __call__(self, x: jax.Array, *args: Any, **kwargs: Any) -> jax.Array:
    x = tag(Kind.NORM, x)
    return x if self.left_out else self.inner(x, *args, **kwargs)


class Block(nnx.Module):
  """A block whose output is told apart in a trace; that of the first, its first input, too."""

  def __init__(self, inner: Any, *, first: bool):
    self.inner, self.first = inner, first

  def __call__(self, x: jax.Array, *args: Any, **kwargs: Any) -> jax.Array:
    if self.first:
      tagged = tag(Kind.BLOCK, x)
      args, x = tuple(tagged if a is x else a for a in args), tagged  # DARTS's first cell has the stem's output twice.
    return tag(Kind.BLOCK, self.inner(x, *args, **kwargs))

  def __getattr__(self, name: str) -> Any:
    if name.startswith('_') or name == 'inner':
      raise AttributeError(name)
    return getattr(self.inner, name)  # A network may look at what its block has.


class ModuleNetwork:
  """A module with fresh weights, as a `Network`. Every group has one site.

  Its batch norms are all `nnx.BatchNorm`s in it, its kernels all parameters called 'kernel', its blocks the modules of its
  longest top-level list. ReLUs and layers inside of loops, branches and nnx.remat are not
  seen. A separable convolution is seen in the form that it has on the platform: on a CPU as one layer or none.

  Args:
    module: maps images [B, H, W, C] to logits; it is changed and belongs to this object from now on.
  """

  def __init__(self, module: nnx.Module):
    lists = [value for value in vars(module).values() if isinstance(value, nnx.List)]
    longest: Any = max(reversed(lists), key=len, default=())  # Of equals the last: a stem comes first.
    self._blocks = len(longest)
    for node in [node for _, node in nnx.iter_graph(module) if isinstance(node, (nnx.Module, nnx.List))]:
      for name, child in list(_children(node)):
        if isinstance(child, nnx.BatchNorm):
          _put(node, name, Norm(child))
    for index, block in enumerate(longest):
      longest[index] = Block(block, first=not index)
    module.train()
    parts: Any = nnx.split(module, nnx.Param, ...)
    self._graph, self._rest, self.weights = parts[0], parts[2], nnx.to_pure_dict(parts[1])
    for _, node in nnx.iter_modules(module):
      if isinstance(node, Norm):
        node.left_out = True
    self._without_norms = nnx.split(module, nnx.Param, ...)[0]

  def with_weights(self, weights: Weights) -> ModuleNetwork:
    """Returns the same network with other weights."""
    other = copy.copy(self)
    other.weights = weights
    return other

  def forward(self, weights: Weights, images: jax.Array, *, taps: Mapping[Kind, Tap] | None = None, gates: Any = None,
              normalised: bool = True) -> Seen:
    """Runs the network; see `Network.forward`."""
    taps, factors = taps or {}, iter(gates if gates is not None else ())
    kept: dict[Kind, list[Sites]] = {kind: [] for kind in taps}

    def visit(kind: Kind, x: jax.Array) -> jax.Array:
      if kind is Kind.LAYER and gates is not None:
        factor = next(factors)
        x = x * factor.reshape(factor.shape[0], *[1] * (x.ndim - 2), factor.shape[1])
      if kind in taps:
        kept[kind].append(alone(taps[kind](x)))
      return x

    return Seen(self._run(weights, images, visit, normalised=normalised), kept)

  def gates(self, images: jax.Array) -> list[jax.Array]:
    """Returns factors of one, [B, channels] for each layer."""
    shapes: list[tuple[int, int]] = []

    def visit(kind: Kind, x: jax.Array) -> jax.Array:
      if kind is Kind.LAYER:
        shapes.append((x.shape[0], x.shape[-1]))
      return x

    jax.eval_shape(lambda: self._run(self.weights, images, visit))
    return [jnp.ones(shape, images.dtype) for shape in shapes]

  def fan_ins(self, images: jax.Array) -> list[int]:
    """Returns how many weights a channel of each layer has."""
    return fan_ins(self._trace(self.weights, images)[0])

  def layers(self, tree: Weights) -> list[Sites]:
    """Returns the kernels, [1, entries] each."""
    found = [alone(leaf.reshape(-1)) for path, leaf in jax.tree_util.tree_leaves_with_path(tree) if _is_kernel(path)]
    if not found:
      raise UserError("this network has no parameter called 'kernel', which the score needs")
    return found

  def map_kernels(self, tree: Weights, change: Callable[[jax.Array, int], jax.Array],
                  others: Callable[[jax.Array], jax.Array] = lambda leaf: leaf) -> Weights:
    """Returns the tree with its kernels changed; see `Network.map_kernels`."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: change(leaf, math.prod(leaf.shape[:-1])) if _is_kernel(path) else others(leaf), tree)

  def steps(self, weights: Weights, images: jax.Array,
            step: Callable[[Callable[[jax.Array], jax.Array], jax.Array], Any]) -> list[Sites]:
    """Returns what `step` makes of every block; see `Network.steps`.

    Raises:
      UserError: the module has no list of modules.
    """
    if not self._blocks:
      raise UserError('this network has no block that could be seen (an nnx.List of modules), which the score needs')
    found = blocks(*self._trace(weights, images))
    if len(found) != self._blocks:
      raise UserError(f'{len(found)} of {self._blocks} blocks could be seen, and the score needs all: call them outside of '
                      'nnx.jit, nnx.remat, loops and branches')
    return [alone(step(block, x)) for block, x in found]

  def _run(self, weights: Weights, images: jax.Array, visit: Callable[[Kind, Any], Any], *,
           normalised: bool = True) -> jax.Array:
    return run(*self._trace(weights, images, normalised=normalised), visit)[0]

  def _trace(self, weights: Weights, images: jax.Array, *, normalised: bool = True) -> tuple[Any, list[jax.Array]]:
    """Returns the network as equations, and the arguments in their order."""
    graph = self._graph if normalised else self._without_norms

    def as_images(x: Any) -> Any:
      return x.astype(images.dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x

    def apply(weights: Weights, images: jax.Array) -> jax.Array:
      rest = jax.tree.map(as_images, self._rest)  # Running statistics, which are written in training.
      module: Any = nnx.merge(graph, nnx.State(weights), rest, copy=True)
      return module(images)

    return jax.make_jaxpr(apply)(weights, images), jax.tree.leaves((weights, images))


def _is_kernel(path: tuple[Any, ...]) -> bool:
  return bool(path[-1].key == 'kernel')


def _children(node: Any) -> Any:
  return enumerate(node) if isinstance(node, nnx.List) else vars(node).items()


def _put(node: Any, name: Any, child: nnx.Module) -> None:
  if isinstance(node, nnx.List):
    node[name] = child
  else:
    setattr(node, name, child)

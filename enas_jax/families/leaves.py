"""Where a module's arrays lie in a family's program: one list of leaves a candidate serves to draw, pack and unpack weights."""
from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from enas_jax.training.family import Weights

Path = tuple[str | int, ...]
Draw = Callable[[np.random.Generator, Path, tuple[int, ...]], np.ndarray]


class Leaf(NamedTuple):
  """An array of the module, or a part of one, and its place in the program.

  Attributes:
    path: its names in the module's nested dicts; the last is 'kernel', 'bias', 'scale', 'mean' or 'var'.
    shape: of the whole array in the module.
    place: the names of the packed array.
    at: the index of its leading axes there.
    axes: the order of the module's axes there; those left out have length 1.
    taps: how many of these are taps of a kernel, which stand in the centre; channels stand in the corner.
    part: the part of the module's array, by slices of its leading axes; (): all.
  """

  path: Path
  shape: tuple[int, ...]
  place: Path
  at: tuple[int, ...] = ()
  axes: tuple[int, ...] = (0,)
  taps: int = 0
  part: tuple[slice, ...] = ()

  def cut(self, part: slice, axis: int = 0) -> Leaf:
    """Returns the leaf of a part of the module's array, along one axis."""
    before = self.part or (slice(None),) * len(self.shape)
    return self._replace(part=(*before[:axis], part, *before[axis + 1:]))


def norm(path: Path, channels: int, place: Path, index: tuple[int, ...] = ()) -> Iterator[Leaf]:
  """Yields the four leaves of a batch norm."""
  for name in ('scale', 'bias', 'mean', 'var'):
    yield Leaf((*path, name), (channels,), (*place, name), index)


def convolution(path: Path, kernel: int, inputs: int, outputs: int, place: Path,
                index: tuple[int, ...] = ()) -> Leaf:
  """Returns the leaf of a convolution's kernel, [k, k, in, out] in the module and [k, k, out, in] in the program."""
  return Leaf((*path, 'kernel'), (kernel, kernel, inputs, outputs), place, index, (0, 1, 3, 2), taps=2)


def pointwise(path: Path, inputs: int, outputs: int, place: Path,
              index: tuple[int, ...] = ()) -> Leaf:
  """Returns the leaf of a 1 x 1 convolution's kernel, [1, 1, in, out] in the module and [out, in] in the program."""
  return Leaf((*path, 'kernel'), (1, 1, inputs, outputs), place, index, (3, 2))


def linear(path: Path, inputs: int, outputs: int, place: Path) -> Iterator[Leaf]:
  """Yields the leaves of a linear layer, whose kernel is [in, out] in both."""
  yield Leaf((*path, 'kernel'), (inputs, outputs), (*place, 'kernel'), (), (0, 1))
  yield Leaf((*path, 'bias'), (outputs,), (*place, 'bias'))


def uniform(rng: np.random.Generator, path: Path, shape: tuple[int, ...]) -> np.ndarray:
  """Draws an array as PyTorch does: a kernel uniformly in +-1/sqrt(fan in), as `networks.layers.init`; biases are 0."""
  if path[-1] == 'kernel':
    return rng.uniform(-1, 1, shape).astype(np.float32) / np.float32(math.sqrt(math.prod(shape[:-1])))
  return np.full(shape, path[-1] in ('scale', 'var'), np.float32)


def draw(leaves: Iterable[Leaf], rng: np.random.Generator, how: Draw = uniform) -> tuple[Weights, Weights]:
  """Draws the module's weights and batch-norm statistics, as nested dicts of float32 arrays, on the host."""
  trees: tuple[Weights, Weights] = {}, {}
  for path, shape in {leaf.path: leaf.shape for leaf in leaves}.items():
    _parent(trees[_is_statistic(path)], path)[path[-1]] = how(rng, path, shape)
  return trees


def pack(leaves: Iterable[Leaf], params: Weights, stats: Weights, shapes: Mapping[str, Any]) -> tuple[Weights, Weights]:
  """Returns the module's weights and statistics in packed form.

  Args:
    leaves: the candidate's.
    params, stats: the module's, in nested dicts.
    shapes: the packed arrays' shapes, in nested dicts; statistics ('mean', 'var') among them.
  """
  packed, packed_stats = (_zeros(shapes, statistics) for statistics in (False, True))
  params, stats = jax.tree.map(np.asarray, (params, stats))
  for leaf in leaves:
    small, large = _views(leaf, *((stats, packed_stats) if _is_statistic(leaf.path) else (params, packed)))
    large[...] = small
  return packed, packed_stats


def unpack(leaves: Sequence[Leaf], packed: Weights, packed_stats: Weights) -> tuple[Weights, Weights]:
  """Returns what `pack` was given: the module's weights and statistics."""
  params, stats = draw(leaves, np.random.default_rng(0), lambda rng, path, shape: np.zeros(shape, np.float32))
  packed, packed_stats = jax.tree.map(np.asarray, (packed, packed_stats))
  for leaf in leaves:
    small, large = _views(leaf, *((stats, packed_stats) if _is_statistic(leaf.path) else (params, packed)))
    small[...] = large
  return params, stats


def _views(leaf: Leaf, module: Weights, packed: Weights) -> tuple[np.ndarray, np.ndarray]:
  """Returns views of the leaf in the module and in the program, of one shape."""
  small = _parent(module, leaf.path)[leaf.path[-1]][leaf.part]
  dropped = tuple(axis for axis in range(small.ndim) if axis not in leaf.axes)
  small = small.transpose((*leaf.axes, *dropped))[(..., *[0] * len(dropped))]
  large = _parent(packed, leaf.place)[leaf.place[-1]][leaf.at]
  sizes = zip(large.shape, small.shape, strict=True)
  starts = [(big - n) // 2 if axis < leaf.taps else 0 for axis, (big, n) in enumerate(sizes)]
  return small, large[tuple(slice(start, start + n) for start, n in zip(starts, small.shape, strict=True))]


def _is_statistic(path: Sequence[str | int]) -> bool:
  return path[-1] in ('mean', 'var')


def _parent(tree: Weights, path: Sequence[Any]) -> Weights:
  for name in path[:-1]:
    tree = tree.setdefault(name, {})
  return tree


def _zeros(shapes: Mapping[str, Any], statistics: bool) -> Weights:
  """Returns zeros of these shapes, for the statistics or for all else."""
  found: Weights = {}
  for name, shape in shapes.items():
    if isinstance(shape, Mapping):
      if below := _zeros(shape, statistics):
        found[name] = below
    elif _is_statistic((name,)) == statistics:
      found[name] = np.zeros(shape, np.float32)
  return found

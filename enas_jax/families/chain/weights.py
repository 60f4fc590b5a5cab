"""The weights of chains in the form of one program for many: padded to its width, stacked over its layers.

A program has a `Capacity`; a candidate becomes data for it: a `Plan`, and weights at the corner (channels) and the centre
(kernels) of larger arrays of zeros.
"""
from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from enas_jax.spaces.chain import SEPARABLE, STEM_KERNEL, ChainArchitecture, Layer
from enas_jax.types import Task

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
    """Returns the least capacity that holds all of these."""
    counts = np.array([_counts(a) for a in architectures]).max(0)
    branches = {(layer.operation, layer.kernel) for a in architectures for layer in a.layers()}
    first, second, third = (max(1, int(n)) for n in counts)
    return cls((first, second, third), max(a.width for a in architectures), tuple(sorted(branches)))

  @property
  def kernel(self) -> int:
    """The side of the largest kernel."""
    return max(kernel for _, kernel in self.branches)

  def channels(self, site: str) -> tuple[int, int]:
    """Returns the channels into and out of a layer at a site."""
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


def plan(architecture: ChainArchitecture, capacity: Capacity) -> Plan:
  """Returns the data by which a program of this capacity becomes this candidate."""
  choices = {site: np.zeros(_stack(site, capacity), np.int32) for site in SITES}
  for site, index, layer in _placed(architecture):
    choices[site][index] = capacity.branches.index((layer.operation, layer.kernel))
  return Plan(np.array(_counts(architecture), np.int32), choices)


def initial(architecture: ChainArchitecture, task: Task, rng: np.random.Generator) -> tuple[Weights, Weights]:
  """Draws fresh weights and statistics of the plain module, as nested dicts of float32 arrays.

  Kernels are uniform in +-1/sqrt(fan in), as in networks/chain.py; drawn on the host, so that no shape compiles anything.
  """
  def kernel(*shape: int) -> np.ndarray:
    return rng.uniform(-1, 1, shape).astype(np.float32) / np.float32(math.sqrt(math.prod(shape[:-1])))

  def scale(channels: int) -> Weights:
    return {'scale': np.ones(channels, np.float32), 'bias': np.zeros(channels, np.float32)}

  def moments(channels: int) -> Weights:
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
  """Returns the module's weights and statistics, as `initial` gives them, in the program's padded and stacked form."""
  packed, packed_stats = _empty(params, capacity)
  _copy(architecture, params, stats, packed, packed_stats, into_packed=True)
  return packed, packed_stats


def unpack(architecture: ChainArchitecture, packed: Weights, packed_stats: Weights, task: Task) -> tuple[Weights, Weights]:
  """Returns what `pack` was given: the module's weights and statistics."""
  params, stats = initial(architecture, task, np.random.default_rng(0))
  packed, packed_stats = jax.tree.map(np.asarray, (packed, packed_stats))
  _copy(architecture, params, stats, packed, packed_stats, into_packed=False)
  return params, stats


def stride(site: str) -> int:
  """Returns the stride of the layers at a site."""
  return 2 if site in (DOUBLE1, DOUBLE2) else 1


def _placed(architecture: ChainArchitecture) -> Iterator[tuple[str, Any, Layer]]:
  """Yields each layer with its site and its index there, () at a site that holds one."""
  doubles = architecture.depth // 3, 2 * architecture.depth // 3
  starts = {ENTRY: 0, BODY1: 1, DOUBLE1: doubles[0], BODY2: doubles[0] + 1, DOUBLE2: doubles[1], BODY3: doubles[1] + 1}
  for i, layer in enumerate(architecture.layers()):
    site = [s for s in SITES if starts[s] <= i][-1] if i not in doubles else (DOUBLE1, DOUBLE2)[doubles.index(i)]
    yield site, (i - starts[site] if site in BODIES else ()), layer


def _counts(architecture: ChainArchitecture) -> tuple[int, int, int]:
  first, second = architecture.depth // 3, 2 * architecture.depth // 3
  return first - 1, second - first - 1, architecture.depth - second - 1


def _stack(site: str, capacity: Capacity) -> tuple[int, ...]:
  """Returns the leading axes of a site's arrays."""
  return (capacity.bodies[BODIES.index(site)],) if site in BODIES else ()


def _empty(params: Weights, capacity: Capacity) -> tuple[Weights, Weights]:
  """Returns zeros of the packed shapes."""
  def zeros(*shape: int) -> np.ndarray:
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


def _copy(architecture: ChainArchitecture, params: Weights, stats: Weights, packed: Weights, packed_stats: Weights, *,
          into_packed: bool) -> None:
  """Copies all weights one way or the other, each to the corner (channels) and centre (kernels) of its padded place."""
  def copy(small: np.ndarray, large: np.ndarray, axes: tuple[int, ...], *, taps: int = 0) -> None:
    """`axes`: the module's order in the packed one; `taps`: leading axes that are kernels."""
    view = small.transpose(axes)
    starts = [(big - n) // 2 if axis < taps else 0 for axis, (big, n) in enumerate(zip(large.shape, view.shape, strict=True))]
    place = large[tuple(slice(start, start + n) for start, n in zip(starts, view.shape, strict=True))]
    if into_packed:
      place[...] = view
    else:
      view[...] = place

  def vectors(small: Weights, large: Weights) -> None:
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

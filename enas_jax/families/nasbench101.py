"""NAS-Bench-101 cells as families: adjacency and operations are data, the number of vertices that the output joins is not.

The vertices that the output concatenates share its channels, so each vertex is one register of C / k channels (the remainder
padded), and whatever has all C channels is k of them: a projection of the input is k products that add up.
"""
from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import ndtr, ndtri

from enas_jax.families import leaves, pooling
from enas_jax.families.autodiff import Heads
from enas_jax.families.cells import CellFamily, CellNetwork, Pass, Spec, Steps, Work, norm_shapes, sum_work
from enas_jax.families.leaves import Leaf, Path
from enas_jax.families.planes import Planes
from enas_jax.families.tape import Operation, Program, Step, registers, same
from enas_jax.networks.nasbench101 import MOMENTUM
from enas_jax.spaces.nasbench101 import KERNELS, Module, NasBench101Architecture, NasBench101Space
from enas_jax.spaces.nasbench101_graph import MAX_VERTICES
from enas_jax.training.family import Limits, Mode, Weights
from enas_jax.types import Task

ADD, PROJECT, NORM, CONV_3X3, CONV_1X1, MAX_POOL = range(6)
INNER = MAX_VERTICES - 2
CUT_DEVIATION = 0.87962566103423978  # Of a standard normal distribution cut at two deviations.
_OPERATIONS = {3: CONV_3X3, 1: CONV_1X1}


@dataclasses.dataclass(frozen=True, order=True)
class Capacity:
  """What a program holds: the skeleton, and `branches`, how many registers have all channels together (at least 1)."""

  channels: int
  cells: int
  stacks: int
  branches: int

  @classmethod
  def of(cls, architecture: NasBench101Architecture) -> Capacity:
    """Returns the capacity that holds the architecture."""
    return cls(architecture.channels, architecture.cells, architecture.stacks, max(1, architecture.branches))

  def width(self, stack: int) -> int:
    """Returns the channels of a register."""
    return -(-(self.channels << stack) // self.branches)

  def parts(self, channels: int) -> list[slice]:
    """Returns which of so many channels each register has: an equal share, the first ones the remainder."""
    share, rest = divmod(channels, self.branches)
    ends = np.cumsum([share + (i < rest) for i in range(self.branches)]).tolist()
    return [slice(begin, end) for begin, end in itertools.pairwise([0, *ends])]


class StackedModules(CellNetwork[NasBench101Architecture, Capacity]):
  """The network of one capacity: a tape a stack, max pooling between them."""

  momentum = MOMENTUM

  @staticmethod
  def draw(rng: np.random.Generator, path: tuple[str | int, ...], shape: tuple[int, ...]) -> np.ndarray:
    """Draws as the module does: convolutions from a normal distribution cut at two deviations, the head uniformly."""
    if path[-1] != 'kernel':
      return leaves.uniform(rng, path, shape)
    if path[0] == 'head':
      bound = np.sqrt(6 / sum(shape))
      return rng.uniform(-bound, bound, shape).astype(np.float32)
    cut = ndtri(rng.uniform(ndtr(-2), ndtr(2), shape))
    return (cut / CUT_DEVIATION / np.sqrt(np.prod(shape[:-1]))).astype(np.float32)

  def tapes(self) -> dict[str, Spec]:
    """Returns a tape a stack."""
    capacity, k, specs = self.capacity, self.capacity.branches, {}
    for stack in range(capacity.stacks):
      width, cells = capacity.width(stack), capacity.cells
      operations = (
          Operation(same, normed=False),
          Operation(self._project, ('projection',), normed=False, macs=width**2),
          Operation(same, rectified=True),
          Operation(lambda x, kernels: self.convolution(x, kernels['convolution']), ('convolution',), rectified=True,
                    macs=9 * width**2),
          Operation(self._project, ('pointwise',), rectified=True, macs=width**2),
          Operation(lambda x, _: pooling.maximum(x, 1), normed=False, macs=9 * width))
      kernels = {'projection': (cells * (INNER + k) * k, width, width), 'convolution': (cells * INNER, 3, 3, width, width),
                 'pointwise': (cells * INNER, width, width)}
      # Of a cell: projections and their norms, operations, edges.
      length = cells * ((INNER + k) * (k + 1) + INNER + INNER * (INNER + 1) // 2)
      specs[f'stack{stack}'] = Spec(operations, length, cells * (2 * INNER + k), width, stack, kernels, cut=True)
    return specs

  def steps(self, architecture: NasBench101Architecture) -> Steps:
    """Returns the instructions of each stack's modules."""
    found: dict[str, list[Step]] = {f'stack{stack}': [] for stack in range(self.capacity.stacks)}
    k, matrix, inner = self.capacity.branches, architecture.matrix, range(1, len(architecture.matrix) - 1)
    for name, cell, _, module in _modules(architecture):
      steps, base, first = found[name], self._input(cell), self._input(cell) + k
      joined = first + k  # After the input, the projections of it to the output.
      sums, products, results = (range(joined + i * INNER - 1, joined + (i + 1) * INNER) for i in range(3))
      out = self._input(cell + 1)
      places = itertools.count(cell * (INNER + k) * k)

      def projected(target: int, norm: int, total: int, steps: list[Step] = steps, base: int = base,
                    places: Iterator[int] = places) -> None:
        """Adds up a projection of the input in `total`, and adds its batch norm to the target."""
        steps.extend(Step(PROJECT, base + i, total, kernel=next(places)) for i in range(k))
        steps.append(Step(NORM, total, target, norm))

      norms = cell * (2 * INNER + k)
      last = [v for v in inner if matrix[v][-1]]
      for v in inner:
        steps += [Step(ADD, results[u], sums[v], channels=module.channels[v]) for u in inner[:v - 1] if matrix[u][v]]
        if matrix[0][v]:
          projected(sums[v], norms + v - 1, products[v])
        operation = KERNELS.get(architecture.operations[v])
        place = cell * INNER + v - 1
        steps.append(Step(_OPERATIONS[operation], sums[v], results[v], norms + INNER + v - 1, place) if operation else
                     Step(MAX_POOL, sums[v], results[v]))
      steps += [Step(ADD, results[v], out + i) for i, v in enumerate(last)]
      if matrix[0][-1]:
        for i in range(k):
          projected(out + i, norms + 2 * INNER + i, first + i)
    return found

  def leaves(self, architecture: NasBench101Architecture, task: Task) -> Iterator[Leaf]:
    """Yields stem, modules and head."""
    capacity, k = self.capacity, self.capacity.branches
    for i, part in enumerate(capacity.parts(capacity.channels)):
      stem = leaves.convolution(('stem', 'conv'), 3, task.image_shape[2], capacity.channels, ('stem', 'kernel'), (i,))
      yield stem.cut(part, 3)
      for leaf in leaves.norm(('stem', 'norm'), capacity.channels, ('stem',), (i,)):
        yield leaf.cut(part)
    inner, matrix = range(1, len(architecture.matrix) - 1), architecture.matrix
    for name, cell, number, module in _modules(architecture):
      places, norms, path = itertools.count(cell * (INNER + k) * k), cell * (2 * INNER + k), ('body', number)
      for v in (*inner, len(matrix) - 1):
        if not matrix[0][v]:
          continue
        own: Path = *path, 'projections', v
        whole = leaves.pointwise((*own, 'conv'), module.channels[0], module.channels[v], (name, 'projection'))
        outputs = [slice(0, module.channels[v])] if v in inner else capacity.parts(module.channels[v])
        for i, output in enumerate(outputs):
          for part in capacity.parts(module.channels[0]):
            yield whole._replace(at=(next(places),)).cut(part, 2).cut(output, 3)
          index = norms + v - 1 if v in inner else norms + 2 * INNER + i
          for leaf in leaves.norm((*own, 'norm'), module.channels[v], (name,), (index,)):
            yield leaf.cut(output)
      for v in inner:
        if kernel := KERNELS.get(architecture.operations[v]):
          own, width, index = (*path, 'operations', v), module.channels[v], (cell * INNER + v - 1,)
          if kernel == 3:
            yield leaves.convolution((*own, 'conv'), 3, width, width, (name, 'convolution'), index)
          else:
            yield leaves.pointwise((*own, 'conv'), width, width, (name, 'pointwise'), index)
          yield from leaves.norm((*own, 'norm'), width, (name,), (norms + INNER + v - 1,))
    channels = capacity.channels << capacity.stacks - 1
    for i, part in enumerate(capacity.parts(channels)):
      weights, bias = leaves.linear(('head',), channels, task.num_classes, ('head',))
      yield weights._replace(at=(i,)).cut(part)
    yield bias

  def fixed(self, task: Task) -> dict[str, Any]:
    """Returns the shapes of stem and head."""
    k, first, last = self.capacity.branches, self.capacity.width(0), self.capacity.width(self.capacity.stacks - 1)
    return {'stem': {'kernel': (k, 3, 3, first, task.image_shape[2]), **norm_shapes(k, first)},
            'head': {'kernel': (k, last, task.num_classes), 'bias': (task.num_classes,)}}

  def fixed_work(self, task: Task) -> Work:
    """Returns what the stem takes."""
    return sum_work([(9 * task.image_shape[2] * self.capacity.channels, self.capacity.channels, 0)], task)

  def heads(self, params: Weights, stats: Weights, plan: dict[str, Program], limits: Limits, images: jax.Array,
            mode: Mode) -> tuple[Heads, Weights]:
    """Returns the logits and the running statistics."""
    run, k = Pass(self, _joined(params), _joined(stats), plan, limits, mode), self.capacity.branches
    stem = params['stem']['kernel']
    kernel = jnp.moveaxis(stem, 0, 2).reshape(3, 3, -1, stem.shape[-1])
    x = jnp.maximum(run.normed('stem', self.convolution(self.planes(images), kernel)), 0)
    for stack in range(self.capacity.stacks):
      if stack:
        x = pooling.halved_maximum(x)
      x = x.reshape(k, -1, *x.shape[1:])
      padding = self.capacity.width(stack) - x.shape[1]
      inputs = jnp.pad(x, ((0, 0), (0, padding), *[(0, 0)] * 3))
      body = run.tape(f'stack{stack}', registers(self._input(self.capacity.cells) + k, inputs))
      x = body[-k:].reshape(-1, *body.shape[2:])
    logits = self.classify(x, {**params['head'], 'kernel': params['head']['kernel'].reshape(len(x), -1)})
    after = {**run.after, 'stem': jax.tree.map(lambda s: s.reshape(k, -1), run.after['stem'])}
    return ((1.0, logits),), after

  def _input(self, cell: int) -> int:
    """Returns the first of the registers of a module's input, which are the output of the one before."""
    return cell * (2 * self.capacity.branches + 3 * INNER)

  def _project(self, x: Planes, kernels: Weights) -> Planes:
    (kernel,) = kernels.values()
    return self.pointwise(x, kernel)


def make(space: NasBench101Space, task: Task, *, batch_size: int, steps: int,
         platform: str) -> CellFamily[NasBench101Architecture, Capacity]:
  """Returns the family of all cells: a program for each number of vertices that the output joins."""
  del space, steps
  return CellFamily(StackedModules, Capacity.of, Capacity.of, _example, task, batch_size, platform,
                    'Cells whose output joins as many vertices share a program')


def _example(capacity: Capacity) -> NasBench101Architecture:
  """Returns some architecture that a capacity holds: so many vertices side by side."""
  k = capacity.branches
  matrix = [[int(0 < j <= k if i == 0 else j == k + 1 > i) for j in range(k + 2)] for i in range(k + 2)]
  operations = ('input', *['maxpool3x3'] * k, 'output')
  return NasBench101Architecture(tuple(map(tuple, matrix)), operations, capacity.channels, capacity.cells, capacity.stacks)


def _modules(architecture: NasBench101Architecture) -> Iterator[tuple[str, int, int, Module]]:
  """Yields each module with its tape's name, its number in the stack and its number in all."""
  for number, module in enumerate(architecture.modules()):
    yield f'stack{module.stack}', number % architecture.cells, number, module


def _joined(tree: Weights) -> Weights:
  """Returns weights with the stem's batch norm over all channels."""
  return {**tree, 'stem': {name: x.reshape(-1) for name, x in tree['stem'].items() if name != 'kernel'}}

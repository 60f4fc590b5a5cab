"""NAS-Bench-Macro as a family: which block stands at each layer is data.

A block's hidden channels are 3 or 6 times those that go into it, so each is that many registers: an expansion and a depthwise
convolution for each, and a projection that adds up. A layer that opens a stage has its hidden registers on tapes of its own,
since it changes resolution and channels.
"""
from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from enas_jax.families import leaves
from enas_jax.families.autodiff import Heads
from enas_jax.families.cells import CellFamily, CellNetwork, Pass, Spec, Steps, Work, norm_shapes, sum_work
from enas_jax.families.leaves import Leaf, Path
from enas_jax.families.planes import Planes, barrier, depthwise
from enas_jax.families.tape import Operation, Program, Step, registers, same
from enas_jax.spaces.nasbench_macro import (
    IDENTITY,
    LAST_CHANNELS,
    STAGES,
    STEM_CHANNELS,
    NasBenchMacroArchitecture,
    NasBenchMacroSpace,
)
from enas_jax.training.family import Limits, Mode, Weights
from enas_jax.types import Task

EXPANSIONS, KERNELS = {1: 3, 2: 6}, {1: 3, 2: 5}  # By operation.
MOST = max(EXPANSIONS.values())
EXPAND, _, _, PROJECT, NORM, SKIP = range(6)  # Of a stage's tape; 1 and 2 are the depthwise convolutions of those blocks.
_SMALLEST = NasBenchMacroArchitecture((IDENTITY,) * sum(STAGES))


class StackedMacro(CellNetwork[NasBenchMacroArchitecture, int]):
  """The network of all architectures; its capacity is the number of operations that it holds, which is all."""

  def tapes(self) -> dict[str, Spec]:
    """Returns for each stage the tapes of its first layer's parts, and that of the rest."""
    specs = {}
    for stage, layers in enumerate(STAGES):
      before, width, blocks = STEM_CHANNELS << stage, STEM_CHANNELS << stage + 1, (layers - 1) * MOST
      expansion = Operation(self._project, ('pointwise',), rectified=True, macs=before**2)
      specs[f'expand{stage}'] = Spec((expansion,), MOST, MOST, before, stage, {'pointwise': (MOST, before, before)})
      specs[f'reduce{stage}'] = Spec(
          self._depthwise(before, 2), MOST, MOST, before, stage + 1, {'depthwise': (MOST, 5, 5, before)})
      sums = Operation(self._project, ('pointwise',), normed=False, macs=before * width)
      specs[f'project{stage}'] = Spec((sums,), MOST, 1, width, stage + 1, {'pointwise': (MOST, width, before)})
      opening = Operation(lambda x, kernels: self._project(x[:, ::2, ::2], kernels), ('pointwise',), macs=before * width)
      specs[f'open{stage}'] = Spec((opening,), 1, 1, width, stage + 1, {'pointwise': (1, width, before)})
      operations = (
          Operation(self._project, ('expansion',), rectified=True, macs=width**2), *self._depthwise(width, 1),
          Operation(self._project, ('projection',), normed=False, macs=width**2), Operation(same),
          Operation(same, normed=False))
      kernels = {'expansion': (blocks, width, width), 'projection': (blocks, width, width), 'depthwise': (blocks, 5, 5, width)}
      norms = 1 + (layers - 1) * (2 * MOST + 1)
      specs[f'stage{stage}'] = Spec(operations, 2 + (layers - 1) * (3 * MOST + 2), norms, width, stage + 1, kernels)
    return specs

  def steps(self, architecture: NasBenchMacroArchitecture) -> Steps:
    """Returns a block as expansions, depthwise convolutions, projections into one register, and that one's batch norm."""
    found: dict[str, list[Step]] = {name: [] for name in self.tapes()}
    for stage, (first, *others) in enumerate(architecture.stages()):
      body = found[f'stage{stage}']
      if first == IDENTITY:
        found[f'open{stage}'].append(Step(0, 0, 0, norm=0))
      else:
        for i in range(EXPANSIONS[first]):
          found[f'expand{stage}'].append(Step(0, 0, 1 + i, norm=i, kernel=i))
          found[f'reduce{stage}'].append(Step(first - 1, 1 + i, i, norm=i, kernel=i))
          found[f'project{stage}'].append(Step(0, i, 1, kernel=i))
        body.append(Step(NORM, 1, 0, norm=0))
      last, free = 0, itertools.count(2)
      for layer, operation in enumerate(others):
        if operation == IDENTITY:
          continue
        norms, kernels = itertools.count(1 + layer * (2 * MOST + 1)), itertools.count(layer * MOST)
        total = next(free)
        for _ in range(EXPANSIONS[operation]):
          wide, narrow, place = next(free), next(free), next(kernels)
          body += [Step(EXPAND, last, wide, next(norms), place), Step(operation, wide, narrow, next(norms), place),
                   Step(PROJECT, narrow, total, kernel=place)]
        out = next(free)
        body += [Step(NORM, total, out, 1 + layer * (2 * MOST + 1) + 2 * MOST), Step(SKIP, last, out)]
        last = out
      body.append(Step(SKIP, last, self._output(stage)))  # One register for all architectures.
    return found

  def leaves(self, architecture: NasBenchMacroArchitecture, task: Task) -> Iterator[Leaf]:
    """Yields stem, layers, last convolution and head."""
    layers = iter(architecture.layers())
    yield leaves.convolution(('stem', 'conv'), 3, task.image_shape[2], STEM_CHANNELS, ('stem', 'kernel'))
    yield from leaves.norm(('stem', 'norm'), STEM_CHANNELS, ('stem',))
    numbers = itertools.count()  # The module leaves out Identities inside a stage.
    for stage, (first, *others) in enumerate(architecture.stages()):
      layer = next(layers)
      path: Path = 'layers', next(numbers), 'convolutions'
      if first == IDENTITY:
        yield leaves.pointwise((*path, 0, 'conv'), layer.in_channels, layer.out_channels, (f'open{stage}', 'pointwise'), (0,))
        yield from leaves.norm((*path, 0, 'norm'), layer.out_channels, (f'open{stage}',), (0,))
      else:
        chunks = EXPANSIONS[first]
        for i in range(chunks):
          yield from _hidden(path, i, chunks, layer.in_channels, (f'expand{stage}', 'pointwise'), i, i)
          yield from _filtered(path, KERNELS[first], i, chunks, layer.in_channels, (f'reduce{stage}', 'depthwise'), i, i)
          yield _summed(path, i, chunks, layer.in_channels, layer.out_channels, (f'project{stage}', 'pointwise'), i)
        yield from leaves.norm((*path, 2, 'norm'), layer.out_channels, (f'stage{stage}',), (0,))
      for k, operation in enumerate(others):
        layer = next(layers)
        if operation == IDENTITY:
          continue
        path, name = ('layers', next(numbers), 'convolutions'), f'stage{stage}'
        chunks, width, norms = EXPANSIONS[operation], layer.in_channels, 1 + k * (2 * MOST + 1)
        for i in range(chunks):
          place = k * MOST + i
          yield from _hidden(path, i, chunks, width, (name, 'expansion'), place, norms + 2 * i)
          yield from _filtered(path, KERNELS[operation], i, chunks, width, (name, 'depthwise'), place, norms + 2 * i + 1)
          yield _summed(path, i, chunks, width, width, (name, 'projection'), place)
        yield from leaves.norm((*path, 2, 'norm'), width, (name,), (norms + 2 * MOST,))
    width = STEM_CHANNELS << len(STAGES)
    yield leaves.pointwise(('last', 'conv'), width, LAST_CHANNELS, ('last', 'kernel'))
    yield from leaves.norm(('last', 'norm'), LAST_CHANNELS, ('last',))
    yield from leaves.linear(('head',), LAST_CHANNELS, task.num_classes, ('head',))

  def fixed(self, task: Task) -> dict[str, Any]:
    """Returns the shapes of stem, last convolution and head."""
    return {
        'stem': {'kernel': (3, 3, STEM_CHANNELS, task.image_shape[2]), **norm_shapes(STEM_CHANNELS)},
        'last': {'kernel': (LAST_CHANNELS, STEM_CHANNELS << len(STAGES)), **norm_shapes(LAST_CHANNELS)},
        'head': {'kernel': (LAST_CHANNELS, task.num_classes), 'bias': (task.num_classes,)},
    }

  def fixed_work(self, task: Task) -> Work:
    """Returns what stem and last convolution take."""
    last = STEM_CHANNELS << len(STAGES)
    return sum_work([(9 * task.image_shape[2] * STEM_CHANNELS, STEM_CHANNELS, 0),
                     (last * LAST_CHANNELS, last + LAST_CHANNELS, len(STAGES))], task)

  def heads(self, params: Weights, stats: Weights, plan: dict[str, Program], limits: Limits, images: jax.Array,
            mode: Mode) -> tuple[Heads, Weights]:
    """Returns the logits and the running statistics."""
    run = Pass(self, params, stats, plan, limits, mode)
    x = jnp.maximum(run.normed('stem', self.convolution(self.planes(images), params['stem']['kernel'])), 0)
    for stage in range(len(STAGES)):
      channels, height, width, batch = x.shape
      small = -(-height // 2), -(-width // 2), batch
      wide = run.tape(f'expand{stage}', registers(1 + MOST, [x]))
      narrow = run.tape(f'reduce{stage}', jnp.zeros((MOST, channels, *small), x.dtype), sources=wide)
      body = jnp.zeros((self._output(stage) + 1, 2 * channels, *small), x.dtype)
      body = run.tape(f'project{stage}', body, sources=narrow)
      body = run.tape(f'open{stage}', body, sources=wide)
      x = run.tape(f'stage{stage}', body)[-1]
    last = jnp.maximum(run.normed('last', self.pointwise(x, params['last']['kernel'])), 0)
    return ((1.0, self.classify(last, params['head'])),), run.after

  def _output(self, stage: int) -> int:
    """Returns the register of a stage's output: the one after those that its largest architecture uses."""
    return 2 + (STAGES[stage] - 1) * (2 * MOST + 2)

  def _project(self, x: Planes, kernels: Weights) -> Planes:
    (kernel,) = kernels.values()
    return self.pointwise(x, kernel)

  def _depthwise(self, width: int, stride: int) -> tuple[Operation, ...]:
    def convolve(size: int, x: Planes, kernels: Weights) -> Planes:
      margin = (5 - size) // 2
      kernel = kernels['depthwise'][margin:margin + size, margin:margin + size].astype(self.dtype)
      return barrier(depthwise(x, kernel, stride, self.lowering))

    return tuple(
        Operation(functools.partial(convolve, size), ('depthwise',), rectified=True, macs=size**2 * width)
        for size in KERNELS.values())


def make(space: NasBenchMacroSpace, task: Task, *, batch_size: int, steps: int,
         platform: str) -> CellFamily[NasBenchMacroArchitecture, int]:
  """Returns the family of all members, which share one program."""
  del space, steps
  return CellFamily(StackedMacro, lambda _: 0, lambda _: 0, lambda _: _SMALLEST, task, batch_size, platform,
                    'All networks share one program, in which each runs its own blocks alone')


def _hidden(path: Path, i: int, chunks: int, width: int, place: tuple[str, str], at: int, norm_at: int) -> Iterator[Leaf]:
  """Yields a part of an expansion, and of its batch norm."""
  part = slice(i * width, (i + 1) * width)
  yield leaves.pointwise((*path, 0, 'conv'), width, chunks * width, place, (at,)).cut(part, 3)
  for leaf in leaves.norm((*path, 0, 'norm'), chunks * width, place[:1], (norm_at,)):
    yield leaf.cut(part)


def _filtered(path: Path, size: int, i: int, chunks: int, width: int, place: tuple[str, str], at: int,
              norm_at: int) -> Iterator[Leaf]:
  """Yields a part of a depthwise convolution, and of its batch norm."""
  part, shape = slice(i * width, (i + 1) * width), (size, size, 1, chunks * width)
  yield Leaf((*path, 1, 'conv', 'kernel'), shape, place, (at,), (0, 1, 3), taps=2).cut(part, 3)
  for leaf in leaves.norm((*path, 1, 'norm'), chunks * width, place[:1], (norm_at,)):
    yield leaf.cut(part)


def _summed(path: Path, i: int, chunks: int, width: int, outputs: int, place: tuple[str, str], at: int) -> Leaf:
  """Returns a part of a projection."""
  return leaves.pointwise((*path, 2, 'conv'), chunks * width, outputs, place, (at,)).cut(slice(i * width, (i + 1) * width), 2)

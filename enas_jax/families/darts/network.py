"""DARTS networks as a family: operations and inputs of both cells are data; auxiliary head and drop path as in the module.

A level is all that has one resolution: the cells between two reductions, opened by the reduction cell. Its tape holds for each
cell both inputs, four nodes and what stands between the halves of a separable convolution. What comes from a level before
arrives on tapes of its own: 'bring' and 'inputs' make the two inputs of a reduction cell, still at the resolution before,
'open' what it does on them, 'down' the input of the next cell that skips the reduction cell.
"""
from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from enas_jax.families import pooling
from enas_jax.families.autodiff import Heads
from enas_jax.families.cells import CellNetwork, Pass, Spec, Steps, Work, norm_shapes, sum_work
from enas_jax.families.darts.weights import (
    BETWEEN,
    BLOCKS,
    EDGES,
    KERNEL,
    MID,
    REGISTERS,
    STEM,
    WIDE,
    Capacity,
    leaves_of,
)
from enas_jax.families.leaves import Leaf
from enas_jax.families.planes import Planes, barrier, depthwise, pointwise
from enas_jax.families.tape import Operation, Program, Registers, Step, same
from enas_jax.networks.darts import AUXILIARY_WEIGHT, check_auxiliary, drop_path
from enas_jax.spaces.darts import INPUTS, NODES, OPERATIONS, DartsArchitecture
from enas_jax.training.family import Limits, Mode, Weights
from enas_jax.types import Task

POOL, POOL_STRIDE = 5, 3  # Of the auxiliary head.
PROJECT, NORM = len(OPERATIONS), len(OPERATIONS) + 1  # On a level's tape, beside the operations of edges.


class StackedDarts(CellNetwork[DartsArchitecture, Capacity]):
  """The network of one capacity."""

  def tapes(self) -> dict[str, Spec]:
    """Returns the tapes of the three levels and between them."""
    capacity, specs = self.capacity, {}
    for level, cells in enumerate(capacity.levels()):
      width, count = self._width(level), len(cells)
      kernels = {'projection': (count * INPUTS * NODES, width, width), **_block_shapes(count * 2 * EDGES, width)}
      operations = (
          *self._edges(width, 1), Operation(self._project, ('projection',), normed=False, macs=width**2), Operation(same))
      specs[f'level{level}'] = Spec(
          operations, count * (INPUTS * (NODES + 1) + 2 * EDGES), count * (INPUTS + 2 * EDGES), width, level, kernels)
      if level:
        for start, name, wide in self.capacity.crossings(level):
          before, halving = self._width(start), self._halves(level, start, name)
          kind = Operation(self._reduce, ('even', 'odd'), normed=False, macs=before * width // 2) if halving else Operation(
              self._project, ('projection',), normed=False, macs=before * width)
          shapes = {'even': (wide, width // 2, before), 'odd': (wide, width // 2, before)} if halving else {
              'projection': (wide, width, before)}
          specs[name] = Spec((kind,), wide, 1, width, level - (not name.startswith('down')), shapes)
        specs[f'inputs{level}'] = Spec((Operation(same),), INPUTS, INPUTS, width, level - 1, {})
        halves = {'even': (EDGES, width // 2, width), 'odd': (EDGES, width // 2, width)}
        specs[f'open{level}'] = Spec(
            self._edges(width, 2), EDGES, EDGES, width, level, {**_block_shapes(EDGES, width), **halves})
    return specs

  def steps(self, architecture: DartsArchitecture) -> Steps:
    """Returns the instructions on each tape."""
    capacity, found = self.capacity, {name: list[Step]() for name in self.tapes()}
    for i, cell in enumerate(architecture.stack()):
      level, number = capacity.place(i)
      base, body = capacity.base(i), found[f'level{level}']
      norms, blocks = number * (INPUTS + 2 * EDGES), number * 2 * EDGES
      for side in range(INPUTS):
        source = capacity.output(i - 2 + side)
        if cell.reduces:
          name = capacity.crossing(level, source.level)
          found[name] += [Step(0, register, INPUTS + side, kernel=side * NODES + k)
                          for k, register in enumerate(source.registers)]
          found[f'inputs{level}'].append(Step(0, INPUTS + side, side, norm=side))
          continue
        total = base + BETWEEN + side
        if source.level == level:
          places = itertools.count((number * INPUTS + side) * NODES)
          body += [Step(PROJECT, register, total, kernel=next(places)) for register in source.registers]
        else:
          found[f'down{level}'] += [Step(0, register, total, kernel=k) for k, register in enumerate(source.registers)]
        body.append(Step(NORM, total, base + side, norms + side))
      for e, edge in enumerate(cell.edges):
        code, node, between = OPERATIONS.index(edge.operation), base + INPUTS + e // 2, base + BETWEEN + INPUTS + e
        norm, place, factor = norms + INPUTS + 2 * e, blocks + 2 * e, 1 + i * EDGES + e
        double = edge.operation.startswith('sep')
        if cell.stride(edge) == 2:
          first = Step(code, edge.input, between if double else node, e, e, factor=0 if double else factor)
          found[f'open{level}'].append(first)
        else:
          plain = edge.operation in ('skip_connect', 'max_pool_3x3', 'avg_pool_3x3')
          body.append(Step(code, base + edge.input, between if double else node, -1 if plain else norm, 0 if plain else place,
                           factor=0 if double or edge.operation == 'skip_connect' else factor))
        if double:
          body.append(Step(code, between, node, norm + 1, place + 1, factor=factor))
    return found

  def leaves(self, architecture: DartsArchitecture, task: Task) -> Iterator[Leaf]:
    """Yields stem, cells and heads."""
    return leaves_of(architecture, self.capacity, task)

  def fixed(self, task: Task) -> dict[str, Any]:
    """Returns the shapes of stem and heads."""
    first, last = STEM * self.capacity.channels, NODES * self._width(2)
    linear = {'kernel': (last, task.num_classes), 'bias': (task.num_classes,)}
    shapes: dict[str, Any] = {'stem': {'kernel': (3, 3, first, task.image_shape[2]), **norm_shapes(first)}, 'head': linear}
    if self.capacity.auxiliary:
      shapes |= {'narrow': {'kernel': (MID, last), **norm_shapes(MID)},
                 'wide': {'kernel': (2, 2, WIDE, MID), **norm_shapes(WIDE)},
                 'classifier': {**linear, 'kernel': (WIDE, task.num_classes)}}
    return shapes

  def fixed_work(self, task: Task) -> Work:
    """Returns what the stem takes."""
    first = STEM * self.capacity.channels
    return sum_work([(9 * task.image_shape[2] * first, first, 0)], task)

  def heads(self, params: Weights, stats: Weights, plan: dict[str, Program], limits: Limits, images: jax.Array,
            mode: Mode) -> tuple[Heads, Weights]:
    """Returns the logits of the head, and of the auxiliary one if there is one, and the running statistics."""
    run, factors = Pass(self, params, stats, plan, limits, mode), self._factors(mode, len(images))
    stem = run.normed('stem', self.convolution(self.planes(images), params['stem']['kernel']))
    bodies = [self._registers(0, stem.shape[1:], stem.dtype).at[:STEM].set(stem.reshape(STEM, -1, *stem.shape[1:]))]
    bodies[0] = run.tape('level0', bodies[0], factors=factors)
    for level in (1, 2):
      shape = bodies[-1].shape[2:]
      inputs = jnp.zeros((2 * INPUTS, self._width(level), *shape), stem.dtype)
      body = self._registers(level, (-(-shape[0] // 2), -(-shape[1] // 2), shape[2]), stem.dtype)
      for start, name, _ in self.capacity.crossings(level):
        if name.startswith('down'):
          body = run.tape(name, body, sources=bodies[start])
        else:
          inputs = run.tape(name, inputs, sources=bodies[start])
      inputs = run.tape(f'inputs{level}', inputs)
      body = run.tape(f'open{level}', body, sources=inputs, factors=factors)
      bodies.append(run.tape(f'level{level}', body, factors=factors))
    last, middle = (self._output(bodies[2], cell) for cell in (self.capacity.cells - 1, self.capacity.reductions()[1]))
    heads: Heads = ((1.0, self.classify(last, params['head'])),)
    if self.capacity.auxiliary:
      heads = *heads, (AUXILIARY_WEIGHT, self._auxiliary(run, params, middle))
    return heads, run.after

  def image_channels(self, params: Weights) -> int:
    """Returns the channels of the images that a module with these weights takes."""
    return int(params['stem'][0]['kernel'].shape[2])

  def _auxiliary(self, run: Pass, params: Weights, x: Planes) -> jax.Array:
    """Returns the logits of the head at two thirds of the depth; see `networks.darts.AuxiliaryHead`."""
    check_auxiliary(*x.shape[1:3], stride=POOL_STRIDE)
    rows, columns = (range(0, n - POOL + 1, POOL_STRIDE) for n in x.shape[1:3])
    x = jnp.maximum(x, 0)
    pooled = [[x[:, i:i + POOL, j:j + POOL].mean((1, 2)) for j in columns] for i in rows]
    x = jnp.stack([jnp.stack(row, 1) for row in pooled], 1)
    x = jnp.maximum(run.normed('narrow', self.pointwise(x, params['narrow']['kernel'])), 0)
    height, width = (n - 1 for n in x.shape[1:3])
    kernel = params['wide']['kernel'].astype(self.dtype)
    taps = [pointwise(x[:, i:i + height, j:j + width], kernel[i, j]) for i in range(2) for j in range(2)]
    x = jnp.maximum(run.normed('wide', functools.reduce(jnp.add, taps)), 0)
    return self.classify(x, params['classifier'])

  def _factors(self, mode: Mode, batch: int) -> Any:
    """Returns drop path's factors of every edge as rows [1 + cells x edges, B], the first of ones; None if nothing is dropped.

    The draws are those of the module.
    """
    if not self.capacity.drop_path or mode.key is None:
      return None
    shape = self.capacity.cells, EDGES, batch
    drawn = drop_path(mode.key, self.capacity.drop_path * mode.progress, shape).reshape(-1, batch)
    return jnp.where(mode.training, jnp.concatenate([jnp.ones((1, batch)), drawn]), 1.0)

  def _width(self, level: int) -> int:
    return self.capacity.channels << level

  def _registers(self, level: int, shape: tuple[int, ...], dtype: Any) -> Registers:
    count = len(self.capacity.levels()[level]) * REGISTERS + (STEM if level == 0 else 0)
    return jnp.zeros((count, self._width(level), *shape), dtype)

  def _output(self, body: Registers, cell: int) -> Planes:
    nodes = self.capacity.output(cell).registers
    return body[nodes.start:nodes.stop].reshape(-1, *body.shape[2:])

  def _halves(self, level: int, start: int, name: str) -> bool:
    """Returns whether a tape between levels halves the resolution."""
    return name.startswith('down') or start < level - 1

  def _project(self, x: Planes, kernels: Weights) -> Planes:
    return self.pointwise(jnp.maximum(x, 0), kernels['projection'])

  def _reduce(self, x: Planes, kernels: Weights) -> Planes:
    """Halves the resolution: half of the channels from even pixels, half from odd ones."""
    x = jnp.maximum(x, 0)
    odd = jnp.pad(x[:, 1::2, 1::2], ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)))
    return barrier(jnp.concatenate([self.pointwise(x[:, ::2, ::2], kernels['even']), self.pointwise(odd, kernels['odd'])]))

  def _edges(self, width: int, stride: int) -> tuple[Operation, ...]:
    """Returns what edges may do, in the order of `OPERATIONS`; separable convolutions do it twice."""
    def block(size: int, dilation: int, x: Planes, kernels: Weights) -> Planes:
      margin = (KERNEL - size) // 2
      kernel = kernels['depthwise'][margin:margin + size, margin:margin + size].astype(self.dtype)
      y = self._dilated(jnp.maximum(x, 0), kernel, stride) if dilation == 2 else depthwise(
          jnp.maximum(x, 0), kernel, stride, self.lowering)
      return self.pointwise(y, kernels['pointwise'])

    skip = Operation(same, normed=False) if stride == 1 else Operation(self._reduce, ('even', 'odd'), macs=width**2)
    known = {
        'max_pool_3x3': Operation(lambda x, _: pooling.maximum(x, stride), normed=False, macs=9 * width),
        'avg_pool_3x3': Operation(lambda x, _: pooling.average(x, stride, self.lowering), normed=False, macs=9 * width),
        'skip_connect': skip,
        **{name: Operation(functools.partial(block, *shape), ('depthwise', 'pointwise'), macs=shape[0]**2 * width + width**2)
           for name, shape in BLOCKS.items()},
    }
    return tuple(known[name] for name in OPERATIONS)

  def _dilated(self, x: Planes, kernel: jax.Array, stride: int) -> Planes:
    """Applies a depthwise convolution of dilation 2: windows hold even or odd pixels alone, so four images stand for one."""
    if stride == 2:  # Windows start at even pixels, and then have even ones alone.
      return depthwise(x[:, ::2, ::2], kernel, 1, self.lowering)
    channels, height, width, batch = x.shape
    x = jnp.pad(x, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)))
    rows, columns = -(-height // 2), -(-width // 2)
    x = x.reshape(channels, rows, 2, columns, 2, batch).transpose(0, 1, 3, 2, 4, 5).reshape(channels, rows, columns, 4 * batch)
    x = depthwise(x, kernel, 1, self.lowering).reshape(channels, rows, columns, 2, 2, batch).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(channels, 2 * rows, 2 * columns, batch)[:, :height, :width]


def _block_shapes(places: int, width: int) -> dict[str, tuple[int, ...]]:
  return {'depthwise': (places, KERNEL, KERNEL, width), 'pointwise': (places, width, width)}

"""All cells of NAS-Bench-201 in one network with shared weights: which operation an edge has is data.

So one compiled program measures every cell of the space. A stage is one cell in a loop over its repetitions, with stacked
weights. An operation is a branch, of which the chosen one alone is run.
"""
from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from enas_jax.scores.equations import Kind
from enas_jax.scores.network import Seen, Sites, Tap, Weights, alone
from enas_jax.spaces.nasbench201 import CONV_1X1, CONV_3X3, EDGES, OPERATIONS, NasBench201Architecture
from enas_jax.supernets.operations import Kept, Looking, average, convolution, draw, normalise
from enas_jax.types import Task

CONVOLUTIONS = {CONV_1X1: '1x1', CONV_3X3: '3x3'}
BESIDE = ('first', 'second', 'beside')  # The convolutions of a residual block.


class NasBench201Supernet:
  """The cells of one skeleton.

  Args:
    channels, cells: of the skeleton.
    task: the images and the number of classes.

  Attributes:
    options: how many operations each edge may have.
  """

  def __init__(self, channels: int, cells: int, task: Task):
    self.channels, self.cells, self.task = channels, cells, task
    self.options = (len(OPERATIONS),) * len(EDGES)

  def choices(self, architecture: NasBench201Architecture) -> np.ndarray:
    """Returns a cell as data: the operation of each edge, [6] int32."""
    return np.array(architecture.operations, np.int32)

  def draw(self, seed: Sequence[int]) -> Weights:
    """Draws weights that all cells share, as a network of its own would have them at first."""
    rng, widths = np.random.default_rng(seed), [self.channels << stage for stage in range(3)]
    bound = 1 / np.sqrt(widths[2])
    return {
        'stem': draw(rng, 3, 3, self.task.image_shape[2], widths[0]),
        'stages': [{name: draw(rng, self.cells, len(EDGES), int(name[0]), int(name[0]), width, width)
                    for name in CONVOLUTIONS.values()} for width in widths],
        'blocks': [{'first': draw(rng, 3, 3, before, width), 'second': draw(rng, 3, 3, width, width),
                    'beside': draw(rng, 1, 1, before, width, normed=False)}
                   for before, width in itertools.pairwise(widths)],
        'norm': {'scale': np.ones(widths[2], np.float32), 'bias': np.zeros(widths[2], np.float32)},
        'head': {'kernel': rng.uniform(-bound, bound, (widths[2], self.task.num_classes)).astype(np.float32),
                 'bias': np.zeros(self.task.num_classes, np.float32)},
    }

  def network(self, choices: jax.Array, weights: Weights) -> NasBench201Candidate:
    """Returns one cell's network; or a mixture's, if `choices` are the weights [6, 5] of each edge's operations."""
    return NasBench201Candidate(self, choices, weights)


class NasBench201Candidate:
  """One cell in a supernet, or a mixture of cells, as a `scores.Network`; operations [6] or weights [6, 5] may be traced."""

  def __init__(self, supernet: NasBench201Supernet, choices: jax.Array, weights: Weights):
    self.weights, self._choices, self._supernet = weights, choices, supernet

  def with_weights(self, weights: Weights) -> NasBench201Candidate:
    """Returns the same network with other weights."""
    return NasBench201Candidate(self._supernet, self._choices, weights)

  def forward(self, weights: Weights, images: jax.Array, *, taps: Mapping[Kind, Tap] | None = None, gates: Any = None,
              normalised: bool = True) -> Seen:
    """Runs the network; see `Network.forward`."""
    if taps and self._choices.ndim > 1:
      raise ValueError('what flows through a mixture is not seen')
    looking = Looking(taps or {}, normalised)
    kept: dict[Kind, list[Sites]] = {kind: [] for kind in looking.taps}

    def add(found: Kept, active: jax.Array | None = None) -> None:
      for kind, values in found.items():
        flat = jax.tree.map(lambda v: v.reshape(-1, *v.shape[2:]), values) if active is not None else None
        kept[kind].append(alone(values) if active is None else Sites(flat, active))

    def block(stage: int, x: jax.Array) -> jax.Array:
      y, found = self._block(weights['blocks'][stage], x, looking, gates and gates['blocks'][stage])
      for one in found:
        add(one)
      return y

    x, found = convolution(images, weights['stem'], looking, gate=gates and gates['stem'], rectified=False)
    add(found)
    add(looking.keep(block=x))
    for stage in range(3):
      def cell(x: jax.Array, inputs: tuple[Any, Any]) -> tuple[jax.Array, tuple[Kept, Kept]]:
        y, found = self._cell(inputs[0], x, looking, inputs[1])
        return y, (found, looking.keep(block=y))

      x, (found, outputs) = jax.lax.scan(cell, x, (weights['stages'][stage], gates and gates['stages'][stage]))
      add(found, self._active())
      for kind, values in outputs.items():
        kept[kind].append(Sites(values, jnp.ones(self._supernet.cells, bool)))
      if stage < 2:
        x = block(stage, x)
        add(looking.keep(block=x))
    add(looking.keep(norm=x))
    x = normalise(x, weights['norm'], looking)
    add(looking.keep(relu=x, pooled=jax.nn.relu(x)))
    logits = jax.nn.relu(x).mean((1, 2)) @ weights['head']['kernel'] + weights['head']['bias']
    if gates is not None:
      logits = logits * gates['head']
    add(looking.keep(layer=logits))
    return Seen(logits, kept)

  def gates(self, images: jax.Array) -> dict[str, Any]:
    """Returns factors of one for the output of every layer; those of convolutions on an edge are shared by its operations."""
    batch, net = len(images), self._supernet

    def ones(*leading: int, width: int) -> jax.Array:
      return jnp.ones((*leading, batch, width), images.dtype)

    widths = [net.channels << stage for stage in range(3)]
    return {
        'stem': ones(width=widths[0]), 'stages': [ones(net.cells, len(EDGES), width=width) for width in widths],
        'blocks': [{name: ones(width=width) for name in BESIDE} for width in widths[1:]],
        'head': ones(width=net.task.num_classes)}

  def fan_ins(self, images: jax.Array) -> dict[str, Any]:
    """Returns how many weights a channel of each layer has; on the edges [cells, edges, 1, 1], by the operation."""
    net, weights = self._supernet, self.weights

    def of(convolution: Mapping[str, jax.Array]) -> int:
      return int(np.prod(convolution['kernel'].shape[-4:-1]))

    def on_edges(stage: Any) -> jax.Array:
      counts = jnp.where(self._choices == CONV_3X3, of(stage['3x3']), of(stage['1x1']))
      return jnp.broadcast_to(counts[None, :, None, None], (net.cells, len(EDGES), 1, 1))

    return {
        'stem': of(weights['stem']), 'stages': [on_edges(stage) for stage in weights['stages']],
        'blocks': [{name: of(block[name]) for name in BESIDE} for block in weights['blocks']],
        'head': weights['head']['kernel'].shape[0]}

  def layers(self, tree: Weights) -> list[Sites]:
    """Returns the kernels; those of operations that the cell has not are not active."""
    groups = [alone(tree['stem']['kernel'].reshape(-1))]
    for stage in tree['stages']:
      for operation, name in CONVOLUTIONS.items():
        kernel = stage[name]['kernel']
        mixed = self._choices.ndim > 1  # Then all operations are there.
        active = jnp.tile(jnp.ones(len(EDGES), bool) if mixed else self._choices == operation, len(kernel))
        groups.append(Sites(kernel.reshape(len(active), -1), active))
    groups += [alone(block[name]['kernel'].reshape(-1)) for block in tree['blocks'] for name in BESIDE]
    return [*groups, alone(tree['head']['kernel'].reshape(-1))]

  def map_kernels(self, tree: Weights, change: Callable[[jax.Array, int], jax.Array],
                  others: Callable[[jax.Array], jax.Array] = lambda leaf: leaf) -> Weights:
    """Returns the tree with its kernels changed; see `Network.map_kernels`."""
    def mapped(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
      if path[-1].key != 'kernel':
        return others(leaf)
      return change(leaf, int(np.prod(leaf.shape[-4:-1] if leaf.ndim > 2 else leaf.shape[:1])))

    return jax.tree_util.tree_map_with_path(mapped, tree)

  def steps(self, weights: Weights, images: jax.Array,
            step: Callable[[Callable[[jax.Array], jax.Array], jax.Array], Any]) -> list[Sites]:
    """Returns what `step` makes of every cell and residual block; see `Network.steps`."""
    looking, found = Looking({}), []
    x = convolution(images, weights['stem'], looking, rectified=False)[0]
    for stage in range(3):
      def cell(x: jax.Array, own: Any) -> tuple[jax.Array, Any]:
        def apply(x: jax.Array) -> jax.Array:
          return self._cell(own, x, looking, None)[0]

        return apply(x), step(apply, x)

      x, values = jax.lax.scan(cell, x, weights['stages'][stage])
      found.append(Sites(values, jnp.ones(self._supernet.cells, bool)))
      if stage < 2:
        def block(x: jax.Array, stage: int = stage) -> jax.Array:
          return self._block(weights['blocks'][stage], x, looking, None)[0]

        found.append(alone(step(block, x)))
        x = block(x)
    return found

  def _active(self) -> jax.Array:
    """Whether each edge of the cells of a stage has a convolution, [cells x edges]."""
    convolutional = jnp.isin(self._choices, jnp.array(list(CONVOLUTIONS)))
    return jnp.tile(convolutional, self._supernet.cells)

  def _cell(self, weights: Any, x: jax.Array, looking: Looking, gates: Any) -> tuple[jax.Array, Kept]:
    """Returns a cell's output, and what was kept of its edges, [edges, ...], zeros where there is no convolution."""
    nodes, kept = {0: x}, []
    for edge, (source, node) in enumerate(EDGES):
      y, found = self._edge(
          self._choices[edge], nodes[source], jax.tree.map(lambda w: w[edge], weights), looking,  # noqa: B023
          None if gates is None else gates[edge])
      nodes[node] = nodes[node] + y if node in nodes else y
      kept.append(found)
    return nodes[3], jax.tree.map(lambda *values: jnp.stack(values), *kept)

  def _edge(self, operation: jax.Array, x: jax.Array, weights: Any, looking: Looking, gate: Any) -> tuple[jax.Array, Kept]:
    def convolve(name: str) -> Callable[[jax.Array], tuple[jax.Array, Kept]]:
      return lambda x: convolution(x, weights[name], looking, gate=gate)

    if operation.ndim:  # A mixture; nothing is kept of it.
      mixed = (x, convolve('1x1')(x)[0], convolve('3x3')(x)[0], average(x, 3, stride=1))
      return sum((weight * y for weight, y in zip(operation[1:], mixed, strict=True)), jnp.zeros_like(x)), {}
    nothing = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), jax.eval_shape(convolve('1x1'), x)[1])
    return jax.lax.switch(operation, (
        lambda x: (jnp.zeros_like(x), nothing), lambda x: (x, nothing), convolve('1x1'), convolve('3x3'),
        lambda x: (average(x, 3, stride=1), nothing)), x)

  def _block(self, weights: Any, x: jax.Array, looking: Looking, gates: Any) -> tuple[jax.Array, list[Kept]]:
    """Returns a residual block's output, and what was kept of its convolutions."""
    gates = gates or dict.fromkeys(BESIDE)
    y, first = convolution(x, weights['first'], looking, gate=gates['first'], stride=2)
    y, second = convolution(y, weights['second'], looking, gate=gates['second'])
    beside, third = convolution(average(x, 2, stride=2), weights['beside'], looking, gate=gates['beside'], rectified=False)
    return y + beside, [first, second, third]

"""A second family, the tests' own: lines of all widths as one program. Registering it edits no file of the package."""
import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from enas_jax.families import register
from enas_jax.families.autodiff import AutodiffNetwork
from support.line_space import Line

MOMENTUM, EPSILON = 0.99, 1e-5  # Flax's defaults.


@dataclasses.dataclass(frozen=True)
class StackedLine(AutodiffNetwork):
  """Lines up to a width: the hidden layer is padded with zeros. There is nothing to plan."""

  width: int

  def example(self):
    return Line(1)

  def plan(self, architecture):
    return ()

  def initial(self, architecture, task, rng):
    inputs, width, classes = math.prod(task.image_shape), architecture.width, task.num_classes

    def uniform(*shape):
      return rng.uniform(-1, 1, shape).astype(np.float32) / np.float32(math.sqrt(shape[0]))

    params = {'first': {'kernel': uniform(inputs, width), 'bias': np.zeros(width, np.float32)},
              'norm': {'scale': np.ones(width, np.float32), 'bias': np.zeros(width, np.float32)},
              'head': {'kernel': uniform(width, classes), 'bias': np.zeros(classes, np.float32)}}
    return self.pack(architecture, params, {'norm': {'mean': np.zeros(width, np.float32), 'var': np.ones(width, np.float32)}})

  def pack(self, architecture, params, stats):
    extra = self.width - architecture.width

    def pad(path, x):
      rows = {'first': [(0, 0), (0, extra)][2 - x.ndim:], 'norm': [(0, extra)], 'head': [(0, extra), (0, 0)][2 - x.ndim:]}
      return np.pad(np.asarray(x), rows[path[0].key])

    return tuple(jax.tree_util.tree_map_with_path(pad, tree) for tree in (params, stats))

  def unpack(self, architecture, params, stats, task):
    width = architecture.width

    def cut(path, x):
      layer, x = path[0].key, np.asarray(x)
      return x[..., :width] if layer in ('first', 'norm') else x[:width] if x.ndim == 2 else x

    return tuple(jax.tree_util.tree_map_with_path(cut, tree) for tree in (params, stats))

  def heads(self, params, stats, plan, limits, images, mode):
    hidden = images.reshape(len(images), -1) @ params['first']['kernel'] + params['first']['bias']
    count = len(hidden) * (1 if self.axis is None else jax.lax.axis_size(self.axis))
    mean = self.total(hidden.sum(0)) / count
    own = {'mean': mean, 'var': self.total((hidden * hidden).sum(0)) / count - mean * mean}
    moved = jax.tree.map(lambda a, b: MOMENTUM * a + (1 - MOMENTUM) * b, stats['norm'], own)
    used, after = (jax.tree.map(lambda a, b: jnp.where(mode.training, a, b), new, stats['norm']) for new in (own, moved))
    normed = (hidden - used['mean']) * jax.lax.rsqrt(used['var'] + EPSILON) * params['norm']['scale'] + params['norm']['bias']
    return ((1.0, jax.nn.relu(normed) @ params['head']['kernel'] + params['head']['bias']),), {'norm': after}


@dataclasses.dataclass(frozen=True)
class LineFamily:
  """All lines up to a width in one program."""

  width: int
  reason: str = 'Lines share a program'

  def capacity(self, architecture):
    return self.width

  def own_capacity(self, architecture):
    return architecture.width

  def step_seconds(self, architecture, batch_size, capacity=None):
    return 1e-6 * batch_size * (capacity or architecture.width)

  def side_by_side(self, capacity):
    return True

  def network(self, capacity, *, dtype, lowering, masked, axis):
    return StackedLine(capacity, axis=axis)


@register('line')
def make(space, task, *, batch_size, steps, platform):
  return LineFamily(4)

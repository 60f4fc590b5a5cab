"""A space of linear networks: what any space but the chains goes through."""
import dataclasses

import numpy as np
from flax import nnx

from enas_jax.networks import build
from enas_jax.types import Request, Schedule


@dataclasses.dataclass(frozen=True)
class Line:
  """A linear network of a space of its own."""

  width: int = 2

  def to_json(self):
    return {'space': 'line', 'width': self.width}


class LineNetwork(nnx.Module):
  def __init__(self, inputs, width, classes, *, rngs):
    self.first, self.norm = nnx.Linear(inputs, width, rngs=rngs), nnx.BatchNorm(width, rngs=rngs)
    self.head = nnx.Linear(width, classes, rngs=rngs)

  def __call__(self, images):
    return self.head(nnx.relu(self.norm(self.first(images.reshape(len(images), -1)))))


@build.register
def _(architecture: Line, *, task, key):
  return LineNetwork(int(np.prod(task.image_shape)), architecture.width, task.num_classes, rngs=nnx.Rngs(params=key))


class LineSpace:
  name = 'line'

  def num_params(self, architecture, task):
    return 64 * architecture.width + 3 * architecture.width + 3 * architecture.width + 3

  def macs(self, architecture, task):
    return architecture.width * (64 + 3)


def line(replicate=0, *, width=2, epochs=3, **schedule):
  return Request(Line(width), Schedule(epochs=epochs, batch_size=8, **{'learning_rate': 0.1, **schedule}), replicate=replicate)

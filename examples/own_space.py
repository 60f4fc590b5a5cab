"""A search space of your own: what can be built, as plain data, and the network of each member as a Flax NNX module.

    python examples/own_space.py
    python -m enas_jax.search --plugin=examples/own_space.py --config.space=two_blocks --workdir=runs/two \
      --config.strategy=random

A member is two convolutions, each with one of four kernels. `Choices` knows what every space of independent choices does; a
space of another kind has all methods of `SearchSpace` (enas_jax/spaces/base.py) instead. Options are words (str); convert
numbers in `member`. Before a search begins a member is drawn, written as JSON and read back, and its parameters are counted.

A batch norm wants a momentum of 0.9, `nnx.BatchNorm(channels, momentum=0.9, rngs=rngs)`: Flax's 0.99 is for long trainings.
Training and evaluation mode are set by enas_jax. `enas_jax.load` reads a trained network after this file is imported.
"""
import dataclasses

import numpy as np
from flax import nnx

import enas_jax
from enas_jax import networks, spaces


@dataclasses.dataclass(frozen=True)
class TwoBlocks:
  """A member: plain values that say all of the network."""

  kernels: tuple[int, int]
  channels: int

  def to_json(self):
    return {'space': 'two_blocks', 'version': 1, 'kernels': list(self.kernels), 'channels': self.channels}

  def convolutions(self, task):
    """Kernel, channels in and channels out of each."""
    return list(zip(self.kernels, (task.image_shape[2], self.channels), (self.channels, self.channels), strict=True))


@spaces.register
@dataclasses.dataclass(frozen=True)
class TwoBlocksSpace(spaces.Choices[TwoBlocks]):
  """All pairs of kernels. A field is a setting: --config.two_blocks.channels=16."""

  channels: int = 8

  name = 'two_blocks'
  options = (('1', '3', '5', '7'),) * 2

  def member(self, chosen):
    return TwoBlocks(tuple(map(int, chosen)), self.channels)

  def chosen(self, architecture):
    return tuple(map(str, architecture.kernels))

  def num_params(self, architecture, task):
    weights = sum(k * k * n * m + m for k, n, m in architecture.convolutions(task))
    return weights + (architecture.channels + 1) * task.num_classes

  def macs(self, architecture, task):
    height, width, _ = task.image_shape
    products = sum(k * k * n * m for k, n, m in architecture.convolutions(task))
    return products * height * width + architecture.channels * task.num_classes

  def from_json(self, record):
    return TwoBlocks(tuple(record['kernels']), record['channels'])


class Network(nnx.Module):
  """Normalised images [B, H, W, C] to logits [B, classes]."""

  def __init__(self, architecture, task, rngs):
    self.blocks = nnx.List([nnx.Conv(n, m, (k, k), rngs=rngs) for k, n, m in architecture.convolutions(task)])
    self.head = nnx.Linear(architecture.channels, task.num_classes, rngs=rngs)

  def __call__(self, x):
    for block in self.blocks:
      x = nnx.relu(block(x))
    return self.head(x.mean((1, 2)))


@networks.build.register(TwoBlocks)
def build(architecture, *, task, key):
  """How the module of a member is made."""
  return Network(architecture, task, nnx.Rngs(params=key))


def main():
  """Searches the space on small images of four classes, each class bright in its own quarter."""
  rng, labels = np.random.default_rng(0), np.arange(240) % 4
  images = rng.integers(0, 60, (240, 8, 8), np.uint8)
  for image, label in zip(images, labels, strict=True):
    image[4 * (label // 2):][:4, 4 * (label % 2):][:, :4] += 120
  result = enas_jax.run(
      {'space': 'two_blocks', 'strategy': 'random', 'budget.evaluations': 3, 'training.batch_size': 32, 'epochs.first': 2,
       'epochs.final': 4}, data=(images, labels))
  print(f'{result.architecture}: {100 * result.accuracy:.0f} % of the test images right')


if __name__ == '__main__':
  main()

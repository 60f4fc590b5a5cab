"""A small network twice: as a Flax NNX module, and as plain NumPy in float64 with every activation at hand.

The NumPy one knows nothing of the package: derivatives of it are central differences.
"""
import numpy as np
from flax import nnx

from enas_jax.networks.layers import BatchNorm, conv

EPSILON = 1e-5
CLASSES, STEM, WIDTH = 4, 3, 5


class Block(nnx.Module):
  """ReLU, 3x3 convolution, batch norm; with its input added where stride and channels let it."""

  def __init__(self, before, after, stride, *, rngs):
    self.conv, self.norm = conv(before, after, 3, stride=stride, rngs=rngs), BatchNorm(after, rngs=rngs)
    self.added = stride == 1 and before == after

  def __call__(self, x):
    y = self.norm(self.conv(nnx.relu(x)))
    return x + y if self.added else y


class Network(nnx.Module):
  """Stem, three blocks, batch norm, ReLU, mean over pixels, linear layer."""

  def __init__(self, rngs):
    self.stem, self.norm = conv(2, STEM, 3, rngs=rngs), BatchNorm(STEM, rngs=rngs)
    self.layers = nnx.List([
        Block(STEM, STEM, 1, rngs=rngs), Block(STEM, WIDTH, 2, rngs=rngs), Block(WIDTH, WIDTH, 1, rngs=rngs)])
    self.last = BatchNorm(WIDTH, rngs=rngs)
    self.head = nnx.Linear(WIDTH, CLASSES, rngs=rngs)

  def __call__(self, images):
    x = self.norm(self.stem(images))
    for layer in self.layers:
      x = layer(x)
    return self.head(nnx.relu(self.last(x)).mean((1, 2)))


class Plain:
  """The same in NumPy.

  Args:
    weights: arrays by name: 'stem', '0' to '2', 'head' (kernels), each convolution's 'NAME scale' and 'NAME bias', 'head bias'.

  Attributes of the last run: relus (inputs), layers (outputs), norms (inputs), blocks (the first one's input, then outputs),
  pooled.
  """

  def __init__(self, weights):
    self.weights = {name: np.asarray(value, np.float64) for name, value in weights.items()}
    self.gates = {}

  def run(self, images, normalised=True):
    """Returns logits [B, classes]."""
    w = self.weights
    self.relus, self.layers, self.norms = [], [], []
    x = self._normalise(w, 'stem', self._convolve(w, 'stem', np.asarray(images, np.float64), 1), normalised)
    self.blocks = [x]
    for index in range(3):
      x = self.block(index, x, normalised, w)
      self.blocks.append(x)
    x = self._normalise(w, 'last', x, normalised)
    self.relus.append(x)
    self.pooled = np.maximum(x, 0)
    return self._gated('head', self.pooled.mean((1, 2)) @ w['head'] + w['head bias'])

  def block(self, index, x, normalised=True, w=None):
    """Returns the output of a block on an input."""
    w = self.weights if w is None else w
    self.relus.append(x)
    y = self._normalise(w, str(index), self._convolve(w, str(index), np.maximum(x, 0), 2 if index == 1 else 1), normalised)
    return y if index == 1 else x + y

  def _convolve(self, w, name, x, stride):
    height, width = x.shape[1:3]
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    y = sum(padded[:, i:i + height:stride, j:j + width:stride] @ w[name][i, j] for i in range(3) for j in range(3))
    return self._gated(name, y)

  def _gated(self, name, y):
    self.layers.append(y)
    return y * self.gates[name].reshape(len(y), *[1] * (y.ndim - 2), -1) if name in self.gates else y

  def _normalise(self, w, name, x, normalised):
    self.norms.append(x)
    if not normalised:
      return x
    axes = (0, 1, 2)
    return (x - x.mean(axes)) / np.sqrt(x.var(axes) + EPSILON) * w[f'{name} scale'] + w[f'{name} bias']


def weights_of(module):
  """Returns the weights of a `Network` by the names of `Plain`."""
  found = {'stem': module.stem.kernel, 'stem scale': module.norm.scale, 'stem bias': module.norm.bias,
           'last scale': module.last.scale, 'last bias': module.last.bias,
           'head': module.head.kernel, 'head bias': module.head.bias}
  for index, layer in enumerate(module.layers):
    found |= {str(index): layer.conv.kernel, f'{index} scale': layer.norm.scale, f'{index} bias': layer.norm.bias}
  return {name: np.asarray(value[...]) for name, value in found.items()}


KERNELS = ('stem', '0', '1', '2', 'head')


def derivative(function, array, step=1e-5):
  """Returns the derivatives [entries, ...] of `function()`, an array [...], by the entries of an array, changed for a while."""
  found, flat = [], array.reshape(-1)
  for index in range(flat.size):
    kept = flat[index]
    flat[index] = kept + step
    above = function()
    flat[index] = kept - step
    below = function()
    flat[index] = kept
    found.append((above - below) / (2 * step))
  return np.array(found)

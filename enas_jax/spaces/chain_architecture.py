"""A chain of EG-NAS (Siddiqui, Kyrkou and Theocharides, arXiv 2502.03553, and the authors' code): a network of the chain space.

It is a plain chain of convolutions without branches. A stem maps the image to 2W channels. Then D layers follow in three stages
of W, 2W and 4W channels: layers floor(D/3) and floor(2D/3), counted from 0, double the channels and halve the resolution.
Global average pooling and one linear layer end it. "Depth" counts the D layers alone, "width" is W.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

from enas_jax.errors import UserError

SEPARABLE, CONVOLUTION = 0, 1
OPERATIONS = ('separable convolution', 'convolution')
KERNELS = (3, 5, 7)
MIN_DEPTH = 3  # One layer a stage.
STEM_KERNEL = 3
NAME, VERSION = 'chain', 1  # In JSON.


class Layer(NamedTuple):
  """One body layer with everything that a builder needs."""

  operation: int
  kernel: int
  stride: int
  in_channels: int
  out_channels: int

  @property
  def weights(self) -> int:
    """The weights of the layer's convolutions. Each is used once for every position of the layer's output."""
    if self.operation == SEPARABLE:
      return self.kernel**2 * self.in_channels + self.in_channels * self.out_channels
    return self.kernel**2 * self.in_channels * self.out_channels


@dataclasses.dataclass(frozen=True)
class ChainArchitecture:
  """A chain of convolutions.

  Attributes:
    width: W, at least 1.
    operations: one for each layer: 0 is a separable, 1 an ordinary convolution. There are at least `MIN_DEPTH`.
    kernels: the kernel size of each layer: 3, 5 or 7.

  Raises:
    UserError: a field is out of range, or there are not as many kernels as operations.
  """

  width: int
  operations: tuple[int, ...]
  kernels: tuple[int, ...]

  def __post_init__(self) -> None:
    if self.depth < MIN_DEPTH:
      raise UserError(f'chain: depth {self.depth} is below {MIN_DEPTH}; give at least {MIN_DEPTH} operations')
    if self.width < 1:
      raise UserError(f'chain: width {self.width} is below 1; give a positive width')
    if len(self.kernels) != self.depth:
      raise UserError(f'chain: {len(self.kernels)} kernels for {self.depth} operations; give one kernel a layer')
    for values, allowed, name in ((self.operations, range(len(OPERATIONS)), 'operation'), (self.kernels, KERNELS, 'kernel')):
      for i, value in enumerate(values):
        if value not in allowed:
          raise UserError(f'chain: {name} {value!r} at layer {i} is not one of {tuple(allowed)}')

  @classmethod
  def uniform(cls, depth: int, width: int, operation: int = SEPARABLE, kernel: int = 3) -> ChainArchitecture:
    """Returns the chain with the same operation and kernel in every layer."""
    return cls(width, (operation,) * depth, (kernel,) * depth)

  @property
  def depth(self) -> int:
    return len(self.operations)

  @property
  def stem_channels(self) -> int:
    return 2 * self.width

  @property
  def out_channels(self) -> int:
    return 4 * self.width

  def layers(self) -> Iterator[Layer]:
    """Yields the layers of the body, from input to output."""
    doubles = {self.depth // 3, 2 * self.depth // 3}
    in_channels, channels = self.stem_channels, self.width
    for i, (operation, kernel) in enumerate(zip(self.operations, self.kernels, strict=True)):
      if i in doubles:
        channels *= 2
      yield Layer(operation, kernel, 2 if i in doubles else 1, in_channels, channels)
      in_channels = channels

  def with_layer(self, index: int, *, operation: int | None = None, kernel: int | None = None) -> ChainArchitecture:
    """Returns the same chain with another operation or kernel at one layer."""
    operations, kernels = list(self.operations), list(self.kernels)
    if operation is not None:
      operations[index] = operation
    if kernel is not None:
      kernels[index] = kernel
    return dataclasses.replace(self, operations=tuple(operations), kernels=tuple(kernels))

  def to_json(self) -> dict[str, Any]:
    return {
        'space': NAME,
        'version': VERSION,
        'width': self.width,
        'operations': _digits(self.operations),
        'kernels': _digits(self.kernels),
    }

  def summary(self) -> str:
    """Returns depth and width, and how many layers are ordinary convolutions or have large kernels (above 3) if any are."""
    parts = [f'depth {self.depth}', f'width {self.width}']
    changes = ((self.operations.count(CONVOLUTION), 'convolution'), (sum(k > 3 for k in self.kernels), 'large kernel'))
    parts += [f'{count} {name}{"s" if count > 1 else ""}' for count, name in changes if count]
    return ', '.join(parts)

  def __str__(self) -> str:
    return f'depth {self.depth}, width {self.width}, operations {_digits(self.operations)}, kernels {_digits(self.kernels)}'


def _digits(values: tuple[int, ...]) -> str:
  return ''.join(map(str, values))

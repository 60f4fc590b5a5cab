"""The layers that networks first written for PyTorch are made of, with PyTorch's paddings and initial weights."""
from __future__ import annotations

import functools

from flax import nnx

# Uniform in +-1/sqrt(fan in): PyTorch's default, as in the papers' code. (Biases of linear layers are 0 here.)
init = nnx.initializers.variance_scaling(1 / 3, 'fan_in', 'uniform')
MOMENTUM, EPSILON = 0.9, 1e-5  # Of batch norm: the share of the running statistics that stays, and what is added to a variance.
BatchNorm = functools.partial(nnx.BatchNorm, momentum=MOMENTUM, epsilon=EPSILON)


def conv(in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, groups: int = 1, rngs: nnx.Rngs) -> nnx.Conv:
  """Returns a convolution without bias, padded by (kernel - 1) // 2 on every side, also at stride 2."""
  return nnx.Conv(
      in_channels, out_channels, (kernel, kernel), (stride, stride), padding=[((kernel - 1) // 2,) * 2] * 2,
      feature_group_count=groups, use_bias=False, kernel_init=init, rngs=rngs)

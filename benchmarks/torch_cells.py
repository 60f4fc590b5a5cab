"""The network of NAS-Bench-201 cells and NATS sizes in PyTorch, for throughput.py: networks/nasbench201.py in plain PyTorch."""
from __future__ import annotations

import torch
from torch import nn

from enas_jax.spaces.nasbench201 import AVG_POOL, EDGES, NONE, SKIP, Convolution, Layer
from enas_jax.types import Task


def _convolution(shape: Convolution, *, stride: int = 1, rectified: bool = True) -> nn.Sequential:
  layers = [nn.Conv2d(shape.in_channels, shape.out_channels, shape.kernel, stride, shape.kernel // 2, bias=False),
            nn.BatchNorm2d(shape.out_channels)]
  return nn.Sequential(*[nn.ReLU()] * rectified, *layers)


class _Cell(nn.Module):
  """Four nodes, each the sum of its edges."""

  def __init__(self, layer: Layer):
    super().__init__()
    self.operations = layer.operations
    self.edges = nn.ModuleList(
        _convolution(shape, rectified=operation != SKIP) if shape else
        nn.AvgPool2d(3, 1, 1, count_include_pad=False) if operation == AVG_POOL else nn.Identity()
        for shape, operation in zip(layer.edges(), layer.operations, strict=True))
    self.out_channels = layer.out_channels

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    nodes: list = [x, None, None, None]
    for (source, node), operation, edge in zip(EDGES, self.operations, self.edges, strict=True):
      if operation != NONE and nodes[source] is not None:
        y = edge(nodes[source])
        nodes[node] = y if nodes[node] is None else nodes[node] + y
    return x.new_zeros(x.shape[0], self.out_channels, *x.shape[2:]) if nodes[-1] is None else nodes[-1]


class _Block(nn.Module):
  """The residual block that halves the resolution."""

  def __init__(self, layer: Layer):
    super().__init__()
    first, second, beside = layer.convolutions()
    self.body = nn.Sequential(_convolution(first, stride=2), _convolution(second))
    self.beside = nn.Sequential(nn.AvgPool2d(2, 2), nn.Conv2d(beside.in_channels, beside.out_channels, 1, bias=False))

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    return self.body(x) + self.beside(x)


class TorchCells(nn.Module):
  """Stem, cells and blocks, global average pooling, linear head. Unlike the module it skips edges that see only zeros."""

  def __init__(self, architecture, task: Task):
    super().__init__()
    layers = architecture.layers()
    stem = _convolution(Convolution(3, task.image_shape[2], layers[0].in_channels), rectified=False)
    last = layers[-1].out_channels
    self.body = nn.Sequential(
        stem, *((_Cell if layer.operations else _Block)(layer) for layer in layers), nn.BatchNorm2d(last), nn.ReLU())
    self.head = nn.Linear(last, task.num_classes)

  def forward(self, images: torch.Tensor) -> torch.Tensor:
    return self.head(self.body(images).mean((2, 3)))

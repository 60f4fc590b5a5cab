"""The chain network and its training in PyTorch: the yardstick of throughput.py, as fast as plain PyTorch gets.

Same layers, initial range, loss, augmentation and optimiser as the package's. Images lie on the device as uint8 and a batch is
prepared there. One candidate after the other; the fastest of several variants is chosen by trial (`choose`).
"""
from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional
from torch_cells import TorchCells
from workload import Workload

from enas_jax.data.augment import Augmentation
from enas_jax.errors import UserError
from enas_jax.spaces import NasBench201Architecture, NatsSizeArchitecture
from enas_jax.spaces.chain import SEPARABLE, STEM_KERNEL, ChainArchitecture, Layer
from enas_jax.training.schedule import learning_rates
from enas_jax.types import Architecture, Request, Task

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
LAYOUTS = {'nchw': torch.contiguous_format, 'channels_last': torch.channels_last}
MODES = {'compiled': 'default', 'cuda graphs': 'reduce-overhead'}


class Variant(NamedTuple):
  """How to run: a key of LAYOUTS; 'eager' or a key of MODES; threads on a CPU."""

  layout: str
  mode: str
  threads: int

  def __str__(self) -> str:
    return f'{self.layout} {self.mode}' + f' {self.threads} threads' * (DEVICE == 'cpu')


def _conv(in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, groups: int = 1) -> nn.Conv2d:
  # PyTorch's default initial weights are uniform in +-1/sqrt(fan in), the package's as well.
  return nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False)


def _layer(layer: Layer) -> list[nn.Module]:
  convolutions = [_conv(layer.in_channels, layer.out_channels, layer.kernel, stride=layer.stride)]
  if layer.operation == SEPARABLE:
    convolutions = [
        _conv(layer.in_channels, layer.in_channels, layer.kernel, stride=layer.stride, groups=layer.in_channels),
        _conv(layer.in_channels, layer.out_channels, 1)]
  return [nn.ReLU(inplace=True), *convolutions, nn.BatchNorm2d(layer.out_channels)]


class TorchChain(nn.Module):
  """Stem, body, global average pooling, linear head: networks/chain.py in PyTorch."""

  def __init__(self, architecture: ChainArchitecture, task: Task):
    super().__init__()
    channels = architecture.stem_channels
    self.body = nn.Sequential(
        _conv(task.image_shape[2], channels, STEM_KERNEL), nn.BatchNorm2d(channels),
        *itertools.chain.from_iterable(_layer(layer) for layer in architecture.layers()))
    self.head = nn.Linear(architecture.out_channels, task.num_classes)

  def forward(self, images: torch.Tensor) -> torch.Tensor:
    return self.head(self.body(images).mean((2, 3)))


@functools.singledispatch
def network(architecture: Architecture, task: Task) -> nn.Module:
  """The network of an architecture, with a last layer `head`. Raises UserError where there is none."""
  raise UserError(f'{type(architecture).__name__} has no network in PyTorch here; leave out the row torch')


network.register(ChainArchitecture, TorchChain)
network.register(NasBench201Architecture, TorchCells)
network.register(NatsSizeArchitecture, TorchCells)


class TorchData:
  """The workload's images on the device, channels first, and the augmentation of data/augment.py in batches."""

  def __init__(self, load: Workload, layout: str):
    def put(part):
      images = torch.from_numpy(part.images).permute(0, 3, 1, 2).to(DEVICE, memory_format=LAYOUTS[layout])
      return images, torch.from_numpy(part.labels).long().to(DEVICE)

    self.images, self.labels = put(load.train)
    self.score_images, self.score_labels = put(load.score)
    self.augmentation = load.augmentation
    self.mean, self.std = (torch.from_numpy(x).to(DEVICE)[:, None, None] for x in (load.mean, load.std))

  def normalise(self, images: torch.Tensor) -> torch.Tensor:
    return (images.float() / 255 - self.mean) / self.std

  def batch(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Augmented images and labels of `rows`."""
    return _augment(self.images[rows], self.normalise, self.augmentation), self.labels[rows]


def _augment(images: torch.Tensor, normalise: Callable, augmentation: Augmentation) -> torch.Tensor:
  count, channels, height, width = images.shape
  padding = augmentation.crop_padding
  shape = augmentation.output_shape((height, width, channels))
  images = functional.pad(images, (padding,) * 4)

  def draw(limit):
    return torch.randint(limit, (count, 1), device=images.device)

  rows = draw(height + 2 * padding - shape[0] + 1) + torch.arange(shape[0], device=images.device)
  columns = draw(width + 2 * padding - shape[1] + 1) + torch.arange(shape[1], device=images.device)
  if augmentation.flip:
    columns = torch.where(draw(2) == 1, columns.flip(1), columns)
  which = torch.arange(count, device=images.device)[:, None, None]
  # Advanced indices beside a slice come out first: [B, h, w, C]. Back to channels first.
  images = normalise(images[which, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2))
  if augmentation.cutout:
    spans = []
    for size in shape[:2]:
      start = draw(size) - augmentation.cutout // 2
      positions = torch.arange(size, device=images.device)
      spans.append((positions >= start) & (positions < start + augmentation.cutout))
    images = images.masked_fill((spans[0][:, :, None] & spans[1][:, None, :])[:, None], 0)
  return images


class Trainer:
  """One candidate's network, ready to be trained from new weights again and again."""

  def __init__(self, request: Request, load: Workload, images: TorchData, variant: Variant):
    torch.manual_seed(0)
    torch.set_num_threads(variant.threads)
    self.schedule, self.data, self.layout = request.schedule, images, LAYOUTS[variant.layout]
    self.model = network(request.architecture, load.task).to(DEVICE, memory_format=self.layout)
    counted = sum(p.numel() for p in self.model.parameters())
    expected = load.space.num_params(request.architecture, load.task)
    if counted != expected:
      raise AssertionError(f'{request.architecture}: {counted} parameters in PyTorch, {expected} in the space')
    self.run = self.model if variant.mode == 'eager' else torch.compile(self.model, mode=MODES[variant.mode], dynamic=False)

  def reset(self) -> None:
    """New initial weights in place: a compiled network stays compiled."""
    for module in self.model.modules():
      if hasattr(module, 'reset_parameters'):
        module.reset_parameters()
    nn.init.zeros_(self.model.head.bias)

  def train(self, *, score: bool = True, steps: int | None = None) -> float:
    """Trains on every batch, or on the first `steps`, then scores. Returns the accuracy, as the package's loop does."""
    size, schedule = self.schedule.batch_size, self.schedule
    self.reset()
    self.model.train()
    # Weight decay is coupled and comes after clipping; momentum without dampening: as optax in program.py.
    optimizer = torch.optim.SGD(
        self.model.parameters(), learning_rates(schedule, 0, 1)[0], schedule.momentum, weight_decay=schedule.weight_decay,
        fused=True)
    order = torch.randperm(len(self.data.labels), device=DEVICE)
    for start in range(0, len(order) if steps is None else steps * size, size):
      images, labels = self.data.batch(order[start:start + size])
      loss = functional.cross_entropy(self.run(images.contiguous(memory_format=self.layout)), labels)
      optimizer.zero_grad(set_to_none=True)
      loss.backward()
      nn.utils.clip_grad_norm_(self.model.parameters(), schedule.clip_norm, foreach=True)
      optimizer.step()
    if not score:
      wait()
      return 0.0
    self.model.eval()
    with torch.no_grad():  # Not through the compiled network: one batch is not worth a second compilation.
      inputs = self.data.normalise(self.data.score_images).contiguous(memory_format=self.layout)
      correct = (self.model(inputs).argmax(1) == self.data.score_labels).float().mean()
    return correct.item()


def wait() -> None:
  """Until the device has done all."""
  if DEVICE == 'cuda':
    torch.cuda.synchronize()


def setup() -> None:
  """PyTorch as fast as it gets: what JAX does on a GPU by default (TF32), and every network with a compilation of its own."""
  torch.set_float32_matmul_precision('high')
  torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True
  # All networks have one forward function, and by default only its first eight forms are compiled.
  torch._dynamo.config.recompile_limit = torch._dynamo.config.accumulated_recompile_limit = 10_000


def choose(load: Workload, *, compile_too: bool, clock: Callable[[], float]) -> tuple[Variant, str]:
  """The fastest variant on the middle candidate, and one line about all that were tried.

  Layouts and numbers of threads (one costs less process time, all less wall-clock) are compared uncompiled; compilation is then
  tried in both layouts. A compilation that fails is told of, not raised.

  Args:
    load: the workload.
    compile_too: whether to try torch.compile.
    clock: what to compare by.
  """
  request = load.requests[len(load.requests) // 2]
  seconds, remarks = {}, []

  def attempt(variant):
    start = time.perf_counter()
    trainer = Trainer(request, load, TorchData(load, variant.layout), variant)
    trainer.train(steps=1)
    first = time.perf_counter() - start
    seconds[variant] = min(_timed(trainer, clock) for _ in range(3))
    remarks.append(f'{variant}: {1e3 * seconds[variant] * trainer.schedule.batch_size / load.images:.1f} ms'
                   + f' (first step {first:.0f} s)' * (variant.mode != 'eager'))

  all_threads = torch.get_num_threads()
  for threads in sorted({1, all_threads} if DEVICE == 'cpu' else {all_threads}):
    for layout in LAYOUTS:
      attempt(Variant(layout, 'eager', threads))
  best = min(seconds, key=seconds.get)
  modes = ('compiled', 'cuda graphs') if DEVICE == 'cuda' else ('compiled',)
  for variant in (best._replace(layout=layout, mode=mode) for mode in modes for layout in LAYOUTS if compile_too):
    try:
      attempt(variant)
    except Exception as error:  # No C++ compiler, an operator that does not compile: the row goes on without.
      lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ['']
      remarks.append(f'{variant} failed: {type(error).__name__}: {lines[0][:160]}')
  if not compile_too:
    remarks.append('torch.compile not tried')
  torch._dynamo.reset()
  return min(seconds, key=seconds.get), '; '.join(remarks)


def _timed(trainer: Trainer, clock: Callable[[], float]) -> float:
  start = clock()
  trainer.train()
  return clock() - start

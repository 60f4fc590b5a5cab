"""Architectures as Flax NNX modules. Nothing here knows of search or of populations."""
from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import jax
from flax import nnx

from enas_jax.errors import UserError
from enas_jax.networks.chain import ChainNetwork
from enas_jax.networks.darts import DartsNetwork
from enas_jax.networks.nasbench101 import NasBench101Network
from enas_jax.networks.nasbench201 import NasBench201Network
from enas_jax.networks.nasbench_macro import NasBenchMacroNetwork
from enas_jax.spaces import (
    ChainArchitecture,
    DartsArchitecture,
    NasBench101Architecture,
    NasBench201Architecture,
    NasBenchMacroArchitecture,
    NatsSizeArchitecture,
)
from enas_jax.types import Architecture, Task


@runtime_checkable
class HasTrainingLogits(Protocol):
  """A module that trains by other logits than it is scored by: with an auxiliary head, or noise such as drop path. Optional."""

  def training_logits(self, images: jax.Array, *, key: jax.Array, progress: jax.Array) -> Sequence[tuple[float, jax.Array]]:
    """Returns the heads of a training step.

    Args:
      images: normalised images [B, H, W, C].
      key: a fresh random key for every step, for drop path and the like.
      progress: the share of the schedule's epochs that is over, in [0, 1).

    Returns:
      (weight, logits [B, classes]) of each head. Training minimises the weighted sum of their cross entropies; its accuracy is
      that of the first.
    """


@functools.singledispatch
def build(architecture: Architecture, *, task: Task, key: jax.Array) -> nnx.Module:
  """Returns the module of an architecture with fresh weights. It maps normalised images [B, H, W, C] to logits [B, classes].

  A module may have a method `training_logits` (`HasTrainingLogits`). Scoring calls the module itself, in evaluation mode.

  A new space registers its builder, a function of the same arguments: `build.register(MyArchitecture, my_builder)`.

  Args:
    architecture: what to build.
    task: the images and the number of classes.
    key: decides the initial weights.

  Raises:
    UserError: no builder is registered for this type of architecture.
  """
  del task, key
  name = type(architecture).__name__
  raise UserError(f'no network is registered for {name}; give one by enas_jax.networks.build.register({name}, builder)')


def _builder(network: Callable[..., nnx.Module]) -> Callable[..., nnx.Module]:
  def make(architecture: Architecture, *, task: Task, key: jax.Array) -> nnx.Module:
    channels = task.image_shape[2]
    return network(architecture, in_channels=channels, num_classes=task.num_classes, rngs=nnx.Rngs(params=key))

  return make


for _architecture, _network in (
    (ChainArchitecture, ChainNetwork),
    (DartsArchitecture, DartsNetwork),
    (NasBench101Architecture, NasBench101Network),
    (NasBench201Architecture, NasBench201Network),
    (NasBenchMacroArchitecture, NasBenchMacroNetwork),
    (NatsSizeArchitecture, NasBench201Network),
):
  build.register(_architecture, _builder(_network))

"""Architectures as Flax NNX modules. Nothing here knows of search or of populations."""
from __future__ import annotations

import functools
from collections.abc import Callable

import jax
from flax import nnx

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


@functools.singledispatch
def build(architecture: Architecture, *, task: Task, key: jax.Array) -> nnx.Module:
  """The module of an architecture with fresh weights: normalised images [B, H, W, C] to logits [B, classes].

  A module may have `training_logits(images, *, key, progress)` -> ((weight, logits [B, classes]), ...): what training minimises
  is then the weighted sum of their cross entropies, and accuracy is that of the first. `key` is fresh for every step, for drop
  path and the like; `progress`, in [0, 1), is the share of the schedule's epochs that is over. Scoring calls the module itself,
  in evaluation mode.

  A new space registers its builder: `build.register(MyArchitecture)`.
  """
  raise TypeError(f'no network is registered for {type(architecture).__name__}')


def _with(network: Callable[..., nnx.Module]) -> Callable[..., nnx.Module]:
  def make(architecture, *, task, key):
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
  build.register(_architecture, _with(_network))

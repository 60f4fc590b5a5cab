"""Architectures as Flax NNX modules. Nothing here knows of search or of populations."""
from __future__ import annotations

import functools

import jax
from flax import nnx

from enas_jax.networks.chain import ChainNetwork
from enas_jax.spaces.chain import ChainArchitecture
from enas_jax.types import Architecture, Task


@functools.singledispatch
def build(architecture: Architecture, *, task: Task, key: jax.Array) -> nnx.Module:
  """The module of an architecture with fresh weights: normalised images [B, H, W, C] to logits [B, classes].

  A new space registers its builder: `build.register(MyArchitecture)`.
  """
  raise TypeError(f'no network is registered for {type(architecture).__name__}')


@build.register
def _(architecture: ChainArchitecture, *, task: Task, key: jax.Array) -> ChainNetwork:
  return ChainNetwork(
      architecture, in_channels=task.image_shape[2], num_classes=task.num_classes, rngs=nnx.Rngs(params=key))

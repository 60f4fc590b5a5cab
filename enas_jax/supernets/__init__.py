"""Spaces as one network with shared weights, so that one compiled program measures every member."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import jax
import numpy as np

from enas_jax.scores.network import Network, Weights
from enas_jax.spaces import NasBench201Space
from enas_jax.spaces.base import SearchSpace
from enas_jax.supernets.nasbench201 import NasBench201Supernet
from enas_jax.types import Task

__all__ = ['NasBench201Supernet', 'Supernet', 'of']


class Supernet(Protocol):
  """A space as one network: which member it is, is data."""

  def choices(self, architecture: Any) -> np.ndarray:
    """Returns a member as data, of the same shape for all members."""

  def draw(self, seed: Sequence[int]) -> Weights:
    """Draws initial weights, which all members share."""

  def network(self, choices: jax.Array, weights: Weights) -> Network:
    """Returns a member's network; its choices may be traced."""


_SUPERNETS: dict[str, Callable[[Any, Task], Supernet]] = {
    NasBench201Space.name: lambda space, task: NasBench201Supernet(space.channels, space.cells, task)}


def of(space: SearchSpace[Any], task: Task) -> Supernet | None:
  """Returns the supernet of a space, or None where there is none; then members are built one by one."""
  make = _SUPERNETS.get(space.name)
  return None if make is None else make(space, task)

"""DARTS networks as a family."""
from __future__ import annotations

import dataclasses

from enas_jax.families.cells import CellFamily
from enas_jax.families.darts.network import StackedDarts
from enas_jax.families.darts.weights import Capacity
from enas_jax.spaces.darts import INPUTS, NODES, DartsArchitecture, DartsSpace, Edge
from enas_jax.types import Task


def make(space: DartsSpace, task: Task, *, batch_size: int, steps: int,
         platform: str) -> CellFamily[DartsArchitecture, Capacity] | None:
  """Returns the family of all pairs of cells in the space's network; None for ImageNet's, which train as their modules."""
  del steps
  if space.stem != 'cifar':
    return None
  return CellFamily(StackedDarts, Capacity.of, Capacity.of, _example, task, batch_size, platform,
                    'All cells share one program, in which each runs its own operations alone')


def _example(capacity: Capacity) -> DartsArchitecture:
  """Returns some architecture that a capacity holds."""
  cell = tuple(Edge('skip_connect', source) for _ in range(NODES) for source in range(INPUTS))
  return DartsArchitecture(cell, cell, **dataclasses.asdict(capacity))

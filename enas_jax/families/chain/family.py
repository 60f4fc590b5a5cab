"""Chains as a family: which program a chain goes into, what it costs there, and the program's network."""
from __future__ import annotations

import dataclasses
from typing import Any

from enas_jax.families.chain.channelwise import ChannelwiseChain
from enas_jax.families.chain.network import StackedChain
from enas_jax.families.chain.packing import Packing, plan_packing, step_seconds
from enas_jax.families.chain.weights import Capacity
from enas_jax.families.cost import rates
from enas_jax.spaces.chain import ChainArchitecture, ChainSpace
from enas_jax.types import Task


@dataclasses.dataclass(frozen=True)
class ChainFamily:
  """Chains of all sizes; see `training.family.Family` for what each method answers.

  Attributes:
    task: image shape and number of classes.
    packing: into which programs chains go; by default each into one of its own size.
    platform: whose rates of cost hold, as JAX names it.
  """

  task: Task
  packing: Packing = dataclasses.field(default_factory=Packing)
  platform: str = 'cpu'

  @property
  def reason(self) -> str:
    """Why chains are packed so."""
    return self.packing.reason

  def capacity(self, architecture: ChainArchitecture) -> Capacity:
    """Returns the capacity of the chain's program."""
    return self.packing.capacity(architecture)

  def own_capacity(self, architecture: ChainArchitecture) -> Capacity:
    """Returns the least capacity that holds the chain."""
    return Capacity.of([architecture])

  def step_seconds(self, architecture: ChainArchitecture, batch_size: int, capacity: Capacity | None = None) -> float:
    """Predicts the seconds of a training step, with the channels padded to the capacity's width."""
    width = 0 if capacity is None else capacity.width
    return step_seconds(architecture, self.task, batch_size, rates(self.platform), width=width)

  def side_by_side(self, capacity: Capacity) -> bool:
    """Returns whether layers have one branch: under vmap each candidate would run all branches of every layer."""
    return len(capacity.branches) == 1

  def network(self, capacity: Capacity, *, dtype: Any, lowering: str, masked: bool, axis: str | None) -> StackedChain:
    """Returns the network of a capacity."""
    alone_on_a_cpu = self.platform == 'cpu' and lowering == 'shifts' and not masked and axis is None
    form = ChannelwiseChain if alone_on_a_cpu else StackedChain
    return form(capacity, dtype, lowering, masked=masked, axis=axis)


def make(space: ChainSpace, task: Task, *, batch_size: int, steps: int, platform: str) -> ChainFamily:
  """Returns the family with its programs planned for a search; see `families.of` for the arguments."""
  return ChainFamily(task, plan_packing(space, task, batch_size=batch_size, steps=steps, platform=platform), platform)

"""What a family is: architectures that train together in one compiled program, with the architecture as data.

A `Family` says into which program a candidate goes and what that costs; its `network` is that program's mathematics. The
package `families` has one folder a family; population.py compiles and runs what these protocols describe.

Shapes: B images a batch, C channels of the images, H and W their height and width.
"""
from __future__ import annotations

from collections.abc import Hashable
from typing import Any, NamedTuple, Protocol, TypeVar

import jax
import numpy as np

from enas_jax.training.layout import Execution, Layout
from enas_jax.types import Architecture, Task

A = TypeVar('A', bound=Architecture)
A_contra = TypeVar('A_contra', bound=Architecture, contravariant=True)
C = TypeVar('C', bound=Hashable)
Weights = Any  # A pytree of float32 arrays.
Plan = Any  # A pytree of small arrays: an architecture as data.
Limits = Any  # A pytree of arrays: how long a program's loops run.


class Mode(NamedTuple):
  """How a batch goes through a network.

  Attributes:
    training: bool [], whether batch norms use the batch's own moments, and what serves training alone is in use.
    key: the batch's random key, for noise such as drop path. It is another one than that of the augmentation.
    progress: float32 [], the share of the schedule's epochs that is over, in [0, 1).
  """

  training: Any
  key: Any = None
  progress: Any = 0.0


class Forward(Protocol):
  """What a forward pass leaves.

  Attributes:
    stats: the batch norms' running statistics after it.
    scratch: the memory that it was given, for the next pass.
  """

  @property
  def stats(self) -> Weights: ...

  @property
  def scratch(self) -> Any: ...


class StackedNetwork(Protocol[A]):
  """The mathematics of one program: every architecture that its capacity holds, told apart by a plan.

  Packed weights have the same shapes for all of these architectures. With `axis` (see `Family.network`) a batch is spread over
  devices: the arrays here are then one device's part of it, and results are summed over that axis.
  """

  def example(self) -> A:
    """Returns some architecture that the program holds, for its shapes."""

  def initial(self, architecture: A, task: Task, rng: np.random.Generator) -> tuple[Weights, Weights]:
    """Draws fresh packed weights, and the batch norms' statistics, on the host."""

  def pack(self, architecture: A, params: Weights, stats: Weights) -> tuple[Weights, Weights]:
    """Returns the weights and statistics of the plain module (networks/) in packed form."""

  def unpack(self, architecture: A, params: Weights, stats: Weights, task: Task) -> tuple[Weights, Weights]:
    """Returns packed weights and statistics as those of the plain module, in nested dicts."""

  def plan(self, architecture: A) -> Plan:
    """Returns the architecture as data, on the host; of equal shapes for all."""

  def limits(self, plan: Plan) -> Limits:
    """Returns how far the loops must run for a plan; () if nothing loops. Under vmap the greatest of all slots is taken."""

  def scratch(self, shape: tuple[int, ...]) -> Any:
    """Returns memory that passes hand on from batch to batch, for images of this shape [B, H, W, C]; () if none is needed."""

  def forward(self, params: Weights, stats: Weights, plan: Plan, limits: Limits, images: jax.Array, scratch: Any,
              mode: Mode) -> Forward:
    """Runs normalised images [B, H, W, C] through the network, in training or in evaluation mode, as data say."""

  def backward(self, params: Weights, plan: Plan, limits: Limits, images: jax.Array, labels: jax.Array,
               forward: Any, smoothing: float = 0.0, weights: jax.Array | None = None) -> tuple[jax.Array, Weights]:
    """Returns the batch's mean loss, and the gradients of the packed weights; padding gets 0.

    `forward` is that of training; `smoothing` that of `Schedule.label_smoothing` and `weights` [B] those of the images, see
    training/loss.py.
    """

  def correct(self, forward: Any, labels: jax.Array, weights: jax.Array | None = None) -> jax.Array:
    """Returns the number of right answers, int32 [], or the sum of their `weights` [B], float32 []. A label of -1 never is."""


class Family(Protocol[A, C]):
  """Which program a candidate goes into, what it costs there, and the programs' networks.

  All answers follow from the candidate and the settings alone, never from what was trained before, so that a resumed search
  comes to the same programs.

  Attributes:
    reason: why candidates are packed as they are; for people.
  """

  @property
  def reason(self) -> str: ...

  def capacity(self, architecture: A) -> C:
    """Returns what the candidate's program holds: the program's name, hashable and comparable."""

  def own_capacity(self, architecture: A) -> C:
    """Returns the least that holds the candidate: a program of its own, for where the shared one is out of memory."""

  def step_seconds(self, architecture: A, batch_size: int, capacity: C | None = None) -> float:
    """Predicts the seconds of a training step in a program of this capacity; None: in one of the candidate's own size."""

  def side_by_side(self, capacity: C) -> bool:
    """Returns whether candidates can be vmapped without each one doing the others' operations too."""

  def network(self, capacity: C, *, dtype: Any, lowering: str, masked: bool, axis: str | None) -> StackedNetwork[A]:
    """Returns the network of a capacity.

    Args:
      capacity: what it holds.
      dtype: of activations and products.
      lowering: the form of the convolutions, see families/planes.py.
      masked: whether loops run past a candidate's own end, as under vmap.
      axis: name of the mapped axis over which a batch's images are spread; None: they are all here.
    """


def family_network(family: Family[A, C], capacity: C, execution: Execution, layout: Layout) -> StackedNetwork[A]:
  """Returns the network of a capacity, as a layout of this execution needs it."""
  return family.network(capacity, dtype=execution.dtype, lowering=execution.lowering, masked=layout.vmapped,
                        axis='data' if layout.data_parallel else None)

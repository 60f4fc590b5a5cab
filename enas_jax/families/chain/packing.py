"""What to train in one program: a small model of cost, and the capacities that follow from it.

A candidate narrower than its program's width costs as much as the widest; a program of its own costs its compilation. The
model weighs one against the other. It is asked once, from the space and the settings alone, so that a candidate's program
never depends on what was trained before.
"""
from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence

from enas_jax.families import cost
from enas_jax.families.chain.weights import Capacity
from enas_jax.families.cost import Rates, rates
from enas_jax.spaces.chain import OPERATIONS, ChainArchitecture, ChainSpace
from enas_jax.types import Task

PAIRS = 4  # Trainings of a chain in a walk: two to four replicates, of which most are compared with those kept.
MOST_PROGRAMS = 4  # For chains whose layers are all alike, and as many more for the others.


def step_seconds(architecture: ChainArchitecture, task: Task, batch_size: int, rates_: Rates, *, width: int = 0) -> float:
  """Of a training step, with the channels padded to those of `width`; 0: its own."""
  padded = dataclasses.replace(architecture, width=max(width, architecture.width))
  macs, elements = work(padded, task)
  return cost.step_seconds(macs, elements, architecture.depth + 2, batch_size, rates_)


@functools.lru_cache(maxsize=4096)
def work(architecture: ChainArchitecture, task: Task) -> tuple[int, int]:
  """Of a forward pass on one image, the head aside: multiply-adds, and elements of the planes that layers read and write."""
  height, width, _ = task.image_shape
  elements = architecture.stem_channels * height * width
  for layer in architecture.layers():
    elements += layer.in_channels * height * width
    height, width = -(-height // layer.stride), -(-width // layer.stride)
    elements += layer.out_channels * height * width
  return ChainSpace().macs(architecture, dataclasses.replace(task, num_classes=0)), elements


@dataclasses.dataclass(frozen=True)
class Packing:
  """Into which programs the candidates of a search go.

  Attributes:
    widths: of programs for candidates of equal layers, ascending; a candidate goes into the narrowest that is not narrower.
    mixed_widths: likewise, for candidates of unequal layers.
    depths: likewise, for both.
    kernels: that layers of a mixed candidate may have.
    reason: why these widths, for people.
  """

  widths: tuple[int, ...] = ()
  mixed_widths: tuple[int, ...] = ()
  depths: tuple[int, ...] = ()
  kernels: tuple[int, ...] = ()
  reason: str = 'Each network trains in a program of its own size'

  def capacity(self, architecture: ChainArchitecture) -> Capacity:
    """The program for a candidate; of its own size where it is larger than all. Equal layers need one branch alone."""
    used = {(layer.operation, layer.kernel) for layer in architecture.layers()}
    mixed = len(used) > 1
    width = next((w for w in (self.mixed_widths if mixed else self.widths) if w >= architecture.width), architecture.width)
    depth = next((d for d in self.depths if d >= architecture.depth), architecture.depth)
    branches = used | {(o, k) for o in range(len(OPERATIONS)) for k in self.kernels} if mixed else used
    # The most body layers of each stage that a chain of at most this depth has.
    bodies = (max(1, depth // 3 - 1), max(1, -(-depth // 3) - 1), max(1, -(-depth // 3) - 1))
    return Capacity(bodies, width, tuple(sorted(branches)))


def plan_packing(space: ChainSpace, task: Task, *, batch_size: int, steps: int, platform: str) -> Packing:
  """The programs' widths with the least cost of padding and compilation.

  Candidates of equal layers are taken to train `PAIRS` times at each of the space's widths, as in a walk that compares
  replicates; those of unequal layers as often as there are layers to change, half of them convolutions.

  Args:
    space: its widths and depths.
    task: image shape.
    batch_size: images a step.
    steps: that a candidate is trained for, about.
    platform: whose rates.
  """
  table, widths, depth = rates(platform), tuple(sorted(space.widths)), space.max_depth
  equal = ChainArchitecture.uniform(depth, 1)
  mixed = dataclasses.replace(equal, operations=tuple(i % 2 for i in range(depth)))
  chosen, reasons = [], []
  for name, architecture, branches, visits in (
      ('Networks with one kind of layer', equal, 1, PAIRS),
      ('Other networks', mixed, len(OPERATIONS) * len(space.kernels), depth)):
    seconds = {w: visits * steps * step_seconds(architecture, task, batch_size, table, width=w) for w in widths}
    compiling = branches * table.compile_branch + table.compile_rest
    programs = _least(widths, seconds, compiling)
    chosen.append(programs)
    training = sum(seconds.values())
    padding = sum(seconds[min(p for p in programs if p >= w)] for w in widths) - training
    share = padding / training if training else 0.0
    apart = (len(widths) - len(programs)) * compiling
    reasons.append(f'{name} are padded to width {", ".join(map(str, programs))}: about {share:.0%} more work; '
                   f'a program for every width would compile {apart:.0f} s longer')
  return Packing(chosen[0], chosen[1], _depths(space), tuple(space.kernels), '\n'.join(reasons))


def _least(widths: Sequence[int], seconds: Mapping[int, float], compiling: float) -> tuple[int, ...]:
  """Returns the programs' widths with the least sum of `seconds` at the padded widths, and of `compiling` for each program."""
  none: list[tuple[float, tuple[int, ...]]] = [(math.inf, ())] * (len(widths) + 1)
  none[0] = 0.0, ()
  best = none  # With at most so many programs, for the narrowest n widths: their cost, and the programs' widths.
  for _ in range(MOST_PROGRAMS):
    best = [none[0]] + [
        min((cost + compiling + (end - begin) * seconds[widths[end - 1]], (*programs, widths[end - 1]))
            for begin, (cost, programs) in enumerate(best[:end]))
        for end in range(1, len(widths) + 1)]
  return best[-1][1]


def _depths(space: ChainSpace) -> tuple[int, ...]:
  """The greatest, and halves of it: what is reserved for layers grows with the walk, by few programs."""
  depths = [space.max_depth]
  while depths[0] // 2 >= max(space.min_depth, 12):
    depths.insert(0, depths[0] // 2)
  return tuple(depths)

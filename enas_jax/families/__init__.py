"""Families: architectures of one space that train together in few compiled programs. One folder a family.

A space without a family is searched as well: each architecture is then compiled as its Flax module.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from enas_jax.families import nasbench101, nasbench201, nasbench_macro
from enas_jax.families.chain import family as chain
from enas_jax.families.chain.trial import trial
from enas_jax.families.darts import family as darts
from enas_jax.families.planes import LOWERINGS
from enas_jax.registry import Registry
from enas_jax.spaces.base import SearchSpace
from enas_jax.training.family import Family, Forward, StackedNetwork
from enas_jax.types import Task

__all__ = ['FAMILIES', 'LOWERINGS', 'Family', 'Forward', 'StackedNetwork', 'of', 'register', 'trial']

MakeFamily = Callable[..., Family[Any, Any] | None]  # None: such networks train as their modules.
FAMILIES: Registry[MakeFamily] = Registry('family', 'config.space')


def register(space: str) -> Callable[[MakeFamily], MakeFamily]:
  """Returns a decorator that registers a function as the maker of the family of a space.

  The function is called as `of` is, with the space, the task and the keywords.

  Args:
    space: the space's name.

  Raises:
    UserError: the space has a family already.
  """
  def add(make: MakeFamily) -> MakeFamily:
    FAMILIES.add(space, make)
    return make

  return add


def of(space: SearchSpace, task: Task, *, batch_size: int, steps: int, platform: str) -> Family[Any, Any] | None:
  """Returns the family of a space, with its programs planned for a search; None for a space without one.

  Args:
    space: the space, with its ranges.
    task: image shape and number of classes.
    batch_size: images a step.
    steps: how many steps a candidate is trained for, about.
    platform: where it runs, as JAX names it.
  """
  if space.name not in FAMILIES:
    return None
  return FAMILIES[space.name].make(space, task, batch_size=batch_size, steps=steps, platform=platform)


register('chain')(chain.make)
register('nasbench201')(nasbench201.cells_family)
register('nats_size')(nasbench201.sizes_family)
register('nasbench_macro')(nasbench_macro.make)
register('nasbench101')(nasbench101.make)
register('darts')(darts.make)

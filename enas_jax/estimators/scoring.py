"""Scores of the members of a space: by its supernet where it has one, else one module after the other."""
from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from enas_jax import networks, supernets
from enas_jax.errors import UserError
from enas_jax.scores import SCORES, ModuleNetwork, Scorer, find, score
from enas_jax.spaces.base import SearchSpace
from enas_jax.types import Task

SIZES = ('params', 'macs')  # Scores that are known without a network.


class Result(NamedTuple):
  """A network's scores by name, NaN where there is none, and why those that could not be measured could not; '' if all were."""

  values: dict[str, float]
  reason: str = ''


def names(asked: Sequence[str]) -> tuple[str, ...]:
  """Returns the names of scores that were asked for, each once; 'all' stands for all there are.

  Raises UserError for none, or an unknown one.
  """
  if not asked:
    raise UserError(f'no scores are asked for; give all, or some of {", ".join(SIZES)}, {SCORES.choices()}')
  found = [name for word in asked for name in ((*SIZES, *SCORES) if word == 'all' else (word,))]
  for name in found:
    if name not in SIZES:
      SCORES.find(name)
  return tuple(dict.fromkeys(found))


class Members:
  """Scores of a space's members.

  Args:
    space: the space.
    task: the images and the number of classes.
    asked: names of scores, of `names`.
    images: normalised images [N, H, W, C], float32.
    labels: their classes [N].
    seed: of initial weights, and of what scores draw.
    together: whether all members are one program where the space has a supernet.

  Raises:
    UserError: there are fewer images than a score needs.
  """

  def __init__(self, space: SearchSpace[Any], task: Task, asked: Sequence[str], images: np.ndarray, labels: np.ndarray, *,
               seed: int, together: bool = True):
    self._space, self._task, self._asked, self._seed = space, task, tuple(asked), seed
    self._measured = [name for name in asked if name not in SIZES]
    find(self._measured, len(images))
    self._supernet = supernets.of(space, task) if together else None
    self._data = images, labels
    self._scorer: Scorer[Any] | None = None
    if self._supernet is not None:
      self._scorer = Scorer(
          self._supernet.network, self._supernet.draw([seed]), self._measured, images, labels, [seed],
          devices=jax.local_devices())

  def describe(self) -> str:
    """Returns a line of how members are scored, for people."""
    how = 'one program for all members of the space' if self._scorer else 'a program for each network'
    return f'{len(self._asked)} scores, {how}'

  def scores(self, architectures: Sequence[Any]) -> Iterator[Result]:
    """Yields each member's scores, in order."""
    if self._scorer is not None and self._supernet is not None:
      choices = [self._supernet.choices(architecture) for architecture in architectures]
      measured: Iterator[Result] = map(Result, self._scorer.scores(choices))
    else:
      measured = map(self._alone, architectures)
    sizes: dict[str, Callable[..., int]] = {'params': self._space.num_params, 'macs': self._space.macs}
    for architecture, (values, reason) in zip(architectures, measured, strict=True):
      known = {name: float(sizes[name](architecture, self._task)) for name in self._asked if name in SIZES}
      yield Result({name: known.get(name, values.get(name, math.nan)) for name in self._asked}, reason)

  def _alone(self, architecture: Any) -> Result:
    """Scores a network as its module. Where a score cannot be measured, the others are measured one by one."""
    def measure(names: Sequence[str]) -> dict[str, float]:
      module = networks.build(architecture, task=self._task, key=jax.random.key(self._seed))
      return score(ModuleNetwork(module), names, *self._data, [self._seed])

    try:
      return Result(measure(self._measured))
    except Exception:  # Whatever a network's own code, or a score on it, stumbles over.
      values: dict[str, float] = {}
      reason = ''
      for name in self._measured:
        try:
          values |= measure([name])
        except Exception as error:
          reason = reason or f'{name}: {error if isinstance(error, UserError) else f"{type(error).__name__}: {error}"}'
      return Result(values, ' '.join(reason.split()))

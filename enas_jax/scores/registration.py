"""The scores that are known by name."""
from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from enas_jax.errors import UserError
from enas_jax.registry import Registry
from enas_jax.scores.base import Score

RESERVED = ('all', 'params', 'macs', 'vote', 'az_nas')  # What a list of scores may name beside.
S = TypeVar('S', bound=Callable[[], Score])
SCORES: Registry[Callable[[], Score]] = Registry('score', 'score')


def register(name: str) -> Callable[[S], S]:
  """Returns a decorator that registers a class without arguments as a score.

      @scores.register('my_score')
      class MyScore(scores.Plain):
        def measure(self, network, batch, key):
          return ...

  Raises:
    UserError: the name is taken, reserved or no word.
  """
  SCORES.check_name(name)
  if name in RESERVED:
    raise UserError(f"score '{name}': the name has another meaning; give another")

  def add(make: S) -> S:
    SCORES.add(name, make)
    return make

  return add

"""enas_jax: searches whole image networks in JAX and hands back a trained one.

    python -m enas_jax.search --workdir=DIR
    model = enas_jax.load('DIR'); model.predict(images)
"""
from typing import TYPE_CHECKING, Any

from enas_jax.config import get_config
from enas_jax.errors import UserError
from enas_jax.types import Evaluation, Request, Schedule, Task

if TYPE_CHECKING:
  from enas_jax.model import Model, load

__all__ = ['Evaluation', 'Model', 'Request', 'Schedule', 'Task', 'UserError', 'get_config', 'load']


def __getattr__(name: str) -> Any:
  """`Model` and `load` bring JAX along, seconds of it: they are imported when they are asked for."""
  if name not in ('Model', 'load'):
    raise AttributeError(f"module 'enas_jax' has no attribute '{name}'")
  from enas_jax import model
  return getattr(model, name)

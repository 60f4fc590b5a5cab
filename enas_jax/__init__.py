"""enas_jax: searches whole image networks in JAX and hands back a trained one.

    python -m enas_jax.search --workdir=DIR
    model = enas_jax.load('DIR'); model.predict(images)
"""
from typing import TYPE_CHECKING, Any

from enas_jax.errors import UserError
from enas_jax.types import Evaluation, Request, Schedule, Task

if TYPE_CHECKING:
  from enas_jax.config import get_config
  from enas_jax.model import Model, load

__all__ = ['Evaluation', 'Model', 'Request', 'Schedule', 'Task', 'UserError', 'get_config', 'load']

_LAZY = {'Model': 'model', 'load': 'model', 'get_config': 'config'}


def __getattr__(name: str) -> Any:
  """What takes long to import, JAX above all, is imported when it is asked for."""
  if name not in _LAZY:
    raise AttributeError(f"module 'enas_jax' has no attribute '{name}'")
  import importlib
  return getattr(importlib.import_module(f'enas_jax.{_LAZY[name]}'), name)

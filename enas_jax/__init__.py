"""enas_jax: searches whole image networks in JAX and hands back a trained one.

    result = enas_jax.run(data=(images, labels))        or    python -m enas_jax.search --workdir=DIR
    result.model.predict(images)                              model = enas_jax.load('DIR'); model.predict(images)

What `__all__` lists here and in the modules that it names is public; all else may change.
"""
import importlib
import itertools
import sys
from typing import TYPE_CHECKING, Any

from enas_jax import environment
from enas_jax.errors import Stopped, UserError
from enas_jax.types import Architecture, Evaluation, Needs, Request, Schedule, Task

if any(flag == '-m' and name.startswith('enas_jax.') for flag, name in itertools.pairwise(sys.orig_argv)):
  environment.forget()  # A command, whose process is its own.

if TYPE_CHECKING:
  from enas_jax import data, estimators, families, loop, networks, plugins, predictors, spaces, strategies, tables
  from enas_jax.api import Result, run
  from enas_jax.config import get_config
  from enas_jax.data import Dataset
  from enas_jax.model import Model, load

__all__ = [
    'Architecture', 'Dataset', 'Evaluation', 'Model', 'Needs', 'Request', 'Result', 'Schedule', 'Stopped', 'Task', 'UserError',
    'data', 'estimators', 'families', 'get_config', 'load', 'loop', 'networks', 'plugins', 'predictors', 'run', 'spaces',
    'strategies', 'tables',
]

_MODULES = ('data', 'estimators', 'families', 'loop', 'networks', 'plugins', 'predictors', 'spaces', 'strategies', 'tables')
_NAMES = {'Dataset': 'data', 'Model': 'model', 'Result': 'api', 'get_config': 'config', 'load': 'model', 'run': 'api'}


def __getattr__(name: str) -> Any:
  """What takes long to import, JAX above all, is imported when it is asked for."""
  if name in _MODULES:
    return importlib.import_module(f'enas_jax.{name}')
  if name in _NAMES:
    return getattr(importlib.import_module(f'enas_jax.{_NAMES[name]}'), name)
  raise AttributeError(f"module 'enas_jax' has no attribute '{name}'")


def __dir__() -> list[str]:
  return __all__

"""How good is it: estimators behind one interface.

An estimator of your own, such as a score that needs no training, becomes known by `register`. Importing this package brings no
JAX along; the estimator 'trained' does, when it is made.
"""
from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from ml_collections import ConfigDict

from enas_jax.data.dataset import Dataset
from enas_jax.estimators import table
from enas_jax.estimators.base import Estimator, Setup
from enas_jax.registry import Registry, check_methods
from enas_jax.settings import NoSettings
from enas_jax.spaces.base import SearchSpace
from enas_jax.types import Needs

if TYPE_CHECKING:
  from enas_jax.estimators.from_config import execution, family_of, training_data
  from enas_jax.estimators.trained import TrainedEstimator
  from enas_jax.training.layout import Execution

__all__ = [
    'ESTIMATORS', 'Estimator', 'Execution', 'Setup', 'TrainedEstimator', 'execution', 'family_of', 'make', 'register',
    'training_data']

_LAZY = {
    'Execution': 'enas_jax.training.layout', 'TrainedEstimator': 'enas_jax.estimators.trained',
    **dict.fromkeys(('execution', 'family_of', 'training_data'), 'enas_jax.estimators.from_config')}

Make = Callable[[Any, Setup], Estimator]
F = TypeVar('F', bound=Make)
ESTIMATORS: Registry[Make] = Registry('estimator', 'config.estimator', ('settings', 'setup'))


def register(name: str, settings: type[Any] = NoSettings) -> Callable[[F], F]:
  """Returns a decorator that registers a function as the maker of an estimator.

      @estimators.register('my_score', Settings)
      def make(settings: Settings, setup: Setup) -> Estimator:
        ...

  Args:
    name: the word for it in `config.estimator`; its settings are those of `config.NAME`.
    settings: a frozen dataclass with a plain default for every field.

  Raises:
    UserError: the name is taken or no word, or the settings are no such dataclass.
  """
  ESTIMATORS.check_name(name)

  def add(make: F) -> F:
    ESTIMATORS.add(name, make, settings)
    return make

  return add


def make(config: ConfigDict, space: SearchSpace[Any], dataset: Dataset | None = None, *, needs: Needs | None = None,
         execution: Execution | None = None, should_stop: Callable[[], bool] = lambda: False) -> Estimator:
  """Makes the estimator `config.estimator`.

  Args:
    config: all settings.
    space: what candidates are members of.
    dataset: the images; None where the estimator needs none.
    needs: what the strategy needs of the answers (`strategy.needs`); None for accuracy alone.
    execution: how candidates run on this machine; None for what suits it.
    should_stop: is asked now and then whether to stop.

  Raises:
    UserError: the estimator is unknown, lacks a method, or refuses its settings or the data.
  """
  entry = ESTIMATORS.find(config.estimator)
  setup = Setup(
      config=config, space=space, dataset=dataset, execution=execution, should_stop=should_stop, needs=needs or Needs())
  estimator = entry.make(ESTIMATORS.read_settings(entry.name, config[entry.name]), setup)
  check_methods(estimator, Estimator, ESTIMATORS.owner(entry.name))
  return estimator


@register('trained')
def _trained(settings: NoSettings, setup: Setup) -> Estimator:
  """Makes the estimator that trains each candidate from scratch."""
  from enas_jax.estimators.from_config import trained  # Brings JAX along.
  del settings
  return trained(setup)


register(table.NAME, table.TableSettings)(table.make)


def __getattr__(name: str) -> Any:
  """What brings JAX along is imported when it is asked for."""
  if name not in _LAZY:
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
  return getattr(importlib.import_module(_LAZY[name]), name)

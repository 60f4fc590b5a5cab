"""Search spaces, that is what can be built, as pure data."""
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from enas_jax.registry import Registry
from enas_jax.settings import check_class
from enas_jax.spaces.base import Graph, HasDepthAndWidth, HasMiddle, SearchSpace
from enas_jax.spaces.chain import ChainArchitecture, Chains, ChainSpace
from enas_jax.spaces.checks import check_class_of_space, check_members
from enas_jax.spaces.choices import Choices
from enas_jax.spaces.darts import DartsArchitecture, DartsSpace
from enas_jax.spaces.nasbench101 import NasBench101Architecture, NasBench101Space
from enas_jax.spaces.nasbench201 import NasBench201Architecture, NasBench201Space
from enas_jax.spaces.nasbench_macro import NasBenchMacroArchitecture, NasBenchMacroSpace
from enas_jax.spaces.nats_size import NatsSizeArchitecture, NatsSizeSpace
from enas_jax.spaces.part import Limits, Within

__all__ = [
  'SPACES',
  'ChainArchitecture',
  'ChainSpace',
  'Chains',
  'Choices',
  'DartsArchitecture',
  'DartsSpace',
  'Graph',
  'HasDepthAndWidth',
  'HasMiddle',
  'Limits',
  'NasBench101Architecture',
  'NasBench101Space',
  'NasBench201Architecture',
  'NasBench201Space',
  'NasBenchMacroArchitecture',
  'NasBenchMacroSpace',
  'NatsSizeArchitecture',
  'NatsSizeSpace',
  'SearchSpace',
  'Within',
  'make',
  'make_default',
  'register',
]

Maker = Callable[..., SearchSpace[Any]]  # A class whose fields are the settings.
C = TypeVar('C', bound=type[Any])
SPACES: Registry[Maker] = Registry('space', 'config.space')


def register(space: C) -> C:
  """Makes a space known as `config.space`, with its settings under `config.NAME`. A decorator of its class, too.

  Args:
    space: a frozen dataclass that has the methods of `SearchSpace`. `space.name` is its name, its fields are its settings.

  Returns:
    The class itself.

  Raises:
    UserError: the name is taken or missing, a method is missing, a field has no plain default, or options are no words.
  """
  owner = SPACES.owner_of(getattr(space, 'name', None), space)
  check_class(space, owner)
  made = space()
  check_class_of_space(made, owner)
  SPACES.add(made.name, space, space)
  return space


for _space in (ChainSpace, NasBench201Space, NatsSizeSpace, NasBench101Space, NasBenchMacroSpace, DartsSpace):
  register(_space)

if TYPE_CHECKING:  # A checker then names the method in which a space departs from the contract.
  _CHAIN: SearchSpace[ChainArchitecture] = ChainSpace()
  _DEPTH_AND_WIDTH: HasDepthAndWidth[ChainArchitecture] = ChainSpace()
  _MIDDLE: HasMiddle[ChainArchitecture] = ChainSpace()
  _NASBENCH201: SearchSpace[NasBench201Architecture] = NasBench201Space()
  _NATS_SIZE: SearchSpace[NatsSizeArchitecture] = NatsSizeSpace()
  _NASBENCH101: SearchSpace[NasBench101Architecture] = NasBench101Space()
  _NASBENCH_MACRO: SearchSpace[NasBenchMacroArchitecture] = NasBenchMacroSpace()
  _DARTS: SearchSpace[DartsArchitecture] = DartsSpace()


def make(config: Any, name: str | None = None) -> SearchSpace[Any]:
  """Returns the space `name`, by default `config.space`, with the settings that stand under its name.

  Raises:
    UserError: there is none of this name, it refuses its settings, or a member that it draws is not what it should be.
  """
  entry = SPACES.find(config.space if name is None else name)
  return _checked(entry.name, SPACES.read_settings(entry.name, config[entry.name]))


def make_default(name: str) -> SearchSpace[Any]:
  """Returns the space `name` with its default settings. Raises UserError as `make` does."""
  return _checked(name, SPACES.find(name).make())


def _checked(name: str, space: SearchSpace[Any]) -> SearchSpace[Any]:
  check_members(space, SPACES.owner(name))
  return space

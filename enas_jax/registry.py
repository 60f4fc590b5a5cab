"""Registries: what is known by name, such as spaces and strategies. They are open: a plugin adds to them, too."""
from __future__ import annotations

import contextlib
import dataclasses
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from enas_jax import settings as settings_
from enas_jax.errors import UserError, line_in

R = TypeVar('R')
T = TypeVar('T')
_sources: list[str] = []  # The plugin being read, if one is.


@dataclasses.dataclass(frozen=True)
class Entry(Generic[T]):
  """One registered thing.

  Attributes:
    name: by which settings and flags ask for it.
    make: the class or function that makes it; each registry says what it is called with.
    settings: a frozen dataclass with a default for every field, see `enas_jax.settings`.
    source: the file or module that registered it, for messages.
  """

  name: str
  make: T
  settings: type[Any]
  source: str


class Registry(Mapping[str, Entry[T]]):
  """Entries by name, in the order of their registration.

  Args:
    kind: what is registered, in the singular, such as 'strategy'.
    field: the setting that chooses one, such as 'config.strategy', for messages.
    called_with: the names of what each is called with, if that is to be checked when one is registered.
  """

  def __init__(self, kind: str, field: str, called_with: tuple[str, ...] = ()):
    self.kind, self.field, self.called_with = kind, field, called_with
    self._entries: dict[str, Entry[T]] = {}

  def add(self, name: str, make: T, settings: type[Any] = settings_.NoSettings) -> None:
    """Registers something.

    Raises:
      UserError: the name is taken or no word of letters, digits and underscores, the settings are no frozen dataclass with a
        plain default for every field, or it cannot be called as it will be.
    """
    self.check_name(name)
    source, owner = _source(make), self.owner_of(name, make)
    if not name.isidentifier():
      raise UserError(f'{owner}: the name is not a word of letters, digits and underscores; give one such as my_{self.kind}')
    if name in self._entries:
      raise UserError(f'{owner} is registered already, by {self._entries[name].source}; give another name')
    settings_.check_class(settings, owner)
    if self.called_with:
      self._check_call(make, owner)
    self._entries[name] = Entry(name, make, settings, source)

  def check_name(self, name: object) -> None:
    """Checks that a name is text. Raises UserError where a decorator got what it decorates instead."""
    if not isinstance(name, str):
      given = getattr(name, '__name__', repr(name))
      raise UserError(f"{_source(name)}: {given} is no name for a {self.kind}; write @register('my_{self.kind}', Settings)")

  def find(self, name: str) -> Entry[T]:
    """Returns the entry of this name. Raises UserError, which names those there are, for an unknown one."""
    if name not in self._entries:
      raise UserError(f"{self.field} '{name}' is unknown; give one of {self.choices()}")
    return self._entries[name]

  def choices(self) -> str:
    """Returns the names there are, and how there can be more, for messages."""
    return f"{', '.join(sorted(self._entries))}, or --plugin=FILE.py for your own"

  def read_settings(self, name: str, values: Mapping[str, Any]) -> Any:
    """Makes the settings of an entry from a group of a config. Raises UserError for a value that its class refuses."""
    settings = self._entries[name].settings
    return call(f'{self.owner(name)}: config.{name}', settings, settings_.read, settings, values, name)

  def owner(self, name: str) -> str:
    """Returns who answers for an entry, for messages, such as "mine.py: strategy 'hill'"."""
    return f"{self._entries[name].source}: {self.kind} '{name}'"

  def owner_of(self, name: object, make: object) -> str:
    """Returns who answers for what is not registered yet."""
    return f"{_source(make)}: {self.kind} '{name}'"

  def _check_call(self, make: Any, owner: str) -> None:
    try:
      inspect.signature(make).bind(*self.called_with)
    except TypeError as error:
      name, needed = getattr(make, '__name__', repr(make)), ', '.join(self.called_with)
      raise UserError(f'{owner}: {name} cannot be called with {needed} ({error}); write def {name}({needed})') from error
    except ValueError:  # It has no signature.
      pass

  def __getitem__(self, name: str) -> Entry[T]:
    return self._entries[name]

  def __iter__(self) -> Iterator[str]:
    return iter(self._entries)

  def __len__(self) -> int:
    return len(self._entries)


def check_methods(made: object, contract: type, owner: str) -> None:
  """Checks that an object has what a protocol asks for. Raises UserError, which names `owner` and what is missing.

  A property that fails for want of something else is not what is missing.
  """
  wanted = [*getattr(contract, '__annotations__', ()), *(n for n in vars(contract) if not n.startswith('_'))]
  if missing := [name for name in dict.fromkeys(wanted) if not hasattr(made, name)]:
    missing = [name for name in missing if not hasattr(type(made), name)] or missing
    lacking = f'{type(made).__name__} lacks {", ".join(missing)}'
    raise UserError(f'{owner}: {lacking}; see {contract.__name__} in {contract.__module__}')


def call(owner: str, kind: type, function: Callable[..., R], *arguments: Any) -> R:
  """Calls what a user may have written.

  Raises:
    UserError: it fails. The message is the function's own UserError, or names `owner` and the line in the file of `kind`.
  """
  try:
    return function(*arguments)
  except UserError:
    raise
  except Exception as error:
    raise UserError(f'{owner}{line_in(error, file_of(kind))}: {type(error).__name__}: {error}') from error


def file_of(kind: type) -> str:
  """Returns the file in which a class is defined, or its module where there is none."""
  return getattr(sys.modules.get(kind.__module__), '__file__', None) or kind.__module__


def _source(make: object) -> str:
  module: str = getattr(make, '__module__', 'unknown')
  if _sources:
    return _sources[-1]
  return getattr(sys.modules[module], '__file__', module) if module == '__main__' else module


@contextlib.contextmanager
def reading(source: str) -> Iterator[None]:
  """Within the block, registrations are named as those of the plugin `source`."""
  _sources.append(source)
  try:
    yield
  finally:
    _sources.pop()

"""Registries: what is known by name, such as spaces and strategies. They are open: a plugin adds to them, too."""
from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, Generic, TypeVar

from enas_jax import settings as settings_
from enas_jax.errors import UserError

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
  """

  def __init__(self, kind: str, field: str):
    self.kind, self.field = kind, field
    self._entries: dict[str, Entry[T]] = {}

  def add(self, name: str, make: T, settings: type[Any] = settings_.NoSettings) -> None:
    """Registers something.

    Raises:
      UserError: the name is taken or no word of letters, digits and underscores, or the settings are no frozen dataclass with a
        plain default for every field.
    """
    source, owner = _source(make), self.owner_of(name, make)
    if not (isinstance(name, str) and name.isidentifier()):
      raise UserError(f'{owner}: the name is not a word of letters, digits and underscores; give one such as my_{self.kind}')
    if name in self._entries:
      raise UserError(f'{owner} is registered already, by {self._entries[name].source}; give another name')
    settings_.check_class(settings, owner)
    self._entries[name] = Entry(name, make, settings, source)

  def find(self, name: str) -> Entry[T]:
    """Returns the entry of this name. Raises UserError, which names those there are, for an unknown one."""
    if name not in self._entries:
      raise UserError(f"{self.field} '{name}' is unknown; give one of {', '.join(sorted(self._entries))}")
    return self._entries[name]

  def owner(self, name: str) -> str:
    """Returns who answers for an entry, for messages, such as "mine.py: strategy 'hill'"."""
    return f"{self._entries[name].source}: {self.kind} '{name}'"

  def owner_of(self, name: object, make: object) -> str:
    """Returns who answers for what is not registered yet."""
    return f"{_source(make)}: {self.kind} '{name}'"

  def __getitem__(self, name: str) -> Entry[T]:
    return self._entries[name]

  def __iter__(self) -> Iterator[str]:
    return iter(self._entries)

  def __len__(self) -> int:
    return len(self._entries)


def check_methods(made: object, contract: type, owner: str) -> None:
  """Checks that an object has what a protocol asks for. Raises UserError, which names `owner` and what is missing."""
  wanted = [*getattr(contract, '__annotations__', ()), *(n for n in vars(contract) if not n.startswith('_'))]
  if missing := [name for name in dict.fromkeys(wanted) if not hasattr(made, name)]:
    lacking = f'{type(made).__name__} lacks {", ".join(missing)}'
    raise UserError(f'{owner}: {lacking}; see {contract.__name__} in {contract.__module__}')


def _source(make: object) -> str:
  return _sources[-1] if _sources else getattr(make, '__module__', 'unknown')


@contextlib.contextmanager
def reading(source: str) -> Iterator[None]:
  """Within the block, registrations are named as those of the plugin `source`."""
  _sources.append(source)
  try:
    yield
  finally:
    _sources.pop()

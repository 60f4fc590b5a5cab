"""Settings as frozen dataclasses, and as the groups of a config that flags and config files change.

A space, a strategy or an estimator says in one dataclass what can be set: each field has a type and a default, the docstring
says what it means, and `__post_init__` raises UserError for a value out of range. `enas_jax.config` makes a group of each.
"""
from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from enas_jax.errors import UserError
from enas_jax.fields import KINDS

PLAIN = (bool, int, float, str)
PLURALS = {bool: 'true and false', int: 'whole numbers', float: 'numbers', str: 'texts'}
S = TypeVar('S')


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoSettings:
  """The settings of what has none."""


def check_class(settings: type, owner: str) -> None:
  """Checks that a class can be the settings of something.

  Args:
    settings: the class.
    owner: whose settings they are, for the message, such as "mine.py: strategy 'hill'".

  Raises:
    UserError: it is no frozen dataclass, or a field lacks a default that is a bool, int, float, str, tuple of these, or None,
      and that its annotation allows.
  """
  name = getattr(settings, '__name__', repr(settings))
  if not (isinstance(settings, type) and dataclasses.is_dataclass(settings)):
    raise UserError(f'{owner}: settings {name} is no dataclass; give a frozen one whose fields have defaults')
  if not settings.__dataclass_params__.frozen:  # type: ignore[attr-defined]
    raise UserError(f'{owner}: settings {name} can be changed; write @dataclasses.dataclass(frozen=True)')
  for field in dataclasses.fields(settings):
    if field.default_factory is not dataclasses.MISSING:
      raise UserError(f'{owner}: setting {field.name} of {name}: a default_factory is not allowed; give a plain default '
                      'such as a tuple')
    if field.default is dataclasses.MISSING:
      raise UserError(f'{owner}: setting {field.name} of {name} has no default; give it one')
    if not _is_plain(field.default):
      raise UserError(f'{owner}: the default of setting {field.name} of {name} is {field.default!r}; give a bool, int, float, '
                      'str, a tuple of these, or None')
  try:
    settings()
  except UserError as error:
    raise UserError(f'{owner}: the defaults of {name} are refused: {error}') from error
  try:
    hints = typing.get_type_hints(settings)
    for field in dataclasses.fields(settings):
      if not _fits(field.default, hints[field.name]):
        raise UserError(f'{owner}: the default of setting {field.name} of {name} is {field.default!r}, which its annotation '
                        f'{_text(hints[field.name])} does not allow; change one of them')
    group(settings)
  except (NameError, TypeError) as error:
    raise UserError(f'{owner}: the annotations of {name} are not to be read: {error}') from error


def group(settings: type) -> ConfigDict:
  """Returns the defaults of a settings class as a group of a config.

  A default of None becomes a placeholder of its type, and a whole number a float where the annotation says so.
  """
  hints = typing.get_type_hints(settings)
  values = ConfigDict()
  for field in dataclasses.fields(settings):
    default: Any = field.default
    if hints[field.name] is float:
      default = float(default)
    values[field.name] = placeholder(_kind(hints[field.name])) if default is None else default
  return values


def read(settings: type[S], values: Mapping[str, Any], name: str) -> S:
  """Makes the settings from a group of a config.

  Args:
    settings: the class.
    values: by field; what is absent has its default.
    name: of the group, such as 'halving', for messages.

  Raises:
    UserError: a value is not what the annotation of its field allows, is a number that is not finite, or the class refuses it.
  """
  given, hints = {}, typing.get_type_hints(settings)
  for field in dataclasses.fields(settings):  # type: ignore[arg-type]
    if field.name in values:
      value = tuple(value) if isinstance(value := values[field.name], list) else value
      check_value(f'config.{name}.{field.name}', value, hints[field.name], field.default)
      given[field.name] = value
  return settings(**given)


def check_value(name: str, value: Any, hint: Any, default: Any) -> None:
  """Checks the value of a setting, members of tuples included.

  Args:
    name: of the setting, for the message, such as 'config.halving.fidelities'.
    value: what it is to be.
    hint: the annotation of its field, such as `tuple[int, ...]` or `float | None`.
    default: its default, for the message.

  Raises:
    UserError: the annotation does not allow the value, or a number is not finite.
  """
  members = value if isinstance(value, tuple) else (value,)
  if not _is_plain(value) or not _fits(value, hint):
    raise UserError(f'{name} {value!r} is not {_described(hint)}; leave it out for the default, {default!r}')
  if not all(math.isfinite(member) for member in members if isinstance(member, float)):
    raise UserError(f'{name} {value!r} is not finite; give a finite number')


def at_least(settings: Any, least: float, *names: str, prefix: str) -> None:
  """Checks that settings are not below a limit.

  Args:
    settings: the instance that has them.
    least: the limit.
    names: the fields.
    prefix: what stands before a field's name in the message, such as 'config.random'.

  Raises:
    UserError: one of them is below.
  """
  for name in names:
    value = getattr(settings, name)
    if value < least:
      raise UserError(f'{prefix}.{name} {value} is below {least}; give at least {least}')


def _is_plain(value: Any) -> bool:
  if isinstance(value, tuple):
    return all(isinstance(item, PLAIN) for item in value)
  return value is None or isinstance(value, PLAIN)


def _fits(value: Any, hint: Any) -> bool:
  """Returns whether an annotation allows a plain value. One that says nothing of plain values allows all."""
  kinds = typing.get_args(hint)
  if typing.get_origin(hint) in (typing.Union, types.UnionType):
    return any(_fits(value, kind) for kind in kinds)
  if typing.get_origin(hint) is typing.Literal:
    return value in kinds
  if tuple in (hint, typing.get_origin(hint)):
    items = [kind for kind in kinds if kind is not ...]
    return isinstance(value, tuple) and (not items or all(any(_fits(item, kind) for kind in items) for item in value))
  if hint in (int, float):
    return isinstance(value, (int, hint)) and not isinstance(value, bool)
  return isinstance(value, hint) if hint in (bool, str, types.NoneType) else True


def _described(hint: Any) -> str:
  """Says what an annotation allows, such as 'a tuple of whole numbers'."""
  kinds = [kind for kind in typing.get_args(hint) if kind not in (types.NoneType, ...)]
  if typing.get_origin(hint) is tuple and kinds:
    return f"a tuple of {' or '.join(PLURALS.get(kind, _text(kind)) for kind in kinds)}"
  if typing.get_origin(hint) in (typing.Union, types.UnionType) and kinds:
    return ' or '.join(map(_described, kinds))
  return KINDS.get(hint, f'one of {kinds}' if kinds else _text(hint))


def _text(hint: Any) -> str:
  return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)


def _kind(hint: Any) -> type:
  """Returns the type beside None of an annotation such as `str | None`."""
  kinds = [kind for kind in typing.get_args(hint) if kind is not types.NoneType]
  return typing.get_origin(kinds[0]) or kinds[0] if kinds else str

"""Fields of a config by their dotted names, such as 'chain.max_width': found, checked and changed."""
from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from ml_collections import ConfigDict

from enas_jax.errors import UserError

KINDS = {bool: 'true or false', int: 'a whole number', float: 'a number', tuple: 'a tuple', str: 'text'}


def changed(config: ConfigDict, settings: Mapping[str, Any]) -> ConfigDict:
  """Changes settings of a config, in place, and returns it.

  Args:
    config: the config.
    settings: values by dotted name, such as {'strategy': 'random', 'chain.max_width': 8}.

  Raises:
    UserError: a name is unknown or that of a group, or a value is not of the setting's type.
  """
  for field, value in settings.items():
    check_field(config, field)
    *groups, name = field.split('.')
    owner = config
    for each in groups:
      owner = owner[each]
    default = owner[name]
    try:
      if isinstance(value, bool) and owner.get_type(name) is float:  # Which ConfigDict takes for 1.0.
        raise TypeError
      owner[name] = tuple(value) if isinstance(value, list) else value
    except (OverflowError, TypeError) as error:
      kind = KINDS.get(owner.get_type(name), 'understood')
      raise UserError(f'config.{field} {value!r} is not {kind}; leave it out for the default, {default!r}') from error
  return config


def check_field(config: ConfigDict, field: str, prefix: str = 'config.') -> None:
  """Raises UserError where a dotted name is not that of a setting. `prefix` stands before names in the message."""
  leaves = flatten(config.to_dict())
  if field in leaves:
    return
  inside = [leaf for leaf in leaves if leaf.startswith(f'{field}.')]
  if inside:
    raise UserError(f'{prefix}{field} is a group of settings; set one of them, such as {prefix}{inside[0]}')
  raise UserError(f'unknown setting {prefix}{field}{suggestion(field, leaves, prefix)}')


def check_fields(config: ConfigDict, default: ConfigDict, source: str) -> None:
  """Raises UserError, which begins with `source`, where a config has other fields than the default one: a misspelt one, say."""
  known, given = flatten(default.to_dict()), flatten(config.to_dict())
  for field in given:
    if field not in known:
      raise UserError(f'{source}: unknown field {field}{suggestion(field, known)}')
  for field in known:
    if field not in given:
      raise UserError(f'{source}: field {field} is missing; start from enas_jax.config.get_config()')


def suggestion(name: str, known: Iterable[str], prefix: str = '') -> str:
  """Returns the end of a message about an unknown name: one that was meant perhaps, or where to look."""
  known = list(known)
  close = [k for k in known if k.endswith(f'.{name}')] or difflib.get_close_matches(name, known)
  return f'; did you mean {prefix}{close[0]}?' if close else '; see --help and enas_jax/config.py'


def flatten(record: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
  """Returns nested records as one: {'a': {'b': 1}} is {'a.b': 1}."""
  flat = {}
  for name, value in record.items():
    if isinstance(value, Mapping):
      flat.update(flatten(value, f'{prefix}{name}.'))
    else:
      flat[prefix + name] = value
  return flat

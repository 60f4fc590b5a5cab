"""The check that every space makes of a JSON record before it reads one."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from enas_jax.errors import UserError


def check_record(record: Any, space: str, version: int, *fields: str) -> None:
  """Checks that a record is of this space and version.

  Args:
    record: what was read from JSON.
    space: the name that its field `space` must have.
    version: the number that its field `version` must have.
    fields: the names of all other fields; none may be missing or added.

  Raises:
    UserError: the record is another's; the message names what is wrong.
  """
  if not isinstance(record, Mapping):
    raise UserError(f"architecture: {record!r} is not a record; give one of space '{space}'")
  if record.get('space') != space:
    raise UserError(f"architecture: space {record.get('space')!r} is not '{space}'")
  if record.get('version') != version:
    found = record.get('version')
    raise UserError(f'architecture: version {found!r} is not {version}; use the version of enas_jax that wrote it')
  odd = set(record) ^ {'space', 'version', *fields}
  if odd:
    raise UserError(f"architecture: fields {sorted(odd)} are unknown or missing; give {sorted(('space', 'version', *fields))}")

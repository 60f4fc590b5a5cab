"""Benchmark tables: those that come with the package, the official files, and a user's own.

    table = enas_jax.tables.load('nasbench201')
    table.column('cifar10/test/200')[table.rows(keys)]
"""
from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from enas_jax import paths
from enas_jax.errors import UserError
from enas_jax.registry import Registry
from enas_jax.spaces import SPACES
from enas_jax.spaces.base import SearchSpace
from enas_jax.tables import files, hwnasbench_file, nasbench101_tfrecord, nats_files
from enas_jax.tables.members import members
from enas_jax.tables.table import Table
from enas_jax.types import A

__all__ = ['Table', 'cards', 'find', 'load', 'members', 'read', 'register', 'save']

DATA = Path(__file__).parent / 'data'


class Source(NamedTuple):
  """Where a plugin's table comes from: the name of its space, and what reads it once a process."""

  space: str
  load: Callable[[], Table[Any]]


TABLES: Registry[Source] = Registry('table', 'config.table.name')  # Beside those that come with the package.


@functools.cache
def cards() -> dict[str, dict[str, Any]]:
  """Returns for each table its space, files with checksums, benchmark, licence and sources. data/README.md says the same."""
  return json.loads((DATA / 'cards.json').read_text())


@functools.cache
def load(name: str) -> Table[Any]:
  """Returns a table that comes with the package. A process reads it once.

  Raises:
    UserError: there is none of this name, or a file of it is damaged.
  """
  if name not in cards():
    raise UserError(f"table '{name}' is unknown; give one of {', '.join(sorted(cards()))}, or a file of your own")
  card = cards()[name]
  arrays: dict[str, np.ndarray] = {}
  for file, checksum in card['files'].items():
    arrays.update(files.read_npz(DATA / file, checksum=checksum))
  return files.table_of(name, SPACES[card['space']].make(), arrays)


def register(name: str, space: str, load: Callable[[], Table[Any]]) -> None:
  """Makes a table known by name, as those that come with the package are.

  Args:
    name: the word for it in `config.table.name` and --table.
    space: the name of its space.
    load: returns the table; called once a process, when it is asked for.

  Raises:
    UserError: the name is taken, or no word of letters, digits and underscores.
  """
  if name in cards():
    raise UserError(f"{TABLES.owner_of(name, load)} comes with the package already; give another name")
  TABLES.add(name, Source(space, functools.cache(load)))


def find(space: SearchSpace[A], name: str | None = None) -> Table[A]:
  """Returns a table of a space.

  Args:
    space: the space that its rows are members of.
    name: one that is known by name, or the path of a user's file. None: the first of the space that is known by name.

  Raises:
    UserError: there is none, it is of another space, or it cannot be read.
  """
  known = {**{name: card['space'] for name, card in cards().items()}, **{name: e.make.space for name, e in TABLES.items()}}
  if name is None:
    name = next((name for name, owner in known.items() if owner == space.name), None)
    if name is None:
      raise UserError(f"no table of space '{space.name}' comes with the package; give a file of your own, CSV or npz")
  if name not in known:
    return read(name, space)
  if known[name] != space.name:
    raise UserError(f"table {name} is of space '{known[name]}', not '{space.name}'")
  table = TABLES[name].make.load() if name in TABLES else load(name)
  if not isinstance(table, Table):
    raise UserError(f'{TABLES.owner(name)}: load returned {table!r}; return an enas_jax.tables.Table')
  if table.space != space:
    raise UserError(f'table {name} is of {table.space}, not of {space}; leave its settings as they are')
  return table


def read(path: str | Path, space: SearchSpace[A]) -> Table[A]:
  """Reads a table from a file: a user's own, CSV or npz, or an official one of a benchmark.

  A user's own has texts of architectures in the column `architecture`; see `Table` for the other columns. The official ones are
  NAS-Bench-101's .tfrecord, NATS-Bench's folder or .pickle.pbz2, NAS-Bench-201's .pth, HW-NAS-Bench's .pickle.

  Raises:
    UserError: the file is no such table; the message names the row or the column.
  """
  path = paths.read(path, 'table ')
  try:
    suffix = '/' if path.is_dir() else path.suffix
    if suffix not in _READERS:
      kinds = ', '.join(filter(None, (kind.strip('/') for kind in _READERS)))
      raise UserError(f"table {path}: '{path.suffix}' is not one of {kinds}; for NATS-Bench give its folder")
    arrays = _READERS[suffix](path)
  except OSError as error:
    raise UserError(f'table {path} cannot be read ({error.strerror}); give one that is there and can be read') from error
  return files.table_of(str(path), space, arrays)


def save(table: Table[Any], path: str | Path) -> None:
  """Writes a table as npz, which `read` takes in a moment. That is for official files, whose reading takes minutes.

  Raises UserError where the file cannot be written.
  """
  path = paths.read(path, 'table ')
  try:
    files.write(path, table.space, table.keys, table.architectures, table.columns)
  except OSError as error:
    raise UserError(f'table {path} cannot be written ({error.strerror}); give another path') from error


def _nasbench101(path: Path) -> dict[str, np.ndarray]:
  return nasbench101_tfrecord.columns(nasbench101_tfrecord.read_tfrecord(path))


_READERS: dict[str, Callable[[Path], dict[str, np.ndarray]]] = {
    '.csv': files.read_csv,
    '.npz': files.read_npz,
    '.tfrecord': _nasbench101,
    '/': nats_files.read_nats,
    '.pbz2': nats_files.read_nats,
    '.pth': nats_files.read_nats,
    '.pickle': hwnasbench_file.read_hwnasbench,
}

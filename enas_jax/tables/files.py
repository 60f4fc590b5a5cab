"""Reads and writes tables as files: npz without pickles, ours or a user's, and CSV.

A file has a column `architecture` (the space's text) and others as `Table` names them. Our files hold `format`, `space` and the
keys too, so that they load without reading a text; a user's need not.
"""
from __future__ import annotations

import csv
import hashlib
import io
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from enas_jax.errors import UserError
from enas_jax.spaces.base import SearchSpace
from enas_jax.tables.table import Table
from enas_jax.types import A

FORMAT = 1
NOT_COLUMNS = ('format', 'space', 'key', 'architecture')
SAMPLE = 64  # At least so many rows of a user's file have their keys checked.


def write(
    path: Path, space: SearchSpace[Any], keys: np.ndarray, architectures: np.ndarray,
    columns: Mapping[str, np.ndarray]) -> None:
  """Writes a table in our form. Equal content gives equal bytes, so that a checksum names the content.

  Args:
    path: the npz file.
    space: the space that the rows are members of.
    keys: [N], as in `Table`.
    architectures: [N] texts.
    columns: [N] each.
  """
  arrays = {
      'format': np.array(FORMAT), 'space': np.array(space.name), 'key': keys, 'architecture': architectures, **columns}
  with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
    for name, values in arrays.items():
      buffer = io.BytesIO()
      np.lib.format.write_array(buffer, np.asarray(values, order='C'), allow_pickle=False)
      archive.writestr(zipfile.ZipInfo(f'{name}.npy', (1980, 1, 1, 0, 0, 0)), buffer.getvalue(), zipfile.ZIP_DEFLATED, 9)


def read_npz(path: Path, *, checksum: str | None = None) -> dict[str, np.ndarray]:
  """Reads all arrays of an npz file, by name.

  Args:
    path: the file.
    checksum: SHA-256 that the file must have, in hexadecimal; None: any.

  Raises:
    UserError: the file cannot be read, is cut or altered, holds a pickle, or is of another format.
  """
  data = _bytes(path)
  if checksum is not None and (found := hashlib.sha256(data).hexdigest()) != checksum:
    raise UserError(f'{path} is cut or altered: its SHA-256 is {found[:16]}.., not {checksum[:16]}..; install it again')
  try:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
      arrays = {
          name.removesuffix('.npy'): np.lib.format.read_array(io.BytesIO(archive.read(name)), allow_pickle=False)
          for name in archive.namelist()}
  except Exception as error:  # Bytes from anywhere: zipfile, zlib and NumPy's reader of headers raise of every kind.
    reason = ' '.join(str(error).split())[:200] or type(error).__name__
    raise UserError(f'{path} is cut, altered or no npz file of plain arrays ({reason}); get it again') from error
  version = arrays.get('format', np.array(FORMAT))
  if version.shape != () or version != FORMAT:
    raise UserError(f'{path} has format {version}, not {FORMAT}; use the version of enas_jax that wrote it')
  return arrays


def read_csv(path: Path) -> dict[str, np.ndarray]:
  """Reads a CSV file with a header, by column: `architecture` as texts, all others as numbers. An empty field is NaN.

  Raises:
    UserError: the file cannot be read, a row has another number of fields than the header, or a field is no number.
  """
  data = _bytes(path)
  try:
    header, *lines = filter(None, csv.reader(io.StringIO(data.decode('utf-8-sig')), strict=True))
  except (ValueError, csv.Error) as error:
    raise UserError(f'{path} is not CSV with a header ({error}); give for example architecture,cifar10/valid/200') from error
  header = [name.strip() for name in header]
  if len(set(header)) < len(header) or {'', 'format', 'space', 'key'} & set(header):
    raise UserError(f'{path}: the header is {",".join(header)}; give each column a name of its own, none format, space or key')
  for number, line in enumerate(lines, 2):
    if len(line) != len(header):
      raise UserError(f'{path}, line {number}: {len(line)} fields, not {len(header)} as in the header')
  if not lines:
    raise UserError(f'{path} has a header, but no row; give one an architecture')
  arrays = {}
  for name, fields in zip(header, zip(*lines, strict=True), strict=True):
    arrays[name] = np.array(fields) if name == 'architecture' else _numbers(path, name, fields)
  return arrays


def table_of(name: str, space: SearchSpace[A], arrays: Mapping[str, np.ndarray]) -> Table[A]:
  """Makes a table of what was read from a file.

  Args:
    name: the table's name, for messages.
    space: the space that the rows are members of.
    arrays: by name, as the readers return them.

  Raises:
    UserError: the arrays are no table, or one of another space; the message names the column or the row.
  """
  if 'architecture' not in arrays:
    raise UserError(f"{name}: there is no column 'architecture'; it has {', '.join(arrays) or 'none'}")
  if 'space' in arrays and str(arrays['space']) != space.name:
    raise UserError(f"{name}: its space is '{arrays['space']}', not '{space.name}'")
  texts = arrays['architecture']
  if texts.ndim != 1 or texts.dtype.kind not in 'SU':
    raise UserError(f"{name}: column 'architecture' is {texts.dtype} {list(texts.shape)}; give one text a row")
  columns = {column: values for column, values in arrays.items() if column not in NOT_COLUMNS}
  for column, values in columns.items():
    if values.dtype.kind not in 'fiu':
      raise UserError(f"{name}: column '{column}' is {values.dtype}; give numbers")
  keys = arrays.get('key')
  if keys is None:
    keys = _keys(name, space, texts, range(len(texts)))
  elif 'format' not in arrays:
    step = max(1, len(texts) // SAMPLE)
    if keys.shape != texts.shape or not np.array_equal(keys[::step], _keys(name, space, texts, range(0, len(texts), step))):
      raise UserError(f"{name}: column 'key' holds other keys than its architectures have; leave it out")
  return Table(name, space, texts, keys, columns)


def _keys(name: str, space: SearchSpace[Any], texts: np.ndarray, rows: Iterable[int]) -> np.ndarray:
  keys = []
  for row in rows:
    text = texts[row]
    try:
      keys.append(space.key(space.from_string(text.decode() if isinstance(text, bytes) else str(text))))
    except (UnicodeDecodeError, UserError) as error:
      raise UserError(f'{name}, row {row + 1}: {error}') from error
  return np.array(keys)


def _numbers(path: Path, name: str, fields: tuple[str, ...]) -> np.ndarray:
  values = np.full(len(fields), np.nan)
  for i, field in enumerate(fields):
    try:
      values[i] = float(field) if field.strip() else np.nan
    except ValueError as error:
      raise UserError(f"{path}, line {i + 2}: '{field}' in column '{name}' is not a number") from error
  return values


def _bytes(path: Path) -> bytes:
  try:
    return path.read_bytes()
  except OSError as error:
    raise UserError(f'{path} cannot be read ({error.strerror}); give a file that is there') from error

"""A benchmark's table: it holds architectures that were trained once and for all, and what was measured of them."""
from __future__ import annotations

import dataclasses
import difflib
import functools
import hashlib
import re
from collections.abc import Mapping
from typing import Generic

import numpy as np

from enas_jax.errors import UserError
from enas_jax.spaces.base import SearchSpace
from enas_jax.types import A, is_amount

SPLITS = ('valid', 'test')
ACCURACY = re.compile(r'([^/]+)/(valid|test)/([1-9][0-9]*)', re.ASCII)  # A column of accuracies: data set, split, epochs.


@dataclasses.dataclass(frozen=True, eq=False)
class Table(Generic[A]):
  """A table whose rows are architectures and whose columns are measured values.

  A column's name is DATASET/VALUE or DATASET/VALUE/DETAIL:

      cifar10/valid/200          accuracy on that split after a training of so many epochs, a fraction in [0, 1]
      cifar10/test/200
      cifar10/train_seconds/200  what that training took
      cifar10/params             trainable weights
      cifar10/macs               multiply-adds of one image's forward pass, as the benchmark counts them
      cifar10/latency_ms/raspi4  of one batch on a device; energy_mj likewise, and what else a benchmark measured

  Attributes:
    name: the name of the benchmark, for people.
    space: the space that the rows are members of.
    architectures: each row's text (`space.to_string`), [N].
    keys: each row's `space.key`, distinct, int64 or bytes [N].
    columns: by name, [N] each; NaN if nothing was measured.

  Raises:
    UserError: there is no row or no column, lengths differ, a key stands twice, an accuracy is outside [0, 1], a value is
      infinite, or an amount (`types.is_amount`) is below 0.
  """

  name: str
  space: SearchSpace[A]
  architectures: np.ndarray
  keys: np.ndarray
  columns: Mapping[str, np.ndarray]

  def __post_init__(self) -> None:
    if not len(self.keys) or not self.columns:
      raise UserError(f'table {self.name}: {len(self.keys)} rows and {len(self.columns)} columns; give at least one of each')
    for name, values in (('architecture', self.architectures), *self.columns.items()):
      if np.shape(values) != self.keys.shape:
        raise UserError(f'table {self.name}: column {name} has shape {list(np.shape(values))}, not [{len(self.keys)}]')
    twice = np.flatnonzero(self._sorted[1:] == self._sorted[:-1])
    if len(twice):
      text = self.text(int(self._order[twice[0] + 1]))
      raise UserError(f'table {self.name}: architecture {text} stands twice; give each once')
    for name, values in self.columns.items():
      self._check(name, values)

  def _check(self, name: str, values: np.ndarray) -> None:
    """Raises UserError where a column holds what cannot have been measured. NaN says that nothing was."""
    is_accuracy = ACCURACY.fullmatch(name)
    least = 0 if is_accuracy or is_amount(name.partition('/')[2]) else -np.inf
    bad = np.isinf(values) | (values < least) | (values > (1 if is_accuracy else np.inf))
    if bad.any():
      row = int(np.argmax(bad))
      known = 'outside [0, 1]; give accuracies as fractions, and' if is_accuracy else 'impossible; give'
      raise UserError(f'table {self.name}, row {row + 1} ({self.text(row)}): {name} is {values[row]:g}, which is {known} NaN '
                      'or an empty field for what was not measured')

  def __len__(self) -> int:
    return len(self.keys)

  def rows(self, keys: np.ndarray) -> np.ndarray:
    """Returns the rows [M] of these keys [M], at which columns can be read. Raises UserError if one is not in the table."""
    rows, found = self._find(np.asarray(keys))
    if not found.all():
      raise UserError(f'table {self.name} has no row with key {np.asarray(keys)[~found][0]!r}; it has {len(self)} rows')
    return rows

  def join(self, other: Table[A]) -> Table[A]:
    """Returns this table with another's columns beside its own, such as the latencies of a benchmark of devices.

    The rows are this table's; a value is NaN if the other has no such row.

    Raises:
      UserError: the other is of another space, or a column is in both.
    """
    if other.space != self.space:
      raise UserError(f'table {other.name} is of {other.space}, not of {self.space}')
    if both := self.columns.keys() & other.columns.keys():
      raise UserError(f'tables {self.name} and {other.name} both have {min(both)}; leave it out of one')
    rows, found = other._find(self.keys)
    joined = {name: np.where(found, values[rows], np.nan) for name, values in other.columns.items()}
    return dataclasses.replace(self, columns={**self.columns, **joined})

  def _find(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns each key's row, and whether it has one; both are [M]."""
    places = np.minimum(np.searchsorted(self._sorted, keys), len(self) - 1)
    return self._order[places], self._sorted[places] == keys

  def row(self, architecture: A) -> int | None:
    """Returns an architecture's row, or None. Raises UserError if it is not in the benchmark's skeleton."""
    return self._row_of_key.get(self.space.key(architecture))

  def architecture(self, row: int) -> A:
    """Returns the architecture of a row."""
    return self.space.from_string(self.text(row))

  def text(self, row: int) -> str:
    """Returns the text of a row's architecture."""
    text = self.architectures[row]
    return text.decode() if isinstance(text, bytes) else str(text)

  def column(self, name: str) -> np.ndarray:
    """Returns a column [N]. Raises UserError, which names those there are, for one that the table lacks."""
    if name in self.columns:
      return self.columns[name]
    siblings = [c for c in self.columns if c.rpartition('/')[0] == name.rpartition('/')[0]]
    known = siblings or difflib.get_close_matches(name, self.columns, n=3, cutoff=0.3) or self.datasets
    raise UserError(f"table {self.name} has no column '{name}'; it has {', '.join(known)}")

  @functools.cached_property
  def checksum(self) -> str:
    """The SHA-256, in hexadecimal, of keys and columns, so that results of one table are not taken for another's."""
    digest = hashlib.sha256()
    for name, values in (('key', self.keys), *sorted(self.columns.items())):
      digest.update(f'{name} {values.dtype} {len(values)} '.encode() + np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()

  @property
  def datasets(self) -> tuple[str, ...]:
    """The data sets that have accuracies, in the table's order."""
    return tuple(dict.fromkeys(match[1] for c in self.columns if (match := ACCURACY.fullmatch(c))))

  def splits(self, dataset: str) -> tuple[str, ...]:
    """Returns a data set's splits with accuracies, validation first. Raises UserError for a data set that the table lacks."""
    if dataset not in self.datasets:
      known = ', '.join(self.datasets) or 'none, as no column is named DATASET/valid/EPOCHS or DATASET/test/EPOCHS'
      raise UserError(f"table {self.name} has no data set '{dataset}'; it has {known}")
    return tuple(split for split in SPLITS if self._epochs(dataset, split))

  def fidelities(self, dataset: str, split: str) -> tuple[int, ...]:
    """Returns the epochs of the trainings whose accuracy on this split is known, ascending.

    Raises UserError for a data set or a split that the table lacks.
    """
    if split not in self.splits(dataset):
      raise UserError(f"table {self.name} has no split '{split}' of {dataset}; it has {', '.join(self.splits(dataset))}")
    return self._epochs(dataset, split)

  def _epochs(self, dataset: str, split: str) -> tuple[int, ...]:
    matches = filter(None, map(ACCURACY.fullmatch, self.columns))
    return tuple(sorted(int(match[3]) for match in matches if match.group(1, 2) == (dataset, split)))

  @functools.cached_property
  def _order(self) -> np.ndarray:
    return np.argsort(self.keys, kind='stable')

  @functools.cached_property
  def _sorted(self) -> np.ndarray:
    return self.keys[self._order]

  @functools.cached_property
  def _row_of_key(self) -> dict[int | bytes, int]:
    return {key: row for row, key in enumerate(self.keys.tolist())}

"""The ledger: every finished evaluation, one line of JSON each, appended and never changed.

It is what a resumed search need not do again, and all that a report needs to draw the search.
"""
from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from enas_jax.errors import UserError
from enas_jax.types import Architecture, Evaluation, Request, Schedule, impossible
from enas_jax.workdir import disk_errors, parse_json, sync_folder


class Ledger:
  """Finished evaluations by their request, in the order in which they finished: the `Answers` of a loop that can be resumed.

  Opening only reads, so that a report may look at the ledger of a running search. A last line that a crash tore is
  left out, and cut off by the next `add`.

  Args:
    path: the file; it need not exist.
    read_architecture: the space's `from_json`.
    deciding: whether each evaluation that succeeded must have an accuracy, as those of a search must; else it has some metric.

  Attributes:
    notice: one line for the user about a torn last line; empty if there is none.

  Raises:
    UserError: a line is damaged.
  """

  def __init__(self, path: str | Path, read_architecture: Callable[[Mapping[str, Any]], Architecture], *,
               deciding: bool = True):
    self.path, self._deciding = Path(path), deciding
    self.notice = ''
    self._entries: dict[str, tuple[Request, Evaluation]] = {}
    with disk_errors(self.path.parent):
      data = self.path.read_bytes() if self.path.exists() else b''
    self._file_bytes = len(data)
    self._sound_bytes = self._read(data, read_architecture)
    if torn := self._file_bytes - self._sound_bytes:
      self.notice = f'{self.path}: the last line was torn ({torn} bytes) and is left out; its candidate is evaluated again'

  def __len__(self) -> int:
    return len(self._entries)

  def __iter__(self) -> Iterator[tuple[Request, Evaluation]]:
    return iter(self._entries.values())

  def __contains__(self, key: object) -> bool:
    """Returns whether the request with this key has an evaluation."""
    return key in self._entries

  def get(self, request: Request) -> Evaluation | None:
    """Returns a request's evaluation, or None where there is none."""
    entry = self._entries.get(request.key)
    return None if entry is None else entry[1]

  def add(self, request: Request, evaluation: Evaluation) -> None:
    """Appends an evaluation; it is on the disk when this returns.

    Raises:
      ValueError: the request has an entry already, or a number is not finite: that candidate failed.
      UserError: the disk is full or gone. The file then ends with the last sound line.
    """
    key = request.key
    if key in self._entries:
      raise ValueError(f'{key} is in the ledger already')
    record = {'key': key, 'request': request.to_json(), 'evaluation': evaluation.to_json()}
    try:
      line = json.dumps(record, allow_nan=False, separators=(',', ':')) + '\n'
    except ValueError as error:
      raise ValueError(f'{key}: {evaluation} has a number that is not finite; give a failed evaluation instead') from error
    with disk_errors(self.path.parent):
      self._write(line.encode())
    self._entries[key] = (request, evaluation)

  def _write(self, line: bytes) -> None:
    is_new = not self.path.exists()
    file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
      if os.fstat(file).st_size != self._file_bytes:
        raise UserError(f'{self.path} was changed by another program; run the same command again')
      self._cut(file)
      try:
        if os.write(file, line) != len(line):
          raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(file)
      except OSError:
        self._cut(file)
        raise
      self._sound_bytes += len(line)
      self._file_bytes = self._sound_bytes
    finally:
      os.close(file)
    if is_new:
      sync_folder(self.path.parent)

  def _cut(self, file: int) -> None:
    os.ftruncate(file, self._sound_bytes)
    self._file_bytes = self._sound_bytes

  def _read(self, data: bytes, read_architecture: Callable[[Mapping[str, Any]], Architecture]) -> int:
    """Fills the entries. Returns the number of bytes that are sound."""
    *lines, torn = data.split(b'\n')
    sound = len(data) - len(torn)
    for number, line in enumerate(lines, 1):
      try:
        record = parse_json(line)
      except ValueError as error:
        if number == len(lines) and not torn:
          return sound - len(line) - 1
        raise self._damage(number, error) from error
      try:
        request = _request(record['request'], read_architecture)
        evaluation = _evaluation(record['evaluation'], deciding=self._deciding)
        if request.key != record['key']:
          raise ValueError(f"key {record['key']} is not its request's {request.key}, maybe of another version of enas_jax")
      except (AttributeError, LookupError, OverflowError, RecursionError, TypeError, ValueError) as error:
        raise self._damage(number, error) from error
      self._entries[request.key] = (request, evaluation)
    return sound

  def _damage(self, number: int, error: Exception) -> UserError:
    return UserError(
        f'{self.path}, line {number}: not an evaluation ({type(error).__name__}: {error}); '
        'delete the line to evaluate its candidate again, or choose another --workdir')


def _request(record: Mapping[str, Any], read_architecture: Callable[[Mapping[str, Any]], Architecture]) -> Request:
  return Request(
      architecture=read_architecture(record['architecture']),
      schedule=Schedule(**record['schedule']),
      replicate=record['replicate'],
      phase=record['phase'])


def _evaluation(record: Mapping[str, Any], *, deciding: bool) -> Evaluation:
  evaluation = Evaluation.from_json(record)
  told = 'accuracy' in evaluation.metrics if deciding else evaluation.metrics
  if not isinstance(evaluation.reason, str) or not (evaluation.reason or told):
    raise ValueError(f"it has neither {'an accuracy' if deciding else 'a metric'} nor a reason why it failed")
  if reason := impossible(evaluation):
    raise ValueError(reason)
  return evaluation

"""The folder of one search: its settings, its lock and its records, safe against crashes and a full disk.

    config.json         the settings, versions and hardware of the first run; written once
    ledger.jsonl        every finished evaluation; see ledger.py
    in_training.json    who is in training, while anybody is; see in_training.py
    lock                held while a process works in the folder; names it
"""
from __future__ import annotations

import contextlib
import errno
import fcntl
import importlib.metadata
import json
import os
import platform
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from enas_jax import machine
from enas_jax.errors import UserError
from enas_jax.fields import flatten
from enas_jax.types import LATER_FIELDS

PACKAGES = ('enas_jax', 'jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'numpy')
SHOWN_DIFFERENCES = 5
# Settings that the folder of an earlier version lacks, at the value that does what was done then.
LATER_SETTINGS = {
    **{f'training.{name}': value for name, value in LATER_FIELDS.items() if name != 'stop_epoch'}, 'budget.seconds': None,
    'limits.params': 0, 'limits.macs': 0, 'control': False, 'data.augmentation.choice': 'paper',
    **{f'egnas.{name}': value for name, value in (
        ('confidence', 0.0), ('most_replicates', 4), ('grow', False), ('widen', False), ('depth_step', 1),
        ('micro_groups', 0), ('decide_by', 'accuracy'), ('growth_gain', 0.0), ('kernel_walk', False))}}


class Folder:
  """A folder of records, each whole or absent after a crash.

  Attributes:
    path: the folder.
  """

  def __init__(self, path: Path):
    self.path = path

  def part(self, name: str) -> Folder:
    """Returns a folder in it; made if absent. Raises UserError where the disk does not allow it."""
    part = Folder(self.path / name)
    with disk_errors(self.path):
      part.path.mkdir(exist_ok=True)
    return part

  def write_json(self, name: str, record: Any) -> None:
    """Writes a file as a whole: after a crash it is the old one or the new one."""
    self.write_bytes(name, (json.dumps(record, indent=2, allow_nan=False) + '\n').encode())

  def write_bytes(self, name: str, data: bytes) -> None:
    """As `write_json`, of any content."""
    target, temporary = self.path / name, self.path / f'{name}.tmp'
    with disk_errors(self.path):
      try:
        with open(temporary, 'wb') as file:
          file.write(data)
          file.flush()
          os.fsync(file.fileno())
        os.replace(temporary, target)
      except OSError:
        temporary.unlink(missing_ok=True)
        raise
      sync_folder(target.parent)

  def remove(self, name: str) -> None:
    """Removes a file, if it is there."""
    with disk_errors(self.path):
      (self.path / name).unlink(missing_ok=True)

  def read_json(self, name: str, *, damaged: Callable[[str], None] | None = None) -> Any:
    """What `write_json` wrote, or None where there is no such file.

    Args:
      name: of the file.
      damaged: for a file that can be made again: told, in one line, that it is damaged, and None is returned.

    Raises:
      UserError: the file is damaged, and `damaged` is not given.
    """
    file = self.path / name
    try:
      return json.loads(file.read_bytes())
    except FileNotFoundError:
      return None
    except OSError as error:
      raise UserError(f'{file} cannot be read ({error.strerror}); mend it or choose another --workdir') from error
    except ValueError as error:
      if damaged is None:
        raise UserError(f'{file} is damaged ({error}); restore it or choose another --workdir') from error
      damaged(f'{file} is damaged ({error}) and is made again')
      return None


class Workdir(Folder):
  """An open work folder. A context manager: the lock is held until the end of the block.

  Attributes:
    path: the folder.
    ledger: path of the ledger; the file need not exist.
    notice: one line for the user about versions or hardware that changed since the first run; empty if none did.
  """

  def __init__(self, path: Path, lock: int):
    super().__init__(path)
    self.ledger = path / 'ledger.jsonl'
    self.notice = ''
    self._lock = lock
    self._is_new = False

  @classmethod
  def open(cls, path: str | Path, config: ConfigDict, *, data_checksum: str) -> Workdir:
    """Creates the folder, or resumes it if it was started with the same settings on the same data.

    Raises:
      UserError: it is not a usable folder, in use, full, or belongs to other settings or data.
    """
    path = Path(path).expanduser()
    record = _record(config, data_checksum)
    with disk_errors(path):
      path.mkdir(parents=True, exist_ok=True)
      workdir = cls(path, _acquire(path))
    try:
      workdir._settle(record)
    except BaseException:
      workdir.close()
      raise
    return workdir

  def close(self) -> None:
    """Releases the lock. The lock file stays: removing it could break a newer lock."""
    os.close(self._lock)

  def __enter__(self) -> Workdir:
    return self

  def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
    if self._is_new and kind is not None and issubclass(kind, UserError):
      self._forget()
    self.close()

  def _settle(self, now: Mapping[str, Any]) -> None:
    """Writes the settings on the first run; on a later one refuses others."""
    stored = self.read_json('config.json')
    if stored is None:
      if self.ledger.exists():
        raise UserError(f'workdir {self.path} has a ledger but no config.json; restore that or choose another --workdir')
      self.write_json('config.json', now)
      self._is_new = True
      return
    if not isinstance(stored, dict) or not now.keys() <= stored.keys():
      raise UserError(f'{self.path}/config.json was not written by enas_jax; choose another --workdir')
    known = {**LATER_SETTINGS, **flatten(stored['config'])}
    if differences := _differences(known, now['config'], '{}: stored {}, now {}'):
      shown, more = differences[:SHOWN_DIFFERENCES], len(differences) - SHOWN_DIFFERENCES
      text = '; '.join(shown) + (f'; and {more} more' if more > 0 else '')
      raise UserError(f'workdir {self.path} has another config ({text}); choose another --workdir or the stored values')
    if stored['data_checksum'] != now['data_checksum']:
      raise UserError(
          f'workdir {self.path} was started on other data (checksum stored {stored["data_checksum"]}, '
          f'now {now["data_checksum"]}); choose another --workdir or the data it was started on')
    changes = [c for part in ('versions', 'hardware') for c in _differences(stored[part], now[part], '{} was {}, is {}')]
    if changes:
      self.notice = f'since the first run {", ".join(changes)}: results can differ in the last digits'

  def _forget(self) -> None:
    """Takes the settings back where a first run was refused before it had anything to keep, so that mended ones may follow."""
    if {file.name for file in self.path.iterdir()} <= {'config.json', 'lock', 'compilation_cache', 'lowering.json'}:
      (self.path / 'config.json').unlink()


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
  """Turns what the operating system reports about a work folder into a UserError."""
  try:
    yield
  except OSError as error:
    if error.errno is None:  # A library's own, such as a TimeoutError of its threads.
      raise
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
      text = f'is full ({reason}); nothing finished is lost; free space and run the same command'
    elif isinstance(error, FileExistsError | NotADirectoryError):
      text = f'is not a folder ({error.filename} is a file); choose another --workdir'
    else:
      text = f'is not readable and writable ({reason}); choose another --workdir'
    raise UserError(f'workdir {path} {text}') from error


def sync_folder(path: Path) -> None:
  """Makes new names in a folder survive a power cut."""
  folder = os.open(path, os.O_RDONLY)
  try:
    os.fsync(folder)
  finally:
    os.close(folder)


def _acquire(path: Path) -> int:
  """Locks the folder; the kernel frees the lock however the process ends."""
  lock = os.open(path / 'lock', os.O_RDWR | os.O_CREAT, 0o644)
  try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)
  except BlockingIOError:
    pid = os.pread(lock, 32, 0).decode()
    os.close(lock)
    raise UserError(f'workdir {path} is in use by process {pid}; wait for it, stop it or choose another --workdir') from None
  except OSError:
    os.close(lock)
    raise
  return lock


def _record(config: ConfigDict, data_checksum: str) -> dict[str, Any]:
  settings = config.to_dict()
  for field, value in flatten(settings).items():
    try:
      json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
      raise UserError(
          f'--config.{field}={value!r} cannot be stored; give finite numbers, text, booleans or tuples of them') from None
  return {
      'config': json.loads(json.dumps(settings)),  # As it will be read back: lists instead of tuples.
      'data_checksum': data_checksum,
      'versions': {**{name: _version(name) for name in PACKAGES}, 'python': platform.python_version()},
      'hardware': machine.hardware(),
      'command': shlex.join(sys.orig_argv),
  }


def _version(package: str) -> str:
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return 'not installed'


def _differences(stored: Mapping[str, Any], now: Mapping[str, Any], template: str) -> list[str]:
  stored, now = flatten(stored), flatten(now)
  fields = sorted(stored.keys() | now.keys())
  texts = [{field: json.dumps(record[field]) if field in record else 'absent' for field in fields} for record in (stored, now)]
  return [template.format(field, *(t[field] for t in texts)) for field in fields if texts[0][field] != texts[1][field]]

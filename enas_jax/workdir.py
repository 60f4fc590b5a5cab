"""The folder of one search: its settings, its lock and its records, safe against crashes and a full disk.

    config.json         the settings, versions and hardware of the first run; written once, but for what may grow
    ledger.jsonl        every finished evaluation; see ledger.py
    in_training.json    who is in training, while anybody is; see in_training.py
    lock                held while a process works in the folder; names it
"""
from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import importlib.metadata
import itertools
import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from enas_jax import machine, paths, resume
from enas_jax.errors import FolderError, UserError
from enas_jax.fields import flatten

PACKAGES = ('enas_jax', 'jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'numpy')
ENDS = ('result.json', 'control/result.json')  # What says that a run has come to its end.
SEAL = 'sha256'


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
      return parse_json(file.read_bytes())
    except FileNotFoundError:
      return None
    except OSError as error:
      raise UserError(f'{file} cannot be read ({error.strerror}); mend it or choose another --workdir') from error
    except ValueError as error:
      if damaged is None:
        raise UserError(f'{file} is damaged ({error}); restore it or choose another --workdir') from error
      damaged(f'{file} is damaged ({error}) and is made again')
      return None

  def write_sealed(self, name: str, record: Mapping[str, Any]) -> None:
    """As `write_json`, of a record for programs alone, with a checksum of it."""
    self.write_json(name, {**record, SEAL: _seal(record)})

  def read_sealed(self, name: str, *, damaged: Callable[[str], None]) -> Any:
    """What `write_sealed` wrote; None where there is no file or, as `damaged` is told, its checksum is not right."""
    record = self.read_json(name, damaged=damaged)
    if record is None:
      return None
    if isinstance(record, dict) and record.pop(SEAL, '') == _seal(record):
      return record
    damaged(f'{self.path / name} is damaged or of an earlier version (its checksum is not right) and is made again')
    return None


class Workdir(Folder):
  """An open work folder. A context manager: the lock is held until the end of the block.

  Attributes:
    path: the folder.
    ledger: path of the ledger; the file need not exist.
    notice: one line for the user about what changed since the first run and may; empty if nothing did.
  """

  def __init__(self, path: Path, lock: int):
    super().__init__(path)
    self.ledger = path / 'ledger.jsonl'
    self.notice = ''
    self._lock = lock
    self._is_new = False

  @classmethod
  def open(cls, path: str | Path, config: ConfigDict, *, data_checksum: str, data: Mapping[str, Any] | None = None) -> Workdir:
    """Creates the folder, or resumes it if it was started with the same settings (resume.py) on the same data.

    Args:
      path: the folder.
      config: all settings.
      data_checksum: names the data, images and tables.
      data: what is known of the images, as `enas_jax.data.record` has it: it is kept, and tells what differs if they do.

    Raises:
      UserError: it is not a usable folder, in use, full, in the images' folder, or belongs to other settings or data.
    """
    path = paths.read(path, '--workdir=')
    kind, _, images = config.get('data', {}).get('name', '').partition(':')
    if kind == 'folder' and _real(path).is_relative_to(_real(paths.read(images, 'data folder:'))):
      raise UserError(f'workdir {path} is in the folder of the images and would be read as some; choose another --workdir')
    record = _record(config, data_checksum, data)
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
    resumed = resume.check(stored, now, str(self.path))
    self.notice = resumed.notice
    record = {**stored, 'config': {**now['config'], **stored['config']}}  # With the groups of plugins that are new.
    if resumed.has_images_now:
      record |= {name: now[name] for name in ('data', 'data_checksum')}
    if resumed.grown:
      self._grow({**record, 'format': now['format'], 'config': {**stored['config'], **now['config']}}, resumed.grown)
    elif record != stored:
      self.write_json('config.json', record)

  def _grow(self, record: Mapping[str, Any], grown: Sequence[str]) -> None:
    """Opens a run again that may do more: its end is put aside, and the strategy's state, which hangs on the budget, made anew.

    The settings are the last to change: until then the same command does this again.
    """
    before = f'result-before-{time.strftime("%Y%m%d-%H%M%S")}'
    with disk_errors(self.path):
      for end in (self.path / name for name in ENDS):
        names = (end.with_name(f'{before}{f"-{i}" if i > 1 else ""}.json') for i in itertools.count(1))
        if end.exists():
          end.rename(next(name for name in names if not name.exists()))
      (self.path / 'controller.json').unlink(missing_ok=True)
    self.write_json('config.json', record)
    self.notice = '; '.join(filter(None, (f'{", ".join(grown)}: the run goes on', self.notice)))

  def _forget(self) -> None:
    """Takes the settings back where a first run was refused before it had anything to keep, so that mended ones may follow."""
    with contextlib.suppress(OSError):  # The folder is gone or closed, of which the refusal tells.
      if {file.name for file in self.path.iterdir()} <= {'config.json', 'lock', 'compilation_cache', 'lowering.json'}:
        (self.path / 'config.json').unlink()


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
  """Turns what the operating system reports about a work folder into a FolderError."""
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
    raise FolderError(f'workdir {path} {text}') from error


def _real(path: Path) -> Path:
  """Returns the path without links; where they go round in circles, as it is."""
  return Path(os.path.realpath(path))


def parse_json(data: bytes | str) -> Any:
  """Reads JSON that anyone may have written. Raises ValueError where it is none, which NaN and infinities are not."""
  try:
    return json.loads(data, parse_constant=_refuse)
  except RecursionError as error:
    raise ValueError('it is nested too deep') from error


def _refuse(token: str) -> None:
  raise ValueError(f'{token} is not JSON')


def _seal(record: Mapping[str, Any]) -> str:
  plain = json.loads(json.dumps(record))  # As it will be read back, whose names are all text.
  return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


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


def _record(config: ConfigDict, data_checksum: str, data: Mapping[str, Any] | None) -> dict[str, Any]:
  settings = config.to_dict()
  for field, value in flatten(settings).items():
    try:
      json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
      raise UserError(
          f'--config.{field}={value!r} cannot be stored; give finite numbers, text, booleans or tuples of them') from None
  return {
      'format': resume.FORMAT,
      'config': json.loads(json.dumps(settings)),  # As it will be read back: lists instead of tuples.
      'data_checksum': data_checksum,
      **({'data': dict(data)} if data is not None else {}),
      'versions': {**{name: _version(name) for name in PACKAGES}, 'python': platform.python_version()},
      'hardware': machine.hardware(),
      'command': shlex.join(sys.orig_argv),
  }


def _version(package: str) -> str:
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return 'not installed'

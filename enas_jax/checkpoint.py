"""The checkpoints of a long training: arrays by Orbax, each with a small plain record and a checksum."""
from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from enas_jax.workdir import disk_errors

OVERHEAD = 100_000  # Bytes of a checkpoint beside its arrays, at most.


class Checkpoints:
  """The last two checkpoints of one training.

  A checkpoint counts once its checksum stands beside it, so that one that a crash, a full disk or a copy cut short is
  known before it is read.

  Args:
    folder: inside the work folder; made if absent. Damaged checkpoints in it are removed, and those of another training.
    owner: the training, as one word.
    note: told, in one line, of each that was removed.

  Raises:
    UserError: the disk is full, or the folder cannot be written.
  """

  def __init__(self, folder: pathlib.Path, owner: str, note: Callable[[str], None]):
    self._folder, self._owner = folder.absolute(), owner
    with disk_errors(self._folder.parent):
      self._folder.mkdir(parents=True, exist_ok=True)
      self._remove_foreign(note)
      self._manager = ocp.CheckpointManager(
          self._folder, options=ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False))

  def save(self, step: int, arrays: Any, record: Mapping[str, Any]) -> None:
    """Writes a checkpoint. Steps must rise. Raises UserError where the disk is full."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(arrays)]
    with writing(self._folder.parent, sum(leaf.nbytes for leaf in leaves)):
      self._manager.save(step, args=ocp.args.Composite(arrays=ocp.args.StandardSave(leaves), record=ocp.args.JsonSave(record)))
      file = self._checksum_file(step)
      part = file.with_suffix('.part')
      part.write_text(f'{checksum(self._folder / str(step))} {self._owner}')
      part.rename(file)
      for old in self._folder.glob('*.sha256'):
        if int(old.stem) not in self._manager.all_steps():
          old.unlink()

  def restore(self, like: Any) -> tuple[Any, dict[str, Any]] | None:
    """The newest checkpoint, or None. `like` gives structure, shapes and types."""
    if (step := self._manager.latest_step()) is None:
      return None
    leaves, structure = jax.tree.flatten(like)
    restored = self._manager.restore(step, args=ocp.args.Composite(
        arrays=ocp.args.StandardRestore([np.zeros(x.shape, x.dtype) for x in leaves]), record=ocp.args.JsonRestore()))
    return jax.tree.unflatten(structure, restored['arrays']), restored['record']

  def __enter__(self) -> Checkpoints:
    return self

  def __exit__(self, *_: object) -> None:
    self._manager.close()

  def _checksum_file(self, step: int) -> pathlib.Path:
    return self._folder / f'{step}.sha256'

  def _remove_foreign(self, note: Callable[[str], None]) -> None:
    """Removes what is damaged or another training's before Orbax sees it: it would log its own view."""
    for path in self._folder.glob('*.orbax-checkpoint-tmp'):  # A crash while writing.
      shutil.rmtree(path)
    for step in sorted(int(path.name) for path in self._folder.glob('*') if path.is_dir() and path.name.isdigit()):
      file, path = self._checksum_file(step), self._folder / str(step)
      found, _, owner = (file.read_bytes() if file.exists() else b'').partition(b' ')
      if found != checksum(path).encode():
        note(f'checkpoint {path} is cut short or altered; going back to before it')
      elif owner != self._owner.encode():
        note(f'checkpoint {path} is of another network or schedule, or of an earlier version; the training starts anew')
      else:
        continue
      shutil.rmtree(path)


@contextlib.contextmanager
def writing(path: pathlib.Path, num_bytes: int) -> Iterator[None]:
  """Turns a disk that is full, or has no room for so many bytes of arrays, into a UserError about the work folder `path`.

  The room is looked at first because Orbax tells of a full disk in pages of log and a ValueError.
  """
  with disk_errors(path):
    try:
      if shutil.disk_usage(path).free < num_bytes + OVERHEAD:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
      yield
    except ValueError as error:
      for code in (errno.ENOSPC, errno.EDQUOT):
        if os.strerror(code) in str(error):
          raise OSError(code, os.strerror(code)) from error
      raise


def checksum(folder: pathlib.Path) -> str:
  """SHA-256 of the names, sizes and contents of a folder's files, hexadecimal."""
  digest = hashlib.sha256()
  for file in sorted(f for f in folder.rglob('*') if f.is_file()):
    digest.update(f'{file.relative_to(folder)} {file.stat().st_size}\n'.encode())
    digest.update(file.read_bytes())
  return digest.hexdigest()

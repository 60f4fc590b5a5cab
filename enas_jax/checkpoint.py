"""The checkpoints of a long training: arrays by Orbax, each with a small plain record and a checksum."""
from __future__ import annotations

import hashlib
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp


class Checkpoints:
  """The last two checkpoints of one training.

  A checkpoint counts once its checksum stands beside it, so that one that a crash, a full disk or a copy cut short is
  known before it is read.

  Args:
    folder: made if absent.
    note: told, in one line, when a damaged checkpoint is passed over.
  """

  def __init__(self, folder: pathlib.Path, note: Callable[[str], None]):
    self._folder, self._note = folder.absolute(), note
    self._manager = ocp.CheckpointManager(
        self._folder, options=ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False))

  def save(self, step: int, arrays: Any, record: Mapping[str, Any]) -> None:
    """Writes a checkpoint. Steps must rise."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(arrays)]
    self._manager.save(step, args=ocp.args.Composite(arrays=ocp.args.StandardSave(leaves), record=ocp.args.JsonSave(record)))
    checksum = self._checksum_file(step)
    part = checksum.with_suffix('.part')
    part.write_text(_checksum(self._folder / str(step)))
    part.rename(checksum)
    for old in self._folder.glob('*.sha256'):
      if int(old.stem) not in self._manager.all_steps():
        old.unlink()

  def restore(self, like: Any) -> tuple[Any, dict[str, Any]] | None:
    """The newest sound checkpoint, or None. `like` gives structure, shapes and types. Damaged ones are removed."""
    leaves, structure = jax.tree.flatten(like)
    for step in sorted(self._manager.all_steps(), reverse=True):
      checksum = self._checksum_file(step)
      if checksum.exists() and checksum.read_text() == _checksum(self._folder / str(step)):
        restored = self._manager.restore(step, args=ocp.args.Composite(
            arrays=ocp.args.StandardRestore([np.zeros(x.shape, x.dtype) for x in leaves]), record=ocp.args.JsonRestore()))
        return jax.tree.unflatten(structure, restored['arrays']), restored['record']
      self._note(f'checkpoint {self._folder / str(step)} is cut short or altered; going back to the one before')
      self._manager.delete(step)
    return None

  def __enter__(self) -> Checkpoints:
    return self

  def __exit__(self, *_) -> None:
    self._manager.close()

  def _checksum_file(self, step: int) -> pathlib.Path:
    return self._folder / f'{step}.sha256'


def _checksum(folder: pathlib.Path) -> str:
  digest = hashlib.sha256()
  for file in sorted(f for f in folder.rglob('*') if f.is_file()):
    digest.update(f'{file.relative_to(folder)} {file.stat().st_size}\n'.encode())
    digest.update(file.read_bytes())
  return digest.hexdigest()

"""Finds the image files of a folder by part and class, and tells what lies there besides."""
from __future__ import annotations

import collections
import os
import pathlib
import stat
from collections.abc import Iterator
from typing import NamedTuple

from enas_jax.data.decoding import suffixes
from enas_jax.errors import UserError

PARTS = {'train': ('train', 'training'), 'valid': ('val', 'valid', 'validation'), 'test': ('test', 'testing')}  # In any case.
MIN_IMAGES = 3  # Of a class without a test part: from there on a fifth is an image.
SHOWN = 5  # Names or kinds told of what was left out.


class File(NamedTuple):
  """An image file: its path, and its size in bytes and times of change in ns, of content and of anything."""

  path: str
  stamp: tuple[int, int, int]


class Listing(NamedTuple):
  """What a folder holds.

  Attributes:
    parts: 'train', and where they are there 'valid' and 'test', in this order: each the files of every class, in order.
    left_out: what is not read, and why, in a few words each.
  """

  parts: dict[str, dict[str, list[File]]]
  left_out: tuple[str, ...]


def regular_file(where: str, path: str | os.PathLike[str], *, way: str = 'replace or remove it') -> os.stat_result:
  """Returns the state of a file that can be read to its end. Raises UserError, with a way out, for all else, such as a pipe."""
  try:
    state = os.stat(path)
  except (OSError, ValueError) as error:
    link = isinstance(error, FileNotFoundError) and os.path.islink(path)
    reason = 'is a link to nothing' if link else f'cannot be read ({getattr(error, "strerror", None) or error})'
    raise UserError(f'{where} {reason}; {way}') from error
  if not stat.S_ISREG(state.st_mode):
    kind = 'a folder' if stat.S_ISDIR(state.st_mode) else 'a pipe, socket or device'
    raise UserError(f'{where} is {kind}, not a file; {way}')
  return state


def listing(name: str, root: pathlib.Path) -> Listing:
  """Lists ROOT/train/CLASS/**, ROOT/test/CLASS/** and, where it is there, ROOT/val/CLASS/**; or else ROOT/CLASS/**.

  Folders in a class folder belong to the class. A folder `train` that holds no folders is a class of that name.

  Raises:
    UserError: there is no such folder, there are fewer than two classes, a class has no images or is in another part alone, a
      part is missing or there twice, folders look like parts, or something cannot be read.
  """
  try:
    state = os.stat(root)
  except FileNotFoundError as error:
    raise UserError(f'data {name!r}: there is no such folder; give a folder with one folder a class') from error
  except (OSError, ValueError) as error:
    reason = getattr(error, 'strerror', None) or error
    raise UserError(f'data {name!r}: {root} cannot be read ({reason}); give a folder with one folder a class') from error
  if not stat.S_ISDIR(state.st_mode):
    raise UserError(f'data {name!r}: a file; give a folder with one folder a class')
  found = _Finder(f'data {name!r}')
  folders = found.folders(root)
  aliases = {part: [folder for folder in folders if os.path.basename(folder).lower() in names] for part, names in PARTS.items()}
  if not any(found.folders(folder) for part in ('train', 'test') for folder in aliases[part]):
    parts = {'train': found.classes(root)}
    _check_alone(name, root, parts['train'], found)
    return Listing(parts, found.left_out())
  for part, named in aliases.items():
    if len(named) > 1:
      raise UserError(f'data {name!r}: {" and ".join(map(os.path.basename, named))} are one part by their names; keep one')
    if not named and part != 'valid':
      more = '' if not aliases['valid'] else '; a validation part does not stand in for it'
      raise UserError(f'data {name!r}: there is no folder {part} beside the other{more}; add it, or move the classes up')
  used = [folder for named in aliases.values() for folder in named]
  found.unknown += [os.path.basename(folder) for folder in folders if folder not in used]
  found.count_files(root)
  parts = {part: found.classes(named[0], part) for part, named in aliases.items() if named}
  for part in parts:
    if strange := sorted(parts[part].keys() - parts['train'].keys()):
      raise UserError(f'data {name!r}: class {strange[0]} is in {part}, but not in train; add it there or remove it')
  return Listing(parts, found.left_out())


def images_in(folder: str) -> Iterator[File]:
  """Yields the images of a folder and of those in it, as a class's are listed. Raises UserError where one cannot be read."""
  return _Finder(folder).images(folder)


def _check_alone(name: str, root: pathlib.Path, classes: dict[str, list[File]], found: _Finder) -> None:
  """Refuses classes that are too small to be split, and folders that look like parts under names that are not known."""
  for label, files in classes.items():
    if len(files) < MIN_IMAGES:
      raise UserError(
          f'data {name!r}: class {label} has {len(files)} images; give at least {MIN_IMAGES}, since there is no '
          'train and test level and a fifth is split off')
  inner = {label: {os.path.basename(folder) for folder in found.folders(os.path.join(root, label))} for label in classes}
  direct = any(os.path.dirname(file.path) == os.path.join(root, label) for label, files in classes.items() for file in files)
  ways = 'if they are parts call them train and test; if they are classes move them into train and add test'
  for label, names in inner.items():
    if shared := sorted(names & (classes.keys() - {label})):
      raise UserError(f'data {name!r}: folder {label} holds folders named like the classes beside it ({shared[0]}); {ways}')
  first, *others = inner.items()
  if not direct and all(names == first[1] for _, names in others):
    shown = ' and '.join(sorted(inner)[:SHOWN])
    raise UserError(f'data {name!r}: {shown} hold no images, but folders of the same names; {ways}')


class _Finder:
  """Reads folders, and counts what it leaves out.

  Args:
    where: names the data in errors.
  """

  def __init__(self, where: str):
    self._where = where
    self._hidden = self._unsorted = 0
    self._others: collections.Counter[str] = collections.Counter()
    self.unknown: list[str] = []

  def folders(self, folder: str | pathlib.Path) -> list[str]:
    """Returns the paths of the folders in a folder, sorted, without hidden ones."""
    return [entry.path for entry in self._entries(folder) if not _hidden(entry) and self._is_folder(entry)]

  def count_files(self, folder: str | pathlib.Path) -> None:
    """Counts the files of a folder that should hold folders alone."""
    for entry in self._entries(folder):
      if _hidden(entry):
        self._hidden += 1
      elif not self._is_folder(entry):
        if _suffix(entry) in suffixes():
          self._unsorted += 1
        else:
          self._others[_suffix(entry)] += 1

  def classes(self, folder: str | pathlib.Path, part: str = 'train') -> dict[str, list[File]]:
    """Returns the files of every class folder in a folder."""
    folders, least = self.folders(folder), 2 if part == 'train' else 1
    if len(folders) < least:
      raise UserError(
          f'{self._where}: {folder} has {len(folders)} class folders; give at least {least}, one a class')
    self.count_files(folder)
    classes = {}
    for path in folders:
      files = list(self.images(path))
      if not files:
        raise UserError(f'{self._where}: class folder {path} has no images; add some (such as .png or .jpg) or remove it')
      classes[os.path.basename(path)] = files
    return classes

  def left_out(self) -> tuple[str, ...]:
    """Returns what was counted, in words."""
    kinds = [f'{count:,} {_printable(suffix) or "without suffix"}' for suffix, count in self._others.most_common(SHOWN)]
    others = sum(self._others.values())
    texts = (
        (others, f'{_files(others)} not named like images ({", ".join(kinds)}{", ..." if len(self._others) > SHOWN else ""})'),
        (self._unsorted, f'{_files(self._unsorted)} in no class folder'),
        (self._hidden, f'{self._hidden:,} hidden'),
        (self.unknown, f'{"folders" if len(self.unknown) > 1 else "folder"} {", ".join(map(_printable, self.unknown[:SHOWN]))}'
                       f'{", ..." if len(self.unknown) > SHOWN else ""} beside train and test'))
    return tuple(text for there, text in texts if there)

  def images(self, folder: str, above: tuple[str, ...] = ()) -> Iterator[File]:
    """Yields the images of a folder and of those in it, in the order of their paths' parts."""
    entries = self._entries(folder)
    if (here := os.path.realpath(folder)) in above:
      raise UserError(f'{self._where}: {folder} is a link to a folder that holds it; remove it')
    for entry in entries:
      if _hidden(entry):
        self._hidden += 1
      elif self._is_folder(entry):
        yield from self.images(entry.path, (*above, here))
      elif _suffix(entry) in suffixes():
        state = regular_file(f'{self._where}: image {entry.path}', entry.path)
        yield File(entry.path, (state.st_size, state.st_mtime_ns, state.st_ctime_ns))
      else:
        self._others[_suffix(entry)] += 1

  def _entries(self, folder: str | pathlib.Path) -> list[os.DirEntry[str]]:
    try:
      with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
      raise self._unreadable(folder, error) from error

  def _is_folder(self, entry: os.DirEntry[str]) -> bool:
    try:
      return entry.is_dir()
    except OSError as error:
      raise self._unreadable(entry.path, error) from error

  def _unreadable(self, path: str | pathlib.Path, error: OSError) -> UserError:
    return UserError(f'{self._where}: {path} cannot be read ({error.strerror}); give yourself the right or remove it')


def _hidden(entry: os.DirEntry[str]) -> bool:
  return entry.name.startswith('.')


def _printable(name: str) -> str:
  return name if name.isprintable() else ascii(name)


def _suffix(entry: os.DirEntry[str]) -> str:
  return os.path.splitext(entry.name)[1].lower()


def _files(count: int) -> str:
  return f'{count:,} file{"s" if count > 1 else ""}'

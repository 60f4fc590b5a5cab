"""Reads pickles of plain data so that nothing in them can run.

A pickle is a program for a small machine: it can name any function of any module and call it. Here it can name what `_ALLOWED`
holds and nothing else, whichever instruction does the naming. NumPy's constructors are replaced by ours, which have no
attribute that a pickle could set, and check what they are given: NumPy never sees a dtype, shape or state made up by the file.
"""
from __future__ import annotations

import bz2
import copyreg
import io
import math
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np

from enas_jax.errors import UserError

TORCH_MAGIC = bytes.fromhex('80028a0a6cfc9c46f9206aa850192e')  # A pickled number: how torch.save began a file before 1.6.
TORCH_PROTOCOL = 1001
PLAIN_DTYPE = re.compile(r'b1|[iu][1248]|f[248]|c8|c16|[SU][1-9][0-9]{0,5}', re.ASCII)


def load(path: str | Path) -> Any:
  """Reads a pickle of plain data: dict, list, tuple, set, str, bytes, numbers, bool, None, NumPy scalars and arrays.

  It may be bare, compressed by bz2 ('.pbz2'), or saved by torch (zip or older) without tensors. An OrderedDict becomes a dict,
  which keeps the order; an array of numbers or fixed-width texts becomes a subclass of np.ndarray (np.asarray makes it plain).
  No array is larger than its bytes in the file, but a pickle made for it can still ask for more memory than there is.

  Raises:
    UserError: the file cannot be read, is cut or no pickle, or names anything else. The message says what; none of it was run.
  """
  try:
    with open(path, 'rb') as file:
      return _read(file, str(path))
  except OSError as error:
    raise UserError(f'{path} cannot be read ({error.strerror}); give a file that is there') from error


def loads(data: bytes, name: str = 'pickle') -> Any:
  """Reads bytes as `load` reads a file. `name` stands for the file in messages. Raises UserError as `load` does."""
  return _read(io.BytesIO(data), name)


class _Refused(Exception):
  """A pickle holds what it may not; the message names it."""


class _StandIn:
  """A function that a pickle may call. It has nothing that a pickle could set, unlike a function or a class of Python's."""

  __slots__ = ('_function',)
  _function: Callable[..., Any]

  def __init__(self, function: Callable[..., Any]):
    object.__setattr__(self, '_function', function)

  def __setattr__(self, name: str, value: Any) -> None:
    raise _Refused('a change of what it may call')

  def __call__(self, *args: Any) -> Any:
    return self._function(*args)


class _DType:
  """A plain dtype as a pickle describes it; of its state only the byte order counts."""

  __slots__ = ('dtype',)

  def __init__(self, code: str, align: Any = False, copy: Any = False):
    if not isinstance(code, str) or not PLAIN_DTYPE.fullmatch(code):
      raise _Refused(f'a numpy.dtype {_shown(code)}')
    self.dtype = np.dtype(code)

  def __setstate__(self, state: tuple[Any, ...]) -> None:
    _, order, *structure = state[:5]
    if order not in ('<', '>', '|', '=') or structure != [None, None, None]:
      raise _Refused('a numpy.dtype with fields')
    self.dtype = self.dtype.newbyteorder(order)


class _Array(np.ndarray):
  """An array that a pickle fills, once."""

  __slots__ = ()

  def __setstate__(self, state: tuple[Any, ...]) -> None:
    _, shape, dtype, fortran, data = state
    if type(dtype) is not _DType or type(data) is not bytes or self.size:
      raise _Refused('an array of objects')
    if any(type(n) is not int or n < 0 for n in shape) or math.prod(shape) * dtype.dtype.itemsize != len(data):
      raise _Refused('an array that is not as large as its bytes')
    # NumPy writes a plain bool there, and its stub asks for one of NumPy's.
    super().__setstate__((1, tuple(shape), dtype.dtype, bool(fortran), data))  # type: ignore[arg-type]


def _reconstruct(*args: Any) -> np.ndarray:
  if args != (_NDARRAY, (0,), b'b'):
    raise _Refused('a numpy array that is not empty before it is filled')
  return _Array(0, np.int8)


def _scalar(dtype: _DType, data: bytes) -> np.generic:
  if type(dtype) is not _DType or type(data) is not bytes or len(data) != dtype.dtype.itemsize:
    raise _Refused('a numpy scalar of an object')
  return np.frombuffer(data, dtype.dtype)[0]


def _encode(text: str, encoding: str) -> bytes:
  """Returns the bytes that a text stands for: so they are written if the pickle's protocol has no bytes (torch.save)."""
  if type(text) is not str or encoding != 'latin1':
    raise _Refused('_codecs.encode to something other than bytes')
  return text.encode('latin1')


_NDARRAY = 'numpy.ndarray'
_NUMPY = {'_reconstruct': _StandIn(_reconstruct), 'scalar': _StandIn(_scalar)}
# dict and set are safe to call with anything, and no pickle can change a class of C's.
_ALLOWED = {
    ('collections', 'OrderedDict'): dict,
    ('builtins', 'set'): set,
    ('__builtin__', 'set'): set,
    ('_codecs', 'encode'): _StandIn(_encode),
    ('numpy', 'ndarray'): _NDARRAY,
    ('numpy', 'dtype'): _StandIn(_DType),
    **{(f'numpy.{core}.multiarray', name): function for core in ('core', '_core') for name, function in _NUMPY.items()},
}


class _Unpickler(pickle.Unpickler):

  def find_class(self, module: str, name: str) -> Any:
    if (module, name) not in _ALLOWED:
      raise _Refused(_shown(f'{module}.{name}'))
    return _ALLOWED[module, name]

  def persistent_load(self, pid: Any) -> Any:
    raise _Refused('a persistent id, such as a tensor')


def _read(file: IO[bytes], name: str) -> Any:
  copyreg.clear_extension_cache()  # What is in there would not pass find_class.
  head = file.read(len(TORCH_MAGIC))
  file.seek(0)
  try:
    if head.startswith(b'BZh'):
      with bz2.open(file) as plain:
        return _read_whole(plain)[0]
    if head.startswith(b'PK'):
      return _read_torch(file)
    if head == TORCH_MAGIC:
      return _read_old_torch(file)
    return _read_whole(file)[0]
  except _Refused as error:
    raise UserError(
        f'{name}: holds {error}, which is refused since it could run code; give the official file without weights') from error
  except Exception as error:  # A damaged pickle can fail in any way (pickle's documentation says so).
    raise UserError(f'{name}: is cut, altered or no pickle ({type(error).__name__}); get it again') from error


def _read_whole(file: IO[bytes] | bz2.BZ2File, pickles: int = 1) -> list[Any]:
  """Reads so many pickles, with which the file must end: at its end a compressed file's checksum is checked."""
  values = [_Unpickler(file).load() for _ in range(pickles)]
  if file.read(1):
    raise ValueError('more after the end')
  return values


def _read_torch(file: IO[bytes]) -> Any:
  with zipfile.ZipFile(file) as archive:
    (member,) = (name for name in archive.namelist() if name.endswith('/data.pkl'))
    with archive.open(member) as plain:
      return _read_whole(plain)[0]


def _read_old_torch(file: IO[bytes]) -> Any:
  """Reads five pickles: magic number, protocol, machine, the value, and the names of the tensors that would follow."""
  _, protocol, _, value, _ = _read_whole(file, 5)
  if protocol != TORCH_PROTOCOL:
    raise ValueError('another protocol of torch')
  return value


def _shown(value: Any) -> str:
  """Returns a value as text on one line, whatever the file has in it."""
  return ascii(value)[:100]

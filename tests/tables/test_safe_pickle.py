"""The restricted unpickler: what it reads equals what pickle and torch wrote, and nothing else runs."""
import base64
import bz2
import contextlib
import copyreg
import io
import os
import pickle
import struct
import zipfile
import zlib
from collections import Counter, OrderedDict, defaultdict

import numpy as np
import pytest

from enas_jax.tables import safe_pickle

PLAIN = {'a': [1, 2.5, None, True, 2**70], ('cifar10', 777): ('x', b'\xff\x00'), 'c': {1, 2}, 'o': OrderedDict(z=1, a=2)}
ARRAYS = [
    np.arange(6, dtype='f4').reshape(2, 3), np.asfortranarray(np.arange(6).reshape(2, 3)), np.array(3.5),
    np.array([1, 2], '>i4'), np.array([True, False]), np.array(['ab', 'c']), np.array([b'ab', b'c']), np.array([1j])]
SCALARS = [np.float64(0.344346), np.float32(2), np.int64(-1), np.bool_(True), np.str_('ab'), np.complex64(1j)]
TORCH_VALUE = {
    'evaluated_indexes': {0, 2},
    'arch2infos': {2: {'less': {'params': np.float64(0.344346), 'flop': 47.10537, ('cifar10', 777): [84.5, None]}}}}
# What torch 2.13's torch.save(..., _use_new_zipfile_serialization=False) wrote of TORCH_VALUE, 'less' in an OrderedDict.
OLD_TORCH = zlib.decompress(base64.b85decode(
    'c-l2kO=}cE5S^Ww-MFpM#P9gU9>>dKJb4hzL0oXiDg#1amZsCwYdZ9HZ*}(sS6m2)Ya-~;li<ONzr*=8{sckMnhDmS=z3lC-m5x_KM?)<%adP&'
    'gYVC`hDY)4&jj-lqKs}tQ8afpSYb6gl+G(_po0x`9e=b6K}#l0sknjom=XlTVlJ6iuce1%328>V2>N~N0(A43CRiyGpqHmKZ8)rX32S*;RsS_N'
    '5tWBrS3Jm)DO1W<$kh>y?Nv$#Wf&t~1_JQ}k}Qw%SiXa_fNm?#o!Gyx%+z}5Es;1DXkAMY(77kiTq&I_A1i_LXYLlzKQ$q}2eO2-8SOP2bH`^M'
    '&Iwb^=8GW{*2&?lLT&CGUl1?2=8nMnX#**noe7+$F%C~3z=f0J_pnjGW|k+kgV;m3I3ACm{>5lh9tF6xCy=<5!V_tl2Z77&RqJm*P6qX-`fb1d'
    '{0OeJjx@);x8dpvt`%^71zQE&Xq`{Box{!1&gkQt`s*J~*ANqG%H8%oxV76)R&aX)ce2sWi$T=HSXSOQr=CDG{0H<5p9l'))


class Call:
  """Pickles into a call of any function."""

  def __init__(self, function, *args):
    self.reduced = function, args

  def __reduce__(self):
    return self.reduced


def same(found, expected):
  expected = pickle.loads(pickle.dumps(expected))  # In the machine's byte order.
  assert found.dtype == expected.dtype and found.shape == expected.shape
  np.testing.assert_array_equal(np.asarray(found), expected)


@pytest.mark.parametrize('protocol', range(5))
class TestPlainData:

  def test_containers(self, protocol):
    found = safe_pickle.loads(pickle.dumps(PLAIN, protocol))
    assert found == PLAIN and type(found['a'][3]) is bool
    assert list(found['o']) == ['z', 'a'] and type(found['o']) is dict  # Without attributes that a pickle could set.

  def test_arrays(self, protocol):
    for found, expected in zip(safe_pickle.loads(pickle.dumps(ARRAYS, protocol)), ARRAYS, strict=True):
      same(found, expected)

  def test_scalars(self, protocol):
    for found, expected in zip(safe_pickle.loads(pickle.dumps(SCALARS, protocol)), SCALARS, strict=True):
      assert found == expected and type(found) is type(expected)


def test_an_empty_array():
  same(safe_pickle.loads(pickle.dumps(np.zeros((0, 3)), 4)), np.zeros((0, 3)))


def test_files(tmp_path):
  data = pickle.dumps(PLAIN)
  (tmp_path / 'a.pickle').write_bytes(data)
  (tmp_path / 'b.pickle.pbz2').write_bytes(bz2.compress(data))
  assert safe_pickle.load(tmp_path / 'a.pickle') == safe_pickle.load(str(tmp_path / 'b.pickle.pbz2')) == PLAIN


def test_torch(tmp_path):
  (tmp_path / 'old.pth').write_bytes(OLD_TORCH)
  with zipfile.ZipFile(tmp_path / 'new.pth', 'w') as archive:
    archive.writestr('new/data.pkl', pickle.dumps(TORCH_VALUE, 2))
    archive.writestr('new/version', '3\n')
  assert safe_pickle.load(tmp_path / 'old.pth') == safe_pickle.load(tmp_path / 'new.pth') == TORCH_VALUE


@pytest.mark.parametrize('compress', [bytes, bz2.compress])
def test_every_cut_is_an_error(compress, user_error):
  data = compress(pickle.dumps([PLAIN, ARRAYS[0], SCALARS[0]], 4))
  for length in range(len(data)):
    with user_error('f.pickle', 'is cut, altered or no pickle'):
      safe_pickle.loads(data[:length], 'f.pickle')


@pytest.mark.parametrize('change', [
    lambda data: data.replace(struct.pack('<H', 1001), struct.pack('<H', 1002), 1), lambda data: data + b'a tensor'])
def test_another_protocol_or_tensors_of_torch(change, user_error):
  with user_error('f.pth', 'is cut, altered or no pickle'):
    safe_pickle.loads(change(OLD_TORCH), 'f.pth')


def test_every_cut_of_torch_is_an_error(user_error):
  for length in range(len(OLD_TORCH)):
    with user_error('f.pth', 'is cut, altered or no pickle'):
      safe_pickle.loads(OLD_TORCH[:length], 'f.pth')


def test_altered_bz2_is_an_error(user_error):
  data = bytearray(bz2.compress(pickle.dumps(PLAIN)))
  data[len(data) // 2] ^= 1
  with user_error('f.pbz2', 'is cut, altered or no pickle'):
    safe_pickle.loads(bytes(data), 'f.pbz2')


@pytest.mark.parametrize('data', [b'not a pickle', b'PK\x03\x04 no zip', b'BZh9 no bz2', b'\x80\x04', b'\x93NUMPY'])
def test_other_files_are_errors(data, user_error):
  with user_error('f.pickle', 'is cut, altered or no pickle'):
    safe_pickle.loads(data, 'f.pickle')


def test_unreadable_files_are_errors(tmp_path, user_error):
  for path in (tmp_path / 'none.pickle', tmp_path):
    with user_error(path, 'cannot be read'):
      safe_pickle.load(path)


def text(value):
  """The instruction that pushes a short text."""
  return b'\x8c' + bytes([len(value.encode())]) + value.encode()


def named(module, name):
  """The instructions of protocol 4 that push module.name; name may have dots."""
  return text(module) + text(name) + b'\x93'


def nested(value):
  array = np.empty(1, object)
  array[0] = value
  return array


def structured(value):
  array = np.empty(1, [('a', 'i4'), ('b', object)])
  array['b'][0] = value
  return array


LIVE = {  # Pickles that make the folder `path` when an ordinary unpickler reads them.
    'reduce': lambda path: pickle.dumps(Call(os.mkdir, path)),
    'system': lambda path: pickle.dumps(Call(os.system, f"mkdir '{path}'"), 0),
    'eval': lambda path: pickle.dumps({'a': [Call(eval, f"__import__('os').mkdir('{path}')")]}, 2),
    'exec': lambda path: pickle.dumps(Call(exec, f"import os; os.mkdir('{path}')"), 3),
    'INST': lambda path: f"(S'{path}'\nios\nmkdir\n.".encode(),
    'OBJ': lambda path: b'(cos\nmkdir\n' + text(path) + b'o.',
    'GLOBAL': lambda path: b'cos\nmkdir\n' + text(path) + b'\x85R.',
    'STACK_GLOBAL': lambda path: b'\x80\x04' + named('os', 'mkdir') + text(path) + b'\x85R.',
    'dotted': lambda path: b'\x80\x04' + named('shutil', 'os.mkdir') + text(path) + b'\x85R.',
    'a class': lambda path: b'\x80\x04' + named('subprocess', 'Popen') + b'(' + text(f"mkdir '{path}'")
               + b'J\xff\xff\xff\xff' + b'N' * 5 + b'\x88\x88tR.',
    '__setstate__': lambda path: b'\x80\x04' + named('collections', 'Counter') + b')\x81'  # x = Counter()
                    + b'}' + text('__setstate__') + named('os', 'mkdir') + b'sb'           # x.__setstate__ = os.mkdir
                    + text(path) + b'b.',                                                  # x.__setstate__(path)
    '__setstate__ of a dict': lambda path: b'\x80\x04' + named('collections', 'OrderedDict') + b')R}'
                              + text('__setstate__') + named('os', 'mkdir') + b'sb' + text(path) + b'b.',
    'in an array': lambda path: pickle.dumps(nested(Call(os.mkdir, path)), 4),
    'in a structured array': lambda path: pickle.dumps(structured(Call(os.mkdir, path)), 4),
    'numpy': lambda path: pickle.dumps(Call(np.vectorize(os.mkdir, otypes='O'), [path])),
    'runstring': lambda path: pickle.dumps(Call(np.testing.runstring, f"import os; os.mkdir('{path}')", {})),
}


@pytest.mark.parametrize('kind', LIVE)
@pytest.mark.parametrize('compress', [bytes, bz2.compress])
def test_what_would_run_does_not(kind, compress, tmp_path, user_error):
  path = tmp_path / 'ran'
  data = LIVE[kind](str(path))
  (tmp_path / 'evil.pickle').write_bytes(compress(data))
  with user_error(tmp_path / 'evil.pickle', 'holds ', 'refused'):
    safe_pickle.load(tmp_path / 'evil.pickle')
  assert not path.exists()
  with contextlib.suppress(TypeError):  # Some make the folder and fail then.
    getattr(pickle.loads(data), 'wait', int)()
  assert path.exists()  # The pickle was a live one.


@pytest.mark.parametrize('wrap', [
    lambda data: safe_pickle.TORCH_MAGIC + data, lambda data: OLD_TORCH[:-3] + data,
    lambda data: safe_pickle.TORCH_MAGIC + pickle.dumps(1001, 2) + pickle.dumps({}, 2) + data])
def test_nothing_in_old_torch_runs(wrap, tmp_path, user_error):
  with user_error('f.pth', 'mkdir', 'refused'):
    safe_pickle.loads(wrap(LIVE['GLOBAL'](str(tmp_path / 'ran'))), 'f.pth')
  assert not (tmp_path / 'ran').exists()


def test_nothing_in_new_torch_runs(tmp_path, user_error):
  with zipfile.ZipFile(file := io.BytesIO(), 'w') as archive:
    archive.writestr('a/data.pkl', LIVE['GLOBAL'](str(tmp_path / 'ran')))
  with user_error('f.pth', 'mkdir', 'refused'):
    safe_pickle.loads(file.getvalue(), 'f.pth')
  assert not (tmp_path / 'ran').exists()


@pytest.mark.parametrize('code, instruction', [
    (0xEA, b'\x82\xea'), (0xEA5, b'\x83\xa5\x0e'), (0xEA5EA5, b'\x84\xa5\x5e\xea\x00')], ids=['EXT1', 'EXT2', 'EXT4'])
def test_extension_registry(code, instruction, tmp_path, user_error):
  path = tmp_path / 'ran'
  data = b'\x80\x04' + instruction + text(str(path)) + b'\x85R.'
  copyreg.add_extension(os.mkdir.__module__, 'mkdir', code)
  try:
    for _ in range(2):  # The second time its function is in the registry's cache.
      with user_error('mkdir', 'refused'):
        safe_pickle.loads(data)
      assert not path.exists()
      pickle.loads(data)
      path.rmdir()
  finally:
    copyreg.remove_extension(os.mkdir.__module__, 'mkdir', code)


@pytest.mark.parametrize('data', [b'Pname\n.', b'\x80\x04' + text('name') + b'Q.'])
def test_persistent_ids(data, user_error):
  with user_error('f.pth', 'persistent id', 'refused'):
    safe_pickle.loads(data, 'f.pth')


@pytest.mark.parametrize('module, name', [
    ('numpy', 'ndarray.__reduce__'), ('numpy', 'dtype.__new__'), ('numpy', 'load'), ('numpy', 'fromfile'),
    ('numpy.core.multiarray', 'dot'), ('numpy.core', 'multiarray'), ('collections', 'OrderedDict.__init__'),
    ('collections', 'defaultdict'), ('_codecs', 'decode'), ('builtins', 'set.__class__'), ('builtins', 'getattr'),
    ('torch._utils', '_rebuild_tensor_v2'), ('', ''), ('a\nb', 'c\rd')])
def test_names_that_are_not_on_the_list(module, name, user_error):
  with user_error('f.pickle', ascii(f'{module}.{name}'), 'refused', 'give'):
    safe_pickle.loads(b'\x80\x04' + named(module, name) + b'.', 'f.pickle')


@pytest.mark.parametrize(
    'value', [Counter(a=1), defaultdict(int), range(3), 3j, object(), slice(1), np.dtype('f4,O'), np.longdouble(1)],
    ids=lambda value: type(value).__name__)
def test_other_classes(value, user_error):
  with user_error('refused'):
    safe_pickle.loads(pickle.dumps(value, 4))


RECONSTRUCT, SCALAR = named('numpy.core.multiarray', '_reconstruct'), named('numpy.core.multiarray', 'scalar')
NDARRAY, DTYPE, SET = named('numpy', 'ndarray'), named('numpy', 'dtype'), named('builtins', 'set')
F8 = DTYPE + text('f8') + b'\x85R'
EMPTY = RECONSTRUCT + NDARRAY + b'K\x00\x85C\x01b\x87R'
BYTES8 = b'C\x08' + bytes(8)
HUGE = b'\x8a\x08' + struct.pack('<q', 10**15)


def state(shape, dtype, data):
  return b'(K\x01' + shape + dtype + b'\x89' + data + b'tb'


def test_these_parts_make_an_array():
  """The control of the next test, with the name that older NumPys have."""
  same(safe_pickle.loads(b'\x80\x04' + EMPTY + state(b'K\x01\x85', F8, BYTES8) + b'.'), np.zeros(1))


@pytest.mark.parametrize('body', {
    'a shape larger than the bytes': EMPTY + state(HUGE + b'\x85', F8, BYTES8),
    'a shape with a product that overflows': EMPTY + state(b'(' + HUGE * 4 + b't', F8, BYTES8),
    'a negative shape': EMPTY + state(b'J\xff\xff\xff\xffJ\xff\xff\xff\xff\x86', F8, BYTES8),
    'a huge array of empty texts': EMPTY + state(HUGE + b'\x85', DTYPE + text('S0') + b'\x85R', b'C\x00'),
    'elements that are no bytes': EMPTY + state(b'K\x01\x85', F8, b']K\x01a'),
    'a dtype that is none': EMPTY + state(b'K\x01\x85', text('f8'), BYTES8),
    'a second state': EMPTY + state(b'K\x01\x85', F8, BYTES8) + state(b'K\x01\x85', F8, BYTES8),
    'an array that is not empty at first': RECONSTRUCT + NDARRAY + HUGE + b'\x85C\x01b\x87R',
    'an array of another class': RECONSTRUCT + DTYPE + b'K\x00\x85C\x01b\x87R',
    'a dtype of objects': DTYPE + text('O') + b'\x85R',
    'a dtype of records': DTYPE + text('f4,O') + b'\x85R',
    'a dtype of a mapping': DTYPE + b'}\x85R',
    'a dtype made structured by its state': F8 + b'(K\x03' + text('<') + b'N' + text('a') + b'\x85}tb',
    'a dtype of an unknown order': F8 + b'(K\x03' + text('O') + b'NNNtb',
    'a scalar longer than its dtype': SCALAR + F8 + b'C\x01a\x86R',
    'a scalar of a text': SCALAR + text('f8') + BYTES8 + b'\x86R',
    'an encoding with a codec of its own': named('_codecs', 'encode') + text('a') + text('rot13') + b'\x86R',
    'a stand-in with another function': DTYPE + b'N}' + text('_function') + SET + b's\x86b',
}.items(), ids=lambda item: item[0])
def test_allowed_names_with_hostile_arguments(body, user_error):
  with user_error('holds ', 'refused'):
    safe_pickle.loads(b'\x80\x04' + body[1] + b'.')
  for array in ARRAYS:  # Nothing was left behind that changes later pickles.
    same(safe_pickle.loads(pickle.dumps(array, 4)), array)


@pytest.mark.parametrize('target', [SET, named('collections', 'OrderedDict'), DTYPE, NDARRAY, SET + b')R', F8])
@pytest.mark.parametrize('change', [b'}' + text('update') + b'Ns', b'N}' + text('update') + b'Ns\x86'])
def test_nothing_allowed_can_be_changed(target, change, user_error):
  with user_error('f.pickle'):
    safe_pickle.loads(b'\x80\x04' + target + change + b'b.', 'f.pickle')

"""Damaged input by the thousand: every reader either takes it or refuses it in one line."""
import io
import time
import zipfile

import numpy as np

from enas_jax.errors import UserError

PIECES = (b'', b'\0', b'\n', b'"', b'{', b'[' * 2000, b'-1', b'1e999', b'NaN', b'Infinity', b'null', b'true', b'9' * 20,
          b'\xff\xfe', '\u00e9\u2028'.encode(), b'__proto__', b',' * 50)
SECONDS = 5  # That one input may take.


def damaged(data, random):
  """Returns bytes changed in one to three places: a byte, a piece put in or cut out, a piece moved, the end lost."""
  data = bytearray(data)
  for _ in range(random.integers(1, 4)):
    start = int(random.integers(len(data) + 1))
    end = min(len(data), start + int(random.integers(1, 20)))
    match random.integers(5):
      case 0 if start < len(data):
        data[start] = random.integers(256)
      case 1:
        data[start:start] = PIECES[random.integers(len(PIECES))]
      case 2:
        data[start:end] = PIECES[random.integers(len(PIECES))]
      case 3:
        data[start:start] = data[(other := int(random.integers(len(data) + 1))):other + int(random.integers(1, 200))]
      case _ if random.integers(4) == 0:
        del data[start:]
  return bytes(data)


def damaged_npz(data, random):
  """Returns an archive with a member damaged, its checksum in the archive being right; or, of four, one damaged as a whole."""
  if random.integers(4) == 0:
    return damaged(data, random)
  with zipfile.ZipFile(io.BytesIO(data)) as archive:
    members = {name: archive.read(name) for name in archive.namelist()}
  victim = list(members)[random.integers(len(members))]
  members[victim] = damaged(members[victim], random)
  with zipfile.ZipFile(buffer := io.BytesIO(), 'w') as archive:
    for name, content in members.items():
      archive.writestr(name, content)
  return buffer.getvalue()


def survives(read, data, count=10_000, damage=damaged):
  """Has `read` read damaged forms of `data`. It must return, or raise a UserError of one line, within a moment.

  Returns:
    How many were refused.
  """
  random, refused = np.random.default_rng(0), 0
  for number in range(count):
    content, start = damage(data, random), time.monotonic()
    try:
      read(content)
    except UserError as error:
      refused += 1
      assert '\n' not in str(error), (number, content)
    except Exception as error:
      raise AssertionError(f'input {number}: {content!r}') from error
    assert time.monotonic() - start < SECONDS, (number, content)
  return refused

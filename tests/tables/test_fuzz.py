"""Damaged tables by the thousand: each is read or refused in one line, and what is read is a sound table."""
import io

import numpy as np
import pytest
from support.fuzzing import damaged, damaged_npz, survives

from enas_jax import tables
from enas_jax.spaces import NasBenchMacroSpace
from enas_jax.tables import files
from enas_jax.types import is_amount

pytestmark = pytest.mark.once

SPACE = NasBenchMacroSpace()
CSV = (b'architecture,a/valid/50,a/test/50,a/params,a/latency_ms/x\n22212202,0.75,0.5,10,1.5\n'
       b'00000000,,.5,11,\n00000012,1,0,1e3,2\n')


def npz():
  buffer = io.BytesIO()
  np.savez(buffer, **{'architecture': np.array(['22212202', '00000000']), 'a/valid/50': np.array([0.75, np.nan]),
                      'a/params': np.array([1, 2])})
  return buffer.getvalue()


@pytest.mark.parametrize(('suffix', 'data', 'damage'), [('.csv', CSV, damaged), ('.npz', npz(), damaged_npz)])
def test_tables(monkeypatch, suffix, data, damage):
  taken = []

  def read(content):
    monkeypatch.setattr(files, '_bytes', lambda path: content)  # A file each would take most of the time.
    table = tables.read(f'mine{suffix}', SPACE)
    for name, values in table.columns.items():
      known = values[~np.isnan(values)]
      assert np.isfinite(known).all() and not (is_amount(name.partition('/')[2]) and (known < 0).any())
    for row in range(len(table)):
      assert table.row(table.architecture(row)) is not None
    taken.append(table)

  assert survives(read, data, damage=damage) > 2000 and len(taken) > 500

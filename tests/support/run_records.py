"""Reads what runs leave behind and compares it bit for bit."""
import json
import pathlib

import jax
import numpy as np
from flax import nnx

from enas_jax import load

CLOCKS = {'seconds', 'compile_seconds', 'peak_memory_bytes', 'population', 'sha256'}  # What no two runs' records share.


def image_part(count, rng):
  """Images and labels; a class is the bright quarter of its image."""
  labels = np.arange(count) % 4
  images = rng.integers(0, 60, (count, 8, 8, 1), np.uint8)
  for image, label in zip(images, labels, strict=True):
    image[4 * (label // 2):][:4, 4 * (label % 2):][:, :4] += 120
  return images, labels


def write_images(path, train_count=200, test_count=60):
  """An .npz data set."""
  rng = np.random.default_rng(0)
  parts = [array for count in (train_count, test_count) for array in image_part(count, rng)]
  np.savez(path, **dict(zip(('x_train', 'y_train', 'x_test', 'y_test'), parts, strict=True)))
  return path


def timeless(record):
  """A record without what no two runs share."""
  if isinstance(record, dict):
    return {name: timeless(value) for name, value in record.items() if name not in CLOCKS}
  return [timeless(value) for value in record] if isinstance(record, list) else record


def read(workdir, name):
  return json.loads((pathlib.Path(workdir) / name).read_text())


def ledger(workdir):
  """The records of the ledger's whole lines, in order."""
  file = pathlib.Path(workdir) / 'ledger.jsonl'
  lines = file.read_text().splitlines(keepends=True) if file.exists() else []
  return [timeless(json.loads(line)) for line in lines if line.endswith('\n')]


def same_run(workdir, other):
  """Asserts that two searches did the same, to the last bit of the last weight."""
  np.testing.assert_equal(ledger(workdir), ledger(other))
  same_training(workdir, other)


def same_training(workdir, other):
  """Asserts that two final trainings gave the same, to the last bit of the last weight."""
  for name in ('result.json', 'architecture.json'):
    np.testing.assert_equal(timeless(read(workdir, name)), timeless(read(other, name)))
  leaves = [jax.tree.leaves(nnx.to_pure_dict(nnx.state(load(folder).network))) for folder in (workdir, other)]
  assert len(leaves[0]) == len(leaves[1]) > 5
  for one, two in zip(*leaves, strict=True):
    np.testing.assert_array_equal(one, two)


def files(workdir):
  """Every file's content but the lock's, by path."""
  paths = (p for p in sorted(pathlib.Path(workdir).rglob('*')) if p.is_file() and p.name != 'lock')
  return {str(p.relative_to(workdir)): p.read_bytes() for p in paths}

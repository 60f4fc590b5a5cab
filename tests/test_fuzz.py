"""Damaged records of a run by the thousand: each is read, made again or refused in one line."""
import json
import pathlib

import numpy as np
import pytest
from support.fuzzing import survives

import enas_jax
from enas_jax import get_config, plugins, spaces
from enas_jax.errors import UserError
from enas_jax.ledger import Ledger
from enas_jax.model import read_architecture
from enas_jax.spaces import SPACES
from enas_jax.types import Evaluation, Request, Schedule, impossible
from enas_jax.workdir import Folder, Workdir, parse_json

pytestmark = pytest.mark.once

SPACE = spaces.make(get_config())


def text(record):
  return json.dumps(record).encode()


@pytest.fixture(autouse=True)
def no_search_for_plugins(monkeypatch):
  """For each of ten thousand records it would take a millisecond."""
  monkeypatch.setattr(plugins, 'load_all', lambda *_: None)


@pytest.fixture
def on_disk(monkeypatch):
  """Has every file hold the bytes it is given: writing one for each would take most of the time."""
  return lambda content: monkeypatch.setattr(pathlib.Path, 'read_bytes', lambda path: content)


def test_ledgers(tmp_path):
  """What a ledger takes is a whole evaluation, or a last line that was torn."""
  random, source = np.random.default_rng(0), tmp_path / 'ledger.jsonl'
  written = Ledger(source, SPACE.from_json)
  for replicate in range(2):
    request = Request(SPACE.sample(random), Schedule(epochs=2), replicate, 'depth')
    written.add(request, Evaluation(metrics={'accuracy': 0.5, 'params': 7}, curve=(0.25, 0.5), train_macs=1e9, seconds=0.5))
    written.add(Request(SPACE.sample(random), Schedule(epochs=3)), Evaluation(reason='out of memory'))
  ledger = Ledger(tmp_path / 'none', SPACE.from_json)

  def read(content):
    ledger._entries.clear()
    ledger._read(content, SPACE.from_json)
    for request, evaluation in ledger:
      assert request.key == Request(request.architecture, request.schedule, request.replicate).key
      assert evaluation.accuracy <= 1e300 and not impossible(evaluation)

  assert 5000 < survives(read, source.read_bytes()) < 10_000


@pytest.mark.parametrize('name', sorted(SPACES))
def test_architectures(name):
  space = SPACES[name].make()
  record = space.sample(np.random.default_rng(0)).to_json()

  def read(content):
    try:
      plain = parse_json(content)
    except ValueError:
      raise UserError('no JSON') from None
    hash(read_architecture(plain))

  assert survives(read, text(record), 10_000 // len(SPACES)) > 500


def test_models(tmp_path, on_disk):
  """As far as its weights, which are not there."""
  record = {'format': 1, 'architecture': SPACE.sample(np.random.default_rng(0)).to_json(), 'image_shape': [8, 8, 1],
            'class_names': ['a', 'b'], 'mean': [0.5], 'std': [0.25], 'weights': 'weights-0123456789abcdef'}

  def read(content):
    on_disk(content)
    enas_jax.load(tmp_path)

  assert survives(read, text(record)) == 10_000


def test_configs(tmp_path, on_disk):
  """Settings that were changed by hand are other settings."""
  config = get_config()
  with Workdir.open(tmp_path, config, data_checksum='0') as workdir:
    stored, now = (tmp_path / 'config.json').read_bytes(), json.loads((tmp_path / 'config.json').read_text())

    def read(content):
      on_disk(content)
      workdir._settle(now)

    assert survives(read, stored) > 5000


def test_sealed_records(tmp_path, on_disk):
  """What was changed is made again; no strategy sees it."""
  folder, told = Folder(tmp_path), []
  record = {'evaluations': 3, 'state': {'phase': 'depth', 'by_number': {1: 0.5, 10: 2}, 'x': [1, None]}}
  folder.write_sealed('x.json', record)
  read_back = folder.read_sealed('x.json', damaged=told.append)
  assert read_back == json.loads(json.dumps(record)) and not told

  def read(content):
    on_disk(content)
    assert folder.read_sealed('x.json', damaged=told.append) in (None, read_back)

  assert survives(read, (tmp_path / 'x.json').read_bytes()) == 0
  assert len(told) > 5000 and all('is made again' in line and '\n' not in line for line in told)

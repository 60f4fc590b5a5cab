"""Which form of the convolutions: told, known, or tried once and then kept."""
import json
from types import SimpleNamespace

import jax
import pytest

from enas_jax.families.chain import trial
from enas_jax.families.planes import LOWERINGS
from enas_jax.training import lowering


def no_trial():
  raise AssertionError('nothing is to be tried')


def test_told(tmp_path):
  assert lowering.choose('xla', LOWERINGS, tmp_path / 'f', no_trial) == 'xla' and not (tmp_path / 'f').exists()


def test_known_for_a_cpu(tmp_path):
  assert lowering.choose('auto', LOWERINGS, tmp_path / 'f', no_trial) == 'shifts' and not (tmp_path / 'f').exists()


def test_unknown(tmp_path, user_error):
  with user_error("--lowering=winograd is unknown; give 'auto', 'shifts' or 'xla'"):
    lowering.choose('winograd', LOWERINGS, tmp_path / 'f', no_trial)


def test_elsewhere_it_is_tried_once_and_kept(tmp_path, monkeypatch):
  trials = []
  monkeypatch.setattr(jax, 'local_devices', lambda: [SimpleNamespace(platform='gpu', device_kind='Some GPU')])

  def measured():
    trials.append(None)
    return {'shifts': 2.0, 'xla': 1.0}

  assert [lowering.choose('auto', LOWERINGS, tmp_path / 'f', measured) for _ in range(2)] == ['xla', 'xla']
  assert len(trials) == 1 and json.loads((tmp_path / 'f').read_text()) == {'Some GPU': {'shifts': 2.0, 'xla': 1.0}}


@pytest.mark.once
@pytest.mark.slow
def test_a_trial_times_both(monkeypatch):
  monkeypatch.setattr(trial, 'BATCH', 2)
  seconds = trial.trial('float32')
  assert set(seconds) == {'shifts', 'xla'} and all(s > 0 for s in seconds.values())

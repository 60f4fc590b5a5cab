"""Which form of the convolutions: told, known, or tried once and then kept."""
import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from enas_jax.estimators import lowering


def test_told(tmp_path):
  assert lowering.choose('xla', tmp_path / 'f') == 'xla' and not (tmp_path / 'f').exists()


def test_known_for_a_cpu(tmp_path):
  assert lowering.choose('auto', tmp_path / 'f') == 'shifts' and not (tmp_path / 'f').exists()


def test_unknown(tmp_path, user_error):
  with user_error("--lowering=winograd is unknown; give 'auto', 'shifts' or 'xla'"):
    lowering.choose('winograd', tmp_path / 'f')


def test_elsewhere_it_is_tried_once_and_kept(tmp_path, monkeypatch):
  trials = []
  monkeypatch.setattr(jax, 'local_devices', lambda: [SimpleNamespace(platform='gpu', device_kind='Some GPU')])
  monkeypatch.setattr(lowering, 'trial', lambda dtype: trials.append(dtype) or {'shifts': 2.0, 'xla': 1.0})
  assert [lowering.choose('auto', tmp_path / 'f') for _ in range(2)] == ['xla', 'xla']
  assert trials == [jnp.bfloat16] and json.loads((tmp_path / 'f').read_text()) == {'Some GPU': {'shifts': 2.0, 'xla': 1.0}}


@pytest.mark.slow
def test_a_trial_times_both(monkeypatch):
  monkeypatch.setattr(lowering, 'BATCH', 2)
  seconds = lowering.trial(jnp.float32)
  assert set(seconds) == {'shifts', 'xla'} and all(s > 0 for s in seconds.values())

"""Scores do not depend on how many devices measure them, nor on who is measured beside."""
import json
import subprocess
import sys

import pytest

SCRIPT = """
import json
import jax
import numpy as np
jax.config.update('jax_num_cpu_devices', 2)
from enas_jax import scores
from enas_jax.supernets import NasBench201Supernet
from enas_jax.types import Task
rng = np.random.default_rng(0)
supernet = NasBench201Supernet(2, 1, Task((6, 6, 1), 4))
images, labels = rng.normal(size=(128, 6, 6, 1)).astype(np.float32), np.arange(128) % 4
cells = [supernet.choices(type('Cell', (), {'operations': tuple(rng.integers(5, size=6))})) for _ in range(3)]
found = [list(scores.Scorer(supernet.network, supernet.draw([0]), ['naswot', 'snip'], images, labels, [1],
                            devices=jax.devices()[:count]).scores(cells)) for count in (1, 2)]
print(json.dumps(found))
"""


@pytest.mark.slow
@pytest.mark.once
def test_two_devices_and_three_networks():
  run = subprocess.run([sys.executable, '-c', SCRIPT], capture_output=True, text=True, check=True)
  one, two = json.loads(run.stdout)
  assert len(one) == len(two) == 3 and one[0] != one[1]
  for alone, beside in zip(one, two, strict=True):
    assert beside == pytest.approx(alone, rel=1e-5)

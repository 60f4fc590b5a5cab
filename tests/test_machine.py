"""How many CPU devices a process has. Each case is a process of its own: JAX is told before it runs."""
import os
import subprocess
import sys

import pytest

from enas_jax.machine import usable_cores

ASK = '''
import jax
from enas_jax.machine import one_cpu_device_a_core
{before}
one_cpu_device_a_core()
print(jax.device_count('cpu'))
'''


def devices(before='', **environment):
  clean = {name: value for name, value in os.environ.items() if name not in ('XLA_FLAGS', 'JAX_NUM_CPU_DEVICES')}
  process = subprocess.run(
      [sys.executable, '-c', ASK.format(before=before)], env={**clean, **environment}, capture_output=True, text=True)
  assert process.returncode == 0, process.stderr
  return int(process.stdout)


def test_each_core_is_a_device():
  assert devices() == usable_cores()


@pytest.mark.skipif(not hasattr(os, 'sched_setaffinity'), reason='cores cannot be taken away')
def test_only_the_cores_that_may_be_used_count():
  assert devices('import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])') == 1


@pytest.mark.parametrize('environment', [
    {'XLA_FLAGS': '--xla_force_host_platform_device_count=3'}, {'JAX_NUM_CPU_DEVICES': '3'}], ids=str)
def test_what_the_user_has_set_stays(environment):
  assert devices(**environment) == 3


def test_fewer_by_a_quota_of_time_and_xla_has_as_many_threads():
  assert devices('''
from enas_jax import quotas
quotas.cores = lambda: 0.7
''') == 1
  threads = '''
import os, pathlib
from enas_jax import quotas
os.sched_getaffinity = lambda _: set(range(8))
quotas.cores = lambda: 4.5
one_cpu_device_a_core()
jax.numpy.zeros(3).block_until_ready()
names = [(task / 'comm').read_text() for task in pathlib.Path('/proc/self/task').iterdir()]
assert names.count('tf_XLAEigen\\n') == 5, names
'''
  if sys.platform == 'linux':
    assert devices(threads) == 5


def test_where_jax_runs_already_nothing_changes():
  assert devices('jax.devices()') == 1

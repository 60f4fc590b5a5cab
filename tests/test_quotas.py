"""What the kernel leaves a process, in trees of /proc and /sys as machines and containers have them."""
import math
import os

import pytest

from enas_jax import machine, quotas

pytestmark = pytest.mark.smoke

GB = 10**9
V1_NONE = 9223372036854771712  # What version 1 says for no limit.
MEMINFO = f'MemTotal:       {24 * 10**6} kB\nMemAvailable:   {int(20 * GB / 1024)} kB\nSwapFree: 99999999 kB\n'
FREE = int(20 * GB / 1024) * 1024  # Of the whole machine.
V1_MOUNTS = '''22 27 0:21 / /proc rw,relatime - proc proc rw
30 22 0:28 {top} /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
31 22 0:29 {top} /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:10 - cgroup cgroup rw,cpu,cpuacct
'''
V2_MOUNTS = '''22 27 0:21 / /proc rw,relatime - proc proc rw
30 22 0:28 {top} /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate
'''
V1_OF = '9:name=systemd:/x\n4:memory:{path}\n2:cpu,cpuacct:{path}\n0::/\n'
V2_OF = '0::{path}\n'


def v1(memory=None, used=0, cache=0, hierarchy=V1_NONE, quota=None, period=100000, *, at=''):
  """The files of a group of version 1."""
  files = {}
  if memory is not None:
    files |= {f'sys/fs/cgroup/memory{at}/memory.limit_in_bytes': f'{memory}\n',
              f'sys/fs/cgroup/memory{at}/memory.usage_in_bytes': f'{used}\n',
              f'sys/fs/cgroup/memory{at}/memory.stat': f'cache 7\nhierarchical_memory_limit {hierarchy}\ninactive_file 1\n'
              f'total_inactive_file {cache}\n'}
  if quota is not None:
    files |= {f'sys/fs/cgroup/cpu,cpuacct{at}/cpu.cfs_quota_us': f'{quota}\n',
              f'sys/fs/cgroup/cpu,cpuacct{at}/cpu.cfs_period_us': f'{period}\n'}
  return files


def v2(memory=None, used=0, cache=0, high='max', cpu=None, *, at=''):
  """The files of a group of version 2."""
  files = {}
  if memory is not None:
    files |= {f'sys/fs/cgroup{at}/memory.max': f'{memory}\n', f'sys/fs/cgroup{at}/memory.high': f'{high}\n',
              f'sys/fs/cgroup{at}/memory.current': f'{used}\n',
              f'sys/fs/cgroup{at}/memory.stat': f'anon 5\ninactive_file {cache}\n'}
  if cpu is not None:
    files[f'sys/fs/cgroup{at}/cpu.max'] = f'{cpu}\n'
  return files


CASES = {  # Of a process: its groups, the mounts, the files; the bytes free and the cores.
    'no quota in version 1': (V1_OF, '/', V1_MOUNTS, '/', v1(V1_NONE, 5, quota=-1), FREE, math.inf),
    'no quota in version 2': (V2_OF, '/', V2_MOUNTS, '/', v2('max', 5, cpu='max 100000'), FREE, math.inf),
    'the root of version 2 has no files': (V2_OF, '/', V2_MOUNTS, '/', {}, FREE, math.inf),
    'version 1': (V1_OF, '/a', V1_MOUNTS, '/', v1(3 * GB, GB, quota=150000, at='/a'), 2 * GB, 1.5),
    'version 2': (V2_OF, '/a', V2_MOUNTS, '/', v2(3 * GB, GB, cpu='50000 100000', at='/a'), 2 * GB, 0.5),
    'file cache of version 1 is free': (V1_OF, '/a', V1_MOUNTS, '/', v1(3 * GB, GB, 500, at='/a'), 2 * GB + 500, math.inf),
    'file cache of version 2 is free': (V2_OF, '/a', V2_MOUNTS, '/', v2(3 * GB, GB, 500, at='/a'), 2 * GB + 500, math.inf),
    'slowed down above memory.high': (V2_OF, '/a', V2_MOUNTS, '/', v2('max', GB, high=4 * GB, at='/a'), 3 * GB, math.inf),
    'a group above is tighter, version 1': (
        V1_OF, '/a/b', V1_MOUNTS, '/',
        {**v1(9 * GB, GB, quota=400000, at='/a/b'), **v1(5 * GB, 3 * GB, quota=200000, at='/a'), **v1(V1_NONE, 0)}, 2 * GB, 2),
    'a group above is tighter, version 2': (
        V2_OF, '/a/b/c', V2_MOUNTS, '/',
        {**v2('max', GB, cpu='max 100000', at='/a/b/c'), **v2(5 * GB, 3 * GB, cpu='300000 100000', at='/a')}, 2 * GB, 3),
    'a group above that is out of sight, version 1': (
        V1_OF, '/', V1_MOUNTS, '/', v1(V1_NONE, GB, hierarchy=4 * GB), 3 * GB, math.inf),
    'a container without a namespace': (
        V1_OF, '/docker/c0', V1_MOUNTS, '/docker/c0', v1(2 * GB, GB, quota=100000), GB, 1),
    'a container without a namespace, version 2': (
        V2_OF, '/docker/c0', V2_MOUNTS, '/docker/c0', v2(2 * GB, GB, cpu='100000 100000'), GB, 1),
    'a container in a namespace': (V2_OF, '/', V2_MOUNTS, '/', v2(2 * GB, GB, cpu='100000 50000'), GB, 2),
    'a process outside of its namespace': (V2_OF, '/../..', V2_MOUNTS, '/', v2(2 * GB, GB), GB, math.inf),
    'a mount from outside of the namespace': (V2_OF, '/', V2_MOUNTS, '/../..', v2(2 * GB, GB), GB, math.inf),
    'a path of the host beside the mount': (V1_OF, '/docker/c0', V1_MOUNTS, '/other', v1(2 * GB, GB), GB, math.inf),
    'hybrid: version 2 has no controllers': (
        V1_OF + '0::/user', '/a', V1_MOUNTS + V2_MOUNTS.replace('/sys/fs/cgroup', '/sys/fs/cgroup/unified'), '/',
        {**v1(2 * GB, GB, quota=100000, at='/a'), 'sys/fs/cgroup/unified/user/cgroup.procs': '1'}, GB, 1),
    'hybrid: version 2 has the memory': (
        '3:cpu,cpuacct:{path}\n0::{path}', '/a', V1_MOUNTS.replace('memory', 'freezer') + V2_MOUNTS, '/',
        {**v2(2 * GB, GB, at='/a'), **v1(quota=100000, at='/a')}, GB, 1),
    'more is used than the limit': (V2_OF, '/a', V2_MOUNTS, '/', v2(GB, 2 * GB, at='/a'), 0, math.inf),
    'what cannot be read sets no limit': (
        V2_OF, '/a', V2_MOUNTS, '/', {'sys/fs/cgroup/a/memory.max': 'much\n', 'sys/fs/cgroup/a/cpu.max': '\n'}, FREE, math.inf),
    'a blank in a mount point': (
        V2_OF, '/a', '30 22 0:28 / /my\\040groups rw - cgroup2 cgroup2 rw\n', '/',
        {'my groups/a/memory.max': '5000', 'my groups/a/memory.current': '1000'}, 4000, math.inf),
}


@pytest.fixture
def tree(tmp_path):
  """Writes files of a made-up system. Returns its root."""
  def write(files):
    for name, text in files.items():
      (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
      (tmp_path / name).write_text(text)
    return tmp_path
  return write


@pytest.mark.parametrize('case', CASES)
def test_quotas_of_control_groups(tree, case):
  groups, path, mounts, top, files, free, cores = CASES[case]
  root = tree({'proc/meminfo': MEMINFO, 'proc/self/cgroup': groups.format(path=path),
               'proc/self/mountinfo': mounts.format(top=top), **files})
  assert quotas.free_memory(root) == free
  assert quotas.cores(root) == cores


def test_the_machine_may_have_less_than_the_group(tree):
  root = tree({'proc/meminfo': 'MemAvailable: 1000 kB\n', 'proc/self/cgroup': '0::/a',
               'proc/self/mountinfo': V2_MOUNTS.format(top='/'), **v2(3 * GB, GB, at='/a')})
  assert quotas.free_memory(root) == 1024 * 1000


def test_where_nothing_tells_nothing_limits(tree):
  assert quotas.free_memory(tree({})) == math.inf and quotas.cores(tree({})) == math.inf


def test_kills_for_memory_are_counted_from_the_machine_s_start(tree):
  assert quotas.kills_for_memory(tree({})) == ''
  assert quotas.kills_for_memory(tree({'proc/vmstat': 'pgfault 12\noom_kill 5\n'})) == ''  # Since when?
  assert quotas.kills_for_memory(tree({'proc/sys/kernel/random/boot_id': 'e366-cb12\n'})) == 'e366-cb12 5'
  assert quotas.kills_for_memory(tree({'proc/vmstat': 'pgfault 12\n'})) == ''  # An old kernel.


@pytest.mark.parametrize(('name', 'pages'), [('Max address space', 1000), ('Max data size', 100)])
def test_rlimits(tree, name, pages):
  page = os.sysconf('SC_PAGE_SIZE')
  limits = ''.join(f'{limit:25} {soft:<20} unlimited            {units:10}\n' for limit, soft, units in (
      ('Limit', 'Soft Limit', 'Units'), ('Max stack size', 'unlimited', 'bytes'), (name, GB, 'bytes')))
  root = tree({'proc/self/statm': '1000 500 50 20 0 100 0\n', 'proc/self/limits': limits})
  assert quotas.free_memory(root) == GB - pages * page


@pytest.mark.parametrize(('quota', 'cores'), [(math.inf, 8), (3.0, 3), (2.5, 3), (0.5, 1), (16.0, 8)])
def test_usable_cores(monkeypatch, quota, cores):
  monkeypatch.setattr(os, 'sched_getaffinity', lambda _: set(range(8)), raising=False)
  monkeypatch.setattr(quotas, 'cores', lambda: quota)
  assert machine.usable_cores() == cores


def test_this_process():
  assert quotas.free_memory() > 0 and quotas.cores() > 0

"""A small container: a control group of its own with a limit on memory, of whichever version the machine has."""
import contextlib
import os
import pathlib
import time

import pytest

from enas_jax import quotas


@contextlib.contextmanager
def container(memory):
  """Yields what stands before a command, so that it has so many bytes.

  The test is skipped, with the reason, where no such group can be made.
  """
  groups = list(quotas._groups(quotas.ROOT, 'memory'))
  version, parent = groups[0] if groups else (0, pathlib.Path())
  if not version or not (parent / ('memory.max' if version == 2 else 'memory.limit_in_bytes')).exists():
    pytest.skip('no control group of memory in sight')
  group = parent / f'enas_jax_test_{os.getpid()}'
  try:
    if version == 2 and 'memory' not in (parent / 'cgroup.subtree_control').read_text().split():
      (parent / 'cgroup.subtree_control').write_text('+memory')  # Refused where the group has processes of its own.
    group.mkdir()
  except OSError as error:
    pytest.skip(f'a control group in {parent} cannot be made: {error.strerror}')
  try:
    limit, swap = ('memory.max', 'memory.swap.max') if version == 2 else (
        'memory.limit_in_bytes', 'memory.memsw.limit_in_bytes')
    (group / limit).write_text(str(memory))
    if (group / swap).exists():
      (group / swap).write_text('0' if version == 2 else str(memory))
    yield ['sh', '-c', f'echo $$ > {group}/cgroup.procs && exec "$@"', 'sh']
  finally:
    for _ in range(100):  # The kernel lets go of the last process a little later.
      with contextlib.suppress(OSError):
        group.rmdir()
        break
      time.sleep(0.1)

"""What the kernel lets this process have of its machine: quotas of control groups (cgroup v1 and v2) and of rlimits.

All is read under a root folder, so that tests can bring a /proc and a /sys of their own. What is not there sets no limit.
"""
from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

ROOT = Path('/')
_UNLIMITED = 2**62  # Version 1 writes 'no limit' as the largest multiple of a page below 2**63.


def free_memory(root: Path = ROOT) -> float:
  """Returns the bytes that this process may still take before the kernel refuses or kills it; inf where nothing tells.

  It is the least of what the machine has free, what each control group above the process has left, file cache that can be
  dropped included, and what its rlimits leave. Swap does not count.
  """
  available = _fields(root / 'proc/meminfo').get('MemAvailable')  # Kernels before 3.14 do not tell.
  return max(0.0, min([math.inf if available is None else available * 1024, *_left_in_groups(root), *_left_in_rlimits(root)]))


def cores(root: Path = ROOT) -> float:
  """Returns how many cores' time the control groups above this process give it, such as 1.5; inf for no limit."""
  return min(_shares_of_time(root), default=math.inf)


def kills_for_memory(root: Path = ROOT) -> str:
  """Returns a text that stays as it is while the kernel kills nobody on this machine for want of memory, whoever's the process.

  It names the machine's start and counts. Empty where nothing tells, as before Linux 4.13.
  """
  start, count = _text(root / 'proc/sys/kernel/random/boot_id').strip(), _fields(root / 'proc/vmstat').get('oom_kill')
  return f'{start} {count}' if start and count is not None else ''


def _left_in_groups(root: Path) -> Iterator[float]:
  for version, group in _groups(root, 'memory'):
    stat = _fields(group / 'memory.stat')
    if version == 2:
      limits = [_number(group / name) for name in ('memory.max', 'memory.high')]  # Above `high` a process hardly runs.
      used, cache = _number(group / 'memory.current'), stat.get('inactive_file', 0)
    else:
      # The second is the least of all groups above, those included that a container does not see.
      limits = [_number(group / 'memory.limit_in_bytes'), stat.get('hierarchical_memory_limit')]
      used, cache = _number(group / 'memory.usage_in_bytes'), stat.get('total_inactive_file', 0)
    least = min((limit for limit in limits if limit is not None and limit < _UNLIMITED), default=None)
    if least is not None and used is not None:
      yield least - used + cache


def _left_in_rlimits(root: Path) -> Iterator[float]:
  sizes = _text(root / 'proc/self/statm').split()  # In pages: all, resident, shared, code, 0, data with stack.
  limits = _text(root / 'proc/self/limits')
  for name, place in (('Max address space', 0), ('Max data size', 5)):
    soft = re.search(rf'^{name}\s+(\d+)\s', limits, re.MULTILINE)
    if soft and len(sizes) > place:
      yield int(soft[1]) - int(sizes[place]) * os.sysconf('SC_PAGE_SIZE')


def _shares_of_time(root: Path) -> Iterator[float]:
  for version, group in _groups(root, 'cpu'):
    if version == 2:
      words = _text(group / 'cpu.max').split()  # 'max 100000' or '150000 100000'.
    else:
      words = [_text(group / f'cpu.cfs_{name}_us').strip() for name in ('quota', 'period')]
    if len(words) == 2 and words[0].isdecimal() and words[1].isdecimal() and int(words[1]):  # Not 'max', not -1.
      yield int(words[0]) / int(words[1])


def _groups(root: Path, controller: str) -> Iterator[tuple[int, Path]]:
  """Yields the version and folder of each control group that holds this process, from its own up to the highest in sight."""
  for version, path in _memberships(root, controller):
    for top, point in _mounts(root, version, controller):
      # In a namespace the path can lie beside what is mounted, or above it ('/../..'): then the mount is all that is in sight.
      inside = path.relative_to(top) if path.is_relative_to(top) and '..' not in path.parts else PurePosixPath()
      for part in (inside, *inside.parents) if inside.parts else (inside,):
        yield version, root / str(point).lstrip('/') / part


def _memberships(root: Path, controller: str) -> Iterator[tuple[int, PurePosixPath]]:
  for line in _text(root / 'proc/self/cgroup').splitlines():  # 'ID:CONTROLLERS:PATH'; version 2 is '0::PATH'.
    number, _, rest = line.partition(':')
    controllers, _, path = rest.partition(':')
    if number == '0' and not controllers:
      yield 2, PurePosixPath(path)
    elif controller in controllers.split(','):
      yield 1, PurePosixPath(path)


def _mounts(root: Path, version: int, controller: str) -> Iterator[tuple[PurePosixPath, PurePosixPath]]:
  """Yields the part of the hierarchy that is mounted, and where, for each mount of it."""
  for line in _text(root / 'proc/self/mountinfo').splitlines():
    mount, _, system = line.partition(' - ')  # See proc(5).
    fields, kind = mount.split(' '), system.split(' ')
    if len(fields) < 5 or len(kind) < 3:
      continue
    if (kind[0] == 'cgroup2' if version == 2 else kind[0] == 'cgroup' and controller in kind[2].split(',')):
      top, point = (re.sub(r'\\([0-7]{3})', lambda code: chr(int(code[1], 8)), text) for text in fields[3:5])
      yield PurePosixPath(top), PurePosixPath(point)


def _fields(file: Path) -> dict[str, int]:
  """Returns the numbers of lines such as 'NAME 12' and 'NAME: 12 kB'."""
  return {match[1]: int(match[2]) for match in re.finditer(r'^(\w+):? +(\d+)', _text(file), re.MULTILINE)}


def _number(file: Path) -> int | None:
  text = _text(file).strip()
  return int(text) if text.isdecimal() else None  # Not 'max'.


def _text(file: Path) -> str:
  """Returns a file's text; empty where it cannot be read, as on other systems, in other versions, or for want of rights."""
  try:
    return file.read_text(errors='replace')
  except OSError:
    return ''

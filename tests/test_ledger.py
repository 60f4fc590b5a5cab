import dataclasses
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from enas_jax import workdir
from enas_jax.errors import UserError
from enas_jax.ledger import Ledger
from enas_jax.spaces.chain import ChainArchitecture, ChainSpace
from enas_jax.types import Evaluation, Request, Schedule

WRITER = '''
import sys
from enas_jax.ledger import Ledger
from enas_jax.spaces.chain import ChainArchitecture, ChainSpace
from enas_jax.types import Evaluation, Request, Schedule
ledger = Ledger(sys.argv[1], ChainSpace().from_json)
print('ready', flush=True)
for i in range(len(ledger), 10**6):
  request = Request(ChainArchitecture.uniform(3, 8), Schedule(epochs=1), replicate=i)
  ledger.add(request, Evaluation(metrics={'accuracy': 0.5}))
  print(i, flush=True)
'''


def request(replicate=0):
  return Request(ChainArchitecture(8, (0, 1, 0), (3, 5, 3)), Schedule(epochs=2), replicate, phase='micro')


def evaluation(accuracy=0.1):
  return Evaluation(metrics={'accuracy': accuracy, 'params': 123}, curve=(0.05, accuracy), train_macs=1e9, seconds=0.3)


@pytest.fixture
def path(tmp_path):
  return tmp_path / 'ledger.jsonl'


def reopen(path):
  return Ledger(path, ChainSpace().from_json)


def filled(path, count=3):
  ledger = reopen(path)
  for i in range(count):
    ledger.add(request(i), evaluation(i / 7))
  return ledger


def test_a_stop_is_read_back_and_without_one_keys_are_as_ever(path):
  """The key is that of version 0.1, before there were stops, and the record has no field for them."""
  stopped = [dataclasses.replace(request(), schedule=Schedule(epochs=2, stop_epoch=n)) for n in (1, 2)]
  ledger = filled(path, 1)
  for each in stopped:
    ledger.add(each, evaluation())
  records = [json.loads(line)['request']['schedule'] for line in path.read_text().splitlines()]
  assert request().key == 'bcaaf91c3f6d186a' and 'stop_epoch' not in records[0]
  assert [record['stop_epoch'] for record in records[1:]] == [1, 2]
  assert [r for r, _ in reopen(path)] == [request(), *stopped]
  assert len({request().key, *(r.key for r in stopped)}) == 3


@pytest.mark.parametrize('stop', [0, 3, 'x', [1]])
def test_a_damaged_stop_names_its_line(path, stop):
  filled(path)
  lines = path.read_text().splitlines()
  record = json.loads(lines[1])
  record['request']['schedule']['stop_epoch'] = stop
  path.write_text('\n'.join([lines[0], json.dumps(record), lines[2]]) + '\n')
  with pytest.raises(UserError, match=r'ledger.jsonl, line 2: .*delete the line'):
    reopen(path)


def test_reads_back_what_it_wrote(path):
  failed = Evaluation(reason='out of memory')
  filled(path).add(request(3), failed)
  ledger = reopen(path)
  assert list(ledger) == [*((request(i), evaluation(i / 7)) for i in range(3)), (request(3), failed)]
  assert [r.phase for r, _ in ledger] == ['micro'] * 4
  assert len(ledger) == 4 and not ledger.notice
  assert ledger.get(request(9)) is None and ledger.get(request(2)) == evaluation(2 / 7)


def test_absent_file_is_an_empty_ledger_and_not_made(path):
  assert len(reopen(path)) == 0
  assert not path.exists()


@pytest.mark.parametrize('torn', [b'{"key": "12', b'{"key": "12\n', b'\0\0\0', b'\xff\xfe\n', b'[NaN]\n'])
def test_torn_last_line_is_left_out_then_cut_off(path, torn):
  filled(path)
  sound = path.read_bytes()
  path.write_bytes(sound + torn)
  ledger = reopen(path)
  assert len(ledger) == 3
  assert f'{len(torn)} bytes' in ledger.notice and str(path) in ledger.notice
  assert path.read_bytes() == sound + torn  # A report on a running search must not write.
  ledger.add(request(3), evaluation())
  assert path.read_bytes().startswith(sound + b'{"key":')
  assert len(reopen(path)) == 4 and not reopen(path).notice


def test_every_cut_of_the_last_line_keeps_the_others(path):
  filled(path)
  data = path.read_bytes()
  for size in range(data.rindex(b'\n', 0, -1) + 1, len(data)):
    path.write_bytes(data[:size])
    assert len(reopen(path)) == 2


def damaged(record, what):
  if what == 'field':
    record['evaluation']['colour'] = 1
  elif what == 'metric':
    del record['evaluation']['curve']
  elif what == 'key':
    record['key'] = '0' * 16
  elif what == 'architecture':
    record['request']['architecture']['kernels'] = '999'
  else:
    return what
  return record


@pytest.mark.parametrize('what', ['field', 'metric', 'key', 'architecture', 3, [], {}, None])
@pytest.mark.parametrize('number', [2, 3])
def test_damaged_line_names_file_and_line(path, what, number):
  filled(path)
  lines = path.read_text().splitlines()
  lines[number - 1] = json.dumps(damaged(json.loads(lines[number - 1]), what))
  path.write_text('\n'.join(lines) + '\n')
  with pytest.raises(UserError, match=rf'ledger.jsonl, line {number}: .*delete the line') as error:
    reopen(path)
  assert '\n' not in str(error.value)


def test_cut_line_in_the_middle_is_damage(path):
  filled(path)
  lines = path.read_text().splitlines(keepends=True)
  path.write_text(lines[0] + lines[1][:20] + '\n' + lines[2])
  with pytest.raises(UserError, match='line 2'):
    reopen(path)


def test_refuses_numbers_that_are_not_finite(path):
  ledger = filled(path)
  for bad in (float('nan'), float('inf')):
    with pytest.raises(ValueError, match='not finite'):
      ledger.add(request(5), evaluation(bad))
  assert len(ledger) == len(reopen(path)) == 3


def test_refuses_a_second_entry(path):
  with pytest.raises(ValueError, match='already'):
    filled(path).add(request(1), evaluation())


def test_refuses_to_write_over_another_writer(path):
  first, second = reopen(path), reopen(path)
  first.add(request(0), evaluation())
  with pytest.raises(UserError, match='another program'):
    second.add(request(1), evaluation())
  assert len(reopen(path)) == 1


@pytest.mark.parametrize('kind', ['short', 'ENOSPC', 'EDQUOT', 'fsync'])
def test_full_disk_keeps_the_file_sound(path, monkeypatch, kind):
  ledger = filled(path)
  sound, write = path.read_bytes(), os.write

  def fail(file, data=b''):
    if kind != 'fsync':
      write(file, data[:20])
    if kind == 'short':
      return 20
    raise OSError(errno.EDQUOT if kind == 'EDQUOT' else errno.ENOSPC, 'No space left on device')

  with monkeypatch.context() as patch:
    patch.setattr(os, 'fsync' if kind == 'fsync' else 'write', fail)
    with pytest.raises(UserError, match=r'is full .*; nothing finished is lost; free space and run the same command'):
      ledger.add(request(3), evaluation())
  assert path.read_bytes() == sound and len(ledger) == 3
  ledger.add(request(3), evaluation())
  assert len(reopen(path)) == 4


def test_really_full_disk(tmp_path):
  """A file system of 64 KiB; only root may mount one."""
  mount = ['mount', '-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', tmp_path]
  if not shutil.which('mount') or subprocess.run(mount, capture_output=True).returncode:
    pytest.skip('may not mount a tmpfs')
  try:
    ledger = reopen(tmp_path / 'ledger.jsonl')
    with pytest.raises(UserError, match='is full'):
      for i in range(1000):
        ledger.add(request(i), evaluation())
    assert len(ledger) > 50
    again = reopen(tmp_path / 'ledger.jsonl')
    assert list(again) == list(ledger) and not again.notice
  finally:
    subprocess.run(['umount', tmp_path], check=True)


def test_unreadable_file(path):
  path.mkdir()
  with pytest.raises(UserError, match='Is a directory'):
    reopen(path)


def test_kill_loses_nothing_that_add_returned_for(path):
  for _ in range(2):
    process = subprocess.Popen([sys.executable, '-c', WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == 'ready\n'
    time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    done = [int(line) for line in process.communicate()[0].splitlines(keepends=True) if line.endswith('\n')]
    assert done
    ledger = reopen(path)
    assert done[-1] + 1 <= len(ledger) <= done[-1] + 2
    assert [r.replicate for r, _ in ledger] == list(range(len(ledger)))


def test_other_errors_of_the_disk_are_one_line(tmp_path):
  with pytest.raises(UserError, match='not readable and writable'), workdir.disk_errors(tmp_path):
    raise OSError(errno.EIO, 'Input/output error')

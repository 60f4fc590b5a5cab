import io
import os
import pty
import subprocess
import sys

import pytest
from rich.console import Console

from enas_jax import progress as module
from enas_jax.progress import Progress, TimeLeft
from enas_jax.spaces.chain import ChainArchitecture
from enas_jax.types import Evaluation, Request, Schedule

FAILED = Evaluation(reason='out of memory: needs 3 GB')
CRASH = '''
from enas_jax.progress import Progress
with Progress() as progress:
  progress.start()
  progress.phase('search')
  raise SystemExit(3)
'''


def request(depth=4):
  return Request(ChainArchitecture.uniform(depth, 8), Schedule(epochs=1), phase='depth walk')


def good(accuracy=0.5, seconds=12.0):
  return Evaluation(metrics={'accuracy': accuracy}, seconds=seconds)


@pytest.fixture
def clock(monkeypatch):
  now = [0.0]
  monkeypatch.setattr(module.time, 'monotonic', lambda: now[0])
  return now


def show(**kwargs):
  return Progress(Console(file=io.StringIO(), width=60, **kwargs))


def text(progress):
  return progress._console.file.getvalue()


def test_plain_output_is_one_line_an_event(clock):
  with show() as progress:
    progress.start()
    progress.phase('search')
    progress.describe('depth walk, best 50 %')
    clock[0] = 30
    progress.candidate(request(3), FAILED)
    progress.left(200)
    clock[0] = 60
    progress.candidate(request(), good(0.8412))
    progress.candidate(request(5), good(0.2))
    progress.note('a note [bold]')
    progress.phase('final training')
    progress.left(None)
    progress.training(1, 10, 0.9123, 0.25)
  chain = 'depth walk: depth {0}, width 8, operations {1}, kernels {2}, 1 epoch: '
  assert text(progress).splitlines() == [
      'search',
      '1. ' + chain.format(3, '000', '333') + 'failed: out of memory: needs 3 GB (0.0 s); none succeeded yet; elapsed 30 s',
      '2. ' + chain.format(4, '0000', '3333') + 'accuracy 84.12 % (12 s); best 84.12 %; elapsed 60 s, about 3 min left',
      '3. ' + chain.format(5, '00000', '33333') + 'accuracy 20.00 % (12 s); best 84.12 %; elapsed 60 s, about 3 min left',
      'a note [bold]',
      'final training',
      'epoch 1 of 10: accuracy 91.23 %, loss 0.2500; elapsed 60 s',
  ]


def test_a_stopped_training_says_so(clock):
  stopped = Request(ChainArchitecture.uniform(3, 8), Schedule(epochs=9, stop_epoch=1), replicate=2, phase='rung 1')
  with show() as progress:
    progress.start()
    progress.candidate(stopped, good())
  assert 'kernels 333, 1 of 9 epochs, replicate 2: accuracy 50.00 %' in text(progress)


def test_resumed(clock):
  with show() as progress:
    progress.start([(request(), good(0.7)), (request(5), FAILED)])
    progress.candidate(request(6), good(0.6))
  lines = text(progress).splitlines()
  assert lines[0] == '2 candidates done (1 failed, 2 reused from the ledger); best 70.00 %'
  assert lines[1].startswith('3. ') and 'best 70.00 %' in lines[1]


def test_dumb_terminal_is_plain(monkeypatch):
  monkeypatch.setenv('TERM', 'dumb')
  with show(force_terminal=True) as progress:
    progress.start()
    progress.note('hello')
  assert text(progress) == 'hello\n'


def test_terminal_shows_at_most_six_lines(clock):
  with show(force_terminal=True) as progress:
    progress.start([(request(), good(0.7))])
    progress.phase('final training')
    progress.describe('depth walk, ' + 60 * 'x')
    progress.candidate(request(40), FAILED)
    progress.left(7000)
    progress.training(2, 10, 0.9, 0.1)
    progress.note('a note')
  shown = text(progress)
  assert shown.count('\x1b[?25l') == shown.count('\x1b[?25h') == 1  # The cursor, hidden and back.
  assert 'a note' in shown
  last = shown[shown.rindex('final training'):].removesuffix('\x1b[?25h').splitlines()
  assert last == [
      'final training',
      'depth walk, ' + 47 * 'x' + '…',
      'best 70.00 %: depth 4, width 8, operations 0000, kernels 33…',
      '2 candidates done (1 failed, 1 reused from the ledger)',
      'epoch 2 of 10: accuracy 90.00 %, loss 0.1000',
      'elapsed 0.0 s, about 1 h 57 min left',
  ]


def test_terminal_is_left_sane_on_the_way_out():
  ours, theirs = pty.openpty()
  env = {**os.environ, 'TERM': 'xterm'}
  process = subprocess.run([sys.executable, '-c', CRASH], stdout=theirs, stderr=theirs, env=env)
  os.close(theirs)
  shown = os.read(ours, 65536).decode()
  os.close(ours)
  assert process.returncode == 3
  assert 'search' in shown and shown.rindex('\x1b[?25h') > shown.rindex('\x1b[?25l')


def test_no_colour_codes_where_they_are_unwanted(monkeypatch):
  monkeypatch.setenv('NO_COLOR', '1')
  with show(force_terminal=True) as progress:
    progress.start()
    progress.phase('search 12')
  assert '\x1b[1' not in text(progress).replace('\x1b[1A', '')


def test_time_runs_out_silently(clock):
  with show() as progress:
    progress.left(5)
    clock[0] = 6
    progress.training(1, 2, 0.5, 1.0)
  assert 'left' not in text(progress)


@pytest.mark.parametrize(('seconds', 'expected'), [
    (0.04, '0.0 s'), (9.94, '9.9 s'), (59.6, '60 s'), (89.4, '89 s'), (90, '2 min'), (5369, '89 min'), (5400, '1 h 30 min'),
    (90000, '25 h 00 min')])
def test_durations(seconds, expected):
  assert module._duration(seconds) == expected


def test_time_left_is_unknown_at_first():
  assert TimeLeft().predict([1.0]) is None


def test_time_left_is_exact_at_a_steady_rate():
  left = TimeLeft()
  for macs in (1e9, 5e9, 2e9):
    left.add(macs, seconds=macs / 1e8 + 3, compile_seconds=3)
  assert left.predict([4e9, 1e9]) == pytest.approx(50 + 6)
  assert left.predict([]) == 0


def test_time_left_follows_a_changed_rate():
  left = TimeLeft()
  for rate in [1e8] * 20 + [2e8] * 30:
    left.add(1e9, seconds=1e9 / rate, compile_seconds=0)
  assert left.predict([1e9]) == pytest.approx(5, rel=0.06)


def test_time_left_without_training_goes_by_candidate():
  left = TimeLeft()
  left.add(0, seconds=2, compile_seconds=0)
  left.add(0, seconds=2, compile_seconds=0)
  assert left.predict([0, 0, 0]) == pytest.approx(6)


def test_time_left_expects_no_more_compiling_than_there_was():
  left = TimeLeft()
  left.add(1e9, seconds=20, compile_seconds=10)
  assert left.predict([1e9] * 30) == pytest.approx(300 + 10)


def test_time_left_goes_by_the_pace_of_the_process():
  """Batches of two that tell of ten seconds, while fifteen pass."""
  now = [100.0]
  left = TimeLeft(lambda: now[0])
  for _ in range(3):
    now[0] += 15
    left.add(1e9, seconds=5, compile_seconds=0)
    assert left.predict([1e9] * 4) == pytest.approx(20 if now[0] == 115 else 30)  # Within a batch the pace is the last one's.
    left.add(1e9, seconds=5, compile_seconds=0)
    left.told()
    assert left.predict([1e9] * 4) == pytest.approx(30)

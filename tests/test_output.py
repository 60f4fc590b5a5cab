"""What is shown may be lost at any moment; what it tells of goes on."""
import contextlib
import io
import os
import subprocess
import sys

import pytest
from rich.console import Console
from support.run_records import read, same_run

from enas_jax import cli, output
from enas_jax.compare import __main__ as comparing
from enas_jax.compare.benchmark import run
from enas_jax.output import Output
from enas_jax.progress import Progress
from enas_jax.spaces.chain import ChainArchitecture
from enas_jax.types import Evaluation, Request, Schedule

pytest_plugins = ['support.search_fixtures']

REQUEST = Request(ChainArchitecture.uniform(4, 8), Schedule(epochs=1), phase='depth walk')
LOST = 'the output is lost ({}); the run goes on without it\n'
SCRIPT = '''
import sys
from enas_jax import cli
from enas_jax.progress import Progress

def main(flags):
  """Shows much."""
  with Progress() as progress:
    progress.start()
    for number in range(3000):
      progress.note(f'line {number} \\u2026')
    print('printed')
  print('to the end', file=sys.stderr)

cli.run(main)
'''


def pipe_without_reader():
  reader, writer = os.pipe()
  os.close(reader)
  return open(writer, 'w')


def full_disk():
  return open('/dev/full', 'w')


def closed():
  stream = io.StringIO()
  stream.close()
  return stream


BROKEN = {'Broken pipe': pipe_without_reader, 'No space left on device': full_disk, 'it is closed': closed}


def abandon(stream):
  """Closes a stream whose buffer cannot be written."""
  with contextlib.suppress(OSError):
    stream.close()


@pytest.mark.parametrize('reason', BROKEN)
def test_a_lost_stream_is_told_of_once(reason):
  stream, reasons = BROKEN[reason](), []
  out = Output(stream, lambda error: reasons.append(error.strerror))
  for _ in range(3):
    assert out.write('text') == 4
    out.flush()
  assert not out.isatty() and reasons == [out.lost.strerror] == [reason]
  abandon(stream)


def test_a_sound_stream_gets_all():
  stream = io.StringIO()
  out = Output(stream)
  print('a', 'b', file=out, flush=True)
  assert stream.getvalue() == 'a b\n' and out.lost is None and out.getvalue() == 'a b\n'


@pytest.mark.parametrize('encoding', ['ascii', 'latin-1', 'utf-8', 'cp037'])
def test_what_an_encoding_lacks_is_escaped(encoding):
  stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
  out = Output(stream)
  out.write('ü … \udcff\n')
  out.flush()
  shown = stream.buffer.getvalue().decode(encoding)
  expected = {'ascii': '\\xfc \\u2026', 'latin-1': 'ü \\u2026', 'cp037': 'ü \\u2026', 'utf-8': 'ü …'}[encoding]
  assert shown == f'{expected} \\udcff\n' and out.lost is None


def test_no_stream_at_all():
  out = Output(None)
  assert out.write('text') == 4 and not out.isatty() and out.lost is None
  out.flush()
  out.end()


def test_the_standard_streams_come_back(capsys):
  before = sys.stdout, sys.stderr
  with pytest.raises(KeyError), output.lasting() as out:
    assert sys.stdout is out
    print('shown')
    print('told', file=sys.stderr)
    raise KeyError
  assert (sys.stdout, sys.stderr) == before and capsys.readouterr() == ('shown\n', 'told\n')


@pytest.mark.parametrize('reason', BROKEN)
@pytest.mark.parametrize('terminal', [False, True])
def test_no_event_fails_of_being_shown(reason, terminal, capsys):
  stream = BROKEN[reason]()
  with Progress(Console(file=stream, force_terminal=terminal, width=60)) as progress:
    progress.start([(REQUEST, Evaluation(metrics={'accuracy': 0.5}))])
    progress.phase('search')
    progress.describe('depth walk')
    progress.candidate(REQUEST, Evaluation(reason='out of memory'))
    progress.left(9)
    progress.training(1, 2, 0.5, 1.0)
    progress.note('a note')
  assert capsys.readouterr() == ('', LOST.format(reason))
  abandon(stream)


@pytest.fixture
def unseen(monkeypatch, capsys):
  """Runs in this process a command whose standard output is broken. Returns its exit code and the standard error."""
  def run(reason, command, *arguments):
    stream = BROKEN[reason]()
    with monkeypatch.context() as patch:
      patch.setattr(sys, 'stdout', stream)
      code = command(*arguments)
    abandon(stream)
    out, err = capsys.readouterr()
    assert not out
    return code, err
  return run


@pytest.fixture(scope='module')
def tiny(runner, tmp_path_factory):
  """Settings of a search of two candidates, and the folder of one that was seen."""
  settings = {'strategy': 'random', 'budget.evaluations': 2, 'random.batch': 1, 'epochs.final': 1}
  seen = tmp_path_factory.mktemp('seen') / 'w'
  assert runner.here('search', seen, **settings) == 0
  return settings, seen


@pytest.mark.parametrize('reason', BROKEN)
def test_a_search_that_nobody_sees_is_the_same_search(runner, unseen, tiny, reason, tmp_path):
  settings, seen = tiny
  found = unseen(reason, lambda: runner.here('search', tmp_path / 'w', **settings))
  assert found == (0, LOST.format(reason))
  same_run(tmp_path / 'w', seen)


def test_a_training_that_nobody_sees(runner, unseen, tiny, tmp_path):
  settings, seen = tiny
  found = unseen('Broken pipe', lambda: runner.here(
      'train', tmp_path / 'w', f'--architecture={seen}/architecture.json', **settings))
  assert found == (0, LOST.format('Broken pipe'))
  assert read(tmp_path / 'w', 'result.json')['test_accuracy'] == read(seen, 'result.json')['test_accuracy']


def in_process(main, *arguments, **kwargs):
  with pytest.raises(SystemExit) as ended:
    cli.run(main, argv=['command', *arguments], **kwargs)
  return ended.value.code or 0


def test_a_comparison_that_nobody_sees(unseen, tmp_path, monkeypatch):
  def run_here(jobs, what, config, **_):
    for name, seed in jobs:
      yield (name, seed), run(name, what, config, seed)

  monkeypatch.setattr(comparing, 'run_all', run_here)
  code, err = unseen('Broken pipe', lambda: in_process(
      comparing.main, f'--workdir={tmp_path}/w', '--space=nasbench_macro', '--queries=20', '--trials=1',
      '--strategies=random', define_flags=comparing._define_flags, trains=False))
  assert (code, err) == (0, LOST.format('Broken pipe')) and (tmp_path / 'w' / 'table.md').exists()


@pytest.mark.parametrize(('reason', 'code', 'err'), [
    ('Broken pipe', 0, ''),  # As `head` leaves it, which has read what it wanted.
    ('No space left on device', 2, 'error: the output cannot be written (No space left on device); give the output another '
                                   'place\n')])
def test_help_is_for_its_reader(unseen, reason, code, err):
  def main(flags):
    """Does something."""
  assert unseen(reason, lambda: in_process(main, '--help')) == (code, err)


@pytest.mark.once
@pytest.mark.slow
@pytest.mark.parametrize(('redirection', 'out', 'err'), [
    ('| head -1', 'line 0 …\n', LOST.format('Broken pipe') + 'to the end\n'),
    ('> /dev/full', '', LOST.format('No space left on device') + 'to the end\n'),
    ('>&- 2>&-', '', ''),
], ids=str)
def test_a_process_goes_on_to_its_end(redirection, out, err):
  """The interpreter has nothing to say either when it exits, and the code is that of the run."""
  shell = f'set -o pipefail; "$0" -c "$1" --workdir=w {redirection}'
  done = subprocess.run(['bash', '-c', shell, sys.executable, SCRIPT], capture_output=True, text=True, timeout=100)
  assert (done.returncode, done.stdout, done.stderr) == (0, out, err)


@pytest.mark.once
@pytest.mark.slow
def test_ascii_alone_can_be_shown():
  done = subprocess.run(
      [sys.executable, '-c', SCRIPT, '--workdir=w'], capture_output=True, text=True, timeout=100,
      env={**os.environ, 'PYTHONIOENCODING': 'ascii'})
  assert (done.returncode, done.stderr) == (0, 'to the end\n') and done.stdout.startswith('line 0 \\u2026\nline 1 ')

"""A command and the process that runs it again where it is killed. The commands are small scripts."""
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from enas_jax import supervise

SUPERVISOR = [sys.executable, '-P', supervise.__file__]
SCRIPT = '''
import os, pathlib, signal, sys, time
mark, death = pathlib.Path(sys.argv[1]), int(os.environ['ENAS_JAX_LAST_DEATH'])
print(os.getpid(), death, flush=True)
def train():
  mark.with_suffix('.new').write_text('x')
  os.replace(mark.with_suffix('.new'), mark)
def die(number=signal.SIGKILL):
  signal.signal(number, signal.SIG_DFL) if number != signal.SIGKILL else None
  os.kill(os.getpid(), number)
  time.sleep(9)
'''


@pytest.fixture(autouse=True)
def hangups_count():
  """Whether or not the tests run under nohup."""
  before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
  yield
  signal.signal(signal.SIGHUP, before)


@pytest.fixture
def start(tmp_path):
  """Starts a script of several lines under a supervisor, where a mark is."""
  (tmp_path / 'mark').touch()

  def run(text):
    file = tmp_path / 'script.py'
    file.write_text(SCRIPT + text)
    mark = str(tmp_path / 'mark')
    return subprocess.Popen([*SUPERVISOR, mark, sys.executable, '-S', str(file), mark], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)
  return run


def ended(process):
  """The exit code, the death that each child was told of, and what was written to stderr."""
  out, err = process.communicate(timeout=60)
  return process.returncode, [int(line.split()[1]) for line in out.splitlines()], err


def gone(pid):
  """Whether a process ends within seconds."""
  for _ in range(200):
    try:
      os.kill(pid, 0)
    except ProcessLookupError:
      return True
    stat = pathlib.Path(f'/proc/{pid}/stat')
    if stat.exists() and stat.read_text().rpartition(')')[2].split()[0] == 'Z':  # Nobody has collected it yet.
      return True
    time.sleep(0.02)
  return False


@pytest.mark.parametrize('code', [0, 1, 2, 143])
def test_the_exit_code_is_the_command_s(start, code):
  assert ended(start(f'sys.exit({code})')) == (code, [0], '')


def test_a_command_killed_while_it_trains_runs_again_and_is_told(start):
  text = '''
train()
if death == 0: die()
if death == signal.SIGKILL: die(signal.SIGSEGV)
if death == signal.SIGSEGV: os.abort()
'''
  assert ended(start(text)) == (0, [0, signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT], '')


@pytest.mark.parametrize('text', ['die()', 'mark.unlink(); die()', 'train() if death == 0 else None; die()'])
def test_a_command_killed_before_it_trains_does_not(start, text):
  code, deaths, err = ended(start(text))
  assert code == 137 and len(deaths) == 1 + text.startswith('train')
  assert err == ('error: killed by SIGKILL before anything was trained; give the process more memory, '
                 'and run the same command again\n')


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGUSR1])
def test_a_command_that_somebody_ended_does_not_either(start, number):
  assert ended(start(f'train(); die({int(number)})')) == (128 + number, [0], '')


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_signals_are_handed_on_once(start, number):
  process = start(f'''
seen = []
signal.signal({int(number)}, lambda *_: seen.append(1))
print('0 0', flush=True)
while not seen: time.sleep(0.01)
time.sleep(0.2)
sys.exit(100 + len(seen))
''')
  process.stdout.readline(), process.stdout.readline()
  process.send_signal(number)
  assert ended(process) == (101, [], '')


def test_a_signal_before_the_command_listens(start):
  process = start('time.sleep(60)')
  process.stdout.readline()
  process.terminate()
  assert ended(process) == (143, [], '')


@pytest.mark.skipif(sys.platform != 'linux', reason='a child outlives its parent on other systems')
def test_the_command_dies_with_its_parent(start):
  process = start('train()\ntime.sleep(60)')
  child = int(process.stdout.readline().split()[0])
  process.kill()
  assert process.wait(timeout=60) == -signal.SIGKILL
  assert gone(child)
  process.communicate()


def test_a_pause_is_one_of_both(start):
  process = start('''
print('0 0', flush=True)
end = time.monotonic() + 0.5
while time.monotonic() < end: time.sleep(0.01)
''')
  process.stdout.readline(), process.stdout.readline()
  process.send_signal(signal.SIGTSTP)
  assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1])
  time.sleep(0.8)
  process.send_signal(signal.SIGCONT)
  assert ended(process) == (0, [], '')


TAKEN_OVER = '''
import os, pathlib, sys
from enas_jax import supervise
supervise.take_over(pathlib.Path(sys.argv[1]))
print(os.getpid(), supervise.last_death(), supervise.last_death(), sys.argv, supervise.DEATH in os.environ)
'''


@pytest.mark.parametrize('there', [False, True])
def test_a_command_that_finds_a_mark_becomes_its_own_supervisor(tmp_path, there):
  if there:
    (tmp_path / 'mark').touch()
  command = [sys.executable, '-c', TAKEN_OVER, str(tmp_path / 'mark'), '--flag', 'a b']
  process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
  out, _ = process.communicate(timeout=60)
  assert process.returncode == 0
  pid, rest = out.split(maxsplit=1)
  assert (int(pid) != process.pid) == there
  assert rest == f"0 0 {['-c', *command[3:]]} False\n"


def test_the_supervisor_holds_little():
  text = pathlib.Path(supervise.__file__).read_text()
  assert 'enas_jax import' not in text and 'import jax' not in text


def test_under_nohup_hangups_stay_ignored(start, tmp_path):
  before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
  try:
    process = start('pathlib.Path(mark).with_suffix(".there").touch(); time.sleep(1.5)')
  finally:
    signal.signal(signal.SIGHUP, before)
  for _ in range(500):
    if (tmp_path / 'mark.there').exists():
      break
    time.sleep(0.02)
  process.send_signal(signal.SIGHUP)
  assert ended(process) == (0, [0], '')

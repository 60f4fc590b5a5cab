import os
import signal
import subprocess
import sys

import pytest
from absl import flags

from enas_jax import cli, fields
from enas_jax.errors import Stopped, UserError

SCRIPT = '''
import os, signal, sys, time
from enas_jax import cli
from enas_jax.errors import Stopped

def main(flags):
  """Waits."""
  with cli.stop_on_sigterm() as stop:
    print('ready', flush=True)
    for _ in range(1000):
      time.sleep(0.02)
      if stop.requested and 'stubborn' not in flags.workdir:
        raise Stopped

cli.run(main)
'''


def run(*arguments, main=lambda values: None, define_flags=None):
  """The exit code."""
  with pytest.raises(SystemExit) as ended:
    cli.run(main, define_flags=define_flags, argv=['enas', *arguments])
  return ended.value.code or 0


def settings(*arguments):
  """The flags that main gets."""
  seen = []
  assert run('--workdir=w', *arguments, main=seen.append) == 0
  return seen[0]


def refused(capsys, *arguments, **kwargs):
  """The one line on stderr."""
  assert run(*arguments, **kwargs) == 2
  out, err = capsys.readouterr()
  assert not out and err.startswith('error: ') and err.count('\n') == 1
  return err


@pytest.fixture
def config_file(tmp_path):
  def write(text):
    path = tmp_path / 'c.py'
    path.write_text(text)
    return f'--config={path}'
  return write


def test_defaults():
  values = settings()
  assert values.workdir == 'w' and values.data_dir is None
  assert values.config.to_dict() == cli.get_config().to_dict()


def test_overrides_keep_their_types():
  config = settings(
      '--config.seed=3', '--config.training.learning_rate=1', '--config.data.name=cifar10',
      '--config.egnas.width_control=false',
      "--config.evolution.objectives=('accuracy','params')", '--config.data.augmentation.crop_padding=2',
      '--config.data.augmentation.flip=false', '--config.budget.train_macs=1e15').config
  assert (config.seed, config.data.name, config.egnas.width_control) == (3, 'cifar10', False)
  assert config.evolution.objectives == ('accuracy', 'params')
  assert (config.data.augmentation.crop_padding, config.data.augmentation.flip) == (2, False)
  assert isinstance(config.training.learning_rate, float) and config.budget.train_macs == 1e15


def test_other_ways_to_write_overrides():
  config = settings(
      '--config.seed', '4', '--config.chain.kernels=3', '--config.chain.kernels=7', '--noconfig.data.augmentation.flip',
      '--config.evolution.objectives=accuracy').config
  assert config.seed == 4 and config.chain.kernels == (3, 7)
  assert config.data.augmentation.flip is False and config.evolution.objectives == ('accuracy',)


def test_config_file_then_overrides_in_any_order(config_file):
  file = config_file('from enas_jax import config\ndef get_config():\n  c = config.get_config()\n  c.seed = 7\n  return c\n')
  assert settings(file).config.seed == 7
  assert settings('--config.seed=8', *file.split('=')).config.seed == 8


def test_runs_do_not_share_settings():
  settings('--config.seed=3')
  assert settings().config.seed == 0


@pytest.mark.parametrize(('argument', 'expected'), [
    ('--wrkdir=x', 'unknown flag --wrkdir; did you mean --workdir?'),
    ('--frobnicate', 'unknown flag --frobnicate; see --help'),
    ('--workdir=', '--workdir= is empty'),
    ('extra', "argument 'extra' is not understood"),
    ('--config.seeed=1', 'unknown setting --config.seeed; did you mean --config.seed?'),
    ('--config.flip=true', 'did you mean --config.data.augmentation.flip?'),
    ('--config.seed.x=1', 'unknown setting --config.seed.x'),
    ('--config.a-b=1', 'unknown setting --config.a-b'),
    ('--config.=1', 'unknown setting --config.;'),
    ('--config.data=x', '--config.data is a group of settings'),
    ('--noconfig.seed', 'unknown flag --noconfig.seed; did you mean --config.seed?'),
    ('--config.seed=abc', '--config.seed=abc is not a whole number; leave it out for the default, 0'),
    ('--config.seed=1.5', '--config.seed=1.5 is not a whole number'),
    ('--config.seed', 'Missing value for flag --config.seed'),
    ('--config.training.momentum=x', 'is not a number; leave it out for the default, 0.9'),
    ('--config.egnas.width_control=maybe', 'is not true or false'),
    ('--config.data.augmentation.cutout=none', 'is not a whole number; leave it out for the default, None'),
    ('--config.evolution.objectives=(accuracy params)', 'is not a tuple'),
    ('--config.seed=1\n2\n', 'is not a whole number'),
    ('--config=/nowhere/c.py', '--config=/nowhere/c.py: no such file'),
    ('--config=/tmp', '--config=/tmp cannot be read (Is a directory)'),
    ('--config=', '--config= is empty'),
    ('--config', '--config= is empty'),
    ('--flagfile=/nowhere', 'Unable to open flagfile'),
])
def test_bad_arguments(capsys, argument, expected):
  assert expected in refused(capsys, '--workdir=w', argument)


def test_missing_workdir(capsys):
  assert '--workdir is missing: Folder of the run' in refused(capsys)


@pytest.mark.parametrize(('text', 'expected'), [
    ('x = 1\ny = 1 / 0\n', 'c.py, line 2: ZeroDivisionError: division by zero'),
    ('import nosuchmodule\n', "c.py, line 1: ModuleNotFoundError: No module named 'nosuchmodule'"),
    ('x = 1\ndef get_config(: pass\n', 'c.py, line 2: SyntaxError'),
    ('x = 1\n', 'get_config() that returns a ConfigDict is missing'),
    ('def get_config():\n  return {}\n', 'get_config() that returns a ConfigDict is missing'),
    ('def get_config():\n  return [][0]\n', 'c.py, line 2: IndexError'),
    ('def get_config():\n  open("/nowhere")\n', 'c.py, line 2: FileNotFoundError'),
    ('def get_config():\n  raise SystemExit(0)\n', 'c.py, line 2: SystemExit'),
    ('x = "\0"', 'null bytes'),
    ('from enas_jax.config import get_config as d\ndef get_config():\n  c = d()\n  c.seed = "a"\n', 'c.py, line 4: TypeError'),
    ('from enas_jax.config import get_config as d\ndef get_config():\n  c = d()\n  c.seeed = 1\n  return c\n',
     'unknown field seeed; did you mean seed?'),
    ('from ml_collections import ConfigDict\ndef get_config():\n  return ConfigDict({"seed": 1})\n', 'is missing; start from'),
])
def test_broken_config_file(capsys, config_file, text, expected):
  file = config_file(text)
  message = refused(capsys, '--workdir=w', file)
  assert expected in message and file in message


def test_own_flags_of_a_command(capsys):
  def define(values):
    flags.DEFINE_integer('top', None, 'How many.', required=True, flag_values=values)
  seen = []
  assert run('--workdir=w', '--top=3', main=lambda values: seen.append(values.top), define_flags=define) == 0
  assert seen == [3]
  assert '--top is missing: How many.' in refused(capsys, '--workdir=w', define_flags=define)
  assert 'flag --top=x' in refused(capsys, '--workdir=w', '--top=x', define_flags=define)


@pytest.mark.parametrize('flag', ['--help', '-h', '--helpfull'])
def test_help(capsys, flag):
  def main(values):
    """Does something.

    Example: enas --workdir=runs/1
    """
  assert run(flag, main=main) == 0
  out, err = capsys.readouterr()
  assert not err
  assert out.startswith('Does something.\n\nExample: enas --workdir=runs/1\n')
  for text in ('--workdir=', '--data_dir=', '--config=FILE.py', '--config.FIELD=VALUE'):
    assert text in out
  flags, _, defaults = out.partition('\n\nSettings and their defaults:\n')
  assert len(flags.splitlines()) < 30
  lines = defaults.splitlines()
  assert len(lines) == len(fields.flatten(cli.get_config().to_dict()))
  assert '  --config.seed=0' in lines and '  --config.data.augmentation.cutout (not set)' in lines


def test_exit_codes(capsys):
  def raising(error):
    def main(values):
      raise error
    return main
  assert run('--workdir=w', main=lambda values: 3) == 3
  assert refused(capsys, '--workdir=w', main=raising(UserError('two\nlines'))) == 'error: two lines\n'
  assert run('--workdir=w', main=raising(Stopped())) == 143
  assert capsys.readouterr().err == 'stopped after the current step; the same command resumes\n'
  assert run('--workdir=w', main=raising(KeyboardInterrupt())) == 130
  assert capsys.readouterr().err == 'interrupted; the same command resumes\n'
  with pytest.raises(ZeroDivisionError):  # A bug keeps its traceback.
    cli.run(raising(ZeroDivisionError()), argv=['enas', '--workdir=w'])


def test_stop_request_ends_with_its_block():
  before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
  with cli.stop_on_sigterm() as stop:
    assert not stop.requested
    os.kill(os.getpid(), signal.SIGTERM)
    assert stop.requested
  assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


@pytest.mark.parametrize(('workdir', 'numbers', 'code', 'message'), [
    ('w', [signal.SIGTERM], 143, 'stopped after the current step; the same command resumes'),
    ('w', [signal.SIGINT], 130, 'stopped after the current step; the same command resumes'),
    ('stubborn', [signal.SIGINT, signal.SIGINT], 130, 'interrupted; the same command resumes')])
def test_signals_of_a_process(workdir, numbers, code, message):
  process = subprocess.Popen(
      [sys.executable, '-c', SCRIPT, f'--workdir={workdir}'], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
  assert process.stdout.readline() == 'ready\n'
  process.send_signal(numbers[0])
  if len(numbers) > 1:
    assert process.stderr.readline() == 'stopping after the current step; Ctrl-C again stops at once\n'
    process.send_signal(numbers[1])
  _, err = process.communicate(timeout=20)
  assert process.returncode == code
  assert err.splitlines()[-1] == message and 'Traceback' not in err


def test_a_hangup_stops_as_sigterm_does_but_for_nohup():
  number = signal.SIGHUP
  before = signal.signal(number, signal.SIG_DFL)  # Under nohup hangups are ignored.
  try:
    with cli.stop_on_sigterm() as stop:
      os.kill(os.getpid(), number)
      assert stop.requested and stop.signum == number
    signal.signal(number, signal.SIG_IGN)
    with cli.stop_on_sigterm() as stop:
      os.kill(os.getpid(), number)
      assert not stop.requested
    assert signal.getsignal(number) == signal.SIG_IGN
  finally:
    signal.signal(number, before)

"""The command as its user sees it: the files it leaves, what it does again and what not, and bad input."""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import pytest

from enas_jax import cli, get_config
from enas_jax.compare import __main__ as command
from enas_jax.compare import benchmark
from enas_jax.compare.benchmark import Benchmark

WHAT = Benchmark(space='nasbench_macro', table=None, dataset='cifar10', score='test', queries=20)
FLAGS = ('--space=nasbench_macro', '--queries=20', '--strategies=random,regularized_evolution')


def arguments(workdir, *more):
  return [sys.executable, '-m', 'enas_jax.compare', f'--workdir={workdir}', *more]


def here(workdir, *more):
  """The command in this process: its exit code."""
  with pytest.raises(SystemExit) as ended:
    cli.run(command.main, define_flags=command._define_flags, trains=False, argv=['compare', f'--workdir={workdir}', *more])
  return ended.value.code or 0


def run_here(jobs, what, config, **_):
  """As `pool.run_all`, in this process."""
  for name, seed in jobs:
    yield (name, seed), benchmark.run(name, what, config, seed)


def queries(workdir):
  """Every trial's queries."""
  return {file.name: json.loads(file.read_text())['queries'] for file in (workdir / 'trials').iterdir()}


def contents(workdir):
  return {file.name: file.read_bytes() for file in workdir.rglob('*') if file.is_file() and file.name != 'lock'}


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  """The workdir of a comparison by two processes, and what it printed. Not to be changed: copy it."""
  workdir = tmp_path_factory.mktemp('compare') / 'w'
  process = subprocess.run(
      arguments(workdir, *FLAGS, '--trials=3', '--processes=2'), capture_output=True, text=True, check=True, timeout=100)
  assert not process.stderr
  return workdir, process.stdout


@pytest.fixture
def workdir(finished, tmp_path):
  return shutil.copytree(finished[0], tmp_path / 'w')


def test_files_and_what_is_printed(finished):
  workdir, out = finished
  assert {file.name for file in workdir.iterdir()} == {
      'compare.json', 'config.json', 'curves.svg', 'lock', 'results.csv', 'table.md', 'trials'}
  assert 'table nasbench_macro: 6,561 rows, cifar10, test accuracy after 50 epochs\n' in out
  assert '6 trials to run, 0 are there\n' in out and (workdir / 'table.md').read_text() in out
  record = json.loads((workdir / 'compare.json').read_text())
  assert [(r['strategy'], r['trials'], r['queries']) for r in record['summary']] == [
      ('random', 3, 20), ('regularized_evolution', 3, 20)]
  assert [(r['strategy'], r['seed']) for r in record['trials']] == [
      (name, seed) for name in ('random', 'regularized_evolution') for seed in range(3)]
  assert (workdir / 'results.csv').read_text().count('\n') == 7 and b'</svg>' in (workdir / 'curves.svg').read_bytes()
  assert json.loads((workdir / 'config.json').read_text())['config']['compare']['queries'] == 20


def test_trials_do_not_hang_on_processes(finished):
  """Two at once told the same as one after the other here."""
  expected = {f'{name}-{seed}.json': benchmark.run(name, WHAT, get_config(), seed)['queries']
              for name in ('random', 'regularized_evolution') for seed in range(3)}
  assert queries(finished[0]) == expected


def test_again_changes_nothing_and_runs_no_trial(workdir, capsys, monkeypatch):
  monkeypatch.setattr(command, 'run_all', None)
  before = contents(workdir)
  assert here(workdir, *FLAGS, '--trials=3') == 0
  assert contents(workdir) == before and '0 trials to run, 6 are there' in capsys.readouterr().out


def test_more_trials_and_strategies_only_add(workdir, capsys, monkeypatch):
  monkeypatch.setattr(command, 'run_all', run_here)
  before = contents(workdir / 'trials')
  flags = ('--space=nasbench_macro', '--queries=20', '--strategies=egnas,random,regularized_evolution,random', '--trials=4')
  assert here(workdir, *flags) == 0
  assert '6 trials to run, 6 are there' in capsys.readouterr().out
  after = contents(workdir / 'trials')
  assert before.items() <= after.items() and len(after) == 12
  assert [r['strategy'] for r in json.loads((workdir / 'compare.json').read_text())['summary']] == [
      'egnas', 'random', 'regularized_evolution']


def test_a_damaged_trial_is_run_again(workdir, capsys, monkeypatch):
  monkeypatch.setattr(command, 'run_all', run_here)
  before = queries(workdir)
  (workdir / 'trials' / 'random-1.json').write_text('{"queries": ')
  assert here(workdir, *FLAGS, '--trials=3') == 0
  out = capsys.readouterr().out
  assert 'random-1.json is damaged' in out and '1 trials to run, 5 are there' in out and queries(workdir) == before


def test_a_stop_keeps_what_is_finished(tmp_path, capsys, monkeypatch):
  def stopped_in_the_second(jobs, *rest, **more):
    for number, found in enumerate(run_here(jobs, *rest, **more)):
      if number:
        os.kill(os.getpid(), signal.SIGTERM)
      yield found

  monkeypatch.setattr(command, 'run_all', stopped_in_the_second)
  assert here(tmp_path / 'w', *FLAGS, '--trials=3') == 143
  assert 'the same command resumes' in capsys.readouterr().err
  assert set(queries(tmp_path / 'w')) == {'random-0.json', 'random-1.json'} and not (tmp_path / 'w' / 'compare.json').exists()
  monkeypatch.setattr(command, 'run_all', run_here)
  assert here(tmp_path / 'w', *FLAGS, '--trials=3') == 0
  assert '4 trials to run, 2 are there' in capsys.readouterr().out


def test_a_seed_shifts_the_trials(tmp_path, monkeypatch):
  monkeypatch.setattr(command, 'run_all', run_here)
  assert here(tmp_path / 'w', *FLAGS, '--trials=2', '--config.seed=7') == 0
  assert set(queries(tmp_path / 'w')) >= {'random-7.json', 'random-8.json'}


@pytest.fixture
def refused(tmp_path, capsys):
  """The one line that the command refuses its input with; the folder is free for the mended one."""
  def run(*flags, workdir=tmp_path / 'w'):
    before = contents(workdir) if workdir.exists() else {}
    assert here(workdir, *flags) == 2
    out, err = capsys.readouterr()
    assert err.startswith('error: ') and err.count('\n') == 1 and 'Traceback' not in out + err
    assert (contents(workdir) if workdir.exists() else {}) == before
    return err
  return run


@pytest.mark.parametrize(('flags', 'message'), [
    (['--space=nasbench301'], '--space=nasbench301 is unknown; give one of chain, darts, nasbench101'),
    (['--space=darts'], "no table of space 'darts' comes with the package; give a file of your own"),
    (['--dataset=mnist'], "no data set 'mnist'; it has cifar10, cifar100, imagenet16-120"),
    (['--score=train'], "no split 'train' of cifar10; it has valid, test"),
    (['--space=nats_size', '--score=valid'], "no split 'valid' of cifar10; it has test"),
    (['--strategies=annealing'], "--strategies: 'annealing' is unknown; give some of "),
    (['--strategies=random,'], "--strategies: '' is unknown"),
    (['--strategies='], '--strategies= is empty; give some'),
    (['--strategies=random,egnas'], "space 'nasbench201' has no depth and width to walk in"),
    (['--strategies=random:chains'], "space 'nasbench201' has no depth and width"),
    (['--space=nasbench_macro', '--strategies=halving'], 'strategy halving: nasbench_macro has one fidelity of cifar10'),
    (['--strategies=halving', '--queries=1'], 'strategy halving: 1 queries are fewer than the 1.06'),
    (['--objectives=params'], '--objectives=params: give accuracy and others, each once'),
    (['--objectives=accuracy'], '--objectives=accuracy: give accuracy and others, each once'),
    (['--objectives=accuracy,speed'], "no column 'cifar10/speed'"),
    (['--objectives=accuracy,latency_ms/pixel9'], "no column 'cifar10/latency_ms/pixel9'; it has cifar10/latency_ms/"),
    (['--objectives=accuracy,params,params'], 'params,params: give accuracy and others, each once'),
    (['--queries=0'], '--queries=0 is below 1; give at least 1'),
    (['--queries=many'], '--queries=many'),
    (['--trials=0'], '--trials=0 is below 1; give at least 1'),
    (['--processes=-1'], '--processes=-1 is below 0'),
    (['--config.seed=-1'], 'config.seed -1 with 10 trials is outside 0 to '),
    (['--config.seed=4294967290'], 'config.seed 4294967290 with 10 trials is outside'),
    (['--config.random.batch=0'], 'config.random.batch 0 is below 1'),
    (['--table=nats_size'], "table nats_size is of space 'nats_size', not 'nasbench201'"),
    (['--table=nowhere.csv'], 'nowhere.csv cannot be read (No such file or directory)'),
    (['--table=nasbench301'], 'nasbench301'),
    (['--query=3'], 'unknown flag --query; did you mean --queries?'),
])
def test_bad_input(refused, flags, message):
  assert message in refused(*flags)


def test_a_table_that_cannot_be_read(refused, tmp_path):
  file = tmp_path / 't.npz'
  file.write_bytes(b'PK\x03\x04 cut')
  assert f'{file} is cut, altered or no npz file' in refused(f'--table={file}')
  file = tmp_path / 't.csv'
  file.write_text('architecture,cifar10/valid/9\n|none~0|,.5\n')
  assert f"{file}, row 1: nasbench201: '|none~0|' is not a cell" in refused(f'--table={file}')


def test_a_workdir_of_other_settings(refused, workdir, tmp_path):
  same = ('--space=nasbench_macro', '--queries=20')
  for flags, message in (
      (('--space=nasbench_macro', '--queries=21'), 'compare.queries: stored 20, now 21'),
      ((*same, '--config.seed=1'), 'seed: stored 0, now 1'),
      ((*same, '--config.random.batch=5'), 'random.batch: stored 2, now 5'),
      (('--space=nats_size', '--queries=20'), 'compare.space: stored "nasbench_macro", now "nats_size"')):
    line = refused(*flags, workdir=workdir)
    assert 'has another config' in line and message in line
  (tmp_path / 'file').touch()
  assert 'is not a folder' in refused(*FLAGS, workdir=tmp_path / 'file' / 'w')


def test_a_table_that_changed(refused, tmp_path, monkeypatch):
  monkeypatch.setattr(command, 'run_all', run_here)
  file = tmp_path / 't.csv'
  flags = ('--space=nasbench_macro', f'--table={file}', '--queries=2', '--trials=1', '--strategies=random')
  file.write_text('architecture,cifar10/valid/9\n00000000,.5\n00000001,.6\n')
  assert here(tmp_path / 'w', *flags) == 0
  file.write_text('architecture,cifar10/valid/9\n00000000,.5\n00000001,.7\n')
  benchmark._find.cache_clear()  # Another process reads anew.
  assert 'was started on other data' in refused(*flags)


@pytest.mark.parametrize(('field', 'instead'), [
    ('space=nats_size', '--space'), ('strategy=random', '--strategies'), ('table.dataset=cifar100', '--dataset'),
    ('budget.evaluations=7', '--queries'), ('estimator=table', 'the table')])
def test_settings_that_flags_decide_are_refused(refused, field, instead):
  message = refused(f'--config.{field}')
  assert field.split('=')[0] in message and 'no effect' in message and instead in message


@pytest.mark.parametrize('text', ['{}', '[]', '{"strategy": "random"}'])
def test_a_trial_without_its_fields_is_run_again(tmp_path, monkeypatch, text):
  monkeypatch.setattr(command, 'run_all', run_here)
  flags = ('--space=nasbench_macro', '--queries=2', '--trials=1', '--strategies=random')
  assert here(tmp_path, *flags) == 0
  file = tmp_path / 'trials/random-0.json'
  before = json.loads(file.read_text())
  file.write_text(text)
  assert here(tmp_path, *flags) == 0
  assert json.loads(file.read_text())['queries'] == before['queries']


def start(workdir, *more):
  """A comparison of many long trials by two processes, as soon as two are finished: it and its processes."""
  process = subprocess.Popen(
      arguments(workdir, '--queries=300', '--trials=200', '--strategies=nsga2', '--processes=2'),
      stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True)
  while len(list(workdir.glob('trials/*.json'))) < 2:
    assert process.poll() is None
    time.sleep(0.05)
  return process, [int(pid) for pid in pathlib.Path(f'/proc/{process.pid}/task/{process.pid}/children').read_text().split()]


def alive(pid):
  try:
    return pathlib.Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
  except FileNotFoundError:
    return False


def busy_ticks(pid):
  fields = pathlib.Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()
  return int(fields[11]) + int(fields[12])


@pytest.mark.slow  # Starts five processes of the command: ten seconds.
@pytest.mark.skipif(not pathlib.Path('/proc/self/stat').exists(), reason='finds processes by /proc')
@pytest.mark.parametrize('stop', ['kill', 'terminate all', 'kill a process', 'kill them while they answer'])
def test_however_it_ends_no_trial_is_lost_and_no_process_left(tmp_path, capsys, monkeypatch, stop):
  process, children = start(tmp_path / 'w')
  trials = [pid for pid in children if b'spawn_main' in pathlib.Path(f'/proc/{pid}/cmdline').read_bytes()]
  assert len(trials) == 2 and all(map(alive, children))
  if stop == 'kill':
    process.kill()
  elif stop == 'terminate all':  # As a batch system does.
    os.killpg(process.pid, signal.SIGTERM)
  elif stop == 'kill a process':
    os.kill(trials[0], signal.SIGKILL)
  else:  # Nobody reads meanwhile: they write until a pipe is full, or have nothing left to do.
    os.kill(process.pid, signal.SIGSTOP)
    before = None
    while before != (before := list(map(busy_ticks, trials))):
      time.sleep(1)
    for trial in trials:
      os.kill(trial, signal.SIGKILL)
    os.kill(process.pid, signal.SIGCONT)
  err = process.communicate(timeout=60)[1]
  deadline = time.monotonic() + 20
  while any(map(alive, children)) and time.monotonic() < deadline:
    time.sleep(0.05)
  assert not any(map(alive, children))
  assert process.returncode == {'kill': -signal.SIGKILL, 'terminate all': 143}.get(stop, 2)
  assert stop == 'kill' or ('the same command' in err and err.count('\n') == 1)
  before = contents(tmp_path / 'w' / 'trials')
  missing = len({'nsga2-0.json', 'nsga2-1.json'} - before.keys())
  monkeypatch.setattr(command, 'run_all', run_here)
  assert here(tmp_path / 'w', '--queries=300', '--trials=2', '--strategies=nsga2') == 0
  assert f'{missing} trials to run, {2 - missing} are there' in capsys.readouterr().out
  assert len(before) > 1 and before.items() <= contents(tmp_path / 'w' / 'trials').items()

"""However a search ends early, the same command brings it to the result of one that was never disturbed, bit for bit."""
import os
import re
import shutil
import signal
import time
from unittest import mock

import numpy as np
import pytest
from support.run_records import files, ledger, read, same_run, same_training

from enas_jax import data, search
from enas_jax.errors import Stopped
from enas_jax.progress import Progress
from enas_jax.training import slots
from enas_jax.workdir import Workdir

pytest_plugins = ['support.search_fixtures']

KILLS = 5
FINAL = 'final training of'


def candidates(out):
  """The lines of candidates trained."""
  return re.findall(r'^\d+\. .*', out, re.MULTILINE)


def run_until(process, is_there):
  """Reads the process's lines up to the first that satisfies `is_there`."""
  for line in process.stdout:
    if is_there(line):
      return line
  pytest.fail(f'ended before: {process.stderr.read()}')


def ended(process):
  """The exit code and what else the process wrote."""
  out, err = process.communicate(timeout=120)
  return process.returncode, out, err


@pytest.fixture
def own_cache(undisturbed, tmp_path, monkeypatch):
  """A compilation cache that a killed process may damage: links to the common one's files."""
  shutil.copytree(os.environ['JAX_COMPILATION_CACHE_DIR'], tmp_path / 'cache', copy_function=os.symlink)
  monkeypatch.setenv('JAX_COMPILATION_CACHE_DIR', str(tmp_path / 'cache'))


@pytest.mark.slow
@pytest.mark.once
@pytest.mark.usefixtures('own_cache')
def test_kill_at_random_moments(undisturbed, runner, tmp_path):
  """Each moment is an event of the whole run (a start, a candidate, an epoch) and a random time after it."""
  workdir, random = tmp_path / 'w', np.random.default_rng(0)
  search, epochs = len(ledger(undisturbed)), read(undisturbed, 'result.json')['epochs']
  moments = random.choice(search + epochs, size=KILLS - 2, replace=False)
  known, places = [], set()
  for moment in sorted([0, *moments, search]):  # In the first start too, and between the search and the first epoch.
    process = runner.start('search', workdir)
    if moment < search and moment > len(known):
      run_until(process, lambda line, moment=moment: line.startswith(f'{moment}. '))
    elif moment >= search:
      run_until(process, lambda line, epoch=moment - search: line.startswith(f'epoch {epoch}' if epoch else FINAL))
    time.sleep(random.uniform(0, 0.8 if moment < search else 0.06))
    process.send_signal(signal.SIGKILL)
    code, _, err = ended(process)
    assert code == -signal.SIGKILL and not err
    now = ledger(workdir)
    assert now[:len(known)] == known
    known = now
    places.add('search' if len(known) < search else 'final training')
  assert places == {'search', 'final training'}
  runner.process('search', workdir)
  assert ledger(workdir)[:len(known)] == known
  same_run(workdir, undisturbed)


@pytest.mark.once
@pytest.mark.parametrize('place', ['3. ', 'epoch 2'])
def test_terminated(undisturbed, runner, tmp_path, place):
  process = runner.start('search', tmp_path)
  run_until(process, lambda line: line.startswith(place))
  process.terminate()
  code, _, err = ended(process)
  assert code == 143 and err == 'stopped after the current step; the same command resumes\n'
  known = ledger(tmp_path)
  assert len(known) >= 3 and not (tmp_path / 'result.json').exists()
  out = runner.process('search', tmp_path)
  assert f'{len(known)} reused from the ledger' in out
  assert len(candidates(out)) == len(ledger(undisturbed)) - len(known)
  assert ('epoch 2' in out) == (place == '3. ')
  same_run(tmp_path, undisturbed)


def test_interrupted(undisturbed, runner, tmp_path):
  process = runner.start('search', tmp_path)
  run_until(process, lambda line: line.startswith('2. '))
  process.send_signal(signal.SIGINT)
  code, _, err = ended(process)
  assert code == 130 and err.splitlines() == [
      'stopping after the current step; Ctrl-C again stops at once', 'stopped after the current step; the same command resumes']
  assert ledger(tmp_path) == ledger(undisturbed)[:len(ledger(tmp_path))]


def stop_in_final_training(runner, workdir, steps):
  """Runs the rest of the search in this process; asked to stop at that many training steps into the final training."""
  config, dataset = runner.config(), data.load(f'npz:{runner.images}')
  progress, polls, in_final = Progress(), [], []

  def should_stop():
    if in_final:
      polls.append(True)
    return len(polls) >= steps

  def phase(text):
    if text.startswith(FINAL):
      in_final.append(True)

  progress.phase = phase
  one_step_a_call = mock.patch.multiple(slots, FIRST_STEPS=1, CALL_SECONDS=0)
  with (Workdir.open(workdir, config, data_checksum=dataset.checksum) as folder, runner.compiled_once(), one_step_a_call,
        pytest.raises(Stopped)):
    search.search(config, dataset, folder, progress, should_stop=should_stop)


@pytest.fixture
def searched(undisturbed, tmp_path):
  """A workdir whose final training has not begun."""
  workdir = shutil.copytree(undisturbed, tmp_path / 'searched')
  for name in ('result.json', 'model.json', 'architecture.json'):
    (workdir / name).unlink()
  for folder in (workdir / 'checkpoints', *workdir.glob('weights*')):
    shutil.rmtree(folder)
  return workdir


def checkpoints(workdir):
  """The checkpoints' folders, the oldest first."""
  return sorted((p for p in (workdir / 'checkpoints').iterdir() if p.name.isdigit()), key=lambda p: int(p.name))


def test_stopped_in_the_middle_of_an_epoch_again_and_again(undisturbed, runner, searched, capsys):
  steps = set()
  for count in (3, 5, 2, 9):
    stop_in_final_training(runner, searched, count)
    epoch, step = divmod(int(checkpoints(searched)[-1].name), 200)
    assert step, 'this is an end of an epoch'
    steps.add((epoch, step))
  assert len(steps) == 4
  assert runner.here('search', searched) == 0
  same_run(searched, undisturbed)


@pytest.mark.parametrize('count', [1, 2])
def test_a_checkpoint_cut_short_falls_back_to_the_one_before(undisturbed, runner, searched, capsys, count):
  stop_in_final_training(runner, searched, 18)
  assert len(checkpoints(searched)) == 2
  for folder in checkpoints(searched)[-count:]:
    largest = max((f for f in folder.rglob('*') if f.is_file()), key=lambda f: f.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:100])
  capsys.readouterr()
  assert runner.here('search', searched) == 0
  out = capsys.readouterr().out
  assert out.count('is cut short or altered') == count
  assert ('epoch 1 of' in out) == (count == 2)
  same_run(searched, undisturbed)


@pytest.fixture
def halfway(undisturbed, searched):
  """A workdir in the middle of the search: its controller has seen all that the ledger has."""
  lines = (searched / 'ledger.jsonl').read_text().splitlines(keepends=True)
  (searched / 'ledger.jsonl').write_text(''.join(lines[:5]))
  (searched / 'controller.json').unlink()
  return searched


def test_a_torn_line_of_the_ledger_is_evaluated_again(undisturbed, runner, searched, capsys):
  file = searched / 'ledger.jsonl'
  file.write_bytes(file.read_bytes()[:-40])  # The controller knows more than the ledger then.
  assert runner.here('search', searched) == 0
  out = capsys.readouterr().out
  assert 'the last line was torn' in out and len(candidates(out)) == 1
  same_run(searched, undisturbed)


def test_a_line_taken_out_of_the_ledger_is_evaluated_again(undisturbed, runner, searched):
  file = searched / 'ledger.jsonl'
  lines = file.read_text().splitlines(keepends=True)
  file.write_text(''.join(lines[:2] + lines[3:]))
  assert runner.here('search', searched) == 0
  assert sorted(ledger(searched), key=str) == sorted(ledger(undisturbed), key=str)
  assert read(searched, 'result.json')['test_accuracy'] == read(undisturbed, 'result.json')['test_accuracy']


def test_without_controller_the_ledger_leads_back(undisturbed, runner, halfway, capsys):
  assert runner.here('search', halfway) == 0
  assert '5 candidates done (5 reused from the ledger)' in capsys.readouterr().out
  same_run(halfway, undisturbed)


def test_a_controller_cut_short_is_told_of_and_made_again(undisturbed, runner, halfway, capsys):
  shutil.copy(undisturbed / 'controller.json', halfway)
  text = (halfway / 'controller.json').read_text()
  (halfway / 'controller.json').write_text(text[:len(text) // 2])
  assert runner.here('search', halfway) == 0
  assert re.search(r'/controller.json is damaged \(.*\) and is made again\n', capsys.readouterr().out)
  same_run(halfway, undisturbed)


def test_killed_while_the_network_is_saved(undisturbed, runner, searched, monkeypatch):
  """The result is written last: without it the network is made again from the last checkpoint."""
  def fail(*_, **__):
    raise KeyboardInterrupt
  with monkeypatch.context() as patch:
    patch.setattr('enas_jax.model.Model.save', fail)
    assert runner.here('search', searched) == 130
  before = files(searched / 'checkpoints')
  assert runner.here('search', searched) == 0
  assert files(searched / 'checkpoints') == before
  same_run(searched, undisturbed)


@pytest.mark.slow
@pytest.mark.once
def test_more_in_the_same_workdir_is_as_if_it_had_been_asked_for_at_once(runner, tmp_path, capsys):
  """What was evaluated is not evaluated again; the final training is, where another network wins or it is longer."""
  settings = {'strategy': 'random', 'random.batch': 2}
  first, then = {'budget.evaluations': 3, 'epochs.final': 2}, {'budget.evaluations': 6, 'epochs.final': 3}
  assert runner.here('search', tmp_path / 'grown', **settings | first) == 0
  known = ledger(tmp_path / 'grown')
  before = read(tmp_path / 'grown', 'result.json')
  capsys.readouterr()
  assert runner.here('search', tmp_path / 'grown', **settings | then) == 0
  out = capsys.readouterr().out
  assert 'config.budget.evaluations was 3, is 6, config.epochs.final was 2, is 3: the run goes on' in out
  assert len(candidates(out)) == 3
  assert runner.here('search', tmp_path / 'once', **settings | then) == 0
  assert ledger(tmp_path / 'grown')[:len(known)] == known
  assert sorted(ledger(tmp_path / 'grown'), key=str) == sorted(ledger(tmp_path / 'once'), key=str)
  same_training(tmp_path / 'grown', tmp_path / 'once')
  (aside,) = (tmp_path / 'grown').glob('result-before-*.json')
  assert read(tmp_path / 'grown', aside.name) == before
  capsys.readouterr()
  assert runner.here('search', tmp_path / 'grown', **settings | then) == 0  # It is finished.
  assert not candidates(out := capsys.readouterr().out) and 'epoch 1' not in out and 'goes on' not in out


def test_the_same_images_elsewhere(undisturbed, runner, tmp_path, capsys):
  workdir = shutil.copytree(undisturbed, tmp_path / 'w')
  shutil.copy(runner.images, tmp_path / 'moved.npz')
  assert runner.here('search', workdir, **{'data.name': f'npz:{tmp_path}/moved.npz'}) == 0
  out = capsys.readouterr().out
  assert not candidates(out) and 'config.data.name was ' in out and 'it holds the same' in out
  same_run(workdir, undisturbed)

"""The unsearched network beside a search's winner: which it is, that it is trained alike, and what is told of the gain."""
import json
import shutil
import signal
import threading
import types

import jax
import numpy as np
import pytest
from support.run_records import read, same_run, same_training

import enas_jax
from enas_jax import control, data
from enas_jax.config import get_config
from enas_jax.errors import FolderError, Stopped, UserError
from enas_jax.estimators import Execution
from enas_jax.in_training import InTraining
from enas_jax.progress import Progress
from enas_jax.spaces import ChainArchitecture, ChainSpace, Limits, NasBench201Space, Within
from enas_jax.strategies.history import draw
from enas_jax.types import Task
from enas_jax.workdir import Folder

pytest_plugins = ['support.search_fixtures']
pytestmark = pytest.mark.once  # The main command trains one on every Python.
SEARCH = {'strategy': 'random', 'budget.evaluations': 2, 'chain.max_depth': 5, 'epochs.final': 6, 'control': True}


def unsearched(space, seed=0, **limits):
  config = get_config()
  config.seed = seed
  config.limits.update(limits)
  return control.unsearched(space, config, Task((28, 28, 1), 10))


@pytest.mark.smoke
def test_the_control_is_the_middle_of_the_space():
  space = ChainSpace(min_depth=4, max_depth=16, min_width=8, max_width=32, kernels=(5, 3))
  assert unsearched(space) == unsearched(space, seed=1) == ChainArchitecture.uniform(8, 16, kernel=5)
  alone = ChainSpace(min_depth=5, max_depth=5, min_width=3, max_width=3, kernels=(3,))
  assert unsearched(alone) == ChainArchitecture.uniform(5, 3)


@pytest.mark.smoke
def test_the_control_of_another_space_is_what_random_search_draws_first():
  space = NasBench201Space()
  drawn = [unsearched(space, seed) for seed in range(3)]
  assert drawn == [draw(space, seed, (), 1)[0] for seed in range(3)]


@pytest.mark.smoke
def test_a_control_is_within_the_limits():
  space, task = ChainSpace(min_depth=3, max_depth=6, min_width=2, max_width=8), Task((28, 28, 1), 10)
  middle = space.middle()
  params = space.num_params(middle, task)
  assert unsearched(space, params=params) == middle
  drawn = unsearched(space, params=params - 1)
  assert drawn != middle and space.num_params(drawn, task) < params
  assert drawn == draw(Within(space, Limits(params=params - 1), task), 0, (), 1)[0]


@pytest.fixture(scope='module')
def searched(runner, tmp_path_factory):
  """The workdir of a search with a control. Not to be changed: copy it."""
  workdir = tmp_path_factory.mktemp('control') / 'w'
  assert runner.here('search', workdir, **SEARCH) == 0
  return workdir


def test_the_gain_is_counted_image_by_image(runner, searched):
  test = data.load(f'npz:{runner.images}').test
  result = read(searched, 'result.json')
  found = result['control']
  right = [enas_jax.load(path).predict(test.images) == test.labels for path in (searched, searched / 'control')]
  assert [np.mean(r) for r in right] == [result['test_accuracy'], found['test_accuracy']]
  gains = [int(a) - int(b) for a, b in zip(*right, strict=True)]
  assert found['gain'] == pytest.approx(result['test_accuracy'] - found['test_accuracy'])
  assert found['standard_error'] == pytest.approx(np.std(gains, ddof=1) / len(gains)**0.5)
  assert found['epochs'] == result['epochs'] == 6 and found['architecture'] != result['architecture']
  assert read(searched, 'control/architecture.json') == found['architecture']


def test_the_control_is_trained_as_the_command_would(runner, searched, tmp_path):
  architecture = f'--architecture={searched}/control/architecture.json'
  assert runner.here('train', tmp_path / 'w', architecture, **SEARCH) == 0
  alone, beside = read(tmp_path / 'w', 'result.json'), read(searched, 'result.json')['control']
  for name in ('test_accuracy', 'train_loss', 'curve', 'params', 'macs'):
    assert alone[name] == beside[name]


def test_stopped_before_the_control_is_done(runner, searched, tmp_path, monkeypatch):
  """What is finished is kept, and the same command comes to the same result."""
  workdir = shutil.copytree(searched, tmp_path / 'w')
  (workdir / 'result.json').unlink()
  shutil.rmtree(workdir / 'control')
  before = (workdir / 'ledger.jsonl').read_bytes()
  fit = control.fit

  def stopping(network, config, dataset, folder, *more, **settings):
    if folder.path.name == 'control':
      raise Stopped
    return fit(network, config, dataset, folder, *more, **settings)

  with monkeypatch.context() as patch:
    patch.setattr(control, 'fit', stopping)
    assert runner.here('search', workdir, **SEARCH) == 143
  assert not (workdir / 'result.json').exists()
  assert runner.here('search', workdir, **SEARCH) == 0
  assert (workdir / 'ledger.jsonl').read_bytes() == before
  same_run(workdir, searched)


@pytest.mark.slow
@pytest.mark.once
def test_side_by_side_and_stopped_in_between_it_is_as_one_after_the_other(runner, searched, tmp_path):
  process = runner.start('search', tmp_path / 'w', devices=2, **SEARCH)
  next(line for line in process.stdout if line.startswith('epoch 2'))
  process.terminate()
  assert process.communicate(timeout=60)[1] == 'stopped after the current step; the same command resumes\n'
  assert process.returncode == 143 and not (tmp_path / 'w' / 'result.json').exists()
  out = runner.process('search', tmp_path / 'w', devices=2, **SEARCH)
  assert 'points' in out and 'the unsearched network' in out
  same_training(tmp_path / 'w', searched)  # Candidates may end in another order.


@pytest.mark.parametrize(('error', 'reason'), [
    (UserError('final training diverged: loss nan in epoch 1'), 'final training diverged: loss nan in epoch 1'),
    (RuntimeError('out of memory\nand more'), 'RuntimeError: out of memory')])
def test_a_control_that_fails_is_recorded(runner, searched, tmp_path, monkeypatch, capsys, error, reason):
  workdir = shutil.copytree(searched, tmp_path / 'w')
  (workdir / 'result.json').unlink()
  shutil.rmtree(workdir / 'control')
  fit = control.fit

  def failing(network, config, dataset, folder, *more, **settings):
    if folder.path.name == 'control':
      raise error
    return fit(network, config, dataset, folder, *more, **settings)

  monkeypatch.setattr(control, 'fit', failing)
  assert runner.here('search', workdir, **SEARCH) == 0
  found = read(workdir, 'result.json')['control']
  assert found['reason'] == reason and 'gain' not in found
  assert f'was to be compared and failed: {reason}' in capsys.readouterr().out
  enas_jax.load(workdir)


def test_a_winner_that_is_its_own_control(runner, searched, monkeypatch, tmp_path, capsys):
  workdir = shutil.copytree(searched, tmp_path / 'w')
  (workdir / 'result.json').unlink()
  shutil.rmtree(workdir / 'control')
  winner = enas_jax.model.read_architecture(read(workdir, 'architecture.json'))
  monkeypatch.setattr(control, 'unsearched', lambda space, config, task: winner)
  assert runner.here('search', workdir, **SEARCH) == 0
  assert read(workdir, 'result.json')['control'] == {
      'architecture': read(workdir, 'architecture.json'), 'gain': 0.0, 'standard_error': 0.0}
  assert 'the search gained nothing over it' in capsys.readouterr().out
  assert not (workdir / 'control').exists()


def test_a_damaged_control_is_made_again(runner, searched, tmp_path):
  workdir = shutil.copytree(searched, tmp_path / 'w')
  (workdir / 'result.json').unlink()
  (workdir / 'control' / 'model.json').write_text('{')
  assert runner.here('search', workdir, **SEARCH) == 0
  same_run(workdir, searched)
  same_training(workdir / 'control', searched / 'control')


def test_the_two_train_apart_once_they_killed_the_process_and_who_kills_it_alone_is_not_trained(
    runner, tmp_path, monkeypatch, user_error):
  """With made-up trainings: each process here ends where a training is told to kill it."""
  class Killed(BaseException):
    pass

  winner, killers, trained = ChainArchitecture.uniform(3, 5), [], []
  config = runner.config()
  plain = unsearched(ChainSpace(**{name: config.chain[name] for name in (
      'min_depth', 'max_depth', 'min_width', 'max_width', 'width_step', 'kernels')}))

  def fit(network, *_, on_save, **__):
    trained.append((network, threading.current_thread() is threading.main_thread()))
    if network in killers:
      raise Killed
    on_save()
    return {}

  def start(death=0):
    """One process, whose predecessor ended by a signal that its supervisor saw. Returns the record; None if it was killed."""
    trained.clear()
    monkeypatch.setenv('ENAS_JAX_LAST_DEATH', str(int(death)))
    in_training = InTraining(Folder(tmp_path), lambda text: None)
    try:
      result = control.fit_beside_control(
          winner, config, types.SimpleNamespace(task=Task((8, 8, 1), 4)), Folder(tmp_path), Progress.silent(),
          in_training=in_training, should_stop=lambda: False,
          execution=Execution(devices=tuple(jax.local_devices(backend='cpu')) * 2))
    except Killed:
      return None
    in_training.end()
    return result['control']

  for module in ('train', 'control'):
    monkeypatch.setattr(f'enas_jax.{module}.fit', fit)
  monkeypatch.setattr(control, 'finished', lambda *_: None)
  monkeypatch.setattr(control, '_gain', lambda *_: {'gain': 1.0})
  assert start() == {'gain': 1.0} and sorted(trained, key=str) == sorted([(winner, True), (plain, False)], key=str)
  killers.append(plain)
  assert start() is None
  assert start(signal.SIGSEGV) is None and trained == [(winner, True), (plain, True)]
  reason = 'killed the process (SIGSEGV) while it trained alone'
  assert start(signal.SIGSEGV) == {'architecture': plain.to_json(), 'reason': reason} and trained == [(winner, True)]
  killers[:] = [winner]
  for death in (0, 0, signal.SIGKILL, signal.SIGKILL):
    assert start(death) is None
  with user_error(f'the final training of {winner} killed the process (2 times)', 'delete ', 'batch_size'):
    start(signal.SIGKILL)


def test_no_control_where_none_is_wanted(runner, tmp_path):
  assert runner.here('search', tmp_path / 'w', **{**SEARCH, 'control': False}) == 0
  assert 'control' not in json.loads((tmp_path / 'w' / 'result.json').read_text())
  assert not (tmp_path / 'w' / 'control').exists()


def test_a_full_disk_is_no_fault_of_the_control(runner, searched, tmp_path, monkeypatch, capsys):
  workdir = shutil.copytree(searched, tmp_path / 'w')
  (workdir / 'result.json').unlink()
  (workdir / 'control' / 'result.json').unlink()
  fit = control.fit

  def full(network, config, dataset, folder, *more, **settings):
    if folder.path.name == 'control':
      raise FolderError('workdir w is full; free space and run the same command')
    return fit(network, config, dataset, folder, *more, **settings)

  with monkeypatch.context() as patch:
    patch.setattr(control, 'fit', full)
    assert runner.here('search', workdir, **SEARCH) == 2
  assert capsys.readouterr().err == 'error: workdir w is full; free space and run the same command\n'
  assert not (workdir / 'result.json').exists()
  assert runner.here('search', workdir, **SEARCH) == 0
  same_run(workdir, searched)


def test_one_test_image_has_no_standard_error(monkeypatch, tmp_path):
  def network(path):
    return types.SimpleNamespace(predict=lambda images: np.full(1, path.name != 'control'))

  monkeypatch.setattr(control, 'load', network)
  dataset = types.SimpleNamespace(test=types.SimpleNamespace(images=np.zeros(1), labels=np.ones(1)))
  found = control._gain(types.SimpleNamespace(path=tmp_path), dataset)
  assert found == {'gain': 1.0, 'standard_error': None}
  plain = {'space': 'chain', 'version': 1, 'width': 2, 'operations': '010', 'kernels': '353'}
  line = control.describe({'architecture': plain, 'test_accuracy': 0.5, 'params': 9, **found})
  assert line.endswith('the search gained +100.00 points')

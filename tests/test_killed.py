"""A candidate that ends the process, and a container that is too small: the search finishes, and says so in the ledger."""
import os
import pathlib
import runpy
import signal
import subprocess
import sys

import pytest
from support.container import container
from support.run_records import ledger, read, write_images

from enas_jax import spaces
from enas_jax.supervise import MARK

pytest_plugins = ['support.search_fixtures']

PLUGIN = f'--plugin={os.path.dirname(__file__)}/support/killing.py'
SMALL = {'strategy': 'random', 'estimator': 'killing', 'budget.evaluations': 4, 'random.batch': 2, 'epochs.final': 1}


@pytest.fixture(scope='module')
def others(runner, tmp_path_factory):
  """The workdir of the search in which nobody dies."""
  workdir = tmp_path_factory.mktemp('others') / 'w'
  runner.process('search', workdir, PLUGIN, **SMALL)
  return workdir


@pytest.mark.slow
@pytest.mark.once
def test_a_candidate_that_kills_the_process_fails_and_the_others_are_as_ever(others, runner, tmp_path, monkeypatch):
  """By a crash; test_in_training.py has all other ways."""
  expected = {record['key']: record for record in ledger(others)}
  killer = sorted(expected)[0]
  network = spaces.make(runner.config()).from_json(expected[killer]['request']['architecture'])
  monkeypatch.setenv('KILLING_NETWORK', str(network))
  monkeypatch.setenv('KILLING_SIGNAL', str(int(signal.SIGABRT)))
  process = runner.start('search', tmp_path, PLUGIN, **SMALL)
  process.communicate(timeout=300)
  assert process.returncode == -signal.SIGABRT
  assert killer in read(tmp_path, MARK)['in_training']
  out = runner.process('search', tmp_path, PLUGIN, **SMALL)
  reason = 'killed the process (SIGABRT) while it trained alone'
  assert out.count('the last process was killed') == 3  # Once unseen, once beside others, once alone.
  found = {record['key']: record for record in ledger(tmp_path)}
  assert found.pop(killer)['evaluation']['reason'] == reason
  assert expected.pop(killer) and found == expected
  assert read(tmp_path, 'result.json')['failures'] == [{'key': killer, 'reason': reason}]
  assert not (tmp_path / MARK).exists()


@pytest.mark.slow
@pytest.mark.once
def test_a_final_training_that_kills_the_process_is_refused_in_one_line(runner, tmp_path, capsys):
  file = tmp_path / 'architecture.json'
  file.write_text('{"space": "chain", "version": 1, "width": 2, "operations": "010", "kernels": "353"}')
  plugin = tmp_path / 'dying.py'
  plugin.write_text('''
import os
from enas_jax.training import single
single._FamilyTraining.train = lambda *_, **__: os.abort()
''')
  arguments = (f'--architecture={file}', f'--plugin={plugin}')
  process = runner.start('train', tmp_path / 'w', *arguments)
  process.communicate(timeout=300)
  assert process.returncode == -signal.SIGABRT
  process = runner.start('train', tmp_path / 'w', *arguments)
  line = process.communicate(timeout=300)[1].splitlines()[-1]
  assert process.returncode == 2
  assert line.startswith('error: the final training of depth 3, ') and 'killed the process (SIGABRT)' in line
  assert f'delete {tmp_path}/w/{MARK}' in line and '--config.training.batch_size' in line
  capsys.readouterr()
  assert runner.here('train', tmp_path / 'w', arguments[0]) == 2  # Without training again.
  assert capsys.readouterr().err == f'{line}\n'
  (tmp_path / 'w' / MARK).unlink()
  assert runner.here('train', tmp_path / 'w', arguments[0]) == 0
  assert not (tmp_path / 'w' / MARK).exists()


@pytest.mark.slow
@pytest.mark.once
def test_a_small_container(runner, tmp_path):
  """The network of width 24 needs 2.2 GB, as many as the container does not have; that of width 1, padded to it, 1.6.

  Compiling takes up to 0.7 GB here, whatever the sizes, beside the 0.5 GB of the process: it must not be what does not fit.
  """
  images = write_images(tmp_path / 'images.npz', 20_484)
  changes = {
      'data.name': f'npz:{images}', 'strategy': 'random', 'seed': 1, 'budget.evaluations': 2, 'random.batch': 2,
      'training.batch_size': 16384, 'chain.max_width': 24, 'chain.width_step': 23, 'chain.kernels': (3,), 'epochs.final': 1}
  with container(2_200_000_000) as prefix:
    process = subprocess.run(
        [*prefix, sys.executable, '-m', 'enas_jax.search', *runner.arguments(tmp_path / 'w', **changes)], capture_output=True,
        text=True, env={**os.environ, 'JAX_NUM_CPU_DEVICES': '1'}, timeout=500)
  assert process.returncode == 0 and not process.stderr, process.stderr
  wide, narrow = ledger(tmp_path / 'w')
  assert wide['request']['architecture']['width'] == 24 and narrow['request']['architecture']['width'] == 1
  assert 'GB are free' in wide['evaluation']['reason'] and wide['evaluation']['reason'].startswith('out of memory: needs ')
  assert not narrow['evaluation']['reason']


@pytest.mark.slow
@pytest.mark.once
def test_kills_at_random_moments_of_a_comparison(tmp_path):
  """Five of CI's ten; those of a search and its final training are in test_resume.py. More: python benchmarks/kills.py."""
  script = runpy.run_path(str(pathlib.Path(__file__).parents[1] / 'benchmarks' / 'kills.py'))
  lines = list(script['kill'](5, tmp_path, 0, ('compare',)))
  assert [line.partition(',')[0] for line in lines] == ['compare: 5 kills']

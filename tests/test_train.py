"""The command that trains one architecture: a hand-written one, and that of a search, whose final training it repeats."""
import json
import shutil

import numpy as np
import pytest
from support.run_records import files, read, same_training

import enas_jax
from enas_jax import data

pytest_plugins = ['support.search_fixtures']

BY_HAND = {'space': 'chain', 'version': 1, 'width': 1, 'operations': '0000', 'kernels': '3333'}


@pytest.fixture
def by_hand(tmp_path):
  file = tmp_path / 'by_hand.json'
  file.write_text(json.dumps(BY_HAND))
  return f'--architecture={file}'


@pytest.fixture(scope='module')
def trained(runner, undisturbed, tmp_path_factory):
  """The workdir of a training of the search's network. Not to be changed: copy it."""
  workdir = tmp_path_factory.mktemp('trained') / 'w'
  runner.process('train', workdir, f'--architecture={undisturbed}/architecture.json')
  return workdir


@pytest.mark.smoke
def test_an_architecture_written_by_hand(runner, by_hand, tmp_path):
  """It may lie outside the search's own space."""
  assert runner.here('train', tmp_path / 'w', by_hand, **{'epochs.final': 2, 'seed': 3}) == 0
  result, dataset = read(tmp_path / 'w', 'result.json'), data.load(f'npz:{runner.images}')
  assert result['architecture'] == read(tmp_path / 'w', 'architecture.json') == BY_HAND
  assert result['epochs'] == len(result['curve']['loss']) == 2 and result['seed'] == 3 and result['seconds'] > 0
  model = enas_jax.load(tmp_path / 'w')
  assert np.mean(model.predict(dataset.test.images) == dataset.test.labels) == result['test_accuracy']
  assert not (tmp_path / 'w' / 'ledger.jsonl').exists()


@pytest.mark.once
@pytest.mark.slow
def test_an_architecture_of_another_space_than_the_settings_name(runner, tmp_path):
  file = tmp_path / 'cell.json'
  cell = '|nor_conv_1x1~0|+|none~0|skip_connect~1|+|none~0|none~1|nor_conv_1x1~2|'
  record = {'space': 'nasbench201', 'version': 1, 'cell': cell, 'channels': 2, 'cells': 1}
  file.write_text(json.dumps(record))
  assert runner.here('train', tmp_path / 'w', f'--architecture={file}', **{'epochs.final': 1}) == 0
  result = read(tmp_path / 'w', 'result.json')
  assert result['architecture'] == record and result['params'] > 0


def test_a_searchs_final_training_is_repeated_bit_for_bit(undisturbed, trained):
  mine, its = read(trained, 'result.json'), read(undisturbed, 'result.json')
  for name in ('architecture', 'test_accuracy', 'train_accuracy', 'train_loss', 'params', 'macs', 'epochs', 'curve'):
    assert mine[name] == its[name]
  images = data.load(read(trained, 'config.json')['config']['data']['name']).test.images
  np.testing.assert_array_equal(enas_jax.load(trained).logits(images), enas_jax.load(undisturbed).logits(images))


@pytest.mark.once
def test_stopped_and_resumed(runner, undisturbed, trained, tmp_path):
  architecture = f'--architecture={undisturbed}/architecture.json'
  process = runner.start('train', tmp_path, architecture)
  next(line for line in process.stdout if line.startswith('epoch 2'))
  process.terminate()
  assert process.communicate(timeout=60)[1] == 'stopped after the current step; the same command resumes\n'
  assert process.returncode == 143
  out = runner.process('train', tmp_path, architecture)
  assert 'epoch 1' not in out and 'epoch 6 of 6' in out
  same_training(tmp_path, trained)


def test_a_finished_training_is_kept_as_it_is(runner, undisturbed, trained, tmp_path, capsys):
  workdir = shutil.copytree(trained, tmp_path / 'w')
  before = files(workdir)
  assert runner.here('train', workdir, f'--architecture={undisturbed}/architecture.json') == 0
  assert files(workdir) == before
  assert capsys.readouterr().out.splitlines()[1].startswith('test accuracy ')


def test_the_papers_protocol_reports_the_best_epoch_and_the_last(runner, undisturbed, trained, tmp_path):
  architecture = f'--architecture={undisturbed}/architecture.json'
  assert runner.here('train', tmp_path, architecture, **{'training.best_epoch': True}) == 0
  paper, sound = read(tmp_path, 'result.json'), read(trained, 'result.json')
  curve = paper['curve']['test_accuracy']
  assert len(curve) == 6 and len(sound['curve']['test_accuracy']) == 1 and 'best_epoch_test_accuracy' not in sound
  assert paper['best_epoch_test_accuracy'] == max(curve) and paper['test_accuracy'] == curve[-1]
  assert paper['test_accuracy'] == sound['test_accuracy'] and paper['curve']['loss'] == sound['curve']['loss']


def test_a_training_that_diverges_says_so(runner, undisturbed, tmp_path, capsys):
  architecture = f'--architecture={undisturbed}/architecture.json'
  assert runner.here('train', tmp_path, architecture, **{'training.learning_rate': 1e30, 'training.clip_norm': 1e30}) == 2
  err = capsys.readouterr().err
  assert err.count('\n') == 1 and 'final training diverged: loss ' in err
  assert err.endswith('lower --config.training.learning_rate\n')
  assert not (tmp_path / 'result.json').exists()

"""Bad input on the real command line: exit code 2, one clear line, nothing lost, and the folder free for the mended command."""
import json
import os
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image
from support.run_records import files, image_part, ledger, write_images

from enas_jax.progress import Progress
from enas_jax.workdir import Workdir

pytest_plugins = ['support.search_fixtures']

WAY_OUT = re.compile(r'; \w|is not one of|is not a|is missing: |is empty: |did you mean ')
CHAIN = {'space': 'chain', 'version': 1, 'width': 2, 'operations': '010', 'kernels': '353'}


@pytest.fixture
def refused(runner, tmp_path, capsys):
  """The one line that a command refuses its input with."""
  def run(*more, command='search', workdir=None, **changes):
    workdir = workdir or tmp_path / 'w'
    before = files(workdir) if workdir.is_dir() else {}
    assert runner.here(command, workdir, *more, **changes) == 2
    out, err = capsys.readouterr()
    assert err.startswith('error: ') and err.count('\n') == 1 and err.endswith('\n')
    assert 'Traceback' not in out + err
    assert WAY_OUT.search(err)
    assert (files(workdir) if workdir.is_dir() else {}) == before
    return err
  return run


@pytest.fixture
def finished(undisturbed, tmp_path):
  """A workdir with results to lose."""
  return shutil.copytree(undisturbed, tmp_path / 'finished')


SETTINGS = [
    ('space', 'grid', "config.space 'grid' is unknown; give one of chain"),
    ('strategy', 'annealing', "config.strategy 'annealing' is unknown; give one of bananas, egnas, evolution, halving, "),
    ('estimator', 'guess', "config.estimator 'guess' is unknown; give "),
    ('seed', -1, 'config.seed -1 is outside 0 to '),
    ('seed', 2**32, 'config.seed 4294967296 is outside 0 to 4294967295'),
    ('seed', 2**70, 'is outside 0 to 4294967295'),
    ('seed', 1.5, '--config.seed=1.5 is not a whole number'),
    ('seed', 'one', '--config.seed=one is not a whole number'),
    ('precision', 'int8', "config.precision 'int8' is unknown; give 'auto', 'float32' or 'bfloat16'"),
    ('memory_limit_gb', -1, 'config.memory_limit_gb -1.0 is negative'),
    ('memory_limit_gb', 1e300, 'config.memory_limit_gb 1e+300 is above 1e+09; give 0 for what the device has free'),
    ('max_failures_in_a_row', 0, 'config.max_failures_in_a_row 0 is below 1'),
    ('data.validation_share', 0, 'validation share 0.0 is outside (0, 1)'),
    ('data.validation_share', 1, 'validation share 1.0 is outside (0, 1)'),
    ('data.validation_share', -0.5, 'validation share -0.5 is outside (0, 1)'),
    ('data.validation_share', 0.0001, 'validation share 0.0001 of the 50 images of class 0 leaves the validation part none'),
    ('data.validation_share', 0.9999, 'validation share 0.9999 of the 50 images of class 0 leaves the training part none'),
    ('data.published_statistics', True, 'no published statistics'),
    ('data.augmentation.crop_size', 11, 'crop_size 11 is above 10'),
    ('data.augmentation.crop_size', 0, 'crop_size 0 is below 1'),
    ('data.augmentation.crop_padding', 1_000_000_000, 'crop_padding 1000000000 is above 8, the side of the image'),
    ('data.augmentation.crop_padding', -1, 'crop_padding -1 is below 0'),
    ('data.augmentation.cutout', -1, 'cutout -1 is below 0'),
    ('chain.min_depth', 2, 'depths 2 to 3'),
    ('chain.max_depth', 2, 'depths 3 to 2'),
    ('chain.min_width', 0, 'widths 0 to 2'),
    ('chain.max_width', 0, 'widths 1 to 0'),
    ('chain.width_step', 0, 'width_step 0'),
    ('chain.kernels', (4,), 'kernels (4,)'),
    ('chain.kernels', (), 'kernels ()'),
    ('chain.kernels', (3, 3), 'kernels (3, 3)'),
    ('training.batch_size', 0, 'batch_size 0 is below 1'),
    ('training.batch_size', -4, 'batch_size -4 is below 1'),
    ('training.batch_size', 1000, 'training images are fewer than config.training.batch_size=1000'),
    ('training.learning_rate', 0, 'learning_rate 0.0 is not positive'),
    ('training.learning_rate', -0.1, 'learning_rate -0.1 is not positive'),
    ('training.learning_rate', 'nan', 'nan'),
    ('training.momentum', 1.5, 'momentum 1.5 is outside [0, 1)'),
    ('training.momentum', 1, 'momentum 1.0 is outside [0, 1)'),
    ('training.momentum', -0.1, 'momentum -0.1 is outside [0, 1)'),
    ('training.weight_decay', -1, 'weight_decay -1.0 is negative'),
    ('training.clip_norm', 0, 'clip_norm 0.0 is not positive'),
    ('epochs.first', 0, 'config.epochs.first 0 is below 1'),
    ('epochs.first', -3, 'config.epochs.first -3 is below 1'),
    ('epochs.per_layer', -1, 'config.epochs.per_layer -1 is below 0'),
    ('epochs.per_width_step', -1, 'config.epochs.per_width_step -1 is below 0'),
    ('epochs.micro', 0, 'config.epochs.micro 0 is below 1'),
    ('epochs.final', 0, 'config.epochs.final 0 is below 1'),
    ('epochs.final', -1, 'config.epochs.final -1 is below 1'),
    ('training.decay', 'step', "decay 'step' is unknown; give one of cosine, linear, epoch_cosine"),
    ('training.warmup', 1.0, 'warmup 1.0 is outside [0, 1)'),
    ('training.settle', -0.1, 'settle -0.1 is outside [0, 1)'),
    ('training.class_weights', 'none', "class_weights 'none' is unknown; give one of equal, balanced"),
    ('data.accuracy', 'micro', "config.data.accuracy 'micro' is unknown; give one of plain, balanced"),
    ('training.label_smoothing', 1, 'label_smoothing 1.0 is outside [0, 1)'),
    ('budget.seconds', 0, 'config.budget.seconds 0.0 is not positive; leave it out for no limit'),
    ('budget.train_macs', 1, 'config.budget.train_macs 1 is too small'),
    ('egnas.window', 0, 'config.egnas.window 0 is below 1'),
    ('egnas.micro_window', 0, 'config.egnas.micro_window 0 is below 1'),
    ('egnas.micro_replicates', 0, 'config.egnas.micro_replicates 0 is below 1'),
    ('egnas.depth_failures', 0, 'config.egnas.depth_failures 0 is below 1'),
    ('egnas.width_failures', -1, 'config.egnas.width_failures -1 is below 1'),
    ('egnas.depth_gain', -0.1, 'config.egnas.depth_gain -0.1 is negative'),
    ('egnas.parameter_slack', -1, 'config.egnas.parameter_slack -1 is negative'),
]
OTHER_STRATEGIES = [
    ('evolution', 'evolution.tournament', 0, 'config.evolution.tournament 0 is below 1'),
    ('evolution', 'evolution.tournament', 9, 'config.evolution.tournament 9 is above population 2'),
    ('evolution', 'evolution.population', 0, 'config.evolution.population 0 is below 1'),
    ('evolution', 'evolution.batch', 0, 'config.evolution.batch 0 is below 1'),
    ('evolution', 'evolution.macro_share', 0, 'config.evolution.macro_share 0.0 is outside (0, 1]'),
    ('evolution', 'evolution.objectives', "('speed',)", "config.evolution.objectives ('speed',) is not one of"),
    ('evolution', 'evolution.max_params', -1, 'config.evolution.max_params -1 is negative'),
    ('evolution', 'evolution.max_params', 1, 'max_params 1'),
    ('evolution', 'budget.evaluations', 0, 'config.budget has no limit'),
    ('halving', 'halving.candidates', 0, 'config.halving.candidates 0 is below 1'),
    ('halving', 'halving.candidates', -9, 'config.halving.candidates -9 is below 1'),
    ('halving', 'halving.factor', 1, 'config.halving.factor 1 is below 2'),
    ('halving', 'epochs.first', 0, 'config.epochs.first 0 is below 1'),
    ('random', 'budget.evaluations', 0, 'config.budget has no limit'),
    ('random', 'budget.evaluations', -1, 'config.budget.evaluations -1 is negative'),
    ('random', 'budget.train_macs', -1, 'config.budget.train_macs -1.0 is negative'),
    ('random', 'random.batch', 0, 'config.random.batch 0 is below 1'),
]
TRAINING = ('seed', 'memory_limit_gb', 'training.', 'epochs.final', 'data.augmentation', 'data.published_statistics')


@pytest.mark.parametrize(('field', 'value', 'message'), SETTINGS)
def test_settings_out_of_range(refused, field, value, message):
  assert message in refused(**{field: value})


@pytest.mark.parametrize(('strategy', 'field', 'value', 'message'), OTHER_STRATEGIES)
def test_settings_of_other_strategies(refused, strategy, field, value, message):
  assert message in refused(**{'strategy': strategy, field: value})


@pytest.mark.parametrize(('field', 'value', 'message'), [s for s in SETTINGS if s[0].startswith(TRAINING)])
def test_settings_of_a_training(refused, tmp_path, field, value, message):
  file = write_architecture(tmp_path, CHAIN)
  assert message in refused(f'--architecture={file}', command='train', **{field: value})


@pytest.mark.parametrize(('argument', 'message'), [
    ('--wrkdir=x', 'unknown flag --wrkdir; did you mean --workdir?'),
    ('--config.sede=1', 'unknown setting --config.sede; did you mean --config.seed?'),
    ('--config.frobnicate=1', 'unknown setting --config.frobnicate; see --help'),
    ('--slots=-1', '--slots=-1 is negative; give at least 1, or 0'),
    ('--lowering=winograd', "--lowering=winograd is unknown; give 'auto', 'shifts' or 'xla'"),
    ('stray', "argument 'stray' is not understood; write --NAME=VALUE"),
])
def test_unknown_names(refused, argument, message):
  assert message in refused(argument)


def test_compiled_programs_are_kept_only_where_nobody_else_can_write(refused, tmp_path):
  folder = tmp_path / 'cache'
  folder.mkdir()
  folder.chmod(0o770)
  assert f'--compilation_cache={folder} can be written by others' in refused(f'--compilation_cache={folder}')
  (tmp_path / 'file').touch()
  assert 'give a folder that can be written, or none' in refused(f'--compilation_cache={tmp_path}/file')


def test_after_a_refusal_the_mended_command_may_use_the_folder(refused, runner, tmp_path):
  refused(strategy='annealing')
  refused(**{'training.batch_size': 1000})
  with Workdir.open(tmp_path / 'w', runner.config(), data_checksum='d') as workdir:
    assert {file.name for file in workdir.path.iterdir()} == {'config.json', 'lock'}


def write_architecture(folder, record):
  file = folder / 'architecture.json'
  file.write_text(record if isinstance(record, str) else json.dumps(record))
  return file


@pytest.mark.parametrize(('record', 'message'), [
    ('{"space": "chain", ', 'is not JSON'),
    ('', 'is not JSON'),
    ('[]', 'is not one of chain'),
    ('"chain"', 'is not one of chain'),
    ({**CHAIN, 'space': 'cell'}, "space 'cell' is not one of chain"),
    ({**CHAIN, 'version': 2}, 'version 2 is not 1'),
    ({k: v for k, v in CHAIN.items() if k != 'version'}, 'version None is not 1'),
    ({**CHAIN, 'colour': 1}, "fields ['colour'] are unknown or missing"),
    ({k: v for k, v in CHAIN.items() if k != 'kernels'}, "fields ['kernels'] are unknown or missing"),
    ({**CHAIN, 'operations': '01', 'kernels': '35'}, 'depth 2 is below 3'),
    ({**CHAIN, 'width': 0}, 'width 0 is below 1'),
    ({**CHAIN, 'width': '2'}, "width '2' is not an integer"),
    ({**CHAIN, 'width': True}, 'width True is not an integer'),
    ({**CHAIN, 'operations': '021'}, 'operation 2 at layer 1 is not one of (0, 1)'),
    ({**CHAIN, 'kernels': '343'}, 'kernel 4 at layer 1 is not one of (3, 5, 7)'),
    ({**CHAIN, 'kernels': '35'}, '2 kernels for 3 operations'),
    ({**CHAIN, 'kernels': [3, 5, 3]}, 'kernels [3, 5, 3] is not a string of digits'),
])
def test_architectures(refused, tmp_path, record, message):
  file = write_architecture(tmp_path, record)
  line = refused(f'--architecture={file}', command='train')
  assert message in line and str(file) in line


def test_no_architecture(refused, tmp_path):
  assert '--architecture is missing' in refused(command='train')
  assert 'x.json: no such file; give a JSON file' in refused(f'--architecture={tmp_path}/x.json', command='train')
  assert 'Is a directory' in refused(f'--architecture={tmp_path}', command='train')


@pytest.mark.once
def test_training_of_another_architecture(undisturbed, runner, refused, tmp_path):
  architecture = f'--architecture={undisturbed}/architecture.json'
  assert runner.here('train', tmp_path / 'w', architecture, **{'epochs.final': 1}) == 0
  file = write_architecture(tmp_path, {**CHAIN, 'width': 9})
  line = refused(f'--architecture={file}', command='train', **{'epochs.final': 1})
  assert 'trains another architecture; choose another --workdir' in line


def test_training_in_the_workdir_of_a_search(refused, finished):
  line = refused(f'--architecture={finished}/architecture.json', command='train', workdir=finished)
  assert 'is that of a search; choose another --workdir' in line


@pytest.mark.parametrize(('changes', 'message'), [
    ({'seed': 1}, 'has another config (seed: stored 0, now 1); choose another --workdir or the stored values'),
    ({'chain.max_width': 3}, 'chain.max_width: stored 2, now 3'),
    ({'strategy': 'annealing'}, 'strategy'),
    ({'data.name': 'cifar11'}, "no data set of this name (did you mean cifar10"),
    ({'training.learning_rate': -1}, 'learning_rate'),
])
def test_a_finished_workdir_loses_nothing(refused, finished, changes, message):
  assert message in refused(workdir=finished, **changes)


def test_other_data_under_the_same_name(runner, refused, tmp_path, monkeypatch):
  monkeypatch.setattr(runner, 'images', write_images(tmp_path / 'images.npz'))
  with Workdir.open(tmp_path / 'w', runner.config(), data_checksum='another'):
    pass
  assert 'was started on other data (checksum stored another, now ' in refused()


def test_workdirs(refused, runner, finished, tmp_path):
  (tmp_path / 'file').touch()
  assert 'is not a folder' in refused(workdir=tmp_path / 'file')
  assert 'is not a folder' in refused(workdir=tmp_path / 'file' / 'w')
  assert 'not readable and writable' in refused(workdir=type(tmp_path)('/proc/enas_jax_test'))
  with Workdir.open(tmp_path / 'w', runner.config(), data_checksum='d'):
    assert f'is in use by process {os.getpid()}; wait for it' in refused()
  (finished / 'config.json').write_text('{"config": ')
  assert 'config.json is damaged' in refused(workdir=finished)
  (finished / 'config.json').unlink()
  assert 'has a ledger but no config.json' in refused(workdir=finished)


def test_a_damaged_ledger(refused, finished):
  file = finished / 'ledger.jsonl'
  lines = file.read_text().splitlines(keepends=True)
  file.write_text(''.join([lines[0], 'x\n', *lines[2:]]))
  assert 'ledger.jsonl, line 2: not an evaluation' in refused(workdir=finished)


def test_data_by_name(refused, tmp_path):
  assert "no data set of this name (did you mean cifar10" in refused(**{'data.name': 'cifar11'})
  assert 'not prepared in' in refused(f'--data_dir={tmp_path}', **{'data.name': 'cifar10'})
  assert 'there is no such file' in refused(**{'data.name': f'npz:{tmp_path}/x.npz'})
  assert 'the path is empty' in refused(**{'data.name': 'folder:'})
  assert 'data.name= is empty' in refused(**{'data.name': ''})


def damaged_arrays(path, *, train=(), test=()):
  rng = np.random.default_rng(0)
  arrays = dict(zip(('x_train', 'y_train', 'x_test', 'y_test'), (*image_part(80, rng), *image_part(20, rng)), strict=True))
  np.savez(path, **{**arrays, **dict(train), **dict(test)})
  return path


@pytest.mark.parametrize(('change', 'message'), [
    ({'y_train': np.arange(80) % 4 - 1}, 'train label -1 is outside 0 to '),
    ({'y_train': np.arange(80) % 3, 'y_test': np.arange(20) % 4}, 'class 3 (3) has no training image'),
    ({'class_names': np.array(['a', 'b', 'c'])}, 'train label 3 is outside 0 to 2; number classes from 0'),
    ({'y_test': np.arange(20) % 4 + 1000}, 'label 1003 is too large'),
    ({'y_train': np.zeros(80, int), 'y_test': np.zeros(20, int)}, 'only 1 class; give at least 2'),
    ({'y_train': np.arange(79) % 4}, 'y_train has 79 labels for 80 images'),
    ({'x_train': np.zeros((80, 8, 8, 1), np.float32)}, 'x_train is float32; pass uint8'),
    ({'x_test': np.zeros((20, 9, 8, 1), np.uint8)}, 'image shapes are [8, 8, 1] in train and [9, 8, 1] in test'),
])
def test_arrays(refused, tmp_path, change, message):
  assert message in refused(**{'data.name': f"npz:{damaged_arrays(tmp_path / 'x.npz', train=change)}"})


def test_fewer_images_than_a_batch(refused, tmp_path):
  """The search trains on fewer images than the final training."""
  name = f"npz:{write_images(tmp_path / 'x.npz', train_count=32)}"
  file = write_architecture(tmp_path, CHAIN)
  message = 'data: 28 training images are fewer than config.training.batch_size=32; lower it'
  assert message in refused(**{'data.name': name, 'data.validation_share': 0.1})
  message = 'data: 32 training images are fewer than config.training.batch_size=33; lower it'
  assert message in refused(f'--architecture={file}', command='train', **{'data.name': name, 'training.batch_size': 33})


@pytest.fixture
def folder(tmp_path):
  """Two classes of ten images each, in train and in test."""
  rng = np.random.default_rng(0)
  for part in ('train', 'test'):
    for label in ('cat', 'dog'):
      (tmp_path / 'images' / part / label).mkdir(parents=True)
      for i in range(10):
        Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).save(tmp_path / 'images' / part / label / f'{i}.png')
  return tmp_path / 'images'


@pytest.mark.parametrize(('break_it', 'message'), [
    (lambda f: Image.new('L', (9, 8)).save(f / 'train/cat/3.png'), 'resize all to one size'),
    (lambda f: Image.new('L', (9, 8)).save(f / 'test/dog/9.png'), 'resize all to one size'),
    (lambda f: (f / 'train/cat/3.png').write_bytes(b'no image'), 'train/cat/3.png cannot be read; replace or remove it'),
    (lambda f: (f / 'train/cat/3.png').write_bytes((f / 'train/cat/3.png').read_bytes()[:60]), 'cannot be read'),
    (lambda f: [p.unlink() for p in (f / 'train/dog').iterdir()], 'train/dog has no images; add some'),
    (lambda f: [p.unlink() for p in (f / 'test/dog').iterdir()], 'test/dog has no images; add some'),
    (lambda f: shutil.rmtree(f / 'train/dog'), 'has 1 class folders; give at least 2'),
    (lambda f: (f / 'test/dog').rename(f / 'test/wolf'), 'class wolf is in test, but not in train'),
    (lambda f: shutil.rmtree(f / 'test'), 'there is no folder test beside the other'),
    (shutil.rmtree, 'there is no such folder'),
])
def test_folders_of_images(refused, folder, break_it, message):
  break_it(folder)
  assert message in refused(**{'data.name': f'folder:{folder}', 'training.batch_size': 4})


@pytest.mark.parametrize(('event', 'count'), [
    ('note', 1), ('phase', 1), ('candidate', 1), ('candidate', 2), ('describe', 2), ('phase', 2), ('training', 1)], ids=str)
def test_a_workdir_that_is_deleted_under_the_run(runner, tmp_path, monkeypatch, capsys, event, count):
  calls, shown = [], getattr(Progress, event)

  def show(*arguments):
    calls.append(arguments)
    if len(calls) == count:
      shutil.rmtree(tmp_path / 'w')
    shown(*arguments)

  monkeypatch.setattr(Progress, event, show)
  settings = {'strategy': 'random', 'budget.evaluations': 2, 'random.batch': 1, 'epochs.final': 1}
  assert runner.here('search', tmp_path / 'w', **settings) == 2
  expected = f'error: workdir {tmp_path}/w is not readable and writable (No such file or directory); choose another --workdir\n'
  assert capsys.readouterr().err == expected and len(calls) >= count


@pytest.mark.slow
def test_a_full_disk_loses_nothing(runner, tmp_path, capsys):
  """A file system with room for the ledger, but not for the network; only root may mount one."""
  workdir = tmp_path / 'w'
  workdir.mkdir()
  mount = ['mount', '-t', 'tmpfs', '-o', 'size=60k', 'tmpfs', workdir]
  if not shutil.which('mount') or subprocess.run(mount, capture_output=True).returncode:
    pytest.skip('may not mount a tmpfs')
  try:
    for _ in range(2):
      assert runner.here('search', workdir) == 2
      err = capsys.readouterr().err
      assert err.count('\n') == 1 and 'is full (No space left on device); nothing finished is lost; free space and run' in err
      assert len(ledger(workdir)) == 5  # All of them.
    subprocess.run(['mount', '-o', 'remount,size=20m', workdir], check=True)
    known = ledger(workdir)
    assert runner.here('search', workdir) == 0
    assert ledger(workdir)[:len(known)] == known
  finally:
    subprocess.run(['umount', workdir], check=True)

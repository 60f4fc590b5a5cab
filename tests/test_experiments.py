"""The experiments' settings: every file loads, asks for the published candidates, and says what it is, truly."""
import ast
import json
import pathlib
import re
import shlex

import pytest

from enas_jax import cli, spaces, strategies
from enas_jax.config import get_config
from enas_jax.data.augment import from_config
from enas_jax.training.schedule import learning_rates
from enas_jax.types import Task

ROOT = pathlib.Path(__file__).parents[1]
LOGS = ROOT.parent / 'shared' / 'data' / 'egnas' / 'search_logs.json'
EXPERIMENTS = sorted((ROOT / 'experiments').glob('*.py'))
PUBLISHED = [path for path in EXPERIMENTS if path.stem != 'default']
PARTS = ('Paper', 'Expected', 'Cost', 'Command')
# By the first part of a file's name: TFDS name, name in the authors' logs, task, mirrored images, epochs of the final training.
DATA = {
    'cifar10': ('cifar10', 'CIFAR10', Task((32, 32, 3), 10), True, 600),
    'cifar100': ('cifar100', 'CIFAR100', Task((32, 32, 3), 100), True, 600),
    'fashion_mnist': ('fashion_mnist', 'FashionMNIST', Task((28, 28, 1), 10), True, 600),
    'kmnist': ('kmnist', 'KMNIST', Task((28, 28, 1), 10), False, 600),
    'emnist': ('emnist/balanced', 'EMNIST', Task((28, 28, 1), 47), False, 50),
}
# Parameters of ten separable 3 x 3 layers at the cap, counted by hand from the paper's code.
FIRST_PARAMS = {('CIFAR10', 64): 309_450}

# The authors' code. None: by data set, or see QUIRKS.
PINNED = {
    'chain': {'min_depth': 10, 'max_depth': 100, 'min_width': 16, 'max_width': None, 'width_step': 2, 'kernels': (3, 5)},
    'training': {
        'batch_size': 64, 'learning_rate': 0.025, 'momentum': 0.9, 'weight_decay': 3e-4, 'clip_norm': 5.0,
        'decay': 'epoch_cosine', 'warmup': 0, 'settle': 0, 'nesterov': False, 'label_smoothing': 0,
        'rate_steps_first': None, 'keep_last_batch': None, 'best_epoch': None, 'class_weights': 'equal'},
    'epochs': {'first': 10, 'per_layer': 1, 'per_width_step': 2, 'micro': 2, 'final': None},
    'egnas': {
        'window': 8, 'micro_window': 4, 'depth_gain': 0.001, 'depth_loss': 0.0005, 'depth_failures': 3, 'width_tolerance': 0.0,
        'width_failures': 3, 'target_accuracy': 0.999, 'target_train_accuracy': None, 'parameter_slack': 10_000,
        'epochs_continue': None, 'width_control': None, 'micro_replicates': None, 'micro_margin': None,
        'confidence': 0, 'decide_by': None, 'most_replicates': None, 'grow': False, 'growth_gain': None,
        'kernel_walk': None, 'widen': None, 'depth_step': 1, 'micro_groups': 0},
}
QUIRKS = {  # Sound, paper.
    'training.rate_steps_first': (False, True), 'training.keep_last_batch': (False, True),
    'training.best_epoch': (False, True), 'egnas.epochs_continue': (False, True), 'egnas.width_control': (True, False),
    'egnas.target_train_accuracy': (0.995, 1.0),
    'egnas.micro_replicates': (3, 1), 'egnas.micro_margin': (0.005, 0.0),
}

ids = pytest.mark.parametrize('path', EXPERIMENTS, ids=lambda p: p.stem)
published = pytest.mark.parametrize('path', PUBLISHED, ids=lambda p: p.stem)


@pytest.fixture(scope='module')
def logs():
  if not LOGS.exists():
    pytest.skip('the published logs are not beside the repository (../shared/data/egnas)')
  return {(s['dataset'], s['width_cap']): s for s in json.loads(LOGS.read_text())}


def docstring(path):
  return ast.get_docstring(ast.parse(path.read_text()))


def parts(path):
  """The docstring's parts by name, each on one line."""
  matches = re.findall(rf'^({"|".join(PARTS)}): (.*?)(?=^\w|\Z)', docstring(path), re.MULTILINE | re.DOTALL)
  return {name: ' '.join(text.split()) for name, text in matches}


def about(path):
  """Data set, width cap and protocol that a file's name tells."""
  return re.fullmatch(r'(\w+)_cap(\d+)_(paper|sound)', path.stem).groups()


def first_requests(path):
  config = cli.load_config(str(path))
  config.egnas.window = 8
  task = DATA[about(path)[0]][2]
  space = spaces.make(config)
  strategy = strategies.make(config, space, task)
  requests, _ = strategy.ask(strategy.init(config.seed))
  return requests, space, task


def test_every_result_has_its_file():
  names = {f'{data}_cap{cap}_{protocol}' for data in DATA for cap in (64, 128) for protocol in ('paper', 'sound')}
  assert {path.stem for path in EXPERIMENTS} == {*names, 'default'}


@ids
def test_docstring_has_its_parts(path):
  found = parts(path)
  assert tuple(found) == PARTS
  assert all(found.values())


@ids
def test_command_runs_the_file_itself(path, monkeypatch):
  """From the repository's root, as written."""
  python, module_flag, module, *arguments = shlex.split(parts(path)['Command'])
  assert (python, module_flag, module) == ('python', '-m', 'enas_jax.search')
  assert arguments == [f'--config=experiments/{path.name}', f'--workdir=runs/{path.stem}']
  monkeypatch.chdir(ROOT)
  seen = []
  with pytest.raises(SystemExit) as ended:
    cli.run(seen.append, argv=['search', *arguments])
  assert not ended.value.code
  assert seen[0].config.to_dict() == cli.load_config(str(path)).to_dict()


def test_loads_from_any_folder(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  for path in EXPERIMENTS:
    cli.load_config(str(path))


def test_default_is_the_default():
  assert cli.load_config(str(ROOT / 'experiments/default.py')).to_dict() == get_config().to_dict()


@published
def test_data_set(path):
  name, cap, protocol = about(path)
  tfds_name, _, task, flip, final = DATA[name]
  config = cli.load_config(str(path))
  augmentation = from_config(config.data.augmentation, config.data.name, task.image_shape)
  assert (config.data.name, config.chain.max_width, config.epochs.final) == (tfds_name, int(cap), final)
  assert (augmentation.flip, augmentation.crop_padding, augmentation.cutout) == (flip, 4, 16)
  cropped = 32 if protocol == 'paper' else task.image_shape[0]
  assert augmentation.output_shape(task.image_shape) == (cropped, cropped, task.image_shape[2])


@published
def test_first_candidates(path, logs):
  name, cap, _ = about(path)
  requests, space, task = first_requests(path)
  key = DATA[name][1], int(cap)
  assert [r.architecture.depth for r in requests] == list(range(10, 18))
  if key in FIRST_PARAMS:
    assert space.num_params(requests[0].architecture, task) == FIRST_PARAMS[key]
  if key not in logs:
    pytest.skip('the authors released no candidates of this search')
  for request, logged in zip(requests, logs[key]['candidates'], strict=False):
    network = request.architecture
    assert request.phase == logged['phase'] == 'depth'
    assert (network.depth, network.width, request.schedule.epochs) == (logged['depth'], logged['width'], logged['epochs'])
    for values, name in ((network.operations, 'operations'), (network.kernels, 'kernels')):
      assert ''.join(map(str, values)) == logged[name]
    assert space.num_params(network, task) == round(1e6 * logged['params_M'])


@published
def test_expectation_is_what_the_authors_logged(path, logs):
  name, cap, protocol = about(path)
  search = logs.get((DATA[name][1], int(cap)))
  if search is None:
    pytest.skip('the authors released no candidates of this search')
  found = parts(path)
  assert f"depth {search['final_depth']}, width {search['final_width']}" in found['Expected']
  assert f"{len(search['candidates'])} networks" in found['Cost']
  assert f"{sum(c['epochs'] for c in search['candidates'])} epochs" in found['Cost']
  assert f"{search['search_seconds'] / 3600:.2f} h" in found['Cost']
  if protocol == 'paper':
    flips = search['final_operations'], search['final_kernels']
    convolutions, kernels = ([i for i, c in enumerate(digits) if c == other] for digits, other in zip(flips, '15', strict=True))
    listed = re.search(r'Then (.*?) and (.*?) \(counted from 0\)', found['Expected'])
    assert [int(x) for x in re.findall(r'\d+', listed[1])] == convolutions
    assert [int(x) for x in re.findall(r'\d+', listed[2].replace('5x5', ''))] == kernels


@pytest.mark.parametrize(('protocol', 'rates'), [('paper', [0.0125, 0.0]), ('sound', [0.025, 0.0125])])
def test_rates_of_a_micro_candidate(protocol, rates):
  """The published schedule steps before each epoch, so a two-epoch candidate trains in the first alone."""
  config = cli.load_config(str(ROOT / f'experiments/cifar10_cap64_{protocol}.py'))
  schedule = strategies.Schedules.from_config(config, spaces.make(config)).of_micro()
  assert [learning_rates(schedule, epoch, 1)[0] for epoch in range(schedule.epochs)] == pytest.approx(rates)


@published
def test_no_constant_comes_from_the_defaults(path):
  """The small default search may be tuned; a published result must not follow."""
  config = cli.load_config(str(path)).to_dict()
  assert {name: config[name].keys() for name in PINNED} == {name: value.keys() for name, value in PINNED.items()}
  for group, values in PINNED.items():
    for name, value in values.items():
      quirk = QUIRKS.get(f'{group}.{name}')
      wanted = quirk[about(path)[2] == 'paper'] if quirk else value
      assert wanted is None or config[group][name] == wanted, (group, name)


@published
def test_who_sees_the_test_set(path):
  config = cli.load_config(str(path))
  published = about(path)[2] == 'paper'
  assert config.data.score_on_test == config.data.published_statistics == published
  assert config.data.validation_share == 0.1

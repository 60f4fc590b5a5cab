"""The front door: what `import enas_jax` costs and lists, and a search from Python."""
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from support.run_records import image_part, ledger, read, same_run

import enas_jax
from enas_jax import data

pytest_plugins = ['support.search_fixtures']

TABLE = {'space': 'nasbench201', 'estimator': 'table', 'epochs.first': 200, 'strategy': 'random', 'budget.evaluations': 40}
README = (pathlib.Path(__file__).parents[1] / 'README.md').read_text()
README_TRAINED, README_TABLE = re.findall(r'```python\n(import enas_jax\n\nresult = .*?)```', README, re.DOTALL)
README_SETTINGS = "{'strategy': 'random', 'budget.evaluations': 8}"


@pytest.fixture
def tiny(runner):
  """Settings of a search of two candidates."""
  settings = runner.settings(**{'strategy': 'random', 'budget.evaluations': 2, 'random.batch': 1, 'epochs.final': 1})
  del settings['data.name']
  return settings


def python(code):
  done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  return done.stdout


def arrays(count=200):
  images, labels = image_part(count, np.random.default_rng(0))
  return images, labels


@pytest.mark.smoke
def test_importing_it_is_quick():
  """Under 0.1 s, the least of three: what takes long is imported when it is asked for."""
  code = '''
import time, sys
start = time.perf_counter()
import enas_jax
print(time.perf_counter() - start)
assert not {'jax', 'numpy', 'ml_collections', 'absl'} & set(sys.modules)
'''
  assert min(float(python(code)) for _ in range(3)) < 0.1


@pytest.mark.smoke
def test_all_that_is_listed_is_there_and_nothing_else_is_promised():
  assert dir(enas_jax) == sorted(enas_jax.__all__) == sorted(set(enas_jax.__all__))
  for name in enas_jax.__all__:
    assert getattr(enas_jax, name) is not None
  with pytest.raises(AttributeError, match="module 'enas_jax' has no attribute 'serach'"):
    enas_jax.serach  # noqa: B018


def test_run_stays_a_function_whatever_is_imported():
  assert python('import enas_jax, enas_jax.api, enas_jax.search\nprint(callable(enas_jax.run))') == 'True\n'


def test_settings_and_strategies_bring_no_jax_along():
  code = '''
import sys
from enas_jax import cli, estimators, get_config, loop, plugins, spaces, strategies, tables
from enas_jax.compare import __main__
config = get_config()
config.update(space='nasbench201', estimator='table')
config.epochs.first = 200
estimators.make(config, spaces.make(config))
assert 'jax' not in sys.modules
'''
  python(code)


def test_a_search_on_a_table_reads_no_images_and_trains_nothing(monkeypatch):
  monkeypatch.setattr(data, 'load', None)
  result = enas_jax.run(TABLE, train=False, progress=False)
  assert len(result.history) == 40 and result.front == [] and result.workdir is None
  assert result.accuracy == max(evaluation.accuracy for _, evaluation in result.history)
  assert result.record['architecture'] == result.architecture.to_json() and result.record['evaluations'] == 40
  with pytest.raises(enas_jax.UserError, match='the network was not trained; run with train=True'):
    _ = result.model


def test_several_objectives_give_a_front():
  result = enas_jax.run(
      {**TABLE, 'strategy': 'nsga2', 'nsga2.objectives': ('accuracy', 'latency_ms/raspi4')}, train=False, progress=False)
  assert len(result.front) > 1 and all({'accuracy', 'latency_ms/raspi4'} <= set(record) for record in result.front)


@pytest.mark.parametrize('given', ['two arrays', 'four arrays', 'a data set', 'a name'])
def test_a_trained_search_on_data_of_every_kind(runner, tiny, capsys, given):
  images, labels = arrays()
  test_images, test_labels = arrays(60)
  known = {'two arrays': (images, labels), 'four arrays': (images, labels, test_images, test_labels),
           'a data set': data.load(f'npz:{runner.images}'), 'a name': f'npz:{runner.images}'}
  with runner.compiled_once():
    result = enas_jax.run(tiny, data=known[given], progress=given == 'a name')
  assert len(result.history) == 2 and result.model.architecture == result.architecture
  assert result.accuracy == result.record['test_accuracy'] and result.model.predict(test_images).shape == (60,)
  out, err = capsys.readouterr()
  assert not err and bool(out) == (given == 'a name')


def test_with_a_folder_it_is_the_commands_run_and_resumes(runner, tiny, tmp_path):
  config = runner.config(**{**tiny, 'data.name': f'npz:{runner.images}'})
  assert runner.here('search', tmp_path / 'a', **tiny) == 0
  with runner.compiled_once():
    first = enas_jax.run(config, workdir=tmp_path / 'b', train=False, progress=False)
    assert len(ledger(tmp_path / 'b')) == 2 and not (tmp_path / 'b' / 'result.json').exists()
    second = enas_jax.run(config, workdir=tmp_path / 'b', progress=False)
    third = enas_jax.run(config, workdir=tmp_path / 'b', progress=False)
  same_run(tmp_path / 'a', tmp_path / 'b')
  assert first.history == second.history == third.history
  assert second.record == third.record == read(tmp_path / 'b', 'result.json')
  assert third.model.architecture == first.architecture and third.workdir == tmp_path / 'b'


@pytest.mark.parametrize(('settings', 'given', 'message'), [
    ({'seeed': 1}, {}, 'unknown setting config.seeed; did you mean config.seed?'),
    ({'seed': 'one'}, {}, "config.seed 'one' is not a whole number"),
    ({'strategy': 'annealing'}, {'data': arrays()}, "config.strategy 'annealing' is unknown"),
    ({}, {'data': arrays()[:1]}, 'data: 1 arrays; give (images, labels)'),
    ({}, {'data': (arrays()[0] / 255, arrays()[1])}, 'images is float64; pass uint8 pixels of 0 to 255'),
    ({}, {'data': (arrays()[0], arrays()[1][:5])}, 'labels has 5 labels for 200 images'),
    ({}, {'data': 'cifar11'}, 'no data set of this name'),
])
def test_what_is_refused(user_error, settings, given, message):
  with user_error(message):
    enas_jax.run(settings, progress=False, **given)


def test_a_config_that_lacks_a_field(user_error):
  config = enas_jax.get_config()
  del config.seed
  with user_error('settings: field seed is missing; start from enas_jax.config.get_config()'):
    enas_jax.run(config)


@pytest.mark.once
@pytest.mark.slow  # A process of its own compiles: ten seconds and more.
def test_devices_are_the_cores_unless_jax_runs_already(tiny):
  code = f'''
import sys
import jax
BEFORE
import numpy as np
sys.path.insert(0, {str(__file__.rpartition('/')[0])!r})
from support.run_records import image_part
import enas_jax
enas_jax.run({tiny}, data=image_part(200, np.random.default_rng(0)), train=False)
'''
  clean = 'import os\nos.environ.pop("JAX_NUM_CPU_DEVICES", None)\nos.environ.pop("XLA_FLAGS", None)\n'
  cores = enas_jax.machine.usable_cores()
  assert f'{cores} CPU device' in python(clean + code.replace('BEFORE', ''))
  late = python(clean + code.replace('BEFORE', 'jax.devices()'))
  said = f'has 1 CPU device, so candidates train on 1 of {cores} cores; call enas_jax.run before other JAX code'
  assert '1 CPU device trains' in late and (said in late) == (cores > 1)


def test_statements_that_the_readme_shows(runner, tiny):
  """At most three for a trained search, and four for one on a table."""
  for text, most in ((README_TRAINED, 3), (README_TABLE, 4)):
    assert len(re.findall(r'^\w', text, re.MULTILINE)) <= most
  images, labels = arrays()
  names = {'images': images, 'labels': labels}
  with runner.compiled_once():
    exec(README_TRAINED.replace(README_SETTINGS, repr(tiny)), names)
  assert names['predicted'].shape == labels.shape
  exec(README_TABLE, names)
  assert names['result'].accuracy > 0.85


def test_a_budget_too_small_for_a_decision_is_told(capsys):
  table = {**TABLE, 'strategy': 'regularized_evolution'}
  enas_jax.run({**table, 'budget.evaluations': 5}, train=False)
  assert 'evolution: all 5 are drawn at random, since it begins with 50 such; raise the budget' in capsys.readouterr().out
  enas_jax.run({**table, 'budget.evaluations': 51}, train=False)
  assert 'drawn at random' not in capsys.readouterr().out

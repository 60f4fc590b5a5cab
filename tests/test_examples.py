"""The examples run as they say, as scripts and as plugins."""
import pathlib
import subprocess
import sys

import pytest
from support.run_records import read, write_images

EXAMPLES = pathlib.Path(__file__).parents[1] / 'examples'


def python(*arguments):
  done = subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True)
  assert done.returncode == 0 and not done.stderr, done.stderr
  return done.stdout


@pytest.mark.slow  # Two of them train: ten seconds and more.
@pytest.mark.once
@pytest.mark.parametrize(('name', 'expected'), [
    ('search_from_python', ['best of 192 cells: ', '% of all images right', '% after 1 epoch']),
    ('own_strategy', ['5 at random first: ', '50 at random first: ']),
    ('own_space', ['3. random: TwoBlocks(kernels=', '% of the test images right']),
])
def test_as_a_script(name, expected):
  out = python(EXAMPLES / f'{name}.py')
  assert all(text in out for text in expected)


def test_every_example_is_run():
  assert {file.stem for file in EXAMPLES.glob('*.py')} == {'search_from_python', 'own_strategy', 'own_space'}


def test_the_strategy_as_a_plugin_beside_others_on_a_table(tmp_path):
  python('-m', 'enas_jax.compare', f"--plugin={EXAMPLES / 'own_strategy.py'}", '--strategies=random,hill_climbing',
         f"--workdir={tmp_path / 'w'}", '--queries=30', '--trials=2', '--config.hill_climbing.initial=5')
  summary = read(tmp_path / 'w', 'compare.json')['summary']
  assert [(record['strategy'], record['trials'], record['queries']) for record in summary] == [
      ('random', 2, 30), ('hill_climbing', 2, 30)]


@pytest.mark.slow
@pytest.mark.parametrize('strategy', ['random', pytest.param('regularized_evolution', marks=pytest.mark.once)])
def test_the_space_as_a_plugin_of_the_main_command(tmp_path, strategy):
  settings = {'space': 'two_blocks', 'strategy': strategy, 'two_blocks.channels': 4, 'budget.evaluations': 2,
              'training.batch_size': 32, 'epochs.first': 1, 'epochs.final': 1,
              'data.name': f"npz:{write_images(tmp_path / 'images.npz')}"}
  python('-m', 'enas_jax.search', f"--plugin={EXAMPLES / 'own_space.py'}", f"--workdir={tmp_path / 'w'}",
         *(f'--config.{name}={value}' for name, value in settings.items()))
  assert read(tmp_path / 'w', 'result.json')['architecture']['channels'] == 4

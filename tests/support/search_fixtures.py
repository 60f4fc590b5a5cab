"""Fixtures: a search so small that it takes seconds, 8 x 8 images of four classes and networks of depth 3."""
import contextlib
import os
import subprocess
import sys
from unittest import mock

import pytest

from enas_jax import cli, get_config, search, train
from enas_jax.training import single, slots_engine
from support.compiled_once import compiled_once
from support.run_records import write_images

SETTINGS = {  # Every setting that matters here, whatever the defaults are.
    'training.batch_size': 32, 'training.learning_rate': 0.1,
    'chain.min_depth': 3, 'chain.max_depth': 3, 'chain.min_width': 1, 'chain.max_width': 2, 'chain.width_step': 1,
    'chain.kernels': (3,),  # Two kernels are twice the branches to compile; the main command has them, in .ci/run.
    'epochs.first': 1, 'epochs.per_layer': 0, 'epochs.per_width_step': 0, 'epochs.micro': 1, 'epochs.final': 6,
    'egnas.window': 1, 'egnas.micro_window': 1, 'egnas.width_control': True,
    'egnas.micro_replicates': 1, 'egnas.parameter_slack': 10_000,
    'evolution.population': 2, 'evolution.tournament': 2, 'evolution.batch': 2, 'random.batch': 2, 'budget.evaluations': 4,
    'egnas.confidence': 0.0, 'egnas.grow': False, 'egnas.depth_step': 1, 'egnas.micro_groups': 0, 'control': False,
}
COMMANDS = {'search': (search.main, None), 'train': (train.main, train._define_flags)}


@pytest.fixture(scope='session')
def images(tmp_path_factory):
  """The path of 200 training and 60 test images."""
  return write_images(tmp_path_factory.mktemp('images') / 'images.npz')


class Runner:
  """Runs the commands on the small search, in this process or in one of their own."""

  def __init__(self, images):
    self.images, self._program = images, compiled_once()

  def settings(self, **changes):
    """As `SETTINGS`, with these changed."""
    return {**SETTINGS, 'data.name': f'npz:{self.images}', **changes}

  def config(self, **changes):
    """The settings as a command's config."""
    config = get_config()
    config.update_from_flattened_dict(self.settings(**changes))
    return config

  def arguments(self, workdir, *more, **changes):
    """The command line. `more` are flags beside the settings."""
    return [f'--workdir={workdir}', *(f'--config.{name}={value}' for name, value in self.settings(**changes).items()), *more]

  def start(self, command, workdir, *more, devices=1, **changes):
    """The command as a process of its own, its output to be read line by line.

    One device, as in this process: programs for several are others, to be compiled anew.
    """
    return subprocess.Popen(
        [sys.executable, '-m', f'enas_jax.{command}', *self.arguments(workdir, *more, **changes)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, 'JAX_NUM_CPU_DEVICES': str(devices)})

  def process(self, command, workdir, *more, **changes):
    """The command as a process of its own, to its end: its output."""
    process = self.start(command, workdir, *more, **changes)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0 and not err, err
    return out

  def here(self, command, workdir, *more, **changes):
    """The command in this process: its exit code."""
    main, define_flags = COMMANDS[command]
    with self.compiled_once(), pytest.raises(SystemExit) as ended:
      cli.run(main, define_flags=define_flags, argv=[command, *self.arguments(workdir, *more, **changes)])
    return ended.value.code or 0

  @contextlib.contextmanager
  def compiled_once(self):
    """Within, programs that are compiled already are taken again."""
    with contextlib.ExitStack() as stack:
      for module in (single, slots_engine):
        stack.enter_context(mock.patch.object(module, 'PopulationProgram', self._program))
      yield


@pytest.fixture(scope='session')
def runner(images):
  return Runner(images)


@pytest.fixture(scope='session')
def undisturbed(runner, tmp_path_factory):
  """The workdir of a search that ran to its end in one go. Not to be changed: copy it."""
  workdir = tmp_path_factory.mktemp('undisturbed') / 'w'
  runner.process('search', workdir)
  return workdir

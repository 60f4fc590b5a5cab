"""Trains one architecture to the end and hands over the network: the last act of a search, or a command of its own.

    python -m enas_jax.train --architecture=FILE --workdir=DIR [--config=FILE.py] [--config.FIELD=VALUE]
"""
from __future__ import annotations

import math
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from absl import flags
from flax import nnx
from ml_collections import ConfigDict

from enas_jax import cli, data, paths, spaces
from enas_jax.checkpoint import Checkpoints
from enas_jax.data import Dataset
from enas_jax.errors import Stopped, UserError
from enas_jax.estimators import Execution, execution, family_of, training_data
from enas_jax.in_training import InTraining
from enas_jax.model import Model, load, read_architecture
from enas_jax.networks import build
from enas_jax.progress import Progress
from enas_jax.registry import call
from enas_jax.spaces import SearchSpace
from enas_jax.training.memory import limit_bytes, shortage
from enas_jax.training.single import SingleTraining, single_training
from enas_jax.training.state import Snapshot
from enas_jax.types import Architecture, Request, Schedule, Task
from enas_jax.workdir import Folder, Workdir, parse_json

SHOWN = ('test_accuracy', 'params', 'macs')  # Of a result: it is damaged without.


def fit(architecture: Architecture, config: ConfigDict, dataset: Dataset, folder: Folder, progress: Progress, *,
        execution: Execution, should_stop: Callable[[], bool], on_save: Callable[[], None] = lambda: None) -> dict[str, Any]:
  """Trains on the whole training part, resuming from the last checkpoint, and saves architecture.json and the network.

  The test part is used once, after the last epoch; with `config.training.best_epoch` (the paper's protocol) after each.
  `on_save` is called after each checkpoint.

  Returns:
    Accuracies as fractions, loss, params, macs, seconds and the curve, ready for result.json.

  Raises:
    Stopped: told to stop; a checkpoint was written.
    UserError: bad settings, or the training diverged.
  """
  check_seed(config.seed)
  space = spaces.make(config, architecture.to_json()['space'])  # Its own: an architecture from elsewhere may be of another.
  request, memory_limit = final_request(architecture, config), limit_bytes(config.memory_limit_gb)
  every_epoch = request.schedule.best_epoch
  started = time.monotonic()
  part = training_data(config, dataset, dataset.train, dataset.test)
  network = single_training(request, part, execution, family_of(config, space, part))
  folder.write_json('architecture.json', architecture.to_json())
  if reason := shortage(network.memory_bytes, memory_limit):
    raise UserError(f'final training is out of memory: {reason}; {_elsewhere(folder, "batch_size")}')
  with Checkpoints(folder.path / 'checkpoints', request.key, progress.note) as checkpoints:
    state, record = _restore(checkpoints, network)
    started -= record['seconds']
    for snapshot, epoch in network.train(seed=config.seed, start=state, score=every_epoch, should_stop=should_stop):
      if epoch is not None:
        if not np.isfinite(epoch.loss):
          reason = f'loss {epoch.loss} in epoch {snapshot.epoch}'
          raise UserError(f'final training diverged: {reason}; {_elsewhere(folder, "learning_rate")}')
        record['loss'].append(epoch.loss)
        record['train_accuracy'].append(epoch.train_accuracy)
        record['test_accuracy'] += [] if np.isnan(epoch.score) else [epoch.score]
        progress.left((time.monotonic() - started) / snapshot.epoch * (request.schedule.epochs - snapshot.epoch))
        progress.training(snapshot.epoch, request.schedule.epochs, epoch.train_accuracy, epoch.loss)
      record['seconds'] = time.monotonic() - started
      _save(checkpoints, snapshot, record, len(dataset.train.labels))
      on_save()
      if epoch is None or should_stop():
        raise Stopped
      state = snapshot
  assert state is not None  # There is an epoch at least.
  mean, std = (np.asarray(x) for x in (part.arrays.mean, part.arrays.std))
  model = Model(architecture, network.network(state.state), dataset.task, mean, std, dataset.class_names)
  model.save(folder.path)
  record['seconds'] = time.monotonic() - started
  return {
      'seed': config.seed,
      'architecture': architecture.to_json(),
      'test_accuracy': record['test_accuracy'][-1],
      **({'best_epoch_test_accuracy': max(record['test_accuracy'])} if every_epoch else {}),
      **by_class(model.predict(dataset.test.images), dataset),
      'train_accuracy': record['train_accuracy'][-1],
      'train_loss': record['loss'][-1],
      'params': space.num_params(architecture, dataset.task),
      'macs': space.macs(architecture, dataset.task),
      'epochs': request.schedule.epochs,
      'seconds': record['seconds'],
      'curve': {name: record[name] for name in ('loss', 'train_accuracy', 'test_accuracy')},
  }


def by_class(predicted: np.ndarray, dataset: Dataset) -> dict[str, Any]:
  """Returns what an accuracy does not tell of predictions [N] for the test part.

  `recall` is the share of a class's images that are predicted as it, by class, None where it has none; `balanced_accuracy` is
  its mean; `confusion` counts images, a row for each true class and a column for each predicted one.
  """
  classes = len(dataset.class_names)
  confusion = np.zeros((classes, classes), np.int64)  # scikit-learn takes 1.4 s to import.
  np.add.at(confusion, (dataset.test.labels, predicted), 1)
  recall = [float(row[i] / row.sum()) if row.any() else None for i, row in enumerate(confusion)]
  return {
      'balanced_accuracy': float(np.mean([share for share in recall if share is not None])),
      'recall': recall,
      'confusion': confusion.tolist(),
  }


def fit_watched(architecture: Architecture, config: ConfigDict, dataset: Dataset, folder: Folder, progress: Progress, *,
                in_training: InTraining, execution: Execution, should_stop: Callable[[], bool]) -> dict[str, Any]:
  """Trains as `fit` does, with a mark of it, alone.

  Raises:
    As `fit`; UserError, too, for a training that has killed the process before.
  """
  request = check_verdict(architecture, config, folder, in_training)
  in_training.begin([request], alone=in_training.suspects(request))
  return fit(architecture, config, dataset, folder, progress, execution=execution, should_stop=should_stop,
             on_save=lambda: in_training.went_on(request))


def check_verdict(architecture: Architecture, config: ConfigDict, folder: Folder, in_training: InTraining) -> Request:
  """Returns the request of the final training. Raises UserError if it has killed the process before."""
  request = final_request(architecture, config)
  if reason := in_training.verdict(request):
    raise UserError(f'the final training of {architecture} {reason}; give the process more memory and delete '
                    f'{in_training.path}, or {_elsewhere(folder, "batch_size")}')
  return request


def final_request(architecture: Architecture, config: ConfigDict) -> Request:
  """The last training of a search: its winner under `config.training` and `config.epochs.final`."""
  if config.epochs.final < 1:
    raise UserError(f'config.epochs.final {config.epochs.final} is below 1; give at least 1')
  return Request(architecture, Schedule(epochs=config.epochs.final, **config.training.to_dict()), phase='final')


def check_network(space: SearchSpace[Any], task: Task) -> None:
  """Checks that the members of a space can be trained: they have a network, and of a user's space it is as large as it says.

  The networks of the package's own spaces are held against their formulas by tests, which can take half a minute.

  Raises:
    UserError: there is none, it cannot be built, or it has another number of parameters.
  """
  member = space.sample(np.random.default_rng(0))
  kind, owner = type(member), spaces.SPACES.owner(space.name)
  if build.dispatch(kind) is build.dispatch(object):
    raise UserError(f'{owner}: no network is registered for {kind.__name__}; give one by '
                    f'enas_jax.networks.build.register({kind.__name__}, builder)')
  if spaces.SPACES[space.name].source.startswith('enas_jax.'):
    return
  network: Any = call(f'{owner}: the network of {member!r}', kind, nnx.eval_shape,
                      lambda: build(member, task=task, key=jax.random.key(0)))
  if not isinstance(network, nnx.Module):
    raise UserError(f'{owner}: the builder of {kind.__name__} returned {network!r}; return an nnx.Module')
  counted = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(nnx.state(network, nnx.Param)))
  told = call(f'{owner}: {type(space).__name__}.num_params', type(space), space.num_params, member, task)
  if told != counted:
    raise UserError(f'{owner}: {type(space).__name__}.num_params gives {told!r} for {member!r}, whose network has {counted}; '
                    'mend one of them')


def _elsewhere(folder: Folder, setting: str) -> str:
  """The way out where the winner is found but cannot be trained under this workdir's settings."""
  return (f'train {folder.path}/architecture.json with python -m enas_jax.train, another --workdir and a lower '
          f'--config.training.{setting}')


def check_seed(seed: int) -> None:
  """Raises UserError for a seed that a random generator would refuse, or take for another one."""
  if not 0 <= seed < 2**32:
    raise UserError(f'config.seed {seed} is outside 0 to {2**32 - 1}; give one within')


def finished(folder: Folder, progress: Progress) -> dict[str, Any] | None:
  """The record of result.json, which is written last, if the network beside it can be loaded. Else None: finish the run."""
  result = folder.read_json('result.json', damaged=progress.note)
  if result is None:
    return None
  if not isinstance(result, dict) or not all(isinstance(result.get(name), (int, float)) for name in SHOWN):
    progress.note(f'{folder.path}/result.json is damaged (not with {", ".join(SHOWN)}) and is made again')
    return None
  try:
    load(folder.path)
  except UserError as error:
    progress.note(f'the network cannot be loaded and is made again: {error}')
    return None
  return result


def _restore(checkpoints: Checkpoints, network: SingleTraining) -> tuple[Snapshot | None, dict[str, Any]]:
  if (found := checkpoints.restore((network.state_shape, network.new_tally()))) is None:
    return None, {'loss': [], 'train_accuracy': [], 'test_accuracy': [], 'seconds': 0.0}
  (state, tally), record = found
  return Snapshot(state, tally, record.pop('epoch'), record.pop('step')), record


def _save(checkpoints: Checkpoints, snapshot: Snapshot, record: dict[str, Any], train_size: int) -> None:
  index = snapshot.epoch * train_size + snapshot.step  # Rises with every step.
  checkpoints.save(index, (snapshot.state, snapshot.tally), {**record, 'epoch': snapshot.epoch, 'step': snapshot.step})


def main(values: flags.FlagValues) -> None:
  """Trains one architecture and saves the network.

  The architecture is a search's architecture.json, or one written by hand in the same form. The folder then holds
  config.json, checkpoints/, result.json and the network, for enas_jax.load(DIR). The same command resumes.
  """
  with Progress() as progress:
    dataset = data.load(values.config.data.name, data_dir=values.data_dir, note=progress.note)
    architecture = _read(pathlib.Path(values.architecture))
    with Workdir.open(values.workdir, values.config, data_checksum=dataset.checksum, data=data.record(dataset)) as workdir, \
         cli.stop_on_sigterm() as stop:
      for notice in filter(None, (data.describe(dataset), workdir.notice)):
        progress.note(notice)
      if workdir.ledger.exists():
        raise UserError(f'workdir {workdir.path} is that of a search; choose another --workdir')
      stored = workdir.read_json('architecture.json')
      if stored is not None and stored != architecture.to_json():
        raise UserError(f'workdir {workdir.path} trains another architecture; choose another --workdir')
      if (result := finished(workdir, progress)) is None:
        progress.start()
        progress.phase(f'training of one network: {architecture}')
        how = execution(values.config.precision, workdir.path, **cli.execution_flags(values))
        with InTraining(workdir, progress.note) as in_training:
          result = fit_watched(architecture, values.config, dataset, workdir, progress, in_training=in_training,
                               execution=how, should_stop=lambda: stop.requested)
          workdir.write_json('result.json', result)
      progress.note(f"test accuracy {100 * result['test_accuracy']:.2f} %, {result['params']:,} parameters; "
                    f"the trained network: enas_jax.load('{workdir.path}')")


def _read(path: pathlib.Path) -> Architecture:
  content = paths.content(path, '--architecture=', 'give a JSON file')
  try:
    return read_architecture(parse_json(content))
  except ValueError as error:
    if isinstance(error, UserError):
      raise UserError(f'--architecture={path}: {error}') from error
    raise UserError(f"--architecture={path} is not JSON ({error}); give a file like a search's architecture.json") from error


def _define_flags(values: flags.FlagValues) -> None:
  cli.define_path('architecture', None, 'JSON file of the architecture to train.', required=True, values=values)


if __name__ == '__main__':
  cli.run(main, define_flags=_define_flags)

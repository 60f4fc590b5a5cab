"""A search from Python in one call.

    result = enas_jax.run({'strategy': 'random', 'budget.evaluations': 8})
    result.model.predict(images)
"""
from __future__ import annotations

import contextlib
import dataclasses
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from enas_jax import data as data_
from enas_jax import environment, estimators, fields, machine, paths, plugins, spaces
from enas_jax import model as model_
from enas_jax.config import check, get_config
from enas_jax.data import Dataset
from enas_jax.errors import UserError
from enas_jax.ledger import Ledger
from enas_jax.model import Model
from enas_jax.progress import Progress
from enas_jax.search import checksum, search
from enas_jax.types import Architecture, Evaluation, Request
from enas_jax.workdir import Workdir

Data = str | Dataset | tuple[np.ndarray, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
  """What a search has found.

  Attributes:
    architecture: the best network.
    accuracy: a fraction: of the trained network on the test images; where it was not trained, the score of its candidate.
    history: all candidates in the order in which they were finished: what was asked, and what it was worth.
    front: with several objectives, plain records of the networks that no other one beats in all of them; else empty.
    record: the record of result.json; README.md says what it holds.
    workdir: the folder of the run; None where it was a temporary one.
  """

  architecture: Architecture
  accuracy: float
  history: tuple[tuple[Request, Evaluation], ...] = dataclasses.field(repr=False)
  front: list[dict[str, Any]] = dataclasses.field(repr=False)
  record: dict[str, Any] = dataclasses.field(repr=False)
  workdir: Path | None = None
  _model: Model | None = dataclasses.field(default=None, repr=False)

  @property
  def model(self) -> Model:
    """The trained network. Raises UserError where none was trained."""
    if self._model is not None:
      return self._model
    if self.workdir is None or 'test_accuracy' not in self.record:
      raise UserError('the network was not trained; run with train=True')
    return model_.load(self.workdir)


def run(settings: ConfigDict | Mapping[str, Any] | None = None, *, data: Data | None = None,
        workdir: str | os.PathLike[str] | None = None, train: bool = True, progress: bool | Progress = True) -> Result:
  """Searches a network for images and trains it, as `python -m enas_jax.search` does.

  Args:
    settings: a config, such as `enas_jax.get_config()`, or values by dotted name for the default one, such as
      {'strategy': 'random', 'chain.max_width': 8}.
    data: the name of a data set as in `config.data.name`, a `Dataset`, or arrays: (images, labels), of which a fifth becomes
      the test part, or (train images, train labels, test images, test labels). Images are uint8 [N, H, W] or [N, H, W, C],
      labels integers [N] from 0. `enas_jax.data.from_arrays` makes a `Dataset` that has a validation part, too. None for the
      data set that the settings name.
    workdir: a folder that keeps everything: the same call resumes from it. None for a temporary one. If the process is killed
      while networks train, deaths are counted there: after two each network trains alone, after three more of one it failed.
    train: whether the best network is trained in the end. If not, and candidates are looked up in a table, no images are read.
    progress: whether the search is shown on the standard output, or what shows it.

  Returns:
    The best network, what it is worth, and all candidates.

  Raises:
    UserError: a setting, the data or the folder's path are bad, the folder is another search's, a flag of JAX is set that would
      change results, JAX finds no device, or no candidate succeeded.
  """
  environment.check()
  machine.prepare()
  machine.devices()
  plugins.load_all()
  config = _config(settings)
  kept = None if workdir is None else paths.read(workdir, 'workdir=')
  with contextlib.ExitStack() as stack:
    shown = stack.enter_context(_shown(progress))
    dataset = _dataset(config, data, needed=train or config.estimator != 'table', note=shown.note)
    folder = kept or Path(stack.enter_context(tempfile.TemporaryDirectory()))
    opened = stack.enter_context(Workdir.open(
        folder, config, data_checksum=checksum(config, dataset), data=None if dataset is None else data_.record(dataset)))
    _warn_of_one_device(shown)
    execution = estimators.execution(
        config.precision, folder, compilation_cache='none' if kept is None else 'workdir')
    record = search(config, dataset, opened, shown, execution=execution, train=train)
    space = spaces.make(config)
    history = tuple(Ledger(opened.ledger, space.from_json))
    architecture = space.from_json(record['architecture'])
    return Result(
        architecture=architecture,
        accuracy=record['test_accuracy'] if 'test_accuracy' in record else _score(architecture, history),
        history=history,
        front=record['front'],
        record=record,
        workdir=kept,
        _model=model_.load(folder) if train and kept is None else None)


def _config(settings: ConfigDict | Mapping[str, Any] | None) -> ConfigDict:
  """Returns all settings. Raises UserError for an unknown name, or a value that its setting does not allow."""
  if isinstance(settings, ConfigDict):
    fields.check_fields(settings, get_config(), 'settings')
    config = settings.copy_and_resolve_references()
  else:
    config = fields.changed(get_config(), settings or {})
  check(config)
  return config


def _dataset(config: ConfigDict, data: Data | None, *, needed: bool, note: Callable[[str], None]) -> Dataset | None:
  """Returns the images, and has the config name them. None where they are not needed."""
  if isinstance(data, str):
    config.data.name = data
  elif data is not None:
    dataset = data if isinstance(data, Dataset) else data_.from_arrays(*data)
    config.data.name = dataset.name
    return dataset
  return data_.load(config.data.name, note=note) if needed else None


@contextlib.contextmanager
def _shown(progress: bool | Progress) -> Iterator[Progress]:
  if isinstance(progress, Progress):
    yield progress
  else:
    with Progress() if progress else Progress.silent() as made:
      yield made


def _warn_of_one_device(progress: Progress) -> None:
  """Says that candidates train one after the other where JAX ran before it could be told of the cores."""
  if jax.default_backend() == 'cpu' and jax.device_count() == 1 < machine.usable_cores() and not machine.devices_are_set():
    progress.note(
        f'JAX was in use before this search and has 1 CPU device, so candidates train on 1 of {machine.usable_cores()} cores; '
        'call enas_jax.run before other JAX code, or set JAX_NUM_CPU_DEVICES')


def _score(architecture: Architecture, history: tuple[tuple[Request, Evaluation], ...]) -> float:
  """Returns what a candidate was worth when it was trained longest."""
  known = [(r.schedule.trained_epochs, e.accuracy) for r, e in history if r.architecture == architecture and e.ok]
  return max(known)[1]

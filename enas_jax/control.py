"""What a search was worth: its winner beside a network of the space that nobody searched, trained alike."""
from __future__ import annotations

import concurrent.futures
import dataclasses
import threading
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from enas_jax import settings, spaces
from enas_jax.data import Dataset
from enas_jax.errors import FolderError, Stopped, UserError
from enas_jax.estimators import Execution
from enas_jax.in_training import InTraining
from enas_jax.model import load, read_architecture
from enas_jax.progress import Progress
from enas_jax.spaces import HasMiddle, Limits, SearchSpace, Within
from enas_jax.train import check_verdict, final_request, finished, fit, fit_watched
from enas_jax.types import Architecture, Task
from enas_jax.workdir import Folder, Workdir

FOLDER = 'control'


def unsearched(space: SearchSpace[Any], config: ConfigDict, task: Task) -> Architecture:
  """Returns the control: the middle of the space; where it has none within the limits, what random search draws first."""
  limits = settings.read(Limits, config.limits, 'limits')
  if isinstance(space, HasMiddle) and limits.allow(middle := space.middle(), space, task):
    return middle
  return Within(space, limits, task).sample(np.random.default_rng([config.seed, 0]))


def fit_beside_control(winner: Architecture, config: ConfigDict, dataset: Dataset, workdir: Workdir, progress: Progress, *,
                       in_training: InTraining, execution: Execution, should_stop: Callable[[], bool]) -> dict[str, Any]:
  """Trains the winner as `train.fit` does, and an unsearched network in the same way for comparison.

  On a CPU with several devices the two train at once, each on a core: one network keeps little more than one busy. Elsewhere,
  under a limit on memory, and if the process was killed meanwhile, the control follows. It lies in the folder `control` of the
  work folder, for enas_jax.load.

  Returns:
    The record of `fit`, and under `control` the other network's, with `gain`, the winner's test accuracy less the control's,
    and the gain's `standard_error`, of the choice of the test images alone: a repetition with another seed differs by more.
    Where the control failed it has the `reason`; where it is the winner itself only the gain, 0.

  Raises:
    As `fit`. A control that fails is no error.
  """
  plain = unsearched(spaces.make(config, winner.to_json()['space']), config, dataset.task)
  if plain == winner:
    result = fit_watched(winner, config, dataset, workdir, progress, in_training=in_training, execution=execution,
                         should_stop=should_stop)
    return {**result, 'control': {'architecture': plain.to_json(), 'gain': 0.0, 'standard_error': 0.0}}
  given_up = threading.Event()
  requests = [check_verdict(winner, config, workdir, in_training), final_request(plain, config)]
  at_once = (execution.platform == 'cpu' and len(execution.devices) > 1 and not config.memory_limit_gb
             and not any(map(in_training.suspects, requests)))
  devices = execution.devices[1:2] if at_once else execution.devices

  def control(on_save: Callable[[], None] = lambda: None) -> dict[str, Any]:
    with jax.default_device(devices[0]):
      return _fit_control(
          plain, config, dataset, workdir.part(FOLDER), execution=dataclasses.replace(execution, devices=devices),
          should_stop=lambda: given_up.is_set() or should_stop(), on_save=on_save)

  def control_alone() -> dict[str, Any]:
    request = requests[1]
    if reason := in_training.verdict(request):
      return {'architecture': plain.to_json(), 'reason': reason}
    in_training.begin([request], alone=in_training.suspects(request))
    return control(lambda: in_training.went_on(request))

  in_training.begin(requests if at_once else requests[:1], alone=in_training.suspects(requests[0]))
  with concurrent.futures.ThreadPoolExecutor(1) as pool:
    ahead = pool.submit(control) if at_once else None
    try:
      result = fit(winner, config, dataset, workdir, progress, execution=execution, should_stop=should_stop,
                   on_save=lambda: in_training.went_on(requests[0]))
    except BaseException:
      given_up.set()
      raise
    progress.phase(f'training of an unsearched network, for comparison: {plain}')
    record = ahead.result() if ahead else control_alone()
  if 'reason' not in record:
    record |= _gain(workdir, dataset)
  return {**result, 'control': record}


def describe(control: dict[str, Any]) -> str:
  """Returns one line on what the search gained over its control."""
  network = f"the unsearched network ({read_architecture(control['architecture'])})"
  if 'reason' in control:
    return f"{network} was to be compared and failed: {control['reason']}"
  if 'test_accuracy' not in control:
    return f'the best network is {network}: the search gained nothing over it'
  error = '' if control['standard_error'] is None else f" ± {100 * control['standard_error']:.2f}"
  return (f"{network}, trained alike, has {100 * control['test_accuracy']:.2f} %, {control['params']:,} parameters; "
          f"the search gained {100 * control['gain']:+.2f}{error} points")


def _fit_control(plain: Architecture, config: ConfigDict, dataset: Dataset, folder: Folder, *, execution: Execution,
                 should_stop: Callable[[], bool], on_save: Callable[[], None]) -> dict[str, Any]:
  with Progress.silent() as silent:
    if (known := finished(folder, silent)) is not None:
      return known
    try:
      record = fit(plain, config, dataset, folder, silent, execution=execution, should_stop=should_stop, on_save=on_save)
    except (Stopped, FolderError):
      raise
    except Exception as error:  # Whatever it is, the winner is trained and kept; the reason is recorded.
      text = str(error).strip().partition('\n')[0]
      reason = text if isinstance(error, UserError) else f'{type(error).__name__}: {text}'
      return {'architecture': plain.to_json(), 'reason': reason}
  folder.write_json('result.json', record)
  return record


def _gain(workdir: Workdir, dataset: Dataset) -> dict[str, float | None]:
  """Compares image by image, so that what both find hard does not count as noise. Of one image there is no standard error."""
  images, labels = dataset.test.images, dataset.test.labels
  winner, control = (load(path).predict(images) == labels for path in (workdir.path, workdir.path / FOLDER))
  difference = winner.astype(float) - control
  error = float(difference.std(ddof=1) / len(difference)**0.5) if len(difference) > 1 else None
  return {'gain': float(difference.mean()), 'standard_error': error}

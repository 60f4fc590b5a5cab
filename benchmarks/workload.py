"""The workload of throughput.py: candidates of a real search, scaled to the machine, and images to train them on.

`mixed`: the first 16 candidates of the depth phase and the first 16 of the width phase (there are 12) of EG-NAS's published
CIFAR-10 search with width cap 64: separable chains of depth 10 to 25 at width 64, then of depth 26 at widths 62 to 40. Every
n-th of these is taken, so that depths and widths stay mixed. All train for the same number of steps: what is measured is the
step, not the schedule. With --operation=ordinary their layers are ordinary convolutions instead. Of another --space the
candidates are members at random.
"""
from __future__ import annotations

import ast
import dataclasses
import json
import math
import pathlib
from typing import NamedTuple

import numpy as np

from enas_jax import data, paths, spaces
from enas_jax.data.augment import Augmentation, paper_choice
from enas_jax.errors import UserError
from enas_jax.spaces import ChainArchitecture, ChainSpace
from enas_jax.spaces.base import SearchSpace
from enas_jax.spaces.chain import CONVOLUTION, MIN_DEPTH, SEPARABLE
from enas_jax.types import Architecture, Request, Schedule, Task

LOG = pathlib.Path(__file__).resolve().parents[2] / 'shared' / 'data' / 'egnas' / 'search_logs.json'
PER_PHASE = 16
OPERATIONS = {'separable': SEPARABLE, 'ordinary': CONVOLUTION}  # Of a chain's layers.
CLASSES = 10  # Of the synthetic images.


class Workload(NamedTuple):
  """What every row trains.

  Attributes:
    space: counts parameters and multiply-adds.
    requests: one a candidate; where scaling has made two architectures equal, the later one is another replicate.
    train, score: images: `steps` whole batches, and one batch. Every row scores it once a candidate.
    mean, std: of the training part.
    augmentation: the paper's, in proportion to the image.
    task: what the networks must do.
  """

  space: SearchSpace
  requests: list[Request]
  train: data.ImageSet
  score: data.ImageSet
  mean: np.ndarray
  std: np.ndarray
  augmentation: Augmentation
  task: Task

  @property
  def images(self) -> int:
    """That one candidate trains on."""
    return len(self.train.labels)


def make(settings: dict) -> Workload:
  """The workload of these `settings`, which throughput.py has as flags."""
  schedule = Schedule(epochs=1, batch_size=settings['batch'])
  chains = settings['space'] == 'chain'
  space = None if chains else _space(settings)
  requests = _requests(mixed(settings) if chains else _sampled(space, settings['candidates']), schedule)
  part, task = _images(settings)
  train, score = (data.ImageSet(*(array[rows] for array in part)) for rows in (
      slice(settings['steps'] * settings['batch']), slice(settings['batch'])))
  mean, std = data.statistics(train.images)
  if chains:
    space = _chains(requests)
  return Workload(space, requests, train, score, mean, std, paper_choice(settings['data'], task.image_shape), task)


def _space(settings: dict) -> SearchSpace:
  """The space --space with the settings --set."""
  if settings['space'] not in spaces.SPACES:
    raise UserError(f"--space={settings['space']} is unknown; give one of {', '.join(spaces.SPACES)}")
  values = dict(part.split('=') for part in settings['set'].split(',') if part)
  known = [field.name for field in dataclasses.fields(spaces.SPACES[settings['space']].settings)]
  if unknown := set(values) - set(known):
    has = ', '.join(known) or 'no settings'
    raise UserError(f"--set: {', '.join(sorted(unknown))} is unknown; {settings['space']} has {has}")
  return spaces.SPACES[settings['space']].make(**{name: ast.literal_eval(value) for name, value in values.items()})


def _sampled(space: SearchSpace, count: int) -> list[Architecture]:
  rng = np.random.default_rng(0)
  return [space.sample(rng) for _ in range(count)]


def _chains(requests: list[Request]) -> ChainSpace:
  """The space of these chains."""
  depths, widths = zip(*((r.architecture.depth, r.architecture.width) for r in requests), strict=True)
  step = math.gcd(*(max(widths) - width for width in widths)) or 1
  return ChainSpace(
      min_depth=min(depths), max_depth=max(depths), min_width=min(widths), max_width=max(widths), width_step=step)


def mixed(settings: dict) -> list[ChainArchitecture]:
  """Every n-th of the log's candidates, in its order, scaled."""
  logged = read_log(settings['log'])
  count = settings['candidates']
  if not 1 <= count <= len(logged):
    raise UserError(f'--candidates={count} is outside 1 to {len(logged)}')
  return [
      ChainArchitecture.uniform(
          _scaled(c['depth'], settings['depth_scale'], MIN_DEPTH), _scaled(c['width'], settings['width_scale'], 1),
          operation=OPERATIONS[settings['operation']])
      for c in (logged[i * len(logged) // count] for i in range(count))]


def read_log(path: str | None) -> list[dict]:
  """The candidates of both phases. `path`: None for where the project's optional data lies."""
  path = paths.read(path, '--log=') if path else LOG
  try:
    searches = json.loads(path.read_text())
    search = next(s for s in searches if s['dataset'] == 'CIFAR10' and s['width_cap'] == 64)
    depth, width = ([c for c in search['candidates'] if c['phase'] == phase][:PER_PHASE] for phase in ('depth', 'width'))
  except FileNotFoundError:
    raise UserError(f"there is no search log at '{path}'; give --log=FILE, the search_logs.json of EG-NAS's searches") from None
  except (OSError, ValueError, KeyError, TypeError, StopIteration) as error:
    raise UserError(f"'{path}' is not EG-NAS's search_logs.json: {type(error).__name__}; give another --log") from error
  return depth + width


def repeated(requests: list[Request], at_least: int) -> list[Request]:
  """All requests as often as it takes to be `at_least` so many: whole repetitions, so that the mix stays; new replicates."""
  rounds = -(-at_least // len(requests))
  return _requests([r.architecture for r in requests] * rounds, requests[0].schedule)


def _scaled(value: int, scale: float, least: int) -> int:
  return max(least, int(value * scale + 0.5))


def _requests(architectures: list[Architecture], schedule: Schedule) -> list[Request]:
  seen: dict[Architecture, int] = {}
  requests = []
  for architecture in architectures:
    seen[architecture] = seen.get(architecture, -1) + 1
    requests.append(Request(architecture, schedule, replicate=seen[architecture]))
  return requests


def _images(settings: dict) -> tuple[data.ImageSet, Task]:
  """At least the workload's images of `image_size` x `image_size`: random ones, or a data set's, every n-th pixel."""
  needed, size = settings['steps'] * settings['batch'], settings['image_size']
  if settings['data'] == 'synthetic':
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(needed, size, size, 3), dtype=np.uint8)
    return data.ImageSet(images, rng.integers(CLASSES, size=needed, dtype=np.int32)), Task((size, size, 3), CLASSES)
  dataset = data.load(settings['data'], data_dir=settings['data_dir'])
  if len(dataset.train.labels) < needed:
    raise UserError(
        f"data {settings['data']!r}: {len(dataset.train.labels)} training images for {needed}; give fewer --steps or a smaller "
        '--batch')
  images = dataset.train.images[:needed]
  rows, columns = (np.arange(size) * side // size for side in images.shape[1:3])
  images = np.ascontiguousarray(images[:, rows][:, :, columns])
  return data.ImageSet(images, dataset.train.labels[:needed]), Task(images.shape[1:], len(dataset.class_names))

"""Reads the official files of NATS-Bench (arXiv 2009.00437) and NAS-Bench-201 (arXiv 2001.00326) as columns.

What each column is follows the official code (github.com/D-X-Y/NATS-Bench, nats_bench/api_utils.py): accuracies as
`remap_dataset_set_names` and `get_metrics` give them, costs as `get_compute_costs`, all means over the trials.
"""
from __future__ import annotations

import collections
import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from enas_jax.errors import UserError
from enas_jax.tables import safe_pickle

# By data set and split: what the network was trained on, and what it was then evaluated on.
SPLITS = {
    'cifar10': {'valid': ('cifar10-valid', 'x-valid'), 'test': ('cifar10', 'ori-test')},
    'cifar100': {'valid': ('cifar100', 'x-valid'), 'test': ('cifar100', 'x-test')},
    'imagenet16-120': {'valid': ('ImageNet16-120', 'x-valid'), 'test': ('ImageNet16-120', 'x-test')},
}
SIZE_EPOCHS = {'12': 12, '01': 1, '90': 90}
# 12 first: costs come from its records, as in the official code (some of the 200 epochs' are wrong, NATS-Bench issue 36).
TOPOLOGY_EPOCHS: tuple[dict[str, int], ...] = ({'12': 12, '200': 200}, {'less': 12, 'full': 200})  # NATS-Bench, NAS-Bench-201.
NUM_CELLS = 15_625
CELLS = {  # By these the official code checks that the order is its own.
    0: '|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|',
    9: '|avg_pool_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|nor_conv_3x3~2|',
    123: '|avg_pool_3x3~0|+|avg_pool_3x3~0|nor_conv_1x1~1|+|none~0|avg_pool_3x3~1|nor_conv_3x3~2|',
}
CHANNELS = range(8, 65, 8)
GIVE = 'give the unpacked NATS-tss-v1_0-3ffb9-simple or NATS-sss-v1_0-50262-simple, or NAS-Bench-201-v1_1-096897.pth'


def read_nats(path: str | Path) -> dict[str, np.ndarray]:
  """Reads the columns of an official file, rows in the official order. NaN: nothing was measured.

  Args:
    path: the unpacked folder NATS-tss-v1_0-3ffb9-simple or NATS-sss-v1_0-50262-simple; prefer it, as one architecture at a time
      is in memory. Or a whole file, NATS-tss-v1_0-3ffb9.pickle.pbz2, NATS-sss-v1_0-50262.pickle.pbz2 or
      NAS-Bench-201-v1_{0,1}-*.pth, which is in memory at once: up to 30 GB. Either takes minutes.

  Returns:
    `architecture`, the official texts, and as float64, with E in 12, 200 (cells) or 1, 12, 90 (sizes) and for each of cifar10,
    cifar100 and imagenet16-120:
      DATASET/valid/E, DATASET/test/E: accuracy after the last epoch, a fraction. CIFAR-10's validation networks were trained on
        one half of the training set, its test networks on all of it.
      DATASET/train_seconds/E: all epochs of the training that gives the validation accuracy, without evaluations.
      DATASET/params, DATASET/macs: weights; multiply-adds, which the benchmark calls FLOPs.
      DATASET/latency_s: seconds of a batch of 256.
    A column of which the file has no value is left out.

  Raises:
    UserError: the file cannot be read, holds more than plain data, or is of another version.
  """
  path = Path(path)
  if re.search(r'-v\d+_\d+', path.name) and not re.search(r'NATS-[ts]ss-v1_0|NAS-Bench-201-v1_[01]', path.name):
    raise UserError(f'{path}: this version is not known; {GIVE}')
  folder = path.is_dir()
  data = safe_pickle.load(path / 'meta.pickle.pbz2' if folder else path)
  data = data if isinstance(data, dict) else {}
  texts, records = data.get('meta_archs'), None if folder else data.get('arch2infos')
  if not _are_texts(texts) or not (folder or isinstance(records, dict)):
    raise UserError(f'{path}: is no file of NATS-Bench or NAS-Bench-201; {GIVE}')
  if is_cells(texts):
    schedules = TOPOLOGY_EPOCHS
  elif texts == [':'.join(map(str, channels)) for channels in itertools.product(CHANNELS, repeat=5)]:
    schedules = (SIZE_EPOCHS,)
  else:
    raise UserError(f'{path}: its architectures are not those of version 1, or in another order; {GIVE}')
  pairs = records.items() if isinstance(records, dict) else _records(path, len(texts))
  columns = _columns(path, texts, pairs, schedules)
  if not columns:
    raise UserError(f'{path}: holds no architecture; unpack all of it, or {GIVE}')
  return {'architecture': np.array(texts), **columns}


def is_cells(texts: Any) -> bool:
  """Returns whether these are the 15,625 cells of NAS-Bench-201 in the official order, checked as the official code does."""
  return (
      _are_texts(texts) and len(texts) == len(set(texts)) == NUM_CELLS and all(texts[i] == text for i, text in CELLS.items()))


def _are_texts(texts: Any) -> TypeGuard[list[str]]:
  return isinstance(texts, list) and all(isinstance(text, str) for text in texts)


def _records(path: Path, number: int) -> Iterator[tuple[int, Any]]:
  for index in range(number):
    file = path / f'{index:06d}.pickle.pbz2'
    if file.exists():
      yield index, safe_pickle.load(file)


def _columns(
    path: Path, texts: Sequence[str], records: Iterable[tuple[int, Any]],
    schedules: Sequence[Mapping[str, int]]) -> dict[str, np.ndarray]:
  columns: dict[str, np.ndarray] = collections.defaultdict(lambda: np.full(len(texts), np.nan))
  for index, record in records:
    try:
      for name, value in _values(record, index, texts[index], schedules):
        if math.isnan(columns[name][index]):
          columns[name][index] = value
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
      raise UserError(
          f'{path}: architecture {index!r} is not as in version 1 ({type(error).__name__}: {error}); {GIVE}') from error
  return {name: values for name, values in columns.items() if not np.isnan(values).all()}


def _values(record: Any, index: int, text: str, schedules: Sequence[Mapping[str, int]]) -> Iterator[tuple[str, float]]:
  """Yields the columns' values of one architecture, NaN if it has none. Costs come once for each schedule, 12 epochs first."""
  schedule = next((schedule for schedule in schedules if set(schedule) == set(record)), None)
  if schedule is None:
    raise ValueError(f'trainings {list(record)!r}')
  for key, epochs in schedule.items():
    results = record[key]
    if (results['arch_index'], results['arch_str']) != (index, text):
      raise ValueError('a record of another architecture')
    all_results = results['all_results']
    trials = {name: [all_results[name, seed] for seed in seeds] for name, seeds in results['dataset_seed'].items()}
    if any(trial['epochs'] != epochs for group in trials.values() for trial in group):
      raise ValueError(f'a training of other than {epochs} epochs')
    for dataset, splits in SPLITS.items():
      for split, (trained, evaluated) in splits.items():
        accuracies = (trial['eval_acc1es'].get(f'{evaluated}@{epochs - 1}', math.nan) for trial in trials.get(trained, ()))
        yield f'{dataset}/{split}/{epochs}', _mean(accuracies) / 100
      times = (trial['train_times'] for trial in trials.get(splits['valid'][0], ()))
      yield f'{dataset}/train_seconds/{epochs}', _mean(sum(t.values()) if t else math.nan for t in times)
      group = trials.get(splits['test'][0], ())
      yield f'{dataset}/params', _million(group, 'params')
      yield f'{dataset}/macs', _million(group, 'flop')
      latencies = (sum(trial['latency']) / len(trial['latency']) for trial in group if trial['latency'])
      yield f'{dataset}/latency_s', _mean(latency for latency in latencies if latency > 0)


def _million(trials: Sequence[Mapping[str, Any]], field: str) -> float:
  """Returns a count that the file has in millions. If its trials disagree, seed 888 counts, as in the official code."""
  if len({f'{trial[field]:.5f}' for trial in trials}) > 1:
    trials = [trial for trial in trials if int(trial['seed']) == 888]
  millions = _mean(trial[field] for trial in trials)
  return millions if math.isnan(millions) else round(1e6 * millions)


def _mean(values: Iterable[float]) -> float:
  """Returns the mean, which is NaN if there is no value or one is NaN."""
  values = [float(value) for value in values]
  return sum(values) / len(values) if values else math.nan

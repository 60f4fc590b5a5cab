"""Reads the official file of HW-NAS-Bench (arXiv 2103.10584; github.com/GATECH-EIC/HW-NAS-Bench) as columns."""
from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from enas_jax.errors import UserError
from enas_jax.tables import nats_files, safe_pickle

DATASETS = {'cifar10': 'cifar10', 'cifar100': 'cifar100', 'ImageNet16-120': 'imagenet16-120'}
METRICS = (
    'edgegpu_latency', 'edgegpu_energy', 'raspi4_latency', 'edgetpu_latency', 'pixel3_latency', 'eyeriss_latency',
    'eyeriss_energy', 'eyeriss_arithmetic_intensity', 'fpga_latency', 'fpga_energy')
UNITS = {'latency': 'latency_ms', 'energy': 'energy_mj', 'arithmetic_intensity': 'arithmetic_intensity'}
GIVE = 'give HW-NAS-Bench-v1_0.pickle'


def read_hwnasbench(path: str | Path) -> dict[str, np.ndarray]:
  """Reads the cells of NAS-Bench-201 from HW-NAS-Bench-v1_0.pickle, in the official order. NaN: the device cannot run a cell.

  Returns:
    `architecture`, the official texts, and as float64 (DATASET is one of cifar10, cifar100, imagenet16-120):
      DATASET/latency_ms/DEVICE: milliseconds on edgegpu, raspi4, edgetpu, pixel3, eyeriss, fpga.
      DATASET/energy_mj/DEVICE: millijoules on edgegpu, eyeriss, fpga.
      DATASET/arithmetic_intensity/eyeriss: operations a byte.

  Raises:
    UserError: the file cannot be read, holds more than plain data, or is of another version.
  """
  path = Path(path)
  if (version := re.search(r'-v(\d+_\d+)', path.name)) and version[1] != '1_0':
    raise UserError(f'{path}: version {version[1]} is not known; {GIVE}')
  data = safe_pickle.load(path)
  try:
    return dict(_columns(data['nasbench201']))
  except (IndexError, KeyError, TypeError, ValueError) as error:
    raise UserError(f'{path}: is not as in version 1.0 ({type(error).__name__}: {error}); {GIVE}') from error


def _columns(data: Mapping[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
  texts = [[config['arch_str'] for config in data[dataset]['config']] for dataset in DATASETS]
  if not nats_files.is_cells(texts[0]) or any(other != texts[0] for other in texts):
    raise ValueError('not the 15,625 cells, or in another order')
  yield 'architecture', np.array(texts[0])
  for official, dataset in DATASETS.items():
    for metric in METRICS:
      device, _, quantity = metric.partition('_')
      values = np.array([float(value) for value in data[official][metric]])
      if len(values) != len(texts[0]):
        raise ValueError(f'{len(values)} values of {metric}')
      yield f'{dataset}/{UNITS[quantity]}/{device}', np.where(values == -1, np.nan, values)

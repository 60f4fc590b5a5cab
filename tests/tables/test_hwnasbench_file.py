"""The reader of HW-NAS-Bench on files in the official form (hw_nas_bench_api.py), with the published numbers where they are."""
import itertools
import pathlib
import pickle
import random

import numpy as np
import pytest

from enas_jax.tables.hwnasbench_file import METRICS, read_hwnasbench

SHARED = pathlib.Path(__file__).parents[2] / '../shared/data/nasbench/nb201_hardware.npz'
DATASETS = {'cifar10': 'c10', 'cifar100': 'c100', 'ImageNet16-120': 'in16'}
OPERATIONS = ('none', 'skip_connect', 'nor_conv_1x1', 'nor_conv_3x3', 'avg_pool_3x3')
CELLS = [
    f'|{a}~0|+|{b}~0|{c}~1|+|{d}~0|{e}~1|{f}~2|' for a, b, c, d, e, f in itertools.product(OPERATIONS, repeat=6)]
random.Random(88).shuffle(CELLS)
CONFIGS = [{'name': 'infer.tiny', 'C': 16, 'N': 5, 'arch_str': text, 'num_classes': 10} for text in CELLS]
# What the README of HW-NAS-Bench prints for the first cell on CIFAR-10, and our names of it.
README = {
    'edgegpu_latency': 5.807418537139893, 'edgegpu_energy': 24.226614330768584, 'raspi4_latency': 10.481976820010459,
    'edgetpu_latency': 0.9571811309997429, 'pixel3_latency': 3.6058499999999998, 'eyeriss_latency': 3.645620000000001,
    'eyeriss_energy': 0.6872827644999999, 'fpga_latency': 2.57296, 'fpga_energy': 18.01072}
NAMES = {
    'edgegpu_latency': 'latency_ms/edgegpu', 'edgegpu_energy': 'energy_mj/edgegpu', 'raspi4_latency': 'latency_ms/raspi4',
    'edgetpu_latency': 'latency_ms/edgetpu', 'pixel3_latency': 'latency_ms/pixel3', 'eyeriss_latency': 'latency_ms/eyeriss',
    'eyeriss_energy': 'energy_mj/eyeriss', 'eyeriss_arithmetic_intensity': 'arithmetic_intensity/eyeriss',
    'fpga_latency': 'latency_ms/fpga', 'fpga_energy': 'energy_mj/fpga'}


@pytest.fixture
def data():
  """All forms in which a column can come: list of floats, list of NumPy scalars, array."""
  columns = {metric: [0.5 + i] * len(CELLS) for i, metric in enumerate(METRICS)}
  columns['raspi4_latency'] = np.arange(len(CELLS)) / 2
  columns['fpga_energy'] = list(np.arange(100.0, 100 + len(CELLS)))
  columns['edgetpu_latency'][:3] = [-1, -1.0, 0.25]
  return {
      'nasbench201': {dataset: {'config': CONFIGS, **columns} for dataset in DATASETS},
      'fbnet': {'raspi4_latency': {'FC_Cin1504_Cout100': np.float64(0.5)}}}


def write(path, data):
  path.write_bytes(pickle.dumps(data, 3))
  return path


def test_columns(data, tmp_path):
  columns = read_hwnasbench(write(tmp_path / 'HW-NAS-Bench-v1_0.pickle', data))
  assert columns.pop('architecture').tolist() == CELLS
  assert set(columns) == {f'{dataset.lower()}/{name}' for dataset in DATASETS for name in NAMES.values()}
  assert all(type(values) is np.ndarray and values.dtype == np.float64 for values in columns.values())
  assert np.isnan(columns['cifar10/latency_ms/edgetpu'][:2]).all() and columns['cifar10/latency_ms/edgetpu'][2] == 0.25
  assert columns['imagenet16-120/latency_ms/raspi4'][15624] == 7812
  assert columns['cifar100/energy_mj/fpga'][15624] == 15724
  assert columns['cifar10/arithmetic_intensity/eyeriss'][7] == 7.5


def test_published_numbers(tmp_path):
  if not SHARED.exists():
    pytest.skip('needs ../shared/data/nasbench')
  with np.load(SHARED) as table:
    official = {
        dataset: {'config': CONFIGS, **{m: np.nan_to_num(table[f'{short}_{m}'], nan=-1).tolist() for m in METRICS}}
        for dataset, short in DATASETS.items()}
    expected = {f'{dataset.lower()}/{NAMES[m]}': table[f'{short}_{m}'] for dataset, short in DATASETS.items() for m in METRICS}
  columns = read_hwnasbench(write(tmp_path / 'HW-NAS-Bench-v1_0.pickle', {'nasbench201': official, 'fbnet': {}}))
  for name, values in expected.items():
    np.testing.assert_array_equal(columns[name], values)
  assert all(np.isnan(columns[f'{dataset.lower()}/latency_ms/edgetpu']).sum() == 4699 for dataset in DATASETS)
  for metric, value in README.items():
    assert columns[f'cifar10/{NAMES[metric]}'][0] == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize('change, part', [
    (lambda data: data.pop('nasbench201'), 'nasbench201'), (lambda data: data['nasbench201'].pop('cifar100'), 'cifar100'),
    (lambda data: data['nasbench201']['cifar10'].pop('fpga_energy'), 'fpga_energy'),
    (lambda data: data['nasbench201']['cifar10'].pop('config'), 'config'),
    (lambda data: data['nasbench201']['cifar10'].update(fpga_energy=[1.0]), '1 values of fpga_energy'),
    (lambda data: data['nasbench201']['cifar10'].update(fpga_energy=['much'] * 15625), 'much'),
    (lambda data: data['nasbench201']['cifar10'].update(fpga_energy=np.zeros((15625, 2))), 'TypeError'),
    (lambda data: data['nasbench201']['cifar10'].update(config=CONFIGS[::-1]), 'another order'),
    (lambda data: data['nasbench201']['cifar100'].update(config=CONFIGS[::-1]), 'another order'),
    (lambda data: data['nasbench201'].update(cifar10=3), 'TypeError')])
def test_a_file_of_another_form(change, part, data, tmp_path, user_error):
  change(data)
  with user_error('a.pickle', 'not as in version 1.0', part, 'give'):
    read_hwnasbench(write(tmp_path / 'a.pickle', data))


def test_other_files(tmp_path, user_error):
  with user_error('a.pickle', 'not as in version 1.0'):
    read_hwnasbench(write(tmp_path / 'a.pickle', [1]))
  with user_error('HW-NAS-Bench-v2_0.pickle', 'version 2_0 is not known', 'give'):
    read_hwnasbench(tmp_path / 'HW-NAS-Bench-v2_0.pickle')
  with user_error('b.pickle', 'refused'):
    read_hwnasbench(write(tmp_path / 'b.pickle', {'nasbench201': np.array([None])}))

"""The readers of NATS-Bench and NAS-Bench-201 on small files in the official form (`ArchResults.state_dict` of its code)."""
import bz2
import itertools
import pathlib
import pickle
import random
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

from enas_jax.tables import nats_files
from enas_jax.tables.nats_files import read_nats

SHARED = pathlib.Path(__file__).parents[2] / '../shared/data/nasbench/nb201.npz'
OPERATIONS = ('none', 'skip_connect', 'nor_conv_1x1', 'nor_conv_3x3', 'avg_pool_3x3')
CELLS = [
    f'|{a}~0|+|{b}~0|{c}~1|+|{d}~0|{e}~1|{f}~2|' for a, b, c, d, e, f in itertools.product(OPERATIONS, repeat=6)]
random.Random(88).shuffle(CELLS)  # As tss-collect.py of AutoDL-Projects does.
SIZES = [':'.join(map(str, channels)) for channels in itertools.product(range(8, 65, 8), repeat=5)]
EVALUATIONS = {
    'cifar10-valid': ('x-valid', 'ori-test'), 'cifar10': ('ori-test',), 'cifar100': ('ori-test', 'x-valid', 'x-test'),
    'ImageNet16-120': ('ori-test', 'x-valid', 'x-test')}


def trial(dataset, seed, epochs, accuracy, *, old=False, **changes):
  """ResultsCount.state_dict: `accuracy` (percent) on the first evaluation, 1 more on each next one, rising to it by epoch."""
  last = epochs - 1
  accuracies = {  # Old ones were evaluated on one split while they trained, on the others at the end, and not timed.
      f'{name}@{e}': accuracy + i - (last - e) for i, name in enumerate(EVALUATIONS[dataset]) for e in range(epochs)
      if not old or i == 0 or e == last}
  return {
      'name': dataset, 'net_state_dict': None, 'train_acc1es': dict.fromkeys(range(epochs), 99.0), 'train_acc5es': None,
      'train_losses': dict.fromkeys(range(epochs), 0.1),
      'train_times': None if old else OrderedDict.fromkeys(range(epochs), seed / 100),
      'arch_config': {'channel': 16, 'num_cells': 5, 'arch_str': '', 'class_num': 10}, 'params': np.float64(0.344346),
      'flop': 47.10537, 'seed': str(seed), 'epochs': epochs, 'latency': [0.01, 0.03], 'eval_names': list(EVALUATIONS[dataset]),
      'eval_acc1es': accuracies, 'eval_times': {}, 'eval_losses': dict.fromkeys(accuracies, 0.5), **changes}


def results(index, text, trials):
  """ArchResults.state_dict."""
  seeds = {}
  for dataset, seed in trials:
    seeds.setdefault(dataset, []).append(seed)
  return {'arch_index': index, 'arch_str': text, 'all_results': trials, 'dataset_seed': seeds, 'clear_net_done': True}


def record(index, texts, schedules):
  """One architecture: accuracies 70 to 79 by data set, 2 more with every seed, and the number of epochs / 10 more."""
  return OrderedDict(
      (key, results(index, texts[index], {
          (dataset, seed): trial(dataset, seed, epochs, 70 + 3 * i + 2 * j + epochs / 10)
          for i, dataset in enumerate(EVALUATIONS) for j, seed in enumerate(seeds)}))
      for key, (epochs, seeds) in schedules.items())


TOPOLOGY = {'12': (12, [777]), '200': (200, [777, 888])}
SIZE = {'01': (1, [777]), '12': (12, [777]), '90': (90, [777])}


def whole(texts, records):
  return {
      'meta_archs': texts, 'total_archs': len(texts), 'arch2infos': records, 'evaluated_indexes': set(records or ())}


def write(path, value):
  path.write_bytes(bz2.compress(pickle.dumps(value, 4)) if path.suffix == '.pbz2' else pickle.dumps(value, 4))
  return path


def write_folder(path, texts, records):
  path.mkdir()
  for name, value in {'meta': whole(texts, None), **{f'{index:06d}': value for index, value in records.items()}}.items():
    write(path / f'{name}.pickle.pbz2', value)
  return path


@pytest.fixture(scope='module')
def topology(tmp_path_factory):
  path = tmp_path_factory.mktemp('nats') / 'NATS-tss-v1_0-3ffb9-simple'
  return write_folder(path, CELLS, {i: record(i, CELLS, TOPOLOGY) for i in (0, 11, 284)})


def test_topology(topology):
  columns = read_nats(topology)
  assert columns['architecture'].tolist() == CELLS
  rows = [0, 11, 284]
  for name, expected in {
      'cifar10/valid/12': 0.712, 'cifar10/test/12': 0.742, 'cifar100/valid/12': 0.782, 'cifar100/test/12': 0.792,
      'imagenet16-120/valid/12': 0.812, 'imagenet16-120/test/12': 0.822, 'cifar10/valid/200': 0.91, 'cifar10/test/200': 0.94,
      'cifar100/valid/200': 0.98, 'cifar100/test/200': 0.99, 'imagenet16-120/valid/200': 1.01,
      'cifar10/train_seconds/12': 12 * 7.77, 'cifar10/train_seconds/200': 200 * (7.77 + 8.88) / 2,
      'cifar10/params': 344346, 'cifar10/macs': 47105370, 'cifar100/latency_s': 0.02}.items():
    values = columns[name]
    assert values.dtype == np.float64 and values.shape == (15625,)
    np.testing.assert_allclose(values[rows], expected, rtol=1e-12)
    assert np.isnan(np.delete(values, rows)).all()


def test_size(tmp_path):
  value = record(32767, SIZES, SIZE)
  value['01']['all_results']['cifar10', 777].update(params=0.5)  # Costs are those of 12 epochs.
  columns = read_nats(write_folder(tmp_path / 'NATS-sss-v1_0-50262-simple', SIZES, {32767: value}))
  assert columns['architecture'][32767] == '64:64:64:64:64'
  expected = {'test/1': 0.731, 'test/12': 0.742, 'test/90': 0.82, 'train_seconds/90': 90 * 7.77, 'params': 344346}
  assert {name: columns[f'cifar10/{name}'][32767] for name in expected} == pytest.approx(expected)
  assert not any('200' in name for name in columns)


def test_the_whole_file_reads_as_the_folder(topology, tmp_path):
  data = whole(CELLS, {i: record(i, CELLS, TOPOLOGY) for i in (0, 11, 284)})
  expected, found = read_nats(topology), read_nats(write(tmp_path / 'NATS-tss-v1_0-3ffb9.pickle.pbz2', data))
  assert set(found) == set(expected)
  for name, values in expected.items():
    np.testing.assert_array_equal(found[name], values)


def test_nasbench201(tmp_path):
  """A file of torch.save: first-release trainings beside later ones, and 12 epochs on CIFAR-10's half alone."""
  full = {(dataset, 777): trial(dataset, 777, 200, 80 + i, old=True) for i, dataset in enumerate(EVALUATIONS)}
  less = {('cifar10-valid', seed): trial('cifar10-valid', seed, 12, 60, latency=None) for seed in (111, 777)}
  data = whole(CELLS, {5: {'full': results(5, CELLS[5], full), 'less': results(5, CELLS[5], less)}})
  with zipfile.ZipFile(tmp_path / 'NAS-Bench-201-v1_0-e61699.pth', 'w') as archive:
    archive.writestr('archive/data.pkl', pickle.dumps(data, 2))
  columns = read_nats(tmp_path / 'NAS-Bench-201-v1_0-e61699.pth')
  assert {name: values[5] for name, values in columns.items() if name.startswith('cifar10/')} == pytest.approx({
      'cifar10/valid/12': 0.6, 'cifar10/train_seconds/12': 12 * 4.44, 'cifar10/valid/200': 0.8, 'cifar10/test/200': 0.81,
      'cifar10/params': 344346, 'cifar10/macs': 47105370, 'cifar10/latency_s': 0.02})
  assert columns['cifar100/test/200'][5] == pytest.approx(0.84) and 'cifar100/test/12' not in columns


def test_costs_are_those_of_12_epochs_and_of_the_right_seed(tmp_path):
  """Some trials have another cell's params and FLOPs: NATS-Bench issue 36 and `fix_legacy_issue` of its code."""
  value = record(0, CELLS, {'12': (12, [777, 888]), '200': (200, [777])})
  value['12']['all_results']['cifar10', 777].update(params=0.073306, flop=7.78305)
  value['200']['all_results']['cifar10', 777].update(params=0.073306, flop=7.78305)
  columns = read_nats(write(tmp_path / 'whole', whole(CELLS, {0: value})))
  assert (columns['cifar10/params'][0], columns['cifar10/macs'][0]) == (344346, 47105370)


def test_latencies_below_zero_were_not_measured(tmp_path):
  value = record(0, CELLS, {'12': (12, [777, 888]), '200': (200, [777])})
  value['12']['all_results']['cifar10', 777]['latency'] = [-1.0]
  assert read_nats(write(tmp_path / 'whole', whole(CELLS, {0: value})))['cifar10/latency_s'][0] == 0.02


def test_an_evaluation_that_a_trial_lacks_is_nan(tmp_path):
  value = record(0, CELLS, {'12': (12, [777, 888]), '200': (200, [777])})
  del value['12']['all_results']['cifar100', 888]['eval_acc1es']['x-test@11']
  columns = read_nats(write(tmp_path / 'whole', whole(CELLS, {0: value, 1: record(1, CELLS, TOPOLOGY)})))
  assert np.isnan(columns['cifar100/test/12'][0]) and not np.isnan(columns['cifar100/test/12'][1])
  assert not np.isnan(columns['cifar100/valid/12'][0])


def test_the_order_is_the_official_one():
  """The texts of this file, made as the official code makes them, against the table taken from the official meta file."""
  if not SHARED.exists():
    pytest.skip('needs ../shared/data/nasbench')
  with np.load(SHARED) as table:
    names = table['op_names'][table['ops']].tolist()
  texts = [f'|{a}~0|+|{b}~0|{c}~1|+|{d}~0|{e}~1|{f}~2|' for a, b, c, d, e, f in names]
  assert texts == CELLS
  assert nats_files.is_cells(CELLS) and not nats_files.is_cells(sorted(CELLS))


@pytest.mark.parametrize('change, part', [
    (lambda value: value.pop('200'), "trainings ['12']"), (lambda value: value.update({'90': value['12']}), "'90'"),
    (lambda value: value['12'].update(arch_index=1), 'another architecture'),
    (lambda value: value['12'].update(arch_str=CELLS[1]), 'another architecture'),
    (lambda value: value['12'].pop('dataset_seed'), 'dataset_seed'),
    (lambda value: value['12'].update(all_results=[]), 'TypeError'),
    (lambda value: value['12']['all_results'].pop(('cifar100', 777)), 'cifar100'),
    (lambda value: value['12']['all_results']['cifar10', 777].update(epochs=11), '12 epochs'),
    (lambda value: value['12']['all_results']['cifar10', 777].update(params='a lot'), 'ValueError'),
    (lambda value: value['12']['all_results']['cifar10', 777].update(eval_acc1es=None), 'AttributeError'),
    (lambda value: value['12']['all_results']['cifar10', 777].update(flop=1e400), 'OverflowError')])
def test_a_record_of_another_form(change, part, tmp_path, user_error):
  value = record(0, CELLS, {'12': (12, [777]), '200': (200, [777])})
  change(value)
  with user_error('whole', 'architecture 0 is not as in version 1', part, 'give'):
    read_nats(write(tmp_path / 'whole', whole(CELLS, {0: value})))


@pytest.mark.parametrize('data, part', [
    ([1], 'no file of NATS-Bench'), ({'meta_archs': CELLS}, 'no file of NATS-Bench'),
    (whole(CELLS, None), 'no file of NATS-Bench'), (whole([1], {}), 'no file of NATS-Bench'),
    (whole(CELLS[:-1], {}), 'not those of version 1'), (whole(CELLS[1:] + CELLS[:1], {}), 'not those of version 1'),
    (whole(CELLS[:-1] + CELLS[:1], {}), 'not those of version 1'), (whole(SIZES[::-1], {}), 'not those of version 1'),
    (whole(SIZES, {}), 'holds no architecture'), (whole(SIZES, {'a': record(0, SIZES, SIZE)}), "architecture 'a'")])
def test_a_file_of_another_form(data, part, tmp_path, user_error):
  with user_error('whole', part, 'give'):
    read_nats(write(tmp_path / 'whole', data))


@pytest.mark.parametrize('name', ['NATS-tss-v1_1-3ffb9-simple', 'NATS-sss-v2_0-1.pickle.pbz2', 'NAS-Bench-201-v1_2-096897.pth'])
def test_a_file_of_another_version(name, tmp_path, user_error):
  with user_error(name, 'version is not known', 'give'):
    read_nats(tmp_path / name)


def test_folders_without_records(tmp_path, user_error):
  with user_error('meta.pickle.pbz2', 'cannot be read'):
    read_nats(tmp_path)
  with user_error('simple', 'holds no architecture'):
    read_nats(write_folder(tmp_path / 'simple', CELLS, {}))
  with user_error(tmp_path, 'no file of NATS-Bench'):
    read_nats(write(tmp_path / 'meta.pickle.pbz2', [1]).parent)


def test_weights_are_refused(tmp_path, user_error):
  value = record(0, CELLS, TOPOLOGY)
  value['12']['all_results']['cifar10', 777]['net_state_dict'] = {'stem.0.weight': np.zeros(1, object)}
  with user_error('000000.pickle.pbz2', 'refused', 'without weights'):
    read_nats(write_folder(tmp_path / 'NATS-tss-v1_0-3ffb9-full', CELLS, {0: value}))

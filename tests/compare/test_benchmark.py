"""One trial on a table: what it records, and random search against its closed form."""
import itertools
import json
import math
import pickle

import numpy as np
import pytest

from enas_jax import get_config, tables
from enas_jax.compare import benchmark
from enas_jax.compare.benchmark import Benchmark
from enas_jax.estimators.table import TASKS

BLACK_BOX = ('random', 'regularized_evolution', 'local_search', 'nsga2')


def on(space='nasbench201', **changes):
  settings = {'table': None, 'dataset': 'cifar10', 'score': 'valid', 'queries': 30}
  return Benchmark(space=space, **{**settings, **changes})


def run(name, what, seed=0, **settings):
  config = get_config()
  config.update_from_flattened_dict(settings)
  return benchmark.run(name, what, config, seed)


def timeless(record):
  return {name: value for name, value in record.items() if name != 'seconds'}


@pytest.mark.parametrize('name', BLACK_BOX)
@pytest.mark.parametrize('dataset', TASKS)
def test_a_record_is_plain_and_true(name, dataset):
  what = on(dataset=dataset)
  record = run(name, what, seed=3)
  assert json.loads(json.dumps(record)) == record and (record['strategy'], record['seed']) == (name, 3)
  assert record['seconds'] > 0 and len(record['queries']) == 30
  column = what.data.column(f'{dataset}/valid/200')
  for text, epochs, accuracy, reason in record['queries']:
    assert (epochs, reason) == (200, '') and accuracy == column[what.data.row(what.data.space.from_string(text))]
  assert len({text for text, *_ in record['queries']}) == 30


@pytest.mark.parametrize('name', [*BLACK_BOX, 'halving'])
def test_a_trial_follows_from_its_seed(name):
  first, again, other = (timeless(run(name, on(), seed)) for seed in (1, 1, 2))
  assert first == again and first['queries'] != other['queries']


def test_the_best_of_random_search_is_as_order_statistics_say():
  """E[max of n] = sum over i of v_(i) (C(i, n) - C(i - 1, n)) / C(N, n), drawing without replacement."""
  what, count, trials = on('nasbench_macro', score='test', queries=8), 8, 200
  values = np.sort(what.data.column('cifar10/test/50').astype(float))
  ways = [math.comb(i, count) for i in range(len(values) + 1)]
  odds = np.array([(after - before) / ways[-1] for before, after in itertools.pairwise(ways)])
  mean = odds @ values
  deviation = math.sqrt(odds @ (values - mean)**2)
  found = [max(accuracy for _, _, accuracy, _ in run('random', what, seed)['queries']) for seed in range(trials)]
  assert abs(np.mean(found) - mean) < 2.5 * deviation / math.sqrt(trials)
  assert np.std(found) == pytest.approx(deviation, rel=0.2)


def test_evolution_and_local_search_beat_random_search():
  def mean(name):
    return np.mean([max(q[2] for q in run(name, on(queries=120), seed)['queries']) for seed in range(5)])

  control = mean('random')
  assert min(mean('regularized_evolution'), mean('local_search')) > control


@pytest.mark.parametrize('queries', [2, 30, 192])
def test_halving_begins_with_as_many_as_the_budget_has_for_all(queries):
  record = run('halving', on(queries=queries))
  counts = {epochs: sum(q[1] == epochs for q in record['queries']) for epochs in (12, 200)}
  cost = {n: n * 12 / 200 + max(1, n // 3) for n in (counts[12], counts[12] + 1)}
  assert counts[200] == max(1, counts[12] // 3) and cost[counts[12]] <= queries < cost[counts[12] + 1]
  assert all(reason == '' for *_, reason in record['queries'])


def test_halving_keeps_the_best_of_a_rung():
  queries = run('halving', on(queries=20))['queries']
  low, high = ([q for q in queries if q[1] == epochs] for epochs in (12, 200))
  ranked = sorted(low, key=lambda q: -q[2])[:len(high)]
  assert {text for text, *_ in high} == {text for text, *_ in ranked}


def test_what_is_past_the_budget_is_no_query():
  """EG-NAS ends by its own rules, not by a number of evaluations."""
  short, long = (run('egnas', on('nasbench_macro', score='test', queries=queries))['queries'] for queries in (3, 100))
  assert len(short) == 3 < len(long) and short == long[:3]


def test_a_query_is_asked_once():
  """Evolution's micro stage begins with a network that the macro stage knows at the same epochs."""
  queries = run('evolution', on('nasbench_macro', score='test', queries=40))['queries']
  assert len({text for text, *_ in queries}) == len(queries)


def test_settings_reach_the_strategy_and_are_not_changed():
  config = get_config()
  before = config.to_dict()
  benchmark.run('regularized_evolution', on(), config, 0)
  assert config.to_dict() == before
  small, large = (run('regularized_evolution', on(), **{'regularized_evolution.population': p}) for p in (5, 25))
  assert small['queries'][:5] == large['queries'][:5] and small['queries'][5:] != large['queries'][5:]


def test_objectives_that_some_rows_lack():
  """Cells that a device cannot run fail for who searches by it, and for nobody else."""
  what = on(queries=60, objectives=('accuracy', 'latency_ms/edgetpu'))
  latency = what.data.column('cifar10/latency_ms/edgetpu')
  failures = 0
  for text, _, accuracy, reason in run('nsga2', what)['queries']:
    missing = np.isnan(latency[what.data.row(what.data.space.from_string(text))])
    assert (accuracy is None) == missing
    assert reason == ('latency_ms/edgetpu was not measured at 200 epochs' if missing else '')
    failures += missing
  assert failures
  assert all(accuracy is not None for _, _, accuracy, _ in run('random', what)['queries'])


@pytest.mark.parametrize(('name', 'changes', 'message'), [
    ('egnas', {}, "space 'nasbench201' has no depth and width to walk in; these have: nasbench_macro, nats_size"),
    ('random:chains', {}, "space 'nasbench201' has no depth and width"),
    ('annealing', {}, "'annealing' is unknown; give one of "),
    ('halving', {'space': 'nasbench_macro', 'score': 'test'}, 'strategy halving: nasbench_macro has one fidelity of cifar10'),
    ('halving', {'queries': 1}, 'strategy halving: 1 queries are fewer than the 1.06 of one network'),
    ('random', {'score': 'train'}, "no split 'train' of cifar10; it has valid, test"),
    ('random', {'dataset': 'mnist'}, "no data set 'mnist'; it has cifar10, cifar100, imagenet16-120"),
    ('random', {'table': 'nats_size'}, "table nats_size is of space 'nats_size', not 'nasbench201'"),
    ('random', {'table': 'x.csv'}, 'x.csv cannot be read'),
    ('random', {'space': 'darts'}, "no table of space 'darts' comes with the package"),
    ('nsga2', {'objectives': ('accuracy', 'speed')}, "no metric 'speed' of cifar10; it has accuracy"),
])
def test_what_does_not_fit(user_error, name, changes, message):
  with user_error(message):
    benchmark.set_up(name, on(**changes), get_config())


def test_a_benchmark_takes_no_table_along_to_other_processes():
  what = on()
  assert what.data is tables.load('nasbench201')
  assert len(pickle.dumps(what)) < 1000 and pickle.loads(pickle.dumps(what)) == what

"""What trials found, against a plain slow reference, closed forms and what can be worked out by hand."""
import csv
import io
import json
from xml.etree import ElementTree

import numpy as np
import pytest

from enas_jax import get_config, tables
from enas_jax.compare import benchmark, writing
from enas_jax.compare.benchmark import Benchmark
from enas_jax.compare.comparison import Comparison
from enas_jax.spaces import NasBenchMacroSpace

SPACE = NasBenchMacroSpace()
A, B, C, D = '00000000', '00000001', '00000010', '00000011'
HEADER = 'architecture,d/valid/4,d/valid/20,d/test/20,d/params\n'
ROWS = f'{A},.1,.6,.5,4\n{B},.3,.4,.8,1\n{C},.2,.8,.7,2\n{D},.05,.9,.4,9\n'


@pytest.fixture
def table(tmp_path):
  def write(rows=ROWS, header=HEADER):
    path = tmp_path / 't.csv'
    path.write_text(header + rows)
    return tables.read(path, SPACE)
  return write


def record(*queries, seed=0):
  """A trial of queries (text, epochs, accuracy or None)."""
  queries = [[*query, '' if query[2] is not None else 'bad'] for query in queries]
  return {'strategy': 's', 'seed': seed, 'seconds': 0.5 + seed, 'queries': queries}


def compare(table, trials, *, dataset='d', score='valid', queries=4, objectives=()):
  return Comparison(table=table, dataset=dataset, score=score, queries=queries, objectives=objectives, trials=trials)


def full(*rows):
  """Queries at the highest fidelity, of rows of `ROWS`."""
  accuracies = {A: 0.6, B: 0.4, C: 0.8, D: 0.9}
  return record(*((text, 20, accuracies[text]) for text in rows))


def best_so_far(queries):
  """The text of the best after these queries: the docstring of `Found.best`, from the beginning each time."""
  best = None
  for epochs in sorted({q[1] for q in queries}):
    successes = [q for q in queries if q[1] == epochs and q[2] is not None]
    if not successes:
      continue
    if best is not None and not any(q[0] == best and q[1] == epochs for q in queries):
      return best
    best = next(q[0] for q in successes if q[2] == max(s[2] for s in successes))
  return best


def check_against_reference(comparison, name):
  table, trials = comparison.table, comparison.trials[name]
  row_of = {table.text(row): row for row in range(len(table))}
  for trial, found, *curves in zip(trials, comparison.found[name], *(comparison.curve(name, s) for s in comparison.splits),
                                   strict=True):
    spent = 0.0
    last = dict.fromkeys(range(1, comparison.queries + 1))
    for number, query in enumerate(trial['queries'], 1):
      spent += query[1] / comparison.epochs
      text = best_so_far(trial['queries'][:number])
      assert found.best[number - 1] == (-1 if text is None else row_of[text])
      assert found.spent[number - 1] == pytest.approx(spent)
      last.update({budget: text for budget in last if spent <= budget + 1e-6})
    for split, curve in zip(comparison.splits, curves, strict=True):
      column = comparison.accuracy(split)
      expected = [np.nan if text is None else column[row_of[text]] for text in last.values()]
      np.testing.assert_array_equal(curve, expected)


@pytest.mark.parametrize(('space', 'score', 'names'), [
    ('nasbench201', 'valid', ('random', 'local_search', 'halving')),
    ('nasbench_macro', 'test', ('evolution', 'egnas')),
    ('nasbench101', 'valid', ('halving',)),
])
def test_the_best_so_far_is_the_references(space, score, names):
  what = Benchmark(space=space, table=None, dataset='cifar10', score=score, queries=12)
  trials = {name: [benchmark.run(name, what, get_config(), seed) for seed in range(3)] for name in names}
  comparison = compare(what.data, trials, dataset='cifar10', score=score, queries=12)
  for name in names:
    check_against_reference(comparison, name)
    if name != 'halving':  # One fidelity: the best so far never falls on the split that decides.
      curves = comparison.curve(name, score)
      assert (np.diff(curves, axis=1) >= 0).all() and not np.isnan(curves).any()
      np.testing.assert_array_equal(curves[:, -1], [max(q[2] for q in r['queries']) for r in trials[name]])


def test_the_best_so_far_of_made_up_trials(table):
  rng = np.random.default_rng(0)

  def query():
    text, epochs = rng.choice([A, B, C, D]), int(rng.choice([4, 20]))
    return str(text), epochs, None if rng.random() < 0.3 else float(rng.integers(1, 4)) / 4

  trials = [record(*(query() for _ in range(rng.integers(0, 9)))) for _ in range(100)]
  check_against_reference(compare(table(), {'s': trials}), 's')


@pytest.mark.parametrize(('queries', 'expected'), [
    ([(A, 20, 0.6), (B, 20, 0.4), (C, 20, 0.8)], [A, A, C]),
    ([(A, 20, 0.5), (B, 20, 0.5)], [A, A]),  # The first of equals.
    ([(A, 20, None), (B, 20, 0.4), (C, 20, None)], [None, B, B]),
    ([(A, 4, 0.1), (B, 4, 0.3), (C, 20, 0.8)], [A, B, B]),  # Of C alone no more is known.
    ([(A, 4, 0.1), (B, 4, 0.3), (C, 20, 0.8), (B, 20, 0.4)], [A, B, B, C]),  # Now it is, and better.
    ([(B, 4, 0.3), (C, 4, 0.2), (B, 20, None), (C, 20, 0.8)], [B, B, B, C]),  # A failure tells, too.
])
def test_the_best_so_far_by_hand(table, queries, expected):
  table = table()
  (found,) = compare(table, {'s': [record(*queries)]}).found['s']
  assert [table.text(row) if row >= 0 else None for row in found.best] == expected


def test_a_curve_counts_queries_in_full_trainings(table):
  trial = record(*[(B, 4, 0.3)] * 5, (B, 20, 0.4), (C, 20, 0.8))  # 5 x 1/5, then two.
  np.testing.assert_array_equal(compare(table(), {'s': [trial]}).curve('s', 'valid'), [[0.4, 0.4, 0.8, 0.8]])
  np.testing.assert_array_equal(compare(table(), {'s': [trial]}).curve('s', 'test'), [[0.8, 0.8, 0.7, 0.7]])
  late = record((A, 20, None), (C, 20, 0.8))
  curves = compare(table(), {'s': [late, record()]}).curve('s', 'valid')
  np.testing.assert_array_equal(curves, [[np.nan, 0.8, 0.8, 0.8], [np.nan] * 4])


def test_summary_by_hand(table):
  trials = {'random': [full(A, B), full(B, C, D)], 'other': [full(A, C), full(B)], 'none': [record((A, 20, None))]}
  random, other, none = compare(table(), trials).summary()
  assert random['strategy'] == 'random' and random['trials'] == 2 and random['queries'] == 2.5
  assert random['valid']['mean'] == pytest.approx(0.75) and random['valid']['std'] == pytest.approx(np.std([0.6, 0.9], ddof=1))
  assert random['valid']['regret'] == pytest.approx(0.9 - 0.75) and random['test']['regret'] == pytest.approx(0.8 - 0.45)
  assert other['valid']['mean'] == pytest.approx(0.6) and other['queries'] == 1.5 and other['seconds'] == 0.5
  assert other['valid']['random'] == pytest.approx((0.6 + 0.8) / 2)  # After round(1.5) = 2 queries.
  assert none['valid'] == {'mean': None, 'std': None, 'regret': None, 'random': pytest.approx(0.5)}
  (alone,) = compare(table(), {'other': [full(A)]}).summary()
  assert alone['valid'] == {'mean': 0.6, 'std': None, 'regret': pytest.approx(0.3), 'random': None}


def test_results_by_hand(table):
  results = compare(table(), {'s': [full(B, C), record((A, 20, None))]}).results()
  assert results == [
      {'strategy': 's', 'seed': 0, 'architecture': C, 'valid': 0.8, 'test': 0.7, 'queries': 2, 'seconds': 0.5},
      {'strategy': 's', 'seed': 0, 'architecture': '', 'valid': None, 'test': None, 'queries': 1, 'seconds': 0.5}]


def test_hypervolume_by_hand(table):
  """Scaled to [0, 1] accuracies .4 .6 .8 .9 are 0 .4 .8 1, sizes 1 2 4 9 are 0 1/8 3/8 1: C dominates A; D has no volume."""
  trials = {'c': [full(C)], 'ab': [full(A, B)], 'b': [full(B)], 'all': [full(A, B, C, D)]}
  comparison = compare(table(), trials, objectives=('accuracy', 'params'))
  shares = {r['strategy']: r['hypervolume']['mean'] for r in comparison.summary()}
  whole = 0.8 * (1 - 1 / 8)  # B is the least accurate, D the largest: neither is better than the corner in both.
  assert shares == {'c': pytest.approx(1), 'ab': pytest.approx(0.4 * (1 - 3 / 8) / whole), 'b': 0, 'all': pytest.approx(1)}


def test_hypervolume_of_a_table():
  what = Benchmark(space='nasbench_macro', table=None, dataset='cifar10', score='test', queries=20,
                   objectives=('accuracy', 'params', 'macs'))
  space = what.data.space
  trials = {name: [benchmark.run(name, what, get_config(), seed) for seed in range(2)] for name in ('random', 'nsga2')}
  everything = [[what.data.text(row), 50, float(a), ''] for row, a in enumerate(what.data.column('cifar10/test/50'))]
  trials['all'] = [{'strategy': 'all', 'seed': 0, 'seconds': 1.0, 'queries': everything}]
  comparison = compare(what.data, trials, dataset='cifar10', score='test', queries=20, objectives=what.objectives)
  *searched, whole = (r['hypervolume']['mean'] for r in comparison.summary())
  assert whole == pytest.approx(1) and all(0 < share < 1 for share in searched)
  assert space.to_string(space.from_string(everything[5][0])) == everything[5][0]


def test_rows_without_an_objective_have_no_volume(table):
  rows = ROWS.replace(',.7,2', ',.7,')  # C has no size.
  comparison = compare(table(rows), {'c': [full(C)], 'a': [full(A)]}, objectives=('accuracy', 'params'))
  assert [r['hypervolume']['mean'] for r in comparison.summary()] == [0, pytest.approx(1)]


@pytest.mark.parametrize(('rows', 'objectives', 'message'), [
    (ROWS, ('accuracy', 'speed'), "no column 'd/speed'"),
    (ROWS, ('accuracy', 'latency_ms/pixel9'), "no column 'd/latency_ms/pixel9'"),
    (f'{A},,.1,.1,3\n{B},,.2,.1,3\n', ('accuracy', 'params'), 'objective params has not two values'),
    (f'{A},,.1,.1,\n{B},,.2,.1,\n', ('accuracy', 'params'), 'objective params has not two values'),
    (f'{A},,.1,.1,3\n{B},,.2,.1,4\n', ('accuracy', 'params'), 'accuracy, params: no row of table'),  # A trade-off, no more.
    (f'{A},.1,,.1,3\n{B},.1,,.1,4\n', (), 'column d/valid/20 has no value; take another split or data set'),
])
def test_what_cannot_be_compared(table, user_error, rows, objectives, message):
  with user_error(message):
    compare(table(rows), {}, objectives=objectives)


def test_values_that_were_not_measured_are_none_in_the_files(table):
  """The best row has no test accuracy."""
  comparison = compare(table(ROWS.replace('.9,.4,9', '.9,,9')), {'s': [full(A, D)], 't': [full(A)]})
  texts = json.dumps([comparison.summary(), comparison.results()], allow_nan=False)
  assert [r['test'] for r in comparison.results()] == [None, 0.5] and '"mean": null' in texts
  assert '| none ' in writing.markdown(comparison) and writing.picture(comparison)
  no_test = compare(table(''.join(f'{text},.1,.{i},,1\n' for i, text in enumerate((A, B, C, D)))), {'s': [full(A)]})
  assert no_test.splits == ('valid',) and 'test' not in writing.markdown(no_test)


def test_files(table):
  trials = {'random': [full(A, B), full(B, C, D)], 'egnas': [full(C)]}
  comparison = compare(table(), trials, objectives=('accuracy', 'params'))
  lines = writing.markdown(comparison).splitlines()
  header, rule, *lines = ([cell.strip() for cell in line.strip('|').split('|')] for line in lines)
  assert header == ['strategy', 'trials', 'queries', 'validation %', 'regret (validation)', 'random there', 'test %',
                    'regret (test)', 'random there', 'hypervolume', 'seconds a trial']
  assert lines[0] == ['random', '2', '2.5', '75.00 ± 21.21', '15.00', '70.00', '45.00 ± 7.07', '35.00', '60.00',
                      '0.6786 ± 0.4546', '0.50']
  assert lines[1] == ['egnas', '1', '1', '80.00', '10.00', '50.00', '70.00', '10.00', '65.00', '1.0000', '0.50']
  assert lines[2] == ["the table's best", '', '4', '90.00', '0.00', '', '80.00', '0.00', '', '1.0000', '']
  assert all(set(cell) == {'-'} for cell in rule) and {len(line) for line in (header, rule, *lines)} == {11}
  records = list(csv.DictReader(io.StringIO(writing.rows(comparison))))
  assert [(r['strategy'], r['architecture'], r['valid'], r['queries']) for r in records] == [
      ('random', A, '0.6', '2.0'), ('random', D, '0.9', '3.0'), ('egnas', C, '0.8', '1.0')]
  picture = writing.picture(comparison)
  assert ElementTree.fromstring(picture).tag.endswith('svg') and picture == writing.picture(comparison)

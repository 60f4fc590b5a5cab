"""The table as an estimator: what it answers, what it counts, and what it refuses."""
import math

import numpy as np
import pytest

from enas_jax import tables
from enas_jax.spaces import NasBench201Space, NasBenchMacroSpace
from enas_jax.tables.estimator import TableEstimator
from enas_jax.types import Request, Schedule

SPACE = NasBenchMacroSpace()
CSV = '''architecture,d/valid/4,d/valid/20,d/test/20,d/train_seconds/4,d/train_seconds/20,d/params,d/latency_ms/phone,e/valid/9
00000000,.25,.5,.625,10,50,100,1.5,1
00000001,.125,,.75,11,,200,,1
00000002,.375,.875,,12,60,300,2.5,1
'''


@pytest.fixture
def table(tmp_path):
  path = tmp_path / 'mine.csv'
  path.write_text(CSV)
  return tables.read(path, SPACE)


def ask(estimator, *questions, **schedule):
  """The answers to questions (architecture's text, epochs)."""
  requests = [Request(SPACE.from_string(text), Schedule(epochs=epochs, **schedule)) for text, epochs in questions]
  answers = list(estimator.estimate(requests))
  assert [index for index, _ in answers] == list(range(len(requests)))
  return [evaluation for _, evaluation in answers]


def test_metrics_by_fidelity(table):
  estimator = TableEstimator(table, 'd')
  low, high = ask(estimator, ('00000000', 4), ('00000000', 20))
  assert low.metrics == {'accuracy': 0.25, 'validation_accuracy': 0.25, 'train_seconds': 10, 'params': 100,
                         'latency_ms/phone': 1.5}
  assert high.metrics == {'accuracy': 0.5, 'validation_accuracy': 0.5, 'test_accuracy': 0.625, 'train_seconds': 50,
                          'params': 100, 'latency_ms/phone': 1.5}
  assert low.ok and high.accuracy == 0.5 and all(type(value) is float for value in high.metrics.values())


def test_the_score_is_what_it_is_told_to_be(table):
  (evaluation,) = ask(TableEstimator(table, 'd', score='test'), ('00000000', 20))
  assert (evaluation.accuracy, evaluation.metrics['validation_accuracy']) == (0.625, 0.5)
  (refused,) = ask(TableEstimator(table, 'd', score='test'), ('00000000', 4))
  assert refused.reason == 'the table has whole trainings of 20 epochs, not 4 of 4'


def test_what_was_not_measured(table):
  failed, low, high = ask(TableEstimator(table, 'd'), ('00000001', 20), ('00000001', 4), ('00000002', 20))
  assert failed.reason == 'accuracy was not measured at 20 epochs' and failed.accuracy == -math.inf
  assert low.ok and low.metrics.keys() == {'accuracy', 'validation_accuracy', 'train_seconds', 'params'}
  assert 'test_accuracy' not in high.metrics and high.metrics['latency_ms/phone'] == 2.5


def test_what_a_strategy_cannot_do_without(table, user_error):
  failed, answered = ask(TableEstimator(table, 'd', required=('latency_ms/phone',)), ('00000001', 4), ('00000002', 4))
  assert failed.reason == 'latency_ms/phone was not measured at 4 epochs' and answered.ok
  with user_error("no metric 'latency_ms/fone' of d", 'latency_ms/phone'):
    TableEstimator(table, 'd', required=('latency_ms/fone',))


def test_nasbench201_tells_accuracies_costs_and_devices():
  table = tables.load('nasbench201')
  row = int(np.nanargmax(table.column('cifar100/latency_ms/edgetpu')))  # Where some cells cannot be deployed.
  cell = table.architecture(row)
  estimator = TableEstimator(table, 'cifar100')
  for _, evaluation in estimator.estimate([Request(cell, Schedule(epochs=200))]):
    expected = {'accuracy': 'valid/200', 'validation_accuracy': 'valid/200', 'test_accuracy': 'test/200', 'params': 'params',
                'macs': 'macs', 'latency_ms/raspi4': 'latency_ms/raspi4', 'energy_mj/eyeriss': 'energy_mj/eyeriss'}
    for metric, column in expected.items():
      assert evaluation.metrics[metric] == table.column(f'cifar100/{column}')[row]
    names = {column.removeprefix('cifar100/') for column in table.columns if column.startswith('cifar100/')}
    devices = {name for name in names if name.startswith(('latency_ms/', 'energy_mj/'))}
    assert evaluation.metrics.keys() == expected.keys() | devices and len(devices) == 9
  assert estimator.describe() == 'table nasbench201: 15,625 rows, cifar100, valid accuracy after 12, 200 epochs'


def test_queries_and_their_cost(table):
  estimator = TableEstimator(table, 'd')
  assert estimator.fidelities == (4, 20) and estimator.report() == {'queries': 0, 'full_trainings': 0.0}
  ask(estimator, ('00000000', 4), ('00000000', 4), ('00000001', 20), ('00000002', 20), ('22222222', 4))  # Failed ones, too.
  assert estimator.queries == 5 and estimator.spent == pytest.approx(2 + 3 * 0.2)
  assert estimator.report() == {'queries': 5, 'full_trainings': estimator.spent}
  assert estimator.predict_macs(Request(SPACE.from_string('00000000'), Schedule(epochs=4))) == 0
  estimator.prepare([])


def test_a_query_past_the_budget_is_refused_and_not_counted(table):
  estimator = TableEstimator(table, 'd', budget=1.4)
  answers = ask(estimator, ('00000000', 20), ('00000000', 4), ('00000000', 20), ('00000000', 4), ('00000000', 4))
  assert [evaluation.ok for evaluation in answers] == [True, True, False, True, False]
  assert answers[2].reason == answers[4].reason == 'refused: the budget of 1.4 trainings is spent; raise it'
  assert estimator.queries == 3 and estimator.spent == pytest.approx(1.4)


def test_a_budget_of_many_small_shares_is_used_to_its_end(table):
  estimator = TableEstimator(table, 'd', budget=20)
  assert sum(evaluation.ok for evaluation in ask(estimator, *[('00000000', 4)] * 101)) == 100


def test_parts_of_trainings_and_other_epochs_are_refused_and_not_counted(table):
  estimator = TableEstimator(table, 'd')
  answers = ask(estimator, ('00000000', 20), stop_epoch=4) + ask(estimator, ('00000000', 5))
  known = 'the table has whole trainings of 4, 20 epochs, not'
  assert [evaluation.reason for evaluation in answers] == [f'{known} 4 of 20', f'{known} 5 of 5']
  assert estimator.queries == 0 and ask(estimator, ('00000000', 20), stop_epoch=20)[0].ok


def test_what_the_table_does_not_hold(table):
  (evaluation,) = ask(TableEstimator(table, 'd'), ('11111111', 4))
  assert evaluation.reason == 'not in the table'
  cell = NasBench201Space(channels=8).sample(np.random.default_rng(0))
  ((_, evaluation),) = TableEstimator(tables.load('nasbench201'), 'cifar10').estimate([Request(cell, Schedule(epochs=200))])
  assert '8 channels and 5 cells a stage are not 16 and 5' in evaluation.reason


def test_translation(table):
  estimator = TableEstimator(table, 'd', translate={'first': SPACE.from_string('00000000')}.__getitem__)
  ((_, evaluation),) = estimator.estimate([Request('first', Schedule(epochs=20))])
  assert evaluation.accuracy == 0.5


def test_names_that_the_table_lacks(table, tmp_path, user_error):
  with user_error("no data set 'cifar11'", 'd, e'):
    TableEstimator(table, 'cifar11')
  for dataset, score in (('e', 'test'), ('d', 'train')):
    with user_error(f"no split '{score}' of {dataset}", 'valid'):
      TableEstimator(table, dataset, score=score)
  path = tmp_path / 'taken.csv'
  path.write_text('architecture,d/valid/4,d/accuracy\n00000000,.5,.6\n')
  with user_error("column 'd/accuracy' has the name of a metric; rename it"):
    TableEstimator(tables.read(path, SPACE), 'd')

"""Where a budget ends a search."""
import pytest
from support.asking import chain

from enas_jax.spending import Spending
from enas_jax.strategies import Budget
from enas_jax.types import Evaluation

pytestmark = pytest.mark.smoke
REQUESTS = [chain(2, '010', 1, replicate=r) for r in range(6)]
FINAL = chain(2, '010', 9)


def entry(index, seconds=2.0):
  return REQUESTS[index], Evaluation(metrics={'accuracy': 0.5}, train_macs=10.0, seconds=seconds)


def spending(ledger=(), **limits):
  """Of candidates that take 10 multiply-adds each, and a final training of 90."""
  return Spending(Budget(**limits), ledger, lambda request: 10.0 * request.schedule.epochs, lambda: [FINAL])


def test_a_batch_goes_while_it_is_paid_for():
  known, batch = [entry(0), entry(1)], REQUESTS[2:4]
  assert spending(known, train_macs=40.0).cut(batch, batch) == ''
  reason = spending(known, train_macs=39.0).cut(batch, batch)
  assert reason == 'budget.train_macs 39: 20 multiply-adds are spent, what comes next takes 20'
  assert spending(known, train_macs=39.0).cut(batch, batch[1:]) == ''  # The other is known from another phase.
  assert spending(known).cut(batch, batch) == ''


def test_time_is_kept_for_the_final_training():
  known, batch = [entry(0), entry(1)], REQUESTS[2:4]
  assert spending(known, seconds=26.0).cut(batch, batch) == ''  # 4 + 4 + 18.
  reason = spending(known, seconds=25.0).cut(batch, batch)
  assert reason == ('budget.seconds 25: 4 s are spent, what comes next takes about 4 s and the final training 18 s')
  assert spending([], seconds=1.0).cut(batch, batch) == ''  # Nothing is known of the speed.


def test_a_batch_that_was_begun_is_finished_and_a_known_one_costs_nothing():
  batch = REQUESTS[:4]
  assert spending([entry(5), entry(0), entry(1)], seconds=1.0).cut(batch, batch[2:]) == ''
  for begun in range(4):  # By multiply-adds it goes as it went before the restart, or not at all.
    known = [entry(5), *map(entry, range(begun))]
    assert spending(known, train_macs=50.0).cut(batch, batch[begun:]) == ''
    assert spending(known, train_macs=49.0).cut(batch, batch[begun:]) != ''
  for limits in ({'train_macs': 1.0}, {'seconds': 1.0}):
    assert spending([entry(5), entry(0)], **limits).cut(REQUESTS[5:], []) == ''


def test_a_budget_that_pays_for_nothing(user_error):
  with user_error('config.budget.train_macs 15 is too small: 0 multiply-adds are spent, what comes next takes 20; '
                  'give more'):
    spending(train_macs=15.0).cut(REQUESTS[:2], REQUESTS[:2])
  with user_error('config.budget.seconds 19 is too small: a candidate took 2 s, the final training takes about 18 s; give '
                  'more, or fewer config.epochs.final'):
    spending([entry(0)], seconds=19.0).cut(REQUESTS[1:], REQUESTS[1:])

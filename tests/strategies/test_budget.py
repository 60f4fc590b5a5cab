import pytest
from support.synthetic_estimator import strategy_with

from enas_jax.errors import UserError
from enas_jax.strategies.budget import FREE_LIMIT, Budget, Spent
from enas_jax.types import Evaluation

COSTLY, FREE = Evaluation(metrics={'accuracy': 0.5}, train_macs=10.0), Evaluation(reason='made-up failure')


def test_spent_counts_failures_too():
  assert Spent().add([COSTLY, FREE, FREE]) == Spent(3, 10.0, 2)
  assert Spent().add([FREE, COSTLY]).free == 0


def test_evaluations_cut_the_last_batch():
  budget = Budget(evaluations=5)
  assert [budget.room(Spent(n), 3) for n in (0, 3, 5)] == [3, 2, 0]


def test_the_first_limit_reached_ends_it():
  budget = Budget(evaluations=5, train_macs=100.0)
  assert not budget.used_up(Spent(4, 99.0))
  assert budget.used_up(Spent(5, 0.0)) and budget.used_up(Spent(1, 100.0))


def test_cost_alone_ends_where_nothing_costs():
  budget = Budget(evaluations=0, train_macs=100.0)
  assert not budget.used_up(Spent().add([FREE] * (FREE_LIMIT - 1)))
  assert budget.used_up(Spent().add([FREE] * FREE_LIMIT))


def test_share():
  assert Budget(evaluations=30, train_macs=8.0).share(0.5) == Budget(evaluations=15, train_macs=4.0)
  assert Budget(evaluations=1).share(0.1) == Budget(evaluations=1)
  assert Budget(evaluations=0, train_macs=8.0).share(0.5) == Budget(evaluations=0, train_macs=4.0)


@pytest.mark.parametrize(('changes', 'message'), [
    ({'budget.evaluations': 0}, 'no limit'),
    ({'budget.evaluations': -1}, 'evaluations -1'),
    ({'budget.train_macs': -1.0}, r'train_macs -1\.0')])
def test_bad_budgets_are_user_errors(changes, message):
  with pytest.raises(UserError, match=message):
    strategy_with('random', **changes)


def test_strategies_that_end_by_their_own_rules_need_no_limit():
  for name in ('egnas', 'halving'):
    strategy_with(name, **{'budget.evaluations': 0})

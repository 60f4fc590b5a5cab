import pytest
from synthetic_estimator import config_with

from enas_jax.errors import UserError
from enas_jax.strategies.budget import FREE_LIMIT, Budget, Spent
from enas_jax.types import Evaluation

COSTLY, FREE = Evaluation(metrics={'accuracy': 0.5}, train_macs=10.0), Evaluation(reason='made-up failure')


def test_spent_counts_failures_too():
  assert Spent().add([COSTLY, FREE, FREE]) == Spent(3, 10.0, 2)
  assert Spent().add([FREE, COSTLY]).free == 0


def test_evaluations_cut_the_last_batch():
  budget = Budget(5, 0.0)
  assert [budget.room(Spent(n), 3) for n in (0, 3, 5)] == [3, 2, 0]


def test_the_first_limit_reached_ends_it():
  budget = Budget(5, 100.0)
  assert not budget.used_up(Spent(4, 99.0))
  assert budget.used_up(Spent(5, 0.0)) and budget.used_up(Spent(1, 100.0))


def test_cost_alone_ends_where_nothing_costs():
  budget = Budget(0, 100.0)
  assert not budget.used_up(Spent().add([FREE] * (FREE_LIMIT - 1)))
  assert budget.used_up(Spent().add([FREE] * FREE_LIMIT))


def test_share():
  assert Budget(30, 8.0).share(0.5) == Budget(15, 4.0)
  assert Budget(1, 0.0).share(0.1) == Budget(1, 0.0)
  assert Budget(0, 8.0).share(0.5) == Budget(0, 4.0)


@pytest.mark.parametrize(('changes', 'message'), [
    ({'budget.evaluations': 0}, 'no limit'),
    ({'budget.evaluations': -1}, 'evaluations -1'),
    ({'budget.train_macs': -1.0}, r'train_macs -1\.0')])
def test_bad_budgets_are_user_errors(changes, message):
  with pytest.raises(UserError, match=message):
    Budget.from_config(config_with(**changes))

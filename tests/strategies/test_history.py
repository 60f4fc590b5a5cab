import json

import numpy as np
import pytest
from support.synthetic_estimator import SPACE, estimate

from enas_jax.spaces.chain import ChainSpace
from enas_jax.strategies.budget import Budget, Spent
from enas_jax.strategies.history import History, breed_new, draw, draw_new, work_left
from enas_jax.types import Evaluation, Request, Schedule

NETWORKS = draw(SPACE, 0, (), 4)
FAILED = Evaluation(reason='made-up failure')


def scored(*accuracies):
  return [FAILED if a is None else Evaluation(metrics={'accuracy': a, 'macs': 7}, train_macs=2.0) for a in accuracies]


def history(*accuracies):
  return History(seed=0).add(NETWORKS[:len(accuracies)], scored(*accuracies))


def test_best_is_the_first_of_the_most_accurate_and_never_a_failed_one():
  assert history(0.2, 0.5, None, 0.5).best() == NETWORKS[1]
  assert history(None, 0.0).best() == NETWORKS[1]
  assert history(None, None).best() is None
  assert history(None, 0.0).accuracy(NETWORKS[0]) == float('-inf')


def test_adding_leaves_the_old_as_it_was():
  old = history(0.5)
  new = old.add(NETWORKS[1:3], scored(None, 0.4))
  assert list(old.answers) == [NETWORKS[0]] and list(new.answers) == list(NETWORKS[:3])
  assert new.successes() == (NETWORKS[0], NETWORKS[2])
  assert (new.spent.evaluations, new.spent.train_macs) == (3, 4.0)


def test_json_keeps_all_in_order():
  whole = History(seed=3).add(NETWORKS, scored(0.1, None, 0.3, 0.2), ('accuracy', 'macs'))
  record = json.loads(json.dumps(whole.to_json()))
  assert History.from_json(record, SPACE) == whole
  assert list(History.from_json(record, SPACE).answers) == list(NETWORKS)


def test_an_objective_that_is_not_measured_names_those_that_are(user_error):
  with user_error("'latency'", 'accuracy, macs'):
    History(seed=0).add(NETWORKS[:1], scored(0.5), ('accuracy', 'latency'))


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_a_value_that_is_no_number_is_a_failure_that_costs(value):
  told = History(seed=0).add(NETWORKS[:1], [Evaluation(metrics={'accuracy': 0.9, 'macs': value})], ('accuracy', 'macs'))
  assert told.best() is None and told.spent.evaluations == 1


def test_bred_networks_are_new_and_repeats_give_way_to_random_ones():
  told = history(0.5, 0.4)
  assert breed_new(SPACE, told, 3, lambda rng: NETWORKS[0]) == draw(SPACE, 0, NETWORKS[:2], 3)
  children = breed_new(SPACE, told, 50, lambda rng: SPACE.mutate(NETWORKS[0], rng))
  near = set(SPACE.neighbours(NETWORKS[0]))
  assert len(set(children)) == 50 and not set(children) & set(told.answers)
  assert near - set(told.answers) <= set(children)
  assert set(children[:5]) <= near


def test_breeding_ends_with_the_space():
  space = ChainSpace(min_depth=3, max_depth=3, min_width=4, max_width=4, kernels=(3,))
  children = breed_new(space, History(seed=0), 100, space.sample)
  assert len(set(children)) == len(children) == space.size() == 8


def test_children_do_not_depend_on_the_batch():
  def propose(rng):
    return SPACE.mutate(NETWORKS[0], rng)

  told = history(0.5)
  first = breed_new(SPACE, told, 1, propose)
  assert breed_new(SPACE, told, 2, propose) == first + breed_new(SPACE, told.add(first, scored(0.1)), 1, propose)
  other = History(seed=1).add(NETWORKS[:1], scored(0.5))
  assert breed_new(SPACE, other, 5, propose) != breed_new(SPACE, told, 5, propose)


def test_the_work_left_is_the_batch_up_to_the_budget():
  batch = tuple(Request(a, Schedule(epochs=1)) for a in NETWORKS[:2])
  left = work_left(batch, Spent(1), Budget(evaluations=8))
  assert left[:2] == batch and len({r.key for r in left}) == len(left) == 7
  assert work_left(batch, Spent(1), Budget(evaluations=0, train_macs=1e9)) == batch
  assert work_left((), Spent(1), Budget(evaluations=8)) == ()


def test_it_is_over_with_the_budget_or_the_space():
  told = History(seed=0)
  for count, over in ((29, False), (1, True)):
    networks = draw_new(SPACE, told, count)
    told = told.add(networks, [estimate(Request(a, Schedule(epochs=1))) for a in networks])
    assert told.over(Budget(evaluations=30), SPACE) == over
  small = ChainSpace(min_depth=3, max_depth=3, min_width=4, max_width=4, kernels=(3,))
  whole = draw(small, 0, (), 8)
  assert History(seed=0).add(whole, scored(*np.linspace(0, 1, 8))).over(Budget(evaluations=30), small)

import dataclasses

import pytest
from support.synthetic_estimator import SPACE, estimate, play, strategy_with

from enas_jax.errors import UserError
from enas_jax.spaces.chain import ChainSpace

EPOCHS = {'epochs.first': 2, 'epochs.per_layer': 1, 'epochs.per_width_step': 3}


def search(space=SPACE, **changes):
  return strategy_with('random', space, **EPOCHS, **changes)


def asked(strategy, seed=0):
  return [r for _, requests in play(strategy, strategy.init(seed)) for r in requests]


def test_the_batch_changes_nothing():
  assert asked(search()) == asked(search(**{'random.batch': 7}))


def test_no_network_comes_twice_and_epochs_follow_the_network():
  requests = asked(search())
  assert len({r.architecture for r in requests}) == len(requests) == 30
  for r in requests:
    assert r.schedule.epochs == 2 + (r.architecture.depth - 3) + 3 * (10 - r.architecture.width) // 2


def test_a_small_space_is_seen_whole_once():
  space = ChainSpace(min_depth=3, max_depth=3, min_width=4, max_width=5, width_step=1, kernels=(3,))
  strategy = search(space, **{'budget.evaluations': 100})
  assert len({r.architecture for r in asked(strategy)}) == len(asked(strategy)) == space.size() == 16


def test_best_is_the_most_accurate():
  strategy = search()
  *_, (state, _) = play(strategy, strategy.init(0))
  scores = {r.architecture: estimate(r).accuracy for r in asked(strategy)}
  assert scores[strategy.best(state)] == max(scores.values())


def test_outlook_is_everything_to_come():
  strategy = search()
  assert list(strategy.outlook(strategy.init(0))) == asked(strategy)
  both = search(**{'budget.train_macs': 1e12})
  assert len(both.outlook(both.init(0))) == 30
  by_cost = search(**{'budget.evaluations': 0, 'budget.train_macs': 1e12})
  assert len(by_cost.outlook(by_cost.init(0))) == 2


def test_samples_reach_the_whole_range():
  requests = asked(search(dataclasses.replace(SPACE, max_depth=5), **{'budget.evaluations': 200}))
  assert {r.architecture.depth for r in requests} == {3, 4, 5}
  assert {r.architecture.width for r in requests} == {4, 6, 8, 10}


def test_a_bad_batch_is_a_user_error():
  with pytest.raises(UserError, match='batch 0'):
    search(**{'random.batch': 0})

import collections
import functools

import pytest
from support.synthetic_estimator import SPACE, estimate, play, strategy_with

from enas_jax.spaces.chain import ChainSpace
from enas_jax.types import Evaluation

SETTINGS = {'population': 8, 'sample': 4, 'batch': 1}
SMALL = ChainSpace(min_depth=3, max_depth=3, min_width=4, max_width=5, width_step=1, kernels=(3,))


def search(space=SPACE, evaluations=60, **changes):
  settings = {f'regularized_evolution.{name}': value for name, value in {**SETTINGS, **changes}.items()}
  return strategy_with('regularized_evolution', space, **settings, **{'budget.evaluations': evaluations})


def trace(strategy, answer=estimate, seed=0):
  return list(play(strategy, strategy.init(seed), answer))


def asked(strategy, answer=estimate, seed=0):
  return [r for _, requests in trace(strategy, answer, seed) for r in requests]


def test_it_begins_as_random_search():
  drawn = strategy_with('random', **{'budget.evaluations': 8})
  assert [r.architecture for r in asked(search())[:8]] == [r.architecture for r in asked(drawn)]


@pytest.mark.parametrize(('batch', 'failing'), [(1, 0.0), (1, 0.4), (3, 0.2)])
def test_a_tournament_of_nearly_all_mutates_the_best_of_the_living(batch, failing):
  """Algorithm 1 run plainly beside it: a sample of 200 of 8 holds the best one, but for once in 10^11 draws."""
  answer = functools.partial(estimate, failing=failing)
  living, told, bred = collections.deque(maxlen=8), set(), 0
  for _, requests in trace(search(sample=200, batch=batch), answer):
    asked_for = {r.architecture for r in requests}
    if len(living) == 8:
      best = max(accuracy for _, accuracy in living)
      children = {n for a, accuracy in living if accuracy == best for n in SPACE.neighbours(a)} - told
      assert asked_for <= children or children < asked_for  # At random where there are no more.
      bred += len(asked_for & children)
    living.extend((r.architecture, answer(r).accuracy) for r in requests if answer(r).ok)
    told |= asked_for
  assert bred >= 30


def test_a_tournament_of_one_has_no_preference():
  """Its parents are any of the living; a walk without selection."""
  strategy, living, best = search(sample=1, evaluations=200), collections.deque(maxlen=8), 0
  for _, requests in trace(strategy):
    if not requests:
      break
    if len(living) == 8:
      assert any(requests[0].architecture in set(SPACE.neighbours(a)) for a, _ in living)
      best += requests[0].architecture in set(SPACE.neighbours(max(living, key=lambda pair: pair[1])[0]))
    living.append((requests[0].architecture, estimate(requests[0]).accuracy))
  assert 0 < best < 100


@pytest.mark.parametrize('seed', range(3))
def test_nothing_is_asked_for_twice(seed):
  requests = asked(search(batch=4), seed=seed)
  assert len({r.architecture for r in requests}) == len(requests) == 60


def test_a_failed_network_is_replaced_in_the_initial_population():
  answer = functools.partial(estimate, failing=0.5)
  initial = [r for state, requests in trace(search(), answer) if len(state.history.successes()) < 8 for r in requests]
  assert sum(answer(r).ok for r in initial) == 8 < len(initial)


def test_a_small_space_is_seen_whole_and_the_search_ends():
  requests = asked(search(SMALL, evaluations=100))
  assert len({r.architecture for r in requests}) == len(requests) == SMALL.size() == 16


def test_best_is_the_most_accurate_of_all_told_the_dead_too():
  strategy = search(population=2, sample=1)
  *_, (state, _) = trace(strategy)
  scores = {r.architecture: estimate(r).accuracy for r in asked(strategy)}
  assert scores[strategy.best(state)] == max(scores.values())
  assert strategy.best(state) not in state.history.successes()[-2:]


def test_it_climbs_where_random_search_does_not():
  """Twelve layers that each must be convolutions of kernel 5; a random network has a quarter of them right."""
  space = ChainSpace(min_depth=12, max_depth=12, min_width=4, max_width=4, kernels=(3, 5))

  def share(request):
    network = request.architecture
    return Evaluation(metrics={'accuracy': (sum(network.operations) + network.kernels.count(5)) / 24})

  best = search(space, evaluations=300, population=20, sample=10)
  drawn = strategy_with('random', space, **{'budget.evaluations': 300})
  for seed in range(3):
    found = [trace(s, share, seed)[-1][0] for s in (best, drawn)]
    assert found[0].history.accuracy(best.best(found[0])) > 0.98 > 0.9 > found[1].history.accuracy(drawn.best(found[1]))


@pytest.mark.parametrize('name', SETTINGS)
def test_settings_below_one_are_user_errors(name, user_error):
  with user_error(f'config.regularized_evolution.{name} 0'):
    search(**{name: 0})

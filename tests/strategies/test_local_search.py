import functools
import itertools

import pytest
from support.synthetic_estimator import SPACE, estimate, play, strategy_with

from enas_jax.spaces.chain import ChainSpace
from enas_jax.types import Evaluation, Request

SETTINGS = {'initial': 4, 'batch': 3, 'first_improvement': True}
SMALL = ChainSpace(min_depth=3, max_depth=3, min_width=4, max_width=5, width_step=1, kernels=(3,))
both_variants = pytest.mark.parametrize('first', [True, False])


def search(space=SPACE, evaluations=250, **changes):
  settings = {f'local_search.{name}': value for name, value in {**SETTINGS, **changes}.items()}
  return strategy_with('local_search', space, **settings, **{'budget.evaluations': evaluations})


def score(architecture, answer=estimate):
  """Of a network as the search would ask for it."""
  return answer(Request(architecture, search().setup.schedules.of_macro(architecture))).accuracy


def trace(strategy, answer=estimate, seed=0):
  return list(play(strategy, strategy.init(seed), answer))


def asked(strategy, seed=0):
  return [r for _, requests in trace(strategy, seed=seed) for r in requests]


def walks(strategy, answer=estimate, seed=0):
  """The centres of each walk that came to its end."""
  found, walk = [], []
  for state, _ in trace(strategy, answer, seed):
    if state.memory.centre is None and walk:
      found.append(walk)
      walk = []
    elif state.memory.centre not in (None, *walk):
      walk.append(state.memory.centre)
  return found


def ascent(start, answer=estimate):
  """Steepest ascent, plainly."""
  path = [start]
  while True:
    best = max(SPACE.neighbours(path[-1]), key=functools.partial(score, answer=answer))
    if score(best, answer) <= score(path[-1], answer):
      return path
    path.append(best)


@pytest.mark.parametrize('failing', [0.0, 0.3])
def test_of_all_neighbours_it_walks_the_steepest_ascent(failing):
  answer = functools.partial(estimate, failing=failing)
  found = walks(search(first_improvement=False, evaluations=400), answer)
  assert len(found) >= 2 and max(map(len, found)) >= 3
  for walk in found:
    path = ascent(walk[0], answer)
    assert [a for a in path if a in walk] == walk  # A centre all of whose neighbours are known is passed without a question.


@both_variants
def test_a_walk_climbs_to_a_local_optimum(first):
  for walk in walks(search(first_improvement=first, evaluations=400)):
    scores = [score(a) for a in walk]
    assert scores == sorted(set(scores))


@both_variants
def test_neighbours_of_the_centre_alone_are_asked_for(first):
  for state, requests in trace(search(first_improvement=first)):
    if state.memory.centre is not None:
      assert {r.architecture for r in requests} <= set(SPACE.neighbours(state.memory.centre))


def test_the_first_better_one_is_moved_to():
  states = [state for state, _ in trace(search(batch=1))]
  improved = 0
  for before, after in itertools.pairwise(states):
    if before.memory.centre is not None and before.history is not after.history:
      *_, last = after.history.answers
      if score(last) > score(before.memory.centre):
        over = after.memory.centre is None  # All around it are known, and none is better.
        assert over or score(after.memory.centre) >= score(last)
        improved += 1
      elif after.memory.centre is not None:
        assert after.memory.centre == before.memory.centre
  assert improved >= 5


def test_all_neighbours_are_known_before_a_move():
  states = [state for state, _ in trace(search(first_improvement=False, evaluations=400))]
  for before, after in itertools.pairwise(states):
    if before.memory.centre is not None and after.memory.centre != before.memory.centre:
      assert set(SPACE.neighbours(before.memory.centre)) <= set(after.history.answers)


def test_a_start_is_the_best_of_the_first_that_random_search_draws():
  drawn = strategy_with('random', **{'budget.evaluations': 4})
  first = [r.architecture for r in asked(drawn)]
  state = next(state for state, _ in trace(search()) if state.memory.centre is not None)
  assert list(state.history.answers) == first and state.memory.centre == max(first, key=score)


def test_every_start_has_as_many_networks():
  starts, count = [], 0
  for state, requests in trace(search(evaluations=600)):
    if state.memory.centre is None:
      count += len(requests)
    elif count:
      starts.append(count)
      count = 0
  assert len(starts) >= 3 and min(starts) == 4
  assert all(start % 4 == 0 for start in starts)  # Above 4 where the best's neighbours were all known.


def test_a_start_without_success_draws_on():
  def others_fail(request):
    return Evaluation(metrics={'accuracy': 0.5}) if request.architecture.depth == 3 else Evaluation(reason='made-up failure')

  for state, _ in trace(search(initial=2, batch=1), others_fail):
    assert state.memory.centre is None or state.memory.centre.depth == 3


@both_variants
@pytest.mark.parametrize('seed', range(2))
def test_nothing_is_asked_for_twice(first, seed):
  requests = asked(search(first_improvement=first), seed=seed)
  assert len({r.architecture for r in requests}) == len(requests) == 250


@both_variants
def test_a_small_space_is_seen_whole_and_the_search_ends(first):
  requests = asked(search(SMALL, first_improvement=first))
  assert len({r.architecture for r in requests}) == len(requests) == SMALL.size() == 16


@both_variants
def test_a_landscape_with_one_top_is_climbed_from_the_first_start(first):
  space = ChainSpace(min_depth=12, max_depth=12, min_width=4, max_width=4, kernels=(3, 5))

  def share(request):
    network = request.architecture
    return Evaluation(metrics={'accuracy': (sum(network.operations) + network.kernels.count(5)) / 24})

  strategy = search(space, first_improvement=first, initial=1, evaluations=1 + 24 * 24)
  *_, (state, _) = trace(strategy, share)
  assert state.history.accuracy(strategy.best(state)) == 1.0


@pytest.mark.parametrize('name', ['initial', 'batch'])
def test_settings_below_one_are_user_errors(name, user_error):
  with user_error(f'config.local_search.{name} 0'):
    search(**{name: 0})

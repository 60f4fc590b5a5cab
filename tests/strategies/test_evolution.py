import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.synthetic_estimator import SPACE, TASK, estimate, play, strategy_with

from enas_jax.errors import UserError
from enas_jax.spaces.chain import ChainArchitecture, ChainSpace
from enas_jax.strategies.evolution_rules import EvolutionSettings, Member, Stage, non_dominated, tournament
from enas_jax.types import Evaluation

PLAIN = ChainArchitecture.uniform(3, 4)
members = st.lists(st.builds(Member, st.just(PLAIN), st.integers(0, 4).map(lambda i: i / 4), st.integers(0, 4)), max_size=12)


def search(space=SPACE, **changes):
  return strategy_with('evolution', space, **{name.replace('__', '.'): v for name, v in changes.items()})


def trace(strategy, answer=estimate, seed=0):
  return list(play(strategy, strategy.init(seed), answer))


def asked(strategy, answer=estimate):
  return [r for _, requests in trace(strategy, answer) for r in requests]


@given(members)
def test_non_dominated_is_what_no_one_dominates(population):
  front = non_dominated(population)
  plain = {m for m in population if not any(other.dominates(m) for other in population)}
  assert set(front) == plain and len(front) == len(plain)


def rules(**changes):
  return EvolutionSettings(**changes)


def test_a_tournament_of_all_is_won_by_the_most_accurate():
  population = [Member(PLAIN, a, 0) for a in (0.2, 0.9, 0.5)]
  whole = rules(tournament=3)
  assert tournament(population, whole, np.random.default_rng(0)).accuracy == 0.9


def test_a_tournament_of_one_is_won_by_anyone():
  population = [Member(PLAIN, a, 0) for a in (0.2, 0.9, 0.5)]
  won = {tournament(population, rules(tournament=1), np.random.default_rng(i)).accuracy for i in range(30)}
  assert won == {0.2, 0.9, 0.5}


def test_a_dominated_member_wins_no_tournament_of_all():
  population = [Member(PLAIN, 0.9, 5), Member(PLAIN, 0.8, 6), Member(PLAIN, 0.7, 1)]
  won = {tournament(population, rules(tournament=3), np.random.default_rng(i)).accuracy for i in range(30)}
  assert won == {0.9, 0.7}


def test_the_stages_are_disjoint():
  strategy = search()
  requests = asked(strategy)
  macro, micro = ([r for r in requests if r.phase == phase] for phase in ('macro', 'micro'))
  assert len(macro) == len(micro) == 15
  assert all(not any(r.architecture.operations) and set(r.architecture.kernels) == {3} for r in macro)
  winner = max(macro, key=lambda r: estimate(r).accuracy).architecture
  assert micro[0].architecture == winner
  assert {(r.architecture.depth, r.architecture.width) for r in micro} == {(winner.depth, winner.width)}


def test_epochs_follow_the_network_then_are_fixed():
  requests = asked(search(epochs__first=4, epochs__per_layer=1, epochs__per_width_step=2, epochs__micro=3))
  for r in requests:
    expected = 4 + (r.architecture.depth - 3) + (10 - r.architecture.width) if r.phase == 'macro' else 3
    assert r.schedule.epochs == expected


@pytest.mark.parametrize('seed', range(5))
def test_nothing_is_asked_for_twice_in_a_stage(seed):
  requests = [(r.phase, r.architecture) for _, batch in trace(search(), seed=seed) for r in batch]
  assert len(set(requests)) == len(requests)


def test_children_are_one_change_from_a_living_member():
  strategy = search(evolution__population=4, evolution__batch=3)
  for state, requests in trace(strategy):
    if len(state.seen) >= 4:
      near = {n for m in state.population for n in SPACE.neighbours(m.architecture)}
      assert all(r.architecture in near for r in requests[:1])


def test_the_oldest_leaves():
  strategy = search(evolution__population=4, evolution__macro_share=1.0)
  for state, _ in trace(strategy):
    assert [m.architecture for m in state.population] == list(state.seen[-4:])


def test_failures_enter_neither_population_nor_archive():
  answer = functools.partial(estimate, failing=0.4)
  for state, _ in trace(search(), answer):
    assert all(np.isfinite(m.accuracy) for m in (*state.population, *state.archive))


@pytest.mark.parametrize('limit', ['max_params', 'max_macs'])
def test_limits_hold_for_every_request(limit):
  measure = {'max_params': SPACE.num_params, 'max_macs': SPACE.macs}[limit]
  value = measure(ChainArchitecture.uniform(4, 8), TASK)
  requests = asked(search(**{f'evolution__{limit}': value}))
  assert {r.phase for r in requests} == {'macro', 'micro'}
  assert all(measure(r.architecture, TASK) <= value for r in requests)


def test_a_limit_below_the_smallest_network_is_a_user_error():
  smallest = min(SPACE.num_params(a, TASK) for a in Stage(SPACE, TASK, rules()).macro_networks)
  search(evolution__max_params=smallest)
  with pytest.raises(UserError, match=f'max_params {smallest - 1}'):
    search(evolution__max_params=smallest - 1)


@pytest.mark.parametrize(('size', 'measure'), [('params', SPACE.num_params), ('macs', SPACE.macs)])
@pytest.mark.parametrize('failing', [0.0, 0.3])
def test_the_front_is_what_nothing_of_its_stage_beats(size, measure, failing):
  strategy, answer = search(evolution__objectives=('accuracy', size)), functools.partial(estimate, failing=failing)
  points = {'macro': {}, 'micro': {}}
  for state, requests in trace(strategy, answer):
    front = strategy.front(state)
    for stage, found in points.items():
      best = {
          (a, s) for a, s in found.values()
          if not any(b >= a and t <= s and (b, t) != (a, s) for b, t in found.values())}
      members = [m for m in front if m['stage'] == stage]
      assert sorted((m['accuracy'], m[size]) for m in members) == sorted(best)
      assert all(found[SPACE.from_json(m['architecture'])] == (m['accuracy'], m[size]) for m in members)
    for r in requests:
      if answer(r).ok:
        points[r.phase][r.architecture] = (answer(r).accuracy, measure(r.architecture, TASK))
  assert {m['stage'] for m in front} == {'macro', 'micro'} and len(front) > 3


def test_best_is_the_fronts_most_accurate():
  strategy = search(evolution__objectives=('accuracy', 'params'))
  state, _ = trace(strategy)[-1]
  front = [m for m in strategy.front(state) if m['stage'] == 'micro']
  assert strategy.best(state) == SPACE.from_json(max(front, key=lambda m: m['accuracy'])['architecture'])


def test_outlook_is_as_long_as_the_evaluations_left():
  strategy = search(evolution__batch=4)
  for state, requests in trace(strategy):
    rest = strategy.outlook(state)
    assert len(rest) == 30 - state.spent.evaluations
    assert rest[:len(requests)] == requests
    assert {r.architecture for r in rest} == {r.architecture for r in requests}


def test_outlook_is_the_next_batch_where_cost_alone_is_limited():
  strategy = search(budget__evaluations=0, budget__train_macs=3e11)
  assert all(strategy.outlook(state) == requests for state, requests in trace(strategy))


def test_the_macro_stage_goes_on_until_something_succeeds():
  def only_the_smallest_works(request):
    works = request.architecture.depth == 3 and request.architecture.width == 4
    return Evaluation(metrics={'accuracy': 0.5}, train_macs=1.0) if works else Evaluation(reason='made-up failure')

  strategy = search(evolution__macro_share=0.05)
  requests = asked(strategy, only_the_smallest_works)
  assert next(r for r in requests if r.phase == 'micro').architecture == PLAIN
  state, _ = trace(strategy, only_the_smallest_works)[-1]
  assert strategy.best(state) == PLAIN


def test_where_the_micro_stage_fails_the_macro_winner_stays():
  def micro_fails(request):
    return Evaluation(reason='made-up failure') if request.phase == 'micro' else estimate(request)

  strategy = search()
  states = [state for state, _ in trace(strategy, micro_fails)]
  assert strategy.best(states[-1]) == states[-1].macro_winner.architecture


def test_an_exhausted_space_ends_the_search():
  space = ChainSpace(min_depth=3, max_depth=3, min_width=4, max_width=5, width_step=1, kernels=(3,))
  strategy = search(space, budget__evaluations=100)
  requests = asked(strategy)
  assert [sum(r.phase == phase for r in requests) for phase in ('macro', 'micro')] == [2, 8]


def test_it_finds_what_is_there():
  """Deeper, wider, more convolutions are better; it must beat the mean of the space by far."""

  def size(request):
    network = request.architecture
    return Evaluation(metrics={'accuracy': (network.depth + network.width + sum(network.operations)) / 30})

  strategy = search(budget__evaluations=60)
  best = strategy.best(trace(strategy, size)[-1][0])
  assert best.depth >= 6 and best.width >= 8 and sum(best.operations) >= best.depth - 2


@pytest.mark.parametrize(('name', 'value', 'message'), [
    ('population', 0, 'population 0'), ('batch', 0, 'batch 0'), ('tournament', 9, 'tournament 9 is above population 8'),
    ('macro_share', 0.0, r'macro_share 0\.0'), ('objectives', ('params',), 'objectives'), ('max_params', -1, 'max_params -1')])
def test_settings_out_of_range_are_user_errors(name, value, message):
  with pytest.raises(UserError, match=message):
    search(**{f'evolution__{name}': value})

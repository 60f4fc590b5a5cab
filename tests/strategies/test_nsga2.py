import dataclasses
import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.synthetic_estimator import SPACE, estimate, play, strategy_with

from enas_jax.spaces.chain import ChainArchitecture, ChainSpace
from enas_jax.strategies.history import History
from enas_jax.strategies.history_strategy import HistoryState
from enas_jax.strategies.hypervolume import hypervolume
from enas_jax.strategies.nsga2 import crowded_order, crowding_distance
from enas_jax.types import Evaluation

SETTINGS = {'objectives': ('accuracy', 'macs'), 'population': 6, 'batch': 2}
points = st.integers(2, 3).flatmap(lambda m: st.lists(st.tuples(*[st.integers(0, 5)] * m), max_size=12))


def search(space=SPACE, evaluations=40, **changes):
  settings = {f'nsga2.{name}': value for name, value in {**SETTINGS, **changes}.items()}
  return strategy_with('nsga2', space, **settings, **{'budget.evaluations': evaluations})


def trace(strategy, answer=estimate, seed=0):
  return list(play(strategy, strategy.init(seed), answer))


def asked(strategy, answer=estimate, seed=0):
  return [r for _, requests in trace(strategy, answer, seed) for r in requests]


def dominates(a, b):
  """Of costs."""
  return all(x <= y for x, y in zip(a, b, strict=True)) and a != b


def plain_ranks(costs):
  """Front after front, each what no other one left dominates."""
  ranks, left = {}, list(range(len(costs)))
  while left:
    front = [i for i in left if not any(dominates(costs[j], costs[i]) for j in left)]
    ranks.update(dict.fromkeys(front, len(set(ranks.values()))))
    left = [i for i in left if i not in ranks]
  return [ranks[i] for i in range(len(costs))]


@given(points)
def test_the_order_is_by_front_then_by_crowding(costs):
  order = crowded_order(np.array(costs, float).reshape(len(costs), -1) if costs else np.zeros((0, 2)))
  ranks = plain_ranks(costs)
  assert sorted(order) == list(range(len(costs)))
  assert [ranks[i] for i in order] == sorted(ranks)
  for rank in set(ranks):
    members = [i for i in range(len(costs)) if ranks[i] == rank]
    distances = dict(zip(members, crowding_distance(np.array([costs[i] for i in members], float)), strict=True))
    in_order = [distances[i] for i in order if ranks[i] == rank]
    assert in_order == sorted(in_order, reverse=True)


def test_crowding_distances_by_hand():
  front = np.array([(0, 10), (1, 6), (2, 5), (6, 2), (10, 0)], float)
  expected = [np.inf, 0.2 + 0.5, 0.5 + 0.4, 0.8 + 0.5, np.inf]
  assert crowding_distance(front) == pytest.approx(expected)
  assert crowding_distance(front[::-1]) == pytest.approx(expected[::-1])


def test_equal_values_crowd_without_a_division_by_zero():
  assert crowding_distance(np.ones((4, 2))).tolist() == [np.inf, 0.0, 0.0, np.inf]


@pytest.mark.parametrize('failing', [0.0, 0.3])
@pytest.mark.parametrize('batch', [1, 6])
def test_the_best_of_the_living_and_their_children_survive(batch, failing):
  """Survival run plainly beside it: whole fronts enter until one does not fit."""
  answer = functools.partial(estimate, failing=failing)
  costs, expected = {}, []
  for state, requests in trace(search(batch=batch), answer):
    living = list(state.memory)
    ranks = dict(zip(expected, plain_ranks([costs[a] for a in expected]), strict=True))
    assert set(living) <= set(expected) and len(living) == min(6, len(expected))
    assert sorted(ranks[a] for a in living) == sorted(ranks.values())[:len(living)]
    costs.update({r.architecture: (-answer(r).accuracy, answer(r).metrics['macs']) for r in requests if answer(r).ok})
    expected = living + [r.architecture for r in requests if answer(r).ok]


@pytest.mark.parametrize('failing', [0.0, 0.3])
@pytest.mark.parametrize('objectives', [('accuracy', 'macs'), ('accuracy', 'macs', 'latency')])
def test_the_front_is_what_nothing_told_beats(objectives, failing):
  def answer(request):
    evaluation = estimate(request, failing=failing)
    latency = {'latency': float(sum(request.architecture.kernels))}
    return dataclasses.replace(evaluation, metrics={**evaluation.metrics, **latency}) if evaluation.ok else evaluation

  strategy, told = search(objectives=objectives), {}
  for state, requests in trace(strategy, answer):
    front = strategy.front(state)
    costs = [(-values[0], *values[1:]) for values in told.values()]
    best = {c for c in costs if not any(dominates(other, c) for other in costs)}
    assert sorted((-m['accuracy'], *(m[name] for name in objectives[1:])) for m in front) == sorted(best)
    for member in front:
      assert set(member) == {'stage', 'architecture', *objectives} and member['stage'] == 'search'
      assert told[SPACE.from_json(member['architecture'])] == tuple(member[name] for name in objectives)
    told.update({
        r.architecture: tuple(answer(r).metrics[name] for name in objectives) for r in requests if answer(r).ok})
  assert len(front) > 3


def test_best_is_the_most_accurate_of_the_front():
  strategy = search()
  *_, (state, _) = trace(strategy)
  assert strategy.best(state) == SPACE.from_json(max(strategy.front(state), key=lambda m: m['accuracy'])['architecture'])


def test_it_begins_as_random_search_and_goes_on_with_mutants_of_the_living():
  drawn = strategy_with('random', **{'budget.evaluations': 6})
  strategy = search()
  assert [r.architecture for r in asked(strategy)[:6]] == [r.architecture for r in asked(drawn)]
  for state, requests in trace(strategy):
    near = {n for a in state.memory for n in SPACE.neighbours(a)}
    assert len(state.memory) < 6 or all(r.architecture in near for r in requests)


def test_the_better_of_two_is_a_parent():
  """Of a pair of six drawn with replacement the first is the better in 11 of 36 cases, the last in 1 of 36."""
  strategy = search(batch=1)
  networks = tuple(
      ChainArchitecture.uniform(depth, width, operation) for depth, operation in ((3, 0), (5, 1), (7, 0)) for width in (4, 10))
  counts = np.zeros(6)
  for seed in range(360):
    history = History(seed=seed).add(networks, [Evaluation(metrics={'accuracy': 0.5, 'macs': 1})] * 6, ('accuracy', 'macs'))
    child = strategy.ask(HistoryState(history=history, memory=networks))[0][0].architecture
    counts += [child in SPACE.neighbours(a) for a in networks]
  assert counts == pytest.approx([110, 90, 70, 50, 30, 10], abs=30) and counts.sum() == 360


@pytest.mark.parametrize('seed', range(3))
def test_nothing_is_asked_for_twice(seed):
  requests = asked(search(), seed=seed)
  assert len({r.architecture for r in requests}) == len(requests) == 40


def test_parents_are_recombined_where_the_space_can():
  class Crossing(ChainSpace):

    def crossover(self, first, second, rng):
      del rng
      return dataclasses.replace(first, width=second.width)

  space = Crossing(**dataclasses.asdict(SPACE))
  crossed = 0
  for state, requests in trace(search(space)):
    if len(state.memory) == 6:
      mixed = {dataclasses.replace(a, width=b.width) for a in state.memory for b in state.memory}
      near = {n for a in mixed for n in SPACE.neighbours(a)}
      assert all(r.architecture in near for r in requests)
      crossed += sum(r.architecture not in {n for a in state.memory for n in SPACE.neighbours(a)} for r in requests)
  assert crossed > 5


def test_it_covers_more_than_random_search():
  """Where convolutions are accurate at the middle of a chain, and large in any place."""
  space = ChainSpace(min_depth=12, max_depth=12, min_width=4, max_width=4, kernels=(3,))

  def answer(request):
    network = request.architecture
    return Evaluation(metrics={'accuracy': sum(network.operations[3:9]) / 6, 'size': sum(network.operations)})

  def covered(strategy, seed):
    told = [answer(r).metrics for r in asked(strategy, answer, seed)]
    return hypervolume([(m['accuracy'], m['size']) for m in told], [0, 12], [True, False])

  found = search(space, evaluations=150, population=10, objectives=('accuracy', 'size'))
  drawn = strategy_with('random', space, **{'budget.evaluations': 150})
  volumes = np.array([[covered(s, seed) for s in (found, drawn)] for seed in range(5)])
  assert volumes[:, 0].mean() > 1.1 * volumes[:, 1].mean()


def test_an_objective_that_is_not_measured_is_a_user_error(user_error):
  strategy = search(objectives=('accuracy', 'latency'))
  requests, state = strategy.ask(strategy.init(0))
  with user_error("'latency'", 'accuracy, macs'):
    strategy.tell(state, [estimate(r) for r in requests])


def test_an_unknown_value_keeps_a_network_out():
  def answer(request):
    macs = float('nan') if request.architecture.depth > 4 else 1.0
    return Evaluation(metrics={'accuracy': 0.5, 'macs': macs})

  strategy = search()
  *_, (state, _) = trace(strategy, answer)
  assert state.history.spent.evaluations == 40
  assert {a.depth for a in state.memory} <= {3, 4} and len(strategy.front(state)) == 1


@pytest.mark.parametrize(('name', 'value'), [
    ('population', 0), ('batch', 0), ('objectives', ('accuracy',)), ('objectives', ('macs', 'params')),
    ('objectives', ('accuracy', 'macs', 'macs')), ('objectives', ())])
def test_settings_out_of_range_are_user_errors(name, value, user_error):
  with user_error(f'config.nsga2.{name} {value}'):
    search(**{name: value})

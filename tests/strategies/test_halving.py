"""Successive halving against an example by hand, its cost in closed form, and its rules under failures."""
import functools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.synthetic_estimator import SPACE, estimate, play, strategy_with

from enas_jax.config import get_config
from enas_jax.errors import UserError
from enas_jax.spaces.chain import ChainSpace
from enas_jax.types import Evaluation, Schedule

FAILED = Evaluation(reason='made-up failure')


def search(candidates=9, factor=3, epochs=9, space=SPACE, **changes):
  """Halving with the same epochs for every network, unless `changes` say otherwise."""
  return strategy_with('halving', space, **{
      'halving.candidates': candidates, 'halving.factor': factor, 'epochs.first': epochs, **changes})


def table(strategy, rungs, seed=0):
  """Answers by hand: `rungs` has a list a rung, accuracies by the place in the draw; 0 for a failure."""
  places = {network: place for place, network in enumerate(strategy.init(seed).networks)}

  def answer(request):
    accuracy = rungs[int(request.phase.removeprefix('rung ')) - 1][places[request.architecture]]
    return Evaluation(metrics={'accuracy': accuracy}) if accuracy else FAILED

  return answer


def asked(strategy, answer=estimate, seed=0):
  """For each rung, the places in the draw and the epochs trained; then the last state."""
  places = {network: place for place, network in enumerate(strategy.init(seed).networks)}
  *steps, (state, _) = play(strategy, strategy.init(seed), answer)
  return [[(places[r.architecture], r.schedule.trained_epochs) for r in requests] for _, requests in steps], state


def test_nine_networks_by_hand():
  """Places 4, 1 and 7 lead after one epoch; of these 7 after three."""
  strategy = search()
  first = [0.30, 0.50, 0.20, 0.10, 0.60, 0.25, 0.15, 0.40, 0.35]
  answer = table(strategy, [first, [0, 0.60, 0, 0, 0.65, 0, 0, 0.70, 0], [0, 0, 0, 0, 0, 0, 0, 0.80, 0]])
  rungs, state = asked(strategy, answer)
  assert rungs == [[(place, 1) for place in range(9)], [(1, 3), (4, 3), (7, 3)], [(7, 9)]]
  assert strategy.best(state) == state.networks[7]
  assert strategy.describe(state).startswith('halving, done: best depth') and strategy.describe(state).endswith('at 80.00 %')


def test_an_odd_field_by_hand():
  """Eleven by twos: 11, 5, 2, 1 networks; of 20 epochs 20 / 8 = 2.5, to the even 2, then 5, 10, 20."""
  rungs, _ = asked(search(candidates=11, factor=2, epochs=20))
  assert [(len(rung), {epochs for _, epochs in rung}) for rung in rungs] == [(11, {2}), (5, {5}), (2, {10}), (1, {20})]


def test_the_request_is_the_whole_schedule_with_a_stop():
  strategy = search(**{'epochs.per_layer': 2, 'epochs.per_width_step': 1, 'training.learning_rate': 0.3})
  training = {**get_config().training.to_dict(), 'learning_rate': 0.3}
  for state, requests in play(strategy, strategy.init(0)):
    left = 2 - len(state.results)
    for r in requests:
      epochs = 9 + 2 * (r.architecture.depth - 3) + (10 - r.architecture.width) // 2
      stop = max(1, round(epochs / 3**left)) if left else None
      assert r.schedule == Schedule(epochs=epochs, stop_epoch=stop, **training)
      assert (r.replicate, r.phase) == (0, f'rung {3 - left}')


def test_networks_are_those_of_random_search():
  control = strategy_with('random', **{'budget.evaluations': 9})
  drawn = [r.architecture for _, requests in play(control, control.init(5)) for r in requests]
  assert list(search().init(5).networks) == drawn


def test_equals_go_on_in_the_order_of_the_draw():
  strategy = search(candidates=6, factor=2, epochs=8)
  answer = table(strategy, [[0.1, 0.5, 0.5, 0.5, 0.5, 0.9], [0, 0.7, 0.7, 0, 0, 0.6], [0, 0.5, 0, 0, 0, 0]])
  rungs, state = asked(strategy, answer)
  assert [[place for place, _ in rung] for rung in rungs] == [[0, 1, 2, 3, 4, 5], [1, 2, 5], [1]]
  assert strategy.best(state) == state.networks[1]


@pytest.mark.parametrize('factor', [2, 3, 4])
def test_one_candidate_is_trained_whole(factor):
  strategy = search(candidates=1, factor=factor)
  rungs, state = asked(strategy)
  assert rungs == [[(0, 9)]]
  assert strategy.best(state) == state.networks[0]


def test_a_small_space_is_the_whole_field():
  space = ChainSpace(min_depth=3, max_depth=3, min_width=4, max_width=5, width_step=1, kernels=(3,))
  rungs, _ = asked(search(candidates=100, space=space))
  assert [len(rung) for rung in rungs] == [16, 5, 1]


def test_a_short_schedule_asks_for_the_same_again():
  """Two epochs: 2 / 9 and 2 / 3 are both one epoch. No request is in the outlook twice."""
  strategy = search(epochs=2)
  first, second, last = (requests for _, requests in play(strategy, strategy.init(0)) if requests)
  assert set(second) < set(first) and [r.schedule.stop_epoch for r in second] == [1, 1, 1]
  assert len(last) == 1 and last[0].schedule.stop_epoch is None
  assert len(strategy.outlook(strategy.init(0))) == 9 + 1


def test_a_whole_training_has_one_name():
  strategy = search(epochs=1)
  for _, requests in play(strategy, strategy.init(0)):
    assert all(r.schedule.stop_epoch is None for r in requests)


def test_failed_ones_leave_their_places_empty():
  """Two of nine succeed where three may go on; of two floor(2 / 3), at least one, goes on."""
  strategy = search()
  answer = table(strategy, [[0, 0, 0.2, 0, 0, 0, 0.3, 0, 0], [0, 0, 0.4, 0, 0, 0, 0.1, 0, 0], [0, 0, 0.5] + 6 * [0]])
  rungs, state = asked(strategy, answer)
  assert rungs == [[(place, 1) for place in range(9)], [(2, 3), (6, 3)], [(2, 9)]]
  assert strategy.best(state) == state.networks[2]


@pytest.mark.parametrize(('second', 'third', 'best', 'count'), [
    ([0.6, 0, 0.7], [0, 0, 0], 0, 3),  # Place 2 fails whole: the best of the rung before.
    ([0, 0, 0], None, 4, 2),  # A rung fails whole: the best of those left out, who never failed.
])
def test_where_a_later_rung_fails_the_best_of_the_others_wins(second, third, best, count):
  strategy = search(candidates=9)
  answer = table(strategy, [[0.9, 0.8, 0.7, 0.1, 0.3, 0.2, 0.3, 0.1, 0.1], second + 6 * [0], (third or []) + 6 * [0]])
  rungs, state = asked(strategy, answer)
  assert len(rungs) == count and strategy.done(state)
  assert strategy.best(state) == state.networks[best]


def test_where_all_fail_there_is_no_network():
  strategy = search()
  rungs, state = asked(strategy, lambda _: FAILED)
  assert [len(rung) for rung in rungs] == [9]
  assert strategy.done(state) and strategy.best(state) is None and strategy.outlook(state) == ()
  assert strategy.describe(state) == 'halving, done: nothing yet'


def test_the_best_so_far_is_of_the_last_rung():
  """The first rung's 0.9 is of another length of training than the second's 0.4."""
  strategy = search(candidates=4, factor=2)
  answer = table(strategy, [[0.9, 0.8, 0.7, 0.6], [0.3, 0.4, 0, 0], [0, 0.2, 0, 0]])
  best = [strategy.best(state) for state, _ in play(strategy, strategy.init(0), answer)]
  networks = strategy.init(0).networks
  assert best == [None, networks[0], networks[1], networks[1]]


FIELDS = {'candidates': st.integers(1, 40), 'factor': st.integers(2, 4), 'epochs': st.integers(1, 60)}


@settings(max_examples=40, deadline=None)
@given(**FIELDS)
def test_epochs_in_all(candidates, factor, epochs):
  """Sum over rungs of networks x epochs; where training goes on from the stop before, of networks x further epochs."""
  strategy = search(candidates, factor, epochs)
  sizes = [candidates]
  while sizes[-1] > 1:
    sizes.append(max(1, sizes[-1] // factor))
  stops = [max(1, round(epochs / factor**k)) for k in reversed(range(len(sizes)))]
  anew, reached = 0, {}
  for _, requests in play(strategy, strategy.init(0)):
    for r in requests:
      anew += r.schedule.trained_epochs
      reached[r.architecture] = max(reached.get(r.architecture, 0), r.schedule.trained_epochs)
  assert anew == sum(n * stop for n, stop in zip(sizes, stops, strict=True))
  further = [stop - before for stop, before in zip(stops, [0, *stops], strict=False)]
  assert sum(reached.values()) == sum(n * more for n, more in zip(sizes, further, strict=True))
  assert stops[-1] == epochs


@settings(max_examples=40, deadline=None)
@given(**FIELDS, seed=st.integers(0, 2**32 - 1), failing=st.sampled_from([0.0, 0.3, 0.8]))
def test_every_rung_is_the_best_of_the_one_before(candidates, factor, epochs, seed, failing):
  strategy, answer = search(candidates, factor, epochs), functools.partial(estimate, failing=failing)
  before = None
  for state, requests in play(strategy, strategy.init(seed), answer):
    now = [r.architecture for r in requests]
    if before is not None:
      scores = {network: accuracy for network, accuracy in before.items() if accuracy > float('-inf')}
      count = min(len(scores), max(1, len(before) // factor))
      out = [scores[network] for network in scores if network not in now]
      assert not requests or (len(now) == count and min(scores[n] for n in now) >= max(out, default=0.0))
      assert now == [n for n in before if n in now]
    assert strategy.done(state) == (not requests)
    before = {r.architecture: answer(r).accuracy for r in requests}


@settings(max_examples=20, deadline=None)
@given(**FIELDS, seed=st.integers(0, 2**32 - 1), failing=st.sampled_from([0.0, 0.4]))
def test_a_restart_at_every_step_asks_for_the_same(candidates, factor, epochs, seed, failing):
  answer = functools.partial(estimate, failing=failing)
  strategy = search(candidates, factor, epochs)
  whole = list(play(strategy, strategy.init(seed), answer))
  for step, (stopped, _) in enumerate(whole):
    again = search(candidates, factor, epochs)
    state = again.from_json(json.loads(json.dumps(strategy.to_json(stopped))))
    assert list(play(again, state, answer)) == whole[step:]


def test_outlook_costs_what_comes():
  """Epochs are one number for all, so that others in the places of the best cost alike."""
  strategy = search(candidates=27, epochs=27)
  whole = list(play(strategy, strategy.init(0)))
  for step, (state, _) in enumerate(whole):
    to_come = [r.schedule.trained_epochs for _, requests in whole[step:] for r in requests]
    assert [r.schedule.trained_epochs for r in strategy.outlook(state)] == to_come


@pytest.mark.parametrize(('name', 'value', 'message'), [
    ('candidates', 0, r'config\.halving\.candidates 0 is below 1; give at least 1'),
    ('factor', 1, r'config\.halving\.factor 1 is below 2; give at least 2'),
    ('factor', -3, r'config\.halving\.factor -3 is below 2')])
def test_out_of_range_is_a_user_error(name, value, message):
  with pytest.raises(UserError, match=message):
    search(**{f'halving.{name}': value})


@pytest.mark.parametrize('stop', [0, -1, 10])
def test_a_stop_outside_the_epochs_is_a_user_error(stop):
  with pytest.raises(UserError, match=rf'stop_epoch {stop} is outside 1 to 9; give'):
    Schedule(epochs=9, stop_epoch=stop)


def test_trained_epochs():
  assert Schedule(epochs=9).trained_epochs == Schedule(epochs=9, stop_epoch=9).trained_epochs == 9
  assert Schedule(epochs=9, stop_epoch=1).trained_epochs == 1

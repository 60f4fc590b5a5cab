"""What a strategy with a history is beside its idea."""
import dataclasses

import pytest
from support.synthetic_estimator import estimate, play, strategy_with

from enas_jax.strategies import STRATEGIES, History, HistoryStrategy, Memoryless, draw_new
from enas_jax.strategies.history_strategy import HistoryState

WITH_HISTORY = ('bananas', 'local_search', 'nsga2', 'random', 'regularized_evolution')
ALIEN = [
    {}, {'history': {}}, {'seed': 0, 'answers': [], 'spent': {}}, {'history': None, 'memory': 3, 'phase': '', 'chosen': []}]


def small(name):
  settings = {'bananas': {'bananas.predictor': 'ridge', 'bananas.initial': 3}}.get(name, {})
  return strategy_with(name, **settings)


def test_choosing_happens_once_a_batch():
  """A predictor's fit costs seconds: it is not done again for the outlook and the answers."""
  setup, rooms = strategy_with('random').setup, []

  def choose(history, room):
    rooms.append(room)
    return 'counted', draw_new(setup.space, history, room)

  strategy = HistoryStrategy(setup, Memoryless(choose), label='counting', batch=4)
  for state, requests in play(strategy, strategy.init(0)):
    assert strategy.ask(state)[0] == requests and bool(strategy.outlook(state)) == bool(requests)
  assert rooms == [4, 4, 4, 4, 4, 4, 4, 2]


def test_answers_may_come_to_a_state_that_was_not_asked():
  strategy = strategy_with('regularized_evolution')
  requests, asked = strategy.ask(strategy.init(0))
  answers = [estimate(r) for r in requests]
  assert strategy.tell(strategy.init(0), answers) == strategy.tell(asked, answers)


@pytest.mark.parametrize(('choose', 'message'), [
    (lambda space, history, room: (), 'chose 0 architectures, 0 of them new; choose new ones, from 1 to 4'),
    (lambda space, history, room: draw_new(space, history, room + 1), 'chose 5 architectures, 5 of them new'),
    (lambda space, history, room: 2 * draw_new(space, history, 1), 'chose 2 architectures, 1 of them new'),
    (lambda space, history, room: draw_new(space, History(seed=0), 1), 'chose 1 architectures, 0 of them new'),
])
def test_a_wrong_choice_is_a_user_error_where_the_search_would_never_end(choose, message, user_error):
  setup = strategy_with('random').setup
  strategy = HistoryStrategy(
      setup, Memoryless(lambda history, room: ('wrong', choose(setup.space, history, room))), label='mine', batch=4)
  with user_error(f"strategy 'mine' {message}"):
    list(play(strategy, strategy.init(0)))


@pytest.mark.parametrize('name', WITH_HISTORY)
def test_a_state_that_was_asked_is_kept_with_what_was_chosen(name):
  strategy = small(name)
  _, state = strategy.ask(strategy.init(0))
  assert isinstance(state, HistoryState) and state.chosen
  assert strategy.from_json(strategy.to_json(state)) == state
  assert dataclasses.replace(state, phase='', chosen=()) == strategy.init(0)


@pytest.mark.parametrize('name', STRATEGIES)
@pytest.mark.parametrize('record', ALIEN, ids=str)
def test_a_record_of_something_else_is_refused_as_the_search_expects(name, record):
  with pytest.raises((AttributeError, KeyError, TypeError, ValueError)):
    small(name).from_json(record)

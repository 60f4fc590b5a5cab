"""What a strategy with a history is beside its idea."""
import dataclasses

import pytest
from support.synthetic_estimator import estimate, play, strategy_with

from enas_jax.strategies import STRATEGIES, HasNotice, History, HistoryStrategy, Memoryless, draw_new
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
    (lambda space, history, room: (), 'returned 0 architectures, 0 of them new; return new ones, from 1 to 4'),
    (lambda space, history, room: draw_new(space, history, room + 1), 'returned 5 architectures, 5 of them new'),
    (lambda space, history, room: 2 * draw_new(space, history, 1), 'returned 2 architectures, 1 of them new'),
    (lambda space, history, room: draw_new(space, History(seed=0), 1), 'returned 1 architectures, 0 of them new'),
])
def test_a_wrong_choice_is_a_user_error_where_the_search_would_never_end(choose, message, user_error):
  setup = strategy_with('random').setup
  strategy = HistoryStrategy(
      setup, Memoryless(lambda history, room: ('wrong', choose(setup.space, history, room))), label='mine', batch=4)
  with user_error(f"strategy 'random': choose {message}"):
    list(play(strategy, strategy.init(0)))


@pytest.mark.parametrize(('answer', 'message'), [
    (lambda new: None, 'returned None; '), (lambda new: new, 'returned (ChainArchitecture('),
    (lambda new: 'ab', "returned 'ab'; "),
    (lambda new: ('word', new[0]), "returned ('word', ChainArchitecture("), (lambda new: (new, 'word'), 'returned ((ChainArch'),
    (lambda new: (1, new), 'returned (1, (ChainArch'), (lambda new: ('word', new, {}), "returned ('word', (ChainArch"),
    (lambda new: ('word', [*new, 'deep']), "returned 'deep', which is no member of space 'chain'; "),
    (lambda new: ('word', [None]), "returned None, which is no member of space 'chain'; "),
    (lambda new: ('word', [[1]]), "returned [1], which is no member of space 'chain'; "),
    (lambda new: ('word', [dataclasses.replace(new[0], width=999)]), 'returned ChainArchitecture(width=999'),
])
def test_a_choice_is_a_word_and_members(answer, message, user_error):
  setup = strategy_with('random').setup
  strategy = HistoryStrategy(
      setup, Memoryless(lambda history, room: answer(draw_new(setup.space, history, 2))), label='mine', batch=4)
  for ask in (strategy.ask, strategy.outlook):
    with user_error(f'choose {message}', '; return a word for the phase and a list of architectures'):
      ask(strategy.init(0))


def test_a_list_will_do():
  setup = strategy_with('random').setup
  strategy = HistoryStrategy(
      setup, Memoryless(lambda history, room: ['word', list(draw_new(setup.space, history, room))]), label='mine', batch=4)
  *steps, _ = play(strategy, strategy.init(0))
  assert sum(len(requests) for _, requests in steps) == 30


def test_what_it_is_made_of_is_checked(user_error):
  setup = strategy_with('random').setup

  def choose(history, room):
    return 'word', draw_new(setup.space, history, room)

  with user_error("strategy 'random': proposer of a function write Memoryless(function): function lacks begin, choose, learn"):
    HistoryStrategy(setup, choose, label='mine', batch=4)
  for batch in (0, None, 'four'):
    with user_error(f"strategy 'random': batch {batch!r} is no whole number from 1 up"):
      HistoryStrategy(setup, Memoryless(choose), label='mine', batch=batch)


@pytest.mark.parametrize(('name', 'setting', 'label'), [
    ('regularized_evolution', 'population', 'evolution'), ('nsga2', 'population', 'NSGA-II'), ('bananas', 'initial', 'bananas'),
    ('local_search', 'initial', 'local search')])
def test_a_budget_that_ends_before_the_first_decision_is_told(name, setting, label):
  few = strategy_with(name, **{'budget.evaluations': 8, f'{name}.{setting}': 8})
  assert isinstance(few, HasNotice)
  assert few.notice == (
      f'{label}: all 8 are drawn at random, since it begins with 8 such; raise the budget or begin with fewer')
  assert not strategy_with(name, **{'budget.evaluations': 9, f'{name}.{setting}': 8}).notice
  assert not strategy_with(name, **{'budget.evaluations': 0, 'budget.train_macs': 1e9}).notice


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

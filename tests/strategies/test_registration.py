"""A strategy of a user's own: one function and, if it has settings, a class."""
import dataclasses

import pytest
from support.synthetic_estimator import SPACE, TASK, config_with, estimate, play, strategy_with

from enas_jax import registry, settings, strategies
from enas_jax.strategies import HistoryStrategy, Memoryless, Needs, TableFacts, breed_new, draw_new
from enas_jax.strategies.registration import STRATEGIES

WALKERS = {'egnas', 'evolution'}


@dataclasses.dataclass(frozen=True, kw_only=True)
class HillSettings:
  batch: int = 2

  def __post_init__(self):
    settings.at_least(self, 1, 'batch', prefix='config.hill')

  def for_table(self, table):
    return dataclasses.replace(self, batch=table.rows)


def make_hill(chosen, setup):
  """Mutates the best so far."""
  def choose(history, room):
    best = history.best()
    if best is None:
      return 'start', draw_new(setup.space, history, 1)
    return 'climb', breed_new(setup.space, history, room, lambda rng: setup.space.mutate(best, rng))

  return HistoryStrategy(setup, Memoryless(choose), label='hill climbing', batch=chosen.batch)


@pytest.fixture
def register(monkeypatch):
  """Registers for the length of a test."""
  monkeypatch.setattr(STRATEGIES, '_entries', dict(STRATEGIES._entries))
  return strategies.register


def test_a_function_and_a_class_of_settings_make_a_strategy(register, user_error):
  assert register('hill', HillSettings)(make_hill) is make_hill
  strategy = strategy_with('hill')
  assert strategy.needs == Needs() and not strategies.walks('hill')
  *steps, (state, _) = play(strategy, strategy.init(0))
  assert [len(requests) for _, requests in steps] == [1, *[2] * 14, 1]
  assert steps[0][1][0].phase == 'start' and steps[1][1][0].phase == 'climb'
  assert strategy.describe(state).startswith('hill climbing: best depth')
  config = config_with(strategy='hill')
  config.hill = settings.group(HillSettings)
  config.hill.batch = 5
  assert len(strategies.make(config, SPACE, TASK).ask(state.__class__(history=state.history, memory=None))[0]) == 0
  assert strategies.make(config, SPACE, TASK).batch == 5
  config.hill.batch = 0
  with user_error('config.hill.batch 0 is below 1'):
    strategies.make(config, SPACE, TASK)


def test_settings_follow_from_a_table_where_they_say_how(register):
  register('hill', HillSettings)(make_hill)
  facts = TableFacts(name='some', dataset='cifar10', rows=7, queries=30, costs={200: 1.0})
  assert facts.fidelities == (200,)
  assert strategies.make(config_with(strategy='hill'), SPACE, TASK, table=facts).batch == 7
  assert strategies.make(config_with(strategy='random'), SPACE, TASK, table=facts).batch == 2


def test_a_class_is_a_maker_too_and_may_have_no_settings(register, user_error):
  @register('half', walks=True)
  class Half:
    needs = Needs()

    def __init__(self, chosen, setup):
      assert (chosen, setup.task, setup.space) == (settings.NoSettings(), TASK, SPACE)

    def init(self, seed):
      return seed

  assert strategies.walks('half')
  with user_error(f"{__name__}: strategy 'half': Half lacks ask, tell, done, best", 'see Strategy in enas_jax.strategies.base'):
    strategy_with('half')


def test_a_name_is_taken_once_and_its_owner_is_named(register, user_error):
  taken = "mine.py: strategy 'random' is registered already, by enas_jax.strategies.random"
  with registry.reading('mine.py'), user_error(taken):
    register('random', HillSettings)(make_hill)
  with user_error(f"{__name__}: strategy 'hill climbing': the name is not a word"):
    register('hill climbing', HillSettings)(make_hill)
  with user_error("'hill': settings dict is no dataclass"):
    register('hill', dict)(make_hill)


def test_which_strategies_walk_is_known_without_a_space(user_error):
  assert {name for name in STRATEGIES if strategies.walks(name)} == WALKERS
  with user_error("config.strategy 'annealing' is unknown; give one of bananas, egnas"):
    strategies.walks('annealing')


@pytest.mark.parametrize('name', STRATEGIES)
def test_what_a_strategy_needs(name):
  expected = {
      'nsga2': Needs(objectives=('params',)), 'halving': Needs(parts=True, setting='halving.fidelities')}.get(name, Needs())
  assert strategy_with(name).needs == expected
  if name == 'halving':
    by_rung = strategy_with(name, **{'halving.fidelities': (1, 4)})
    assert by_rung.needs == Needs(fidelities=(1, 4), setting='halving.fidelities')
    asked = {r.schedule.epochs for _, requests in play(by_rung, by_rung.init(0), estimate) for r in requests}
    assert asked == {1, 4}

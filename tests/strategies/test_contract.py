"""What every strategy does, on a made-up estimator. A new strategy is a row of VARIANTS."""
import functools
import json

import pytest
from support.synthetic_estimator import PUBLISHED, SPACE, TASK, config_with, estimate, play

from enas_jax import strategies
from enas_jax.errors import UserError

pytestmark = pytest.mark.smoke
LARGE = 10**12
VARIANTS = {
    'bananas': {'strategy': 'bananas', 'bananas.predictor': 'ridge', 'bananas.initial': 5, 'bananas.batch': 5},
    'bananas, mlp': {
        'strategy': 'bananas', 'bananas.initial': 4, 'bananas.batch': 4, 'bananas.candidates': 10, 'budget.evaluations': 12},
    'egnas': {'strategy': 'egnas'},
    'egnas, published': {'strategy': 'egnas', **PUBLISHED},
    'egnas, sure': {
        'strategy': 'egnas', 'egnas.confidence': 0.9, 'egnas.micro_replicates': 2, 'egnas.most_replicates': 8,
        'egnas.grow': True, 'egnas.widen': False, 'egnas.depth_step': 2, 'egnas.micro_groups': 2},
    'egnas, by the training loss': {
        'strategy': 'egnas', 'egnas.confidence': 0.9, 'egnas.decide_by': 'train_loss', 'egnas.micro_replicates': 2,
        'egnas.grow': True, 'egnas.growth_gain': 0.01, 'egnas.kernel_walk': True, 'egnas.widen': False,
        'egnas.micro_groups': 2},
    'egnas, sure, narrower': {
        'strategy': 'egnas', 'egnas.confidence': 0.7, 'egnas.micro_replicates': 2, 'egnas.width_tolerance': 0.02,
        'egnas.micro_window': 3, 'epochs.per_layer': 1, 'epochs.per_width_step': 1},
    'egnas, window': {
        'strategy': 'egnas', 'egnas.window': 4, 'egnas.micro_window': 4, 'egnas.micro_replicates': 2,
        'epochs.per_width_step': 1},
    'evolution': {'strategy': 'evolution'},
    'evolution, one stage': {'strategy': 'evolution', 'evolution.macro_share': 1.0},
    'evolution, params': {
        'strategy': 'evolution', 'evolution.objectives': ('accuracy', 'params'), 'evolution.max_params': 6000},
    'evolution, macs': {
        'strategy': 'evolution', 'evolution.objectives': ('accuracy', 'macs'), 'budget.evaluations': 0,
        'budget.train_macs': 3e11},
    'halving': {'strategy': 'halving'},
    'halving, long': {'strategy': 'halving', 'halving.candidates': 27, 'epochs.first': 30, 'epochs.per_layer': 1},
    'local_search': {'strategy': 'local_search', 'local_search.initial': 4},
    'local_search, all': {'strategy': 'local_search', 'local_search.initial': 1, 'local_search.first_improvement': False},
    'nsga2': {'strategy': 'nsga2', 'nsga2.objectives': ('accuracy', 'macs'), 'nsga2.population': 8, 'nsga2.batch': 3},
    'regularized_evolution': {
        'strategy': 'regularized_evolution', 'regularized_evolution.population': 10, 'regularized_evolution.sample': 3},
    'regularized_evolution, cost': {
        'strategy': 'regularized_evolution', 'regularized_evolution.population': 6, 'regularized_evolution.batch': 4,
        'budget.evaluations': 0, 'budget.train_macs': 3e11},
    'random': {'strategy': 'random'},
    'random, cost': {'strategy': 'random', 'budget.train_macs': 3e11, 'random.batch': 5},
}
BUDGETED = ('bananas', 'evolution', 'local_search', 'nsga2', 'random', 'regularized_evolution')
OBJECTIVES = ('evolution', 'nsga2')  # Strategies that take several.
every_variant = pytest.mark.parametrize('changes', VARIANTS.values(), ids=VARIANTS)


def make(changes):
  config = config_with(**changes)
  return strategies.make(config, SPACE, TASK), config


def test_every_strategy_has_a_row():
  assert {v['strategy'] for v in VARIANTS.values()} == set(strategies.STRATEGIES)


def test_an_unknown_strategy_is_a_user_error_that_names_the_known():
  with pytest.raises(UserError, match=r"'hill'.*egnas, evolution, halving, local_search"):
    make({'strategy': 'hill'})


@every_variant
@pytest.mark.parametrize('failing', [0.0, 0.3])
def test_it_ends_with_a_network_of_the_space(changes, failing):
  strategy, _ = make(changes)
  for state, requests in play(strategy, strategy.init(0), functools.partial(estimate, failing=failing)):
    line = strategy.describe(state)
    assert '\n' not in line and 0 < len(line) < 100
    assert bool(requests) == bool(strategy.outlook(state)) == (not strategy.done(state))
    assert strategy.ask(state) == (requests, state)
    assert len({r.key for r in strategy.outlook(state)}) == len(strategy.outlook(state))
    assert len(set(requests)) == len(requests)
  SPACE.check(strategy.best(state))


@every_variant
def test_a_restart_from_json_changes_nothing(changes):
  strategy, _ = make(changes)
  answer = functools.partial(estimate, failing=0.2)
  whole = list(play(strategy, strategy.init(3), answer))
  state, again = strategy.init(3), make(changes)[0]
  for expected, requests in whole:
    asked, state = again.ask(again.from_json(json.loads(json.dumps(strategy.to_json(state)))))
    assert state == expected == again.from_json(json.loads(json.dumps(strategy.to_json(state))))
    assert asked == requests
    if requests:
      state = again.tell(state, [answer(r) for r in requests])


@every_variant
def test_the_front_is_plain_and_empty_with_one_objective(changes):
  strategy, config = make(changes)
  *_, (state, _) = play(strategy, strategy.init(0))
  front = strategy.front(state)
  assert isinstance(front, list) and json.loads(json.dumps(front)) == front
  size = config[changes['strategy']].objectives[1:] if changes['strategy'] in OBJECTIVES else ()
  assert bool(front) == bool(size)
  assert all(set(member) == {'stage', 'architecture', 'accuracy', *size} for member in front)


@every_variant
def test_requests_stay_in_the_space(changes):
  strategy, _ = make(changes)
  for _, requests in play(strategy, strategy.init(0)):
    for request in requests:
      assert request.schedule.epochs >= 1
      if request.phase not in ('operation', 'kernel'):  # EG-NAS shrinks below the smallest width there.
        SPACE.check(request.architecture)
      else:
        assert request.architecture.depth in SPACE.depths and set(request.architecture.kernels) <= set(SPACE.kernels)


@pytest.mark.parametrize('name', [name for name, v in VARIANTS.items() if v['strategy'] in BUDGETED])
def test_budgets_hold(name):
  strategy, config = make(VARIANTS[name])
  answered, cost, last = 0, 0.0, 0.0
  for _, requests in play(strategy, strategy.init(0)):
    last = sum(estimate(r).train_macs for r in requests) or last
    answered, cost = answered + len(requests), cost + sum(estimate(r).train_macs for r in requests)
  assert answered <= (config.budget.evaluations or LARGE)
  assert cost - last <= (config.budget.train_macs or float('inf'))


@every_variant
def test_where_all_fail_it_ends_without_a_network(changes):
  strategy, _ = make(changes)
  *_, (state, _) = play(strategy, strategy.init(0), functools.partial(estimate, failing=1.0), limit=200)
  assert strategy.best(state) is None
  assert strategy.outlook(state) == ()


@every_variant
def test_answers_must_be_as_many_as_requests(changes):
  strategy, _ = make(changes)
  with pytest.raises(ValueError, match='zip'):
    strategy.tell(strategy.init(0), [])


@pytest.mark.parametrize('name', ['halving', *BUDGETED])
def test_the_seed_alone_decides(name):
  strategy, _ = make(VARIANTS[name])
  first, same, other = ([r for _, r in play(strategy, strategy.init(seed))] for seed in (1, 1, 2))
  assert first == same != other

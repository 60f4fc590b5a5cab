"""Limits on the size of networks hold for every strategy, in every space that it searches, and cost no evaluation."""
import dataclasses
import itertools

import numpy as np
import pytest
from support.synthetic_estimator import SPACE, TASK, config_with, estimate, play

from enas_jax import strategies
from enas_jax.errors import UserError
from enas_jax.registry import check_methods
from enas_jax.spaces import ChainArchitecture, ChainSpace, Limits, NasBench201Space, SearchSpace, Within
from enas_jax.types import Evaluation

LIMITS = {'params': 3000, 'macs': 800_000}
WALKERS = {'egnas': {}, 'egnas, sure': {
    'egnas.confidence': 0.8, 'egnas.micro_replicates': 2, 'egnas.grow': True, 'egnas.micro_groups': 1}, 'evolution': {}}
DRAWERS = [name for name, _ in strategies.STRATEGIES.items() if not strategies.walks(name)]


def measured(request):
  """Answers with every metric that a strategy may need."""
  evaluation = estimate(request)
  return Evaluation(
      metrics={**evaluation.metrics, 'params': SPACE.num_params(request.architecture, TASK)}, train_macs=evaluation.train_macs)


def asked(name, space, limits, answer, **changes):
  """All networks that a strategy asks for within limits, and its best."""
  changes = {'budget.evaluations': 30, **changes, **{f'limits.{key}': value for key, value in limits.items()}}
  strategy = strategies.make(config_with(strategy=name, **changes), space, TASK)
  turns = list(play(strategy, strategy.init(0), answer))
  return [request.architecture for _, requests in turns for request in requests], strategy.best(turns[-1][0])


@pytest.mark.parametrize('limit', LIMITS)
@pytest.mark.parametrize('name', [*WALKERS, *DRAWERS])
def test_no_strategy_asks_for_more(name, limit):
  measure = {'params': SPACE.num_params, 'macs': SPACE.macs}[limit]
  strategy, changes = name.partition(',')[0], WALKERS.get(name, {})
  free, _ = asked(strategy, SPACE, {}, measured, **changes)
  kept, best = asked(strategy, SPACE, {limit: LIMITS[limit]}, measured, **changes)
  assert any(measure(network, TASK) > LIMITS[limit] for network in free)  # Without the limit it would.
  assert best in kept or strategy == 'egnas'  # The winner's width is that of the macro phases: see egnas.
  assert all(measure(network, TASK) <= LIMITS[limit] for network in [*kept, best])


def test_a_winner_of_larger_kernels_is_narrowed_to_its_limit():
  """Micro changes are tried at matched parameters; back at the macro phases' width they would exceed the limit."""
  def answer(request):
    return Evaluation(metrics={'accuracy': 0.5 + 0.05 * request.architecture.kernels.count(5) / request.architecture.depth})

  settings = {'egnas.depth_failures': 1, 'egnas.parameter_slack': 0, **WALKERS['egnas, sure'], 'epochs.first': 1}
  _, best = asked('egnas', SPACE, {}, answer, **settings)
  macro = dataclasses.replace(best, kernels=(3,) * best.depth)
  limit = SPACE.num_params(macro, TASK)
  _, kept = asked('egnas', SPACE, {'params': limit}, answer, **settings)
  assert set(best.kernels) == set(kept.kernels) == {5} and SPACE.num_params(best, TASK) > limit
  assert kept.width < best.width and SPACE.num_params(kept, TASK) <= limit < SPACE.num_params(
      dataclasses.replace(kept, width=kept.width + 1), TASK)


@pytest.mark.parametrize(('limit', 'depths', 'widths'), [  # Steps of 3 layers and 2 channels; to 6 layers deeper is better.
    ((4, 4), [3, 4], [4]),
    ((6, 5), [3, 6, 7], [4, 5]),
    ((6, 11), [3, 6, 9], [4, 6, 8, 10, 11]),
])
def test_a_growing_walk_cuts_its_last_step_to_the_limit(limit, depths, widths):
  def answer(request):
    network = request.architecture
    return Evaluation(metrics={'accuracy': 0.5 + 0.01 * min(network.depth, 6) + 0.001 * network.width})

  seen = []
  params = SPACE.num_params(ChainArchitecture.uniform(*limit), TASK)
  settings = {**WALKERS['egnas, sure'], 'egnas.depth_step': 3, 'egnas.depth_failures': 2}
  networks, best = asked('egnas', SPACE, {'params': params}, answer, **settings)
  for network in networks:
    if set(network.operations) == {0} and set(network.kernels) == {3}:
      seen.append((network.depth, network.width))
  assert list(dict.fromkeys(depth for depth, _ in seen)) == depths
  assert list(dict.fromkeys(width for _, width in seen)) == widths
  assert SPACE.num_params(best, TASK) <= params


def test_within_limits_a_larger_network_need_not_be_worth_more():
  """What a user allows costs him nothing. The same walk without limits ends where it began."""
  def answer(request):
    network = request.architecture
    return Evaluation(metrics={'accuracy': 0.5 + 0.002 * network.depth + 0.002 * network.width})

  settings = {**WALKERS['egnas, sure'], 'egnas.growth_gain': 0.1, 'egnas.widen': False, 'egnas.depth_step': 3}
  params = SPACE.num_params(ChainArchitecture.uniform(6, 8), TASK)
  _, free = asked('egnas', SPACE, {}, answer, **settings)
  _, within = asked('egnas', SPACE, {'params': params}, answer, **settings)
  assert (free.depth, free.width) == (3, 4) and within.depth > 3 and within.width > 4


@pytest.mark.parametrize('name', DRAWERS)
def test_any_space_can_be_limited(name):
  def answer(request):
    return Evaluation(metrics={'accuracy': space.macs(request.architecture, TASK) / 1e9, 'params': 1.0}, train_macs=1.0)

  space = NasBench201Space(channels=4, cells=1)
  rng = np.random.default_rng(0)
  limit = int(np.median([space.num_params(space.sample(rng), TASK) for _ in range(50)]))
  networks, _ = asked(name, space, {'params': limit}, answer)
  assert len(set(networks)) > 5 and all(space.num_params(network, TASK) <= limit for network in networks)


@pytest.mark.parametrize('space', [SPACE, NasBench201Space(channels=4, cells=1)], ids=['chain', 'nasbench201'])
def test_a_space_within_limits_is_a_space(space):
  rng = np.random.default_rng(1)
  limits = Limits(params=sorted(space.num_params(space.sample(rng), TASK) for _ in range(20))[10])
  part = Within(space, limits, TASK)
  check_methods(part, SearchSpace, space.name)
  for _ in range(20):
    member = part.sample(rng)
    assert limits.allow(member, space, TASK)
    near = list(part.neighbours(member))
    assert near == [n for n in space.neighbours(member) if limits.allow(n, space, TASK)]
    changed = part.mutate(member, rng)
    assert changed in near if near else limits.allow(changed, space, TASK)
    assert part.from_string(part.to_string(member)) == part.from_json(member.to_json()) == member


def test_no_limit_is_no_change():
  setup = strategies.make(config_with(strategy='random'), SPACE, TASK).setup
  assert setup.space is SPACE and setup.allows(SPACE.sample(np.random.default_rng(0)))


@pytest.mark.parametrize('name', ['egnas', 'evolution', 'random', 'halving'])
def test_a_limit_that_nothing_is_within(name):
  with pytest.raises(UserError, match=r'config\.limits\.params 10'):
    asked(name, SPACE, {'params': 10}, estimate)


def test_a_search_that_has_seen_all_within_its_limits_says_so():
  space = ChainSpace(min_depth=3, max_depth=3, min_width=4, max_width=8, width_step=2, kernels=(3,))  # 24 networks.
  with pytest.raises(UserError, match=r'config\.limits: 3 networks are known and none of 10,000 drawn is another'):
    asked('random', space, {'params': 960}, estimate)


@pytest.mark.parametrize('name', LIMITS)
def test_a_negative_limit(name):
  with pytest.raises(UserError, match=rf'config\.limits\.{name} -1 is below 0'):
    Limits(**{name: -1})


def test_limits_in_words():
  for params, macs in itertools.product((0, 30_000), (0, 10**6)):
    text = str(Limits(params=params, macs=macs))
    assert ('config.limits.params 30,000' in text, 'config.limits.macs 1,000,000' in text) == (params > 0, macs > 0)

"""EG-NAS as a whole: windows change no decision, failures are survived, the two protocols differ where they should."""
import dataclasses
import functools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.synthetic_estimator import PUBLISHED, SPACE, TASK, estimate, noise, play, strategy_with

from enas_jax.errors import UserError
from enas_jax.spaces.chain import ChainArchitecture
from enas_jax.strategies.egnas_rules import EgnasSettings
from enas_jax.strategies.egnas_state import EgnasState
from enas_jax.types import Evaluation

PROTOCOLS = {
    'published': PUBLISHED,
    'sound': {},
    'sound, growing epochs, replicates': {
        'epochs.per_layer': 1, 'epochs.per_width_step': 2, 'egnas.micro_replicates': 3, 'egnas.micro_margin': 0.0},
    'sure': {
        'egnas.confidence': 0.8, 'egnas.micro_replicates': 2, 'egnas.most_replicates': 8, 'egnas.grow': True,
        'egnas.depth_step': 2, 'egnas.micro_groups': 3},
    'sure, by the training loss': {
        'egnas.confidence': 0.8, 'egnas.decide_by': 'train_loss', 'egnas.micro_replicates': 2, 'egnas.grow': True,
        'egnas.kernel_walk': True},
    'sure, narrower, growing epochs': {
        'egnas.confidence': 0.6, 'egnas.micro_replicates': 2, 'egnas.width_tolerance': 0.002, 'epochs.per_layer': 1,
        'epochs.per_width_step': 1},
    'no slack': {'egnas.parameter_slack': 0, 'egnas.micro_margin': 0.0},
}


def make(changes, window=1, space=SPACE):
  return strategy_with('egnas', space, **{**changes, 'egnas.window': window, 'egnas.micro_window': window})


def decisions(strategy, answer):
  """The requests used, in order, and the last state."""
  state, used = strategy.init(0), []
  while not strategy.done(state):
    requests, state = strategy.ask(state)
    state, needed = strategy.replay(state, {r: answer(r) for r in requests})
    assert needed
    used += needed
  return used, state


def lottery(request, seed, failing, levels):
  """Accuracies of a few levels one depth loss apart, so that every branch of the rules is met, ties too."""
  if noise(request, seed + 1) < failing:
    return Evaluation(reason='made-up failure')
  accuracy, loss = (int(levels * noise(request, seed + stream)) for stream in (0, 2))
  return Evaluation(metrics={'accuracy': 0.5 + 0.0005 * accuracy, 'train_loss': 1 - 0.1 * loss})


@pytest.mark.parametrize('changes', PROTOCOLS.values(), ids=PROTOCOLS)
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), failing=st.sampled_from([0.0, 0.2, 0.6]), levels=st.integers(1, 12))
def test_windows_change_no_decision(changes, seed, failing, levels):
  answer = functools.partial(lottery, seed=seed, failing=failing, levels=levels)
  expected = decisions(make(changes), answer)
  assert decisions(make(changes, window=3), answer) == expected
  assert decisions(make(changes, window=8), answer) == expected


def by_table(table):
  """An answer by phase and place: depth, width, or the changed layer; anything else is far below."""

  def answer(request):
    network = request.architecture
    place = {'depth': network.depth, 'width': network.width}.get(request.phase)
    accuracy = table.get((request.phase, place), 0.1)
    return Evaluation(metrics={'accuracy': accuracy}) if accuracy is not None else Evaluation(reason='made-up failure')

  return answer


def places(used, phase, field):
  return [getattr(r.architecture, field) for r in used if r.phase == phase]


def test_neutral_steps_neither_count_nor_reset():
  table = {('depth', 3): 0.5, ('depth', 4): 0.4, ('depth', 5): 0.5, ('depth', 6): 0.4, ('depth', 7): 0.4, ('depth', 8): 0.4}
  space = dataclasses.replace(SPACE, max_depth=12)
  used, state = decisions(make(PUBLISHED, space=space), by_table(table))
  assert places(used, 'depth', 'depth') == [3, 4, 5, 6, 7]
  assert state.macro.depth == 3


@pytest.mark.parametrize(('continued', 'first'), [(True, 10 + 4 + 2), (False, 10 + 1 + 2)])
def test_width_epochs_count_from_the_last_or_the_kept_depth(continued, first):
  changes = {**PUBLISHED, 'egnas.epochs_continue': continued}
  used, _ = decisions(make(changes), by_table({('depth', 3): 0.5, ('depth', 4): 0.6}))
  assert places(used, 'depth', 'depth') == [3, 4, 5, 6, 7]
  assert [r.schedule.epochs for r in used if r.phase == 'width'] == [first, first + 2, first + 4]


def test_the_control_is_the_kept_network_at_the_candidates_epochs():
  changes = {**PUBLISHED, 'egnas.width_control': True, 'egnas.epochs_continue': False}
  used, state = decisions(make(changes), by_table({('depth', 3): 0.5, ('width', 8): 0.7, ('width', 10): 0.6}))
  walk = [(r.architecture.width, r.schedule.epochs) for r in used if r.phase == 'width']
  assert walk == [(8, 12), (10, 12), (6, 14), (8, 14), (4, 16), (8, 16)]
  assert state.macro.width == 8


def test_the_control_raises_the_bar():
  table = {('depth', 3): 0.5, ('width', 8): 0.6, ('width', 10): 0.7}
  assert decisions(make(PUBLISHED), by_table(table))[1].macro.width == 8
  assert decisions(make({**PUBLISHED, 'egnas.width_control': True}), by_table(table))[1].macro.width == 10


def test_a_failed_control_leaves_the_last_accuracy_as_the_bar():
  table = {('depth', 3): 0.5, ('width', 8): 0.4, ('width', 6): 0.5, ('width', 10): None}
  assert decisions(make({'egnas.width_control': True}), by_table(table))[1].macro.width == 6


def test_equal_epochs_ask_for_the_measured_request_again():
  used, _ = decisions(make({}), by_table({('depth', 3): 0.5, ('width', 10): 0.5}))
  controls = [r for r in used if r.phase == 'width' and r.architecture.width == SPACE.max_width]
  assert len(controls) == 3 and set(controls) <= {r for r in used if r.phase == 'depth'}


def test_the_first_success_is_kept_after_failures():
  used, state = decisions(make(PUBLISHED), by_table({('depth', 3): None, ('depth', 4): None, ('depth', 5): 0.3}))
  assert places(used, 'depth', 'depth')[:3] == [3, 4, 5]
  assert state.macro.depth == 5


def test_without_a_baseline_the_macro_network_wins():
  changes = {**PUBLISHED, 'egnas.micro_replicates': 2}
  used, state = decisions(make(changes), by_table({('depth', 3): 0.5, ('operation', None): None}))
  assert [r.replicate for r in used if r.phase == 'operation'] == [0, 1]
  assert make(changes).best(state) == ChainArchitecture.uniform(3, 10)


def test_the_winner_has_the_macro_width():
  strategy = make(PUBLISHED)

  def more_is_better(request):
    network = request.architecture
    changes = sum(network.operations) + network.kernels.count(5)
    return Evaluation(metrics={'accuracy': 0.5 + 0.01 * changes - 0.01 * (network.depth + SPACE.max_width - network.width) * (
        request.phase in ('depth', 'width'))})

  used, state = decisions(strategy, more_is_better)
  best = strategy.best(state)
  assert best == ChainArchitecture.uniform(3, SPACE.max_width, operation=1, kernel=5)
  assert min(places(used, 'kernel', 'width')) <= state.kept.width < best.width
  limit = SPACE.num_params(state.macro, TASK) + 2 * 10_000
  assert all(SPACE.num_params(r.architecture, TASK) <= limit for r in used if r.phase == 'kernel')


def test_what_fits_at_no_width_is_rejected_untrained():
  space = dataclasses.replace(SPACE, min_width=1, max_width=1, width_step=1)
  answer = functools.partial(lottery, seed=0, failing=0, levels=1)
  used, state = decisions(make({'egnas.parameter_slack': 0}, space=space), answer)
  tried = [r.architecture for r in used if r.phase == 'operation'][1:]
  flips = [state.macro.with_layer(i, operation=1) for i in range(state.macro.depth)]
  fitting = [f for f in flips if space.num_params(f, TASK) <= space.num_params(state.macro, TASK)]
  assert tried == fitting and len(fitting) < len(flips)
  assert 'kernel' not in {r.phase for r in used}


def test_one_kernel_means_no_kernel_phase():
  space = dataclasses.replace(SPACE, kernels=(5,))
  used, _ = decisions(make(PUBLISHED, space=space), estimate)
  assert 'kernel' not in {r.phase for r in used}
  assert {k for r in used for k in r.architecture.kernels} == {5}


def test_every_other_kernel_is_tried():
  space = dataclasses.replace(SPACE, max_depth=3, kernels=(3, 5, 7))
  used, _ = decisions(make(PUBLISHED, space=space), by_table({('depth', 3): 0.5, ('operation', None): 0.5}))
  assert [r.architecture.kernels for r in used if r.phase == 'kernel'] == [
      (5, 3, 3), (7, 3, 3), (3, 5, 3), (3, 7, 3), (3, 3, 5), (3, 3, 7)]


def test_outlook_is_the_rest_of_a_walk_that_accepts_nothing_more():
  strategy = make(PUBLISHED)
  rest = strategy.outlook(strategy.init(0))
  table = {('depth', 3): 0.5, ('operation', None): 0.05}

  def answer(request):
    baseline = request.phase == 'operation' and not any(request.architecture.operations)
    return by_table(table)(request) if request.phase != 'operation' or not baseline else Evaluation(metrics={'accuracy': 0.9})

  assert list(rest) == decisions(strategy, answer)[0]


def test_a_window_ends_with_its_phase():
  for _, requests in play(make(PUBLISHED, window=50), EgnasState()):
    assert len({r.phase for r in requests}) <= 1


def test_describe():
  strategy = make({})
  state = EgnasState(phase='width', kept=ChainArchitecture.uniform(7, 6), accuracies=(0.842,))
  assert strategy.describe(state) == 'width walk: keeps depth 7, width 6 at 84.20 %'
  assert strategy.describe(strategy.init(0)) == 'depth walk: keeps nothing yet'


def test_another_space_is_a_user_error():
  class Other:
    name = 'cells'

  with pytest.raises(UserError, match='cells'):
    make({}, space=Other())


SURE = {'egnas.confidence': 0.95, 'egnas.decide_by': 'accuracy', 'egnas.micro_replicates': 2, 'egnas.most_replicates': 4,
        'egnas.grow': True, 'egnas.growth_gain': 0.0, 'egnas.micro_groups': 1}
BY_LOSS = {**SURE, 'egnas.decide_by': 'train_loss'}


def noisy(accuracy_of, deviation, seed=0, loss_of=lambda network: 0.0):
  """Answers of a true accuracy and training loss, with normal noise of its own for each request; a tenth of it on the loss."""
  def normal(request, stream):
    uniform = max(noise(request, stream), 1e-12), noise(request, stream + 1)
    return math.sqrt(-2 * math.log(uniform[0])) * math.cos(2 * math.pi * uniform[1])

  def answer(request):
    network = request.architecture
    return Evaluation(metrics={'accuracy': accuracy_of(network) + deviation * normal(request, seed),
                               'train_loss': loss_of(network) + 0.1 * deviation * normal(request, seed + 10_000)})

  return answer


def test_a_growing_walk_ends_where_larger_is_not_better_and_says_how_sure_it_was():
  """Depth pays to 5, width to 8, kernel 5 everywhere: by more than the noise, so that nearly all searches find it."""
  def truth(network):
    return (0.5 + 0.03 * min(network.depth, 5) + 0.02 * min(network.width, 8)
            + 0.05 * network.kernels.count(5) / network.depth - 0.2 * sum(network.operations) / network.depth)

  space = dataclasses.replace(SPACE, max_depth=9, max_width=14)
  found = []
  for seed in range(20):
    used, state = decisions(make({**SURE, 'egnas.parameter_slack': 10_000}, space=space), noisy(truth, 0.003, seed))
    best = make(SURE, space=space).best(state)
    found.append((best.depth, best.width, set(best.kernels), sum(best.operations)))
    assert {r.replicate for r in used} <= {0, 1, 2, 3}
    phases = [d.phase for d in state.decisions]
    assert phases == sorted(phases, key=['depth', 'width', 'operation', 'kernel'].index)
    for decision in state.decisions:
      assert decision.pairs in (2, 4)
      assert decision.certainty is None or decision.accepted == (decision.certainty >= 0.975)
  assert found.count((5, 8, {5}, 0)) >= 16
  assert all(depth < 9 and width < 14 for depth, width, *_ in found)


@pytest.mark.parametrize(('max_depth', 'max_width'), [(4, 10), (9, 6), (4, 6)])
def test_a_walk_that_ends_at_a_bound_goes_on_while_larger_pays(max_depth, max_width):
  """Depth pays to 6 and width to 10, past one cap or both: the widths tried are those of a space with room."""
  def truth(network):
    return 0.5 + 0.03 * min(network.depth, 6) + 0.02 * min(network.width, 10) - 0.2 * sum(network.operations) / network.depth

  space = dataclasses.replace(SPACE, max_depth=max_depth, max_width=max_width, kernels=(3,))
  roomy = dataclasses.replace(space, max_depth=12, max_width=20)
  expected, _ = decisions(make(SURE, space=roomy), noisy(truth, 0.0))
  used, state = decisions(make(SURE, space=space), noisy(truth, 0.0))
  best = make(SURE, space=space).best(state)
  assert (best.depth, best.width) == (6, 10)
  assert max(r.architecture.depth for r in used if r.phase == 'depth') == (7 if max_depth < 6 else 9)
  widths = {r.architecture.width for r in used if r.phase == 'width'}
  assert widths == {r.architecture.width for r in expected if r.phase == 'width'} == {4, 6, 8, 10, 12}
  narrow = decisions(make({**SURE, 'egnas.widen': False}, space=space), noisy(truth, 0.0))[1].kept
  assert (narrow.depth, narrow.width) == (min(6, max_depth), min(10, max_width))


def test_a_direction_of_one_size_is_not_widened():
  space = dataclasses.replace(SPACE, min_depth=5, max_depth=5, min_width=6, max_width=6)
  used, _ = decisions(make(SURE, space=space), noisy(lambda network: 0.05 * network.depth + 0.01 * network.width, 0.0))
  assert {r.architecture.depth for r in used} == {5} and {r.architecture.width for r in used} <= set(range(7))


def test_where_nothing_pays_little_is_accepted():
  """200 searches and more of changes that change nothing: at most 5 in 100 are kept, within three errors of the count."""
  made = [d.accepted for seed in range(200)
          for d in decisions(make(SURE), noisy(lambda network: 0.8, 0.01, seed))[1].decisions]
  assert len(made) > 800
  assert sum(made) / len(made) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / len(made))


def test_by_the_training_loss_small_gains_are_found_and_losses_of_accuracy_refused():
  """Accuracy gains of 0.6 standard deviations a step up to depth 7, width 8: by accuracy alone few searches find them.

  Beyond them the training loss still falls while accuracy does, as where a network overfits.
  """
  def truth(network):
    return 0.5 + 0.006 * (min(network.depth, 7) + min(network.width, 8)) - 0.03 * (
        max(network.depth, 7) + max(network.width, 8)) - 0.2 * sum(network.operations) / network.depth

  def loss(network):
    return 2 - 0.01 * (network.depth + network.width)

  space, found = dataclasses.replace(SPACE, max_depth=9, max_width=14, kernels=(3,)), {}
  for changes in (SURE, BY_LOSS):
    strategy = make({**changes, 'egnas.most_replicates': 8}, space=space)
    kept = [strategy.best(decisions(strategy, noisy(truth, 0.01, seed, loss))[1]) for seed in range(20)]
    found[changes['egnas.decide_by']] = [(network.depth, network.width) for network in kept].count((7, 8))
  assert found['train_loss'] >= 14 and found['accuracy'] <= 5


def test_by_the_training_loss_where_nothing_pays_little_is_accepted():
  made = [d for seed in range(200) for d in decisions(make(BY_LOSS), noisy(lambda network: 0.8, 0.01, seed))[1].decisions]
  assert len(made) > 800 and {d.metric for d in made} == {'train_loss'}
  share = sum(d.accepted for d in made) / len(made)
  assert 0 < share <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / len(made))


@pytest.mark.parametrize('metric', ['accuracy', 'train_loss'])
def test_a_larger_network_must_be_worth_it_and_a_micro_change_need_not(metric):
  """Sure steps of 0.3 points in depth and 6 in width, where 1 is asked; kernels gain 0.4 at equal parameters."""
  def truth(network):
    micro = 0.004 * (min(network.kernels) == 5) - 0.2 * max(network.operations)
    return 0.5 + 0.003 * network.depth + 0.03 * network.width + micro

  space = dataclasses.replace(SPACE, max_width=8)
  changes = {
      **SURE, 'egnas.decide_by': metric, 'egnas.growth_gain': 0.01, 'egnas.parameter_slack': 10_000, 'egnas.widen': False}
  state = decisions(make(changes, space=space), noisy(truth, 0.0, loss_of=lambda network: -truth(network)))[1]
  assert (state.kept.depth, state.kept.width, set(state.kept.kernels)) == (3, 8, {5})
  assert [(d.phase, d.accepted, d.least) for d in state.decisions] == [
      *[('depth', False, 0.01)] * 3, ('width', True, 0.01), ('width', True, 0.01), ('operation', False, 0.0),
      ('kernel', True, 0.0)]


@pytest.mark.parametrize(('best_kernel', 'kernels', 'tried', 'micro'), [
    (5, (3, 5), [3, 5], []), (3, (3, 5), [3, 5], [5]), (5, (3, 5, 7), [3, 5, 7], [7]), (7, (3, 5, 7), [3, 5, 7], []),
    (3, (3,), [], [])])
def test_the_walk_begins_with_the_kernels_of_the_smallest_network(best_kernel, kernels, tried, micro):
  """What is kept is the kernel of all that follows; as micro changes only larger ones are left to try."""
  def truth(network):
    gain = 0.03 * (kernels.index(min(network.kernels)) if min(network.kernels) <= best_kernel else -1)
    return 0.5 + gain + 0.02 * min(network.depth, 5) + 0.02 * min(network.width, 8) - 0.2 * max(network.operations)

  space = dataclasses.replace(SPACE, kernels=kernels)
  changes = {**SURE, 'egnas.kernel_walk': True, 'egnas.depth_step': 2, 'egnas.parameter_slack': 10_000}
  used, state = decisions(make(changes, space=space), noisy(truth, 0.0))
  by_phase = {phase: [r.architecture for r in used if r.phase == phase] for phase in ('kernels', 'depth', 'width', 'kernel')}
  assert list(dict.fromkeys(network.kernels[0] for network in by_phase['kernels'])) == tried
  assert {(network.depth, network.width) for network in by_phase['kernels']} <= {(3, 4)}
  assert {network.kernels[0] for phase in ('depth', 'width') for network in by_phase[phase]} == {best_kernel}
  assert sorted({network.kernels[0] for network in by_phase['kernel']} - {best_kernel}) == micro
  assert (state.macro.depth, state.macro.width, set(state.kept.kernels)) == (5, 8, {best_kernel})


def test_a_smallest_network_that_fails_has_no_say_in_the_kernel():
  def answer(request):
    network = request.architecture
    if network.depth == 3 and network.kernels[0] == 3:
      return Evaluation(reason='made-up failure')
    return Evaluation(metrics={'accuracy': 0.5 + 0.01 * min(network.depth, 7)})

  strategy = make({**SURE, 'egnas.kernel_walk': True})
  used, state = decisions(strategy, answer)
  assert [r.architecture.kernels[0] for r in used if r.phase == 'kernels'] == [3, 3, 5, 5]
  assert state.macro.depth == 7 and state.macro.kernels[0] == 5
  assert strategy.describe(strategy.init(0)) == 'kernel walk: keeps nothing yet'


def test_an_estimator_without_a_training_loss_is_a_user_error():
  strategy = make(BY_LOSS)
  assert strategy.needs.objectives == ('train_loss',) and make(SURE).needs.objectives == ()
  with pytest.raises(UserError, match=r'config\.egnas\.decide_by train_loss: .* give accuracy'):
    decisions(strategy, lambda request: Evaluation(metrics={'accuracy': 0.5}))


@pytest.mark.parametrize(('changes', 'words'), [
    ({'egnas.decide_by': 'loss'}, r"config\.egnas\.decide_by 'loss' is not one of accuracy, train_loss"),
    ({'egnas.decide_by': 'train_loss', 'egnas.grow': False}, r'needs config\.egnas\.grow; give config\.egnas\.decide_by=acc'),
])
def test_a_metric_that_does_not_suit(changes, words):
  with pytest.raises(UserError, match=words):
    make({**SURE, **changes})


@pytest.mark.parametrize(('first', 'most', 'pairs', 'shares'), [
    (2, 4, [2, 4], [1 / 2, 1 / 2]), (2, 8, [2, 4, 8], [1 / 4, 1 / 4, 1 / 2]), (3, 3, [3], [1]),
    (2, 3, [2, 3], [2 / 3, 1 / 3])])
def test_the_looks_of_a_decision_share_the_error(first, most, pairs, shares):
  rules = EgnasSettings(micro_replicates=first, most_replicates=most)
  looks = range(len(pairs))
  assert [rules.pairs(look) for look in looks] == pairs
  assert [rules.share(look) for look in looks] == pytest.approx(shares) and sum(shares) == 1
  assert [rules.last(look) for look in looks] == [False] * (len(pairs) - 1) + [True]


def test_a_walk_that_grows_needs_a_confidence():
  with pytest.raises(UserError, match=r'config\.egnas\.grow needs config\.egnas\.confidence'):
    make({'egnas.grow': True, 'egnas.confidence': 0.0})


@pytest.mark.parametrize('confidence', [-0.1, 1.0, 1.5])
def test_a_confidence_out_of_range(confidence):
  with pytest.raises(UserError, match=rf'config\.egnas\.confidence {confidence} is outside \(0, 1\)'):
    make({'egnas.confidence': confidence})


@pytest.mark.parametrize('replicates', [1, 5])
def test_replicates_that_no_confidence_comes_of(replicates):
  with pytest.raises(UserError, match=f'config.egnas.micro_replicates {replicates} is outside 2 to'):
    make({**SURE, 'egnas.micro_replicates': replicates})

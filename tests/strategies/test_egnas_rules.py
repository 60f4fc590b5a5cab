"""The decision rules, at and around their limits (papers/egnas.md, sections 3 and 4)."""
import dataclasses

import numpy as np
import pytest
from support.synthetic_estimator import PUBLISHED, SPACE, TASK, config_with

from enas_jax import settings
from enas_jax.errors import UserError
from enas_jax.spaces.chain import ChainArchitecture
from enas_jax.strategies.egnas_rules import (
    EgnasSettings,
    Outcome,
    depth_rule,
    failures_after,
    micro_rule,
    reaches,
    shrink,
    width_rule,
)
from enas_jax.types import Evaluation

RULES = settings.read(EgnasSettings, config_with(**PUBLISHED).egnas, 'egnas')
FAILED = Evaluation(reason='out of memory')


def scored(percent, **metrics):
  return Evaluation(metrics={'accuracy': percent / 100, **metrics})


@pytest.mark.parametrize(('percent', 'outcome'), [
    (90.11, Outcome.ACCEPT), (90.10, Outcome.ACCEPT), (90.09, Outcome.NEUTRAL), (90.0, Outcome.NEUTRAL),
    (89.95, Outcome.NEUTRAL), (89.94, Outcome.BAD), (10.0, Outcome.BAD), (99.9, Outcome.FINISH)])
def test_depth_rule(percent, outcome):
  assert depth_rule(RULES, 0.9, scored(percent)) is outcome


def test_the_first_success_is_accepted_and_a_failure_is_bad():
  assert depth_rule(RULES, None, scored(10.0)) is Outcome.ACCEPT
  assert depth_rule(RULES, None, FAILED) is Outcome.BAD
  assert depth_rule(RULES, 0.9, FAILED) is Outcome.BAD


def test_depth_ends_where_an_accepted_network_fits_the_training_part():
  assert depth_rule(RULES, 0.9, scored(91.0, train_accuracy=0.996)) is Outcome.FINISH
  assert depth_rule(RULES, 0.9, scored(90.0, train_accuracy=0.996)) is Outcome.NEUTRAL
  assert depth_rule(RULES, 0.9, scored(91.0, train_accuracy=0.994)) is Outcome.ACCEPT


@pytest.mark.parametrize(('percent', 'outcome'), [(90.01, Outcome.ACCEPT), (90.0, Outcome.ACCEPT), (89.99, Outcome.BAD)])
def test_width_rule_accepts_ties(percent, outcome):
  assert width_rule(RULES, 0.9, scored(percent)) is outcome


def test_width_tolerance():
  tolerant = dataclasses.replace(RULES, width_tolerance=0.01)
  assert width_rule(tolerant, 0.9, scored(89.0)) is Outcome.ACCEPT
  assert width_rule(tolerant, 0.9, scored(88.9)) is Outcome.BAD
  assert width_rule(tolerant, 0.9, FAILED) is Outcome.BAD


def test_micro_rule_is_strict_and_compares_replicates_in_pairs():
  assert micro_rule(RULES, (0.4,), [scored(40.0)]) is Outcome.BAD
  assert micro_rule(RULES, (0.4,), [scored(40.01)]) is Outcome.ACCEPT
  assert micro_rule(RULES, (0.4, 0.6), [scored(45.0), scored(54.0)]) is Outcome.BAD
  assert micro_rule(RULES, (0.4, 0.6), [scored(45.0), scored(56.0)]) is Outcome.ACCEPT


def test_micro_rule_and_failures():
  assert micro_rule(RULES, (0.4, 0.4), [scored(90.0), FAILED]) is Outcome.BAD
  assert micro_rule(RULES, (None, 0.4), [scored(10.0), scored(41.0)]) is Outcome.ACCEPT


def test_micro_margin():
  careful = dataclasses.replace(RULES, micro_margin=0.01)
  assert micro_rule(careful, (0.4,), [scored(41.0)]) is Outcome.BAD
  assert micro_rule(careful, (0.4,), [scored(41.1)]) is Outcome.ACCEPT


def test_failures_after():
  assert failures_after(Outcome.BAD, 1) == 2
  assert failures_after(Outcome.NEUTRAL, 1) == 1
  assert failures_after(Outcome.ACCEPT, 2) == failures_after(Outcome.FINISH, 2) == 0


@pytest.mark.parametrize('images', [1000, 10_000, 18_800, 1_000_000])
def test_counts_decide_whatever_the_precision(images):
  for right in range(images // 2, images, images // 50):
    for one in (np.float32(right / images), right / images):
      for other in (np.float32(right / images), right / images):
        assert reaches(float(one), float(other))
    assert not reaches(float(np.float32((right - 1) / images)), right / images)


def test_five_images_of_ten_thousand_are_the_depth_loss_whatever_the_precision():
  for right in range(5000, 10_001):
    bars = [float(np.float32(right / 10_000) - np.float32(0.0005)), right / 10_000 - 0.0005]
    for number in (np.float32, float):
      tie, miss = (float(number((right - fewer) / 10_000)) for fewer in (5, 6))
      assert all(reaches(tie, bar) and not reaches(miss, bar) for bar in bars)


def test_shrink_finds_the_widest_that_fits():
  network = ChainArchitecture.uniform(5, 10, operation=1)
  limit = SPACE.num_params(dataclasses.replace(network, width=3), TASK)
  assert shrink(SPACE, TASK, network, limit, lambda network: True).width == 3
  assert shrink(SPACE, TASK, network, limit - 1, lambda network: True).width == 2
  assert shrink(SPACE, TASK, network, 10**9, lambda network: True) == network
  assert shrink(SPACE, TASK, network, 10, lambda network: True) is None


@pytest.mark.parametrize('name', ['window', 'micro_window', 'depth_failures', 'width_failures', 'micro_replicates'])
def test_counts_below_one_are_user_errors(name):
  with pytest.raises(UserError, match=rf'config\.egnas\.{name} 0 is below 1'):
    dataclasses.replace(RULES, **{name: 0})


@pytest.mark.parametrize('name', ['depth_gain', 'depth_loss', 'width_tolerance', 'parameter_slack', 'micro_margin'])
def test_negative_thresholds_are_user_errors(name):
  with pytest.raises(UserError, match=rf'config\.egnas\.{name} -1 is negative'):
    dataclasses.replace(RULES, **{name: -1})

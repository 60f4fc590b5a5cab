"""Decisions that know their noise: their certainty against SciPy's t test, and how often they err."""
import dataclasses
import math

import numpy as np
import pytest
import scipy.stats

from enas_jax.strategies.contest import Decision, Spread, Verdict, certainty, judge

NOTHING = Spread()
ONE = {'confidence': 0.95, 'share': 0.5, 'last': False, 'accuracy': [0.3]}


def test_certainty_is_that_of_a_t_test():
  gains = [0.012, 0.004, 0.021, -0.003]
  expected = scipy.stats.ttest_1samp(gains, 0.002, alternative='greater').pvalue
  assert certainty(gains, 0.002, NOTHING) == pytest.approx(1 - expected, rel=1e-9)


def test_certainty_with_the_spread_of_earlier_decisions_is_that_of_a_pooled_t_test():
  """Gains of two decisions as two groups of one model with a common spread; the second's mean against zero."""
  before, gains = [0.01, 0.03, 0.02], [0.011, 0.002]
  residuals = [*(np.array(before) - np.mean(before)), *(np.array(gains) - np.mean(gains))]
  error = math.sqrt(sum(np.square(residuals)) / 3 / 2)
  expected = scipy.stats.t(3).cdf(np.mean(gains) / error)
  assert certainty(gains, 0.0, NOTHING.add(before)) == pytest.approx(expected, rel=1e-9)


def test_one_pair_alone_tells_nothing():
  assert certainty([0.3], 0.0, NOTHING) is None
  assert judge([0.3], 0.0, NOTHING, **ONE) is Verdict.OPEN
  assert judge([0.3], 0.0, NOTHING, **{**ONE, 'last': True}) is Verdict.NOT


@pytest.mark.parametrize(('gain', 'expected'), [(0.01, Verdict.BETTER), (0.0, Verdict.NOT), (-0.01, Verdict.NOT)])
def test_without_noise_the_sign_decides(gain, expected):
  assert judge([gain, gain], 0.0, NOTHING, **{**ONE, 'accuracy': [gain, gain]}) is expected


def test_spread_of_nothing():
  assert NOTHING.add([]) == NOTHING == NOTHING.add([0.4])


def contests(gain, seed, count, *, confidence=0.95, pairs=(2, 4), margin=0.0):
  """Decides `count` comparisons one after the other, as a search does, and returns the share that was accepted."""
  rng, spread, accepted = np.random.default_rng(seed), NOTHING, 0
  for _ in range(count):
    gains = gain + 0.011 * rng.standard_normal(pairs[-1])
    for look, number in enumerate(pairs):
      seen = gains[:number].tolist()
      last = look == len(pairs) - 1
      share = (number - (pairs[look - 1] if look else 0)) / pairs[-1]
      verdict = judge(seen, margin, spread, confidence=confidence, share=share, last=last, accuracy=seen, least=margin)
      if verdict is not Verdict.OPEN:
        break
    accepted, spread = accepted + (verdict is Verdict.BETTER), spread.add(seen)
  return accepted / count


@pytest.mark.parametrize('pairs', [(2, 4), (2, 4, 8), (3,)])
@pytest.mark.parametrize('confidence', [0.8, 0.95])
def test_a_change_that_changes_nothing_rarely_passes(pairs, confidence):
  """1,000 searches of eight decisions each: at most the error that is allowed, within three standard errors of the count."""
  allowed = 1 - confidence
  passed = np.mean([contests(0.0, seed, 8, confidence=confidence, pairs=pairs) for seed in range(1000)])
  assert passed <= allowed + 3 * math.sqrt(allowed / 8000)
  assert passed > 0.2 * allowed


def test_a_change_that_loses_what_is_tolerated_counts_as_one_that_changes_nothing():
  passed = np.mean([contests(-0.005, seed, 8, margin=-0.005) for seed in range(500)])
  assert 0.01 < passed <= 0.05 + 3 * math.sqrt(0.05 / 4000)


def test_a_large_change_passes():
  assert np.mean([contests(0.03, seed, 8) for seed in range(200)]) > 0.8


def test_by_another_metric_a_change_must_gain_in_accuracy_what_is_asked():
  sure = {'confidence': 0.95, 'share': 0.5}
  lower_loss = [0.20, 0.21]
  assert judge(lower_loss, 0.0, NOTHING, **sure, last=False, accuracy=[0.005, 0.005], least=0.005) is Verdict.BETTER
  assert judge(lower_loss, 0.0, NOTHING, **sure, last=False, accuracy=[0.01, -0.02]) is Verdict.OPEN
  assert judge(lower_loss, 0.0, NOTHING, **sure, last=True, accuracy=[0.008, 0.0], least=0.005) is Verdict.NOT
  few, low = [0.004, 0.0035], [0.004, 0.0035, 0.003, 0.004]
  assert judge(lower_loss, 0.0, NOTHING, **sure, last=False, accuracy=few, least=0.005) is Verdict.OPEN
  assert judge(2 * lower_loss, 0.0, NOTHING, **sure, last=False, accuracy=low, least=0.005) is Verdict.NOT
  assert judge([-0.1, 0.1], 0.0, NOTHING, **sure, last=False, accuracy=[0.2, 0.3]) is Verdict.NOT


def test_the_line_of_a_decision():
  decision = Decision('kernel', 'some network', 0.0123, 4, 0.987, True)
  assert str(decision) == 'kernel: some network is kept, +1.23 points over 4 pairs, 98.7 % sure of a gain'
  assert Decision(**decision.to_json()) == decision
  by_loss = dataclasses.replace(decision, metric='train_loss', least=0.01)
  assert str(by_loss).endswith('is kept, +1.23 points (1.00 asked) over 4 pairs, 98.7 % sure of a lower training loss')
  assert str(Decision('width', 'narrower', -0.001, 2, 0.96, True, margin=-0.005)).endswith('96.0 % sure of more than -0.50')

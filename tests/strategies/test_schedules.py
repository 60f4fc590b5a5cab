"""The architecture-aware epochs, against the published table (papers/egnas.md, section 3.3)."""
import pytest
from support.synthetic_estimator import config_with

from enas_jax.errors import UserError
from enas_jax.spaces.chain import ChainArchitecture, ChainSpace
from enas_jax.strategies import Schedules

SPACE = ChainSpace(min_depth=10, max_depth=100, min_width=16, max_width=64, width_step=2)
PUBLISHED = {'epochs.first': 10, 'epochs.per_layer': 1, 'epochs.per_width_step': 2, 'epochs.micro': 2, 'epochs.final': 600}


def schedules(**changes):
  return Schedules.from_config(config_with(**{**PUBLISHED, **changes}), SPACE)


@pytest.mark.parametrize('depth', [10, 17, 30])
def test_epochs_are_the_depth(depth):
  assert schedules().depth_epochs(depth) == depth


def test_published_width_walk():
  """CIFAR-10, cap 64: the depth walk stopped at 30, width 46 was the ninth step."""
  assert [schedules().width_epochs(30, steps) for steps in (1, 9, 12)] == [32, 48, 54]


def test_macro_epochs_follow_from_the_network_alone():
  assert schedules().of_macro(ChainArchitecture.uniform(26, 46)).epochs == 26 + 2 * 9
  assert schedules().of_macro(ChainArchitecture.uniform(10, 64)).epochs == 10


def test_micro_and_final():
  assert (schedules().of_micro().epochs, schedules().epochs.final) == (2, 600)


def test_the_rest_is_the_training_settings():
  schedule = schedules(**{'training.batch_size': 32, 'training.best_epoch': True}).of(7)
  assert (schedule.epochs, schedule.batch_size, schedule.best_epoch, schedule.learning_rate) == (7, 32, True, 0.025)


@pytest.mark.parametrize(
    ('name', 'value'), [('first', 0), ('micro', -1), ('final', 0), ('per_layer', -1), ('per_width_step', -1)])
def test_out_of_range_is_a_user_error(name, value):
  with pytest.raises(UserError, match=rf'config\.epochs\.{name} {value} is below'):
    schedules(**{f'epochs.{name}': value})

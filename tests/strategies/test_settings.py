"""Settings stand beside what they set; a config has the same groups, field by field."""
import dataclasses
import inspect

import pytest

from enas_jax import get_config, settings
from enas_jax.strategies import STRATEGIES, Budget, Epochs, TableFacts
from enas_jax.strategies.base import AdaptsToTable

GROUPS = {**{name: entry.settings for name, entry in STRATEGIES.items()}, 'budget': Budget, 'epochs': Epochs}
TABLE = TableFacts(name='some', dataset='cifar10', rows=100, queries=30, costs={12: 12 / 200, 200: 1.0})


@pytest.mark.parametrize('name', GROUPS)
def test_a_group_of_the_config_is_its_settings(name):
  group, expected = settings.group(GROUPS[name]), get_config()[name]
  assert list(group.items()) == list(expected.items())
  assert {field: group.get_type(field) for field in group} == {field: expected.get_type(field) for field in expected}
  assert settings.read(GROUPS[name], expected, name) == GROUPS[name]()


@pytest.mark.parametrize('name', GROUPS)
def test_settings_are_frozen_and_every_one_is_explained(name):
  settings.check_class(GROUPS[name], name)
  for field in dataclasses.fields(GROUPS[name]):
    assert f'  {field.name}: ' in inspect.getdoc(GROUPS[name])


@pytest.mark.parametrize('name', STRATEGIES)
def test_settings_on_a_table_are_settings_that_hold_still(name):
  chosen = STRATEGIES[name].settings()
  assert isinstance(chosen, AdaptsToTable) == (name in ('egnas', 'halving', 'nsga2'))
  if isinstance(chosen, AdaptsToTable):
    adapted = chosen.for_table(TABLE)
    assert type(adapted) is type(chosen) and adapted.for_table(TABLE) == adapted


def test_nsga2_searches_by_the_objectives_of_a_comparison(user_error):
  nsga2 = STRATEGIES['nsga2'].settings(population=5)
  assert nsga2.for_table(TABLE) == nsga2
  by_speed = nsga2.for_table(dataclasses.replace(TABLE, objectives=('accuracy', 'latency')))
  assert by_speed == dataclasses.replace(nsga2, objectives=('accuracy', 'latency'))
  with user_error("config.nsga2.objectives ('accuracy',) are not accuracy and others"):
    nsga2.for_table(dataclasses.replace(TABLE, objectives=('accuracy',)))


@pytest.mark.parametrize(('queries', 'rows', 'candidates'), [(2, 100, 5), (30, 100, 77), (30, 40, 40)])
def test_halving_begins_with_as_many_as_the_budget_has_for_all_rungs(queries, rows, candidates):
  """77 x 0.06 + 25 = 29.62; 78 x 0.06 + 26 = 30.68. Five: 5 x 0.06 + 1; six would have two in the second rung."""
  adapted = STRATEGIES['halving'].settings().for_table(dataclasses.replace(TABLE, queries=queries, rows=rows))
  assert (adapted.fidelities, adapted.candidates) == ((12, 200), candidates)


def test_halving_says_where_it_cannot_run(user_error):
  halving = STRATEGIES['halving'].settings()
  with user_error('strategy halving: some has one fidelity of cifar10; take another strategy'):
    halving.for_table(dataclasses.replace(TABLE, costs={200: 1.0}))
  with user_error('strategy halving: 1 queries are fewer than the 1.06 of one network on its way'):
    halving.for_table(dataclasses.replace(TABLE, queries=1))


def test_egnas_pays_no_width_on_a_table_and_knows_no_noise():
  egnas = STRATEGIES['egnas'].settings(window=3)
  assert egnas.for_table(TABLE) == dataclasses.replace(
      egnas, parameter_slack=10**9, micro_replicates=1, confidence=0.0, grow=False, depth_step=1, micro_groups=0)

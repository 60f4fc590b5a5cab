"""The default settings, assembled from those of all spaces, strategies and estimators."""
import dataclasses
import json
import pathlib

import pytest

from enas_jax import estimators, fields, resume, spaces
from enas_jax.config import get_config
from enas_jax.registry import Registry
from enas_jax.strategies import STRATEGIES

pytestmark = pytest.mark.smoke
STORED = json.loads(pathlib.Path(__file__).with_name('config_fields.json').read_text())


def kind(config, field):
  *groups, name = field.split('.')
  for group in groups:
    config = config[group]
  return config.get_type(name).__name__


RETUNED = {
    'training.learning_rate': 0.1, 'chain.max_depth': 13, 'chain.max_width': 24, 'chain.width_step': 8, 'epochs.per_layer': 0,
    'epochs.final': 14}


def test_fields_types_and_values_are_those_of_version_0_1():
  """Else the workdirs and config files that there are would be refused. Later fields have a value that does what was done."""
  config = get_config()
  flat = json.loads(json.dumps(fields.flatten(config.to_dict())))
  found = {field: [kind(config, field), value] for field, value in flat.items()}
  later = {field: found.pop(field) for field in resume.LATER_SETTINGS}
  assert found == {field: [name, RETUNED.get(field, value)] for field, (name, value) in STORED.items()}
  for field, (name, _) in later.items():
    fields.changed(config, {field: resume.LATER_SETTINGS[field]})
    assert kind(config, field) == name


def test_each_that_is_registered_has_its_group():
  config = get_config()
  for registry in (spaces.SPACES, STRATEGIES, estimators.ESTIMATORS):
    for name, entry in registry.items():
      assert set(config[name]) == {field.name for field in dataclasses.fields(entry.settings)}


def test_a_name_of_a_group_that_there_is_already(monkeypatch, user_error):
  @dataclasses.dataclass(frozen=True)
  class Settings:
    width: int = 3

  monkeypatch.setattr(estimators.ESTIMATORS, '_entries', dict(estimators.ESTIMATORS._entries))
  estimators.register('training', Settings)(lambda settings, setup: None)
  with user_error("estimator 'training': config.training is a setting already; give another name"):
    get_config()


def test_changes_by_dotted_name():
  config = fields.changed(get_config(), {
      'strategy': 'random', 'chain.kernels': [3], 'training.momentum': 0, 'data.augmentation.flip': True})
  assert (config.strategy, config.chain.kernels, config.training.momentum) == ('random', (3,), 0.0)
  assert config.data.augmentation.flip is True


@pytest.mark.parametrize(('changes', 'message'), [
    ({'seeed': 1}, 'unknown setting config.seeed; did you mean config.seed?'),
    ({'flip': True}, 'did you mean config.data.augmentation.flip?'),
    ({'chain': {}}, 'config.chain is a group of settings; set one of them, such as config.chain.'),
    ({'seed': 'one'}, "config.seed 'one' is not a whole number; leave it out for the default, 0"),
    ({'chain.max_width': 1.5}, 'config.chain.max_width 1.5 is not a whole number; leave it out for the default, 24'),
    ({'data.augmentation.flip': 'no'}, "config.data.augmentation.flip 'no' is not true or false"),
    ({'chain.kernels': 3}, 'config.chain.kernels 3 is not a tuple'),
])
def test_changes_that_are_refused(user_error, changes, message):
  with user_error(message):
    fields.changed(get_config(), changes)


def test_registries_name_their_setting():
  for registry, field in ((spaces.SPACES, 'config.space'), (estimators.ESTIMATORS, 'config.estimator')):
    assert isinstance(registry, Registry) and registry.field == field

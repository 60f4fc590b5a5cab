"""Every value of every setting is of its annotation's type, members of tuples included, and finite."""
import contextlib
import dataclasses
import math
import re
import typing

import pytest

import enas_jax
from enas_jax import cli, config, estimators, fields, get_config, settings, spaces
from enas_jax.errors import UserError
from enas_jax.strategies import STRATEGIES, Budget, Epochs

GROUPS = {
    'epochs': Epochs, 'budget': Budget, 'limits': spaces.Limits,
    **{name: entry.settings for registry in (spaces.SPACES, STRATEGIES, estimators.ESTIMATORS)
       for name, entry in registry.items()}}
HINTS = {f'{name}.{field}': hint for name, kind in GROUPS.items() for field, hint in typing.get_type_hints(kind).items()}
TUPLES = {field: typing.get_args(hint)[0] for field, hint in HINTS.items() if typing.get_origin(hint) is tuple}
DEFAULTS = fields.flatten(get_config().to_dict())
MEMBERS = ('1', 1, 1.5, 3.0, True, None, (1, 2), [1], math.inf, -math.inf, math.nan, 10**30, b'1', 1j, {})
ALLOWED = {int: {1, 10**30}, str: {'1'}}


def wrong(kind):
  """Members that a tuple of this kind may not have."""
  return [member for member in MEMBERS if not (type(member) is kind and member in ALLOWED[kind])]


def test_the_tuples_of_all_settings_are_known():
  known = {'chain.kernels': int, 'halving.fidelities': int, 'evolution.objectives': str, 'nsga2.objectives': str}
  assert known == TUPLES


@pytest.mark.parametrize('field', TUPLES)
@pytest.mark.parametrize('behind', [False, True])
def test_members_of_tuples(field, behind):
  """From Python, by the check at the door and by what reads the group."""
  group, name = field.split('.')
  for member in wrong(TUPLES[field]):
    value = (*DEFAULTS[field], member) if behind else (member,)
    with pytest.raises(UserError, match=rf'^config\.{field} .* is not ') as refused:
      config.check(fields.changed(get_config(), {field: value}))
    with pytest.raises(UserError) as again:
      settings.read(GROUPS[group], {name: value}, group)
    assert str(again.value) == str(refused.value) and '\n' not in str(refused.value)


@pytest.mark.parametrize(('argument', 'message'), [
    ("--config.halving.fidelities=('1','2')", "('1', '2') is not a tuple of whole numbers; leave it out for the default, ()"),
    ('--config.halving.fidelities=(1.5,2)', '(1.5, 2) is not a tuple of whole numbers'),
    ('--config.halving.fidelities=(True,2)', '(True, 2) is not a tuple of whole numbers'),
    ('--config.chain.kernels=(3.0,5.0)', '(3.0, 5.0) is not a tuple of whole numbers; leave it out for the default, (3, 5)'),
    ('--config.chain.kernels=(3,None)', '(3, None) is not a tuple of whole numbers'),
    ('--config.chain.kernels=((3,5),)', '((3, 5),) is not a tuple of whole numbers'),
    ('--config.nsga2.objectives=(1,2)', '(1, 2) is not a tuple of texts'),
    ('--config.chain.kernels=(1e999,)', '(inf,) is not a tuple of whole numbers'),
    ('--config.training.learning_rate=inf', 'inf is not finite; give a finite number'),
    ('--config.budget.seconds=nan', 'nan is not finite; give a finite number'),
])
def test_on_the_command_line(argument, message, capsys):
  """Whether the group is used or not: `halving` is no part of the default search."""
  with pytest.raises(SystemExit) as ended:
    cli.run(lambda values: pytest.fail('it was taken'), argv=['enas', '--workdir=w', argument])
  err = capsys.readouterr().err
  assert ended.value.code == 2 and err.startswith(f"error: {argument.partition('=')[0]} ") and message in err


KINDS = {**dict(config._types(get_config())), **HINTS}  # Of settings without a class, the type that the config keeps.


def good(field, value):
  """Whether a careful user would expect a value to be taken, by the setting's annotation alone."""
  if field in TUPLES:
    return value == ()
  hint = KINDS[field]
  plain = typing.get_args(hint) or (hint,)
  return (type(value) in plain and value == value and value not in (math.inf, -math.inf)) or (value == 1 and float in plain)


@pytest.mark.parametrize('field', DEFAULTS)
def test_scalars(field):
  """No setting takes inf, nan, what is of another type, or None where that means nothing."""
  made = get_config()
  for value in (1, 1.5, 'x', (), ((),), math.inf, -math.inf, math.nan, 10**400, b'x', {}, [[]], True, None):
    if value is not True or KINDS[field] not in (bool, bool | None):
      refused = contextlib.nullcontext() if value is not True and good(field, value) else pytest.raises(UserError)
      with refused as error:
        fields.changed(made, {field: value})
        settings.check_value(f'config.{field}', value, KINDS[field], DEFAULTS[field])
      assert error is None or re.match(r'config\.[\w.]+ .* is not .*; ', str(error.value))


def test_the_check_at_the_door_misses_no_setting(user_error):
  for field in DEFAULTS:
    if type(None) not in typing.get_args(KINDS[field]):
      with user_error(f'config.{field} None is not '):
        config.check(fields.changed(get_config(), {field: None}))


def test_defaults_and_all_experiments_protocols_pass():
  for made in (get_config(), config.egnas_sound(), config.egnas_paper()):
    config.check(made)


def test_from_python_before_anything_runs(user_error):
  with user_error('config.halving.fidelities (1.5, 2) is not a tuple of whole numbers'):
    enas_jax.run({'strategy': 'halving', 'halving.fidelities': (1.5, 2)})
  given = get_config()
  given.seed = None
  with user_error('config.seed None is not a whole number; leave it out for the default, 0'):
    enas_jax.run(given)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mixed:
  either: tuple[int | str, ...] = (1, 'a')
  some: tuple = (1, 'a', 2.5)
  word: typing.Literal['a', 'b'] = 'a'
  maybe: tuple[float, ...] | None = None


@pytest.mark.parametrize(('name', 'value', 'message'), [
    ('either', (1.5,), 'config.mixed.either (1.5,) is not a tuple of '), ('some', (None,), 'is not a tuple'),
    ('some', (math.nan,), 'is not finite'), ('word', 'c', "is not one of ['a', 'b']"),
    ('maybe', ('x',), 'is not a tuple of numbers; leave it out for the default, None'),
    ('maybe', (1, math.inf), 'is not finite')])
def test_annotations_of_a_plugin(name, value, message, user_error):
  settings.check_class(Mixed, 'mine.py')
  assert settings.read(Mixed, {'maybe': [1, 2.5]}, 'mixed') == Mixed(maybe=(1, 2.5))
  with user_error(message):
    settings.read(Mixed, {name: value}, 'mixed')

"""The checks of a space: at its registration, and of its members before it is searched. What a user's own lacks is one line."""
from __future__ import annotations

import json
from typing import Any

import numpy as np

from enas_jax.errors import UserError
from enas_jax.registry import call, check_methods
from enas_jax.spaces.base import SearchSpace
from enas_jax.spaces.choices import SEPARATOR, Choices
from enas_jax.types import Architecture


def check_class_of_space(space: Any, owner: str) -> None:
  """Checks that a space has all methods, and options that are words. Raises UserError, which names `owner`, if not."""
  if isinstance(space, Choices):
    check_methods(space, Choices, owner)
    _check_options(space, owner)
  check_methods(space, SearchSpace, owner)


def check_members(space: SearchSpace[Any], owner: str) -> None:
  """Draws a member of a space and checks that the member, its JSON, its mutant and a neighbour are what they should be.

  It takes a millisecond: nothing is built or trained.

  Args:
    space: the space with the settings of a search.
    owner: who answers for it, for messages, such as "mine.py: space 'two_blocks'".

  Raises:
    UserError: one of them is not. The message names the class, and what is missing.
  """
  if isinstance(space, Choices):
    _check_options(space, owner)
  kind, rng = type(space), np.random.default_rng(0)
  member = call(f'{owner}: {kind.__name__}.sample', kind, space.sample, rng)
  _check_member(space, member, 'sample', owner)
  size = call(f'{owner}: {kind.__name__}.size', kind, space.size)
  if not isinstance(size, int) or size < 1:
    raise UserError(f'{owner}: {kind.__name__}.size gives {size!r}; give the number of members, a whole number from 1 up')
  if size == 1:  # There is no other.
    return
  mutant = call(f'{owner}: {kind.__name__}.mutate', kind, space.mutate, member, rng)
  _check_member(space, mutant, 'mutate', owner)
  neighbour = call(f'{owner}: {kind.__name__}.neighbours', kind, lambda: next(iter(space.neighbours(member)), mutant))
  _check_member(space, neighbour, 'neighbours', owner)
  for hook, other in (('mutate', mutant), ('neighbours', neighbour)):
    if other == member:
      raise UserError(f'{owner}: {kind.__name__}.{hook} gives {member!r} for itself; give a different member')


def _check_member(space: SearchSpace[Any], member: Any, hook: str, owner: str) -> None:
  """Checks what one method gave: a value that goes through JSON and back, and that the space knows as its own."""
  kind, name, space_name = type(member), type(member).__name__, type(space).__name__
  check_methods(member, Architecture, f'{owner}: {space_name}.{hook}')
  _check_hash(member, f'{owner}: {name}')
  record = call(f'{owner}: {name}.to_json', kind, member.to_json)
  try:
    plain = json.loads(json.dumps(record, allow_nan=False))
  except (TypeError, ValueError) as error:
    raise UserError(f'{owner}: {name}.to_json gives no JSON ({error}); give a dict of plain values') from error
  if not isinstance(plain, dict) or plain.get('space') != space.name:
    found = f'space {plain.get("space")!r}' if isinstance(plain, dict) else repr(record)
    raise UserError(f"{owner}: {name}.to_json gives {found}; give a dict whose 'space' is {space.name!r}, the space's name")
  try:
    again = call(f'{owner}: {space_name}.from_json', type(space), space.from_json, plain)
  except UserError as error:
    raise UserError(f'{_named(owner, error)}; it must read what {name}.to_json gives') from error
  _check_hash(again, f'{owner}: {space_name}.from_json gives a {type(again).__name__} that')
  if again != member:
    raise UserError(f'{owner}: {space_name}.from_json reads {again!r} from what {name}.to_json gives for {member!r}; '
                    'it must be equal')
  try:
    call(f'{owner}: {space_name}.check', type(space), space.check, member)
  except UserError as error:
    raise UserError(f'{_named(owner, error)}; {space_name}.{hook} gave it, so mend that or {space_name}.check') from error


def _check_hash(member: object, subject: str) -> None:
  try:
    hash(member)
  except TypeError as error:
    raise UserError(f'{subject} is not hashable ({error}); give a frozen dataclass of plain values, with tuples in place of '
                    'lists') from error


def _check_options(space: Choices[Any], owner: str) -> None:
  owner = f'{owner}: options of {type(space).__name__}'
  places = space.options
  if isinstance(places, str) or not (isinstance(places, (tuple, list)) and places):
    raise UserError(f'{owner} are {places!r}; give for each place a tuple of words')
  for place, words in enumerate(places):
    if not (isinstance(words, (tuple, list)) and words):
      raise UserError(f'{owner} at place {place} are {words!r}; give a tuple of words')
    for word in words:
      if not isinstance(word, str):
        raise UserError(f'{owner} hold {word!r} at place {place}; options must be text (str); convert numbers in member')
      if SEPARATOR in word or words.count(word) > 1:
        raise UserError(f"{owner} hold {word!r} at place {place}; give each word once and without '{SEPARATOR}'")


def _named(owner: str, error: UserError) -> str:
  return str(error) if str(error).startswith(owner) else f'{owner}: {error}'

"""What a work folder may be resumed with: the same settings on the same data, wherever these lie, and more of what may grow."""
from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from enas_jax.errors import UserError
from enas_jax.fields import flatten
from enas_jax.types import LATER_FIELDS

FORMAT = 2  # Of config.json. Raised where an older version would misread it; `upgraded` reads all before.
PARTS = {'config': dict, 'data_checksum': str, 'versions': dict, 'hardware': dict}  # Which every format has.
SHOWN_DIFFERENCES = 5
# Settings that the folder of an earlier version lacks, at the value that does what was done then.
LATER_SETTINGS = {
    **{f'training.{name}': value for name, value in LATER_FIELDS.items() if name != 'stop_epoch'}, 'budget.seconds': None,
    'data.accuracy': 'plain', 'limits.params': 0, 'limits.macs': 0, 'control': False, 'data.augmentation.choice': 'paper',
    **{f'egnas.{name}': value for name, value in (
        ('confidence', 0.0), ('most_replicates', 4), ('grow', False), ('widen', False), ('depth_step', 1),
        ('micro_groups', 0), ('decide_by', 'accuracy'), ('growth_gain', 0.0), ('kernel_walk', False))}}
# Settings that say where the data lie; what they hold is told by its checksum.
PLACES = ('data.name', 'table.name', 'compare.table')


# Settings that may grow: what was evaluated under the old value is part of what the new one asks for. 0 and None are no limit.
GROWING = ('budget.evaluations', 'budget.train_macs', 'budget.seconds', 'control', 'epochs.final', 'max_failures_in_a_row')
ABSENT = object()


class Resumed(NamedTuple):
  """How a run goes on.

  Attributes:
    grown: of each setting that has grown what it was and is.
    notice: one line on what else differs and may; empty if nothing does.
    has_images_now: whether it is a search on a table, until now without images, whose winner is to be trained.
  """

  grown: tuple[str, ...]
  notice: str
  has_images_now: bool


def check(stored: Any, now: Mapping[str, Any], where: str) -> Resumed:
  """Compares the record of a folder with that of the run that wants to go on in it.

  Args:
    stored: what config.json holds.
    now: the run's own record of the same kind.
    where: the folder, for messages.

  Raises:
    UserError: it is no record of ours, of a later version, or its settings or data are others.
  """
  stored, now = _upgraded(stored, where), _upgraded(now, where)
  differences = _differences(*_without_foreign(stored['config'], now['config']))
  same_data = stored['data_checksum'] == now['data_checksum']
  has_images_now, has_none_now = (
      now['config'].get('estimator') == 'table' and more['data_checksum'].split()[1:] == [less['data_checksum']]
      for more, less in ((now, stored), (stored, now)))  # 'images table' and 'table'.
  moved = [name for name in differences if name in PLACES and same_data]
  if 'data.name' in moved and (parts := _augmented(stored, now)):
    raise UserError(f'workdir {where} has the same data under another name, by which they are augmented otherwise ({parts}); '
                    f'give --config.data.name={stored["config"]["data.name"]}, or choose another --workdir')
  grown = [name for name, values in differences.items() if name in GROWING and _grows(name, *values)]
  if refused := [text for name, text in _told(differences, '{}: stored {}, now {}') if name not in (*moved, *grown)]:
    more = len(refused) - SHOWN_DIFFERENCES
    text = '; '.join(refused[:SHOWN_DIFFERENCES]) + (f'; and {more} more' if more > 0 else '')
    raise UserError(f'workdir {where} has another config ({text}); choose another --workdir or the stored values')
  if not same_data and not has_images_now and not has_none_now:
    raise UserError(
        f'workdir {where} was started on other data (checksum stored {stored["data_checksum"]}, '
        f'now {now["data_checksum"]}{_other_parts(stored.get("data"), now.get("data"))}); '
        'choose another --workdir or the data it was started on')
  notices = [f'{text}: it holds the same' for name, text in _told(differences, 'config.{} was {}, is {}') if name in moved]
  changes = [text for part in ('versions', 'hardware')
             for _, text in _told(_differences(flatten(stored[part]), flatten(now[part])), '{} was {}, is {}')]
  if changes:
    notices.append(f'since the first run {", ".join(changes)}: results can differ in the last digits')
  more_of = tuple(text for name, text in _told(differences, 'config.{} was {}, is {}') if name in grown)
  return Resumed(more_of, '; '.join(notices), has_images_now)


def _upgraded(stored: Any, where: str) -> dict[str, Any]:
  """Returns a record as this version writes it, its settings flat."""
  if not isinstance(stored, dict) or not all(isinstance(stored.get(part), kind) for part, kind in PARTS.items()):
    raise UserError(f'{where}/config.json was not written by enas_jax; choose another --workdir')
  version = stored.get('format', 1)
  if version not in range(1, FORMAT + 1):
    raise UserError(f'{where}/config.json has format {version!r}, not 1 to {FORMAT}: it is of a later version of enas_jax; '
                    'use that, or choose another --workdir')
  return {**stored, 'config': {**LATER_SETTINGS, **flatten(stored['config'])}}


def _other_parts(stored: Mapping[str, Any] | None, now: Mapping[str, Any] | None) -> str:
  """Returns which parts of the images differ, and whether more than their order does."""
  if now is None:
    return ''
  if stored is None:
    return '; the folder is of a version that kept no record of its images and may have read them otherwise'
  try:
    parts = sorted(stored['parts'].keys() | now['parts'].keys())
    texts = [text for part in parts if (text := _difference(part, stored['parts'].get(part), now['parts'].get(part)))]
  except (AttributeError, KeyError, TypeError):
    return '; its record of the images is damaged'
  return ''.join(f'; {text}' for text in texts or ['the images are the same, the table is not'])


def _difference(part: str, before: Mapping[str, Any] | None, now: Mapping[str, Any] | None) -> str:
  if before is None or now is None:
    return f'{part} is {"new" if before is None else "gone"}'
  if before['checksum'] == now['checksum']:
    return ''
  if before['content'] == now['content']:
    return f'{part} has the same images in another order, and order counts'
  return f'{part} has other images or labels, {before["images"]:,} then and {now["images"]:,} now'


def _grows(name: str, stored: Any, now: Any) -> bool:
  """Returns whether a setting of `GROWING` is more than it was."""
  if name.startswith('budget.'):
    stored, now = (math.inf if value in (0, None) else value for value in (stored, now))
  return isinstance(stored, (int, float)) and isinstance(now, (int, float)) and now > stored


def _augmented(stored: Mapping[str, Any], now: Mapping[str, Any]) -> str:
  """Returns how the images are augmented under the stored name and the present one; empty if alike, or if there are none."""
  if now.get('data') is None:
    return ''
  from enas_jax.data.augment import from_config  # Not at the top: it brings JAX along.
  of_name = 'data.augmentation.'
  settings = {name.removeprefix(of_name): value for name, value in now['config'].items() if name.startswith(of_name)}
  shape = tuple(now['data']['image_shape'])
  before, after = (from_config(settings, record['config']['data.name'], shape) for record in (stored, now))
  return '' if before == after else f'then {before}, now {after}'


def _without_foreign(stored: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
  """Returns two flat configs without the groups that one of them lacks and no part of the run has: those of other plugins."""
  used = {'compare', *(now.get(role) for role in ('space', 'strategy', 'estimator'))}
  groups = [{name.partition('.')[0] for name in config if '.' in name} for config in (stored, now)]
  foreign = (groups[0] ^ groups[1]) - used
  one, other = ({name: value for name, value in config.items() if name.partition('.')[0] not in foreign}
                for config in (stored, now))
  return one, other


def _differences(stored: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
  """Returns, of what two flat records hold, what is not in both with one value: both values, by name, in the names' order."""
  pairs = {name: (stored.get(name, ABSENT), now.get(name, ABSENT)) for name in sorted(stored.keys() | now.keys())}
  return {name: pair for name, pair in pairs.items() if _text(pair[0]) != _text(pair[1])}


def _told(differences: Mapping[str, tuple[Any, Any]], template: str) -> Iterator[tuple[str, str]]:
  for name, (stored, now) in differences.items():
    yield name, template.format(name, _text(stored), _text(now))


def _text(value: Any) -> str:
  return 'absent' if value is ABSENT else json.dumps(value)

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from ml_collections import ConfigDict

from enas_jax import resume
from enas_jax import workdir as module
from enas_jax.checkpoint import Checkpoints
from enas_jax.config import get_config
from enas_jax.errors import UserError
from enas_jax.fields import changed, flatten
from enas_jax.ledger import Ledger
from enas_jax.spaces.chain import ChainArchitecture, ChainSpace
from enas_jax.types import Evaluation, Request, Schedule
from enas_jax.workdir import Workdir, disk_errors

REQUEST = Request(ChainArchitecture.uniform(4, 8), Schedule(epochs=1))

HOLDER = '''
import sys, time
from enas_jax.config import get_config
from enas_jax.workdir import Workdir
with Workdir.open(sys.argv[1], get_config(), data_checksum='d'):
  print('ready', flush=True)
  time.sleep(60)
'''


def start(path, config=None, data_checksum='d', data=None):
  return Workdir.open(path, config or get_config(), data_checksum=data_checksum, data=data)


def refused(path, match, **kwargs):
  with pytest.raises(UserError, match=match) as error:
    start(path, **kwargs)
  assert '\n' not in str(error.value)
  assert '--workdir' in str(error.value) or 'same command' in str(error.value)
  return str(error.value)


def test_first_run_makes_the_folder_and_its_record(tmp_path):
  with start(tmp_path / 'a' / 'b') as workdir:
    record = json.loads((workdir.path / 'config.json').read_text())
    assert workdir.ledger == tmp_path / 'a' / 'b' / 'ledger.jsonl'
    assert not workdir.notice
  assert record['config']['chain']['kernels'] == [3, 5]
  assert record['config']['data']['augmentation']['flip'] is None
  assert record['data_checksum'] == 'd'
  assert {*module.PACKAGES, 'python'} == set(record['versions'])
  assert set(record['hardware']) == {'backend', 'device_kind', 'cpu_count'}
  assert record['command']


def test_same_settings_resume_and_leave_the_record_alone(tmp_path):
  start(tmp_path).close()
  before = (tmp_path / 'config.json').stat().st_mtime_ns
  with start(str(tmp_path)) as workdir:
    assert not workdir.notice
  assert (tmp_path / 'config.json').stat().st_mtime_ns == before


def test_other_settings_are_named_field_by_field(tmp_path):
  start(tmp_path).close()
  config = get_config()
  config.seed, config.chain.kernels, config.data.augmentation.flip = 1, (3,), True
  message = refused(tmp_path, 'another config', config=config)
  for text in ('seed: stored 0, now 1', 'chain.kernels: stored [3, 5], now [3]', 'augmentation.flip: stored null, now true'):
    assert text in message
  start(tmp_path).close()  # The refused one let go of the lock.


def test_many_other_settings_are_counted(tmp_path):
  start(tmp_path).close()
  config = get_config()
  for name in config.epochs:
    config.epochs[name] += 1
  config.seed, config.space = 5, 'cell'
  assert 'and 1 more' in refused(tmp_path, 'another config', config=config)


def test_unknown_and_missing_fields_differ(tmp_path):
  start(tmp_path).close()
  config = get_config()
  config.colour = 'red'
  del config.seed
  assert 'colour: stored absent, now "red"; seed: stored 0, now absent' in refused(tmp_path, 'another config', config=config)


def test_other_data(tmp_path):
  start(tmp_path).close()
  refused(tmp_path, 'other data .*stored d, now e', data_checksum='e')


@pytest.mark.parametrize(('stored', 'now'), [
    ({'budget.evaluations': 4}, {'budget.evaluations': 5}),
    ({'budget.evaluations': 4}, {'budget.evaluations': 0}),
    ({'budget.train_macs': 1e9}, {'budget.train_macs': 2e9}),
    ({'budget.train_macs': 1e9}, {'budget.train_macs': 0}),
    ({'budget.seconds': 60.0}, {'budget.seconds': 90.0}),
    ({'budget.seconds': 60.0}, {}),
    ({'control': False}, {'control': True}),
    ({'epochs.final': 3}, {'epochs.final': 4}),
    ({'max_failures_in_a_row': 3}, {'max_failures_in_a_row': 4}),
])
def test_what_may_grow_grows_and_does_not_shrink(tmp_path, stored, now):
  """Each setting that may: the end of the run before is put aside, what it had learned stays."""
  stored, now = (changed(get_config(), values) for values in (stored, now))
  start(tmp_path, stored).close()
  (tmp_path / 'control').mkdir()
  for name in ('result.json', 'control/result.json', 'controller.json', 'ledger.jsonl', 'model.json'):
    (tmp_path / name).write_text('{}')
  with start(tmp_path, now) as workdir:
    (name,) = [name for name, value in flatten(now.to_dict()).items() if flatten(stored.to_dict())[name] != value]
    assert f'config.{name} ' in workdir.notice and workdir.notice.endswith(': the run goes on')
  left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob('*.json*'))
  assert [name for name in left if 'result-before-' not in name] == ['config.json', 'ledger.jsonl', 'model.json']
  assert len(left) == 5
  with start(tmp_path, now) as workdir:
    assert not workdir.notice
  refused(tmp_path, f'another config .{name}: stored ', config=stored)


def test_growing_and_another_setting_is_another_config(tmp_path):
  start(tmp_path).close()
  before = (tmp_path / 'config.json').read_bytes()
  refused(tmp_path, r'another config \(seed: stored 0, now 1\)', config=changed(get_config(), {'epochs.final': 900, 'seed': 1}))
  assert (tmp_path / 'config.json').read_bytes() == before


@pytest.mark.parametrize('name', resume.PLACES)
def test_the_same_data_by_another_path(tmp_path, name):
  def config(path):
    made = ConfigDict({**get_config().to_dict(), 'compare': {'table': ''}})
    return changed(made, {name: path})

  start(tmp_path, config('npz:a')).close()
  with start(tmp_path, config('npz:b')) as workdir:
    assert workdir.notice == f'config.{name} was "npz:a", is "npz:b": it holds the same'
  refused(tmp_path, f'{name}: stored "npz:a", now "npz:b"', config=config('npz:b'), data_checksum='e')


def test_growing_twice_within_a_second_loses_no_result(tmp_path, monkeypatch):
  monkeypatch.setattr('time.strftime', lambda *_: 'now')
  for budget in (4, 5, 6, 7):
    start(tmp_path, changed(get_config(), {'budget.evaluations': budget})).close()
    (tmp_path / 'result.json').write_text(str(budget))
  found = {file.name: file.read_text() for file in tmp_path.glob('result*')}
  aside = {f'result-before-now{more}.json': str(budget) for more, budget in (('', 4), ('-2', 5), ('-3', 6))}
  assert found == {**aside, 'result.json': '7'}


def test_a_later_version(tmp_path):
  start(tmp_path).close()
  record = json.loads((tmp_path / 'config.json').read_text())
  for version in (3, 0, '2', None):
    (tmp_path / 'config.json').write_text(json.dumps({**record, 'format': version}))
    refused(tmp_path, 'has format .*, not 1 to 2: it is of a later version')
  del record['format']
  (tmp_path / 'config.json').write_text(json.dumps(record))
  start(tmp_path).close()


@pytest.mark.parametrize('inside', ['', 'runs', 'train/cat'])
def test_a_workdir_among_the_images(tmp_path, inside):
  (tmp_path / 'link').symlink_to(tmp_path)
  for images in (tmp_path, tmp_path / 'link'):
    config = changed(get_config(), {'data.name': f'folder:{images}'})
    refused(tmp_path / inside, 'is in the folder of the images', config=config)
  assert not list(tmp_path.glob('**/config.json'))
  start(tmp_path / 'w', changed(get_config(), {'data.name': f'folder:{tmp_path / "images"}'})).close()


def part(images, checksum, content):
  return {'images': images, 'checksum': checksum, 'content': content}


STORED = {'parts': {'train': part(9, 'a', 'b'), 'test': part(2, 'c', 'd')}}


@pytest.mark.parametrize(('parts', 'expected'), [
    ({'train': part(9, 'x', 'b')}, '; train has the same images in another order, and order counts); choose'),
    ({'test': part(3, 'x', 'y')}, '; test has other images or labels, 2 then and 3 now); choose'),
    ({'train': part(9, 'x', 'b'), 'test': part(2, 'x', 'y')},
     '; test has other images or labels, 2 then and 2 now; train has the'),
    ({'valid': part(1, 'x', 'y')}, '; valid is new); choose'),
    ({}, '; the images are the same, the table is not); choose')])
def test_other_data_by_part(tmp_path, parts, expected):
  Workdir.open(tmp_path, get_config(), data_checksum='d', data=STORED).close()
  with pytest.raises(UserError, match=re.escape(f'other data (checksum stored d, now e{expected}')):
    Workdir.open(tmp_path, get_config(), data_checksum='e', data={'parts': {**STORED['parts'], **parts}})
  Workdir.open(tmp_path, get_config(), data_checksum='d', data={'parts': {}}).close()  # The checksum alone decides.


def test_a_workdir_without_a_record_of_its_images_is_resumed_on_the_same_ones(tmp_path):
  start(tmp_path).close()
  assert 'data' not in json.loads((tmp_path / 'config.json').read_text())
  before = (tmp_path / 'config.json').read_bytes()
  Workdir.open(tmp_path, get_config(), data_checksum='d', data=STORED).close()
  assert (tmp_path / 'config.json').read_bytes() == before
  with pytest.raises(UserError, match='kept no record of its images and may have read them otherwise\\); choose'):
    Workdir.open(tmp_path, get_config(), data_checksum='e', data=STORED)


@pytest.mark.parametrize('damaged', [1, [], {'parts': 1}, {'parts': {'train': {}}}, {'parts': {'train': 1}}])
def test_a_damaged_record_of_the_images_is_told(tmp_path, damaged):
  Workdir.open(tmp_path, get_config(), data_checksum='d', data=STORED).close()
  record = json.loads((tmp_path / 'config.json').read_text())
  (tmp_path / 'config.json').write_text(json.dumps({**record, 'data': damaged}))
  with pytest.raises(UserError, match='now e; its record of the images is damaged\\); choose'):
    Workdir.open(tmp_path, get_config(), data_checksum='e', data=STORED)


def test_other_versions_and_hardware_are_noted(tmp_path, monkeypatch):
  start(tmp_path).close()
  record = json.loads((tmp_path / 'config.json').read_text())
  record['versions']['numpy'], record['hardware']['device_count'] = '1.0', 8
  (tmp_path / 'config.json').write_text(json.dumps(record))
  with start(tmp_path) as workdir:
    assert 'numpy was "1.0", is "' in workdir.notice and 'device_count was 8, is ' in workdir.notice
    assert 'last digits' in workdir.notice and '\n' not in workdir.notice


@pytest.mark.parametrize('value', [float('nan'), float('inf'), object(), {1, 2}])
def test_settings_that_are_not_json(tmp_path, value):
  config = get_config()
  config.x = value
  with pytest.raises(UserError, match=r'--config.x=.* cannot be stored'):
    start(tmp_path / 'w', config)
  assert not (tmp_path / 'w').exists()


@pytest.mark.parametrize('text', ['', '{"config": ', '[]', '{}', '3', '\0'])
def test_damaged_record(tmp_path, text):
  (tmp_path / 'config.json').write_text(text)
  refused(tmp_path, r'config.json (is damaged|was not written by enas_jax)')


def test_ledger_without_record(tmp_path):
  (tmp_path / 'ledger.jsonl').touch()
  refused(tmp_path, 'no config.json')


def test_path_is_a_file(tmp_path):
  (tmp_path / 'f').touch()
  refused(tmp_path / 'f', 'is not a folder')
  refused(tmp_path / 'f' / 'g', 'is not a folder')


@pytest.mark.parametrize('path', ['/proc/enas_jax_test', '/sys/enas_jax_test'])  # Closed even to root.
def test_not_writable_for_anyone(path):
  refused(path, 'not readable and writable')


def test_not_writable(tmp_path):
  (tmp_path / 'w').mkdir(mode=0o555)
  user = os.geteuid()
  if user == 0:  # Root may write everywhere.
    os.seteuid(65534)
  try:
    refused(tmp_path / 'w', 'Permission denied')
  finally:
    os.seteuid(user)


def test_full_disk_on_the_first_run(tmp_path, monkeypatch):
  def full(*_):
    raise OSError(errno.ENOSPC, 'No space left on device')
  with monkeypatch.context() as patch:
    patch.setattr(os, 'fsync', full)
    refused(tmp_path, 'is full')
  assert [p.name for p in tmp_path.iterdir()] == ['lock']
  start(tmp_path).close()


def test_full_disk_keeps_the_old_record(tmp_path, monkeypatch):
  def full(*_):
    raise OSError(errno.EDQUOT, 'Disk quota exceeded')
  with start(tmp_path) as workdir:
    workdir.write_json('result.json', {'accuracy': 0.5})
    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(UserError, match=r'is full .*same command'):
      workdir.write_json('result.json', {'accuracy': 0.6})
    assert workdir.read_json('result.json') == {'accuracy': 0.5}
    assert not list(tmp_path.glob('*.tmp'))


VANISH = {
    'record': lambda workdir: workdir.write_json('result.json', {}), 'bytes': lambda workdir: workdir.write_bytes('x', b''),
    'part': lambda workdir: workdir.part('control'),
    'ledger': lambda workdir: Ledger(workdir.ledger, ChainSpace().from_json).add(REQUEST, Evaluation(reason='x')),
    'checkpoints': lambda workdir: Checkpoints(workdir.path / 'checkpoints', 'me', print).save(1, [np.zeros(2)], {}),
}


@pytest.mark.parametrize('what', VANISH)
@pytest.mark.parametrize('instead', ['nothing', 'a file'])
def test_a_folder_that_is_gone_under_the_run(tmp_path, what, instead):
  path = tmp_path / 'w'
  made_anew = what == 'checkpoints' and instead == 'nothing'  # With its parents.
  message = 'the end' if made_anew else rf'^workdir {re.escape(str(path))} is not .*; choose another --workdir'
  with pytest.raises(UserError, match=message), start(path) as workdir:
    shutil.rmtree(path)
    if instead == 'a file':
      path.touch()
    VANISH[what](workdir)
    raise UserError('the end')
  if instead == 'a file':
    path.unlink()
  start(path).close()  # The lock was let go.


def test_what_is_not_the_disk_s_fault_is_not_called_so(tmp_path):
  """Python's TimeoutError is an OSError, also where a library's thread raises it."""
  with pytest.raises(TimeoutError, match='a thread'), disk_errors(tmp_path):
    raise TimeoutError('a thread')


def test_json_records(tmp_path):
  with start(tmp_path) as workdir:
    assert workdir.read_json('architecture.json') is None
    workdir.write_json('architecture.json', {'width': 4})
    assert workdir.read_json('architecture.json') == {'width': 4}
    with pytest.raises(ValueError):
      workdir.write_json('result.json', {'accuracy': float('nan')})
    assert workdir.read_json('result.json') is None
    (tmp_path / 'result.json').mkdir()
    with pytest.raises(UserError, match='cannot be read'):
      workdir.read_json('result.json')


def test_in_use_by_another_process_until_it_is_killed(tmp_path):
  process = subprocess.Popen([sys.executable, '-c', HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
  try:
    assert process.stdout.readline() == 'ready\n'
    refused(tmp_path, f'in use by process {process.pid};')
  finally:
    process.send_signal(signal.SIGKILL)
    process.communicate()
  with start(tmp_path):
    assert (tmp_path / 'lock').read_text() == str(os.getpid())


def test_in_use_by_this_process(tmp_path):
  with start(tmp_path):
    refused(tmp_path, f'in use by process {os.getpid()}')


def test_home_folder(tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', str(tmp_path))
  with start('~/w') as workdir:
    assert workdir.path == tmp_path / 'w'


IMAGES = {'image_shape': [28, 28, 1], 'parts': {}}


@pytest.mark.parametrize(('name', 'choice', 'alike'), [
    ('npz:a', 'light', False), ('npz:a', 'paper', False), ('fashion_mnist', 'light', True), ('fashion_mnist', 'paper', False)])
def test_the_same_data_by_a_name_that_augments_them_otherwise(tmp_path, name, choice, alike):
  config = {'data.augmentation.choice': choice}
  start(tmp_path, changed(get_config(), config), data=IMAGES).close()
  other = changed(get_config(), {**config, 'data.name': name})
  if alike:
    start(tmp_path, other, data=IMAGES).close()
  else:
    refused(tmp_path, 'augmented otherwise .then .*give --config.data.name=fashion_mnist_10k', config=other, data=IMAGES)


def test_a_search_on_a_table_may_get_images_later(tmp_path):
  config = changed(get_config(), {'estimator': 'table'})
  start(tmp_path, config, 'table').close()
  for data_checksum, data in (('images table', IMAGES), ('images table', IMAGES), ('table', None)):
    start(tmp_path, config, data_checksum, data).close()
    record = json.loads((tmp_path / 'config.json').read_text())
    assert (record['data_checksum'], record['data']) == ('images table', IMAGES)
  for data_checksum in ('others table', 'images other', 'other'):
    refused(tmp_path, 'started on other data', config=config, data_checksum=data_checksum, data=IMAGES)


def test_plugins_that_the_run_does_not_use_come_and_go(tmp_path):
  plain = get_config()
  plugin = ConfigDict({**plain.to_dict(), 'mine': {'steps': 3}})
  for config in (plain, plugin, plain, plugin):
    start(tmp_path, config).close()
  start(tmp_path, changed(plain, {'budget.evaluations': plain.budget.evaluations + 1})).close()  # Which forgets none.
  refused(tmp_path, 'mine.steps: stored 3, now 4', config=changed(plugin, {'mine.steps': 4}))
  refused(tmp_path, 'compare.queries: stored absent, now 3', config=ConfigDict({**plain.to_dict(), 'compare': {'queries': 3}}))
  used = ConfigDict({**plugin.to_dict(), 'strategy': 'mine'})
  start(tmp_path / 'used', used).close()
  refused(tmp_path / 'used', 'mine.steps: stored 4, now absent', config=ConfigDict({**plain.to_dict(), 'strategy': 'mine'}))


def test_a_folder_that_is_a_link_to_itself(tmp_path):
  (tmp_path / 'loop').symlink_to('loop')
  refused(tmp_path / 'loop', 'is not', config=changed(get_config(), {'data.name': f'folder:{tmp_path}/images'}))

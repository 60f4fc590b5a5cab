"""Paths from users: every flag, setting and argument that takes one reads it alike."""
import collections
import os
import pathlib
import re
import shutil
import types

import numpy as np
import pytest
from absl import flags
from PIL import Image
from support.run_records import image_part, write_images

import enas_jax
from enas_jax import cli, data, estimators, paths, plugins, predict, score, spaces, supervise, tables, train
from enas_jax.compare import __main__ as comparing
from enas_jax.config import get_config
from enas_jax.errors import UserError
from enas_jax.ledger import Ledger
from enas_jax.training import compile_cache
from enas_jax.types import Task
from enas_jax.workdir import Workdir

PATH_FLAGS = {
    'search': {'workdir', 'data_dir', 'compilation_cache'},
    'train': {'workdir', 'data_dir', 'compilation_cache', 'architecture'}, 'compare': {'workdir', 'table'},
    'score': {'workdir', 'data_dir', 'compilation_cache', 'architectures'},
    'predict': {'workdir', 'output'}}
DEFINE_FLAGS = {
    'search': None, 'train': train._define_flags, 'compare': comparing._define_flags, 'predict': predict._define_flags,
    'score': score._define_flags}
SPACE = spaces.make_default('nasbench201')
MODEL = types.SimpleNamespace(task=Task((8, 8, 1), 2))
TABLE = 'architecture,cifar10/valid/200\n|nor_conv_3x3~0|+|none~0|none~1|+|none~0|none~1|none~2|,0.5\n'
ARCHITECTURE = '{"space": "chain", "version": 1, "width": 2, "operations": "010", "kernels": "353"}'
CONFIG = 'from enas_jax.config import get_config\n'
BAD = {  # And what the one line says.
    '~no_such_user/x': 'no home folder is known for ~no_such_user; write ./~no_such_user if that is a folder',
    'a\0b': 'a\\x00b can be no path (',
    'x' * 5000: 'x can be no path (File name too long); give another',
    '\ud800': '\\ud800 can be no path (',
}


def searched(**settings):
  return enas_jax.run({'space': 'nasbench201', 'estimator': 'table', 'epochs.first': 200, 'strategy': 'random', **settings},
                      train=False, progress=False)


ARGUMENTS = {  # Whatever else takes a path: a function of it, and the name of a file or folder that it reads, if it reads one.
    'run(workdir)': (lambda path: enas_jax.run(
        {'estimator': 'table', 'space': 'nasbench201', 'epochs.first': 200, 'strategy': 'random', 'budget.evaluations': 2},
        workdir=path, train=False, progress=False), None),
    'run(data)': (lambda path: enas_jax.run({'chain.min_depth': 0}, data=f'npz:{path}', progress=False), None),
    'config.table.name': (lambda path: searched(**{'table.name': path, 'budget.evaluations': 1}), 'table.csv'),
    'load': (enas_jax.load, None),
    'data.load(npz:)': (lambda path: data.load(f'npz:{path}'), 'images.npz'),
    'data.load(folder:)': (lambda path: data.load(f'folder:{path}'), 'images'),
    'data.load(data_dir)': (lambda path: data.load('cifar10', data_dir=path), None),
    'tables.read': (lambda path: tables.read(path, SPACE), 'table.csv'),
    'tables.find': (lambda path: tables.find(SPACE, path), 'table.csv'),
    'tables.save': (lambda path: tables.save(tables.load('nasbench_macro'), path), None),
    'plugins.load': (plugins.load, 'mine.py'),
    'cli.load_config': (cli.load_config, 'settings.py'),
    'Workdir.open': (lambda path: Workdir.open(path, get_config(), data_checksum='d').close(), None),
    'execution': (lambda path: estimators.execution('float32', pathlib.Path('w'), compilation_cache=path), None),
}


@pytest.fixture
def home(tmp_path, monkeypatch):
  """The user's home, with a file of each kind in it."""
  monkeypatch.setenv('HOME', str(tmp_path))
  monkeypatch.chdir((tmp_path / 'elsewhere').mkdir() or tmp_path / 'elsewhere')
  write_images(tmp_path / 'images.npz')
  (tmp_path / 'table.csv').write_text(TABLE)
  (tmp_path / 'mine.py').write_text('')
  (tmp_path / 'settings.py').write_text(CONFIG)
  (tmp_path / 'architecture.json').write_text(ARCHITECTURE)
  for label in 'ab':
    (tmp_path / 'images' / label).mkdir(parents=True)
    for i, image in enumerate(image_part(4, np.random.default_rng(0))[0]):
      Image.fromarray(image[..., 0]).save(tmp_path / 'images' / label / f'{i}.png')
  yield tmp_path
  assert not list(pathlib.Path().glob('~*'))


def called(main, command, **given):
  """Calls `main` as a command is called, with these flags. Returns the exit code."""
  given = {'workdir': 'w', **({'architecture': 'a'} if command == 'train' else {}), **given}
  with pytest.raises(SystemExit) as ended:
    cli.run(main, define_flags=DEFINE_FLAGS[command], trains=command in ('search', 'train'),
            argv=[command, *(f'--{name}={value}' for name, value in given.items())])
  return ended.value.code or 0


def test_all_commands_are_here():
  package = pathlib.Path(enas_jax.__file__).parent
  commands = [file.relative_to(package).parts[0].removesuffix('.py') for file in package.rglob('*.py')
              if re.search(r'^  cli\.run\(', file.read_text(), re.MULTILINE)]
  assert sorted(commands) == sorted(DEFINE_FLAGS)


def path_flags(command):
  """The flags of a command that take paths; and those whose help speaks of a file or a folder."""
  seen = []
  called(seen.append, command)
  values = seen[0]
  kinds = {name for name in values if values[name].flag_type() == 'path'}
  spoken_of = {name for name in values if re.search(r'[Ff]older|[Ff]ile\b', values[name].help)}
  return kinds, spoken_of


@pytest.mark.parametrize('command', PATH_FLAGS)
def test_flags_that_take_a_path_are_known(command):
  kinds, spoken_of = path_flags(command)
  assert kinds == PATH_FLAGS[command] and spoken_of - {'plugin', 'flagfile'} == kinds


@pytest.mark.parametrize(('command', 'flag'), [
    (command, flag) for command, flags_ in PATH_FLAGS.items() for flag in sorted(flags_ | {'config', 'plugin'})])
def test_flags(command, flag, home, capsys):
  """Bad ones are refused with one line; of others `~` is the user's home."""
  for bad, message in {**BAD, '': ' is empty; give a path'}.items():
    assert called(lambda values: pytest.fail('it was taken'), command, **{flag: bad}) == 2
    out, err = capsys.readouterr()
    assert not out and err.startswith(f'error: --{flag}=') and message in err and err.count('\n') == 1
  seen = []
  name = {'config': 'settings.py', 'plugin': 'mine.py'}.get(flag, 'x')
  assert called(seen.append, command, **{flag: f'~/{name}'}) == 0, capsys.readouterr().err
  if flag in PATH_FLAGS[command]:
    assert seen[0][flag].value == str(home / name)


@pytest.mark.parametrize('what', ARGUMENTS)
def test_arguments_that_are_refused(what, home, user_error):
  call, _ = ARGUMENTS[what]
  for bad, message in BAD.items():
    with user_error(message):
      call(bad)


@pytest.mark.parametrize('what', [what for what, (_, name) in ARGUMENTS.items() if name])
def test_arguments_in_the_home_folder(what, home):
  call, name = ARGUMENTS[what]
  call(f'~/{name}')


def test_folders_that_are_made_in_the_home_folder(home, user_error, monkeypatch):
  ARGUMENTS['run(workdir)'][0]('~/w1')
  ARGUMENTS['Workdir.open'][0](pathlib.Path('~/w2'))
  ARGUMENTS['tables.save'][0]('~/saved.npz')
  keep = compile_cache.keep_programs
  kept = []
  monkeypatch.setattr(compile_cache, 'keep_programs', kept.append)  # JAX's own setting is for the whole process.
  ARGUMENTS['execution'][0]('~/programs')
  assert kept == [home / 'programs'] and callable(keep)
  assert {'w1', 'w2', 'saved.npz'} <= {path.name for path in home.iterdir()}
  with user_error(f'{home}/w1 holds no trained network'):
    enas_jax.load('~/w1')
  with user_error(f'not prepared in {home}/tfds'):
    data.load('cifar10', data_dir='~/tfds')


@pytest.mark.parametrize('path', [b'w', 3, None, ['w']], ids=str)
def test_what_is_no_path(path, user_error):
  with user_error('--workdir=', 'is no path; give text or a pathlib.Path'):
    paths.read(path, '--workdir=')


def test_a_path_is_read_and_no_more():
  user = os.environ.get('USER') or 'root'
  assert paths.read(f'~{user}/x', '') == pathlib.Path(f'~{user}/x').expanduser() != pathlib.Path(f'~{user}/x')
  for path in ('a/../b', ' ', '-', 'a/~/b', 'ü', '/', '.', pathlib.Path('x')):
    assert paths.read(path, '') == pathlib.Path(path)
  own = paths.read('./~x', '')  # A folder of that name.
  assert own == pathlib.Path.cwd() / '~x' == paths.read(str(own), '')


class Closed:
  """Within, what is given may be read by nobody: not even root's own process, which takes another user's rights."""

  def __init__(self, path):
    self._path, self._mode, self._user = path, path.stat().st_mode, os.geteuid()

  def __enter__(self):
    self._path.chmod(0)
    if self._user == 0:
      os.seteuid(65534)

  def __exit__(self, *_):
    if self._user == 0:
      os.seteuid(0)
    self._path.chmod(self._mode)


UNREADABLE = {  # A function of the path, and what it reads.
    '--config': (cli.load_config, 'settings.py'), '--plugin': (plugins.load, 'mine.py'),
    '--architecture': (train._read, 'architecture.json'),
    'table': (lambda path: tables.read(path, SPACE), 'table.csv'),
    'table npz': (lambda path: tables.read(path, SPACE), 'images.npz'),
    'table folder': (lambda path: tables.read(path, SPACE), 'images'),
    'ledger': (lambda path: Ledger(path, SPACE.from_json), 'ledger.jsonl'),
    'lock': (lambda path: Workdir.open(path.parent, get_config(), data_checksum='d'), 'lock'),
    'config.json': (lambda path: Workdir.open(path.parent, get_config(), data_checksum='d'), 'config.json'),
    'model': (lambda path: enas_jax.load(path.parent), 'model.json'),
    'image to predict': (lambda path: predict._read(MODEL, list(predict._files(path)), collections.Counter()), 'image.png'),
}


@pytest.mark.parametrize('what', UNREADABLE)
@pytest.mark.parametrize('closed', ['file', 'folder'])
def test_what_may_not_be_read(what, closed, home):
  call, name = UNREADABLE[what]
  path = home / 'within' / name
  shutil.copytree(home, path.parent, ignore=lambda *_: ['within', 'elsewhere'])
  path.touch()
  with pytest.raises(UserError) as refused, Closed(path if closed == 'file' else path.parent):
    call(path)
  assert 'Permission denied' in str(refused.value) and '\n' not in str(refused.value) and '; ' in str(refused.value)


def test_a_mark_that_may_not_be_looked_for(home):
  """The command goes on, and says so itself."""
  with Closed(home / 'images'):
    supervise.take_over(home / 'images' / supervise.MARK)


def test_the_flag_parser_is_text_s_own():
  values = flags.FlagValues()
  cli.define_path('x', None, 'help', values=values)
  values(['program', '--x=a/b'])
  assert values.x == 'a/b' and values['x'].flag_type() == 'path'

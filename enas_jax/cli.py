"""What the commands share: flags, settings, one-line errors, and stopping on a signal.

A command is a `main(flags)` in a module that ends with `cli.run(main)`. Its docstring is the text of --help.
"""
from __future__ import annotations

import contextlib
import inspect
import logging
import re
import runpy
import signal
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import absl.logging
from absl import flags
from ml_collections import ConfigDict, config_flags

from enas_jax import machine, plugins, supervise
from enas_jax.config import get_config
from enas_jax.errors import Stopped, UserError, line_in
from enas_jax.fields import KINDS, check_field, check_fields, flatten, suggestion

HELP_FLAGS = {'--help', '-help', '-h', '--helpshort', '--helpfull'}
SETTINGS_HELP = (
    ('config=FILE.py', 'Settings: a Python file with get_config(), see experiments/. Default: enas_jax/config.py.'),
    ('config.FIELD=VALUE', 'Changes one setting, such as --config.seed=1 or --config.data.name=cifar10.'))


def run(
    main: Callable[[flags.FlagValues], int | None],
    *,
    define_flags: Callable[[flags.FlagValues], None] | None = None,
    trains: bool = True,
    argv: Sequence[str] | None = None,
) -> NoReturn:
  """Parses the command line, calls `main` and exits.

  Exit codes: 0, or what `main` returns; 2 bad input; 1 a bug, with its traceback; 130 and 143 stopped by SIGINT and SIGTERM.

  Args:
    main: gets the flags: `config` (a ConfigDict), `workdir`, `data_dir` and the command's own.
    define_flags: adds the command's own flags to the values it is given (`flag_values=`).
    trains: whether the command has the flags of training (devices, programs, folder of data).
    argv: program name and arguments; by default the process's.
  """
  _quiet()
  machine.prepare()
  own = argv is None
  argv = list(sys.argv if argv is None else argv)
  try:
    values = flags.FlagValues()
    _define_shared(values)
    if trains:
      _define_training(values)
    if define_flags is not None:
      define_flags(values)
    if HELP_FLAGS & set(argv[1:]):
      plugins.load_all(_take('plugin', argv)[0])
      print(_help(main, values))
      sys.exit(0)
    _parse(values, argv)
    if trains and own:
      supervise.take_over(Path(values.workdir).expanduser() / supervise.MARK)
    sys.exit(main(values))
  except UserError as error:
    _exit(f'error: {error}', 2)
  except Stopped as stopped:
    _exit('stopped after the current step; the same command resumes', 128 + stopped.signum)
  except KeyboardInterrupt:
    _exit('interrupted; the same command resumes', 128 + signal.SIGINT)


def execution_flags(values: flags.FlagValues) -> dict[str, Any]:
  """Returns the flags that say how candidates run on this machine, as arguments of `estimators.execution`."""
  return {name: values[name].value for name in ('slots', 'lowering', 'compilation_cache')}


class StopRequest:
  """Whether a signal has asked the run to stop: poll `requested` where stopping is safe, then raise `Stopped`."""

  def __init__(self) -> None:
    self.requested = False
    self.signum = signal.SIGTERM

  def receive(self, signum: int, frame: object) -> None:
    """The signal handler. The second Ctrl-C ends the program at once."""
    self.requested, self.signum = True, signal.Signals(signum)
    if signum == signal.SIGINT:
      signal.signal(signal.SIGINT, signal.default_int_handler)
      print('stopping after the current step; Ctrl-C again stops at once', file=sys.stderr)


@contextlib.contextmanager
def stop_on_sigterm() -> Iterator[StopRequest]:
  """Within the block, SIGTERM and the first SIGINT only set the request."""
  stop = StopRequest()
  before = {number: signal.signal(number, stop.receive) for number in (signal.SIGTERM, signal.SIGINT)}
  try:
    yield stop
  except Stopped as stopped:
    stopped.signum = stop.signum
    raise
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)


def load_config(path: str) -> ConfigDict:
  """Runs a config file. Its fields must be those of `enas_jax.config.get_config`, so that no misspelt one goes unseen."""
  if not Path(path).is_file():
    raise UserError(f'--config={path}: no such file; give a Python file with get_config(), see experiments/')
  try:
    make = runpy.run_path(path).get('get_config')
    config = make and make()
  except (Exception, SystemExit) as error:
    message = error.msg if isinstance(error, SyntaxError) else error
    raise UserError(f'--config={path}{line_in(error, path)}: {type(error).__name__}: {message}') from error
  if not isinstance(config, ConfigDict):
    raise UserError(f'--config={path}: get_config() that returns a ConfigDict is missing; start from enas_jax/config.py')
  check_fields(config, get_config(), f'--config={path}')
  return config


def _define_shared(values: flags.FlagValues) -> None:
  """What is no setting: it cannot change a result, or it says what settings there are."""
  flags.DEFINE_string(
      'workdir', None, 'Folder of the run. Started again with the same settings, a run resumes from it.',
      required=True, flag_values=values)
  flags.DEFINE_multi_string(
      'plugin', [], 'Python file of your own that registers a space, a strategy, an estimator, a network or a table; once for '
      'each. Its settings are then among those of --config.', flag_values=values)


def _define_training(values: flags.FlagValues) -> None:
  """What commands that train have on top."""
  flags.DEFINE_integer(
      'slots', 0, 'Most candidates that train on a device at once. 0: what suits the machine.', flag_values=values)
  flags.DEFINE_string(
      'lowering', 'auto', "Form of the convolutions: 'shifts', 'xla', or 'auto': known for the platform, or tried once.",
      flag_values=values)
  flags.DEFINE_string(
      'compilation_cache', 'workdir', "Folder that keeps compiled programs (executable code: let nobody else write there), "
      "'workdir' for one in the work folder, 'none' for none.", flag_values=values)
  flags.DEFINE_string('data_dir', None, 'Folder of TFDS data sets. Default: that of TFDS.', flag_values=values)


def _parse(values: flags.FlagValues, argv: list[str]) -> None:
  values.set_gnu_getopt(True)
  try:
    argv = values.read_flags_from_files(argv, force_gnu=True)
    paths, argv = _take('plugin', argv)
    plugins.load_all(paths)
    files, argv = _take('config', argv)
    config = load_config(files[-1]) if files else get_config()
    for argument in argv:
      if override := re.match(r'--?(?:no)?config\.([^=]*)', argument):
        check_field(config, override[1], '--config.')
    config_flags.DEFINE_config_dict('config', config, flag_values=values, sys_argv=argv)
    stray = values(argv)[1:]
    values['plugin'].value = paths
  except flags.Error as error:
    raise UserError(_explain(error, values)) from error
  if stray:
    raise UserError(f'argument {stray[0]!r} is not understood; write --NAME=VALUE, see --help')
  for name in values:
    if values[name].value == '':
      raise UserError(f'--{name}= is empty: {values[name].help}')


def _take(flag: str, argv: Sequence[str]) -> tuple[list[str], list[str]]:
  """Splits off every --flag=VALUE: the files that decide which other flags there are."""
  found: list[str] = []
  rest: list[str] = []
  arguments = iter(argv)
  for argument in arguments:
    if re.fullmatch(f'--?{flag}', argument):
      found.append(next(arguments, ''))
    elif re.match(f'--?{flag}=', argument):
      found.append(argument.partition('=')[2])
    else:
      rest.append(argument)
  return found, rest


def _explain(error: flags.Error, values: flags.FlagValues) -> str:
  if isinstance(error, flags.UnrecognizedFlagError):
    return f'unknown flag --{error.flagname}{suggestion(error.flagname, values, "--")}'
  if missing := re.search(r'Flag --(\w+) must have a value other than None', str(error)):
    return f'--{missing[1]} is missing: {values[missing[1]].help}'
  if illegal := re.match(r'flag --config\.([\w.]+)=(.*?): ', str(error), re.DOTALL):
    *groups, name = illegal[1].split('.')
    config = get_config()
    for group in groups:
      config = config[group]
    default, kind = config[name], KINDS.get(config.get_type(name), 'understood')
    return f'--config.{illegal[1]}={illegal[2]} is not {kind}; leave it out for the default, {default!r}'
  return f'{error}; see --help'


def _help(main: Callable, values: flags.FlagValues) -> str:
  own = [(f'{name}={name.upper()}', values[name].help) for name in values]
  entries = [f'  --{name}\n{textwrap.indent(textwrap.fill(text, 90), " " * 8)}' for name, text in (*own, *SETTINGS_HELP)]
  defaults = [f'  --config.{name}' + (' (not set)' if value is None else f'={value}')
              for name, value in flatten(get_config().to_dict()).items()]
  return '\n'.join([inspect.getdoc(main) or '', '', 'Flags:', *entries, '', 'Settings and their defaults:', *defaults])


def _exit(message: str, code: int) -> NoReturn:
  print(' '.join(message.split()), file=sys.stderr)
  sys.exit(code)


def _quiet() -> None:
  """Keeps libraries' remarks off the terminal, except that no accelerator was found."""
  absl.logging.set_verbosity(absl.logging.ERROR)
  logging.getLogger('jax').setLevel(logging.ERROR)
  logging.getLogger('jax._src.xla_bridge').setLevel(logging.WARNING)
  if not sys.warnoptions:
    warnings.simplefilter('ignore')

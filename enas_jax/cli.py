"""What the commands share: flags, settings, one-line errors, and stopping on a signal.

A command is a `main(flags)` in a module that ends with `cli.run(main)`. Its docstring is the text of --help.
"""
from __future__ import annotations

import contextlib
import errno
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

from enas_jax import environment, machine, output, paths, plugins, supervise
from enas_jax.config import check, get_config
from enas_jax.errors import Stopped, UserError, line_in
from enas_jax.fields import KINDS, check_field, check_fields, flatten, suggestion

HELP_FLAGS = {'--help', '-help', '-h', '--helpshort', '--helpfull'}
SETTINGS_HELP = (
    ('config=FILE.py', 'Settings: a Python file with get_config(), see experiments/. Default: enas_jax/config.py.'),
    ('config.FIELD=VALUE', 'Changes one setting, such as --config.seed=1 or --config.data.name=cifar10.'))


def run(
    main: Callable[..., int | None],
    *,
    define_flags: Callable[[flags.FlagValues], None] | None = None,
    trains: bool = True,
    takes_arguments: bool = False,
    argv: Sequence[str] | None = None,
) -> NoReturn:
  """Parses the command line, calls `main` and exits.

  Exit codes: 0, or what `main` returns; 2 bad input; 1 a bug, with its traceback; 130 and 143 stopped by SIGINT and SIGTERM.

  Args:
    main: gets the flags: `config` (a ConfigDict), `workdir`, `data_dir` and the command's own; and arguments if it takes some.
    define_flags: adds the command's own flags to the values it is given (`flag_values=`).
    trains: whether the command has the flags of training (devices, programs, folder of data).
    takes_arguments: whether the command takes arguments beside flags.
    argv: program name and arguments; by default the process's.
  """
  _quiet()
  own = argv is None
  argv = list(sys.argv if argv is None else argv)
  helps = bool(HELP_FLAGS & set(argv[1:]))
  is_answer = helps or takes_arguments  # Then `check_written` tells of its loss.
  with output.lasting(_ignore if is_answer else output.tell_loss):
    try:
      for note in environment.pin():
        print(note, file=sys.stderr)
      machine.prepare()
      values = flags.FlagValues()
      _define_shared(values)
      if trains:
        _define_training(values)
      if define_flags is not None:
        define_flags(values)
      if helps:
        plugins.load_all(_take('plugin', argv)[0])
        print(_help(main, values), flush=True)
        check_written()
        sys.exit(0)
      arguments = _parse(values, argv)
      if arguments and not takes_arguments:
        raise UserError(f'argument {arguments[0]!r} is not understood; write --NAME=VALUE, see --help')
      if trains and own:
        supervise.take_over(Path(values.workdir) / supervise.MARK)
      machine.devices()
      sys.exit(main(values, arguments) if takes_arguments else main(values))
    except UserError as error:
      _exit(f'error: {error}', 2)
    except Stopped as stopped:
      _exit('stopped after the current step; the same command resumes', 128 + stopped.signum)
    except KeyboardInterrupt:
      _exit('interrupted; the same command resumes', 128 + signal.SIGINT)


def check_written() -> None:
  """Raises UserError where the standard output, which is what was asked for, is lost; not if its reader has read enough."""
  sys.stdout.flush()
  lost = getattr(sys.stdout, 'lost', None)
  if lost is not None and lost.errno != errno.EPIPE:  # As `head` does.
    raise UserError(f'the output cannot be written ({lost.strerror}); give the output another place')


class PathParser(flags.ArgumentParser):
  """How a flag of a path is read: as text with `~` expanded."""

  def __init__(self, flag: str):
    super().__init__()
    self._flag = flag

  def parse(self, argument: str) -> str:
    return str(paths.read(argument, f'--{self._flag}='))

  def flag_type(self) -> str:
    return 'path'


def define_path(name: str, default: str | None, help: str, *, values: flags.FlagValues, required: bool = False) -> None:
  """Defines a flag that takes a path, as `flags.DEFINE_string` one that takes text."""
  flags.DEFINE(PathParser(name), name, default, help, flag_values=values, required=required)


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
  """Within the block, SIGTERM, SIGHUP (the terminal is gone; not under nohup) and the first SIGINT only set the request."""
  stop = StopRequest()
  hangups = [signal.SIGHUP] if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN else []
  before = {number: signal.signal(number, stop.receive) for number in (signal.SIGTERM, signal.SIGINT, *hangups)}
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
  path = str(paths.read(path, '--config='))
  paths.content(Path(path), '--config=', 'give a Python file with get_config(), see experiments/')
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
  define_path(
      'workdir', None, 'Folder of the run. Started again with the same settings, a run resumes from it.',
      required=True, values=values)
  flags.DEFINE_multi_string(
      'plugin', [], 'Python file of your own that registers a space, a strategy, an estimator, a score, a network or a table; '
      'once for each. Its settings are then among those of --config.', flag_values=values)


def _define_training(values: flags.FlagValues) -> None:
  """What commands that train have on top."""
  flags.DEFINE_integer(
      'slots', 0, 'Most candidates that train on a device at once. 0: what suits the machine.', flag_values=values)
  flags.DEFINE_string(
      'lowering', 'auto', "Form of the convolutions: 'shifts', 'xla', or 'auto': known for the platform, or tried once.",
      flag_values=values)
  define_programs_and_data(values)


def define_programs_and_data(values: flags.FlagValues) -> None:
  """Defines the flags of what compiles programs for images, whether it trains or not."""
  define_path(
      'compilation_cache', 'workdir', "Folder that keeps compiled programs (executable code: let nobody else write there), "
      "'workdir' for one in the work folder, 'none' for none.", values=values)
  define_path('data_dir', None, 'Folder of TFDS data sets. Default: that of TFDS.', values=values)


def _parse(values: flags.FlagValues, argv: list[str]) -> list[str]:
  """Reads the flags. Returns what is none."""
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
    arguments: list[str] = values(argv)[1:]
    values['plugin'].value = paths
  except flags.Error as error:
    raise UserError(_explain(error, values)) from error
  for name in values:
    if values[name].value == '':
      raise UserError(f'--{name}= is empty: {values[name].help}')
  check(values.config, '--config.')
  return arguments


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
  if isinstance(error.__context__, UserError):
    return str(error.__context__)
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


def _ignore(error: OSError) -> None:
  del error


def _quiet() -> None:
  """Keeps libraries' remarks off the terminal, except that no accelerator was found."""
  absl.logging.set_verbosity(absl.logging.ERROR)
  logging.getLogger('jax').setLevel(logging.ERROR)
  logging.getLogger('jax._src.xla_bridge').setLevel(logging.WARNING)
  if not sys.warnoptions:
    warnings.simplefilter('ignore')

"""Spaces, strategies, estimators, networks and tables of the user's own, by the commands that the user runs."""
import pathlib
import re
import subprocess
import sys
import textwrap

import pytest
from support.run_records import ledger, read

from enas_jax import cli, estimators, fields, plugins, spaces, strategies, tables
from enas_jax.compare import __main__ as compare
from enas_jax.config import get_config

pytest_plugins = ['support.search_fixtures']

EXAMPLES = pathlib.Path(__file__).parents[1] / 'examples'
STRATEGY = '''
import dataclasses
from enas_jax.strategies import HistoryStrategy, Memoryless, draw_new, register

@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  batch: int = 3
  label: str | None = None

@register('mine', Settings)
def make(settings, setup):
  choose = lambda history, room: ('draw', draw_new(setup.space, history, room))
  return HistoryStrategy(setup, Memoryless(choose), label='mine', batch=settings.batch)
'''
SCORE = '''
import dataclasses
from enas_jax import Evaluation
from enas_jax.estimators import register

@dataclasses.dataclass(frozen=True)
class Settings:
  sign: float = 1.0

class ByDepth:
  def __init__(self, settings, setup):
    self.settings, self.setup = settings, setup

  def estimate(self, requests):
    for index, request in enumerate(requests):
      yield index, Evaluation(metrics={'accuracy': self.settings.sign * request.architecture.depth})

  def predict_macs(self, request):
    return 0.0

  def prepare(self, requests):
    pass

  def describe(self):
    return 'scored by depth'

  def report(self):
    return {}

register('by_depth', Settings)(ByDepth)
'''
TABLE = '''
import numpy as np
from enas_jax import spaces, tables

def load():
  space = spaces.NasBenchMacroSpace()
  rng = np.random.default_rng(0)
  members = {space.key(m): m for m in (space.sample(rng) for _ in range(50))}
  texts = np.array([space.to_string(m) for m in members.values()])
  return tables.Table('mine', space, texts, np.array(list(members)), {'pets/valid/9': np.linspace(0, 1, len(members))})

tables.register('mine', 'nasbench_macro', load)
'''


@pytest.fixture(autouse=True)
def registered(monkeypatch):
  """What a test registers is forgotten after it."""
  for registry in (spaces.SPACES, strategies.STRATEGIES, estimators.ESTIMATORS, tables.TABLES):
    monkeypatch.setattr(registry, '_entries', dict(registry._entries))


@pytest.fixture
def write(tmp_path):
  def write(text, name='mine.py'):
    (tmp_path / name).write_text(textwrap.dedent(text))
    return str(tmp_path / name)

  return write


def compare_here(workdir, *flags):
  with pytest.raises(SystemExit) as ended:
    cli.run(compare.main, define_flags=compare._define_flags, trains=False,
            argv=['compare', f'--workdir={workdir}', '--queries=9', '--trials=1', *flags])
  return ended.value.code or 0


@pytest.fixture
def refused(tmp_path, capsys):
  """The one line that a command refuses a plugin with."""
  def run(path, *flags):
    assert compare_here(tmp_path / 'w', f'--plugin={path}', *flags) == 2
    out, err = capsys.readouterr()
    assert err.startswith(f'error: --plugin={path}') and err.count('\n') == 1 and 'Traceback' not in out + err
    assert not (tmp_path / 'w').exists()
    return err

  return run


def test_a_strategy_and_its_settings_in_processes_of_their_own(write, tmp_path):
  command = [sys.executable, '-m', 'enas_jax.compare', f'--workdir={tmp_path}/w', f'--plugin={write(STRATEGY)}', '--queries=9',
             '--strategies=random,mine', '--trials=2', '--processes=2', '--config.mine.batch=4', '--config.mine.label=x']
  done = subprocess.run(command, capture_output=True, text=True)
  assert done.returncode == 0 and not done.stderr, done.stderr
  assert read(tmp_path / 'w', 'config.json')['config']['mine'] == {'batch': 4, 'label': 'x'}
  random, mine = (read(tmp_path / 'w', f'trials/{name}-0.json')['queries'] for name in ('random', 'mine'))
  assert len(mine) == 9 and random == mine


def test_a_score_and_a_strategy_search_and_train(write, runner, tmp_path):
  flags = [f"--plugin={write(STRATEGY)}", f"--plugin={write(SCORE, 'score.py')}", '--config.by_depth.sign=-1']
  changes = {'strategy': 'mine', 'estimator': 'by_depth', 'chain.max_depth': 6, 'epochs.final': 1}
  assert runner.here('search', tmp_path / 'w', *flags, **changes) == 0
  scores = [record['evaluation']['metrics']['accuracy'] for record in ledger(tmp_path / 'w')]
  assert len(scores) == 4 and all(score in (-3, -4, -5, -6) for score in scores)
  assert len(read(tmp_path / 'w', 'result.json')['architecture']['operations']) == -max(scores)


def test_a_table(write, tmp_path):
  command = [sys.executable, '-m', 'enas_jax.compare', f'--workdir={tmp_path}/w', '--queries=9', '--trials=1',
             f'--plugin={write(TABLE)}', '--space=nasbench_macro', '--table=mine', '--dataset=pets', '--strategies=random']
  done = subprocess.run(command, capture_output=True, text=True)
  assert done.returncode == 0 and not done.stderr, done.stderr
  assert len(read(tmp_path / 'w', 'trials/random-0.json')['queries']) == 9


def test_a_file_is_run_once(write, tmp_path):
  path = write(f'''
      from enas_jax.strategies import register
      with open({str(tmp_path / 'log')!r}, 'a') as file:
        file.write('x')
      ''')
  for _ in range(2):
    plugins.load_all([path, path])
  assert (tmp_path / 'log').read_text() == 'x'


def test_an_installed_package(tmp_path, write):
  """An entry point of the group, as a package's metadata has it; read by a process that asks for nothing."""
  write(STRATEGY)
  info = tmp_path / 'mine-1.0.dist-info'
  info.mkdir()
  (info / 'METADATA').write_text('Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n')
  (info / 'entry_points.txt').write_text('[enas_jax.plugins]\nmine = mine\n')
  code = f'import sys; sys.path.insert(0, {str(tmp_path)!r})\n'
  run = code + 'from enas_jax import get_config, plugins\nplugins.load_all()\nprint(get_config().mine.batch)'
  done = subprocess.run([sys.executable, '-c', run], capture_output=True, text=True)
  assert done.stdout == '3\n', done.stderr
  (tmp_path / 'mine.py').write_text('import nosuchmodule\n')
  done = subprocess.run([sys.executable, '-c', run], capture_output=True, text=True)
  assert "UserError: plugin mine: ModuleNotFoundError: No module named 'nosuchmodule'" in done.stderr


@pytest.mark.parametrize(('text', 'message'), [
    ('x = 1\ny = 1 / 0\n', ', line 2: ZeroDivisionError: division by zero'),
    ('import nosuchmodule\n', ", line 1: ModuleNotFoundError: No module named 'nosuchmodule'"),
    ('x = 1\ndef make(: pass\n', ', line 2: SyntaxError: invalid syntax'),
    ('raise SystemExit(0)\n', ', line 1: SystemExit'),
    ('x = "\0"', 'null bytes'),
])
def test_files_that_fail(refused, write, text, message):
  assert message in refused(write(text))


def test_no_file(refused, tmp_path):
  for path, reason in ((tmp_path / 'x.py', 'no such file'), (tmp_path, 'Is a directory')):
    assert reason in (line := refused(path)) and '; give a Python file that registers ' in line
  assert 'is empty; give a path' in refused('')


def broken(old, new):
  assert old in STRATEGY
  return STRATEGY.replace(old, new)


@pytest.mark.parametrize(('text', 'message'), [
    (broken("'mine', Settings", "'random', Settings"),
     r", line 10: strategy 'random' is registered already, by enas_jax.strategies.random; give ano"),
    (STRATEGY + '\nregister("mine")(make)', r", line 15: strategy 'mine' is registered already, by --plugin=.*mine.py; g"),
    (broken("'mine', Settings", "'my-own', Settings"), r"strategy 'my-own': the name is not a word of let"),
    (broken("'mine', Settings", "'epochs', Settings"), r"strategy 'epochs': config.epochs is a setting already; "),
    (broken('batch: int = 3', 'batch: int'), r", line 10: strategy 'mine': setting batch of Settings has no default; "),
    (broken('batch: int = 3', 'batch: dict = dataclasses.field(default_factory=list)'),
     'setting batch of Settings: a default_factory is not allowed; give a plain default such as a tuple'),
    (broken('batch: int = 3', "batch: int = 'eight'"),
     "the default of setting batch of Settings is 'eight', which its annotation int does not allow; change one of them"),
    (broken('batch: int = 3', 'batch: int = None'), 'is None, which its annotation int does not allow'),
    (broken('batch: int = 3', 'batch: int = True'), 'is True, which its annotation int does not allow'),
    (broken('batch: int = 3', 'batch: float | None = "x"'), r"'x', which its annotation float \| None does not allow"),
    (broken('batch: int = 3', 'batch: tuple[int, ...] = (1, "x")'), r'which its annotation tuple\[int, ...\] does not allow'),
    (broken('def make(settings, setup)', 'def make(settings)'),
     r"strategy 'mine': make cannot be called with settings, setup \(too many pos.*\); write def make\(settings, setup\)"),
    (broken("@register('mine', Settings)", '@register'),
     "line 10: make is no name for a strategy; write @register.'my_strategy'"),
    (broken('batch: int = 3', 'batch: type = int'), "batch of Settings is <class 'int'>; give a bool"),
    (broken('batch: int = 3', 'batch: "Missing" = None'), 'annotations of Settings are not to be read: name'),
    (broken('frozen=True, ', ''), r'can be changed; write @dataclasses.dataclass\(frozen=True\)'),
    (broken('@dataclasses.dataclass(frozen=True, kw_only=True)\n', ''), 'Settings is no dataclass; give a frozen one'),
    (broken('label: str | None = None', 'label: str | None = None\n\n  def __post_init__(self):\n'
            '    from enas_jax import UserError\n    raise UserError("config.mine.batch 3 is too small; give 4")'),
     r"strategy 'mine': the defaults of Settings are refused: config.mine.batch 3 is too small; give 4"),
])
def test_registrations_that_are_refused(refused, write, text, message):
  assert re.search(message, refused(write(text)))


def test_a_strategy_that_lacks_a_method(refused, write):
  text = broken('''  return HistoryStrategy(''', '''  class Half:
    needs = init = ask = done = best = front = outlook = describe = to_json = from_json = None
  return Half()
  HistoryStrategy(''')
  path = write(text)
  assert f"--plugin={path}: strategy 'mine': Half lacks tell; see Strategy in enas_jax.strategies.base" in refused(
      path, '--strategies=mine')


def test_an_estimator_that_lacks_a_method(write, runner, tmp_path, capsys):
  path = write(SCORE.replace('def report', 'def reports'))
  assert runner.here('search', tmp_path / 'w', f'--plugin={path}', estimator='by_depth') == 2
  assert (f"error: --plugin={path}: estimator 'by_depth': ByDepth lacks report; see Estimator in enas_jax.estimators.base\n"
          in capsys.readouterr().err)


def space(*changes):
  text = (EXAMPLES / 'own_space.py').read_text()
  for old, new in changes:
    assert old in text
    text = text.replace(old, new)
  return text


@pytest.mark.parametrize(('changes', 'message'), [
    ((('def macs(', 'def mac('),), "TypeError: Can't instantiate abstract class TwoBlocksSpace"),
    ((('(spaces.Choices[TwoBlocks])', ''),),
     "space 'two_blocks': TwoBlocksSpace lacks labels, max_nodes, sample, mutate, neighbours, size, check, graph, "),
    ((("  name = 'two_blocks'\n", ''),), "space 'None': TwoBlocksSpace lacks name; see Choices in enas_jax.spaces.choices"),
    ((("  options = (('1', '3', '5', '7'),) * 2\n", ''),),
     "TwoBlocksSpace lacks options; see Choices in enas_jax.spaces.choices"),
    ((("('1', '3', '5', '7')", '(1, 3, 5, 7)'),),
     'options of TwoBlocksSpace hold 1 at place 0; options must be text (str); convert numbers in member'),
    ((("(('1', '3', '5', '7'),) * 2", "('1', '3')"),), "options of TwoBlocksSpace at place 0 are '1'; give a tuple of words"),
    ((("(('1', '3', '5', '7'),) * 2", '()'),), 'options of TwoBlocksSpace are (); give for each place a tuple of words'),
    ((("('1', '3', '5', '7')", "('1', '3', '1')"),), "hold '1' at place 0; give each word once and without ','"),
    ((("name = 'two_blocks'", "name = 'chain'"),), "space 'chain' is registered already, by enas_jax.spaces.chain; "),
    ((('channels: int = 8', 'channels: int'),), "setting channels of TwoBlocksSpace has no default"),
])
def test_spaces_that_are_refused(refused, write, changes, message):
  assert message in refused(write(space(*changes)))


def also(method):
  """The change that gives the space a method more."""
  name = "  name = 'two_blocks'\n"
  return [(name, f'{name}  {method}\n')]


MEMBERS = [  # What a space is changed by, and what is said when it is made.
    ([('  def to_json(self)', '  def json(self)')],
     'TwoBlocksSpace.sample: TwoBlocks lacks to_json; see Architecture in enas_'),
    ([('tuple(map(int, chosen))', 'list(map(int, chosen))')],
     "TwoBlocks is not hashable (unhashable type: 'list'); give a frozen"),
    ([("tuple(record['kernels'])", "record['kernels']")], 'from_json gives a TwoBlocks that is not hashable'),
    ([("'space': 'two_blocks'", "'space': 'two'")],
     "TwoBlocks.to_json gives space 'two'; give a dict whose 'space' is 'two_blocks'"),
    ([("'channels': self.channels}", "'channels': {1}}")], 'TwoBlocks.to_json gives no JSON (Object of type set is not JSON'),
    ([("return {'space'", "return {'kind'")], "TwoBlocks.to_json gives space None; give a dict whose 'space' is 'two_blocks'"),
    ([("return {'space': 'two", "return [] and {'space': 'two")], "TwoBlocks.to_json gives []; give a dict whose 'space' is"),
    ([("record['channels'])", "record['width'])")], "TwoBlocksSpace.from_json, line N: KeyError: 'width'; it must read what"),
    ([("record['channels'])", '3)')], 'TwoBlocksSpace.from_json reads TwoBlocks('),
    ([('tuple(map(str, arch', 'tuple(map(int, arch')],
     "at place 0 is not one of 1, 3, 5, 7; TwoBlocksSpace.sample gave it, so mend"),
    ([('tuple(map(int, chosen)), self', 'tuple(map(int, chosen)) + chosen[0], self')],
     'sample, line N: TypeError: can only conc'),
    ([('return TwoBlocks(tuple(map(int, chosen)), self.channels)', 'pass')], 'sample: NoneType lacks to_json'),
    (also('mutate = lambda self, member, rng: None'), 'mutate: NoneType lacks to_js'),
    (also('mutate = lambda self, member, rng: member'),
     'for itself; give a different member'),
    (also("neighbours = lambda self, member: ['a']"), 'mutate: str lacks to_json'),
    (also("mutate = lambda self, *_: self.member(('1', '1'))\n  neighbours = lambda self, member: ['a']"),
     'neighbours: str lacks to_json'),
    (also('size = lambda self: None'), 'size gives None; give the number of members'),
]


@pytest.mark.parametrize(('changes', 'message'), MEMBERS)
def test_members_that_are_refused_before_a_search(refused, write, changes, message):
  path = write(space(*changes))
  err = refused(path, '--space=two_blocks', '--table=none.csv')
  assert err.startswith(f"error: --plugin={path}: space 'two_blocks': ") and message in re.sub(r'line \d+', 'line N', err)


@pytest.mark.parametrize(('changes', 'message'), [
    ([('(architecture.channels + 1) *', 'architecture.channels *')], 'whose network has '),
    ([('(k, k), rngs=rngs) for', '(k, k), ring=rngs) for')],
     'the network of TwoBlocks(kernels=(7, 5), channels=8), line N: Type'),
    ([('  return Network(architecture', '  Network(architecture')],
     'the builder of TwoBlocks returned None; return an nnx.Module'),
    ([('return weights + (', 'return "" + weights + (')], 'TwoBlocksSpace.num_params, line N: TypeError'),
    ([("'space': 'two_blocks'", "'space': 'two'")], "TwoBlocks.to_json gives space 'two'"),
])
def test_networks_that_are_refused_before_a_search(write, runner, tmp_path, capsys, changes, message):
  path = write(space(*changes))
  assert runner.here('search', tmp_path / 'w', f'--plugin={path}', space='two_blocks', strategy='random') == 2
  err = capsys.readouterr().err
  assert err.startswith(f"error: --plugin={path}: space 'two_blocks': ") and err.count('\n') == 1
  assert message in re.sub(r'line \d+', 'line N', err)
  assert not ledger(tmp_path / 'w')


@pytest.mark.parametrize(('old', 'new', 'message'), [
    ("('draw', draw_new(setup.space, history, room))", 'None',
     "strategy 'mine': choose returned None; return a word for the phase"),
    ("('draw', draw", '(draw', 'choose returned (NasBench201Architecture('),
    ('Memoryless(choose)', 'choose', 'proposer of a function write Memoryless(function): function lacks begin'),
    ('return Hist', 'Hist', "strategy 'mine': NoneType lacks needs, init, ask, "),
])
def test_what_a_strategy_gives_is_checked_in_a_comparison(write, tmp_path, capsys, old, new, message):
  path = write(broken(old, new))
  assert compare_here(tmp_path / 'w', f'--plugin={path}', '--strategies=mine') == 2
  err = capsys.readouterr().err
  assert err.startswith(f"error: --plugin={path}: strategy 'mine': ") and message in err and err.count('\n') == 1


def test_what_a_strategy_gives_is_checked_in_a_search(write, runner, tmp_path, capsys):
  path = write(broken("('draw', draw_new(setup.space, history, room))", "('draw', [None])"))
  flags = (f'--plugin={path}', f"--plugin={write(SCORE, 'score.py')}")
  assert runner.here('search', tmp_path / 'w', *flags, strategy='mine', estimator='by_depth') == 2
  err = capsys.readouterr().err
  assert err == (f"error: --plugin={path}: strategy 'mine': choose returned None, which is no member of space 'chain'; return "
                 'a word for the phase and a list of architectures\n')


@pytest.mark.parametrize(('old', 'new', 'message'), [
    ('yield index, Evaluation', 'yield Evaluation', 'ByDepth.estimate gave Evaluation(metrics='),
    ('yield index, Evaluation', 'yield index + 99, Evaluation', 'ByDepth.estimate gave (99, Evaluation(metrics='),
    ("'accuracy':", "'score':", "give the metric 'accuracy', or a reason why it failed"),
    ('  def estimate(self, requests):', '  def estimate(self, requests):\n    pass\n\n  def _estimate(self, requests):',
     'ByDepth.estimate returned None; yield (index of the request, Evaluation) for each'),
])
def test_what_an_estimator_gives_is_checked(write, runner, tmp_path, capsys, old, new, message):
  assert old in SCORE
  path = write(SCORE.replace(old, new))
  assert runner.here('search', tmp_path / 'w', f'--plugin={path}', strategy='random', estimator='by_depth') == 2
  err = capsys.readouterr().err
  assert err.startswith(f'error: {path}: ByDepth.') and message in err and err.count('\n') == 1


@pytest.mark.parametrize(('old', 'new', 'message'), [
    ('  label: str | None = None', '  label: str | None = None\n\n  def __post_init__(self):\n    1 / (4 - self.batch)',
     "strategy 'mine': config.mine, line 11: ZeroDivisionError: division by zero"),
    ('  label: str | None = None', '  label: str | None = None\n\n  def for_table(self, table):\n    pass',
     "strategy 'mine': for_table returned None; return settings, Settings(...)"),
])
def test_what_settings_give_is_checked(refused, write, old, new, message):
  assert message in refused(write(broken(old, new)), '--strategies=mine', '--config.mine.batch=4')


def test_what_a_table_s_load_gives_is_checked(refused, write):
  path = write(TABLE.replace('return tables.Table', 'tables.Table'))
  err = refused(path, '--space=nasbench_macro', '--table=mine', '--dataset=pets')
  assert err == f"error: --plugin={path}: table 'mine': load returned None; return an enas_jax.tables.Table\n"


def test_a_whole_number_is_a_float_where_the_annotation_says_so(write):
  plugins.load(write(broken('batch: int = 3', 'batch: float = 3')))
  assert fields.changed(get_config(), {'mine.batch': 0.5}).mine.batch == 0.5


def test_a_network_of_an_unknown_space_names_the_remedy(user_error):
  from enas_jax.model import read_architecture
  with user_error("architecture: space 'two_blocks' is not one of ", '; import the plugin first, as in `import mine; '):
    read_architecture({'space': 'two_blocks'})


def test_help_has_the_settings_of_a_plugin(write, capsys):
  with pytest.raises(SystemExit) as ended:
    cli.run(compare.main, define_flags=compare._define_flags, argv=['compare', f'--plugin={write(STRATEGY)}', '--help'])
  assert not ended.value.code and '\n  --config.mine.batch=3\n  --config.mine.label (not set)\n' in capsys.readouterr().out


def test_what_is_unknown_may_be_a_plugin_s(tmp_path, capsys):
  remedy = 'or --plugin=FILE.py for your own'
  for flag in ('--space=mine', '--strategies=mine'):
    assert compare_here(tmp_path / 'w', flag) == 2 and remedy in capsys.readouterr().err
  for registry in (spaces.SPACES, strategies.STRATEGIES, estimators.ESTIMATORS):
    with pytest.raises(ValueError, match=f'is unknown; give one of .*, {remedy}'):
      registry.find('mine')


def test_a_space_without_a_network_is_refused_before_it_is_searched(write, runner, tmp_path, capsys):
  path = write(space(('@networks.build.register(TwoBlocks)\n', '')))
  for estimator in ('trained', 'by_depth'):
    flags = (f'--plugin={path}', f"--plugin={write(SCORE, 'score.py')}")
    changes = {'space': 'two_blocks', 'strategy': 'random', 'estimator': estimator}
    assert runner.here('search', tmp_path / 'w', *flags, **changes) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"error: --plugin={path}: space 'two_blocks': no network is registered for TwoBlocks; give one by ")
    assert err.count('\n') == 1 and not ledger(tmp_path / 'w')


def test_a_setting_of_a_plugin_that_is_not_read(tmp_path, capsys):
  assert compare_here(tmp_path / 'w', '--config.mine.batch=2') == 2
  assert 'unknown setting --config.mine.batch' in capsys.readouterr().err


def test_no_plugin_changes_nothing():
  before = fields.flatten(get_config().to_dict())
  plugins.load_all()
  assert fields.flatten(get_config().to_dict()) == before

"""The order of imports, and how long files may be: what WORKSPACE.md says of the house, checked."""
import ast
import pathlib
import statistics

import pytest

import enas_jax

PACKAGE = pathlib.Path(enas_jax.__file__).parent
BASE = {'errors', 'types', 'settings', 'registry', 'fields', 'machine', 'plugins', 'environment', 'output', 'paths'}
MAY_IMPORT = {  # Room: the rooms that it may import when it is imported or used. Nothing imports upward.
    'errors': set(), 'output': set(), 'quotas': set(), 'supervise': set(), 'types': {'errors'},
    'settings': {'errors', 'fields'}, 'fields': {'errors'}, 'environment': {'errors'}, 'paths': {'errors'},
    'machine': {'errors', 'environment', 'quotas'},
    'registry': {'errors', 'settings'}, 'plugins': {'errors', 'paths', 'registry'},
    'spaces': BASE, 'data': BASE,
    'networks': BASE | {'spaces'}, 'tables': BASE | {'spaces'}, 'predictors': BASE | {'spaces'},
    'training': BASE | {'data', 'networks', 'quotas'},  # No space and no family.
    'families': BASE | {'spaces', 'networks', 'training'},
    'scores': BASE | {'predictors'}, 'supernets': BASE | {'spaces', 'networks', 'scores'},
    'strategies': BASE | {'spaces', 'predictors'},  # No estimator.
    'estimators': BASE | {  # No strategy.
        'spaces', 'data', 'tables', 'training', 'families', 'networks', 'scores', 'supernets'},
    'loop': BASE, 'progress': BASE, 'resume': BASE | {'data'}, 'workdir': BASE | {'resume'},
    'ledger': BASE | {'workdir'}, 'checkpoint': BASE | {'workdir'},
    'spending': BASE | {'progress', 'strategies'},
    'config': BASE | {'spaces', 'strategies', 'estimators'},
    'cli': BASE | {'config', 'supervise'},
    'in_training': BASE | {'estimators', 'loop', 'quotas', 'supervise', 'workdir'},
    'model': BASE | {'spaces', 'networks', 'data', 'checkpoint', 'workdir'},
}
TOP = {'score', 'train', 'predict', 'control', 'search', 'compare', 'api', '__init__'}  # These may import all.
LONGEST = {'training': 300, 'families': 300, 'estimators': 300}


def rooms_imported(file):
  """Names of the package's rooms that a file imports, but for the type checker alone."""
  found = set()

  class Visitor(ast.NodeVisitor):
    def visit_If(self, node):
      if ast.unparse(node.test) != 'TYPE_CHECKING':
        self.generic_visit(node)

    def visit_ImportFrom(self, node):
      package, _, rest = (node.module or '').partition('.')
      if package == 'enas_jax':
        found.update([rest.partition('.')[0]] if rest else [alias.name for alias in node.names])

    def visit_Import(self, node):
      found.update(alias.name.split('.')[1] for alias in node.names if alias.name.startswith('enas_jax.'))

  Visitor().visit(ast.parse(file.read_text()))
  return found


FILES = sorted(PACKAGE.rglob('*.py'))


def room_of(file):
  return file.relative_to(PACKAGE).parts[0].removesuffix('.py')


@pytest.mark.smoke
def test_every_room_has_its_place():
  assert {room_of(file) for file in FILES} == set(MAY_IMPORT) | TOP


@pytest.mark.smoke
@pytest.mark.parametrize('room', sorted(MAY_IMPORT))
def test_imports_point_one_way(room):
  for file in FILES:
    if room_of(file) == room:
      upward = rooms_imported(file) - MAY_IMPORT[room] - {room}
      assert not upward, f'{file.relative_to(PACKAGE)} imports {sorted(upward)}'


@pytest.mark.smoke
def test_files_are_short():
  lengths = {file: file.read_text().count('\n') for file in FILES}
  assert statistics.median(lengths.values()) <= 130
  for file, length in lengths.items():
    assert length <= LONGEST.get(room_of(file), 400), file

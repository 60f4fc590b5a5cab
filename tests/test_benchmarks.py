"""The scripts of benchmarks/ find what they import: they stand outside the package, and move with it."""
import ast
import importlib
import pathlib

import pytest

BENCHMARKS = pathlib.Path(__file__).parents[1] / 'benchmarks'
SCRIPTS = sorted(BENCHMARKS.glob('*.py'))


def names_of_the_package(tree):
  """Pairs of a module of the package and a name that is imported from it, or None for the module alone."""
  for node in ast.walk(tree):
    if isinstance(node, ast.ImportFrom) and (node.module or '').startswith('enas_jax'):
      yield from ((node.module, alias.name) for alias in node.names)
    elif isinstance(node, ast.Import):
      yield from ((alias.name, None) for alias in node.names if alias.name.startswith('enas_jax'))


@pytest.mark.parametrize('script', SCRIPTS, ids=lambda path: path.name)
def test_what_a_script_imports_is_there(script):
  tree = ast.parse(script.read_text())
  modules = {}
  for module, name in names_of_the_package(tree):
    found = importlib.import_module(module)
    if name is None:
      continue
    if not hasattr(found, name):
      importlib.import_module(f'{module}.{name}')
    modules[name] = getattr(found, name)
  for node in ast.walk(tree):  # `cost.rates`: an attribute of an imported module.
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
      assert hasattr(modules[node.value.id], node.attr), f'{script.name}: {node.value.id}.{node.attr}'


def test_there_are_scripts():
  assert len(SCRIPTS) > 8

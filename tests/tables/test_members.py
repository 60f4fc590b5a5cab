"""A table that does not hold all of its space: searches stay within its rows."""
import itertools

import numpy as np
import pytest

from enas_jax import get_config, tables
from enas_jax.compare import benchmark
from enas_jax.compare.benchmark import Benchmark
from enas_jax.errors import UserError
from enas_jax.registry import check_methods
from enas_jax.spaces import HasDepthAndWidth, NasBench101Space, NasBench201Space, NasBenchMacroSpace, SearchSpace
from enas_jax.strategies.history import draw
from enas_jax.tables import members
from enas_jax.tables.members import Members
from enas_jax.types import Task

HEADER = 'architecture,cifar10/valid/12,cifar10/valid/200,cifar10/test/200,cifar10/params\n'
CELL = '0110000100010000:input,conv1x1-bn-relu,conv1x1-bn-relu,output'  # The same twice, side by side.


def table_of(path, space, texts):
  path.write_text(HEADER + ''.join(f'"{text}",.{i + 10},.{i + 20},.{i + 15},{i}\n' for i, text in enumerate(texts)))
  return tables.read(path, space)


@pytest.fixture(scope='module')
def path(tmp_path_factory):
  """Fifty cells of NAS-Bench-201 around one, some of which have no neighbour among them."""
  space, rng = NasBench201Space(), np.random.default_rng(0)
  cell = space.sample(rng)
  near = [cell, *space.neighbours(cell)]
  cells = dict.fromkeys([*near, *(space.sample(rng) for _ in range(30))])
  path = tmp_path_factory.mktemp('tables') / 'some.csv'
  table_of(path, space, [space.to_string(c) for c in itertools.islice(cells, 50)])
  return path


@pytest.fixture
def table(path):
  return tables.read(path, NasBench201Space())


def test_a_whole_table_is_its_space_and_a_part_is_not(table):
  whole = tables.load('nasbench_macro')
  assert members(whole) is whole.space
  part = members(table)
  assert isinstance(part, Members) and part.size() == 50 and table.space.size() == 15_625
  assert (part.name, part.labels, part.max_nodes) == (table.space.name, table.space.labels, table.space.max_nodes)
  assert part.to_string(table.architecture(3)) == table.text(3)


def test_all_else_is_as_in_the_whole_space(table):
  part, task = members(table), Task((32, 32, 3), 10)
  check_methods(part, SearchSpace, 'part')
  assert not isinstance(part, HasDepthAndWidth)
  for cell in map(table.architecture, range(0, 50, 7)):
    for method in ('graph', 'identity', 'key', 'to_string'):
      assert getattr(part, method)(cell) == getattr(table.space, method)(cell)
    for method in ('num_params', 'macs'):
      assert getattr(part, method)(cell, task) == getattr(table.space, method)(cell, task)
    assert part.from_string(part.to_string(cell)) == part.from_json(cell.to_json()) == cell
    part.check(cell)
  with pytest.raises(UserError, match='not a cell'):
    part.check('another')


def test_samples_are_rows_uniform(table):
  rng = np.random.default_rng(0)
  counts = np.bincount([table.row(members(table).sample(rng)) for _ in range(5000)], minlength=50)
  assert counts.min() > 60 and counts.max() < 145  # Mean 100, standard deviation 10.
  assert len(set(draw(members(table), 0, (), 99))) == 50


def test_neighbours_are_the_spaces_in_the_table(table):
  part, alone = members(table), 0
  for row in range(50):
    cell = table.architecture(row)
    expected = [n for n in table.space.neighbours(cell) if table.space.to_string(n) in table.architectures]
    assert list(part.neighbours(cell)) == list(part.neighbours(cell)) == expected
    drawn = {part.mutate(cell, np.random.default_rng(seed)) for seed in range(30)}
    assert cell not in drawn
    if expected:
      assert drawn <= set(expected)
    else:  # Any other row then.
      alone += 1
      assert len(drawn) > 15 and all(table.row(c) is not None for c in drawn)
  assert alone > 10


def test_isomorphic_neighbours_are_one(tmp_path):
  space = NasBench101Space()
  cell = space.from_string(CELL)
  near = {space.key(n): space.to_string(n) for n in space.neighbours(cell)}
  assert len(near) < len(list(space.neighbours(cell)))  # Another operation on one side or on the other.
  table = table_of(tmp_path / 'cells.csv', space, [CELL, *near.values()])
  assert [table.row(n) for n in members(table).neighbours(cell)] == list(range(1, len(table)))
  assert list(members(table).neighbours(cell)) == [table.architecture(row) for row in range(1, len(table))]


@pytest.mark.parametrize('strategy', ['random', 'regularized_evolution', 'local_search', 'nsga2', 'halving'])
def test_searches_stay_in_the_table_and_can_see_all_of_it(path, table, strategy):
  what = Benchmark(space='nasbench201', table=str(path), dataset='cifar10', score='valid', queries=60)
  record = benchmark.run(strategy, what, get_config(), seed=0)
  asked = [text for text, epochs, *_ in record['queries'] if epochs == (12 if strategy == 'halving' else 200)]
  assert sorted(asked) == sorted(table.architectures.tolist())  # Each once.
  assert all(reason == '' for *_, reason in record['queries'])


@pytest.mark.parametrize('strategy', ['random', 'regularized_evolution', 'local_search', 'nsga2'])
@pytest.mark.parametrize('rows', [1, 2])
def test_tables_of_next_to_nothing(tmp_path, strategy, rows):
  table_of(tmp_path / 't.csv', NasBenchMacroSpace(), ['00000000', '22222222'][:rows])
  what = Benchmark(space='nasbench_macro', table=str(tmp_path / 't.csv'), dataset='cifar10', score='valid', queries=9)
  assert len(benchmark.run(strategy, what, get_config(), seed=0)['queries']) == rows


def test_no_cell_is_asked_for_twice_in_another_form():
  """Of NAS-Bench-101 two neighbours may be isomorphic, and so the same row."""
  table = tables.load('nasbench101_subset')
  what = Benchmark(space='nasbench101', table=None, dataset='cifar10', score='valid', queries=120)
  record = benchmark.run('regularized_evolution', what, get_config(), seed=0)
  rows = {table.row(table.space.from_string(text)) for text, *_ in record['queries']}
  assert len(rows) == 120 and None not in rows

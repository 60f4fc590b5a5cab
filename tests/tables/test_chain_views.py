"""Macro tables seen as chains: which rows they reach, and the chain strategies on them."""
import itertools

import numpy as np
import pytest

from enas_jax import get_config, tables
from enas_jax.compare import benchmark
from enas_jax.compare.benchmark import Benchmark
from enas_jax.estimators.table import TASKS
from enas_jax.registry import check_methods
from enas_jax.spaces import ChainArchitecture, ChainSpace, HasDepthAndWidth, SearchSpace
from enas_jax.tables.chain_views import VIEWS, chain_view

CASES = [('nasbench_macro', 504), ('nats_size', 218)]


def chains(space):
  """All members, by enumeration."""
  for depth, width in itertools.product(space.depths, space.widths):
    for operations in itertools.product((0, 1), repeat=depth):
      yield ChainArchitecture(width, operations, (3,) * depth)


@pytest.mark.parametrize(('name', 'count'), CASES)
def test_rows_that_a_view_reaches(name, count):
  view, table = chain_view(name), tables.load(name)
  members = list(chains(view))
  assert len(members) == view.size()
  rows = {table.row(view.translate(chain)) for chain in members}
  assert len(rows) == count and None not in rows


@pytest.mark.parametrize(('name', 'count'), CASES)
def test_a_view_is_a_space_of_chains_with_depth_and_width(name, count):
  view = chain_view(name)
  check_methods(view, SearchSpace, name)
  assert isinstance(view, HasDepthAndWidth) and not isinstance(view, ChainSpace) and view.name == 'chain'
  for chain in itertools.islice(chains(view), 0, None, 5):
    layers, steps = view.size_steps(chain)
    assert (view.depths[layers], view.widths[steps]) == (chain.depth, chain.width)
    assert view.from_string(view.to_string(chain)) == chain


@pytest.mark.parametrize(('name', 'count'), CASES)
def test_costs_are_the_rows(name, count):
  view, table = chain_view(name), tables.load(name)
  for dataset in table.datasets:
    params, macs = (table.column(f'{dataset}/{column}') for column in ('params', 'macs'))
    for chain in itertools.islice(chains(view), 0, None, 5):
      row = table.row(view.translate(chain))
      assert (view.num_params(chain, TASKS[dataset]), view.macs(chain, TASKS[dataset])) == (params[row], macs[row])


def test_stages_of_nasbench_macro():
  """A chain's stages, as its layers' channels tell them, are the row's, each filled up with Identity."""
  view, sizes = chain_view('nasbench_macro'), (2, 3, 3)
  for chain in chains(view):
    expected = []
    stages = itertools.groupby(chain.layers(), key=lambda layer: layer.out_channels)
    for (_, layers), size in zip(stages, sizes, strict=True):
      operations = [1 + layer.operation for layer in layers]
      expected += operations + [0] * (size - len(operations))
    assert view.translate(chain).operations == tuple(expected)
  assert str(view.translate(ChainArchitecture.uniform(3, 1))) == '10100100'
  assert str(view.translate(ChainArchitecture(1, (0, 1, 1, 0, 0, 0, 1, 1), (3,) * 8))) == '12211122'


def test_widths_of_nats_size():
  view = chain_view('nats_size')
  assert str(view.translate(ChainArchitecture(56, (0, 1, 0, 0, 1), (3,) * 5))) == '56:64:56:56:64'
  assert str(view.translate(ChainArchitecture(8, (0, 0, 0, 0, 1), (3,) * 5))) == '8:8:8:8:16'


def test_members_are_checked_as_chains_are(user_error):
  view = chain_view('nasbench_macro')
  for seed in range(20):
    view.check(view.sample(np.random.default_rng(seed)))
  with user_error('depth 9 is outside 3 to 8'):
    view.check(ChainArchitecture.uniform(9, 1))
  with user_error("space 'nasbench201' has no depth and width to walk in; these have: nasbench_macro, nats_size"):
    chain_view('nasbench201')
  assert set(VIEWS) == {name for name, _ in CASES}


@pytest.mark.parametrize('strategy', ['egnas', 'evolution', 'random:chains'])
@pytest.mark.parametrize(('name', 'epochs'), [('nasbench_macro', 50), ('nats_size', 90)])
def test_chain_strategies_run_as_they_are(name, epochs, strategy):
  what, table = Benchmark(space=name, table=None, dataset='cifar10', score='test', queries=60), tables.load(name)
  record = benchmark.run(strategy, what, get_config(), seed=1)
  accuracies = [accuracy for _, _, accuracy, _ in record['queries']]
  column = table.column(f'cifar10/test/{epochs}')
  assert 3 < len(accuracies) <= 60 and max(accuracies) > np.median(column)
  reached = {table.space.to_string(chain_view(name).translate(chain)) for chain in chains(chain_view(name))}
  for text, spent, accuracy, reason in record['queries']:
    assert text in reached and spent == epochs and not reason
    assert accuracy == column[table.row(table.space.from_string(text))]


def test_egnas_grows_then_replaces_operations():
  what = Benchmark(space='nasbench_macro', table=None, dataset='cifar10', score='test', queries=60)
  texts = [text for text, *_ in benchmark.run('egnas', what, get_config(), seed=0)['queries']]
  layers = [sum(c != '0' for c in text) for text in texts]
  walk = layers[:next(i for i, text in enumerate(texts) if '2' in text)]
  assert walk == sorted(walk) and walk[0] == 3 and len(walk) > 2
  assert any('2' in text for text in texts) and set(layers[len(walk):]) == {layers[len(walk)]}

"""NAS-Bench-Macro's architectures against the benchmark's own columns."""
import itertools
import pathlib

import numpy as np
import pytest

from enas_jax.spaces.nasbench_macro import NasBenchMacroArchitecture, NasBenchMacroSpace
from enas_jax.types import Task

TABLE = pathlib.Path(__file__).parents[2] / '../shared/data/nasbench/nas_bench_macro_c10.npz'
TASK = Task((32, 32, 3), 10)
SPACE = NasBenchMacroSpace()
ALL = [NasBenchMacroArchitecture(operations) for operations in itertools.product(range(3), repeat=8)]
BEST = '22212202'

needs_table = pytest.mark.skipif(not TABLE.exists(), reason=f'the published table is not at {TABLE}')


@pytest.fixture(scope='module')
def table():
  with np.load(TABLE) as data:
    return dict(data)


@needs_table
def test_params_and_flops_are_the_tables_on_all_rows(table):
  np.testing.assert_array_equal([a.operations for a in ALL], table['arch'])
  np.testing.assert_array_equal([SPACE.num_params(a, TASK) for a in ALL], table['params'])
  np.testing.assert_array_equal([SPACE.macs(a, TASK) for a in ALL], table['flops'])


@needs_table
def test_one_identity_was_trained_once(table):
  """And another one apart: the three accuracies of a row are those of its whole class and of no other."""
  results = {}
  for architecture, accuracies in zip(ALL, map(tuple, table['test_acc'].tolist()), strict=True):
    assert results.setdefault(SPACE.identity(architecture), accuracies) == accuracies
  assert len(set(results.values())) == len(results) == 3_969
  assert str(ALL[table['mean_acc'].argmax()]) == BEST


def test_enumeration_and_classes():
  assert len(set(ALL)) == SPACE.size() == 6_561
  assert [SPACE.key(a) for a in ALL] == list(range(6_561))
  # A stage of two has 3 * 3 forms; one of three has 3 * (4 without, 2 with one and 1 with two Identities behind its first).
  assert len({SPACE.identity(a) for a in ALL}) == 9 * 21 * 21


@pytest.mark.parametrize(('text', 'identity'), [
    ('00000000', '00000000'), (BEST, '22212220'), ('01002001', '01020010'), ('10102021', '10120021')])
def test_identities_move_to_the_end_of_their_stage(text, identity):
  assert SPACE.identity(SPACE.from_string(text)) == identity


def test_text_graph_and_codes():
  best = SPACE.from_string(BEST)
  assert best == NasBenchMacroArchitecture((2, 2, 2, 1, 2, 2, 0, 2)) and str(best) == BEST
  assert best.to_json() == {'space': 'nasbench_macro', 'version': 1, 'operations': BEST}
  assert SPACE.key(best) == int(BEST, 3) and SPACE.from_codes(SPACE.codes(best)) == best
  assert SPACE.graph(best).operations == (
      'input', 'MB6_K5', 'MB6_K5', 'MB6_K5', 'MB3_K3', 'MB6_K5', 'MB6_K5', 'Identity', 'MB6_K5', 'output')
  assert SPACE.graph(best).edges == tuple((i, i + 1) for i in range(9))


def test_neighbours_differ_at_one_layer():
  best = SPACE.from_string(BEST)
  neighbours = list(SPACE.neighbours(best))
  assert len(set(neighbours)) == 16
  assert all(sum(a != b for a, b in zip(BEST, str(other), strict=True)) == 1 for other in neighbours)


def test_sampling_is_uniform():
  rng = np.random.default_rng(0)
  drawn = np.array([SPACE.sample(rng).operations for _ in range(2000)])
  assert np.abs([(drawn == i).mean(0) - 1 / 3 for i in range(3)]).max() < 0.05


@pytest.mark.parametrize(('text', 'part'), [
    ('2221220', '7 operations; give 8'),
    ('22212203', 'operation 3 at layer 7 is none of 0 to 2 (Identity, MB3_K3, MB6_K5)'),
    ('2221220x', "'2221220x' is not one digit a layer; give for example 22212202"),
    (22212202, '22212202 is not one digit a layer'),
])
def test_other_texts_are_refused(text, part, user_error):
  with user_error('nasbench_macro', part):
    SPACE.from_string(text)
  with user_error('nasbench_macro', part):
    SPACE.from_json({'space': 'nasbench_macro', 'version': 1, 'operations': text})


def test_what_is_no_member_is_refused(user_error):
  with user_error('nasbench_macro'):
    SPACE.check(BEST)

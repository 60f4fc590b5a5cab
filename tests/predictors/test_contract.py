"""What every predictor does; each of predictors.PREDICTORS."""
import numpy as np
import pytest

from enas_jax import predictors
from enas_jax.predictors.base import OUTLIER, standardise

pytestmark = pytest.mark.once  # Their mathematics; searches use them on every Python.

# Quick to compile; what the defaults learn is tested on the table.
TINY = {'members': 2, 'steps': 30, 'depth': 1, 'width': 8}
SMALL = {'ridge': {}, 'trees': {'members': 2, 'trees': 10}, 'mlp': TINY, 'gnn': TINY}
every_predictor = pytest.mark.parametrize('name', list(predictors.PREDICTORS))


def small(name, encoding, **settings):
  return predictors.make(name, encoding, **SMALL[name] | settings)


@every_predictor
def test_a_prediction_is_a_mean_and_a_spread_for_each_graph(name, cell_encoding, cells, values):
  fitted = small(name, cell_encoding).fit(cells[:40], values[:40], seed=0)
  for graphs in (cells, cells[:1], []):
    prediction = fitted.predict(graphs)
    for array in prediction:
      assert array.shape == (len(graphs),) and array.dtype == np.float64 and np.isfinite(array).all()
    assert (prediction.std >= 0).all()


@every_predictor
def test_the_seed_alone_decides(name, cell_encoding, cells, values):
  def predict(seed):
    return small(name, cell_encoding).fit(cells[:40], values[:40], seed=seed).predict(cells[40:])

  np.testing.assert_array_equal(predict(1), predict(1))
  if name != 'ridge':  # It draws nothing.
    assert (predict(1).mean != predict(2).mean).any()


@every_predictor
def test_the_unit_of_the_targets_does_not_matter(name, cell_encoding, cells, values):
  def predict(targets):
    return small(name, cell_encoding).fit(cells[:40], targets[:40], seed=0).predict(cells[40:])

  plain, eighth = predict(values), predict(values / 8)  # Exact in binary, so that no rounding differs.
  np.testing.assert_allclose(eighth.mean * 8, plain.mean, rtol=1e-9)
  np.testing.assert_allclose(eighth.std * 8, plain.std, rtol=1e-9)


@every_predictor
def test_graphs_of_all_spaces_do(name, any_graphs):
  for encoding, graphs in any_graphs:
    targets = np.array([len(g.operations) + len(g.edges) for g in graphs])
    assert np.isfinite(small(name, encoding).fit(graphs, targets, seed=0).predict(graphs)).all()


@every_predictor
@pytest.mark.parametrize('rows', [1, 2, 5])
def test_few_rows_or_equal_targets_do(name, rows, cell_encoding, cells):
  prediction = small(name, cell_encoding).fit(cells[:rows], [0.7] * rows, seed=0).predict(cells)
  assert np.isfinite(prediction).all()
  np.testing.assert_allclose(prediction.mean[:rows], 0.7, atol=0.7)
  assert np.isfinite(small(name, cell_encoding).fit(cells[:rows], np.arange(rows) / 10, seed=0).predict(cells)).all()


@every_predictor
def test_all_rank_nas_bench_201_at_100_rows(name, table, cell_encoding):
  graphs, accuracies = table
  order = np.random.default_rng(0).permutation(len(graphs))
  train, test = order[:100], order[100:1100]
  fitted = predictors.make(name, cell_encoding).fit([graphs[i] for i in train], accuracies[train], seed=0)
  prediction = fitted.predict([graphs[i] for i in test])
  report = predictors.rank_correlation(prediction.mean, accuracies[test])
  assert report.spearman > 0.5 and report.kendall > 0.4
  # Better than a constant, be it the best one: the median.
  assert np.abs(prediction.mean - accuracies[test]).mean() < np.abs(np.median(accuracies[test]) - accuracies[test]).mean()
  assert report.top_regret < 0.015  # That of ten random ones is 0.015 in the mean.


@every_predictor
def test_bad_targets_are_user_errors(name, cell_encoding, cells, user_error):
  predictor = small(name, cell_encoding)
  with user_error('nan', 'in row 1', '2 in all'):
    predictor.fit(cells[:3], [0.5, float('nan'), float('inf')], seed=0)
  with user_error('(2,)', '3 graphs'):
    predictor.fit(cells[:3], [0.5, 0.6], seed=0)
  with user_error('(0,)', 'at least one'):
    predictor.fit([], [], seed=0)


@every_predictor
def test_bad_settings_are_user_errors(name, cell_encoding, user_error):
  with user_error(name, 'colour', 'give'):
    predictors.make(name, cell_encoding, colour=1)
  with user_error(name, 'encoding'):
    predictors.make(name, cell_encoding, **{'encoding ': cell_encoding})
  if name != 'gnn':
    with user_error("'path'", 'flat, paths'):
      predictors.make(name, cell_encoding, features='path')
  if name != 'ridge':
    for value in (0, -1, float('nan')):
      with user_error('members', value):
        predictors.make(name, cell_encoding, members=value)


def test_an_unknown_predictor_names_the_known(cell_encoding, user_error):
  with user_error("'forest'", 'ridge', 'gnn'):
    predictors.make('forest', cell_encoding)


@every_predictor
def test_other_graphs_are_user_errors(name, cell_encoding, any_graphs, cells, values, user_error):
  fitted = small(name, cell_encoding).fit(cells, values, seed=0)
  with user_error('graph label'):
    fitted.predict(any_graphs[0][1])


@pytest.mark.parametrize('name', ['ridge', 'trees', 'mlp'])
def test_paths_do_as_well(name, cell_encoding, cells, values):
  predictor = predictors.make(name, cell_encoding, features='paths')
  prediction = predictor.fit(cells[:60], values[:60], seed=0).predict(cells[60:])
  assert predictors.rank_correlation(prediction.mean, values[60:]).spearman > 0.6


@pytest.mark.parametrize('name', ['ridge', 'mlp', 'gnn'])  # Beyond its data a tree goes on as at its edge, in every member.
def test_unknown_graphs_are_less_sure(name, cell_encoding, cells, values):
  """A fit on cells without 3x3 convolutions and pooling knows nothing of cells with many."""
  new = np.array([sum(g.operations.count(o) for o in ('nor_conv_3x3', 'avg_pool_3x3')) for g in cells])
  known = np.flatnonzero(new <= 1)
  fitted = predictors.make(name, cell_encoding).fit([cells[i] for i in known], values[known], seed=0)
  std = fitted.predict(cells).std
  assert std[new >= 4].mean() > 1.2 * std[known].mean()


def test_targets_are_standardised_with_outliers_drawn_in():
  targets = np.array([0.7, 0.8, 0.9, 0.8, 0.85, 0.1])
  values, scale = standardise([None] * 6, targets)
  assert values.mean() == pytest.approx(0) and values.std() == pytest.approx(1)
  back = scale.restore(values, values).mean
  np.testing.assert_allclose(back[:-1], targets[:-1])
  assert back[-1] == pytest.approx(0.8 - OUTLIER * 1.4826 * 0.075)  # The deviations' median, of 0, 0, 0.05, 0.1, 0.1, 0.7.


def test_equal_targets_are_zeros_in_their_own_unit():
  values, scale = standardise([None] * 3, [0.3, 0.3, 0.3])
  assert values.tolist() == [0, 0, 0] and scale == (pytest.approx(0.3), 1)

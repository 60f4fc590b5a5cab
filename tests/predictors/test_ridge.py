"""Bayesian ridge against the closed form, and against scikit-learn's on the whole table."""
import numpy as np
import pytest
from sklearn.linear_model import BayesianRidge

from enas_jax import predictors
from enas_jax.predictors.base import standardise


@pytest.mark.parametrize('rows', [20, 60])  # Fewer rows than columns, and more than vary.
@pytest.mark.parametrize('features', ['flat', 'paths'])
def test_mean_and_std_are_the_closed_form(rows, features, cell_encoding, cells, values):
  targets = values + 0.1 * np.random.default_rng(0).normal(size=len(values))
  fitted = predictors.make('ridge', cell_encoding, features=features).fit(cells[:rows], targets[:rows], seed=0)
  prediction = fitted.predict(cells)

  x = fitted.rows(cells).astype(np.float64)
  x -= x[:rows].mean(0)
  y, scale = standardise(cells[:rows], targets[:rows])
  noise, penalty = fitted.model.alpha_, fitted.model.lambda_  # Precisions of the noise and of the weights.
  precision = noise * x[:rows].T @ x[:rows] + penalty * np.eye(x.shape[1])
  mean = x @ np.linalg.solve(precision, noise * x[:rows].T @ y)
  variance = 1 / noise + np.einsum('bf,fb->b', x, np.linalg.solve(precision, x.T))
  np.testing.assert_allclose(prediction.mean, scale.center + scale.unit * mean, rtol=1e-8)
  np.testing.assert_allclose(prediction.std, scale.unit * np.sqrt(variance), rtol=1e-6)


@pytest.mark.parametrize('rows', [20, 60])
def test_the_evidence_is_that_of_the_whole_table(rows, cell_encoding, cells, values):
  targets = values + 0.1 * np.random.default_rng(0).normal(size=len(values))
  fitted = predictors.make('ridge', cell_encoding).fit(cells[:rows], targets[:rows], seed=0)
  table = cell_encoding.features(cells[:rows]).astype(np.float64)
  whole = BayesianRidge().fit(table, standardise(cells[:rows], targets[:rows])[0])
  # Both stop when weights change by less than 1e-3.
  np.testing.assert_allclose([fitted.model.alpha_, fitted.model.lambda_], [whole.alpha_, whole.lambda_], rtol=1e-3)

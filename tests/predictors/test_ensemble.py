"""One program for all members: against a plain loop, and whatever the padding."""
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from enas_jax import predictors
from enas_jax.predictors import ensemble
from enas_jax.predictors.base import standardise

pytestmark = pytest.mark.once  # Their mathematics; searches use them on every Python.

TINY = {'members': 2, 'depth': 1, 'width': 8}  # Quick to compile.
SETTINGS = [('mlp', TINY), ('mlp', {**TINY, 'features': 'paths'}), ('gnn', TINY)]
every_ensemble = pytest.mark.parametrize(('name', 'settings'), SETTINGS, ids=['mlp', 'mlp-paths', 'gnn'])


@every_ensemble
def test_members_are_those_of_a_plain_loop(name, settings, cell_encoding, cells, values):
  """The same networks and batches, a member and a step at a time, without padding."""
  predictor = predictors.make(name, cell_encoding, steps=6, batch=4, weight_decay=0.1, **settings)
  fitted = predictor.fit(cells[:20], values[:20], seed=3)
  targets, scale = standardise(cells[:20], values[:20])
  inputs, unknown = fitted.encoder(cells[:20]), fitted.encoder(cells[20:])
  optimiser = optax.adamw(optax.cosine_decay_schedule(0.01, 6), weight_decay=0.1)

  outputs = []
  for key in jax.random.split(jax.random.key(np.random.SeedSequence(3).generate_state(1)[0]), 2):
    weights_key, batch_key = jax.random.split(key)
    network = predictor.network(inputs, nnx.Rngs(params=weights_key))
    state = nnx.Optimizer(network, optimiser, wrt=nnx.Param)
    for chosen in jax.random.randint(batch_key, (6, 4), 0, 20):
      rows = jax.tree.map(lambda x, chosen=chosen: x[chosen], inputs)
      state.update(network, nnx.grad(lambda n, x, y: jnp.abs(n(x) - y).mean())(network, rows, targets[chosen]))
    outputs.append(network(unknown))
  prediction = fitted.predict(cells[20:])
  np.testing.assert_allclose(prediction.mean, scale.center + scale.unit * np.mean(outputs, 0), rtol=1e-4)
  np.testing.assert_allclose(prediction.std, scale.unit * np.std(outputs, 0), rtol=1e-2, atol=1e-5)


@every_ensemble
def test_padding_changes_nothing(name, settings, cell_encoding, cells, values, monkeypatch):
  def predict():
    fitted = predictors.make(name, cell_encoding, steps=30, **settings).fit(cells[:40], values[:40], seed=0)
    return fitted.predict(cells)

  padded = predict()
  monkeypatch.setattr(ensemble, 'MIN_ROWS', 1)
  monkeypatch.setattr(ensemble, 'MAX_ROWS', 32)
  np.testing.assert_allclose(predict(), padded, rtol=1e-4, atol=1e-5)


def test_other_numbers_of_rows_compile_nothing(cell_encoding, cells, values):
  def programs():
    return [ensemble._compiled(f)._cache_size() for f in (ensemble._train, ensemble._apply)]

  predictor = predictors.make('mlp', cell_encoding, features='paths', steps=30, **TINY)
  predictor.fit(cells[:10], values[:10], seed=0).predict(cells)
  before = programs()
  for rows in (1, 33, 60):
    again = predictors.make('mlp', cell_encoding, features='paths', steps=30, **TINY)  # Equal settings, equal program.
    again.fit(cells[:rows], values[:rows], seed=rows).predict(cells[:rows])
  assert programs() == before and min(before) > 0


def test_a_diverged_training_is_a_user_error(cell_encoding, cells, values, user_error):
  fitted = predictors.make('mlp', cell_encoding, steps=10, learning_rate=1e30, **TINY).fit(cells, values, seed=0)
  with user_error('learning_rate 1e+30', 'lower'):
    fitted.predict(cells)


def test_bad_settings_are_user_errors(cell_encoding, user_error):
  for name in ('steps', 'batch', 'learning_rate', 'depth', 'width'):
    with user_error(f'{name} 0'):
      predictors.make('mlp', cell_encoding, **{name: 0})
  with user_error('weight_decay -1'):
    predictors.make('gnn', cell_encoding, weight_decay=-1)

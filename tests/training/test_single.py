"""One network to its end: what is trained, scored and handed over is one and the same, from wherever it goes on."""
import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx
from support.asking import chain, chains, estimator_by
from support.line_space import line

from enas_jax.data.augment import normalise
from enas_jax.spaces import ChainSpace
from enas_jax.training import slots
from enas_jax.training.layout import Execution
from enas_jax.training.population import PopulationProgram
from enas_jax.training.single import single_training
from enas_jax.types import Recipe

pytest_plugins = ['support.training_fixtures']
EXECUTION = Execution.default()


@pytest.fixture(scope='module')
def request_():
  return chain(2, '010')


@pytest.fixture(scope='module')
def network(request_, data):
  return single_training(request_, data, EXECUTION, chains(data))


def run(network, *, start=None, score=True, should_stop=lambda: False):
  return list(network.train(seed=5, start=start, score=score, should_stop=should_stop))


def accuracy(module, data):
  inputs = normalise(data.arrays.score_images, data.arrays.mean, data.arrays.std)
  right = module(inputs).argmax(-1) == data.arrays.score_labels
  return int(right.sum()) / data.score_size


def same(a, b):
  return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def test_the_module_scores_what_training_told(network, data):
  (_, first), (last, second) = run(network)
  assert accuracy(network.network(last.state), data) == second.score
  assert second.loss != first.loss


def test_it_gives_what_the_estimator_gives(network, request_, data):
  (_, evaluation), = estimator_by(ChainSpace(min_depth=3), data, family=chains(data)).estimate([request_])
  epochs = [epoch for _, epoch in run(network)]
  assert evaluation.curve == tuple(epoch.score for epoch in epochs)
  assert evaluation.metrics['train_loss'] == epochs[-1].loss


def test_only_the_last_epoch_is_scored_where_the_others_are_not_asked_for(network):
  (_, first), (_, last) = run(network, score=False)
  assert np.isnan(first.score) and last.score == run(network)[-1][1].score


def test_stopped_within_an_epoch_it_goes_on_to_the_same_bits(network, monkeypatch):
  whole = run(network)
  monkeypatch.setattr(slots, 'FIRST_STEPS', 1)
  monkeypatch.setattr(slots, 'CALL_SECONDS', 0)
  (snapshot, epoch), = run(network, should_stop=lambda: True)
  assert epoch is None and (snapshot.epoch, snapshot.step) == (0, 1)
  rest = run(network, start=snapshot)
  assert same(rest[-1][0].state, whole[-1][0].state) and [e for _, e in rest] == [e for _, e in whole]


def test_several_devices_each_take_a_part_of_a_batch(request_, data, network, monkeypatch):
  if len(jax.devices()) < 2:
    pytest.skip('needs two devices')
  program = network._program
  other = PopulationProgram(
      dataclasses.replace(program.network, axis='data'), data, Recipe(8),
      layout=dataclasses.replace(program.layout, devices=tuple(jax.devices()[:2]), data_parallel=True))
  spread = list(slots.train_one(other, request_, seed=5))
  for (_, a), (_, b) in zip(spread, run(network), strict=True):
    assert a.loss == pytest.approx(b.loss, rel=1e-4) and abs(a.score - b.score) < 1.5 / data.score_size


def test_another_space_trains_as_its_module(data):
  network = single_training(line(epochs=2), data, EXECUTION, None)
  (_, first), (last, second) = run(network, score=False)
  module = network.network(last.state)
  assert isinstance(module, nnx.Module) and np.isnan(first.score) and accuracy(module, data) == second.score

"""What is asked of an estimator, and what is compared of its answers."""
import dataclasses

from enas_jax.estimators import TrainedEstimator
from enas_jax.families.chain.family import ChainFamily
from enas_jax.families.chain.packing import Packing
from enas_jax.spaces import ChainArchitecture
from enas_jax.training.engine import Resources
from enas_jax.training.layout import Execution
from enas_jax.types import Request, Schedule

OUT_OF_MEMORY = 'RESOURCE_EXHAUSTED: out of memory while trying to allocate 1 byte.\nMore.'


def chain(width, operations, epochs=2, *, replicate=0, **schedule):
  """Separable layers have kernel 5, convolutions 3: the other way round they take longer to compile."""
  operations = tuple(map(int, operations))
  return Request(ChainArchitecture(width, operations, tuple(3 if o else 5 for o in operations)),
                 Schedule(**{'epochs': epochs, 'batch_size': 8, 'learning_rate': 0.1, **schedule}), replicate=replicate)


def estimator_by(space, data, *, seed=5, family=None, memory_limit=None, should_stop=lambda: False, **settings):
  """An estimator that trains; `settings` are fields of its `Execution`."""
  resources = Resources(data=data, seed=seed, execution=Execution.default(**settings), memory_limit=memory_limit,
                        should_stop=should_stop)
  return TrainedEstimator(space, resources, family)


def chains(data, packing=None):
  """The family of chains, by default each in a program of its own size."""
  return ChainFamily(data.task, packing or Packing())


def answers(estimator, requests):
  """Evaluations in the order of the requests."""
  found = list(estimator.estimate(requests))
  assert sorted(i for i, _ in found) == list(range(len(requests)))
  found = dict(found)
  return [found[i] for i in range(len(requests))]


def result(evaluation):
  """All but the clock."""
  return evaluation.metrics, evaluation.curve, evaluation.train_macs, evaluation.reason


def stopped(request, epoch):
  return dataclasses.replace(request, schedule=dataclasses.replace(request.schedule, stop_epoch=epoch))

"""A plugin: the estimator 'killing' trains as 'trained' does, but for one network whose training ends the process.

Environment: KILLING_NETWORK, its text; KILLING_SIGNAL, the signal; KILLING_PARENT, whether the parent dies with it.
"""
import os
import signal

from enas_jax import estimators
from enas_jax.errors import UserError
from enas_jax.settings import NoSettings


def end_process():
  """As a candidate would, by the signal that it is told, or as a container that is killed whole."""
  if 'KILLING_PARENT' in os.environ:
    os.kill(os.getppid(), signal.SIGKILL)
  os.kill(os.getpid(), int(os.environ['KILLING_SIGNAL']))


class Killing:
  """The estimator `inner`, whose networks die late: neighbours may be finished."""

  def __init__(self, inner):
    self._inner = inner
    for name in ('predict_macs', 'prepare', 'describe', 'report'):
      setattr(self, name, getattr(inner, name))

  def estimate(self, requests):
    """As inner's, up to the killer's turn."""
    victims = [i for i, request in enumerate(requests) if str(request.architecture) == os.environ.get('KILLING_NETWORK')]
    for index, evaluation in self._inner.estimate(requests):
      if index in victims:
        end_process()
      yield index, evaluation


@estimators.register('killing', NoSettings)
def make(settings, setup):
  """Makes it."""
  from enas_jax.estimators.from_config import trained
  if setup.dataset is None:
    raise UserError('killing needs images')
  return Killing(trained(setup))

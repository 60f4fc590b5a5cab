"""The loop of ask and tell, in memory."""
import dataclasses

import pytest

from enas_jax import get_config, loop, spaces, strategies, tables
from enas_jax.errors import Stopped
from enas_jax.tables.estimator import TableEstimator
from enas_jax.types import Task

pytestmark = pytest.mark.smoke


@pytest.fixture
def random():
  """Random search for 20 queries of NAS-Bench-201, four at once."""
  config = get_config()
  config.update_from_flattened_dict({
      'strategy': 'random', 'space': 'nasbench201', 'epochs.first': 200, 'budget.evaluations': 20, 'random.batch': 4})
  return strategies.make(config, spaces.make(config), Task((32, 32, 3), 10))


def estimator():
  return TableEstimator(tables.load('nasbench201'), 'cifar10')


def test_a_search_on_a_table_in_memory(random):
  answers, told = loop.InMemory(), []
  state = loop.drive(random, estimator(), random.init(0), answers, on_tell=told.append)
  assert len(answers) == 20 and len(told) == 5 and told[-1] == state
  best = max(answers, key=lambda request: answers[request].accuracy)
  assert random.best(state) == best.architecture


def test_every_new_answer_is_told_once_and_known_ones_are_not_asked_for(random):
  answers, seen = loop.InMemory(), []
  loop.drive(random, estimator(), random.init(0), answers, on_answer=lambda *event: seen.append(event[:2]))
  assert seen == list(answers.items())
  second = estimator()
  best = max(seen, key=lambda event: event[1].accuracy)[0].architecture
  assert random.best(loop.drive(random, second, random.init(0), answers)) == best and second.queries == 0


def test_it_goes_on_from_where_it_was_stopped(random):
  answers, states = loop.InMemory(), []
  with pytest.raises(Stopped):
    loop.drive(random, estimator(), random.init(0), answers, on_tell=states.append, should_stop=lambda: len(states) == 2)
  assert len(answers) == 8
  after = loop.drive(random, estimator(), states[-1], answers)
  assert after == loop.drive(random, estimator(), random.init(0), loop.InMemory())


def test_it_is_cut_before_a_batch_and_would_go_on_from_there(random):
  asked = []

  def cut(requests, new, state):
    asked.append((requests, new))
    return len(asked) == 3

  answers = loop.InMemory()
  state = loop.drive(random, estimator(), random.init(0), answers, cut=cut)
  assert len(answers) == 8 and random.best(state) == max(answers, key=lambda r: answers[r].accuracy).architecture
  assert all(tuple(requests) == tuple(new) for requests, new in asked)
  assert loop.drive(random, estimator(), state, answers) == loop.drive(random, estimator(), random.init(0), loop.InMemory())


def test_the_outlook_is_computed_for_who_wants_it_alone(random, monkeypatch):
  monkeypatch.setattr(type(random), 'outlook', None)
  loop.drive(random, estimator(), random.init(0), loop.InMemory())


class Lazy(TableEstimator):
  def estimate(self, requests):
    return super().estimate(requests[1:])


def test_an_estimator_that_leaves_a_request_out(random, user_error):
  with user_error('Lazy left 1 of 4 requests without an evaluation; yield one for each'):
    loop.drive(random, Lazy(tables.load('nasbench201'), 'cifar10'), random.init(0), loop.InMemory())


def test_a_strategy_that_asks_for_nothing(user_error):
  @dataclasses.dataclass
  class Silent:
    def done(self, state):
      return False

    def ask(self, state):
      return (), state

  with user_error('Silent asks for nothing and is not done; let `done` be True then'):
    loop.drive(Silent(), estimator(), None, loop.InMemory())


@pytest.mark.parametrize(('changes', 'reason'), [
    ({'metrics': {'accuracy': 0.5, 'latency_ms/x': float('inf')}}, 'value latency_ms/x is inf, no finite number of Python'),
    ({'metrics': {'accuracy': float('nan')}}, 'value accuracy is nan, no finite number'),
    ({'metrics': {'accuracy': 0.5, 'latency_ms/x': -1.0}}, 'value latency_ms/x is -1.0, below 0'),
    ({'metrics': {'accuracy': 0.5, 'params': '7'}}, "value params is '7', no finite number"),
    ({'seconds': float('inf')}, 'value seconds is inf'),
    ({'train_macs': -1.0}, 'value train_macs is -1.0, below 0'),
    ({'curve': (0.5, float('nan'))}, 'value 2 of the curve is nan'),
])
def test_what_cannot_have_been_measured_is_a_failure(random, changes, reason):
  """From any estimator: one candidate's value is impossible, the others decide."""
  class Impossible(TableEstimator):
    def estimate(self, requests):
      for index, evaluation in super().estimate(requests):
        yield index, dataclasses.replace(evaluation, **changes) if self.queries == 3 else evaluation

  answers = loop.InMemory()
  state = loop.drive(random, Impossible(tables.load('nasbench201'), 'cifar10'), random.init(0), answers)
  (bad,) = [request for request, evaluation in answers.items() if not evaluation.ok]
  assert reason in answers[bad].reason and list(answers).index(bad) == 2
  assert random.best(state) == max(answers, key=lambda request: answers[request].accuracy).architecture != bad.architecture


def test_a_score_may_be_below_0(random):
  class Score(TableEstimator):
    def estimate(self, requests):
      for index, evaluation in super().estimate(requests):
        yield index, dataclasses.replace(evaluation, metrics={'accuracy': -evaluation.accuracy})

  answers = loop.InMemory()
  loop.drive(random, Score(tables.load('nasbench201'), 'cifar10'), random.init(0), answers)
  assert all(evaluation.ok for evaluation in answers.values())

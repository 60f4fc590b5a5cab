"""The mark of who is in training: what a start makes of it, whatever ended the processes before."""
import itertools
import json
import signal

import pytest
from support.synthetic_estimator import SPACE, estimate, strategy_with

from enas_jax import loop, quotas
from enas_jax.errors import Stopped
from enas_jax.in_training import InTraining
from enas_jax.ledger import Ledger
from enas_jax.search import killers_in_a_row
from enas_jax.supervise import DEATH, MARK
from enas_jax.types import Evaluation
from enas_jax.workdir import Folder

pytestmark = pytest.mark.smoke

KILL, CRASH = int(signal.SIGKILL), int(signal.SIGSEGV)
SETTINGS = {'random.batch': 4, 'budget.evaluations': 8}


class Killed(BaseException):
  """Stands for the end of the process: nothing of it is caught, and the mark stays."""


class Estimator:
  """Answers by the synthetic formula; the process ends when it comes to one of the `killers` (keys)."""

  def __init__(self, killers=()):
    self.killers, self.batches, self.prepared = set(killers), [], []

  def estimate(self, requests):
    self.batches.append([request.key for request in requests])
    for index, request in enumerate(requests):
      if request.key in self.killers:
        raise Killed
      yield index, estimate(request)

  def prepare(self, requests):
    self.prepared.append([request.key for request in requests])


class Runs:
  """A search that is started again and again in one folder."""

  def __init__(self, path, monkeypatch):
    self.folder, self.notes = Folder(path), []
    self.strategy, self._patch = strategy_with('random', **SETTINGS), monkeypatch

  @property
  def mark(self):
    file = self.folder.path / MARK
    return json.loads(file.read_text()) if file.exists() else None

  @property
  def ledger(self):
    return Ledger(self.folder.path / 'ledger.jsonl', SPACE.from_json)

  def start(self, estimator, death=None, should_stop=lambda: False):
    """One process. `death`: the signal that the supervisor saw; None without one. Returns whether it lived."""
    if death is not None:
      self._patch.setenv(DEATH, str(death))
    ledger = self.ledger
    watch = InTraining(self.folder, self.notes.append, ledger.__contains__)
    try:
      loop.drive(self.strategy, estimator, self.strategy.init(0), ledger, estimate=watch.estimate, should_stop=should_stop)
    except Killed:
      return False
    except BaseException:
      watch.end()
      raise
    watch.end()
    return True


@pytest.fixture
def runs(tmp_path, monkeypatch):
  monkeypatch.setattr(quotas, 'kills_for_memory', lambda: '')  # As on a system that does not tell.
  return Runs(tmp_path, monkeypatch)


@pytest.fixture
def keys(tmp_path_factory, monkeypatch):
  """The keys of an undisturbed search's requests, and its answers by them."""
  undisturbed = Runs(tmp_path_factory.mktemp('undisturbed'), monkeypatch)
  assert undisturbed.start(Estimator()) and undisturbed.mark is None
  return {request.key: evaluation for request, evaluation in undisturbed.ledger}


def answers(runs):
  return {request.key: evaluation for request, evaluation in runs.ledger}


@pytest.mark.parametrize(('deaths', 'alone', 'reason'), [  # What the supervisor says at each start; None: there is none.
    ([None, 0, KILL, KILL, KILL], 2, 'killed the process (2 times) while it trained alone: out of memory, probably'),
    ([None, 0, CRASH, CRASH], 1, 'killed the process (SIGSEGV) while it trained alone'),
    ([None, 0, CRASH, KILL, CRASH], 2, 'killed the process (SIGSEGV) while it trained alone'),
    ([None, None, None, None, None, None], 3, 'killed the process (3 times) while it trained alone: out of memory, probably'),
    ([None, 0, 0, 0, 0, 0], 3, 'killed the process (3 times) while it trained alone: out of memory, probably'),
])
def test_a_killer_is_found_and_recorded_and_nothing_else_changes(runs, keys, deaths, alone, reason):
  killer = list(keys)[2]
  for count, death in enumerate(deaths, 1):
    estimator = Estimator([killer])
    assert runs.start(estimator, death) == (count == len(deaths))
    if count < len(deaths):
      assert killer in runs.mark['in_training'] and killer not in answers(runs)
  assert runs.mark is None
  assert answers(runs) == {**keys, killer: Evaluation(reason=reason)}
  assert [key for key in answers(runs) if key in list(keys)[:2]] == list(keys)[:2]
  assert sum('while it trained a network alone' in note for note in runs.notes) == alone


def test_all_that_can_kill_are_found_one_after_the_other(runs, keys):
  killers = set(list(keys)[1:7:2])
  starts = 1
  runs.start(Estimator(killers))
  while not runs.start(Estimator(killers), CRASH):
    starts += 1
    assert starts < 20
  found = answers(runs)
  assert {key for key, evaluation in found.items() if not evaluation.ok} == killers
  assert all(found[key] == keys[key] for key in keys.keys() - killers)


def test_who_trains_alone_trains_alone(runs, keys):
  """Not beside another, and nothing is compiled ahead in another thread, which could be what kills."""
  first = list(keys)[:4]
  runs.start(Estimator([first[1]]))
  runs.start(Estimator([first[1]]), 0)
  estimator = Estimator([])
  assert runs.start(estimator, CRASH)
  assert estimator.batches == [[first[1]], [first[2]], [first[3]], list(keys)[4:]]
  assert estimator.prepared[:3] == estimator.batches[:3]
  assert answers(runs) == keys


def test_kills_from_outside_record_no_failure(runs, keys):
  """Of a process with its supervisor, at every candidate once, and of the child alone once."""
  for place, death in itertools.product(keys, (None, 0)):
    runs.start(Estimator([] if place in answers(runs) else [place]), death)
  assert runs.start(Estimator())
  assert answers(runs) == keys and runs.mark is None


@pytest.mark.parametrize(('told', 'starts', 'why'), [
    (itertools.repeat('boot 5'), 13, 'nobody saw why'),
    (map('boot {}'.format, itertools.count()), 6, 'out of memory, probably'),
    (map('boot-{} 0'.format, itertools.count()), 6, 'out of memory, probably'),
], ids=['nobody is killed for memory', 'somebody is each time', 'the machine starts anew each time'])
def test_an_end_that_nobody_saw_counts_less_if_the_kernel_killed_nobody(runs, keys, monkeypatch, told, starts, why):
  """Twice beside others, then three times alone; ten times, where it was hardly the memory."""
  killer, text = list(keys)[2], [next(told)]
  monkeypatch.setattr(quotas, 'kills_for_memory', lambda: text[0])
  for count in range(1, starts + 1):
    assert runs.start(Estimator([killer])) == (count == starts)
    text[0] = next(told)
  assert answers(runs)[killer].reason == f'killed the process ({starts - 3} times) while it trained alone: {why}'


def test_a_process_killed_before_it_trains_accuses_nobody(runs, keys):
  runs.start(Estimator([next(iter(keys))]))
  for _ in range(9):
    InTraining(runs.folder, runs.notes.append)
  assert all(known['together'] == 1 for known in runs.mark['requests'].values())


def test_a_clean_stop_takes_the_mark_away(runs, keys):
  with pytest.raises(Stopped):
    runs.start(Estimator(), should_stop=lambda: True)
  assert runs.mark is None and len(answers(runs)) == 4
  assert runs.start(Estimator([])) and answers(runs) == keys and not runs.notes


def test_an_error_takes_the_mark_away(runs):
  class Broken(Estimator):
    def estimate(self, requests):
      raise ZeroDivisionError
  with pytest.raises(ZeroDivisionError):
    runs.start(Broken())
  assert runs.mark is None


def test_a_stop_among_suspects_does_not_forget_them(runs, keys):
  killer = list(keys)[3]
  runs.start(Estimator([killer]))
  runs.start(Estimator([killer]), 0)

  class Stopping(Estimator):
    def estimate(self, requests):
      raise Stopped
  with pytest.raises(Stopped):
    runs.start(Stopping(), KILL)
  assert runs.mark['in_training'] == []
  estimator = Estimator([])
  assert runs.start(estimator) and estimator.batches[0] == [killer]


def test_what_came_further_is_accused_anew(runs, keys):
  request = next(iter(runs.strategy.ask(runs.strategy.init(0))[0]))
  for _ in range(7):
    watch = InTraining(runs.folder, runs.notes.append)
    assert not watch.verdict(request)
    watch.begin([request], alone=watch.suspects(request))
    watch.went_on(request)
  for _ in range(4):
    assert not watch.verdict(request)
    watch = InTraining(runs.folder, runs.notes.append)
    watch.begin([request], alone=watch.suspects(request))
  watch = InTraining(runs.folder, runs.notes.append)
  assert watch.verdict(request).startswith('killed the process (3 times)')


def test_who_trains_beside_what_came_further_is_still_accused(runs, keys):
  two = runs.strategy.ask(runs.strategy.init(0))[0][:2]
  InTraining(runs.folder, runs.notes.append).begin(two)
  watch = InTraining(runs.folder, runs.notes.append)
  watch.begin(two)
  watch.went_on(two[0])
  assert runs.mark['in_training'] == [request.key for request in two]
  watch = InTraining(runs.folder, runs.notes.append)
  assert [watch.suspects(request) for request in two] == [False, True]


@pytest.mark.parametrize('text', [
    '', '{', '[]', '1', 'null', '{}', '{"requests": 1}', '{"requests": {}, "in_training": 1}',
    '{"requests": {}, "in_training": [[]], "alone": 1}',
    '{"requests": {"a": 1}, "in_training": [], "alone": false}', '{"requests": {"a": {"request": 1}}, "in_training": []}',
    '{"requests": {"a": {"request": {}, "together": "x", "alone": []}}, "in_training": ["a"], "alone": false}',
    '{"requests": {"a": {"request": {}, "together": 0, "alone": 3}}, "in_training": ["a"], "alone": true}'])
def test_a_damaged_mark_is_left_out(runs, keys, text):
  (runs.folder.path / MARK).write_text(text)
  assert runs.start(Estimator()) and answers(runs) == keys and runs.mark is None


def test_candidates_that_kill_count_as_failures_in_a_row():
  killed, failed, good = Evaluation(reason='killed the process (SIGSEGV) ...'), Evaluation(reason='diverged'), Evaluation()
  for entries, count in (([], 0), ([killed, good], 0), ([good, killed, killed], 2), ([killed, failed, killed], 1)):
    assert killers_in_a_row([(None, evaluation) for evaluation in entries]) == count

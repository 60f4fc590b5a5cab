"""The main command as its user sees it, and its loop on an estimator that trains nothing."""
import json
import shutil

import numpy as np
import pytest
from support.run_records import files, ledger, read, same_run, same_training
from support.synthetic_estimator import estimate

import enas_jax
from enas_jax import data, estimators, search
from enas_jax.errors import UserError
from enas_jax.machine import usable_cores
from enas_jax.progress import Progress
from enas_jax.types import Evaluation
from enas_jax.workdir import Workdir

pytest_plugins = ['support.search_fixtures']

HALVING = {  # Three candidates of unequal layers: one program.
    'halving.candidates': 3, 'chain.max_depth': 4, 'chain.kernels': (3,), 'epochs.first': 3, 'epochs.final': 1}


class Table:
  """An estimator that makes accuracies up. `fails` tells which of its answers fail, by their number from 1."""

  def __init__(self, fails=lambda number: False, order=list):
    self._fails, self._order = fails, order
    self.asked, self.answered = [], []

  def estimate(self, requests):
    self.asked += requests
    for index in self._order(range(len(requests))):
      self.answered.append(requests[index].key)
      failed = self._fails(len(self.answered))
      yield index, Evaluation(reason=f'made-up failure {len(self.answered)}') if failed else estimate(requests[index])

  def predict_macs(self, request):
    return 0.0

  def prepare(self, requests):
    self.announced = list(requests)

  def describe(self):
    return 'made up'

  def report(self):
    return {}


@pytest.fixture
def find(runner, tmp_path, monkeypatch):
  """Runs `search` on a table, without the final training. Returns result.json's record."""
  dataset = data.load(f'npz:{runner.images}')

  def run(table, workdir=tmp_path / 'w', **changes):
    monkeypatch.setattr(estimators, 'make', lambda *_, **__: table)
    monkeypatch.setattr(search, 'fit_watched', lambda winner, *_, **__: {
        'architecture': winner.to_json(), 'test_accuracy': 0.5, 'seconds': 0.0})
    config = runner.config(**{'chain.max_depth': 6, 'chain.max_width': 4, 'budget.evaluations': 20, **changes})
    with Workdir.open(workdir, config, data_checksum=dataset.checksum) as folder, Progress() as progress:
      return search.search(config, dataset, folder, progress)

  return run


def test_a_budget_cuts_any_search_and_a_resumed_one_at_the_same_candidate(find, tmp_path, monkeypatch):
  monkeypatch.setattr(Table, 'predict_macs', lambda self, request: estimate(request).train_macs)
  whole = find(Table(), tmp_path / 'whole')
  limit = whole['search_train_macs'] / 2
  for strategy in ('egnas', 'random', 'evolution'):
    workdir, settings = tmp_path / strategy, {'strategy': strategy, 'budget.train_macs': limit}
    result = find(Table(), workdir, **settings)
    assert result['cut'].startswith('budget.train_macs') and 0 < result['search_train_macs'] <= limit
    before = (workdir / 'ledger.jsonl').read_bytes()
    (workdir / 'result.json').unlink()
    (workdir / 'controller.json').unlink()
    table = Table()
    again = find(table, workdir, **settings)
    assert again == {**result, 'peak_memory_bytes': again['peak_memory_bytes']} and not table.answered
    assert (workdir / 'ledger.jsonl').read_bytes() == before
  assert 'cut' not in whole


def test_phases_then_a_trained_network(undisturbed, runner):
  phases = [record['request']['phase'] for record in ledger(undisturbed)]
  assert list(dict.fromkeys(phases)) == ['depth', 'width', 'operation']
  assert len({record['key'] for record in ledger(undisturbed)}) == len(phases)
  result, dataset = read(undisturbed, 'result.json'), data.load(f'npz:{runner.images}')
  model = enas_jax.load(undisturbed)
  assert model.architecture.to_json() == result['architecture'] == read(undisturbed, 'architecture.json')
  accuracy = np.mean(model.predict(dataset.test.images) == dataset.test.labels)
  assert accuracy == result['test_accuracy'] > 0.5
  assert result['params'] == enas_jax.model.SPACES['chain'].make().num_params(model.architecture, dataset.task)
  assert result['macs'] > 0 and result['epochs'] == len(result['curve']['loss']) == 6
  assert set(result['seconds']) == {*phases, 'final'} and all(seconds > 0 for seconds in result['seconds'].values())
  assert result['evaluations'] == len(phases) and result['failures'] == []
  assert result['search_train_macs'] == sum(record['evaluation']['train_macs'] for record in ledger(undisturbed)) > 0
  assert result['peak_memory_bytes'] > 1e7


def test_the_record_of_the_run(undisturbed, runner):
  record = read(undisturbed, 'config.json')
  assert record['config'] == json.loads(runner.config().to_json())
  assert record['config']['seed'] == 0
  assert {'jax', 'flax', 'enas_jax', 'python'} <= set(record['versions'])
  assert record['hardware']['backend'] and record['hardware']['cpu_count'] == usable_cores()
  assert '-m enas_jax.search' in record['command']
  assert record['data'] == data.record(data.load(f'npz:{runner.images}'))
  assert list((undisturbed / 'checkpoints').iterdir())


def test_in_process_as_on_the_command_line(undisturbed, runner, tmp_path):
  config, dataset = runner.config(), data.load(f'npz:{runner.images}')
  with Workdir.open(tmp_path, config, data_checksum=dataset.checksum) as workdir, Progress() as progress:
    result = search.search(config, dataset, workdir, progress)
  assert result == read(tmp_path, 'result.json')
  same_run(tmp_path, undisturbed)


def test_the_first_line_of_every_command_says_what_was_read(undisturbed, runner, tmp_path, capsys):
  """Of finished runs, too: they are read at every start."""
  told = data.describe(data.load(f'npz:{runner.images}'))
  assert 'train 200 (50 a class), test 60 (15 a class)' in told
  assert runner.here('search', shutil.copytree(undisturbed, tmp_path / 'w')) == 0
  assert capsys.readouterr().out.splitlines()[0] == told
  architecture = f'--architecture={undisturbed}/architecture.json'
  assert runner.here('train', tmp_path / 'train', architecture, **{'epochs.final': 1}) == 0
  assert capsys.readouterr().out.splitlines()[0] == told
  assert read(tmp_path / 'train', 'config.json')['data'] == read(undisturbed, 'config.json')['data']


def test_a_finished_search_is_kept_as_it_is(undisturbed, runner, tmp_path, capsys):
  workdir = shutil.copytree(undisturbed, tmp_path / 'w')
  before = files(workdir)
  assert runner.here('search', workdir) == 0
  assert files(workdir) == before
  out, err = capsys.readouterr()
  accuracy = 100 * read(workdir, 'result.json')['test_accuracy']
  assert out.count('\n') == 2 and f'test accuracy {accuracy:.2f} %' in out and not err


@pytest.mark.parametrize('name', ['result.json', 'model.json', 'weights*/*', 'controller.json'])
def test_what_is_damaged_afterwards_is_made_again_without_training(undisturbed, runner, tmp_path, capsys, name):
  workdir = shutil.copytree(undisturbed, tmp_path / 'w')
  damaged = [file for file in workdir.glob(name) if file.is_file()]
  for file in damaged:
    file.write_bytes(file.read_bytes()[:20])
  assert runner.here('search', workdir) == 0
  same_run(workdir, undisturbed)
  out = capsys.readouterr().out
  assert damaged and 'epoch' not in out
  if name != 'controller.json':  # Which a finished search does not need.
    assert 'made again' in out


@pytest.mark.once
def test_the_window_changes_no_decision(undisturbed, runner, tmp_path):
  assert runner.here('search', tmp_path, **{'egnas.window': 4, 'egnas.micro_window': 4}) == 0
  one, four = read(undisturbed, 'result.json'), read(tmp_path, 'result.json')
  for name in ('architecture', 'test_accuracy', 'train_accuracy', 'train_loss', 'curve'):
    assert four[name] == one[name]
  known = {record['key']: record for record in ledger(tmp_path)}
  for record in ledger(undisturbed):
    assert known[record['key']] == record


@pytest.mark.parametrize(('strategy', 'phases', 'changes'), [
    ('random', ['random'], {}), ('evolution', ['macro', 'micro'], {}),
    pytest.param('halving', ['rung 1', 'rung 2'], HALVING, marks=pytest.mark.once)])
def test_other_strategies(runner, tmp_path, strategy, phases, changes):
  assert runner.here('search', tmp_path, strategy=strategy, **changes) == 0
  records, result = ledger(tmp_path), read(tmp_path, 'result.json')
  assert len(records) == result['evaluations'] <= 4
  assert list(dict.fromkeys(record['request']['phase'] for record in records)) == phases
  best = max(record['evaluation']['metrics']['accuracy'] for record in records if record['request']['phase'] == phases[-1])
  winners = [r['request']['architecture'] for r in records if r['evaluation']['metrics']['accuracy'] == best]
  assert result['architecture'] in winners
  assert enas_jax.load(tmp_path).architecture.to_json() == result['architecture']


@pytest.mark.once
@pytest.mark.slow
def test_on_two_devices_with_two_slots_each_it_is_the_same(runner, tmp_path):
  """A whole rung trains at once: on one device one after the other, or all beside each other."""
  assert runner.here('search', tmp_path / 'one', strategy='halving', **HALVING) == 0
  out = runner.process('search', tmp_path / 'two', '--slots=2', devices=2, strategy='halving', **HALVING)
  assert '2 CPU devices train 2 candidates in turn each' in out
  one, two = (sorted(ledger(tmp_path / workdir), key=str) for workdir in ('one', 'two'))
  assert one == two and len(one) == 4
  same_training(tmp_path / 'one', tmp_path / 'two')


@pytest.mark.once
def test_another_seed_is_another_run(undisturbed, runner, tmp_path, monkeypatch):
  monkeypatch.setattr(search, 'fit_watched', lambda winner, *_, **__: {
      'architecture': winner.to_json(), 'test_accuracy': 0.5, 'params': 1, 'macs': 1, 'seconds': 0.0})
  assert runner.here('search', tmp_path, seed=1) == 0
  assert ledger(tmp_path)[0]['key'] == ledger(undisturbed)[0]['key']
  losses = [ledger(workdir)[0]['evaluation']['metrics']['train_loss'] for workdir in (tmp_path, undisturbed)]
  assert losses[0] != losses[1]


@pytest.mark.parametrize('strategy', ['egnas', 'evolution', 'halving', 'random'])
def test_failures_are_recorded_with_their_reasons_and_the_search_goes_on(find, tmp_path, strategy):
  table = Table(fails=lambda number: number % 3 == 2)
  result = find(table, strategy=strategy)
  records = ledger(tmp_path / 'w')
  failed = [r for r in records if r['evaluation']['reason']]
  assert len(failed) == len(records) // 3 or len(failed) == (len(records) + 1) // 3
  assert result['failures'] == [{'key': r['key'], 'reason': r['evaluation']['reason']} for r in failed]
  assert 'made-up failure 2' in result['failures'][0]['reason']
  assert result['evaluations'] == len(records) > 6


@pytest.mark.parametrize('strategy', ['egnas', 'evolution', 'halving', 'random'])
@pytest.mark.parametrize('window', [1, 5])
def test_nothing_is_asked_twice_and_the_ledger_is_in_order_of_arrival(find, tmp_path, strategy, window):
  table = Table()
  batches = {'egnas.window': window, 'egnas.micro_window': window, 'evolution.batch': window, 'random.batch': window}
  result = find(table, strategy=strategy, **batches)
  keys = [r.key for r in table.asked]
  assert len(set(keys)) == len(keys) == result['evaluations']
  assert [r['key'] for r in ledger(tmp_path / 'w')] == table.answered == keys


@pytest.mark.parametrize('strategy', ['egnas', 'evolution', 'halving', 'random'])
def test_answers_may_come_in_any_order(find, tmp_path, strategy):
  batches = {'egnas.window': 5, 'egnas.micro_window': 5, 'evolution.batch': 5, 'random.batch': 5}
  result = find(Table(), tmp_path / 'a', strategy=strategy, **batches)
  reverse = find(table := Table(order=reversed), tmp_path / 'b', strategy=strategy, **batches)
  assert reverse['architecture'] == result['architecture']
  one, other = ledger(tmp_path / 'a'), ledger(tmp_path / 'b')
  assert one != other and sorted(one, key=str) == sorted(other, key=str)
  assert [r['key'] for r in other] == table.answered


@pytest.mark.parametrize('strategy', ['egnas', 'evolution', 'halving', 'random'])
@pytest.mark.parametrize('controller', [
    None, 'as it was', '', '{"evaluations": 5, "sta', '[]', '{}', '{"evaluations": 5, "state": {"colour": "x"}}', '\0'])
def test_the_ledger_leads_back_to_the_result(find, tmp_path, capsys, strategy, controller):
  result, file = find(Table(), strategy=strategy), tmp_path / 'w' / 'controller.json'
  (tmp_path / 'w' / 'result.json').unlink()
  if controller is None:
    file.unlink()
  elif controller != 'as it was':
    file.write_text(controller)
  capsys.readouterr()
  again = find(table := Table(), strategy=strategy)
  assert not table.asked and again == {**result, 'peak_memory_bytes': again['peak_memory_bytes']}
  notices = [line for line in capsys.readouterr().out.splitlines() if line.endswith(' and is made again')]
  assert len(notices) == (controller not in (None, 'as it was'))
  assert all(str(file) in notice for notice in notices)


def test_many_failures_in_a_row_end_the_search_with_a_reason(find, tmp_path):
  table = Table(fails=lambda number: number > 4)
  with pytest.raises(UserError, match='5 candidates in a row failed, the last: made-up failure 9') as error:
    find(table, strategy='random', **{'max_failures_in_a_row': 5, 'random.batch': 1})
  assert '\n' not in str(error.value)
  assert len(ledger(tmp_path / 'w')) == 9
  assert not (tmp_path / 'w' / 'result.json').exists()


def test_failures_in_a_row_are_counted_anew_after_a_success(find):
  assert find(Table(fails=lambda number: number % 5), strategy='random', max_failures_in_a_row=5)['evaluations'] == 20


@pytest.mark.parametrize('strategy', ['egnas', 'evolution', 'halving', 'random'])
def test_without_a_success_there_is_no_winner(find, tmp_path, strategy):
  for _ in range(2):  # The same command says the same.
    with pytest.raises(UserError, match=r'none of \d+ candidates succeeded; see the reasons in .*ledger.jsonl'):
      find(Table(fails=lambda number: True), strategy=strategy, max_failures_in_a_row=100)
  assert all(record['evaluation']['reason'] for record in ledger(tmp_path / 'w'))


def test_a_search_refuses_the_workdir_of_a_training(find, tmp_path):
  (tmp_path / 'w').mkdir()
  (tmp_path / 'w' / 'architecture.json').write_text('{}')
  with pytest.raises(UserError, match=r"not a search's; choose another --workdir"):
    find(Table())


@pytest.mark.parametrize(('depth', 'width', 'largest'), [
    (6, 4, 'the largest depth and width'), (6, 3, 'the largest depth'), (4, 4, 'the largest width'), (4, 3, None), (3, 1, None),
    (7, 2, 'more than the largest depth'), (4, 5, 'more than the largest width')])
def test_a_winner_at_the_bound_of_its_space_is_told_of(depth, width, largest):
  space = enas_jax.spaces.ChainSpace(min_depth=3, max_depth=6, min_width=1, max_width=4, width_step=1)
  network = enas_jax.spaces.ChainArchitecture.uniform
  text = search._at_bound(space, network(depth, width), [network(depth, width), network(3, 1)])
  assert text == ((largest and f'the best network has {largest} of its space; a larger one may hold a better network: '
                  'config.chain') or '')
  assert not search._at_bound(space, network(depth, width), [network(depth + 1, width), network(depth, width + 1)])
  one = enas_jax.spaces.ChainSpace(min_depth=3, max_depth=3, min_width=4, max_width=4)
  assert not search._at_bound(one, network(3, 4), [])
  assert not search._at_bound(enas_jax.spaces.NasBench201Space(), None, [])


@pytest.mark.parametrize(('number', 'text'), [
    (12_345_678, '12.3 M'), (1_000_000, '1.0 M'), (432_100, '0.432 M'), (43_210, '0.0432 M'), (9_876, '9,876'), (0, '0')])
def test_multiply_adds_have_three_digits_below_a_million(number, text):
  assert search._macs(number) == text

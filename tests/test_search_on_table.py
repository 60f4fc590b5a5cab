"""A search whose candidates are looked up in a table: only its last act, the training of the winner, would take time."""
import numpy as np
import pytest
from support.run_records import ledger

from enas_jax import data, search, tables
from enas_jax.progress import Progress
from enas_jax.spaces import NasBench201Space
from enas_jax.workdir import Workdir

pytest_plugins = ['support.search_fixtures']

SETTINGS = {'estimator': 'table', 'space': 'nasbench201', 'strategy': 'random', 'epochs.first': 200, 'budget.evaluations': 40}


@pytest.fixture
def find(runner, tmp_path, monkeypatch):
  """Searches on a table and returns result.json's record. The winner is not trained: benchmarks' networks take minutes."""
  dataset = data.load(f'npz:{runner.images}')
  monkeypatch.setattr(search, 'fit_watched', lambda winner, *_, **__: {'architecture': winner.to_json(), 'seconds': 0.0})

  def run(**changes):
    config = runner.config(**{**SETTINGS, **changes})
    with Workdir.open(tmp_path / 'w', config, data_checksum=dataset.checksum) as workdir, Progress() as progress:
      return search.search(config, dataset, workdir, progress)

  return run


def answers(workdir, space):
  """Every candidate of the ledger with its metrics."""
  return [(space.from_json(r['request']['architecture']), r['evaluation']['metrics']) for r in ledger(workdir)]


@pytest.mark.parametrize(('changes', 'dataset', 'column'), [
    ({}, 'cifar10', 'valid/200'),
    ({'strategy': 'regularized_evolution', 'table.dataset': 'cifar100'}, 'cifar100', 'valid/200'),
    ({'table.score': 'test', 'epochs.first': 12}, 'cifar10', 'test/12'),
    ({'strategy': 'local_search', 'space': 'nasbench_macro', 'table.score': 'test', 'epochs.first': 50}, 'cifar10', 'test/50'),
    ({'strategy': 'nsga2', 'space': 'nasbench101', 'epochs.first': 108}, 'cifar10', 'valid/108'),
])
def test_candidates_have_the_tables_values_and_the_best_is_trained(find, tmp_path, changes, dataset, column):
  result = find(**changes)
  name = {'nasbench101': 'nasbench101_subset'}.get(space := changes.get('space', 'nasbench201'), space)
  table = tables.load(name)
  known = answers(tmp_path / 'w', table.space)
  for architecture, metrics in known:
    row = table.row(architecture)
    assert metrics['accuracy'] == table.column(f'{dataset}/{column}')[row]
    assert metrics['params'] == table.column(f'{dataset}/params')[row]
  assert len(known) == result['evaluations'] == 40 and result['failures'] == []
  assert result['architecture'] == max(known, key=lambda answer: answer[1]['accuracy'])[0].to_json()
  assert result['population'] == {'queries': 40, 'full_trainings': pytest.approx(40 if '12' not in column else 40 * 12 / 200)}
  assert result['search_train_macs'] == 0


def test_a_search_resumes_without_asking_again(find, tmp_path):
  first = find()
  known = ledger(tmp_path / 'w')
  assert {**find(), 'seconds': 0, 'peak_memory_bytes': 0, 'population': {}} == {
      **first, 'seconds': 0, 'peak_memory_bytes': 0, 'population': {}}
  assert ledger(tmp_path / 'w') == known


def test_halving_over_the_tables_fidelities(find, tmp_path):
  result = find(**{'strategy': 'halving', 'halving.candidates': 9, 'halving.fidelities': (12, 200)})
  epochs = [record['request']['schedule']['epochs'] for record in ledger(tmp_path / 'w')]
  assert epochs == [12] * 9 + [200] * 3 and result['failures'] == []
  assert result['population']['full_trainings'] == pytest.approx(9 * 12 / 200 + 3)


def test_a_table_of_ones_own(find, tmp_path):
  space, rng = NasBench201Space(), np.random.default_rng(0)
  texts = list(dict.fromkeys(space.to_string(space.sample(rng)) for _ in range(50)))
  path = tmp_path / 'mine.csv'
  path.write_text('architecture,mine/valid/5\n' + ''.join(f'{text},{rng.random():.3f}\n' for text in texts))
  result = find(**{'table.name': str(path), 'table.dataset': 'mine', 'epochs.first': 5, 'budget.evaluations': 99})
  known = answers(tmp_path / 'w', space)
  assert {space.to_string(cell) for cell, _ in known} == set(texts) and len(known) == len(texts)
  assert result['architecture'] == max(known, key=lambda answer: answer[1]['accuracy'])[0].to_json()


@pytest.mark.parametrize(('changes', 'message'), [
    ({'epochs.first': 7}, 'config.epochs.first 7: the table has trainings of other epochs; give 12 or 200'),
    ({'strategy': 'halving'}, 'config.halving.fidelities (): the table has whole trainings alone; give (12, 200)'),
    ({'table.dataset': 'mnist'}, "table nasbench201 has no data set 'mnist'; it has cifar10, cifar100, imagenet16-120"),
    ({'table.score': 'train'}, "table nasbench201 has no split 'train' of cifar10; it has valid, test"),
    ({'table.name': 'nats_size'}, "table nats_size is of space 'nats_size', not 'nasbench201'"),
    ({'table.name': 'nowhere.csv'}, 'nowhere.csv cannot be read'),
    ({'space': 'darts'}, "no table of space 'darts' comes with the package"),
    ({'strategy': 'egnas'}, "space 'nasbench201' has no depth and width to walk in"),
    ({'estimator': 'tables'}, "config.estimator 'tables' is unknown; give one of table, trained"),
])
def test_what_does_not_fit(find, user_error, changes, message):
  with user_error(message):
    find(**changes)


def test_on_the_command_line(runner, tmp_path, capsys):
  flags = [f'--config.{name}={value}' for name, value in {**SETTINGS, 'epochs.first': 7}.items()]
  assert runner.here('search', tmp_path / 'w', *flags) == 2
  assert capsys.readouterr().err == (
      'error: config.epochs.first 7: the table has trainings of other epochs; give 12 or 200\n')


def test_the_folder_is_free_after_a_refusal_and_refuses_another_table(runner, tmp_path, capsys, monkeypatch):
  monkeypatch.setattr(search, 'fit_watched', lambda winner, *_, **__: {
      'architecture': winner.to_json(), 'seconds': 0.0, 'test_accuracy': 0.5, 'params': 1, 'macs': 1})
  path = tmp_path / 'mine.csv'
  path.write_text('architecture,mine/valid/5\n22212202,.5\n22212201,.6\n')
  settings = {**SETTINGS, 'space': 'nasbench_macro', 'table.name': str(path), 'table.dataset': 'mine'}

  def run(**changes):
    flags = [f'--config.{name}={value}' for name, value in {**settings, **changes}.items()]
    code = runner.here('search', tmp_path / 'w', *flags)
    return code, capsys.readouterr().err

  assert run(**{'epochs.first': 7})[0] == 2
  assert run(**{'epochs.first': 5})[0] == 0
  path.write_text('architecture,mine/valid/5\n22212202,.5\n22212201,.4\n')
  code, err = run(**{'epochs.first': 5})
  assert code == 2 and 'was started on other data' in err

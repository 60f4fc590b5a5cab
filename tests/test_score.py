"""The command that scores networks without training."""
import csv
import dataclasses
import json

import numpy as np
import pytest
import scipy.stats

from enas_jax import cli, score, spaces, tables
from enas_jax.data import arrays
from enas_jax.estimators import scoring
from enas_jax.scores import SCORES, Plain, register, report

SMALL = ('--config.nasbench201.channels=2', '--config.nasbench201.cells=1')
RNG = np.random.default_rng(0)


@pytest.fixture(scope='module')
def images(tmp_path_factory):
  """The name of a small data set, which has as many images as the hungriest score of these tests looks at."""
  path = tmp_path_factory.mktemp('data') / 'small.npz'
  parts = {}
  for part, count in (('train', 140), ('test', 4)):
    parts |= {f'x_{part}': RNG.integers(0, 256, (count, 6, 6, 1), np.uint8), f'y_{part}': np.arange(count) % 4}
  np.savez(path, **parts)
  return f'--config.data.name=npz:{path}'


@pytest.fixture
def run(images, tmp_path, capsys):
  """Runs the command with flags; returns exit code, output and folder."""
  def call(*flags, folder='w', data=images):
    with pytest.raises(SystemExit) as ended:
      cli.run(score.main, define_flags=score._define_flags, trains=False, argv=[
          'score', f'--workdir={tmp_path / folder}', '--compilation_cache=none', data, *flags])
    out, err = capsys.readouterr()
    return ended.value.code or 0, out + err, tmp_path / folder
  return call


def read(folder):
  """The rows of scores.csv."""
  return list(csv.DictReader((folder / 'scores.csv').open()))


@pytest.mark.slow
def test_a_space_is_scored_in_one_program_and_compared_with_its_table(run):
  flags = ('--space=nasbench201', *SMALL, '--scores=params,naswot,grad_norm')
  code, out, folder = run(*flags, '--sample=6')
  assert code == 0 and 'one program for all members' in out and '6 of 6 scored' in out
  rows, table, space = read(folder), tables.load('nasbench201'), spaces.make_default('nasbench201')
  assert len({row['architecture'] for row in rows}) == 6
  for row in rows:
    place = table.row(space.from_string(row['architecture']))
    assert float(row['cifar10/test/200']) == table.columns['cifar10/test/200'][place]
    assert all(np.isfinite(float(row[name])) for name in ('params', 'naswot', 'grad_norm'))
  truth, values = ([float(row[name]) for row in rows] for name in ('cifar10/test/200', 'naswot'))
  line = next(line for line in (folder / 'table.md').read_text().splitlines() if 'naswot | cifar10/test' in line)
  assert float(line.split('|')[4]) == pytest.approx(scipy.stats.spearmanr(truth, values).statistic, abs=1e-3)
  assert (folder / 'correlations.svg').read_text().count('naswot')
  before = (folder / 'scores.csv').read_bytes()
  code, out, _ = run(*flags, '--sample=6')
  assert code == 0 and '0 networks to score, 6 are there' in out and (folder / 'scores.csv').read_bytes() == before
  code, out, _ = run(*flags, '--sample=8')  # More may be asked for later.
  assert code == 0 and '2 networks to score, 6 are there' in out
  assert read(folder)[:6] == rows and len(read(folder)) == 8
  # One of them alone has the same scores: who is scored beside it does not matter.
  alone = folder.parent / 'alone.txt'
  alone.write_text(f"\n{rows[4]['architecture']}\n{rows[4]['architecture']}\n")
  code, _, other = run(*flags, f'--architectures={alone}', folder='v')
  assert code == 0 and read(other) == [rows[4]]
  assert not (other / 'table.md').exists()  # A single network has no rank.
  code, out, _ = run(*flags[:-1], '--scores=params', '--sample=6')
  assert code == 2 and 'scores' in out  # Other scores are another run.


@pytest.mark.slow
def test_a_space_without_a_supernet_is_scored_by_its_modules(run):
  flags = ('--space=chain', '--config.chain.min_depth=4', '--config.chain.max_depth=4', '--config.chain.min_width=2',
           '--config.chain.max_width=3', '--config.chain.kernels=(3,)', '--sample=2', '--scores=macs,naswot')
  code, out, folder = run(*flags)
  assert code == 0 and 'a program for each network' in out
  assert [float(row['macs']) > 0 and np.isfinite(float(row['naswot'])) for row in read(folder)] == [True, True]
  assert not (folder / 'table.md').exists()


class Broken(Plain):
  """A score that is no number."""

  images = 2

  def measure(self, network, batch, key):
    del network, key
    return batch.images.sum() * float('nan')


def test_what_is_no_number_is_left_out_and_the_rest_goes_on(run, monkeypatch):
  monkeypatch.setattr(SCORES, '_entries', dict(SCORES._entries))
  register('broken')(Broken)
  code, _, folder = run('--space=nasbench201', *SMALL, '--scores=params,broken', '--sample=2')
  assert code == 0
  assert [(row['params'] != '', row['broken']) for row in read(folder)] == [(True, '')] * 2
  code, _, folder = run('--space=nasbench201', *SMALL, '--scores=broken', '--sample=2', folder='v')
  assert code == 0
  records = [json.loads(line) for line in (folder / 'ledger.jsonl').read_text().splitlines()]
  assert [record['evaluation']['reason'] for record in records] == ['no score is a finite number'] * 2


class Picky(Plain):
  """A score that some networks cannot have."""

  images = 2

  def measure(self, network, batch, key):
    raise ValueError('no such network')


def test_a_score_that_fails_leaves_the_others(run, monkeypatch):
  monkeypatch.setattr(SCORES, '_entries', dict(SCORES._entries))
  register('picky')(Picky)
  flags = ('--space=chain', '--config.chain.min_depth=4', '--config.chain.max_depth=4', '--config.chain.max_width=3',
           '--config.chain.min_width=2', '--sample=1')
  code, out, folder = run(*flags, '--scores=params,picky,ntk_estimate')
  assert code == 0 and 'picky: ValueError: no such network' in out and '1 of 1 lack a score' in out
  (row,) = read(folder)
  assert float(row['params']) > 0 and float(row['ntk_estimate']) > 0 and row['picky'] == ''


def test_the_worst_is_not_unknown(run, tmp_path):
  """Through a cell of nothing nothing flows: SynFlow is minus infinity, and stays so when the run is resumed."""
  (tmp_path / 'cells').write_text('|none~0|+|none~0|none~1|+|none~0|none~1|none~2|\n')
  for _ in range(2):
    code, _, folder = run('--space=nasbench201', *SMALL, '--scores=synflow', f'--architectures={tmp_path / "cells"}')
    assert code == 0 and [row['synflow'] for row in read(folder)] == ['-inf']


def test_limits_hold(run):
  code, _, folder = run('--space=nasbench201', *SMALL, '--scores=params', '--sample=5', '--config.limits.params=2000')
  assert code == 0 and all(float(row['params']) <= 2000 for row in read(folder))


@pytest.mark.parametrize('name', ['all', 'params', 'vote'])
def test_names_with_another_meaning_are_refused(name, user_error):
  with user_error(f"score '{name}'", 'give another'):
    register(name)(Broken)


@pytest.mark.parametrize(('flags', 'message'), [
    (('--scores=naswott',), "score 'naswott' is unknown; give one of az_expressivity"),
    (('--scores=',), 'scores'),
    (('--sample=0',), '--sample=0 is below 1'),
    (('--space=nasbench',), '--space=nasbench is unknown'),
    (('--architectures=/no/such/file',), '/no/such/file cannot be read'),
    (('--space=nasbench201', '--architectures={bad}'), 'line 2'),
    (('--space=nasbench201', '--architectures={empty}'), 'has no architecture'),
    (('--scores=zico',), "score 'zico' looks at 256 images and there are 140"),
])
def test_bad_input(run, flags, message, tmp_path):
  (tmp_path / 'bad').write_text('|none~0|+|none~0|none~1|+|none~0|none~1|none~2|\nnonsense\n')
  (tmp_path / 'empty').write_text('\n')
  code, out, _ = run(*(flag.format(bad=tmp_path / 'bad', empty=tmp_path / 'empty') for flag in flags))
  assert code == 2 and message in out and 'Traceback' not in out
  assert len(out.strip().splitlines()) <= 3


def test_images_that_tell_nothing_are_refused(user_error):
  images, labels = RNG.integers(0, 256, (8, 4, 4, 1), np.uint8), np.arange(8) % 2

  def dataset(**changes):
    made = arrays.from_arrays(images, labels, images, labels)
    return dataclasses.replace(made, train=made.train._replace(**changes))

  assert score.first_images(dataset(), 0, 6)[0].shape == (6, 4, 4, 1)
  with user_error('all images are alike'):
    score.first_images(dataset(images=np.ones_like(images)), 0, 8)
  with user_error('1 class', 'at least two'):
    score.first_images(dataset(labels=np.zeros(8, int)), 0, 8)
  with user_error('1 images'):
    score.first_images(dataset(images=images[:1], labels=labels[:1]), 0, 8)


def test_votes():
  values = {'synflow': [1., 2, 3], 'jacob_cov': [30., 10, 20], 'snip': [5., np.nan, 4]}
  found = report.with_votes({name: np.array(column) for name, column in values.items()})
  # The first is beaten by the others by synflow alone; the second is the worst by the two others.
  np.testing.assert_array_equal(found['vote'], [2, 0, 1])
  assert 'az_nas' not in found
  values = {'az_expressivity': [1., 2, 3], 'az_progressivity': [30., 10, 20], 'az_trainability': [5., -np.inf, 4],
            'macs': [1., 1, 2]}
  found = report.with_votes({name: np.array(column) for name, column in values.items()})
  ranks = np.array([[1, 2, 3], [3, 1, 2], [3, 1, 2], [1.5, 1.5, 3]])
  np.testing.assert_allclose(found['az_nas'], np.log(ranks / 3).sum(0))


def test_correlations_leave_out_what_is_not_known():
  scores, truth = np.array([1., 2, 3, 4, np.nan]), np.array([2., 1, np.nan, 5, 6])
  (record,) = report.correlations({'s': scores}, {'d/test/1': truth})
  assert record['networks'] == 3 and record['spearman'] == pytest.approx(0.5) and record['best by score'] == 5
  worst = np.where(scores == 4, -np.inf, scores)  # Ranks last.
  (record,) = report.correlations({'s': worst}, {'d/test/1': truth})
  assert record['networks'] == 3 and record['spearman'] == pytest.approx(-1)
  assert report.correlations({'s': scores[:2]}, {'d/test/1': truth[:2]}) == []


def test_names(user_error):
  assert scoring.names(['naswot', 'all'])[:3] == ('naswot', 'params', 'macs')
  assert set(scoring.names(['all'])) == {'params', 'macs', *SCORES}
  with user_error('no scores are asked for'):
    scoring.names([])

"""What a short training tells of a long one, by its schedule: mean accuracy, noise between replicates, rank correlation.

  python benchmarks/short_schedules.py --workdir=DIR [--config.FIELD=VALUE] [--chains=30] [--replicates=3] [--epochs=2]
    [--final_epochs=24] [--only=NAME,NAME] [--others='decay=linear,learning_rate=0.1;...']

Random chains of the space train under each schedule, and for long under the config's own. Everything is scored on the held-out
images. Prints a table: the mean of all accuracies; the standard deviation between replicates of one chain, pooled over chains;
Spearman's rank correlation of one replicate's score with the long training's mean, averaged over replicates; the same of the
training loss of the last epoch, lower being better. Finished trainings are kept in the folder's ledger, so that the same
command with more schedules goes on.
"""
import dataclasses

import numpy as np
from absl import flags

from enas_jax import cli, data, estimators, spaces
from enas_jax.ledger import Ledger
from enas_jax.predictors.report import rank_correlation
from enas_jax.types import Request, Schedule
from enas_jax.workdir import Workdir

PLAIN = {'decay': 'cosine', 'warmup': 0.0, 'settle': 0.0, 'nesterov': False, 'label_smoothing': 0.0, 'rate_steps_first': False}
SCHEDULES = {  # Changes of the plain one.
    'between epochs': {'decay': 'epoch_cosine'},
    'between epochs, stepped first': {'decay': 'epoch_cosine', 'rate_steps_first': True},
    'cosine': {'decay': 'cosine'},
    'linear': {'decay': 'linear'},
    'cosine, warmup': {'decay': 'cosine', 'warmup': 0.1},
    'cosine, settle': {'decay': 'cosine', 'settle': 0.1},
    'cosine, nesterov': {'decay': 'cosine', 'nesterov': True},
    'cosine, smoothing': {'decay': 'cosine', 'label_smoothing': 0.1},
}


def main(values):
  """Trains, and prints the table."""
  config = values.config
  dataset = data.load(config.data.name, data_dir=values.data_dir)
  space, rng = spaces.make(config), np.random.default_rng(values.draw)
  chains = [space.sample(rng) for _ in range(values.chains)]
  base = Schedule(epochs=values.epochs, **config.training.to_dict())
  rows = {name: SCHEDULES[name] for name in (list(SCHEDULES) if values.only is None else filter(None, values.only.split(',')))}
  rows |= {text: _changes(text) for text in (values.others or '').split(';') if text}
  schedules = {name: dataclasses.replace(base, **{**PLAIN, **changes}) for name, changes in rows.items()}
  final = dataclasses.replace(base, epochs=values.final_epochs)
  asked = {name: [Request(chain, schedule, r) for chain in chains for r in range(values.replicates)]
           for name, schedule in schedules.items()}
  asked[''] = [Request(chain, final, r) for chain in chains for r in range(values.final_replicates)]
  with Workdir.open(values.workdir, config, data_checksum=dataset.checksum) as workdir:
    ledger = Ledger(workdir.ledger, space.from_json)
    estimator = estimators.make(
        config, space, dataset, execution=estimators.execution(config.precision, workdir.path, **cli.execution_flags(values)))
    new = [r for requests in asked.values() for r in requests if ledger.get(r) is None]
    for count, (index, evaluation) in enumerate(estimator.estimate(new), 1):
      ledger.add(new[index], evaluation)
      if count % 20 == 0:
        print(f'{count} of {len(new)} trained', flush=True)
    found, losses = ({name: np.array([ledger.get(r).metrics[metric] for r in requests]).reshape(len(chains), -1)
                      for name, requests in asked.items()} for metric in ('accuracy', 'train_loss'))
  truth = found.pop('').mean(1) if values.final_replicates else None
  after = '' if truth is None else f'; after {values.final_epochs} epochs {100 * truth.mean():.2f} %'
  print(f'{len(chains)} chains, {values.epochs} epochs{after}')
  print('| schedule | accuracy % | between replicates, points | worst chain | rank correlation | by training loss |')
  print('| --- | --- | --- | --- | --- | --- |')
  for name, scores in found.items():
    spread = scores.std(1, ddof=1)
    ranks = ' | ' if truth is None else ' | '.join(
        f'{np.mean([rank_correlation(column, truth).spearman for column in table.T]):.3f}' for table in (scores, -losses[name]))
    points = ' | '.join(f'{100 * x:.2f}' for x in (scores.mean(), np.sqrt((spread**2).mean()), spread.max()))
    print(f'| {name} | {points} | {ranks} |')


def _changes(text):
  pairs = (pair.split('=') for pair in text.split(','))
  kinds = {f.name: type(f.default) for f in dataclasses.fields(Schedule)} | {'epochs': int}
  return {name: value == 'True' if kinds[name] is bool else kinds[name](value) for name, value in pairs}


def _define_flags(values):
  flags.DEFINE_integer('chains', 30, 'How many chains.', flag_values=values)
  flags.DEFINE_integer('draw', 0, 'Seed of their choice.', flag_values=values)
  flags.DEFINE_integer('replicates', 3, 'Of each short training.', flag_values=values)
  flags.DEFINE_integer('final_replicates', 2, 'Of each long training; 0 leaves them out.', flag_values=values)
  flags.DEFINE_integer('epochs', 2, 'Of each short training.', flag_values=values)
  flags.DEFINE_integer('final_epochs', 24, 'Of each long training.', flag_values=values)
  flags.DEFINE_string('only', None, 'Schedules of this file, by commas; default: all; a comma: none.', flag_values=values)
  flags.DEFINE_string('others', None, 'Further schedules, as changes of the plain one, by semicolons.', flag_values=values)


if __name__ == '__main__':
  cli.run(main, define_flags=_define_flags)

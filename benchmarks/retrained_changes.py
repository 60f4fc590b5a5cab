"""Whether what searches accepted is better when it is trained to the end: each accepted change, before and after.

  python benchmarks/retrained_changes.py --workdir=DIR --searches=RUN,RUN,... [--replicates=5] [--config.seed=100]

`--searches` are folders of finished searches with `egnas`. Their accepted changes are read from result.json, and every
network before or after one trains anew for `config.epochs.final` epochs, with other weights and batches and (another seed)
other held-out images, which score it. Give a seed that no search had. Prints a row for each change: how many searches
accepted it, the mean gain with its standard error over pairs of replicates; then the share of accepted changes after which
the mean is at least as good. Finished trainings are kept in the folder's ledger, so that the same command with more searches
or replicates goes on.
"""
import collections
import json
import statistics

from absl import flags

from enas_jax import cli, data, estimators, paths, spaces
from enas_jax.errors import UserError
from enas_jax.ledger import Ledger
from enas_jax.types import Request, Schedule
from enas_jax.workdir import Workdir


def accepted(folder, space):
  """Yields (before, after) of each change that a finished search accepted, as architectures."""
  requests = [json.loads(line)['request'] for line in (folder / 'ledger.jsonl').read_text().splitlines()]
  members = [space.from_json(request['architecture']) for request in requests]
  by_text = {str(member): member for member in members}
  before = members[0]  # A walk begins with the network that all others are compared with.
  for decision in json.loads((folder / 'result.json').read_text())['decisions']:
    if decision['accepted']:
      yield before, (before := by_text[decision['network']])


def main(values):
  """Trains, and prints the table."""
  config, space = values.config, spaces.make(values.config)
  folders = [paths.read(name, '--searches=') for name in values.searches]
  for folder in folders:
    searched = json.loads((folder / 'config.json').read_text())['config']
    if searched['seed'] == config.seed:
      raise UserError(f'--config.seed={config.seed} is that of {folder}; give a fresh one')
  changes = collections.Counter(change for folder in folders for change in accepted(folder, space))
  networks = list(dict.fromkeys(network for change in changes for network in change))
  final = Schedule(**{**config.training.to_dict(), 'epochs': config.epochs.final})
  dataset = data.load(config.data.name, data_dir=values.data_dir)
  with Workdir.open(values.workdir, config, data_checksum=dataset.checksum) as workdir:
    ledger = Ledger(workdir.ledger, space.from_json)
    estimator = estimators.make(
        config, space, dataset, execution=estimators.execution(config.precision, workdir.path, **cli.execution_flags(values)))
    new = [r for r in (Request(n, final, i) for n in networks for i in range(values.replicates)) if ledger.get(r) is None]
    for index, evaluation in estimator.estimate(new):
      ledger.add(new[index], evaluation)
      print(f'{new[index].architecture}: {100 * evaluation.accuracy:.2f} %', flush=True)
    scores = {n: [ledger.get(Request(n, final, i)).accuracy for i in range(values.replicates)] for n in networks}
  print('| before | after | searches | before % | after % | gain, points |')
  print('| --- | --- | --- | --- | --- | --- |')
  good = 0
  for (before, after), count in changes.items():
    gains = [100 * (a - b) for a, b in zip(scores[after], scores[before], strict=True)]
    mean, error = statistics.mean(gains), statistics.stdev(gains) / len(gains)**0.5
    good += count * (mean >= 0)
    print(f'| {before} | {after} | {count} | {100 * statistics.mean(scores[before]):.2f} '
          f'| {100 * statistics.mean(scores[after]):.2f} | {mean:+.2f} ± {error:.2f} |')
  print(f'at least as good after {good} of {changes.total()} accepted changes')


def _define_flags(values):
  flags.DEFINE_list('searches', None, 'Folders of finished searches.', required=True, flag_values=values)
  flags.DEFINE_integer('replicates', 5, 'Of each network, at least 2.', lower_bound=2, flag_values=values)


if __name__ == '__main__':
  cli.run(main, define_flags=_define_flags)

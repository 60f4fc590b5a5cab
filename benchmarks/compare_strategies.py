"""EG-NAS against other strategies at equal training cost, and against networks that nobody searched, over several seeds.

    python benchmarks/compare_strategies.py --seeds=5 --workdir=DIR [--strategies=random,evolution] [--config.FIELD=VALUE ...]

For each seed EG-NAS searches first; what it spent (multiply-adds of training) is the budget of the others. All winners get
the same final training, and so do three chains without a search: `middle`, the control of every search (control.py);
`largest`, the plain chain of the space with the most parameters within config.limits; and `by hand`, six layers with 5x5
kernels, as wide as the winner has parameters for. Give --config.limits.params, so that all have the same room.

Prints a table, with each row's difference from EG-NAS over the seeds in pairs and the p-value of the paired t-test, and writes
DIR/comparison.json and DIR/comparison.svg. Searches resume, so that a stopped comparison goes on, and one of fewer strategies
or seeds can be continued. Seeds run side by side, each on its share of the cores; compiled programs are shared.
"""
import argparse
import concurrent.futures
import json
import os
import queue
import statistics
import subprocess
import sys

import scipy.stats

from enas_jax import data, paths, settings, spaces
from enas_jax.config import get_config
from enas_jax.fields import flatten
from enas_jax.spaces import ChainArchitecture, Limits

HAND_DEPTH, HAND_KERNEL = 6, 5


class Runner:
  """Runs the package's commands in a folder, each on a share of the cores."""

  def __init__(self, folder, flags, workers):
    self.folder, self._flags = folder, [*flags, f'--compilation_cache={folder / "programs"}']
    cores = sorted(os.sched_getaffinity(0))
    self._shares = queue.SimpleQueue()
    for worker in range(workers):
      self._shares.put(cores[worker::workers])

  def run(self, command, name, flags):
    """Runs a command to its end, unless it was, and returns its result.json."""
    result = self.folder / name / 'result.json'
    if not result.exists():
      share = self._shares.get()
      try:
        subprocess.run(
            [sys.executable, '-m', f'enas_jax.{command}', f'--workdir={self.folder / name}', *self._flags, *flags], check=True,
            stdout=subprocess.DEVNULL, preexec_fn=lambda: os.sched_setaffinity(0, share))
      finally:
        self._shares.put(share)
    return json.loads(result.read_text())

  def train(self, architecture, name, flags):
    """Trains a network as a search trains its winner."""
    self.folder.mkdir(parents=True, exist_ok=True)
    file = self.folder / f'{name}.json'
    file.write_text(json.dumps(architecture.to_json()))
    return {**self.run('train', name, [f'--architecture={file}', *flags]), 'evaluations': 0, 'search_train_macs': 0}

  def seed(self, seed, others):
    """Returns the results of one seed, by name."""
    seeded = [f'--config.seed={seed}']
    winner = self.run('search', f'egnas_{seed}', [*seeded, '--config.strategy=egnas'])
    found = {'egnas': winner, 'middle': {**winner, **winner['control'], 'evaluations': 0, 'search_train_macs': 0}}
    for name, network in unsearched(self.folder / f'egnas_{seed}' / 'config.json', winner).items():
      found[name] = self.train(network, f'{name.replace(" ", "_")}_{seed}', seeded)
    for name in others:
      batch = [f'--config.{name}.batch=1'] if name != 'halving' else []  # So that little of the budget is left over.
      found[name] = self.run('search', f'{name}_{seed}', [
          *seeded, f'--config.strategy={name}', '--config.control=false', '--config.budget.evaluations=0', *batch,
          f"--config.budget.train_macs={winner['search_train_macs']}"])
    for name, result in found.items():
      print(f"seed {seed}, {name}: {100 * result['test_accuracy']:.2f} %, {result['params']:,} parameters", flush=True)
    return found


def unsearched(file, winner):
  """The plain chains that are trained without a search, by name; `file` has the settings of the search."""
  config = get_config()
  config.update_from_flattened_dict({
      name: tuple(value) if isinstance(value, list) else value
      for name, value in flatten(json.loads(file.read_text())['config']).items()})
  task = data.load(config.data.name).task
  space, limits = spaces.make(config, 'chain'), settings.read(Limits, config.limits, 'limits')
  plain = [ChainArchitecture.uniform(depth, width, kernel=space.kernels[0]) for depth in space.depths for width in space.widths]
  within = [network for network in plain if limits.allow(network, space, task)]
  hand = (ChainArchitecture.uniform(HAND_DEPTH, width, kernel=HAND_KERNEL) for width in range(1, 1000))
  return {
      'largest': max(within, key=lambda network: space.num_params(network, task)),
      'by hand': min(hand, key=lambda network: abs(space.num_params(network, task) - winner['params'])),
  }


def row(name, results, reference):
  """Mean and standard deviation over seeds, and the difference from the reference with its standard error, as text."""
  accuracy = [100 * r['test_accuracy'] for r in results]
  cost = statistics.mean([r['search_train_macs'] / 1e12 for r in results])
  more = [100 * (r['test_accuracy'] - other['test_accuracy']) for r, other in zip(results, reference, strict=True)]
  error = statistics.stdev(more) / len(more)**0.5
  p = f'{scipy.stats.ttest_1samp(more, 0).pvalue:.3f}' if error else ''
  return (f'| {name} | {statistics.mean(accuracy):.2f} ± {statistics.stdev(accuracy):.2f} '
          f'| {", ".join(f"{a:.2f}" for a in accuracy)} | {statistics.mean([r["params"] for r in results]):,.0f} '
          f'| {statistics.mean([r["macs"] / 1e6 for r in results]):.2f} '
          f'| {statistics.mean([r["evaluations"] for r in results]):.0f} '
          f'| {cost:.2f} | {statistics.mean(more):+.2f} ± {error:.2f} | {p} |')


def draw(results, path):
  """Draws the test accuracy of every seed against parameters and against the cost of the search."""
  from matplotlib.figure import Figure

  figure = Figure(figsize=(9, 3.6), layout='constrained')
  panels = figure.subplots(1, 2, sharey=True)
  for name, done in results.items():
    accuracy = [100 * r['test_accuracy'] for r in done]
    panels[0].scatter([r['params'] for r in done], accuracy, label=name, alpha=0.7)
    panels[1].scatter([r['search_train_macs'] / 1e12 for r in done], accuracy, alpha=0.7)
  panels[0].set(xlabel='parameters', ylabel='test accuracy, %')
  panels[1].set(xlabel='cost of the search, 10^12 multiply-adds')
  figure.legend(loc='outside right upper')
  figure.savefig(path)


def main():
  """Searches, then prints."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--seeds', type=int, default=5, help='number of seeds, at least 2')
  parser.add_argument('--workdir', required=True)
  parser.add_argument('--strategies', default='random,evolution', help='beside EG-NAS, by commas; may be empty')
  parser.add_argument('--workers', type=int, default=1, help='seeds at a time')
  args, flags = parser.parse_known_args()
  if args.seeds < 2:
    parser.error(f'--seeds={args.seeds}: a spread needs at least 2')
  others = [name for name in args.strategies.split(',') if name]
  runner = Runner(paths.read(args.workdir, '--workdir='), flags, args.workers)
  with concurrent.futures.ThreadPoolExecutor(args.workers) as pool:
    found = list(pool.map(lambda seed: runner.seed(seed, others), range(args.seeds)))
  results = {name: [of_seed[name] for of_seed in found] for name in found[0]}
  print('| strategy | test accuracy % | each seed | parameters | MACs (M) | candidates | search cost (10^12 MACs) '
        '| less EG-NAS | p |')
  print('| --- | --- | --- | --- | --- | --- | --- | --- | --- |')
  for name, done in results.items():
    print(row(name, done, results['egnas']))
  draw(results, runner.folder / 'comparison.svg')
  (runner.folder / 'comparison.json').write_text(json.dumps({'flags': flags, 'results': results}, indent=2) + '\n')


if __name__ == '__main__':
  main()

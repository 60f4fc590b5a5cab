"""EG-NAS against other strategies at equal training cost, and against an unsearched network, over several seeds.

    python benchmarks/compare_strategies.py --seeds=5 --workdir=DIR [--strategies=random,evolution] [--config.FIELD=VALUE ...]

For each seed EG-NAS searches first; what it spent (multiply-adds of training) is the budget of the others. All winners get
the same final training, and so does the unsearched network of about the winner's cost (control.py). Prints a table, with each
row's difference from EG-NAS over the seeds in pairs, and writes DIR/comparison.json. Searches resume, so that a stopped
comparison goes on.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys


def search(workdir, strategy, seed, flags):
  """Runs one search to its end and returns its result.json."""
  subprocess.run([
      sys.executable, '-m', 'enas_jax.search', f'--workdir={workdir}', f'--config.strategy={strategy}', f'--config.seed={seed}',
      *flags], check=True, stdout=subprocess.DEVNULL)
  return json.loads((workdir / 'result.json').read_text())


def row(name, results, reference):
  """Mean and standard deviation over seeds, and the difference from the reference with its standard error, as text."""
  accuracy = [100 * r['test_accuracy'] for r in results]
  params = [r['params'] for r in results]
  macs = [r['macs'] / 1e6 for r in results]
  cost = [r['search_train_macs'] / 1e12 for r in results]
  less = [100 * (r['test_accuracy'] - other['test_accuracy']) for r, other in zip(results, reference, strict=True)]
  error = statistics.stdev(less) / len(less)**0.5
  return (f'| {name} | {statistics.mean(accuracy):.2f} ± {statistics.stdev(accuracy):.2f} '
          f'| {", ".join(f"{a:.2f}" for a in accuracy)} | {statistics.mean(params):,.0f} | {statistics.mean(macs):.2f} '
          f'| {statistics.mean([r["evaluations"] for r in results]):.0f} | {statistics.mean(cost):.2f} '
          f'| {statistics.mean(less):+.2f} ± {error:.2f} |')


def main():
  """Searches, then prints."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--seeds', type=int, default=5, help='number of seeds, at least 2')
  parser.add_argument('--workdir', type=pathlib.Path, required=True)
  parser.add_argument('--strategies', default='random,evolution', help='beside EG-NAS, by commas; may be empty')
  args, flags = parser.parse_known_args()
  results = {name: [] for name in ('egnas', 'unsearched', *filter(None, args.strategies.split(',')))}
  for seed in range(args.seeds):
    for strategy, done in results.items():
      if strategy == 'unsearched':
        control = results['egnas'][-1]['control']  # Where the winner is the plain network itself it has nothing but that.
        done.append({**results['egnas'][-1], **control, 'evaluations': 0, 'search_train_macs': 0})
      else:
        budget = [] if strategy == 'egnas' else [
            '--config.control=false', '--config.budget.evaluations=0', '--config.random.batch=1', '--config.evolution.batch=1',
            f"--config.budget.train_macs={results['egnas'][-1]['search_train_macs']}"]
        done.append(search(args.workdir / f'{strategy}_{seed}', strategy, seed, flags + budget))
      print(f"seed {seed}, {strategy}: {100 * done[-1]['test_accuracy']:.2f} %", flush=True)
  print('| strategy | test accuracy % | each seed | parameters | MACs (M) | candidates | search cost (10^12 MACs) '
        '| less EG-NAS |')
  print('| --- | --- | --- | --- | --- | --- | --- | --- |')
  for strategy, done in results.items():
    print(row(strategy, done, results['egnas']))
  (args.workdir / 'comparison.json').write_text(json.dumps({'flags': flags, 'results': results}, indent=2) + '\n')


if __name__ == '__main__':
  main()

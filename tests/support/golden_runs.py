"""Digests of what runs leave behind, to tell whether a change of the code changed a result by a single bit.

    (cd tests && python -m support.golden_runs [--default])

prints the digests of this machine as golden.json has them; with --default also those of the default search: minutes.

Everything goes through the command line, so that it does not matter how the code is laid out. Training on a CPU is repeatable
to the last bit for one version of XLA, one kind of processor and one number of cores; `kind_of_machine` names these three.
"""
import hashlib
import importlib.metadata
import json
import pathlib
import platform
import re
import subprocess
import sys
import tempfile

import numpy as np

from enas_jax.machine import usable_cores
from support.run_records import ledger, read, timeless, write_images

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden.json'
SMALL = (  # A search of seconds: 8 x 8 images, chains of depth 3 and 4.
    'training.batch_size=32', 'training.learning_rate=0.1', 'training.decay=epoch_cosine', 'training.nesterov=false',
    'training.label_smoothing=0.0', 'control=false', 'chain.min_depth=3', 'chain.max_depth=4', 'chain.min_width=1',
    'chain.max_width=2', 'chain.width_step=1', 'chain.kernels=(3,)', 'epochs.first=1', 'epochs.per_layer=1',
    'epochs.per_width_step=1', 'epochs.micro=1', 'epochs.final=2', 'egnas.micro_replicates=1', 'egnas.parameter_slack=10000',
    'egnas.confidence=0.0', 'data.augmentation.choice=paper', 'egnas.grow=false', 'egnas.depth_step=1', 'egnas.micro_groups=0',
    'evolution.population=2', 'evolution.tournament=2', 'evolution.batch=2', 'random.batch=2', 'budget.evaluations=6',
    'regularized_evolution.population=3', 'regularized_evolution.sample=2', 'local_search.initial=2', 'halving.candidates=4',
    'bananas.predictor=ridge', 'bananas.initial=3', 'bananas.batch=2', 'bananas.candidates=10', 'nsga2.population=3',
    'nsga2.batch=2')
TRAINED = ('egnas', 'evolution', 'random', 'regularized_evolution', 'local_search', 'halving', 'bananas', 'nsga2')
COMPARED = {  # Space: strategies that look up its table. These choose by arithmetic on whole numbers and table values alone.
    'nasbench201': ('random', 'regularized_evolution', 'local_search', 'nsga2', 'halving'),
    'nats_size': ('egnas', 'evolution', 'random:chains')}
LATER_RESULTS = {'balanced_accuracy', 'recall', 'confusion'}  # Which stored digests know nothing of.


def kind_of_machine():
  """What the bits of a training depend on beside the request."""
  cpuinfo = pathlib.Path('/proc/cpuinfo')
  flags = re.search(r'^(?:flags|Features)\s*:(.*)$', cpuinfo.read_text() if cpuinfo.exists() else '', re.MULTILINE)
  wide = sorted(set(flags[1].split()) & {'avx2', 'avx512f', 'avx512_bf16', 'avx512_fp16', 'amx_bf16'}) if flags else []
  return f"jaxlib {importlib.metadata.version('jaxlib')}, {platform.machine()} {' '.join(wide)}, {usable_cores()} cores"


def command(name, *arguments):
  """Runs a command of the package; raises where it fails."""
  done = subprocess.run([sys.executable, '-m', f'enas_jax.{name}', *arguments], capture_output=True, text=True)
  assert done.returncode == 0, done.stderr


def trained(strategy, folder):
  """Digests of a small search by training."""
  images = write_images(folder / 'images.npz')
  settings = (f'strategy={strategy}', f'data.name=npz:{images}', *SMALL)
  command('search', f"--workdir={folder / 'run'}", *(f'--config.{setting}' for setting in settings))
  return digests(folder / 'run')


def compared(space, folder):
  """Digests of the trials of a comparison on a table, by strategy."""
  strategies = COMPARED[space]
  command('compare', f'--workdir={folder}', f'--space={space}', '--trials=2', '--queries=60',
          f"--strategies={','.join(strategies)}")
  trials = {s: [read(folder, f"trials/{s.replace(':', '-')}-{seed}.json") for seed in (0, 1)] for s in strategies}
  return {strategy: _digest(timeless(records)) for strategy, records in trials.items()}


def default(folder):
  """Digests of the default search: minutes."""
  command('search', f'--workdir={folder}')
  return digests(folder)


def digests(workdir):
  """Of the ledger whatever the order in which candidates ended, of the result, and of the trained weights."""
  from flax import nnx

  from enas_jax import load

  weights = hashlib.sha256()
  for path, leaf in sorted((str(path), leaf) for path, leaf in nnx.to_flat_state(nnx.state(load(workdir).network))):
    array = np.asarray(leaf[...])
    weights.update(f'{path} {array.dtype} {array.shape}'.encode() + array.tobytes())
  entries = sorted(ledger(workdir), key=lambda entry: entry['key'])
  result = without(LATER_RESULTS, timeless(read(workdir, 'result.json')))
  return {'ledger': _digest(entries), 'result': _digest(result), 'weights': weights.hexdigest()[:16]}


def without(names, record):
  """A record without fields, in the records in it, too."""
  if not isinstance(record, dict):
    return record
  return {name: without(names, value) for name, value in record.items() if name not in names}


def _digest(record):
  return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:16]


def _folder():
  return tempfile.TemporaryDirectory(prefix='golden')


def main():
  """Runs all and prints."""
  found = {'compared': {}, 'trained': {}}
  for space in COMPARED:
    with _folder() as folder:
      found['compared'][space] = compared(space, pathlib.Path(folder))
  for strategy in TRAINED:
    with _folder() as folder:
      found['trained'][strategy] = trained(strategy, pathlib.Path(folder))
  if '--default' in sys.argv:
    with _folder() as folder:
      found['default'] = default(pathlib.Path(folder))
  compared_ = found.pop('compared')
  print(json.dumps({'compared': compared_, 'machines': {kind_of_machine(): found}}, indent=2))


if __name__ == '__main__':
  main()

"""Kills search, train and compare by SIGKILL at random moments, over and over, and checks that nothing is lost or changed.

    python benchmarks/kills.py --kills=100

Each command first runs undisturbed; then it is started, killed after a random time and started again, to its end;
then in a new folder, until it has been killed often enough. It raises where a finished line is lost or the result is another.
The networks are tiny, on a CPU device each; a kill takes a start, ten seconds.
"""
import argparse
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / 'tests'))
from support.run_records import ledger, read, same_training, timeless, write_images

COMMON = ['--config.training.batch_size=32', '--config.epochs.final=3', '--config.data.augmentation.choice=paper']
SEARCH = [
    '--config.strategy=random', '--config.random.batch=2', '--config.budget.evaluations=6', '--config.control=false',
    '--config.chain.min_depth=3', '--config.chain.max_depth=3', '--config.chain.min_width=1', '--config.chain.max_width=2',
    '--config.chain.width_step=1', '--config.epochs.first=2', '--config.epochs.per_layer=0', *COMMON]
COMPARE = ['--space=nasbench201', '--strategies=random,regularized_evolution', '--trials=4', '--queries=200', '--processes=2']
NETWORK = {'space': 'chain', 'version': 1, 'width': 2, 'operations': '010', 'kernels': '353'}
SHARES = {'search': 0.5, 'train': 0.2, 'compare': 0.3}  # Of all kills.


def trials(workdir):
  """What a comparison has finished: each trial's record without what no two runs share."""
  return {file.name: timeless(json.loads(file.read_text())) for file in (workdir / 'trials').glob('*.json')}


def kept(command, workdir):
  """What is finished in a folder, and may not be lost."""
  return trials(workdir) if command == 'compare' else dict(enumerate(ledger(workdir)))


def check_same(command, workdir, undisturbed):
  """Raises where two folders' results differ."""
  if command == 'compare':
    assert trials(workdir) == trials(undisturbed)
    assert timeless(read(workdir, 'compare.json')) == timeless(read(undisturbed, 'compare.json'))
  else:
    ends = [sorted(ledger(folder), key=lambda record: record['key']) for folder in (workdir, undisturbed)]
    np.testing.assert_equal(*ends)  # Those of a batch may end in another order.
    same_training(workdir, undisturbed)


class Kills:
  """One command, killed.

  Args:
    command: 'search', 'train' or 'compare'.
    folder: for its work folders.
    random: draws the moments.
  """

  def __init__(self, command, folder, random):
    self.command, self.folder, self.random = command, folder, random
    folder.mkdir(parents=True)
    images, network = write_images(folder / 'images.npz'), folder / 'network.json'
    network.write_text(json.dumps(NETWORK))
    self.arguments = {
        'search': [*SEARCH, f'--config.data.name=npz:{images}'], 'compare': COMPARE,
        'train': [*COMMON, f'--config.data.name=npz:{images}', f'--architecture={network}']}[command]
    self.undisturbed = folder / 'undisturbed'
    assert self.start(self.undisturbed).wait() == 0  # Compiles.
    started = time.monotonic()
    assert self.start(folder / 'timed').wait() == 0
    self.seconds = time.monotonic() - started

  def start(self, workdir):
    """The command as a process."""
    return subprocess.Popen(
        [sys.executable, '-m', f'enas_jax.{self.command}', f'--workdir={workdir}', *self.arguments],
        stdout=subprocess.DEVNULL, env={**os.environ, 'JAX_NUM_CPU_DEVICES': '1'})

  def run(self, count):
    """Kills so often. Returns how many runs were brought to their end, and how many kills met finished work."""
    kills = runs = met = 0
    while kills < count:
      workdir, known = self.folder / f'killed_{runs}', {}
      while kills < count:
        process = self.start(workdir)
        try:
          assert process.wait(self.random.uniform(0, 1.1 * self.seconds)) == 0
          break
        except subprocess.TimeoutExpired:
          process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        time.sleep(0.2)  # A supervised child ends with its parent.
        kills += 1
        now = kept(self.command, workdir)
        assert now == {**now, **known}, f'{self.command}: {workdir} lost what it had'
        known, met = now, met + bool(now)
      assert self.start(workdir).wait() == 0
      assert kept(self.command, workdir) == {**kept(self.command, workdir), **known}
      check_same(self.command, workdir, self.undisturbed)
      runs += 1
    return runs, met


def kill(count, folder, seed, commands=SHARES):
  """Yields a line for each command, killed its share of so many times."""
  random = np.random.default_rng(seed)
  for command in commands:
    kills = round(count * SHARES[command] / sum(SHARES[name] for name in commands))
    runs, met = Kills(command, folder / command, random).run(kills)
    yield f'{command}: {kills} kills, {met} of them after finished work; {runs} runs, all as undisturbed'


def main():
  """Prints a line for each command."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--kills', type=int, default=100)
  parser.add_argument('--seed', type=int, default=0)
  options = parser.parse_args()
  with tempfile.TemporaryDirectory() as folder:
    os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', f'{folder}/cache')
    os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0')
    os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES', '-1')
    for line in kill(options.kills, pathlib.Path(folder), options.seed):
      print(line, flush=True)


if __name__ == '__main__':
  main()

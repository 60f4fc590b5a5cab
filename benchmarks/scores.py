"""Cells of NAS-Bench-201 scored a second: module by module, each compiled alone, against one program for all.

    python benchmarks/scores.py [--channels=4] [--cells=1] [--size=16] [--alone=4] [--together=64] [--scores=grad_norm,naswot]

Random images; the same cells. Prints for each way how many cells, process seconds of the first (it compiles), of each
further one, and cells a process second, compiling included.
"""
import argparse
import time

import numpy as np

from enas_jax import machine
from enas_jax.estimators.scoring import Members, names
from enas_jax.spaces import NasBench201Space
from enas_jax.types import Task

CLASSES, IMAGES = 10, 256


def main():
  """Scores, and prints the table."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  for name, default in (('channels', 4), ('cells', 1), ('size', 16), ('alone', 4), ('together', 64)):
    parser.add_argument(f'--{name}', type=int, default=default)
  parser.add_argument('--scores', default='grad_norm,snip,synflow,jacob_cov,naswot')
  args = parser.parse_args()
  machine.prepare()
  rng, space = np.random.default_rng(0), NasBench201Space(channels=args.channels, cells=args.cells)
  task = Task((args.size, args.size, 3), CLASSES)
  images, labels = rng.normal(size=(IMAGES, *task.image_shape)).astype(np.float32), rng.integers(0, CLASSES, IMAGES)
  drawn = [space.sample(rng) for _ in range(args.together)]
  print(f'{args.scores}; {args.channels} channels, {args.cells} cells a stage, images of {args.size} x {args.size}')
  print('| way | cells | first, process s | each further one | cells a process second |')
  print('| --- | --- | --- | --- | --- |')
  rates = {}
  for way, count in (('alone', args.alone), ('together', args.together)):
    members = Members(space, task, names(args.scores.split(',')), images, labels, seed=0, together=way == 'together')
    start = time.process_time()
    times = []
    for _ in members.scores(drawn[:count]):
      times.append(time.process_time() - start)
    rates[way] = count / times[-1]
    print(f'| {way} | {count} | {times[0]:.1f} | {(times[-1] - times[0]) / (count - 1):.2f} | {rates[way]:.2f} |', flush=True)
  print(f"together {rates['together'] / rates['alone']:.1f} times as many")


if __name__ == '__main__':
  main()

"""A search from Python: looked up in a table, trained on the shipped images, and trained on arrays of your own.

    python examples/search_from_python.py

Settings are those of the command line, without `--config.`: enas_jax/config.py has the general ones, each space, strategy and
estimator its own.
"""
import numpy as np

import enas_jax

TINY = {  # So small that it takes seconds; leave these out for the default search of a few minutes.
    'chain.min_depth': 3, 'chain.max_depth': 3, 'chain.min_width': 2, 'chain.max_width': 2, 'chain.kernels': (3,),
    'epochs.first': 1, 'epochs.per_layer': 0, 'epochs.final': 1, 'training.batch_size': 32}


def main():
  """Runs the three searches."""
  # 1. Candidates are looked up in the table of NAS-Bench-201, nothing is trained: a second or two.
  looked_up = enas_jax.run(
      {'space': 'nasbench201', 'estimator': 'table', 'strategy': 'regularized_evolution', 'epochs.first': 200,
       'budget.evaluations': 192}, train=False, progress=False)
  print(f'best of {len(looked_up.history)} cells: {looked_up.architecture}, {100 * looked_up.accuracy:.2f} % on validation')

  # 2. Candidates are trained on arrays: here 240 small images, each of four classes bright in its own quarter.
  rng = np.random.default_rng(0)
  labels = np.arange(240) % 4
  images = rng.integers(0, 60, (240, 8, 8), np.uint8)
  for image, label in zip(images, labels, strict=True):
    image[4 * (label // 2):][:4, 4 * (label % 2):][:, :4] += 120
  result = enas_jax.run({'strategy': 'random', 'budget.evaluations': 2, **TINY}, data=(images, labels))

  # 3. The result: the trained network, and every candidate with what it was worth.
  predicted = result.model.predict(images[..., None])
  print(f'{result.architecture}: {100 * np.mean(predicted == labels):.0f} % of all images right')
  for request, evaluation in result.history:
    print(f'  {request.architecture}: {100 * evaluation.accuracy:.1f} % after {request.schedule.epochs} epoch')


if __name__ == '__main__':
  main()

"""Whether a short training of our own ranks NAS-Bench-201's cells as the benchmark's long ones did.

  python benchmarks/short_training.py --workdir=DIR --config.data.name=cifar10 --data_dir=TFDS [--cells=10] [--images=50000]
    [--epochs=1] [--test_images=10000] [--batch=256] [--rate=0.1]

Cells are spread over the table by rank of CIFAR-10 test accuracy after 200 epochs, from worst to best. Each is trained from
scratch on CIFAR-10 (`npz:FILE` does, too), in the benchmark's network, and scored on the test part. Prints each one and the
rank correlations. Finished ones are kept in the folder's ledger.
"""
import dataclasses

import numpy as np
from absl import flags

from enas_jax import cli, data, estimators, spaces, tables
from enas_jax.ledger import Ledger
from enas_jax.predictors.report import rank_correlation
from enas_jax.types import Request, Schedule
from enas_jax.workdir import Workdir


def main(values):
  """Trains a few cells of NAS-Bench-201 and compares their ranking with the benchmark's."""
  config = values.config
  config.update(space='nasbench201', estimator='trained')
  config.data.score_on_test = True
  config.epochs.first = values.epochs
  # The benchmark's, but for its Nesterov.
  config.training.update(batch_size=values.batch, learning_rate=values.rate, weight_decay=5e-4)
  dataset = data.load(config.data.name, data_dir=values.data_dir)
  train = dataset.train._replace(images=dataset.train.images[:values.images], labels=dataset.train.labels[:values.images])
  test = dataset.test._replace(images=dataset.test.images[:values.test_images], labels=dataset.test.labels[:values.test_images])
  dataset = dataclasses.replace(dataset, train=train, test=test)
  table, space = tables.load('nasbench201'), spaces.make(config)
  truth = table.column('cifar10/test/200')
  rows = np.argsort(truth)[np.linspace(0, len(table) - 1, values.cells).astype(int)]
  requests = [
      Request(table.architecture(int(row)), Schedule(epochs=config.epochs.first, **config.training.to_dict())) for row in rows]
  checksum = f'{dataset.checksum} {values.images} {values.test_images}'
  with Workdir.open(values.workdir, config, data_checksum=checksum) as workdir:
    ledger = Ledger(workdir.ledger, space.from_json)
    estimator = estimators.make(
        config, space, dataset, execution=estimators.execution(config.precision, workdir.path, **cli.execution_flags(values)))
    new = [r for r in requests if ledger.get(r) is None]
    for index, evaluation in estimator.estimate(new):
      ledger.add(new[index], evaluation)
      found = evaluation.metrics.get('accuracy', evaluation.reason)
      print(f'{new[index].architecture.cell} {found}, {evaluation.seconds:.0f} s', flush=True)
    ours = np.array([ledger.get(r).accuracy for r in requests])
  for row, accuracy in zip(rows, ours, strict=True):
    print(f'{table.text(int(row))}  ours {accuracy:.4f}, benchmark {truth[row]:.4f}')
  for epochs in (12, 200):
    print(f'against {epochs} epochs:', rank_correlation(ours, table.column(f'cifar10/test/{epochs}')[rows]))


def _define_flags(values):
  flags.DEFINE_integer('cells', 10, 'How many cells.', flag_values=values)
  flags.DEFINE_integer('epochs', 1, 'Of each training.', flag_values=values)
  flags.DEFINE_integer('images', 50_000, 'Training images, the first so many.', flag_values=values)
  flags.DEFINE_integer('test_images', 10_000, 'Images that score, the first so many.', flag_values=values)
  flags.DEFINE_integer('batch', 256, 'Images a step.', flag_values=values)
  flags.DEFINE_float('rate', 0.1, 'Peak learning rate.', flag_values=values)


if __name__ == '__main__':
  cli.run(main, define_flags=_define_flags)

"""Compares strategies on a benchmark's table: every one of them on published numbers, in seconds.

    python -m enas_jax.compare --space=nasbench201 --dataset=cifar10 --strategies=random,regularized_evolution --workdir=DIR

Trials run side by side in processes of their own. A finished one is a file, which is not computed again.
"""
from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from enas_jax import cli
from enas_jax.compare import writing
from enas_jax.compare.benchmark import CHAINS, FIELDS, Benchmark, set_up
from enas_jax.compare.comparison import Comparison
from enas_jax.compare.pool import Job, run_all
from enas_jax.config import get_config
from enas_jax.errors import Stopped, UserError
from enas_jax.fields import flatten
from enas_jax.machine import usable_cores
from enas_jax.progress import Progress
from enas_jax.spaces import SPACES
from enas_jax.strategies import STRATEGIES, HasNotice
from enas_jax.tables.table import SPLITS
from enas_jax.workdir import Workdir, disk_errors

SEEDS = 2**32
FLAGS_INSTEAD = {  # Settings that a comparison takes from its flags or the table, and where from.
    'space': '--space', 'estimator': 'the table', 'strategy': '--strategies', 'table': '--table, --dataset and --score',
    'budget': '--queries'}


def main(values: flags.FlagValues) -> None:
  """Compares search strategies on a benchmark's table.

  The folder then holds table.md and results.csv (what each strategy found), curves.svg (the best so far by queries),
  compare.json (the numbers of both) and trials/ (every query of every trial). More trials or strategies may be asked for later.
  """
  config = values.config
  for name, least in (('queries', 1), ('trials', 1), ('processes', 0)):
    if (value := getattr(values, name)) < least:
      raise UserError(f'--{name}={value} is below {least}; give at least {least}')
  if not 0 <= config.seed <= SEEDS - values.trials:
    raise UserError(f'config.seed {config.seed} with {values.trials} trials is outside 0 to {SEEDS - 1}; give one within')
  _check_settings(config)
  benchmark = _benchmark(values)
  names = _strategies(values.strategies)
  notices = []
  for name in names:  # What is wrong with one of them is said before any of them runs.
    trial = set_up(name, benchmark, config)
    notices.append(trial.strategy.notice if isinstance(trial.strategy, HasNotice) else '')
  Comparison(table=benchmark.data, **_of(benchmark), trials={})
  settings = ConfigDict({**config.to_dict(), 'compare': dataclasses.asdict(benchmark)})
  with Workdir.open(values.workdir, settings, data_checksum=benchmark.data.checksum) as workdir, Progress() as progress, \
       cli.stop_on_sigterm() as stop:
    for notice in filter(None, (workdir.notice, *notices, trial.estimator.describe())):
      progress.note(notice)
    jobs = [(name, config.seed + trial) for name in names for trial in range(values.trials)]
    records = _run(
        jobs, benchmark, config, workdir, progress, values.processes, values.plugin, should_stop=lambda: stop.requested)
    trials = {name: [records[job] for job in jobs if job[0] == name] for name in names}
    comparison = Comparison(table=benchmark.data, **_of(benchmark), trials=trials)
    workdir.write_json('compare.json', {'summary': comparison.summary(), 'trials': comparison.results()})
    workdir.write_bytes('results.csv', writing.rows(comparison).encode())
    workdir.write_bytes('curves.svg', writing.picture(comparison))
    workdir.write_bytes('table.md', f'{(text := writing.markdown(comparison))}\n'.encode())
  print(f'{text}\n\nwritten to {values.workdir}: table.md, results.csv, curves.svg, compare.json')


def _run(jobs: Sequence[Job], benchmark: Benchmark, config: ConfigDict, workdir: Workdir, progress: Progress,
         processes: int, plugins: Sequence[str], *, should_stop: Callable[[], bool]) -> dict[Job, dict[str, Any]]:
  """Every trial's record, from its file or computed now and filed."""
  with disk_errors(workdir.path):
    (workdir.path / 'trials').mkdir(exist_ok=True)
  stored = {job: workdir.read_sealed(_file(*job), damaged=progress.note) for job in jobs}
  known = {job: record for job, record in stored.items() if record is not None and set(record) == FIELDS}
  missing = [job for job in jobs if job not in known]
  progress.note(f'{len(missing)} trials to run, {len(known)} are there')
  if not missing:
    return known
  processes = min(len(missing), processes or usable_cores())
  try:
    with _scratch(workdir) as folder, contextlib.closing(
        run_all(missing, benchmark, config, folder=folder, processes=processes, plugins=plugins)) as records:
      for count, (job, record) in enumerate(records, 1):
        known[job] = record
        workdir.write_sealed(_file(*job), record)
        progress.note(f"{job[0]}, seed {job[1]}: {record['seconds']:.2f} s, {count} of {len(missing)}")
        if should_stop():
          raise Stopped
  except BrokenProcessPool as error:
    if should_stop():  # A batch system tells all processes of a job to stop.
      raise Stopped from error
    raise UserError('a process with trials was killed, perhaps for its memory; the same command goes on, with a lower '
                    '--processes if that was it') from error
  return known


@contextlib.contextmanager
def _scratch(workdir: Workdir) -> Iterator[Path]:
  """An empty folder in the workdir, which this run alone uses; removed at the end, or by the next run."""
  folder = workdir.path / 'running'
  with disk_errors(workdir.path):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
  try:
    yield folder
  finally:
    shutil.rmtree(folder, ignore_errors=True)


def _file(name: str, seed: int) -> str:
  return f'trials/{name.replace(":", "-")}-{seed}.json'


def _check_settings(config: ConfigDict) -> None:
  """Raises UserError for a setting that would be of no effect."""
  defaults = flatten(get_config().to_dict())
  for field, value in flatten(config.to_dict()).items():
    group = field.partition('.')[0]
    if group in FLAGS_INSTEAD and value != defaults[field]:
      raise UserError(f'--config.{field}={value} is of no effect here: that comes from {FLAGS_INSTEAD[group]}')


def _benchmark(values: flags.FlagValues) -> Benchmark:
  """What the flags ask for. Raises UserError for an unknown space, or where there is no such table."""
  if values.space not in SPACES:
    raise UserError(f"--space={values.space} is unknown; give one of {SPACES.choices()}")
  objectives = tuple(values.objectives)
  if objectives and (objectives[0] != 'accuracy' or len(set(objectives)) < max(2, len(objectives))):
    raise UserError(f"--objectives={','.join(objectives)}: give accuracy and others, each once, such as accuracy,params")
  benchmark = Benchmark(
      space=values.space, table=values.table, dataset=values.dataset, score=values.score or SPLITS[0], queries=values.queries,
      objectives=objectives)
  table, dataset = benchmark.data, benchmark.dataset
  if values.score is None and dataset in table.datasets and benchmark.score not in table.splits(dataset):
    benchmark = dataclasses.replace(benchmark, score=table.splits(dataset)[0])
  return dataclasses.replace(benchmark, table=table.name)


def _of(benchmark: Benchmark) -> dict[str, Any]:
  return {name: getattr(benchmark, name) for name in ('dataset', 'score', 'queries', 'objectives')}


def _strategies(names: Sequence[str]) -> list[str]:
  if not names:
    raise UserError('--strategies= is empty; give some, such as random,regularized_evolution')
  for name in names:
    if name.removesuffix(CHAINS) not in STRATEGIES:
      raise UserError(f"--strategies: '{name}' is unknown; give some of {STRATEGIES.choices()}, or one with {CHAINS} behind it")
  return list(dict.fromkeys(names))


def _define_flags(values: flags.FlagValues) -> None:
  flags.DEFINE_string(
      'space', 'nasbench201', 'The search space: nasbench201, nats_size, nasbench101, nasbench_macro, or any with --table.',
      flag_values=values)
  flags.DEFINE_string('dataset', 'cifar10', 'A data set of the table.', flag_values=values)
  cli.define_path(
      'table', None, "A table that comes with the package, a CSV or npz file of your own, or a benchmark's official file. "
      "Default: the space's.", values=values)
  flags.DEFINE_list(
      'strategies', ['random', 'regularized_evolution'], f"Some of {', '.join(sorted(STRATEGIES))}, with commas between; "
      f"{CHAINS} behind one shows it the table as chains, as egnas and evolution see it.", flag_values=values)
  flags.DEFINE_integer('queries', 192, 'Budget of a trial, in trainings at the highest fidelity.', flag_values=values)
  flags.DEFINE_integer('trials', 10, 'Trials a strategy; their seeds are config.seed and those after it.', flag_values=values)
  flags.DEFINE_string(
      'score', None, "Split that strategies choose by: 'valid' or 'test'. Default: valid where the table has it.",
      flag_values=values)
  flags.DEFINE_list(
      'objectives', [], 'accuracy and others, such as accuracy,params: nsga2 takes them, all get a hypervolume.',
      flag_values=values)
  flags.DEFINE_integer('processes', 0, 'Trials that run at once. 0: one a core.', flag_values=values)


if __name__ == '__main__':
  cli.run(main, define_flags=_define_flags, trains=False)

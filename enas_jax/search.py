"""Searches a network for a data set and trains it: the main command, and the file to read first.

    python -m enas_jax.search --workdir=DIR [--config=FILE.py] [--config.FIELD=VALUE]

A strategy proposes candidates, an estimator evaluates them, the ledger keeps every answer:

    ask -> estimate -> ledger -> tell -> ... -> best -> final training -> result.json
"""
from __future__ import annotations

import collections
import dataclasses
import resource
import sys
from collections.abc import Callable
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from enas_jax import cli, data, estimators, spaces, strategies, tables
from enas_jax.data import Dataset
from enas_jax.errors import UserError
from enas_jax.estimators import Estimator, Execution
from enas_jax.ledger import Ledger
from enas_jax.loop import drive
from enas_jax.progress import Progress, TimeLeft
from enas_jax.strategies import Strategy
from enas_jax.train import check_seed, final_request, finished, fit
from enas_jax.types import Evaluation, Request
from enas_jax.workdir import Workdir


@dataclasses.dataclass(frozen=True)
class Run:
  """Where a search keeps what it learns, and where it shows it."""

  workdir: Workdir
  ledger: Ledger
  progress: Progress


def main(values: flags.FlagValues) -> None:
  """Searches a network for a data set, trains it and saves it.

  The folder then holds config.json, ledger.jsonl (every candidate), architecture.json, result.json and the trained network,
  for enas_jax.load(DIR). A run that was stopped, killed or cut off is resumed by the same command; a finished one is kept.
  """
  config = values.config
  dataset = data.load(config.data.name, data_dir=values.data_dir)
  checksum = dataset.checksum
  if config.estimator == 'table':
    checksum += f' {tables.find(spaces.make(config), config.table.name).checksum}'
  with Workdir.open(values.workdir, config, data_checksum=checksum) as workdir, Progress() as progress, \
       cli.stop_on_sigterm() as stop:
    result = search(config, dataset, workdir, progress, execution=estimators.execution(values, workdir.path),
                    should_stop=lambda: stop.requested)
    progress.note(
        f"test accuracy {100 * result['test_accuracy']:.2f} %, {result['params']:,} parameters, "
        f"{result['macs'] / 1e6:.1f} M multiply-adds, {result['evaluations']} candidates; in {workdir.path}")


def search(config: ConfigDict, dataset: Dataset, workdir: Workdir, progress: Progress, *,
           execution: Execution | None = None, should_stop: Callable[[], bool] = lambda: False) -> dict[str, Any]:
  """The whole way from images to a trained network, from wherever the workdir stands. Returns result.json's record.

  Where the search is finished already, nothing is done again. `execution`: None for what suits the machine.

  Raises:
    UserError: bad settings, or no candidate succeeded.
    Stopped: `should_stop` returned True; everything finished is kept.
  """
  check_seed(config.seed)
  execution = Execution.default() if execution is None else execution
  if config.max_failures_in_a_row < 1:
    raise UserError(f'config.max_failures_in_a_row {config.max_failures_in_a_row} is below 1; give at least 1')
  space = spaces.make(config)
  searched = tables.members(tables.find(space, config.table.name)) if config.estimator == 'table' else space
  strategy = strategies.make(config, searched, dataset.task)
  estimator = estimators.make(config, space, dataset, execution=execution, should_stop=should_stop)
  ledger = Ledger(workdir.ledger, space.from_json)
  for notice in filter(None, (workdir.notice, ledger.notice)):
    progress.note(notice)
  if not len(ledger) and (workdir.path / 'architecture.json').exists():
    raise UserError(f"workdir {workdir.path} has architecture.json but no ledger: not a search's; choose another --workdir")
  if (result := finished(workdir, progress)) is not None:
    return result
  progress.start(ledger)
  progress.note(estimator.describe())
  progress.phase('search')
  state = explore(strategy, estimator, Run(workdir, ledger, progress), config, should_stop)
  architecture = strategy.best(state)
  if architecture is None:
    raise UserError(f'none of {len(ledger)} candidates succeeded; see the reasons in {ledger.path}')
  report = estimator.report()
  del estimator  # Its programs, before the final training needs memory.
  progress.phase(f'final training of {architecture}')
  final = fit(architecture, config, dataset, workdir, progress, execution=execution, should_stop=should_stop)
  result = {**final, **_summary(ledger, final['seconds']), 'population': report, 'front': strategy.front(state)}
  workdir.write_json('result.json', result)
  return result


def explore(strategy: Strategy, estimator: Estimator, run: Run, config: ConfigDict, should_stop: Callable[[], bool]) -> Any:
  """Runs the strategy to its end and returns its state. What the ledger knows is not evaluated again."""
  time_left = TimeLeft()
  failures = 0

  def on_answer(request: Request, evaluation: Evaluation, state: Any) -> None:
    nonlocal failures
    failures = 0 if evaluation.ok else failures + 1
    if failures >= config.max_failures_in_a_row:
      raise UserError(f'{failures} candidates in a row failed, the last: {evaluation.reason}; mend it, take a new --workdir')
    if evaluation.ok:
      time_left.add(evaluation.train_macs, evaluation.seconds, evaluation.compile_seconds)
    run.progress.left(time_left.predict([estimator.predict_macs(r) for r in _left(strategy, state, run.ledger, config)]))
    run.progress.candidate(request, evaluation)

  def on_tell(state: Any) -> None:
    run.workdir.write_json('controller.json', {'evaluations': len(run.ledger), 'state': strategy.to_json(state)})
    run.progress.describe(strategy.describe(state))

  state = _restore(strategy, run, config.seed)
  run.progress.describe(strategy.describe(state))
  return drive(strategy, estimator, state, run.ledger, on_answer=on_answer, on_tell=on_tell, should_stop=should_stop)


def _restore(strategy: Strategy, run: Run, seed: int) -> Any:
  """The strategy's last state. Without a sound one the first: through the ledger's answers the search comes back to the last.

  A state that has seen more than the ledger holds, as after a torn line, is not sound.
  """
  record = run.workdir.read_json('controller.json', damaged=run.progress.note)
  try:
    if record is not None and record['evaluations'] <= len(run.ledger):
      return strategy.from_json(record['state'])
  except (AttributeError, KeyError, TypeError, ValueError) as error:
    run.progress.note(f'{run.workdir.path}/controller.json is damaged ({type(error).__name__}: {error}) and is made again')
  return strategy.init(seed)


def _left(strategy: Strategy, state: Any, ledger: Ledger, config: ConfigDict) -> list[Request]:
  """What the strategy sees still to be trained if nothing more is accepted, and the final training."""
  left = [r for r in strategy.outlook(state) if ledger.get(r) is None]
  winner = strategy.best(state)
  return left if winner is None else [*left, final_request(winner, config)]


def _summary(ledger: Ledger, final_seconds: float) -> dict[str, Any]:
  """What the ledger says of the search as a whole."""
  seconds: collections.Counter[str] = collections.Counter()
  for request, evaluation in ledger:
    seconds[request.phase] += evaluation.seconds
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == 'darwin' else 1024)
  return {
      'evaluations': len(ledger),
      'failures': [{'key': r.key, 'reason': e.reason} for r, e in ledger if not e.ok],
      'search_train_macs': sum(e.train_macs for _, e in ledger),
      'seconds': {**seconds, 'final': final_seconds},
      'peak_memory_bytes': peak,
  }


if __name__ == '__main__':
  cli.run(main)

"""Searches a network for a data set and trains it: the main command, and the file to read first.

    python -m enas_jax.search --workdir=DIR [--config=FILE.py] [--config.FIELD=VALUE]

A strategy proposes candidates, an estimator evaluates them, the ledger keeps every answer (`loop.drive`):

    ask -> estimate -> ledger -> tell -> ... -> best -> final training -> result.json

From Python it is `enas_jax.run`.
"""
from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from enas_jax import cli, control, data, estimators, settings, spaces, strategies, tables
from enas_jax.data import Dataset
from enas_jax.errors import UserError
from enas_jax.estimators import Estimator, Execution
from enas_jax.estimators.table import looked_up_in, task_of
from enas_jax.in_training import InTraining, killers_in_a_row
from enas_jax.ledger import Ledger
from enas_jax.loop import drive
from enas_jax.machine import peak_memory_bytes
from enas_jax.progress import Progress, TimeLeft
from enas_jax.spaces import HasDepthAndWidth, SearchSpace
from enas_jax.spending import Spending
from enas_jax.strategies import HasDecisions, HasNotice, Strategy
from enas_jax.supervise import MARK
from enas_jax.train import check_network, check_seed, final_request, finished, fit_watched
from enas_jax.types import Architecture, Evaluation, Request, Task
from enas_jax.workdir import Workdir


@dataclasses.dataclass(frozen=True)
class Run:
  """What a search is for, where it keeps what it learns, and where it shows it."""

  task: Task
  workdir: Workdir
  ledger: Ledger
  progress: Progress
  in_training: InTraining


def main(values: flags.FlagValues) -> None:
  """Searches a network for a data set, trains it and saves it.

  The folder then holds config.json, ledger.jsonl (every candidate), architecture.json, result.json and the trained network,
  for enas_jax.load(DIR), and in control/ the unsearched network that it is compared with. A run that was stopped, killed or cut
  off is resumed by the same command; a finished one is kept.
  """
  config = values.config
  with Progress() as progress:
    dataset = data.load(config.data.name, data_dir=values.data_dir, note=progress.note)
    with Workdir.open(values.workdir, config, data_checksum=checksum(config, dataset), data=data.record(dataset)) as workdir, \
         cli.stop_on_sigterm() as stop:
      execution = estimators.execution(config.precision, workdir.path, **cli.execution_flags(values))
      result = search(config, dataset, workdir, progress, execution=execution, should_stop=lambda: stop.requested)
      if 'control' in result:
        progress.note(control.describe(result['control']))
      progress.note(
          f"test accuracy {100 * result['test_accuracy']:.2f} %, {result['params']:,} parameters, "
          f"{_macs(result['macs'])} multiply-adds, {result['evaluations']} candidates; "
          f"the trained network: enas_jax.load('{workdir.path}')")


def search(config: ConfigDict, dataset: Dataset | None, workdir: Workdir, progress: Progress, *,
           execution: Execution | None = None, should_stop: Callable[[], bool] = lambda: False,
           train: bool = True) -> dict[str, Any]:
  """Goes the whole way from images to a trained network, from wherever the workdir stands.

  Where the search is finished already, nothing is done again.

  Args:
    config: all settings.
    dataset: the images; None for a search on a table whose winner is not trained.
    workdir: the open folder, which keeps everything.
    progress: what shows it.
    execution: how candidates run on this machine; None for what suits it.
    should_stop: is asked between candidates and steps whether to stop.
    train: whether the winner is trained. If not, no result.json is written, so that a later run may still train it.

  Returns:
    The record of result.json; without the final training's part if that was not wanted.

  Raises:
    UserError: bad settings, or no candidate succeeded.
    Stopped: `should_stop` returned True; everything finished is kept.
  """
  check_seed(config.seed)
  if config.max_failures_in_a_row < 1:
    raise UserError(f'config.max_failures_in_a_row {config.max_failures_in_a_row} is below 1; give at least 1')
  execution = Execution.default() if execution is None else execution
  space = spaces.make(config)
  table = looked_up_in(config, space)
  task = task_of(config.table.dataset) if dataset is None else dataset.task
  if train:
    check_network(space, task)
  strategy = strategies.make(config, space if table is None else tables.members(table), task)
  estimator = estimators.make(
      config, space, dataset, needs=strategy.needs, execution=execution, should_stop=should_stop)
  ledger = Ledger(workdir.ledger, space.from_json)
  for notice in filter(None, ('' if dataset is None else data.describe(dataset), workdir.notice, ledger.notice)):
    progress.note(notice)
  if not len(ledger) and (workdir.path / 'architecture.json').exists():
    raise UserError(f"workdir {workdir.path} has architecture.json but no ledger: not a search's; choose another --workdir")
  if (result := finished(workdir, progress)) is not None:
    workdir.remove(MARK)
    return result
  progress.start(ledger)
  progress.note(f"space '{space.name}' ({_count(space.size())} networks), strategy '{config.strategy}'")
  if isinstance(strategy, HasNotice) and strategy.notice:
    progress.note(strategy.notice)
  progress.note(estimator.describe())
  with InTraining(workdir, progress.note, ledger.__contains__) as in_training:
    progress.phase('search for the best network')
    state, cut = explore(strategy, estimator, Run(task, workdir, ledger, progress, in_training), config, should_stop)
    architecture = strategy.best(state)
    if architecture is None:
      raise UserError(f'none of {len(ledger)} candidates succeeded; see the reasons in {ledger.path}')
    if at_bound := _at_bound(space, architecture, [request.architecture for request, _ in ledger]):
      progress.note(at_bound)
    found = {**({'cut': cut} if cut else {}), 'population': estimator.report(), 'front': strategy.front(state)}
    if isinstance(strategy, HasDecisions) and (decisions := strategy.decisions(state)):
      found['decisions'] = [decision.to_json() for decision in decisions]
    del estimator  # Its programs, before the final training needs memory.
    if not train or dataset is None:
      return {'seed': config.seed, 'architecture': architecture.to_json(), **_summary(ledger), **found}
    progress.phase(f'final training of the best network: {architecture}')
    train_winner = control.fit_beside_control if config.control else fit_watched
    final = train_winner(architecture, config, dataset, workdir, progress, in_training=in_training, execution=execution,
                         should_stop=should_stop)
    result = {**final, **_summary(ledger, final['seconds']), **found}
    workdir.write_json('result.json', result)
  workdir.remove(MARK)  # A control that killed the process is in the result.
  return result


def checksum(config: ConfigDict, dataset: Dataset | None) -> str:
  """Returns the digests of what the settings let a search look at, images and table: a run resumes only on the same."""
  table = looked_up_in(config, spaces.make(config))
  return ' '.join([*([dataset.checksum] if dataset else []), *([table.checksum] if table else [])])


def explore(strategy: Strategy, estimator: Estimator, run: Run, config: ConfigDict,
            should_stop: Callable[[], bool]) -> tuple[Any, str]:
  """Runs the strategy to its end, or to that of the budget. What the ledger knows is not evaluated again.

  Returns:
    Its state, and which budget cut the search off before its end; empty if none did.
  """
  time_left = TimeLeft()
  failures, reason = killers_in_a_row(run.ledger), ''
  state = _restore(strategy, run, config.seed)
  told = len(strategy.decisions(state)) if isinstance(strategy, HasDecisions) else 0
  budget = settings.read(strategies.Budget, config.budget, 'budget')

  def on_answer(request: Request, evaluation: Evaluation, state: Any) -> None:
    nonlocal failures
    failures = 0 if evaluation.ok else failures + 1
    if failures >= config.max_failures_in_a_row:
      raise UserError(f'{failures} candidates in a row failed, the last: {evaluation.reason}; mend it, take a new --workdir')
    if evaluation.ok:
      time_left.add(evaluation.train_macs, evaluation.seconds, evaluation.compile_seconds)
    run.progress.left(time_left.predict([estimator.predict_macs(r) for r in _left(strategy, state, run, config)]))
    run.progress.candidate(request, evaluation)

  def on_tell(state: Any) -> None:
    nonlocal told
    time_left.told()
    if isinstance(strategy, HasDecisions):
      decisions = strategy.decisions(state)
      for decision in decisions[told:]:
        run.progress.note(str(decision))
      told = len(decisions)
    run.workdir.write_sealed('controller.json', {'evaluations': len(run.ledger), 'state': strategy.to_json(state)})
    run.progress.describe(strategy.describe(state))

  def cut(requests: Sequence[Request], new: Sequence[Request], state: Any) -> bool:
    nonlocal reason
    spending = Spending(budget, run.ledger, estimator.predict_macs, lambda: _last(strategy, state, run.task, config))
    reason = spending.cut(requests, new)
    return bool(reason)

  run.progress.describe(strategy.describe(state))
  state = drive(
      strategy, estimator, state, run.ledger, on_answer=on_answer, on_tell=on_tell, cut=cut, should_stop=should_stop,
      estimate=None if config.estimator == 'table' else run.in_training.estimate)  # Nobody dies of being looked up.
  if reason:
    run.progress.note(f'the search ends here by config.{reason}')
  return state, reason


def _restore(strategy: Strategy, run: Run, seed: int) -> Any:
  """Returns the strategy's last state, or else its first: through the ledger's answers the search comes back to the last.

  A state that has seen more than the ledger holds, as after a torn line, is not sound.
  """
  record = run.workdir.read_sealed('controller.json', damaged=run.progress.note)
  try:
    if record is not None and record['evaluations'] <= len(run.ledger):
      return strategy.from_json(record['state'])
  except (AttributeError, KeyError, TypeError, ValueError) as error:
    reason = f'{type(error).__name__}: {error}; or it is of another version'
    run.progress.note(f'{run.workdir.path}/controller.json is damaged ({reason}) and is made again')
  return strategy.init(seed)


def _left(strategy: Strategy, state: Any, run: Run, config: ConfigDict) -> list[Request]:
  """Returns what the strategy sees still to be trained if nothing more is accepted, and the final training."""
  return [*(r for r in strategy.outlook(state) if run.ledger.get(r) is None), *_last(strategy, state, run.task, config)]


def _last(strategy: Strategy, state: Any, task: Task, config: ConfigDict) -> list[Request]:
  """Returns the final training of the network that is the best so far, and its control's; nothing if there is none.

  A candidate's rate is that of all devices, which one network alone does not keep busy; the two side by side do.
  """
  winner = strategy.best(state)
  if winner is None:
    return []
  controls = []
  if config.control and config.estimator == 'trained':
    controls = [control.unsearched(spaces.make(config), config, task)]
  return [final_request(network, config) for network in dict.fromkeys([winner, *controls])]


def _at_bound(space: SearchSpace[Any], architecture: Architecture, tried: Iterable[Architecture]) -> str:
  """Returns one line where the best network is as deep or as wide as its space allows, or more, and no larger one was tried."""
  if not isinstance(space, HasDepthAndWidth):
    return ''

  def above(network: Architecture) -> dict[str, int]:
    layers, steps = space.size_steps(network)
    return {'depth': layers - len(space.depths) + 1, 'width': -steps}

  best, others = above(architecture), [above(network) for network in tried]
  free = [name for name, sizes in (('depth', space.depths), ('width', space.widths)) if len(sizes) > 1]
  reached = [name for name in free if best[name] >= 0 and all(other[name] <= best[name] for other in others)]
  if not reached:
    return ''
  more = 'more than ' if any(best[name] > 0 for name in reached) else ''
  return (f"the best network has {more}the largest {' and '.join(reached)} of its space; a larger one may hold a better "
          f'network: config.{space.name}')


def _macs(number: int) -> str:
  return f'{number / 1e6:.1f} M' if number >= 1e6 else f'{number / 1e6:.3g} M' if number >= 1e4 else f'{number:,}'


def _count(number: int) -> str:
  return f'{number:,}' if number < 10**9 else f'about 10^{len(str(number)) - 1}'


def _summary(ledger: Ledger, final_seconds: float | None = None) -> dict[str, Any]:
  """Returns what the ledger says of the search as a whole."""
  seconds: dict[str, float] = collections.defaultdict(float)
  for request, evaluation in ledger:
    seconds[request.phase] += evaluation.seconds
  return {
      'evaluations': len(ledger),
      'failures': [{'key': r.key, 'reason': e.reason} for r, e in ledger if not e.ok],
      'search_train_macs': sum(e.train_macs for _, e in ledger),
      'seconds': {**seconds, **({} if final_seconds is None else {'final': final_seconds})},
      'peak_memory_bytes': peak_memory_bytes(),
  }


if __name__ == '__main__':
  cli.run(main)

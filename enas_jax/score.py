"""Scores networks without training: which of a space's networks, or of your own list, are likely to be good.

    python -m enas_jax.score --space=nasbench201 --scores=all --sample=1000 --workdir=DIR [--config.data.name=...]

Where a benchmark's table knows the networks, the scores are compared with its accuracies.
"""
from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from ml_collections import ConfigDict

from enas_jax import cli, data, paths, settings, spaces, tables
from enas_jax.config import get_config
from enas_jax.data import Dataset, statistics
from enas_jax.errors import Stopped, UserError
from enas_jax.estimators.scoring import SIZES, Members, Result, names
from enas_jax.ledger import Ledger
from enas_jax.progress import Progress
from enas_jax.scores import SCORES, report
from enas_jax.spaces import SPACES
from enas_jax.spaces.base import SearchSpace
from enas_jax.strategies.history import draw
from enas_jax.tables.table import ACCURACY
from enas_jax.training.compile_cache import keep_programs_as_asked
from enas_jax.types import Evaluation, Request, Schedule
from enas_jax.workdir import Workdir

LEAST_IMAGES = 64  # So many have more than one class.
WORST = ':worst'  # Behind a score's name: it is minus infinity.
SCHEDULE = Schedule(epochs=1)  # A request has one; nothing is trained.
TOLD_EVERY = 5.0  # Seconds between lines of progress.


def main(values: flags.FlagValues) -> None:
  """Scores networks without training.

  The folder then holds scores.csv (a row a network) and, where a benchmark's table knows the networks, table.md (rank
  correlations with its accuracies) and correlations.svg. A run that was stopped is resumed by the same command; more networks
  may be asked for later.
  """
  config = values.config
  if values.sample < 1:
    raise UserError(f'--sample={values.sample} is below 1; give at least 1')
  if values.space is not None:
    if values.space not in SPACES:
      raise UserError(f'--space={values.space} is unknown; give one of {SPACES.choices()}')
    config.space = values.space
  asked, space = names(values.scores), spaces.make(config)
  dataset = data.load(config.data.name, data_dir=values.data_dir)
  limits = settings.read(spaces.Limits, config.limits, 'limits')
  part = spaces.Within(space, limits, dataset.task) if limits else space
  networks = _read(Path(values.architectures), part) if values.architectures else draw(part, config.seed, (), values.sample)
  record = ConfigDict({**config.to_dict(), 'scores': list(asked)})
  with Workdir.open(values.workdir, record, data_checksum=dataset.checksum, data=data.record(dataset)) as workdir, \
       Progress() as progress, cli.stop_on_sigterm() as stop:
    keep_programs_as_asked(values.compilation_cache, workdir.path)
    count = max(LEAST_IMAGES, *(SCORES.find(name).make().images for name in asked if name not in SIZES), 0)
    members = Members(space, dataset.task, asked, *first_images(dataset, config.seed, count), seed=config.seed)
    ledger = Ledger(workdir.ledger, space.from_json, deciding=False)
    for notice in filter(None, (data.describe(dataset), workdir.notice, ledger.notice, members.describe())):
      progress.note(notice)
    _score(networks, members, ledger, progress, lambda: stop.requested)
    found = [ledger.get(Request(network, SCHEDULE)) for network in networks]
    scores = report.with_votes({
        name: np.array([_values(evaluation, name) for evaluation in found]) for name in asked})
    truths = _truths(space, networks)
    texts = [space.to_string(network) for network in networks]
    workdir.write_bytes('scores.csv', report.rows(texts, {**scores, **truths}).encode())
    written = ['scores.csv']
    if records := report.correlations(scores, truths):
      workdir.write_bytes('table.md', f'{(text := report.markdown(records))}\n'.encode())
      workdir.write_bytes('correlations.svg', report.picture(records))
      written += ['table.md', 'correlations.svg']
      progress.note(text)
    progress.note(f'{len(networks)} networks; written to {workdir.path}: {", ".join(written)}')


def first_images(dataset: Dataset, seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
  """Returns `count` normalised training images [N, H, W, C] at random and their labels [N], or all there are.

  Raises:
    UserError: there are fewer than two images or classes, or all images are alike.
  """
  train = dataset.train
  chosen = np.random.default_rng(seed).permutation(len(train.labels))[:count]
  images, labels = train.images[chosen], train.labels[chosen]
  if len(images) < 2 or len(np.unique(labels)) < 2:
    raise UserError(f'data: {len(images)} images of {len(np.unique(labels))} class; give at least two of each')
  if (images == images[0]).all():
    raise UserError('data: all images are alike, so that scores have nothing to tell apart; give others')
  mean, std = statistics(train.images)
  return ((images / np.float32(255) - mean) / std).astype(np.float32), labels.astype(np.int32)


def _score(networks: Sequence[Any], members: Members, ledger: Ledger, progress: Progress,
           should_stop: Callable[[], bool]) -> None:
  """Scores what the ledger does not know yet. Raises Stopped where that was asked for."""
  new = [r for r in map(_request, networks) if ledger.get(r) is None]
  progress.note(f'{len(new)} networks to score, {len(networks) - len(new)} are there')
  start = told = before = time.monotonic()
  failed = 0
  for count, (request, found) in enumerate(zip(new, members.scores([r.architecture for r in new]), strict=True), 1):
    now = time.monotonic()
    ledger.add(request, _evaluation(found, now - before))
    if found.reason and not failed:
      progress.note(f'{request.architecture}: {found.reason}')
    failed += bool(found.reason)
    before = now
    if should_stop():
      raise Stopped
    if count == 1:
      start = told = now  # What came before is compiling, mostly.
    if now - told > TOLD_EVERY or count == len(new):
      told, each = now, (now - start) / max(1, count - 1)
      progress.note(f'{count} of {len(new)} scored, {each:.2f} s each, about {each * (len(new) - count) / 60:.0f} min left')
  if failed:
    progress.note(f'{failed} of {len(new)} lack a score; the first reason is above')


def _request(network: Any) -> Request:
  return Request(network, SCHEDULE)


def _evaluation(found: Result, seconds: float) -> Evaluation:
  """A network's scores as a ledger keeps them. It holds finite numbers alone: minus infinity, the worst, is a mark beside."""
  metrics = {name: value for name, value in found.values.items() if np.isfinite(value)}
  metrics |= {name + WORST: 1.0 for name, value in found.values.items() if np.isneginf(value)}
  return Evaluation(metrics=metrics, seconds=seconds, reason='' if metrics else found.reason or 'no score is a finite number')


def _values(evaluation: Evaluation | None, name: str) -> float:
  """Returns a score as it was kept; NaN where there is none."""
  if evaluation is None or name + WORST in evaluation.metrics:
    return -np.inf if evaluation else np.nan
  return evaluation.metrics.get(name, np.nan)


def _read(path: Path, space: SearchSpace[Any]) -> list[Any]:
  """Reads a user's list of networks, one text a line, as the space writes them. Raises UserError, which names the line."""
  path = paths.read(path, '--architectures=')
  try:
    lines = path.read_text().splitlines()
  except (OSError, UnicodeDecodeError) as error:
    raise UserError(f'--architectures={path} cannot be read ({error}); give a text file, an architecture a line') from error
  found = []
  for number, line in enumerate(lines, 1):
    if line.strip():
      try:
        found.append(space.from_string(line.strip()))
      except UserError as error:
        raise UserError(f'--architectures={path}, line {number}: {error}') from error
  if not found:
    raise UserError(f'--architectures={path} has no architecture; give one a line, as {space.name} writes them')
  return list(dict.fromkeys(found))


def _truths(space: SearchSpace[Any], networks: Sequence[Any]) -> dict[str, np.ndarray]:
  """Returns the accuracies that a benchmark's table has of these networks at its own size, by column; NaN where it has none.

  Of a data set and split they are those after the longest trainings.
  """
  official = spaces.make(get_config(), space.name)
  try:
    table = tables.find(official)
  except UserError:  # No table of this space comes with the package.
    return {}
  known = [table.row(official.from_string(space.to_string(network))) for network in networks]
  accuracies = sorted((m for m in map(ACCURACY.fullmatch, table.columns) if m), key=lambda m: int(m[3]))
  columns = {(m[1], m[2]): m[0] for m in accuracies}.values()
  rows = np.array([-1 if row is None else row for row in known])
  return {name: np.where(rows >= 0, table.columns[name][rows], np.nan) for name in columns}


def _define_flags(values: flags.FlagValues) -> None:
  cli.define_programs_and_data(values)
  flags.DEFINE_string('space', None, 'The search space. Default: config.space.', flag_values=values)
  known = ', '.join((*SIZES, *SCORES))
  flags.DEFINE_list('scores', ['all'], f"Some of {known}, with commas between, or all.", flag_values=values)
  flags.DEFINE_integer('sample', 1000, 'How many networks are drawn.', flag_values=values)
  cli.define_path(
      'architectures', None, 'A file with one architecture a line, as the space writes them, in place of a sample.',
      values=values)


if __name__ == '__main__':
  cli.run(main, define_flags=_define_flags, trains=False)

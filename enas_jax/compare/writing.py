"""A comparison as files: a table for people, rows for spreadsheets, and a picture."""
from __future__ import annotations

import csv
import io

import numpy as np

from enas_jax.compare.comparison import Comparison

HEADERS = {'valid': 'validation', 'test': 'test'}
EARLY = 0.9  # Of the budget: what spent less ended early.


def markdown(comparison: Comparison) -> str:
  """A row a strategy; accuracies and regrets in % and points, mean and standard deviation over trials.

  Where a strategy ended early, `random there` is what random search has after as many queries.
  """
  records = comparison.summary()
  columns = [  # Header, a cell a strategy, and the cell of the table's best.
      ('strategy', [r['strategy'] for r in records], "the table's best"),
      ('trials', [str(r['trials']) for r in records], ''),
      ('queries', [f"{r['queries']:.4g}" for r in records], str(len(comparison.table)))]
  early = any(r['queries'] < EARLY * comparison.queries for r in records)
  for split in comparison.splits:
    values, name = [r[split] for r in records], HEADERS[split]
    best = f'{100 * comparison.optimum(split):.2f}'
    columns.append((f'{name} %', [_spread(v['mean'], v['std'], 100) for v in values], best))
    columns.append((f'regret ({name})', [_number(v['regret']) for v in values], '0.00'))
    columns += [('random there', [_number(v['random']) for v in values], '')] * early
  if comparison.objectives:
    volumes = [r['hypervolume'] for r in records]
    columns.append(('hypervolume', [_spread(v['mean'], v['std'], 1, 4) for v in volumes], '1.0000'))
  columns.append(('seconds a trial', [f"{r['seconds']:.2f}" for r in records], ''))
  texts = [(header, *cells, best) for header, cells, best in columns]
  padded = [[text.ljust(max(map(len, column))) for text in column] for column in texts]
  lines = ['| ' + ' | '.join(cells) + ' |' for cells in zip(*padded, strict=True)]
  rule = '| ' + ' | '.join('-' * len(column[0]) for column in padded) + ' |'
  notes = ['', 'Chosen by test accuracy, so these are optimistic.'] if comparison.score == 'test' else []
  return '\n'.join([lines[0], rule, *lines[1:], *notes])


def rows(comparison: Comparison) -> str:
  """CSV, a row a trial; accuracies are fractions."""
  records = comparison.results()
  text = io.StringIO()
  writer = csv.DictWriter(text, records[0], lineterminator='\n')
  writer.writeheader()
  writer.writerows(records)
  return text.getvalue()


def picture(comparison: Comparison) -> bytes:
  """SVG: the best so far by queries, the mean over trials with a band of one standard deviation; a panel a split."""
  import matplotlib  # Half a second, and only here.
  from matplotlib.figure import Figure

  splits = comparison.splits
  figure = Figure(figsize=(5.5 * len(splits), 4.2), layout='constrained')
  queries = np.arange(1, comparison.queries + 1)
  for axes, split in zip(figure.subplots(1, len(splits), squeeze=False)[0], splits, strict=True):
    shown = []
    for name in comparison.trials:
      mean, std = _band(100 * comparison.curve(name, split))
      (line,) = axes.plot(queries, mean, label=name)
      axes.fill_between(queries, mean - std, mean + std, color=line.get_color(), alpha=0.2, linewidth=0)
      shown.append(mean[max(1, len(mean) // 20) - 1:])
    best = 100 * comparison.optimum(split)
    axes.axhline(best, color='black', linestyle=':', linewidth=1, label='best of the table')
    low = np.nanmin(np.concatenate(shown)) if np.isfinite(np.concatenate(shown)).any() else best - 1
    axes.set_ylim(low - 0.1 * (best - low), best + 0.05 * (best - low) + 1e-3)
    axes.set(xlabel='queries (trainings)', ylabel=f'{HEADERS[split]} accuracy of the best so far, %')
  figure.axes[0].legend(loc='lower right', fontsize='small')
  figure.suptitle(f'{comparison.table.name}, {comparison.dataset}, {len(next(iter(comparison.trials.values())))} trials')
  buffer = io.BytesIO()
  with matplotlib.rc_context({'svg.hashsalt': 'enas_jax'}):  # Without it equal pictures would have other names for their parts.
    figure.savefig(buffer, format='svg', metadata={'Date': None})
  return buffer.getvalue()


def _band(curves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Mean and standard deviation over the trials that have something already; NaN where none has."""
  known = ~np.isnan(curves)
  count = np.maximum(known.sum(axis=0), 1)
  mean = np.where(known.any(axis=0), np.nansum(curves, axis=0) / count, np.nan)
  return mean, np.sqrt(np.nansum((curves - mean) ** 2, axis=0) / count)


def _spread(mean: float | None, std: float | None, scale: float, digits: int = 2) -> str:
  if mean is None:
    return 'none'
  return f'{scale * mean:.{digits}f}' + ('' if std is None else f' ± {scale * std:.{digits}f}')


def _number(value: float | None) -> str:
  return '' if value is None else f'{100 * value:.2f}'

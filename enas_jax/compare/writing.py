"""A comparison as files: a table for people, rows for spreadsheets, and a picture."""
from __future__ import annotations

import csv
import io
from typing import Any

import numpy as np

from enas_jax.compare.comparison import Comparison

HEADERS = {'valid': 'validation', 'test': 'test'}


def markdown(comparison: Comparison) -> str:
  """A row a strategy; accuracies and regrets in % and points, mean and standard deviation over trials."""
  splits = comparison.splits
  header = ['strategy', 'trials', 'queries']
  for split in splits:
    header += [f'{HEADERS[split]} %', f'regret ({HEADERS[split]})', 'random there']
  header += ['hypervolume'] * bool(comparison.objectives) + ['seconds a trial']
  lines = [[r['strategy'], str(r['trials']), f"{r['queries']:.4g}", *_cells(r, splits)] for r in comparison.summary()]
  best = [f'{comparison.optimum(split):.2%}'.rstrip('%') for split in splits]
  lines.append(['the table\'s best', '', str(len(comparison.table)), *(c for b in best for c in (b, '0.00', ''))])
  lines[-1] += [''] * (len(header) - len(lines[-1]))
  widths = [max(len(line[i]) for line in (header, *lines)) for i in range(len(header))]
  rows = [header, ['-' * w for w in widths], *lines]
  return '\n'.join('| ' + ' | '.join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + ' |' for row in rows)


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


def _cells(record: dict[str, Any], splits: tuple[str, ...]) -> list[str]:
  cells = []
  for split in splits:
    values = record[split]
    cells += [_spread(values['mean'], values['std'], 100), _number(values['regret'], 100), _number(values['random'], 100)]
  if 'hypervolume' in record:
    cells.append(_spread(record['hypervolume']['mean'], record['hypervolume']['std'], 1, 4))
  return [*cells, f"{record['seconds']:.2f}"]


def _spread(mean: float | None, std: float | None, scale: float, digits: int = 2) -> str:
  if mean is None:
    return 'none'
  return f'{scale * mean:.{digits}f}' + ('' if std is None else f' ± {scale * std:.{digits}f}')


def _number(value: float | None, scale: float) -> str:
  return '' if value is None else f'{scale * value:.2f}'



"""How scores rank networks: tables, a picture, and votes of several scores."""
from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from enas_jax.predictors.report import rank_correlation

AZ_NAS = ('az_expressivity', 'az_progressivity', 'az_trainability', 'macs')
VOTE = ('synflow', 'jacob_cov', 'snip')
LEAST = 3  # Networks that a correlation is told of.


def with_votes(columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Returns scores [N] by name with the votes whose scores are all there.

  'az_nas' is the sum over its four scores of the logarithm of a network's rank among all N, from the worst, by N (AZ-NAS).
  'vote' is how many of the others a network beats by at least two of three scores (Abdelfattah et al., ICLR 2021).
  A network that lacks a score, NaN, counts as the worst by it.
  """
  from scipy.stats import rankdata  # Slow to import.

  found = dict(columns)
  ranks = {name: rankdata(np.where(np.isnan(values), -np.inf, values)) for name, values in columns.items()}
  if all(name in columns for name in AZ_NAS):
    found['az_nas'] = np.sum([np.log(ranks[name] / len(ranks[name])) for name in AZ_NAS], axis=0)
  if all(name in columns for name in VOTE):
    beaten = sum((ranks[name][:, None] > ranks[name]).astype(int) for name in VOTE)
    found['vote'] = (beaten >= 2).sum(1).astype(float)
  return found


def correlations(scores: Mapping[str, np.ndarray], truths: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
  """Returns how each score ranks by each true value: a record for each pair, the best Spearman correlation first.

  A network whose score is minus infinity ranks last by it. Those that lack either number, NaN, are left out of their pair,
  which is left out where fewer than three remain.
  """
  records = []
  for truth, actual in truths.items():
    for name, values in scores.items():
      values = np.where(np.isneginf(values), np.min(values, initial=0, where=np.isfinite(values)) - 1, values)
      both = np.isfinite(values) & np.isfinite(actual)
      if both.sum() >= LEAST:
        report = rank_correlation(values[both].tolist(), actual[both].tolist())
        records.append({'truth': truth, 'score': name, 'networks': int(both.sum()), 'spearman': report.spearman,
                        'kendall': report.kendall, 'best by score': float(actual[both][np.argmax(values[both])])})
  return sorted(records, key=lambda r: (r['truth'], -np.nan_to_num(r['spearman'], nan=-2)))


def markdown(records: Sequence[Mapping[str, Any]]) -> str:
  """Returns the correlations as a table; the last column has the accuracy of the network that a score likes best."""
  lines = ['| score | with | networks | Spearman | Kendall | of the best by score |', '| --- | --- | --- | --- | --- | --- |']
  for r in records:
    best = f"{100 * r['best by score']:.2f} %"
    lines.append(f"| {r['score']} | {r['truth']} | {r['networks']} | {r['spearman']:.3f} | {r['kendall']:.3f} | {best} |")
  return '\n'.join(lines)


def rows(architectures: Sequence[str], columns: Mapping[str, np.ndarray]) -> str:
  """Returns CSV, a row a network; empty where a number is not known."""
  text = io.StringIO()
  writer = csv.writer(text, lineterminator='\n')
  writer.writerow(['architecture', *columns])
  for index, architecture in enumerate(architectures):
    writer.writerow([architecture, *('' if np.isnan(v := float(c[index])) else repr(v) for c in columns.values())])
  return text.getvalue()


def picture(records: Sequence[Mapping[str, Any]]) -> bytes:
  """Returns an SVG with a bar for the Spearman correlation of each score with the first true value."""
  import matplotlib  # Half a second, and only here.
  from matplotlib.figure import Figure

  truth = records[0]['truth']
  shown = [r for r in records if r['truth'] == truth and np.isfinite(r['spearman'])][::-1]
  figure = Figure(figsize=(6, 0.8 + 0.25 * len(shown)), layout='constrained')
  axes = figure.subplots()
  axes.barh([r['score'] for r in shown], [r['spearman'] for r in shown])
  axes.set(xlabel=f"Spearman's rank correlation with {truth}, {shown[0]['networks']} networks" if shown else '')
  axes.axvline(0, color='black', linewidth=0.8)
  buffer = io.BytesIO()
  with matplotlib.rc_context({'svg.hashsalt': 'enas_jax'}):
    figure.savefig(buffer, format='svg', metadata={'Date': None})
  return buffer.getvalue()

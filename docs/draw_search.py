"""Draws a search: the accuracy of every candidate, and the network that it found.

    python docs/draw_search.py WORKDIR PICTURE.svg

Reads ledger.jsonl, and, where they are there already, architecture.json and result.json. Needs neither JAX nor the images.
"""
import json
import pathlib
import sys

import matplotlib
import matplotlib.pyplot as plt
from matplotlib.patches import Rectangle

# Okabe and Ito: told apart by all eyes. In the order in which phases come.
COLOURS = ('#0072B2', '#E69F00', '#009E73', '#CC79A7', '#56B4E9', '#D55E00')
OPERATIONS = {0: ('separable convolution', '#B3D4EA'), 1: ('convolution', '#F2A65A')}
INK, PALE = '#222222', '#8A8A8A'
STYLE = {
    'axes.edgecolor': PALE, 'axes.labelcolor': INK, 'axes.spines.right': False, 'axes.spines.top': False, 'font.size': 9,
    'legend.frameon': False, 'svg.fonttype': 'path', 'svg.hashsalt': 'enas_jax', 'text.color': INK, 'xtick.color': PALE,
    'ytick.color': PALE,
}


def main(workdir, picture):
  """Writes the picture; its suffix tells the format."""
  records = [json.loads(line) for line in (workdir / 'ledger.jsonl').read_text().splitlines()]
  architecture, result = (_read(workdir / name) for name in ('architecture.json', 'result.json'))
  with matplotlib.rc_context(STYLE):
    if architecture is None:
      figure, top = plt.subplots(figsize=(8, 3.4), layout='constrained')
    else:
      figure, (top, bottom) = plt.subplots(2, figsize=(8, 5.2), height_ratios=(3, 1.5), layout='constrained')
      draw_chain(bottom, architecture, result)
    draw_candidates(top, records)
    figure.savefig(picture, dpi=150, facecolor='white', metadata={'Date': None} if picture.suffix == '.svg' else None)


def draw_candidates(axes, records):
  """Accuracy over candidates, in the order in which they finished; failed ones at the bottom edge."""
  phases = dict.fromkeys(r['request']['phase'] for r in records)
  for phase, colour in zip(phases, COLOURS, strict=False):
    of_phase = [(i, r) for i, r in enumerate(records, 1) if r['request']['phase'] == phase]
    epochs = sorted({s.get('stop_epoch', s['epochs']) for s in (r['request']['schedule'] for _, r in of_phase)})
    span = f'{epochs[0]} to {epochs[-1]}' if len(epochs) > 1 else str(epochs[0])
    good = [(i, 100 * r['evaluation']['metrics']['accuracy']) for i, r in of_phase if not r['evaluation']['reason']]
    label = f"{phase or 'candidates'} ({len(of_phase)}; {span} epoch{'' if span == '1' else 's'})"
    axes.plot(*zip(*good, strict=True) if good else ((), ()), 'o', color=colour, markersize=5, label=label, clip_on=False)
  failed = [i for i, r in enumerate(records, 1) if r['evaluation']['reason']]
  if failed:
    heights = [0.02] * len(failed)
    axes.plot(failed, heights, 'x', color=INK, transform=axes.get_xaxis_transform(), label=f'failed ({len(failed)})')
  axes.set_xlabel('candidate')
  axes.set_ylabel('accuracy, %')
  axes.xaxis.get_major_locator().set_params(integer=True)
  axes.grid(axis='y', color='#E6E6E6', linewidth=0.8)
  axes.set_axisbelow(True)
  axes.legend(loc='center left', bbox_to_anchor=(1.01, 0.5), handletextpad=0.3, borderaxespad=0)


def draw_chain(axes, architecture, result):
  """The layers from left to right, as tall as their channels, wider for a larger kernel; at a dotted line the image halves."""
  operations, kernels = ([int(c) for c in architecture[name]] for name in ('operations', 'kernels'))
  depth, width = len(operations), architecture['width']
  halves, rotation = (depth // 3, 2 * depth // 3), 90 if depth > 14 else 0
  x = _box(axes, 0.0, 3, 2 * width, '#DDDDDD', 'stem', rotation)
  channels = width
  for layer, (operation, kernel) in enumerate(zip(operations, kernels, strict=True)):
    if layer in halves:
      channels *= 2
      axes.plot([x, x], [-2.2 * width, 2.2 * width], color=PALE, linewidth=0.8, linestyle=':')
    x = _box(axes, x, kernel, channels, OPERATIONS[operation][1], f'{kernel}\u00d7{kernel}', rotation)
  x = _box(axes, x, 3, 4 * width, '#DDDDDD', 'head', rotation)
  for stage, (start, end) in enumerate(zip((0, *halves), (*halves, depth), strict=True)):
    middle = sum(0.5 + kernel / 6 for kernel in kernels[:start]) + sum(0.5 + kernel / 6 for kernel in kernels[start:end]) / 2
    axes.text(1 + middle, -2.9 * width, f'{width * 2**stage} channels', ha='center', va='center', fontsize=8, color=PALE)
  for name, colour in (OPERATIONS[o] for o in sorted(set(operations))):
    axes.add_patch(Rectangle((0, 0), 0, 0, color=colour, label=name))
  axes.legend(loc='center left', bbox_to_anchor=(1.01, 0.5), handletextpad=0.4, borderaxespad=0, handlelength=1, handleheight=1)
  facts = [f'depth {depth}, width {width}']
  if result:
    facts += [f"{result['params']:,} parameters", f"test accuracy {100 * result['test_accuracy']:.2f} %"]
  axes.set_title('the network found: ' + ', '.join(facts), fontsize=9, loc='left')
  axes.set(xlim=(-0.1, x), ylim=(-3.3 * width, 2.3 * width))
  axes.axis('off')


def _box(axes, x, kernel, channels, colour, label, rotation):
  """A layer at x; returns where the next one starts."""
  length = 0.5 + kernel / 6
  axes.add_patch(Rectangle((x + 0.06, -channels / 2), length - 0.12, channels, facecolor=colour, edgecolor=INK, linewidth=0.6))
  axes.text(x + length / 2, 0, label, ha='center', va='center', fontsize=8, rotation=rotation)
  return x + length


def _read(path):
  return json.loads(path.read_text()) if path.exists() else None


if __name__ == '__main__':
  if len(sys.argv) != 3:
    sys.exit('usage: python docs/draw_search.py WORKDIR PICTURE.svg')
  main(*map(pathlib.Path, sys.argv[1:]))

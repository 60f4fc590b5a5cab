"""Candidates trained per second: the package's population against one after the other, naive vmap, and PyTorch. One run.

    python benchmarks/throughput.py [--rows=plain,module,vmap,population,torch] [--population=1,4,8,16,64] [--full]

Rows:
  plain           the network with XLA's own grouped convolutions, one jitted candidate after the other
  module          the same with the form of the separable convolution that the package chooses
  vmap-M          `plain` under vmap, M replicates of one architecture: different architectures cannot share a vmap. So a sample
                  of them (--vmap_sample) is trained, each with its own replicates, and compared with the same ones elsewhere
  population-P    the public estimator with P slots, on all candidates, repeated until there are P; programs are planned as for
                  a search of the workload's widths with --packing_steps steps a candidate
  torch           PyTorch, one after the other: the fastest of NCHW and channels_last, one thread and all, with and without
                  torch.compile (pip install -r benchmarks/requirements.txt)

Workload: workload.py; on a CPU scaled down so that a row takes one or two minutes, with --full or elsewhere at full size. Every
flag changes one of its numbers. A round trains each candidate from new initial weights for --steps steps on the same images and
scores one batch; augmentation, optimiser and initial weights are part of it, compilation is not.

Each row lives in a process of its own, for its peak memory. The processes set up one after the other and then take turns, a
round each; a figure is the least over the rounds. Process time is of all cores, and threads that wait for one another spend it,
too: --cores=1 has every row on one core. On an accelerator it means nothing: there wall-clock stands in its place.

Columns:
  images/s        trained images, summed over candidates, a second of wall-clock and of process time
  ms a step       process time of a candidate's step
  x plain, torch  speed as a multiple of that row's, on the same candidates, by process time
  compile s       an architecture, tracing included: into an empty persistent compilation cache, and once more from it.
                  torch: the first step of each network
  peak MB         CPU: resident memory of the process, with all programs of the row compiled in it. Accelerator: on the device
  padding         share of the arithmetic that is spent on padding, as the estimator reports it; 0 elsewhere
  roofline        least time over wall-clock. Least time: the larger of FLOPs / peak and bytes / peak bandwidth, with
                    FLOPs a step = 2 x 3 x multiply-adds of a forward pass x batch
                    bytes a step = 3 x batch x size x (sum over layers of activations in + out) + 8 x 4 x parameters
                  since forward a layer reads its input and writes its output, and backward it reads its input, its output and
                  the output's gradient and writes the input's (hence 1 in + 1 out, then 2 in + 2 out); weights are read
                  twice, gradients written and read, weights and momentum read and written. Peaks are those of a large
                  matrix product and a large copy, measured at the start (or --peak_gflops, --peak_gbytes). The batch that is
                  scored is left out. Of other spaces than chains the layers' activations are not counted.
  all s           all candidates, compiling from an empty cache and one round, by wall-clock
"""
from __future__ import annotations

import argparse
import fractions
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator

import workload

from enas_jax import paths
from enas_jax.errors import UserError
from enas_jax.families.chain import packing
from enas_jax.spaces import ChainArchitecture

ROWS = ('plain', 'module', 'vmap', 'population', 'torch')
CPU = {'width_scale': 1 / 8, 'depth_scale': 1 / 2, 'batch': 32, 'steps': 20, 'candidates': 8, 'vmap_sample': 2}
FULL = {'width_scale': 1.0, 'depth_scale': 1.0, 'batch': 64, 'steps': 20, 'candidates': 16, 'vmap_sample': 4}
RECORDED = ('space', 'set', 'operation', 'width_scale', 'depth_scale', 'batch', 'steps', 'candidates', 'image_size', 'data',
            'vmap_members', 'dtype', 'side_by_side', 'lowering', 'slots', 'cores', 'packing_steps')
COLUMNS = ('row', 'candidates', 'images/s wall', 'images/s process', 'ms a step', 'x plain', 'x torch', 'compile s cold',
           'warm', 'peak MB', 'padding', 'roofline', 'all s')


class Row:
  """A row's process, seen from outside. `facts`: what it said; `rounds`: its parts; `failed`: why, or ''."""

  def __init__(self, name, settings, scratch):
    self.name, self.settings, self.facts, self.rounds, self.failed = name, settings, {}, [], ''
    folder = pathlib.Path(scratch, name)
    folder.mkdir()
    self._errors = folder / 'errors.txt'
    settings = {**settings, 'row': name, 'scratch': str(folder / 'cache')}
    # Several processes share an accelerator: none may take all its memory. A cold compilation starts from an empty cache.
    environment = {'XLA_PYTHON_CLIENT_PREALLOCATE': 'false', 'TORCHINDUCTOR_CACHE_DIR': str(folder / 'inductor'), **os.environ}
    command = [sys.executable, pathlib.Path(__file__).with_name('rows.py'), json.dumps(settings)]
    with open(self._errors, 'w') as errors:
      self._process = subprocess.Popen(
          command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment)
    self.facts = self._answer()

  def train(self):
    if not self.failed:
      self._say('round\n')
      self.rounds.append(self._answer())

  def end(self):
    if not self.failed:
      self._say('\n')
      self.facts.update(self._answer())
    self._process.stdin.close()
    self._process.wait()

  def _say(self, line):
    self._process.stdin.write(line)
    self._process.stdin.flush()

  def _answer(self):
    line = self._process.stdout.readline()
    answer = json.loads(line) if line else {'failed': f'its process ended with {self._process.wait()}'}
    if isinstance(answer, dict) and 'failed' in answer:
      self.failed = answer['failed']
      lines = self._errors.read_text(errors='replace').splitlines()[-20:]
      print(f'{self.name}: {self.failed}', *lines, sep='\n', file=sys.stderr, flush=True)
      return {}
    return answer

  def seconds(self, clock: int, only: set[int] | None = None) -> tuple[float, int]:
    """Least (process, wall)[clock] seconds of a round on the candidates `only`, and how many candidates these trained."""
    parts = [[p for p in parts if only is None or set(p[0]) <= only] for parts in self.rounds]
    return min(sum(p[2 + clock] for p in ps) for ps in parts), sum(len(p[0]) * p[1] for p in parts[0])

  @property
  def indices(self) -> set[int]:
    return {i for part in self.rounds[0] for i in part[0]}


def record(row: Row, rows: dict[str, Row], load, settings: dict, machine: dict) -> dict:
  """All figures of a row."""
  common = {'row': row.name, 'backend': machine['backend'], 'device': machine['device']}
  if row.failed:
    return {**common, 'failed': row.failed}
  on_cpu = machine['backend'] == 'cpu'
  clocks = {'process': 0, 'wall': 1} if on_cpu else {'wall': 1}
  (process, trained), (wall, _) = row.seconds(0), row.seconds(1)
  images = trained * load.images
  speed = {f'times_{other}_{clock}': _speed(row, rows.get(other), index)
           for other in ('plain', 'torch') for clock, index in clocks.items()}
  least = trained * statistics.mean(least_seconds(load, i, settings, machine) for i in row.indices)
  architectures = len({load.requests[i].architecture for i in row.indices})
  return {
      **common,
      'candidates': trained,
      'images_a_second_wall': images / wall,
      'images_a_second_process': images / process if on_cpu else None,
      'wall_ms_a_step': 1e3 * wall / trained / settings['steps'],
      'process_ms_a_step': 1e3 * process / trained / settings['steps'] if on_cpu else None,
      **speed,
      'compile_cold_s': row.facts['compile_cold'] / architectures,
      'compile_warm_s': row.facts['compile_warm'] / architectures,
      'architectures': architectures,
      'programs': row.facts.get('programs'),
      'slot_fill': row.facts.get('slot_fill'),
      'peak_mb': row.facts['peak_bytes'] / 1e6,
      'base_mb': row.facts['base_bytes'] / 1e6,
      'padding': row.facts.get('padding', 0.0),
      'roofline': least / wall,
      'all_s': row.facts['compile_cold'] + wall,
      'note': row.facts.get('note', ''),
      'rounds_wall_s': [sum(p[3] for p in parts) for parts in row.rounds],
      'rounds_process_s': [sum(p[2] for p in parts) for parts in row.rounds],
      'settings': {name: row.settings[name] for name in RECORDED},
      'machine': {**machine, 'versions': {**machine['versions'], **row.facts.get('versions', {})}},
  }


def _speed(row, other, clock):
  """How many times as fast as the other row, on the candidates of both; None where there are none."""
  if other is None or other.failed:
    return None
  # A part is measured whole: a row of one part is compared on all its candidates.
  only = row.indices & other.indices
  (mine, count), (theirs, other_count) = row.seconds(clock, only), other.seconds(clock, only)
  return (theirs / other_count) / (mine / count) if count and other_count else None


def least_seconds(load, index: int, settings: dict, machine: dict) -> float:
  """Least seconds of one candidate's training by the roofline above."""
  architecture = load.requests[index].architecture
  macs, params = load.space.macs(architecture, load.task), load.space.num_params(architecture, load.task)
  height, width, channels = load.task.image_shape
  chain = isinstance(architecture, ChainArchitecture)
  values = channels * height * width + packing.work(architecture, load.task)[1] if chain else 0
  size = 2 if settings['dtype'] == 'bfloat16' else 4
  flops, moved = 6 * macs * load.images, 3 * size * values * load.images + 32 * params * settings['steps']
  return max(flops / machine['peak_flops'], moved / machine['peak_bandwidth'])


def cells(r: dict) -> list[str]:
  """A record as a line of the table."""
  if 'failed' in r:
    return [r['row'], f'failed: {r["failed"]}'] + [''] * (len(COLUMNS) - 2)

  def number(value, form):
    return '' if value is None else format(value, form)

  clock = 'wall' if r['process_ms_a_step'] is None else 'process'
  return [r['row'], str(r['candidates']), number(r['images_a_second_wall'], '.0f'), number(r['images_a_second_process'], '.0f'),
          number(r[f'{clock}_ms_a_step'], '.2f'), number(r[f'times_plain_{clock}'], '.2f'),
          number(r[f'times_torch_{clock}'], '.2f'), number(r['compile_cold_s'], '.2f'), number(r['compile_warm_s'], '.2f'),
          number(r['peak_mb'], '.0f'), number(r['padding'], '.1%'), number(r['roofline'], '.1%'),
          number(r['all_s'], '.1f')]


def measure(args) -> int:
  """Starts the rows, lets them take turns, prints. Returns the exit code: 1 where a row failed."""
  settings = vars(args)
  with tempfile.TemporaryDirectory(prefix='throughput_') as scratch:
    machine = Row('machine', settings, scratch)
    machine.end()
    if machine.failed:
      return 1
    machine = {name: value for name, value in machine.facts.items() if not name.endswith('_bytes')}
    for name, given in (('peak_flops', args.peak_gflops), ('peak_bandwidth', args.peak_gbytes)):
      machine[name] = given * 1e9 if given else machine[name]
    defaults = CPU if machine['backend'] == 'cpu' and not args.full else FULL
    settings.update({name: value for name, value in defaults.items() if settings[name] is None})
    load = workload.make(settings)
    print(f"{machine['device']} ({machine['backend']}), {machine['cores']} cores, {machine['peak_flops'] / 1e9:.0f} GFLOP/s, "
          f"{machine['peak_bandwidth'] / 1e9:.0f} GB/s; {len(load.requests)} candidates, {settings['steps']} steps of "
          f"{settings['batch']} images of side {settings['image_size']}; least of {args.rounds} rounds\n", flush=True)
    rows = {}
    for name, slots in _names(args):
      rows[name] = Row(name, {**settings, 'slots': slots}, scratch)
      print(f'set up: {name}', file=sys.stderr, flush=True)
    for _ in range(args.rounds):
      for row in rows.values():
        row.train()
    for row in rows.values():
      row.end()
  records = [record(row, rows, load, settings, machine) for row in rows.values()]
  lines = [COLUMNS, ['---'] * len(COLUMNS), *map(cells, records)]
  print('\n'.join(f"| {' | '.join(line)} |" for line in lines), flush=True)
  for r in records:
    if r.get('note'):
      print(f"\n{r['row']}: {r['note']}")
  text = ''.join(json.dumps(r) + '\n' for r in records)
  if args.json:
    paths.read(args.json, '--json=').write_text(text)
  else:
    print(f'\n{text}', end='')
  return int(any(row.failed for row in rows.values()))


def _names(args) -> Iterator[tuple[str, int]]:
  """Names of the processes, with the slots of a population."""
  for name in args.rows:
    if name == 'population':
      yield from ((f'{name}-{slots}', slots) for slots in args.population)
    else:
      yield (f'vmap-{args.vmap_members}' if name == 'vmap' else name), 0


def _rows(text: str) -> list[str]:
  names = text.split(',')
  if not set(names) <= set(ROWS):
    raise argparse.ArgumentTypeError(f'give some of {",".join(ROWS)}')
  return names


def _numbers(text: str) -> list[int]:
  return [_positive(part) for part in text.split(',')]


def _positive(text: str) -> int:
  if (value := int(text)) < 1:
    raise ValueError
  return value


def _fraction(text: str) -> float:
  return float(fractions.Fraction(text))


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  add: Callable = parser.add_argument
  add('--rows', type=_rows, default=list(ROWS))
  add('--population', type=_numbers, default=[1, 4, 8, 16, 64], help='slots, a row each')
  add('--vmap_members', type=_positive, default=8)
  add('--vmap_sample', type=_positive, help='architectures in the vmap row')
  add('--torch_compile', type=int, choices=(0, 1), default=1, help='whether to try torch.compile')
  add('--dtype', choices=('float32', 'bfloat16'), default='float32', help='of the population rows, and of the peak')
  add('--lowering', choices=('shifts', 'xla'), default='shifts', help='of the population rows; see networks/planes.py')
  add('--side_by_side', choices=('auto', 'yes', 'no'), default='auto',
      help='whether slots on an accelerator are vmapped; auto: as the model of cost has it')
  add('--packing_steps', type=_positive, default=1000,
      help='steps a candidate that the population plans its programs for: many give many narrow programs')
  add('--rounds', type=_positive, default=3)
  add('--cores', type=_positive, help='that a row may use (Linux); default: all')
  add('--full', action='store_true', help='the defaults of an accelerator on a CPU, too')
  add('--space', default='chain', help='a space of the package')
  add('--set', default='', help='its settings, such as channels=8,cells=1')
  add('--log', help="search_logs.json of EG-NAS's searches")
  add('--width_scale', type=_fraction, help='such as 1/8')
  add('--depth_scale', type=_fraction)
  add('--operation', choices=workload.OPERATIONS, default='separable', help="of the chains' layers")
  add('--image_size', type=_positive, default=32)
  add('--batch', type=_positive)
  add('--steps', type=_positive)
  add('--candidates', type=_positive)
  add('--data', default='synthetic', help='synthetic, or a data set as in config.data.name')
  add('--data_dir')
  add('--peak_gflops', type=float, default=0.0, help='0: measured')
  add('--peak_gbytes', type=float, default=0.0)
  add('--json', help='file for one JSON line a row; default: after the table')
  return parser


def main() -> int:
  """Measures as told. Returns the exit code."""
  args = _parser().parse_args()
  try:
    if args.space == 'chain':
      workload.read_log(args.log)  # Before minutes are spent.
    return measure(args)
  except UserError as error:
    print(f'error: {error}', file=sys.stderr)
    return 2


if __name__ == '__main__':
  sys.exit(main())

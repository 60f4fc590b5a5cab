"""Results are what they were, to the last bit: digests in golden.json of earlier runs.

Those of comparisons are from before the code was laid out anew. Those of trainings were, too, and held through it; they were
made anew since sums over planes keep their digits (benchmarks/README.md, "How exact"), which alone changed them, and that of
the default search once more when its schedule changed. Those with ordinary convolutions changed when these became XLA's own
(log there); they were made anew on a processor without AMX, and are missing for one with it.
A search on a table is arithmetic on the host and the same everywhere. What is trained depends, in its last bits, on the version
of XLA and the machine: digests of others than those in golden.json are skipped. tests/support/golden_runs.py makes them.
"""
import json
import os
import pathlib
import shutil

import pytest
from support import golden_runs
from support.run_records import ledger, read

GOLDEN = json.loads(golden_runs.GOLDEN.read_text())
OLD = pathlib.Path(__file__).parent / 'old_workdir'
# What the old workdir was started with, beside the defaults of its time.
OLD_SETTINGS = (
    'chain.min_depth=3', 'chain.max_depth=4', 'chain.min_width=2', 'chain.max_width=3', 'chain.width_step=1',
    'chain.kernels=(3,)', 'epochs.first=1', 'epochs.per_layer=0', 'epochs.micro=1', 'epochs.final=1',
    'egnas.micro_replicates=1', 'training.batch_size=250', 'training.decay=epoch_cosine', 'training.nesterov=false',
    'training.label_smoothing=0.0', 'training.learning_rate=0.05', 'egnas.window=2',
    'egnas.confidence=0.0', 'egnas.decide_by=accuracy', 'egnas.grow=false', 'egnas.growth_gain=0.0', 'egnas.widen=false',
    'egnas.kernel_walk=false', 'egnas.most_replicates=4',
    'egnas.depth_step=1', 'egnas.micro_groups=0', 'control=false',
    'data.augmentation.choice=paper')


def stored(*path):
  """The digests of this kind of machine; skips the test if there are none."""
  kind = golden_runs.kind_of_machine()
  found = GOLDEN['machines'].get(kind)
  for name in path:
    found = found and found.get(name)
  if found is None:
    pytest.skip(f'golden.json has no {"/".join(path)} of {kind}')
  return found


@pytest.mark.smoke
@pytest.mark.parametrize('space', golden_runs.COMPARED)
def test_strategies_ask_a_table_for_what_they_asked_before(space, tmp_path):
  assert golden_runs.compared(space, tmp_path) == GOLDEN['compared'][space]


@pytest.mark.slow
@pytest.mark.parametrize('strategy', [
    name if name == 'egnas' else pytest.param(name, marks=pytest.mark.once) for name in golden_runs.TRAINED])
def test_a_small_search_is_the_same_to_the_last_bit(strategy, tmp_path):
  expected = stored('trained', strategy)
  assert golden_runs.trained(strategy, tmp_path) == expected


@pytest.mark.skipif('ENAS_JAX_GOLDEN' not in os.environ, reason='minutes; ENAS_JAX_GOLDEN=1 asks for it')
def test_the_default_search_is_the_same_to_the_last_bit(tmp_path):
  expected = stored('default')
  assert golden_runs.default(tmp_path) == expected


@pytest.mark.slow
def test_a_workdir_of_an_earlier_version_is_resumed(tmp_path):
  workdir = shutil.copytree(OLD, tmp_path / 'w')
  before = ledger(workdir)
  golden_runs.command('search', f'--workdir={workdir}', *(f'--config.{setting}' for setting in OLD_SETTINGS))
  assert ledger(workdir)[:len(before)] == before and len(ledger(workdir)) == len(before) + 2
  assert read(workdir, 'result.json')['test_accuracy'] > 0.2
  assert golden_runs.digests(workdir) == stored('old_workdir')

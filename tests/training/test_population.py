"""The compiled training of many candidates: what the compiler made of it, and what each slot does."""
import dataclasses
import json
import os
import re
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from enas_jax.families.chain.network import StackedChain
from enas_jax.families.chain.weights import Capacity
from enas_jax.spaces import ChainArchitecture
from enas_jax.training.keys import data_key
from enas_jax.training.layout import Layout
from enas_jax.training.population import PopulationProgram
from enas_jax.training.state import Control, Hyperparameters
from enas_jax.types import Recipe, Request, Schedule

pytest_plugins = ['support.training_fixtures']
COLLECTIVES = ('all-reduce', 'all-gather', 'reduce-scatter', 'collective-permute', 'all-to-all', 'collective-broadcast')


def control_of(program, *, steps, first=0, finish=True, score=True, epoch=0):
  """As host arrays; `steps` by slot."""
  total = program.layout.total
  request = Request(ChainArchitecture.uniform(3, 2), Schedule(epochs=3, batch_size=8))
  whole, on = np.full(total, 1, np.int32), np.array(steps) > 0
  rates = Hyperparameters(np.full((total, program.all_steps), 0.1, np.float32),
                          *(np.full(total, value, np.float32) for value in (0.9, 3e-4, 5.0, 0.0)))
  return Control(jax.numpy.stack([data_key(0, request)] * total), epoch * whole, first * whole, np.array(steps, np.int32),
                 finish & on, score & on, rates)


def advance(program, **settings):
  tally, accuracy = program.advance(program.put(control_of(program, **settings)))
  return np.asarray(tally.loss), np.asarray(tally.correct), np.asarray(accuracy)


def fill(program, architectures):
  for slot, architecture in enumerate(architectures):
    state = program.initial(architecture, np.random.default_rng(slot))
    program.insert({slot: program.new_member(architecture, state)})


def same(one, other):
  return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))


ARCHITECTURES = [ChainArchitecture(3, (0, 1, 0), (5, 3, 5)), ChainArchitecture(2, (0, 1, 1, 0, 0), (5, 3, 3, 5, 5))]


def test_what_goes_into_a_slot_comes_out(program_with):
  program = program_with(slots=2)
  states = [program.initial(a, np.random.default_rng(slot)) for slot, a in enumerate(ARCHITECTURES)]
  members = [program.new_member(a, s) for a, s in zip(ARCHITECTURES, states, strict=True)]
  program.insert({1: members[1]})
  program.insert({0: members[0]})
  for slot, member in enumerate(members):
    assert same(program.member(slot), member)
    assert jax.tree.structure(program.member(slot)) == jax.tree.structure(member)
  program.insert({1: members[0]})
  assert same(program.member(0), members[0]) and same(program.member(1), members[0])
  with pytest.raises(AssertionError):
    program.insert({0: members[0], 1: members[1]})  # One on each device a call.


def test_a_slot_that_is_left_alone_stays_as_it_is(program_with):
  program = program_with(slots=2)
  fill(program, ARCHITECTURES)
  before = [program.member(slot) for slot in range(2)]
  loss, correct, accuracy = advance(program, steps=[0, 2])
  assert same(program.member(0), before[0]) and not same(program.member(1), before[1])
  assert (loss[0], correct[0], accuracy[0]) == (0, 0, 0)
  assert loss[1] > 0 and 0 < correct[1] <= 16 and accuracy[1] > 0
  alone = program.member(1)
  fill(program, ARCHITECTURES)
  advance(program, steps=[2, 2])
  assert same(program.member(1), alone)  # Whether its neighbour trains or not.


def test_scoring_is_only_done_when_asked_for_and_changes_nothing(program_with):
  program = program_with(slots=2)
  fill(program, ARCHITECTURES)
  scored = advance(program, steps=[2, 2])
  members = [program.member(slot) for slot in range(2)]
  fill(program, ARCHITECTURES)
  unscored = advance(program, steps=[2, 2], score=False)
  assert (unscored[2] == 0).all() and (scored[2] > 0).any()
  np.testing.assert_array_equal(scored[:2], unscored[:2])
  assert all(same(program.member(slot), member) for slot, member in enumerate(members))


def test_an_epoch_in_two_calls_is_the_epoch(program_with):
  program = program_with(slots=2)
  fill(program, ARCHITECTURES)
  whole = advance(program, steps=[2, 2])
  members = [program.member(slot) for slot in range(2)]
  fill(program, ARCHITECTURES)
  advance(program, steps=[1, 1], finish=False, score=False)
  parts = advance(program, steps=[1, 1], first=1)
  np.testing.assert_array_equal(whole, parts)
  assert all(same(program.member(slot), member) for slot, member in enumerate(members))


def test_another_epoch_is_another_order(program_with):
  program = program_with(slots=2)
  losses = []
  for epoch in (0, 1, 0):
    fill(program, ARCHITECTURES)
    losses.append(advance(program, steps=[2, 2], epoch=epoch)[0].tolist())
  assert losses[0] == losses[2] != losses[1]


def test_nothing_is_moved_unasked_while_it_trains(program_with):
  program = program_with(slots=2)
  fill(program, ARCHITECTURES)
  control = program.put(control_of(program, steps=[2, 2]))
  with jax.transfer_guard('disallow'):
    program.advance(control)
  control = control_of(program, steps=[2, 2])
  with jax.transfer_guard('disallow'), pytest.raises(Exception, match='Disallowed host-to-device transfer'):
    program.advance(control)


def test_one_device_exchanges_nothing(program_with):
  text = program_with(slots=2).compiled.as_text()
  assert 'while' in text and not re.search('|'.join(COLLECTIVES), text)


def test_memory_grows_no_faster_than_the_slots(program_with):
  """In turn they share what training needs; what is left of each are its weights."""
  programs = [program_with(slots=slots) for slots in (1, 2)]
  one, two = (program.memory_bytes for program in programs)
  assert 0 < one < two <= 1.2 * 2 * one
  state = sum(x.nbytes for x in jax.tree.leaves(programs[0].members))
  assert one > state + 8 * 64 * 4 * 4  # The stem's output of a batch, at least.


@pytest.mark.once
@pytest.mark.slow
def test_the_time_to_compile_does_not_grow_with_depth(data):
  def seconds(depth):
    network = StackedChain(Capacity.of([ChainArchitecture.uniform(depth, 2)]))
    start = time.process_time()
    program = PopulationProgram(
        network, data, Recipe(8), layout=Layout((jax.devices()[0],)))
    assert program.compile_seconds > 0
    return time.process_time() - start

  cached = jax.config.jax_enable_compilation_cache
  jax.config.update('jax_enable_compilation_cache', False)
  try:
    times = seconds(10), seconds(40)
  finally:
    jax.config.update('jax_enable_compilation_cache', cached)
  assert times[1] <= 2 * times[0]


DEVICES = '''
import dataclasses, json
import jax
import numpy as np
from enas_jax.data.augment import Augmentation
from enas_jax.data.dataset import ImageSet
from enas_jax.training.layout import Layout
from enas_jax.training.population import PopulationProgram
from enas_jax.training.state import TrainingData
from enas_jax.training.slots import Usage, train_in_slots
from enas_jax.families.chain.network import StackedChain
from enas_jax.families.chain.weights import Capacity
from enas_jax.spaces import ChainArchitecture
from enas_jax.types import Recipe, Request, Schedule, Task

rng = np.random.default_rng(0)
def part(count):
  labels = np.arange(count) % 3
  images = rng.integers(0, 120, (count, 8, 8, 1)) + 60 * labels[:, None, None, None]
  return ImageSet(images.astype(np.uint8), labels.astype(np.int32))

data = TrainingData.put(part(20), part(12), mean=np.float32([0.4]), std=np.float32([0.2]),
                        augmentation=Augmentation(crop_padding=1, flip=True, cutout=3), task=Task((8, 8, 1), 3))
capacity = Capacity((1, 1, 2), 2, ((0, 3),))
devices = jax.devices()
assert len(devices) == 8

def program(count, **layout):
  network = StackedChain(capacity, axis='data' if layout.get('data_parallel') else None)
  return PopulationProgram(
      network, data, Recipe(8, keep_last_batch=True), layout=Layout(tuple(devices[:count]), **layout))

def request(i, **schedule):
  settings = {'epochs': 1 + i % 3, 'batch_size': 8, 'learning_rate': 0.05 + 0.01 * i, 'keep_last_batch': True, **schedule}
  return Request(ChainArchitecture.uniform(3 + i % 4, 1 + i % 2), Schedule(**settings), replicate=i)

def train(program, requests, usage=None):
  ended = {t.index: t.state for t in train_in_slots(
      program, requests, seed=5, costs=[r.architecture.depth for r in requests], keep=frozenset(range(99)), usage=usage)}
  return [ended[i] for i in range(len(requests))]

def same(one, other):
  return all(np.array_equal(x, y, equal_nan=True) for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))

def distance(one, other):
  return max(float(np.abs(x - y).max()) for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))

eight, one = program(8), program(1)
requests = [request(i) for i in range(8)]
alone, usage = train(one, requests), Usage()
spread = train(eight, requests, usage)
found = {
    'spread over': sorted({s.device.id for x in jax.tree.leaves(eight.members) for s in x.addressable_shards}),
    'text': eight.compiled.as_text(), 'flops': [eight.compiled.cost_analysis()['flops'], one.compiled.cost_analysis()['flops']],
    'memory': [eight.memory_bytes, one.memory_bytes],
    'same': [same(a, b) for a, b in zip(spread, alone)], 'distance': distance(spread, alone),
    'fill': usage.busy / usage.available,
}
loud = train(eight, [*requests[:2], request(9, learning_rate=1e30, epochs=3), *requests[2:]])
bad = loud.pop(2)
found['diverged'] = [len(bad.epochs), bool(np.isfinite(bad.epochs[0].loss))]
found['undisturbed'] = [same(a, b) for a, b in zip(loud, alone)]
parallel = program(4, data_parallel=True)
found['parallel text'] = parallel.compiled.as_text()
split = train(parallel, requests[2:4])
found['parallel'] = [distance([a.epochs for a in split], [b.epochs for b in alone[2:4]]),
                     distance([a.member.state for a in split], [b.member.state for b in alone[2:4]])]
print(json.dumps(found))
'''


@pytest.fixture(scope='module')
def devices():
  """What a process with eight devices found out."""
  environment = {**os.environ, 'XLA_FLAGS': '--xla_force_host_platform_device_count=8'}
  process = subprocess.run([sys.executable, '-c', DEVICES], env=environment, capture_output=True, text=True)
  assert process.returncode == 0, process.stderr[-3000:]
  return json.loads(process.stdout)


@pytest.mark.once
@pytest.mark.slow
def test_eight_devices_train_eight_candidates_and_exchange_nothing(devices):
  assert devices['spread over'] == list(range(8))
  assert 'while' in devices['text']
  assert [name for name in COLLECTIVES if name in devices['text']] == []
  assert 'all-reduce' in devices['parallel text']  # Where something is exchanged the text tells.


@pytest.mark.once
@pytest.mark.slow
def test_each_of_eight_devices_does_the_work_of_one(devices):
  """The compiler counts a loop's body once, so equal programs, not equal trainings, are compared: one slot a device."""
  eight, one = devices['flops']
  assert one > 1e5
  assert eight == pytest.approx(one, rel=0.05)
  assert devices['memory'][0] == pytest.approx(devices['memory'][1], rel=0.05)


@pytest.mark.once
@pytest.mark.slow
def test_eight_devices_give_what_one_gives(devices):
  assert devices['distance'] == 0
  assert all(devices['same'])
  assert 0.2 < devices['fill'] <= 1  # Of eight candidates of one to three epochs, one a device.


@pytest.mark.once
@pytest.mark.slow
def test_on_several_devices_one_that_diverges_is_not_noticed(devices):
  assert devices['diverged'] == [1, False]
  assert all(devices['undisturbed'])


@pytest.mark.once
@pytest.mark.slow
def test_one_network_on_four_devices_is_that_of_one(devices):
  assert max(devices['parallel']) < 1e-4


def test_a_layout_counts_its_slots():
  device = jax.devices()[0]
  several = Layout((device, device, device), slots=4)
  assert (several.groups, several.total) == (3, 12)
  parallel = dataclasses.replace(several, slots=1, data_parallel=True)
  assert (parallel.groups, parallel.total) == (1, 1)

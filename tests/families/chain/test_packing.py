"""Which candidates share a program: against all other choices, and that every candidate has one."""
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enas_jax.families.chain.packing import MOST_PROGRAMS, Packing, Rates, plan_packing, rates, step_seconds
from enas_jax.families.chain.weights import Capacity
from enas_jax.spaces import ChainArchitecture, ChainSpace
from enas_jax.types import Task

TASK = Task((28, 28, 1), 10)
SPACE = ChainSpace(min_depth=3, max_depth=30, min_width=6, max_width=20, width_step=2, kernels=(3, 5))


def holds(capacity, chain):
  own = Capacity.of([chain])
  return (own.width <= capacity.width and set(own.branches) <= set(capacity.branches)
          and all(n <= most for n, most in zip(own.bodies, capacity.bodies, strict=True)))


def seconds_of(widths, kind, space, steps, platform='cpu'):
  """What training takes with programs of these widths, compilation included, summed up plainly.

  Each width is trained four times with equal layers; with mixed ones as often as there are layers, half of them convolutions.
  """
  table, depth = rates(platform), space.max_depth
  operations = (0,) * depth if kind == 'equal' else tuple(i % 2 for i in range(depth))
  branches, visits = (1, 4) if kind == 'equal' else (2 * len(space.kernels), depth)
  total = len(widths) * (branches * table.compile_branch + table.compile_rest)
  for width in space.widths:
    chain = ChainArchitecture(width, operations, (3,) * depth)
    padded = min(w for w in widths if w >= width)
    total += visits * steps * step_seconds(chain, TASK, 64, table, width=padded)
  return total


def chosen(packing, kind):
  return packing.widths if kind == 'equal' else packing.mixed_widths


@pytest.mark.parametrize('kind', ['equal', 'mixed'])
@pytest.mark.parametrize('platform', ['cpu', 'accelerator'])
@pytest.mark.parametrize('steps', [1, 30, 100, 300, 1000, 10_000])
def test_no_other_choice_of_widths_is_cheaper(steps, platform, kind):
  widths = sorted(SPACE.widths)
  every = [(*some, widths[-1]) for n in range(MOST_PROGRAMS) for some in itertools.combinations(widths[:-1], n)]
  packing = plan_packing(SPACE, TASK, batch_size=64, steps=steps, platform=platform)
  assert chosen(packing, kind) in every
  least = min(seconds_of(some, kind, SPACE, steps, platform) for some in every)
  assert seconds_of(chosen(packing, kind), kind, SPACE, steps, platform) == pytest.approx(least, rel=1e-12)


@pytest.mark.parametrize('kind', ['equal', 'mixed'])
def test_the_longer_the_training_the_more_programs(kind):
  plans = [plan_packing(SPACE, TASK, batch_size=64, steps=steps, platform='cpu') for steps in (0, 10, 100, 1000, 10**6)]
  counts = [len(chosen(packing, kind)) for packing in plans]
  assert counts == sorted(counts)
  assert counts[0] == 1 and counts[-1] == min(MOST_PROGRAMS, len(SPACE.widths))


def test_the_reason_says_what_was_chosen():
  packing = plan_packing(SPACE, TASK, batch_size=64, steps=300, platform='cpu')
  for kind in ('equal', 'mixed'):
    assert ', '.join(map(str, chosen(packing, kind))) in packing.reason
  assert packing.reason.count('\n') == 1  # A line for each kind of chain.


spaces = st.builds(
    lambda depth, more, width, wider, step, kernels: ChainSpace(
        min_depth=depth, max_depth=depth + more, min_width=width, max_width=width + wider, width_step=step,
        kernels=tuple(kernels)),
    st.integers(3, 15), st.integers(0, 90), st.integers(1, 20), st.integers(0, 40), st.integers(1, 7),
    st.lists(st.sampled_from((3, 5, 7)), min_size=1, unique=True))


@given(spaces, st.integers(0, 2**32 - 1), st.sampled_from([1, 100, 10_000]), st.booleans())
def test_every_chain_of_the_space_has_a_program(space, seed, steps, uniform):
  packing = plan_packing(space, TASK, batch_size=32, steps=steps, platform='cpu')
  chain = space.sample(np.random.default_rng(seed))
  if uniform:
    chain = ChainArchitecture.uniform(chain.depth, chain.width, chain.operations[0], chain.kernels[0])
  capacity = packing.capacity(chain)
  assert holds(capacity, chain)
  equal = len(set(zip(chain.operations, chain.kernels, strict=True))) == 1
  assert capacity.width == min(w for w in chosen(packing, 'equal' if equal else 'mixed') if w >= chain.width)
  assert len(capacity.branches) == (1 if equal else 2 * len(space.kernels))
  assert sum(capacity.bodies) + 3 >= chain.depth


def test_few_programs_for_a_whole_space():
  packing = plan_packing(ChainSpace(), TASK, batch_size=64, steps=300, platform='cpu')
  rng = np.random.default_rng(0)
  programs = {packing.capacity(ChainSpace().sample(rng)) for _ in range(2000)}
  assert len(programs) <= len(packing.mixed_widths) * len(packing.depths)  # Chains drawn at random are mixed.
  assert len(packing.depths) <= 4


def test_the_program_of_a_chain_follows_from_the_chain():
  """Whatever was asked before: a candidate that is trained again finds the program it had."""
  chains = [SPACE.sample(np.random.default_rng(i)) for i in range(30)]
  plans = [plan_packing(SPACE, TASK, batch_size=64, steps=300, platform='cpu') for _ in range(2)]
  assert plans[0] == plans[1]
  forth = [plans[0].capacity(c) for c in chains]
  back = [plans[1].capacity(c) for c in reversed(chains)]
  assert forth == back[::-1]


def test_a_chain_larger_than_all_gets_a_program_of_its_size():
  packing = Packing(widths=(4, 8), mixed_widths=(8,), depths=(6,), kernels=(3,))
  larger = ChainArchitecture(9, (0, 1) * 6, (7,) * 12)
  assert holds(packing.capacity(larger), larger)
  assert packing.capacity(larger).width == 9
  nothing = Packing()
  for chain in (larger, ChainArchitecture.uniform(3, 1)):
    assert holds(nothing.capacity(chain), chain)
    assert nothing.capacity(chain).width == chain.width


def test_a_step_is_its_arithmetic_its_passes_and_its_layers():
  chain = ChainArchitecture(4, (0, 1, 0, 1, 0), (3, 5, 3, 7, 3))
  task = Task((9, 7, 3), 5)
  macs = SPACE.macs(chain, task) - chain.out_channels * task.num_classes  # The head is not counted.
  assert step_seconds(chain, task, 8, Rates(1, 0, 0, 0, 0)) == pytest.approx(8 * 3 * 2 * macs / 1e9)
  assert step_seconds(chain, task, 8, Rates(0, 0, 1, 0, 0)) == chain.depth + 2
  planes = [step_seconds(chain, task, size, Rates(0, 1, 0, 0, 0)) for size in (1, 8)]
  assert 0 < 8 * planes[0] == pytest.approx(planes[1])
  for platform in ('cpu', 'gpu', 'tpu'):
    table = rates(platform)
    own, same, wider = (step_seconds(chain, task, 8, table, width=width) for width in (0, 4, 6))
    assert own == same < wider
    wide = ChainArchitecture(6, chain.operations, chain.kernels)
    assert wider == step_seconds(wide, task, 8, table)

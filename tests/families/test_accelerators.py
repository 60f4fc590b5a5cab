"""What accelerators would run, checked without one: each family's program lowered for GPU and TPU, candidates side by side."""
import re
from unittest import mock

import jax
import jax.numpy as jnp
import pytest
from families.test_contract import FAMILIES

from enas_jax.training import population
from enas_jax.training.family import family_network
from enas_jax.training.layout import Execution
from enas_jax.training.population import PopulationProgram
from enas_jax.types import Recipe

pytest_plugins = ['support.training_fixtures']

HEAD_PRODUCTS = 3  # Logits and their two gradients, in float32.
COLLECTIVES = {'all_gather', 'all_reduce', 'all_to_all', 'collective_permute', 'reduce_scatter', 'collective_broadcast'}


@pytest.fixture(scope='module', params=[name for name in FAMILIES if name != 'line'])
def lowered(request, data):
  """By platform, the text of the program of the family's first candidate: two devices, two slots each, in bfloat16."""
  make, _, requests = FAMILIES[request.param]
  family = make(data)
  execution = Execution.default(2, vmapped=True, shared_batches=True, dtype=jnp.bfloat16, lowering='xla')
  layout = execution.layout(4)
  network = family_network(family, family.capacity(requests[0].architecture), execution, layout)
  with mock.patch.object(PopulationProgram, 'traced', return_value=mock.MagicMock()), \
      mock.patch.object(PopulationProgram, '_compile_insert'), mock.patch.object(population, 'program_bytes', return_value=0):
    program = PopulationProgram(network, data, Recipe(8), layout=layout)  # Not compiled for the CPU.
  traced = program.traced()
  return program, {platform: traced.lower(lowering_platforms=(platform,)).as_text() for platform in ('cuda', 'tpu')}


def operations(text):
  return set(re.findall(r'stablehlo\.(\w+)', text))


def operands(text, operation):
  """The types of both operands of each such operation."""
  return re.findall(operation + r'.*? : \(tensor<(?:\d+x)*(\w+)>, tensor<(?:\d+x)*(\w+)>\)', text)


@pytest.mark.slow
def test_candidates_do_not_talk_to_one_another_nor_to_the_host(lowered):
  for text in lowered[1].values():
    assert not operations(text) & COLLECTIVES
    assert not operations(text) & {'custom_call', 'infeed', 'outfeed', 'send', 'recv'}


@pytest.mark.slow
def test_members_are_donated(lowered):
  program, texts = lowered
  for text in texts.values():
    assert text.count('jax.buffer_donor') + text.count('tf.aliasing_output') >= len(jax.tree.leaves(program.members))


@pytest.mark.slow
def test_products_and_convolutions_are_in_bfloat16(lowered):
  for text in lowered[1].values():
    convolutions, products = (operands(text, f'stablehlo.{name}') for name in ('convolution', 'dot_general'))
    assert len(convolutions) == text.count('stablehlo.convolution(') > 0
    assert set(convolutions) == {('bf16', 'bf16')}
    others = [kinds for kinds in products if kinds != ('bf16', 'bf16')]
    assert set(others) == {('f32', 'f32')}
    assert len(others) <= 2 * HEAD_PRODUCTS  # Forward stands in the program once or twice: for training, and for scoring.

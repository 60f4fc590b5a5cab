"""A training so small that it takes seconds: 20 images of 8 x 8 in three classes, a chain of depth 3."""
import jax
import numpy as np
import pytest

from enas_jax.data.augment import Augmentation
from enas_jax.data.dataset import ImageSet
from enas_jax.families.chain.packing import Packing
from enas_jax.spaces import ChainArchitecture
from enas_jax.training.family import family_network
from enas_jax.training.layout import Execution, Layout
from enas_jax.training.module_program import ModuleProgram
from enas_jax.training.state import TrainingData
from enas_jax.types import Recipe, Request, Schedule, Task
from support.asking import chain, chains
from support.compiled_once import compiled_once


def image_part(count, rng):
  labels = np.arange(count) % 3
  images = rng.integers(0, 120, (count, 8, 8, 1)) + 60 * labels[:, None, None, None]
  return ImageSet(images.astype(np.uint8), labels.astype(np.int32))


@pytest.fixture(scope='session')
def data():
  """20 training images; 12 that score, in batches of 5 and so padded to 15."""
  rng = np.random.default_rng(0)
  return TrainingData.put(
      image_part(20, rng), image_part(12, rng), mean=np.float32([0.4]), std=np.float32([0.2]),
      augmentation=Augmentation(crop_padding=1, flip=True, cutout=3), task=Task((8, 8, 1), 3), score_batch=5)


@pytest.fixture(scope='session')
def unequal(data):
  """As `data`, but most images are of the first class, and the score counts classes alike."""
  rng = np.random.default_rng(0)
  parts = [image_part(sum(counts), rng)._replace(labels=np.repeat(np.arange(3, dtype=np.int32), counts))
           for counts in ((12, 5, 3), (7, 3, 2))]
  return TrainingData.put(*parts, mean=np.float32([0.4]), std=np.float32([0.2]), augmentation=data.augmentation,
                          task=data.task, score_batch=5, balanced_score=True)


@pytest.fixture(scope='session')
def make_request():
  """A request for the one architecture that these tests train, in batches of 8."""
  def make(replicate=0, *, epochs=3, learning_rate=0.1, **schedule):
    return Request(
        ChainArchitecture(2, (0, 1, 0), (3, 5, 3)),
        Schedule(epochs=epochs, batch_size=8, learning_rate=learning_rate, **schedule), replicate=replicate)

  return make


@pytest.fixture(scope='session')
def program_of_one(data, make_request):
  return ModuleProgram(make_request().architecture, data, Recipe(8))


@pytest.fixture(scope='session')
def program_of_four(data, make_request):
  return ModuleProgram(make_request().architecture, data, Recipe(8), replicates=4)


@pytest.fixture(scope='session')
def packing():
  """One program for all chains of both (separable, 5) and (convolution, 3), to depth 7 and width 3."""
  return Packing(widths=(3,), mixed_widths=(3,), depths=(7,))


@pytest.fixture(scope='session')
def compiled():
  return compiled_once()


@pytest.fixture(scope='session')
def program_with(data, packing, compiled):
  """The program of `packing`, in a layout of one device."""
  def make(**settings):
    layout = Layout((jax.devices()[0],), **settings)
    family = chains(data, packing)
    network = family_network(family, family.capacity(chain(2, '010').architecture), Execution.default(), layout)
    return compiled(network, data, Recipe(8), layout=layout)

  return make

"""Programs that are compiled once in a process: what one has trained before leaves no trace in it."""
import numpy as np

from enas_jax.training.population import PopulationProgram


def compiled_once():
  """`PopulationProgram`, but the same is given again for the same network, data and settings."""
  made = {}

  def make(network, data, recipe, **settings):
    contents = hash(tuple(np.asarray(x).tobytes() for x in data.arrays))  # The same data may lie on more devices.
    key = network, data.task, data.augmentation, contents, recipe, *sorted(settings.items(), key=str)
    if key not in made:
      made[key] = PopulationProgram(network, data, recipe, **settings)
    return made[key]

  return make

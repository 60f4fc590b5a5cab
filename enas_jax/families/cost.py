"""A model of what a training step costs, by platform: arithmetic, passes over planes, and what each layer takes besides."""
from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Rates:
  """Seconds of one device.

  Attributes:
    per_gflop: of arithmetic (a multiply-add is two).
    per_gbyte: of passes over planes.
    per_layer: that a layer's loop and small arrays take in a step, whatever its size.
    compile_branch: to compile a program, for each branch that its layers have,
    compile_rest: and for all else.
  """

  per_gflop: float
  per_gbyte: float
  per_layer: float
  compile_branch: float
  compile_rest: float


# By platform. CPU: fitted by benchmarks/cost_model.py to measured steps; an accelerator's are guesses until one has run it.
RATES = {
    'cpu': Rates(per_gflop=0.017, per_gbyte=0.05, per_layer=1.05e-4, compile_branch=2.1, compile_rest=5.0),
    'accelerator': Rates(per_gflop=1e-4, per_gbyte=5e-4, per_layer=1e-4, compile_branch=5.0, compile_rest=10.0),
}
PASSES = 10  # Over a layer's inputs and outputs in a step, reading and writing; benchmarks/README.md counts them.


def rates(platform: str) -> Rates:
  """Returns the rates of a platform as JAX names it."""
  return RATES['cpu' if platform == 'cpu' else 'accelerator']


def step_seconds(macs: float, elements: float, layers: float, batch_size: int, rates_: Rates) -> float:
  """Predicts the seconds of a training step.

  Args:
    macs: multiply-adds of a forward pass on one image.
    elements: of the planes that layers read and write in it.
    layers: how many there are.
    batch_size: images a step.
    rates_: the device's.
  """
  gflops, gbytes = 6 * macs * batch_size / 1e9, 4 * elements * PASSES * batch_size / 1e9
  return gflops * rates_.per_gflop + gbytes * rates_.per_gbyte + layers * rates_.per_layer

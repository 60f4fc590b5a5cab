"""Regularized evolution over any space, as the NAS benchmarks' baseline runs it.

Real, Aggarwal, Huang and Le, AAAI 2019, "Regularized Evolution for Image Classifier Architecture Search", algorithm 1: the
population begins at random; then the most accurate of a random sample is mutated once, its child enters, the oldest leaves.
The sample is drawn with replacement, as in the paper and the baseline of NATS-Bench (that of NAS-Bench-101 draws without).

Rules of its own
- No architecture is asked for twice. A child known already is thrown away and the step, sample included, done again; after
  many such in a row a random new architecture takes its place.
- The initial population is what random search draws from the same seed. A failed network never enters: another is drawn.
- A batch's children are bred from one population. A batch of one is the published algorithm.
"""
from __future__ import annotations

import dataclasses

import numpy as np

from enas_jax.settings import at_least
from enas_jax.strategies.history import History, breed_new, draw_new
from enas_jax.strategies.history_strategy import HistoryStrategy, Memoryless
from enas_jax.strategies.registration import Setup, register
from enas_jax.types import A


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """The settings of regularized evolution (`config.regularized_evolution`).

  Attributes:
    population: how many networks live, >= 1; as many are drawn at random first.
    sample: how many are drawn with replacement for a tournament, >= 1.
    batch: how many children are asked for at once, >= 1; 1 is the published algorithm.
  """

  population: int = 50
  sample: int = 10
  batch: int = 1

  def __post_init__(self) -> None:
    """Raises UserError for a value out of range."""
    at_least(self, 1, 'population', 'sample', 'batch', prefix='config.regularized_evolution')


@register('regularized_evolution', Settings)
def make(settings: Settings, setup: Setup[A]) -> HistoryStrategy[A, None]:
  """Returns the strategy. Raises UserError for a budget without a limit."""
  def choose(history: History[A], room: int) -> tuple[str, tuple[A, ...]]:
    population = history.successes()[-settings.population:]  # The last to succeed.
    if missing := settings.population - len(population):
      return 'start', draw_new(setup.space, history, min(room, missing))

    def child(rng: np.random.Generator) -> A:
      sample = [population[i] for i in rng.integers(len(population), size=settings.sample)]
      return setup.space.mutate(max(sample, key=history.accuracy), rng)

    return 'evolution', breed_new(setup.space, history, room, child)

  return HistoryStrategy(
      setup, Memoryless(choose), label='evolution', batch=settings.batch, random_start=settings.population)

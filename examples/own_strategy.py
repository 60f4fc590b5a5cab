"""A strategy of your own: one function from what is known to what to try next, and its settings.

    python examples/own_strategy.py
    python -m enas_jax.compare --plugin=examples/own_strategy.py --strategies=random,hill_climbing --workdir=runs/hill
    python -m enas_jax.search --plugin=examples/own_strategy.py --config.strategy=hill_climbing --workdir=runs/hill_chain

The first line runs it from Python, the second compares it with others on a table, the third searches a chain with it.

`history` (`enas_jax.strategies.History`) offers `answers`, a mapping from each network asked for to its values, None if it
failed; `accuracy(network)`, -inf for a failed one; `successes()`, those that did not fail; and `best()`, None before the first.
`breed_new` hands a generator to what it calls; elsewhere take `numpy.random.default_rng([history.seed, len(history.answers)])`.
`history.seed` is `config.seed`, so that a resumed search chooses again what it chose.
"""
import dataclasses

import enas_jax
from enas_jax.settings import at_least
from enas_jax.strategies import HistoryStrategy, Memoryless, breed_new, draw_new, register


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """Each field is a setting: --config.hill_climbing.initial=5.

  Attributes:
    initial: how many networks are drawn at random first.
    batch: how many neighbours of the best are asked for at once.
  """

  initial: int = 10
  batch: int = 4

  def __post_init__(self):
    at_least(self, 1, 'initial', 'batch', prefix='config.hill_climbing')


@register('hill_climbing', Settings)
def hill_climbing(settings, setup):
  """Mutates the best network so far, again and again."""

  def choose(history, room):  # Up to `room` networks that nobody has asked for yet, and a word for the phase.
    missing = settings.initial - len(history.answers)
    best = history.best()
    if missing > 0 or best is None:
      return 'random', draw_new(setup.space, history, min(room, max(missing, 1)))
    return 'climb', breed_new(setup.space, history, room, lambda rng: setup.space.mutate(best, rng))

  return HistoryStrategy(
      setup, Memoryless(choose), label='hill climbing', batch=settings.batch, random_start=settings.initial)


def main():
  """Runs the strategy on a table, with two settings."""
  for initial in (5, 50):
    result = enas_jax.run(
        {'space': 'nasbench201', 'estimator': 'table', 'epochs.first': 200, 'budget.evaluations': 100,
         'strategy': 'hill_climbing', 'hill_climbing.initial': initial}, train=False, progress=False)
    print(f'{initial} at random first: {result.architecture}, {100 * result.accuracy:.2f} %')


if __name__ == '__main__':
  main()

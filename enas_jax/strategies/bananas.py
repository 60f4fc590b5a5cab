"""Bayesian optimisation with an ensemble of predictors, over any space: BANANAS.

White, Neiswanger and Savani, AAAI 2021, "BANANAS: Bayesian Optimization with Neural Architectures for Neural Architecture
Search", algorithm 1: after a few random networks, in every round an ensemble is fitted to all answers, mutants of the best
networks are ranked by independent Thompson sampling (a draw from each one's predicted normal distribution), and the first of
the ranking are asked for.

Rules of its own
- No network is asked for twice. The first are what random search draws from the same seed.
- A failed network teaches the ensemble nothing; while none has succeeded, networks are drawn at random.
- Candidates are `candidates` new networks: one of the `parents` best, mutated one to `mutations` times; where mutants repeat
  themselves random new ones take their place.
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
  """The settings of BANANAS (`config.bananas`).

  Attributes:
    predictor: the members of the ensemble: 'mlp', 'gnn', 'trees' or 'ridge', see `enas_jax.predictors`.
    features: what 'mlp' and 'ridge' see: 'flat' or 'paths'; None for the predictor's own choice.
    initial: how many networks are drawn at random before the first fit, >= 1.
    batch: how many networks are asked for at once, >= 1.
    candidates: how many mutants there are to choose from, >= 1.
    parents: how many of the best networks are mutated, >= 1.
    mutations: how many there are at most from a parent to a candidate, >= 1.
  """

  predictor: str = 'mlp'
  features: str | None = None
  initial: int = 10
  batch: int = 10
  candidates: int = 200
  parents: int = 10
  mutations: int = 4

  def __post_init__(self) -> None:
    """Raises UserError for a value out of range. The predictor checks its own."""
    at_least(self, 1, 'initial', 'batch', 'candidates', 'parents', 'mutations', prefix='config.bananas')


@register('bananas', Settings)
def make(settings: Settings, setup: Setup[A]) -> HistoryStrategy[A, None]:
  """Returns the strategy. Raises UserError for an unknown predictor or features, or a budget without a limit."""
  from enas_jax import predictors  # Brings JAX along, which other strategies do without.

  space = setup.space
  features = {'features': settings.features} if settings.features else {}
  predictor = predictors.make(settings.predictor, predictors.GraphEncoding.of(space), **features)

  def choose(history: History[A], room: int) -> tuple[str, tuple[A, ...]]:
    known = history.successes()
    missing = settings.initial - len(history.answers)
    if missing > 0 or not known:
      return 'bananas', draw_new(space, history, min(room, max(missing, 1)))
    parents = sorted(known, key=history.accuracy, reverse=True)[:settings.parents]

    def mutant(rng: np.random.Generator) -> A:
      child = parents[rng.integers(len(parents))]
      for _ in range(rng.integers(1, settings.mutations + 1)):
        child = space.mutate(child, rng)
      return child

    candidates = breed_new(space, history, settings.candidates, mutant)
    if not candidates:  # The whole space has been seen.
      return 'bananas', ()
    seed = [history.seed, len(history.answers)]
    fitted = predictor.fit([space.graph(a) for a in known], [history.accuracy(a) for a in known],
                           seed=int(np.random.default_rng(seed).integers(2**31)))
    mean, std = fitted.predict([space.graph(a) for a in candidates])
    sampled = np.random.default_rng([*seed, 1]).normal(mean, std)
    return 'bananas', tuple(candidates[i] for i in np.argsort(-sampled, kind='stable')[:room])

  return HistoryStrategy(
      setup, Memoryless(choose), label='bananas', batch=settings.batch, random_start=settings.initial)

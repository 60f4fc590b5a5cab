"""What an estimator offers: how good is each of these candidates? Training, scores and tables answer alike."""
from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from ml_collections import ConfigDict

from enas_jax.data.dataset import Dataset
from enas_jax.spaces.base import SearchSpace
from enas_jax.types import Evaluation, Needs, Request

if TYPE_CHECKING:
  from enas_jax.training.layout import Execution


class Estimator(Protocol):
  """The interface of training, scores and tables; a strategy runs on each unchanged."""

  def estimate(self, requests: Sequence[Request]) -> Iterator[tuple[int, Evaluation]]:
    """Yields (index into requests, evaluation) as soon as each is known, in any order.

    A candidate that cannot be evaluated yields a failed evaluation with its reason; it never raises for one. One with a number
    that is not finite, or an amount below 0 (`types.is_amount`), is taken as failed.
    """

  def predict_macs(self, request: Request) -> float:
    """Multiply-adds that estimating will take, for the time left; 0 where nothing is trained."""

  def prepare(self, requests: Iterable[Request]) -> None:
    """Is told what comes next, the likeliest first, each once; may get ready for it in the background.

    The requests are computed as they are read, which can take long: leave them alone where there is nothing to prepare.
    """

  def describe(self) -> str:
    """How it works on this machine, one line for people."""

  def report(self) -> dict[str, float]:
    """What it did so far, for result.json."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setup:
  """What an estimator is made for.

  Attributes:
    config: all settings of the search.
    space: what candidates are members of.
    dataset: the images; None where there are none, as in a search on a table whose winner is not trained.
    execution: how candidates run on this machine; None for what suits it.
    should_stop: whether the search was told to stop: ask now and then, and raise `Stopped`.
    needs: what the strategy needs of the answers.
  """

  config: ConfigDict
  space: SearchSpace[Any]
  dataset: Dataset | None = None
  execution: Execution | None = None
  should_stop: Callable[[], bool] = lambda: False
  needs: Needs = dataclasses.field(default_factory=Needs)

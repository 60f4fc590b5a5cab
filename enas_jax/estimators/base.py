"""What an estimator offers: how good is each of these candidates? Training, scores and tables answer alike."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from enas_jax.types import Evaluation, Request


class Estimator(Protocol):
  """The interface of training, scores and tables; a strategy runs on each unchanged."""

  def estimate(self, requests: Sequence[Request]) -> Iterator[tuple[int, Evaluation]]:
    """Yields (index into requests, evaluation) as soon as each is known, in any order.

    A candidate that cannot be evaluated yields a failed evaluation with its reason; it never raises for one.
    """

  def predict_macs(self, request: Request) -> float:
    """Multiply-adds that estimating will take, for the time left; 0 where nothing is trained."""

  def prepare(self, requests: Sequence[Request]) -> None:
    """Told what comes next, the likeliest first; may get ready for it in the background."""

  def describe(self) -> str:
    """How it works on this machine, one line for people."""

  def report(self) -> dict[str, float]:
    """What it did so far, for result.json."""

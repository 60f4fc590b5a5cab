"""The records that pass between the rooms: what is asked, what comes back.

A strategy makes `Request`s, an estimator answers each with an `Evaluation`. Neither knows the other.
"""
from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

from enas_jax.errors import UserError


class Architecture(Protocol):
  """A network's blueprint: a frozen, hashable dataclass of plain values. Two that are equal are the same network to a search.

  It may have a `summary` (`HasSummary`) beside what is required here.
  """

  def to_json(self) -> dict[str, Any]:
    """Returns a plain record with `space` and `version`, which the space's `from_json` reads."""

  def __str__(self) -> str:
    """Returns the whole architecture as one line of text, for people."""


@runtime_checkable
class HasSummary(Protocol):
  """An architecture that can be told in fewer words than its `str`. Optional: progress displays cut the `str` of others."""

  def summary(self) -> str:
    """Returns what matters most in a few words, such as 'depth 26, width 46, 2 convolutions'."""


A = TypeVar('A', bound=Architecture)
# Words of metrics that measure an amount: one below 0 is a mark for what was not measured, which would win as the least.
AMOUNTS = frozenset((
    'params', 'parameters', 'weights', 'macs', 'flops', 'latency', 'energy', 'power', 'memory', 'bytes', 'size', 'time',
    'seconds'))
DECAYS = ('cosine', 'linear', 'epoch_cosine')
CLASS_WEIGHTS = ('equal', 'balanced')


@dataclasses.dataclass(frozen=True)
class Task:
  """What a network must do: images [height, width, channels] in, one of `num_classes` out."""

  image_shape: tuple[int, int, int]
  num_classes: int


class Recipe(NamedTuple):
  """The part of a schedule that a program is compiled for; see `Schedule`. The rest is data."""

  batch_size: int
  keep_last_batch: bool = False
  nesterov: bool = False
  label_smoothing: float = 0.0
  class_weights: str = 'equal'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule:
  """How one candidate is trained: SGD with momentum, the learning rate falling to 0 over its own epochs.

  Defaults are EG-NAS's (arXiv 2502.03553, authors' code): learning rate 0.025 to 0, momentum 0.9 without
  Nesterov, weight decay 3e-4 on all weights, gradients clipped to norm 5, batches of 64.

  Attributes:
    epochs: passes over the training part, >= 1. The architecture-aware part.
    batch_size: images a step, >= 1.
    learning_rate: peak rate, > 0.
    momentum: in [0, 1).
    weight_decay: coupled L2, >= 0.
    clip_norm: limit of the gradient's global norm, > 0.
    rate_steps_first: quirk of the published code: the scheduler is stepped before each epoch, so epoch e of E
      trains at the rate of e + 1 and the last epoch at rate 0. False: epoch e trains at the rate of e.
    decay: how the rate falls from its peak to 0, one of `DECAYS`: 'cosine' or 'linear', from step to step; 'epoch_cosine',
      between epochs alone, so that short trainings end at a high rate (the published code).
    warmup: the share of all steps over which the rate rises to its peak, in [0, 1); 0 with 'epoch_cosine'.
    settle: the share of all steps, the last ones, that are done at rate 0, so that batch norms' running statistics become
      those of the final weights; in [0, 1), with warmup below 1; 0 with 'epoch_cosine'.
    nesterov: whether the momentum is Nesterov's.
    label_smoothing: the share of each target that is spread over all classes, in [0, 1).
    class_weights: 'equal': each training image counts alike in the loss; 'balanced': each class does.
    keep_last_batch: train on the last, smaller batch of an epoch too (the published code does).
    best_epoch: quirk: score the best epoch instead of the last.
    stop_epoch: train only the first `stop_epoch` of the epochs, the learning rate staying that of the whole schedule; from 1 to
      `epochs`. None: all of them, which is how to write a whole training.

  Raises:
    UserError: a value is out of range.
  """

  epochs: int
  batch_size: int = 64
  learning_rate: float = 0.025
  momentum: float = 0.9
  weight_decay: float = 3e-4
  clip_norm: float = 5.0
  rate_steps_first: bool = False
  keep_last_batch: bool = False
  best_epoch: bool = False
  stop_epoch: int | None = None
  decay: str = 'epoch_cosine'
  warmup: float = 0.0
  settle: float = 0.0
  nesterov: bool = False
  label_smoothing: float = 0.0
  class_weights: str = 'equal'

  def __post_init__(self) -> None:
    for name in ('epochs', 'batch_size'):
      if getattr(self, name) < 1:
        raise UserError(f'training: {name} {getattr(self, name)} is below 1; give at least 1')
    for name in ('learning_rate', 'clip_norm'):
      if not getattr(self, name) > 0:
        raise UserError(f'training: {name} {getattr(self, name)} is not positive; give a number above 0')
    if not 0 <= self.momentum < 1:
      raise UserError(f'training: momentum {self.momentum} is outside [0, 1); give for example 0.9')
    if not self.weight_decay >= 0:
      raise UserError(f'training: weight_decay {self.weight_decay} is negative; give 0 or more')
    if self.decay not in DECAYS:
      raise UserError(f"training: decay '{self.decay}' is unknown; give one of {', '.join(DECAYS)}")
    if self.class_weights not in CLASS_WEIGHTS:
      raise UserError(f"training: class_weights '{self.class_weights}' is unknown; give one of {', '.join(CLASS_WEIGHTS)}")
    for name in ('warmup', 'settle', 'label_smoothing'):
      if not 0 <= getattr(self, name) < 1:
        raise UserError(f'training: {name} {getattr(self, name)} is outside [0, 1); give a share of at least 0 and below 1')
    if self.warmup + self.settle >= 1:
      raise UserError(f'training: warmup {self.warmup} and settle {self.settle} leave no steps between; lower one of them')
    if self.decay == 'epoch_cosine' and (self.warmup or self.settle):
      raise UserError(f"training: decay 'epoch_cosine' has no warmup ({self.warmup}) and no settle ({self.settle}); give 0 for "
                      "both, or decay 'cosine'")
    if self.decay != 'epoch_cosine' and self.rate_steps_first:
      raise UserError("training: rate_steps_first is a quirk of decay 'epoch_cosine'; give that, or rate_steps_first=False")
    if self.stop_epoch is not None and not 1 <= self.stop_epoch <= self.epochs:
      raise UserError(f'training: stop_epoch {self.stop_epoch} is outside 1 to {self.epochs}; give one within, or None for all')

  @property
  def trained_epochs(self) -> int:
    """Epochs that are trained: all, or those before the stop."""
    return self.epochs if self.stop_epoch is None else self.stop_epoch

  @property
  def recipe(self) -> Recipe:
    """The part that a program is compiled for."""
    return Recipe(self.batch_size, self.keep_last_batch, self.nesterov, self.label_smoothing, self.class_weights)


# Keys and ledgers are older than these fields: at the value that does what was done before they are left out.
LATER_FIELDS: Mapping[str, Any] = {
    'stop_epoch': None, 'decay': 'epoch_cosine', 'warmup': 0.0, 'settle': 0.0, 'nesterov': False, 'label_smoothing': 0.0,
    'class_weights': 'equal'}


@dataclasses.dataclass(frozen=True)
class Request:
  """One candidate to estimate, with its whole identity: nothing else may change its result.

  Attributes:
    architecture: what to build.
    schedule: how to train it.
    replicate: which repetition (initial weights, batch order and augmentation follow from the search's seed,
      the replicate and, for the weights, the architecture).
    phase: the part of the search that asked. A label: not part of the identity.
  """

  architecture: Architecture
  schedule: Schedule
  replicate: int = 0
  phase: str = dataclasses.field(default='', compare=False)

  def to_json(self) -> dict[str, Any]:
    schedule = {name: value for name, value in dataclasses.asdict(self.schedule).items()
                if name not in LATER_FIELDS or value != LATER_FIELDS[name]}
    return {
        'phase': self.phase,
        'architecture': self.architecture.to_json(),
        'schedule': schedule,
        'replicate': self.replicate,
    }

  @property
  def key(self) -> str:
    """Sixteen hexadecimal digits that name this request in the ledger, the same on every machine."""
    record = {k: v for k, v in self.to_json().items() if k != 'phase'}
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:16]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
  """What an estimator found out about a request. A failed one carries its reason and never wins.

  Attributes:
    metrics: named numbers. Trained candidates have `accuracy` (the score, a fraction in [0, 1]),
      `train_accuracy`, `train_loss`, `params` (weights) and `macs` (multiply-adds of one forward pass).
    curve: the score after each epoch.
    train_macs: the cost in multiply-adds of training: 3 x forward x images x epochs.
    seconds: wall-clock spent on it, compilation included; of a group, its share.
    compile_seconds: the part of `seconds` that went into compilation.
    reason: why it failed, one line; empty when it did not.
  """

  metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
  curve: tuple[float, ...] = ()
  train_macs: float = 0.0
  seconds: float = 0.0
  compile_seconds: float = 0.0
  reason: str = ''

  @property
  def ok(self) -> bool:
    return not self.reason

  @property
  def accuracy(self) -> float:
    """The score; -inf for a failed one, so that no comparison lets it win."""
    return self.metrics['accuracy'] if self.ok else float('-inf')

  def to_json(self) -> dict[str, Any]:
    return {**dataclasses.asdict(self), 'metrics': dict(self.metrics), 'curve': list(self.curve)}

  @classmethod
  def from_json(cls, record: Mapping[str, Any]) -> Evaluation:
    return cls(**{**record, 'curve': tuple(record['curve'])})


def is_amount(metric: str) -> bool:
  """Returns whether a metric cannot be below 0, by the words of its name: 'latency_ms/raspi4' and 'train_seconds' cannot."""
  return not AMOUNTS.isdisjoint(re.split(r'[^a-z]+', metric.lower()))


def impossible(evaluation: Evaluation) -> str:
  """Returns why no measurement can have given an evaluation, one line that names the first such number; '' where it can."""
  costs = {name: getattr(evaluation, name) for name in ('train_macs', 'seconds', 'compile_seconds')}
  curve = {f'{epoch + 1} of the curve': value for epoch, value in enumerate(evaluation.curve)}
  for name, value in {**evaluation.metrics, **costs, **curve}.items():
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
      return f'value {name} is {value!r}, no finite number of Python'
    if value < 0 and is_amount(name):
      return f'value {name} is {value!r}, below 0'
  return ''


@dataclasses.dataclass(frozen=True, kw_only=True)
class Needs:
  """What a strategy needs of the estimator that answers it.

  Attributes:
    objectives: the metrics beside `accuracy` that every successful evaluation must have.
    fidelities: the epochs of the whole trainings that it asks for, in rising order; empty if they are those of the schedules
      (`config.epochs`).
    parts: whether it asks for parts of trainings (`Schedule.stop_epoch`), which a table does not have.
    setting: the setting that decides about the epochs, for messages.
  """

  objectives: tuple[str, ...] = ()
  fidelities: tuple[int, ...] = ()
  parts: bool = False
  setting: str = 'epochs.first'

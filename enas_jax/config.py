"""The settings of a search, with the values of the default one: a few minutes on a laptop.

What is general stands here. The settings of a space, a strategy or an estimator stand beside it, as the fields of a dataclass
with their meaning. They are the group of its name: `config.chain`, `config.egnas`, `config.table`. So are a plugin's.

A config file (`--config=FILE.py`, see experiments/) starts from `get_config()` and changes fields; flags change them once
more (`--config.seed=1`). What concerns the machine and cannot change a result (folders, devices) is a flag of the command
instead. None means: a choice for this data set.
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_type_hints

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from enas_jax.errors import UserError
from enas_jax.estimators import ESTIMATORS
from enas_jax.fields import flatten
from enas_jax.registry import Registry
from enas_jax.settings import check_value, group
from enas_jax.spaces import SPACES, Limits
from enas_jax.strategies import STRATEGIES, Budget, Epochs


def get_config() -> ConfigDict:
  """Returns the settings of the default search: EG-NAS, sound protocol, on the images that ship with the package."""
  config = ConfigDict()
  config.seed = 0  # The only source of randomness.
  config.space = 'chain'  # Or a benchmark's: 'nasbench201', 'nats_size', 'nasbench101', 'nasbench_macro', 'darts'.
  config.strategy = 'egnas'  # Or another of strategies.STRATEGIES.
  config.estimator = 'trained'  # Or 'table': candidates are looked up, the winner alone is trained.
  config.precision = 'auto'  # Of planes and products: 'float32', 'bfloat16', or 'auto': float32 on a CPU, else bfloat16.
  config.memory_limit_gb = 0.0  # For all candidates in training at once, a device (on a CPU: in all). 0: whatever is free.
  config.control = True  # Train an unsearched network like the winner, so that result.json says what the search gained.
  config.max_failures_in_a_row = 10  # The search stops after this many failed candidates in a row, and says why.

  config.data = ConfigDict()
  config.data.name = 'fashion_mnist_10k'  # Or a TFDS name, 'folder:PATH', 'npz:PATH'.
  config.data.validation_share = 0.2  # Of the training images, in (0, 1), to score candidates if there is no part for it.
  config.data.score_on_test = False  # Quirk of the paper's protocol: no validation part, the test set scores candidates.
  config.data.published_statistics = False  # Normalise with the paper's constants instead of the training part's own.
  config.data.accuracy = 'plain'  # What compares candidates: of all images, or 'balanced', the mean of the classes' own.
  config.data.augmentation = ConfigDict()
  config.data.augmentation.choice = 'light'  # Of the fields that are None: 'light', for few epochs, or 'paper'.
  config.data.augmentation.crop_padding = placeholder(int)  # Pixels of zeros on every side before the random crop.
  config.data.augmentation.crop_size = placeholder(int)  # Side of the crop in pixels.
  config.data.augmentation.flip = placeholder(bool)  # Horizontal, with probability 1/2.
  config.data.augmentation.cutout = placeholder(int)  # Side in pixels of the erased square; 0: none.

  config.training = ConfigDict()  # How every candidate is trained; see types.Schedule.
  config.training.batch_size = 32  # The paper's 64 and 0.025 are for ten epochs and more.
  config.training.learning_rate = 0.1
  config.training.momentum = 0.9
  config.training.weight_decay = 3e-4
  config.training.clip_norm = 5.0
  config.training.decay = 'linear'  # The published 'epoch_cosine' ends two epochs at half the peak rate (benchmarks/README.md).
  config.training.warmup = 0.0
  config.training.settle = 0.0
  config.training.nesterov = True
  config.training.label_smoothing = 0.1
  config.training.class_weights = 'equal'  # 'balanced': in the loss, each class counts alike.
  config.training.rate_steps_first = False
  config.training.keep_last_batch = False
  config.training.best_epoch = False

  config.epochs = group(Epochs)  # The architecture-aware part of the schedule.
  config.budget = group(Budget)  # How much a search may spend.
  config.limits = group(Limits)  # How large its networks may be.

  for registry in (SPACES, STRATEGIES, ESTIMATORS):
    _add_groups(config, registry)
  # The paper's space takes days. Within minutes the walks end inside of this one, or just at its width.
  config.chain.update(min_depth=4, max_depth=13, min_width=8, max_width=24, width_step=8)
  return config


def check(config: ConfigDict, prefix: str = 'config.') -> None:
  """Checks the values of all settings, those of groups that a run will not look at included.

  Args:
    config: all settings.
    prefix: what stands before a setting's name in the message.

  Raises:
    UserError: a value, or a member of a tuple, is not of its setting's type, or a number is not finite.
  """
  default, given = get_config(), flatten(config.to_dict())
  hints = {**dict(_types(default)), **{
      f'{name}.{field}': hint for name, settings in _groups().items() for field, hint in get_type_hints(settings).items()}}
  for field, value in flatten(default.to_dict()).items():
    if field in given:
      check_value(prefix + field, given[field], hints[field], value)


def _types(config: ConfigDict, prefix: str = '') -> Iterator[tuple[str, Any]]:
  """Yields the type of each setting that has no class with annotations, by dotted name."""
  for name, value in config.items():
    if isinstance(value, ConfigDict):
      yield from _types(value, f'{prefix}{name}.')
    else:
      kind = config.get_type(name)
      yield prefix + name, kind | None if value is None else kind


def _groups() -> dict[str, type[Any]]:
  """Returns the classes of all groups of settings that have one."""
  registered = {name: entry.settings for registry in (SPACES, STRATEGIES, ESTIMATORS) for name, entry in registry.items()}
  return {'epochs': Epochs, 'budget': Budget, 'limits': Limits, **registered}


def _add_groups(config: ConfigDict, registry: Registry[Any]) -> None:
  """Adds the settings of all that is registered, each as the group of its name."""
  for name, entry in registry.items():
    if name in config:
      raise UserError(f'{registry.owner(name)}: config.{name} is a setting already; give another name')
    config[name] = group(entry.settings)


def egnas_sound() -> ConfigDict:
  """EG-NAS at the paper's size, in the sound protocol: the base of the experiments named `sound`.

  The paper's space, epochs, training and thresholds (arXiv 2502.03553 and the authors' code). Decisions are made on held-out
  images by the last epoch's accuracy, a narrower network is compared at equal epochs, a micro change is tried with three
  seeds. The caller sets data.name and chain.max_width (the paper: 64 and 128).
  """
  config = get_config()
  config.strategy = 'egnas'
  config.data.update(validation_share=0.1, score_on_test=False, published_statistics=False)
  config.data.augmentation.choice = 'paper'
  config.chain.update(min_depth=10, max_depth=100, min_width=16, max_width=64, width_step=2, kernels=(3, 5))
  config.training.update(
      batch_size=64, learning_rate=0.025, momentum=0.9, weight_decay=3e-4, clip_norm=5.0, decay='epoch_cosine', warmup=0.0,
      settle=0.0, nesterov=False, label_smoothing=0.0, rate_steps_first=False, keep_last_batch=False, best_epoch=False)
  config.epochs.update(first=10, per_layer=1, per_width_step=2, micro=2, final=600)
  config.egnas.update(
      window=8, micro_window=4, depth_gain=0.001, depth_loss=0.0005, depth_failures=3, width_tolerance=0.0, width_failures=3,
      target_accuracy=0.999, target_train_accuracy=0.995, parameter_slack=10_000, epochs_continue=False, width_control=True,
      micro_replicates=3, micro_margin=0.005, confidence=0.0, grow=False, depth_step=1, micro_groups=0)
  return config


def egnas_paper() -> ConfigDict:
  """EG-NAS as published, quirks included: the base of the experiments named `paper`.

  Every decision is made on the test set, by the best epoch, so accuracies are optimistic. Crops are 32 x 32 for gray
  28 x 28 images, too, whose test images stay 28 x 28.
  """
  config = egnas_sound()
  config.data.update(score_on_test=True, published_statistics=True)
  config.training.update(rate_steps_first=True, keep_last_batch=True, best_epoch=True)
  config.data.augmentation.crop_size = 32
  # The code stops the depth walk above 99.5 % on the training part; the logged runs, which the experiments quote, at 100 %.
  config.egnas.update(
      epochs_continue=True, width_control=False, micro_replicates=1, micro_margin=0.0, target_train_accuracy=1.0)
  return config

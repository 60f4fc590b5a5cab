"""A trained network as its user takes it home: saved with its normalisation, loaded by one call."""
from __future__ import annotations

import dataclasses
import json
import pathlib
import re
import shutil
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax import nnx

from enas_jax import environment, machine, paths, plugins
from enas_jax.checkpoint import checksum, writing
from enas_jax.data.augment import normalise
from enas_jax.errors import UserError
from enas_jax.networks import build
from enas_jax.registry import call
from enas_jax.spaces import SPACES
from enas_jax.types import Architecture, Task
from enas_jax.workdir import parse_json, sync_folder

BATCH = 500  # Images predicted at once.
FORMAT = 1
CHECKSUM_DIGITS = 16
WEIGHTS = re.compile(rf'weights-[0-9a-f]{{{CHECKSUM_DIGITS}}}')


@dataclasses.dataclass(frozen=True)
class Model:
  """A trained classifier.

  Attributes:
    architecture: what was found.
    network: the Flax NNX module in evaluation mode: normalised images [B, H, W, C] to logits [B, classes].
    task: image shape and number of classes.
    mean, std: float32 [C], of pixels in [0, 1].
    class_names: one a class.
  """

  architecture: Architecture
  network: nnx.Module
  task: Task
  mean: np.ndarray
  std: np.ndarray
  class_names: tuple[str, ...]

  def logits(self, images: np.ndarray) -> np.ndarray:
    """uint8 images [N, H, W, C] to float32 [N, classes]. Raises UserError for images of another shape or type."""
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.shape[1:] != self.task.image_shape:
      raise UserError(f'images are {images.dtype} {list(images.shape)}; give uint8 [N, {str(list(self.task.image_shape))[1:]}')
    with environment.neutral():
      statistics = jax.numpy.asarray(self.mean), jax.numpy.asarray(self.std)
      chunks = [
          np.asarray(_logits(self.network, jax.numpy.asarray(images[i:i + BATCH]), *statistics))
          for i in range(0, len(images), BATCH)]
    return np.concatenate(chunks) if chunks else np.zeros((0, self.task.num_classes), np.float32)

  def probabilities(self, images: np.ndarray) -> np.ndarray:
    """uint8 images [N, H, W, C] to the probability of each class, float64 [N, classes], the sum of a row being 1."""
    logits = self.logits(images).astype(np.float64)
    shares = np.exp(logits - logits.max(-1, keepdims=True))
    return shares / shares.sum(-1, keepdims=True)

  def predict(self, images: np.ndarray) -> np.ndarray:
    """uint8 images [N, H, W, C] to the indices [N] of their classes."""
    return self.logits(images).argmax(-1)

  def save(self, folder: pathlib.Path) -> None:
    """Writes `model.json` and the folder of weights that it names. After a crash it is the old model or the new one.

    Raises:
      UserError: the disk is full, or the folder cannot be written.
    """
    folder = folder.absolute()
    arrays = jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(self.network)))  # Bound to no device.
    part, temporary = folder / 'weights.part', folder / 'model.json.tmp'
    with writing(folder, sum(leaf.nbytes for leaf in jax.tree.leaves(arrays))):
      # Not StandardCheckpointer: it writes from threads that wait for one another's signals, and one such wait never ended.
      with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer:
        checkpointer.save(part, args=ocp.args.StandardSave(arrays), force=True)
      weights = f'weights-{checksum(part)[:CHECKSUM_DIGITS]}'
      part.rename(folder / weights)
      record = {
          'format': FORMAT,
          'architecture': self.architecture.to_json(),
          'image_shape': list(self.task.image_shape),
          'class_names': list(self.class_names),
          'mean': self.mean.tolist(),
          'std': self.std.tolist(),
          'weights': weights,
      }
      temporary.write_text(json.dumps(record, indent=2) + '\n')
      temporary.replace(folder / 'model.json')
      sync_folder(folder)
      for old in folder.glob('weights-' + '[0-9a-f]' * CHECKSUM_DIGITS):
        if old.name != weights:
          shutil.rmtree(old)


@nnx.jit
def _logits(network: Any, images: jax.Array, mean: jax.Array, std: jax.Array) -> jax.Array:
  return network(normalise(images, mean, std))


def load(folder: str | pathlib.Path) -> Model:
  """Reads the trained network of a finished search or training. It predicts as it did in memory.

  Args:
    folder: the --workdir of the run.

  Raises:
    UserError: there is no finished model, it is damaged or of another format, or JAX finds no device.
  """
  folder = paths.read(folder, 'folder=')
  file = folder / 'model.json'
  try:
    record = parse_json(file.read_bytes())
  except FileNotFoundError:
    raise UserError(f'{folder} holds no trained network (model.json); finish the run first') from None
  except OSError as error:
    raise UserError(f'{file} cannot be read ({error.strerror}); give the --workdir of a finished run') from error
  except ValueError as error:
    raise UserError(f'{file} is damaged ({error}); run the same command again') from error
  if not isinstance(record, dict) or record.get('format') != FORMAT:
    found = record.get('format') if isinstance(record, dict) else record
    raise UserError(f'{file}: format {str(found)[:80]!r} is not {FORMAT}; use the version that wrote it')
  try:
    architecture, task, mean, std, class_names = _described(record)
    if not WEIGHTS.fullmatch(record['weights']):
      raise ValueError(f"weights {record['weights']!r}")
  except UserError as error:
    raise UserError(f'{file}: {error}') from error
  except (LookupError, OverflowError, TypeError, ValueError) as error:
    raise UserError(f'{file} is damaged ({type(error).__name__}: {error}); run the same command again') from error
  weights = (folder / record['weights']).absolute()
  try:
    intact = weights.name == f'weights-{checksum(weights)[:CHECKSUM_DIGITS]}'
  except OSError as error:
    raise UserError(f'{weights} cannot be read ({error.strerror}); give the --workdir of a finished run') from error
  if not intact:
    raise UserError(f'{weights} is missing or damaged; run the same command again')
  machine.devices()
  with environment.neutral():
    graph, state = nnx.split(nnx.eval_shape(lambda: build(architecture, task=task, key=jax.random.key(0))))
    with ocp.StandardCheckpointer() as checkpointer:
      arrays = nnx.restore_int_paths(checkpointer.restore(weights))
    if _shapes(arrays) != _shapes(nnx.to_pure_dict(state)):
      raise UserError(f'{file} describes another network than that of {weights}; run the same command again')
    nnx.replace_by_pure_dict(state, jax.device_put(arrays))
  network = nnx.merge(graph, state)
  network.eval()
  return Model(architecture, network, task, mean, std, class_names)


def _described(record: Mapping[str, Any]) -> tuple[Architecture, Task, np.ndarray, np.ndarray, tuple[str, ...]]:
  """Returns what a model.json says of its network: architecture, task, mean, deviation and names of the classes.

  Raises UserError, LookupError, OverflowError, TypeError or ValueError for what cannot be.
  """
  architecture = read_architecture(record['architecture'])
  image_shape, class_names = record['image_shape'], record['class_names']
  mean, std = (np.asarray(record[name], np.float32) for name in ('mean', 'std'))
  match image_shape, class_names:
    case [int(height), int(width), int(channels)], [str(), str(), *_] if min(image_shape) > 0:
      pass
    case _:
      raise ValueError(f'image_shape {image_shape}, class_names {class_names}')
  if mean.shape != (channels,) or std.shape != (channels,) or not np.isfinite([mean, std]).all() or not (std > 0).all():
    raise ValueError(f'mean {mean.tolist()}, std {std.tolist()} of {channels} channels')
  if not all(isinstance(name, str) for name in class_names):
    raise ValueError(f'class_names {class_names}')
  return architecture, Task((height, width, channels), len(class_names)), mean, std, tuple(class_names)


def _shapes(arrays: Any) -> Any:
  return jax.tree.map(lambda x: x.shape, arrays)


def read_architecture(record: Any) -> Architecture:
  """Reads any space's architecture. Raises UserError where no space knows it."""
  space = record.get('space') if isinstance(record, dict) else None
  plugins.load_all()  # Installed ones.
  if not isinstance(space, str) or space not in SPACES:
    raise UserError(f"architecture: space {space!r} is not one of {', '.join(sorted(SPACES))}; import the plugin first, as in "
                    '`import mine; enas_jax.load(...)`, or give a command --plugin=FILE.py')
  made = SPACES[space].make()
  return call(f'architecture: {SPACES.owner(space)}', type(made), made.from_json, record)

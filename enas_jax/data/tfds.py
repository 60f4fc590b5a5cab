"""Reads image-classification sets of TensorFlow Datasets without TensorFlow.

Preparing a set (once) needs TensorFlow; reading its array_record files does not. They are read and decoded once; a cache beside
them (cache.py) serves every later start. Images have the set's channels and are else read as a folder's (decoding.py); labels
are as stored. EMNIST's images, for example, are transposed.
"""
from __future__ import annotations

import collections
import contextlib
import difflib
import io
import pathlib
from typing import TYPE_CHECKING

import numpy as np

from enas_jax.data import cache
from enas_jax.data.dataset import Dataset, ImageSet, room_for
from enas_jax.data.decoding import MODES, decode, in_words
from enas_jax.data.report import Note, metered
from enas_jax.errors import UserError

if TYPE_CHECKING:
  from tensorflow_datasets.core import dataset_info, read_only_builder

FORMAT = 'array_record'
TEST_SPLITS = ('test', 'validation')
CHUNK = 500  # Examples read at once.


def load_tfds(name: str, *, data_dir: str | pathlib.Path | None = None, note: Note) -> Dataset:
  """Reads a prepared set: its 'train' split, and as test part its split 'test', or 'validation' if there is no 'test'.

  Where there are both, 'validation' is the part that a search decides by.

  Args:
    name: as in TFDS: 'cifar10', 'emnist/balanced', 'cifar10:3.0.2'.
    data_dir: the folder where TFDS keeps its sets; None: $TFDS_DATA_DIR or ~/tensorflow_datasets, as in TFDS.
    note: shows a line to the user, where reading takes long or is to be done again.

  Raises:
    UserError: the set is unknown, not prepared as array_record, damaged, not one of equally sized uint8 images with
      a class label, or lacks a split.
  """
  from tensorflow_datasets.core import constants  # Not at the top: it takes a third of a second.
  data_dir = pathlib.Path(data_dir or constants.DATA_DIR).expanduser()
  builder = _builder(name, data_dir)
  image_key, label_key = _keys(name, builder.info)
  splits = builder.info.splits
  test_split = next((split for split in TEST_SPLITS if split in splits), None)
  if 'train' not in splits or not test_split:
    raise UserError(f"data {name!r}: splits {sorted(splits)}; 'train' and one of {TEST_SPLITS} are needed")
  of_parts = {'train': 'train', 'test': test_split}
  notes = []
  if test_split != TEST_SPLITS[0]:
    notes.append(f'there is no split {TEST_SPLITS[0]!r}: its split {test_split!r} is the test part')
  elif TEST_SPLITS[1] in splits:
    of_parts['valid'] = TEST_SPLITS[1]
  if others := sorted(splits.keys() - set(of_parts.values())):
    notes.append(f'left out: {"splits" if len(others) > 1 else "split"} {", ".join(others)}')
  label = builder.info.features[label_key]
  class_names = [label.int2str(i) for i in range(label.num_classes)]
  target = cache.beside(pathlib.Path(builder.data_dir))
  cached = cache.read(target, note)
  if cached is None:
    remarks: collections.Counter[str] = collections.Counter()
    parts = {part: _read(name, builder, split, image_key, label_key, remarks, note) for part, split in of_parts.items()}
    found = cache.Cached(parts, '', remarks)
  else:
    found = cached
  dataset = Dataset.checked(name, found.parts['train'], found.parts['test'], class_names, found.checksum or None,
                            valid=found.parts.get('valid'), notes=[*in_words(found.remarks), *notes])
  if cached is None:
    cache.write(target, dataset, found.remarks, note)
  return dataset


def _builder(name: str, data_dir: pathlib.Path) -> read_only_builder.ReadOnlyBuilder:
  """Returns the builder of a set prepared as array_record. It needs the files alone, no code of the set."""
  from tensorflow_datasets.core import read_only_builder
  try:
    builder = read_only_builder.builder_from_files(name, data_dir=str(data_dir))
  except (ValueError, FileNotFoundError) as error:
    raise _not_prepared(name, data_dir) from error
  except OSError as error:
    raise UserError(f'data {name!r}: {error.filename or data_dir} cannot be read ({error.strerror}); give yourself the right '
                    'or another --data_dir') from error
  formats = sorted(file_format.value for file_format in builder.info.available_file_formats())
  if FORMAT not in formats:
    raise UserError(
        f'data {name!r}: prepared as {", ".join(formats)}, which only TensorFlow reads; '
        f'delete {builder.data_dir} and prepare it as {FORMAT}: {_command(name, data_dir)}')
  return builder


def _not_prepared(name: str, data_dir: pathlib.Path) -> UserError:
  """Returns the error that says why there are no files: a wrong name, a set that is no use here, or one not yet prepared."""
  from tensorflow_datasets.core import naming, registered
  known = registered.list_imported_builders()
  try:
    parsed, arguments = naming.parse_builder_name_kwargs(name)
    family = parsed.name if not parsed.namespace else name
  except ValueError:
    family, arguments = name, {}
  if family not in known:
    return UserError(
        f"data {name!r}: no data set of this name{_close(family, known)}; give 'fashion_mnist_10k', a TFDS name, "
        "'folder:PATH' or 'npz:PATH'")
  # The set's own code may need packages that are not here, and may say so at length.
  with contextlib.suppress(Exception), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    builder_class = registered.imported_builder_cls(family)
    configs, config = list(builder_class.builder_configs), arguments.get('config')
    if config and config not in configs:
      return UserError(f'data {name!r}: {family} has no configuration {config!r}{_close(config, configs)}; it has {configs}')
    info = builder_class(data_dir=str(data_dir), config=config).info
    try:
      _keys(name, info)
    except UserError as error:
      return error
  return UserError(f'data {name!r}: not prepared in {data_dir}; prepare it once with: {_command(name, data_dir)}')


def _command(name: str, data_dir: pathlib.Path) -> str:
  """Returns the command that prepares a set. It is not `tfds build`, which also needs apache_beam."""
  builder = f"tfds.builder('{name}', data_dir='{data_dir}', file_format='{FORMAT}')"
  return (
      'pip install "enas_jax[tfds]" && '
      f'python -c "import tensorflow_datasets as tfds; {builder}.download_and_prepare()"')


def _close(name: str, names: list[str]) -> str:
  matches = difflib.get_close_matches(name, names, n=3)
  return f' (did you mean {", ".join(matches)}?)' if matches else ''


def _keys(name: str, info: dataset_info.DatasetInfo) -> tuple[str, str]:
  """Returns the names of the image feature and of the label feature. Raises UserError if they are something else."""
  from tensorflow_datasets.core import features
  keys = info.supervised_keys
  if not isinstance(keys, tuple) or len(keys) != 2 or not all(isinstance(k, str) and k in info.features for k in keys):
    raise UserError(f'data {name!r}: not an image-classification set (supervised keys {keys}); give one, such as cifar10')
  image, label = (info.features[key] for key in keys)
  pixels = isinstance(image, features.Image) or (type(image) is features.Tensor and len(image.shape) == 3)
  if not pixels or not isinstance(label, features.ClassLabel):
    kinds = f'{type(image).__name__} and {type(label).__name__}, not Image and ClassLabel'
    raise UserError(f'data {name!r}: not an image-classification set ({kinds}); give one, such as cifar10')
  if image.np_dtype != np.uint8 or (isinstance(image, features.Image) and image.shape[-1] not in MODES):
    raise UserError(
        f'data {name!r}: images are {np.dtype(image.np_dtype)} with {image.shape[-1]} channels; '
        f'uint8 with {list(MODES)} channels are needed')
  return keys


def _read(name: str, builder: read_only_builder.ReadOnlyBuilder, split: str, image_key: str, label_key: str,
          remarks: collections.Counter[str], note: Note) -> ImageSet:
  """Reads all examples of a split, and counts the remarks on them. Not TFDS but `decode` decodes, as for all files."""
  import tensorflow_datasets as tfds
  feature = builder.info.features[image_key]
  encoded = isinstance(feature, tfds.features.Image)
  decoders = {image_key: tfds.decode.SkipDecoding()} if encoded else None
  images: np.ndarray | None = None
  labels: list[int] = []
  try:
    source = builder.as_data_source(split=split, decoders=decoders, file_format=FORMAT)
    starts = range(0, len(source), CHUNK)
    for start in metered(starts, f'data {name!r}: images of split {split!r} read', note, each=CHUNK):
      for example in source.__getitems__(range(start, min(start + CHUNK, len(source)))):
        image = example[image_key]
        if encoded:
          where = f'data {name!r}: image {len(labels)} of split {split!r}'
          image, found = decode(where, io.BytesIO(image), channels=feature.shape[-1])
          remarks.update(found)
        if images is None:
          images = room_for(name, len(source), image.shape)
        if image.shape != images.shape[1:]:
          sizes = f'{list(images.shape[1:])} and {list(image.shape)}'
          raise UserError(f"data {name!r}: images of varying shape ({sizes}); resize a copy and give it as 'folder:PATH'")
        images[len(labels)] = image
        labels.append(example[label_key])
  except UserError:
    raise
  except Exception as error:
    line = ' '.join(str(error).split())[:200]
    raise UserError(f'data {name!r}: cannot read {builder.data_dir} ({line}); delete it and prepare it again') from error
  if images is None:
    raise UserError(f'data {name!r}: split {split!r} is empty; delete {builder.data_dir} and prepare it again')
  return ImageSet(images, np.array(labels, np.int32))

"""Reads NAS-Bench-101's official files without TensorFlow.

They are `nasbench_only108.tfrecord` (499 MB) and `nasbench_full.tfrecord` (1.95 GB) of google-research/nasbench. A TFRecord
file is a row of records: length (8 bytes, little endian), its checksum, payload, its checksum; the checksums are CRC-32C,
masked. Here a payload is one training as JSON: [hash, epochs, adjacency, operations, metrics], the last a base64 protocol
buffer (nasbench/lib/model_metrics.proto). A cell has three trainings for each number of epochs.
"""
from __future__ import annotations

import array
import base64
import functools
import json
import math
import os
import pathlib
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import google_crc32c
import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from enas_jax.errors import UserError
from enas_jax.spaces.nasbench101 import NasBench101Space
from enas_jax.spaces.nasbench101_graph import LABELS, MAX_VERTICES, PADDING, Cells, texts

REPEATS = 3
ROUNDING = 1e-6  # The file's accuracies are means in float32.
METRICS = ('train_seconds', 'train', 'valid', 'test')  # An evaluation's fields from the second on, in their order.


class NasBench101Records(NamedTuple):
  """N cells in the order of the file, and their trainings.

  Attributes:
    hashes: [N] S32, `NasBench101Space.key`.
    cells: their matrices and operations.
    params: [N] int32, trainable parameters.
    epochs: [E], what the file has of 4, 12, 36 and 108, ascending.
    values: [N, E, 3, 2, 4], float32 as in the file. The axes are the cell, the number of epochs, the repeat in the order of the
      file, half of the epochs and their end, and `METRICS`: seconds of training up to there, accuracies as fractions in [0, 1].
  """

  hashes: np.ndarray
  cells: Cells
  params: np.ndarray
  epochs: np.ndarray
  values: np.ndarray


def columns(records: NasBench101Records) -> dict[str, np.ndarray]:
  """Returns the arrays that `files.table_of` makes a table of, [N] each.

  Returns:
    `key`, the hashes, and `architecture`, the texts of the cells.
    cifar10/params: trainable weights.
    cifar10/valid/108, cifar10/test/108: accuracy at the end of the training, the mean over its repeats; so for other epochs.
    cifar10/train_seconds/108: seconds of one training, likewise.
  """
  means = records.values[:, :, :, 1].mean(2, dtype=np.float64)
  members = {'key': records.hashes, 'architecture': texts(records.cells), 'cifar10/params': records.params}
  return members | {
      f'cifar10/{name}/{epochs}': means[:, place, METRICS.index(name)]
      for name in ('valid', 'test', 'train_seconds') for place, epochs in enumerate(records.epochs)}


def read_tfrecord(path: str | os.PathLike[str]) -> NasBench101Records:
  """Reads a file in one pass, in memory of a few times the result's.

  Every record is checked: its checksums, its form, and that the hash is that of the cell.

  Raises:
    UserError: it is no such file, or a cut or altered one; the message names the first bad record and the byte where it begins.
  """
  rows: dict[str, int] = {}  # Of hashes, in the order of the file.
  cells: list[bytes] = []
  params, of_record, epochs, values = array.array('l'), array.array('l'), array.array('l'), array.array('f')
  for where, payload in _payloads(pathlib.Path(path)):
    try:
      digest, budget, cell, count, metrics = _training(payload)
      row = rows.setdefault(digest, len(rows))
      if row == len(cells):
        cells.append(cell)
        params.append(count)
      elif (cells[row], params[row]) != (cell, count):
        raise ValueError(f'another cell or number of parameters than before under the hash {digest}')
    except (ValueError, DecodeError, RecursionError) as error:
      raise UserError(f'{where} is no training of NAS-Bench-101: {error}; fetch the file again') from error
    of_record.append(row)
    epochs.append(budget)
    values.extend(metrics)

  hashes = np.array(list(rows), 'S32')
  budgets, grid = _in_order(path, hashes, np.asarray(of_record), np.asarray(epochs))
  measured = np.frombuffer(values, np.float32).reshape(-1, 2, len(METRICS))
  adjacency, operations = np.split(np.frombuffer(b''.join(cells), np.uint8).reshape(len(cells), -1), [MAX_VERTICES**2], 1)
  matrices, vertices = adjacency.reshape(-1, MAX_VERTICES, MAX_VERTICES), (operations != PADDING).sum(1, dtype=np.uint8)
  return NasBench101Records(
      hashes, Cells(matrices, operations, vertices), np.array(params, np.int32), budgets, measured[grid])


def _in_order(
    path: str | os.PathLike[str], hashes: np.ndarray, rows: np.ndarray, epochs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns the numbers of epochs [E], and the record [N, E, 3] of every cell, number of epochs and repeat."""
  budgets, places = np.unique(epochs, return_inverse=True)
  counts = np.bincount(rows * len(budgets) + places, minlength=len(hashes) * len(budgets))
  wrong = np.flatnonzero(counts != REPEATS)
  if wrong.size:
    row, place = divmod(int(wrong[0]), len(budgets))
    raise UserError(f'{path}: the cell {hashes[row].decode()} has {counts[wrong[0]]} trainings of {budgets[place]} epochs, not '
                    f'{REPEATS}; the file is cut or not whole, fetch it again')
  return budgets, np.lexsort((places, rows)).reshape(len(hashes), len(budgets), REPEATS)  # Stable: repeats keep their order.


def _payloads(path: pathlib.Path) -> Iterator[tuple[str, bytes]]:
  """Yields each record's place, for messages, and its payload."""
  try:
    file = path.open('rb')
  except OSError as error:
    raise UserError(f'{path}: {error.strerror}; give a TFRecord file of NAS-Bench-101') from error
  with file:
    size, start, index = os.fstat(file.fileno()).st_size, 0, 0
    if not size:
      raise UserError(f'{path}: the file is empty; fetch it again')
    while start < size:
      where = f'{path}: record {index} at byte {start}'
      head = file.read(12)
      if len(head) == 12 and _masked_crc(head[:8]) != head[8:]:
        what = 'has a length with a wrong checksum' if index else 'is no TFRecord'
        raise UserError(f'{where} {what}; the file is altered or of another kind, fetch it again')
      length = int.from_bytes(head[:8], 'little')
      if len(head) < 12 or start + 16 + length > size:
        raise UserError(f'{where} is cut: the file ends at byte {size}; fetch it again')
      payload = file.read(length)
      if _masked_crc(payload) != file.read(4):
        raise UserError(f'{where} has a wrong checksum; the file is altered, fetch it again')
      yield where, payload
      start += 16 + length
      index += 1


def _masked_crc(data: bytes) -> bytes:
  """Returns the checksum as TensorFlow stores it: rotated by 15 bits, plus a constant."""
  crc = google_crc32c.value(data)
  return struct.pack('<I', ((crc >> 15 | crc << 17) + 0xa282ead8) & 0xffffffff)


def _training(payload: bytes) -> tuple[str, int, bytes, int, tuple[float, ...]]:
  """Returns hash, epochs, the cell as bytes, parameters, and `METRICS` at half and at the end.

  Raises ValueError if the payload has another form.
  """
  match json.loads(payload):
    case [str(digest), int(epochs), str(adjacency), str(operations), str(metrics)] if 1 < epochs < 1 << 31:
      pass
    case _:
      raise ValueError('its JSON is not [hash, epochs, adjacency, operations, metrics]')
  expected, cell = _cell(adjacency, operations)
  if digest != expected:
    raise ValueError(f'its hash {digest!r} is not that of its cell, {expected}')
  message = _message().FromString(base64.b64decode(metrics, validate=True))
  if not message.IsInitialized() or len(message.evaluation_data) != 3:  # At the start, at half, at the end.
    raise ValueError('its metrics lack a value')
  half, end = ((data.training_time, data.train_accuracy, data.validation_accuracy, data.test_accuracy)
               for data in message.evaluation_data[1:])
  accurate = all(0 <= accuracy <= 1 + ROUNDING for accuracy in half[1:] + end[1:])
  if not accurate or not 0 <= half[0] <= end[0] < math.inf:
    raise ValueError(f'its metrics {half + end} are not twice seconds and three fractions')
  return digest, epochs, cell, message.trainable_parameters, half + end


@functools.lru_cache(maxsize=1 << 12)
def _cell(adjacency: str, operations: str) -> tuple[str, bytes]:
  """Returns the hash of a cell, and its matrix and operations as `Cells` has them, 49 + 7 bytes."""
  space = NasBench101Space()
  architecture = space.from_string(f'{adjacency}:{operations}')
  size = len(architecture.matrix)
  if size**2 != len(adjacency):
    raise ValueError('its cell has dead parts')
  rows = [bytes(row).ljust(MAX_VERTICES, b'\0') for row in architecture.matrix]
  labels = bytes(map(LABELS.index, architecture.operations)).ljust(MAX_VERTICES, bytes([PADDING]))
  return space.identity(architecture), b''.join(rows).ljust(MAX_VERTICES**2, b'\0') + labels


@functools.cache
def _message() -> Any:
  """Returns the class of nasbench.ModelMetrics. The fields that are read are required, so that none reads as 0 if absent."""
  field = descriptor_pb2.FieldDescriptorProto
  file = descriptor_pb2.FileDescriptorProto(name='model_metrics.proto', package='nasbench')
  evaluation = file.message_type.add(name='EvaluationData')
  names = ('current_epoch', 'training_time', 'train_accuracy', 'validation_accuracy', 'test_accuracy')
  for number, name in enumerate(names, 1):
    evaluation.field.add(name=name, number=number, type=field.TYPE_DOUBLE, label=field.LABEL_REQUIRED)
  metrics = file.message_type.add(name='ModelMetrics')
  metrics.field.add(name='evaluation_data', number=1, type=field.TYPE_MESSAGE, type_name='EvaluationData',
                    label=field.LABEL_REPEATED)
  metrics.field.add(name='trainable_parameters', number=2, type=field.TYPE_INT32, label=field.LABEL_REQUIRED)
  pool = descriptor_pool.DescriptorPool()
  pool.Add(file)
  return message_factory.GetMessageClass(pool.FindMessageTypeByName('nasbench.ModelMetrics'))

"""The reader of NAS-Bench-101's files against a published record and files written here in the official format."""
import base64
import json
import struct

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from enas_jax.spaces.nasbench101 import NasBench101Space
from enas_jax.spaces.nasbench101_graph import LABELS, PADDING
from enas_jax.tables import files
from enas_jax.tables.nasbench101_tfrecord import columns, read_tfrecord

SPACE = NasBench101Space()
EPOCHS = (4, 12, 36, 108)

# The first training of `nasbench_full.tfrecord`: its metrics with what they mean are in a test of github.com/sile/nasbench-rs.
OFFICIAL = [
    '00005c142e6f48ac74fdcf73e3439874', 4, '0100110001000000010010000010000001000000010000000',
    'input,conv3x3-bn-relu,maxpool3x3,conv3x3-bn-relu,conv3x3-bn-relu,conv1x1-bn-relu,output',
    'Ci0JAAAAAAAAAAARAAAAAAAAAAAZAAAAoKqquT8hAAAAYJAGuT8pAAAAAGmQuT8KLQkAAAAAAAAAQBEAAADAdJNGQBkAAABgkAa6PyEAAAAg3/K6PykA'
    'AACAy7e6PwotCQAAAAAAABBAEQAAACDbeVZAGQAAAEAaZNY/IQAAAGBVVdY/KQAAAODybdY/EIqYigQZAABAhznbeUA=']

# nasbench/lib/model_metrics.proto as the official code has it, compiled.
PROTO = (
    b'\n\x13model_metrics.proto\x12\x08nasbench"s\n\x0cModelMetrics\x121\n\x0fevaluation_data\x18\x01 \x03(\x0b2\x18.nasbench'
    b'.EvaluationData\x12\x1c\n\x14trainable_parameters\x18\x02 \x01(\x05\x12\x12\n\ntotal_time\x18\x03 \x01(\x01"\xa3\x01\n'
    b'\x0eEvaluationData\x12\x15\n\rcurrent_epoch\x18\x01 \x01(\x01\x12\x15\n\rtraining_time\x18\x02 \x01(\x01\x12\x16\n'
    b'\x0etrain_accuracy\x18\x03 \x01(\x01\x12\x1b\n\x13validation_accuracy\x18\x04 \x01(\x01\x12\x15\n'
    b'\rtest_accuracy\x18\x05 \x01(\x01\x12\x17\n\x0fcheckpoint_path\x18\x06 \x01(\t')


def metrics_class():
  pool = descriptor_pool.DescriptorPool()
  pool.Add(descriptor_pb2.FileDescriptorProto.FromString(PROTO))
  return message_factory.GetMessageClass(pool.FindMessageTypeByName('nasbench.ModelMetrics'))


Metrics = metrics_class()


def masked_crc(data):
  """CRC-32C bit by bit, masked as TensorFlow does."""
  crc = 0xffffffff
  for byte in data:
    crc ^= byte
    for _ in range(8):
      crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
  crc ^= 0xffffffff
  return struct.pack('<I', ((crc >> 15 | crc << 17) + 0xa282ead8) % 2**32)


def framed(payload):
  head = struct.pack('<Q', len(payload))
  return head + masked_crc(head) + payload + masked_crc(payload)


def written(path, payloads):
  path.write_bytes(b''.join(framed(p if isinstance(p, bytes) else json.dumps(p).encode()) for p in payloads))
  return path


def training(architecture, epochs, values, params=1):
  """A payload; values [3, 4]: at the start, at half, at the end: seconds, then accuracies on train, validation and test."""
  metrics = Metrics(trainable_parameters=params, total_time=1e4)
  for part, (seconds, train, valid, test) in zip((0, 0.5, 1), np.asarray(values, float).tolist(), strict=True):
    metrics.evaluation_data.add(
        current_epoch=part * epochs, training_time=seconds, train_accuracy=train, validation_accuracy=valid, test_accuracy=test,
        checkpoint_path='')
  adjacency, operations = architecture.cell.split(':')
  encoded = base64.b64encode(metrics.SerializeToString()).decode()
  return [SPACE.identity(architecture), epochs, adjacency, operations, encoded]


def random_file(path, *, cells=6, epochs=EPOCHS, seed=0):
  """Different cells, their values [cells, epochs, 3 repeats, 3 times, 4], and a file of them with the records mixed."""
  rng = np.random.default_rng(seed)
  chosen = {}
  while len(chosen) < cells:
    architecture = SPACE.sample(rng)
    chosen.setdefault(SPACE.identity(architecture), architecture)
  chosen = list(chosen.values())
  values = rng.random((cells, len(epochs), 3, 3, 4), np.float32)
  values[..., 0].sort(-1)
  places = list(np.ndindex(cells, len(epochs)))
  rng.shuffle(places)
  written(path, [training(chosen[c], epochs[e], values[c, e, repeat], c + 1) for repeat in range(3) for c, e in places])
  return chosen, values


def test_checksums_are_those_of_the_standard():
  """RFC 3720, B.4: 32 bytes of zeros; unmasked."""
  masked = struct.unpack('<I', masked_crc(bytes(32)))[0] - 0xa282ead8 & 0xffffffff
  assert masked << 15 & 0xffffffff | masked >> 17 == 0x8a9136aa


def test_a_published_record(tmp_path):
  records = read_tfrecord(written(tmp_path / 'one.tfrecord', [OFFICIAL] * 3))
  assert records.hashes.tolist() == [OFFICIAL[0].encode()] and records.params.tolist() == [8555530]
  assert records.epochs.tolist() == [4] and records.values.shape == (1, 1, 3, 2, 4)
  half = [45.152000427246094, 0.10166265815496445, 0.10526842623949051, 0.10436698794364929]
  end = [89.90399932861328, 0.3498597741127014, 0.3489583432674408, 0.3504607379436493]
  for repeat in range(3):
    assert records.values[0, 0, repeat].astype(float).tolist() == [half, end]  # To the last bit.


def test_what_is_written_comes_back(tmp_path):
  path = tmp_path / 'mixed.tfrecord'
  architectures, values = random_file(path)
  records = read_tfrecord(path)
  assert records.epochs.tolist() == list(EPOCHS)
  order = [records.hashes.tolist().index(SPACE.key(a)) for a in architectures]
  assert sorted(order) == list(range(len(architectures)))
  np.testing.assert_array_equal(records.values[order], values[:, :, :, 1:])
  np.testing.assert_array_equal(records.params[order], range(1, len(order) + 1))
  for row, architecture in zip(order, architectures, strict=True):
    size = records.cells.vertices[row]
    assert size == len(architecture.matrix)
    matrix, codes = records.cells.adjacency[row], records.cells.operations[row]
    assert matrix[:size, :size].tolist() == [list(line) for line in architecture.matrix]
    assert not matrix[size:].any() and not matrix[:, size:].any()
    assert tuple(LABELS[code] for code in codes[:size]) == architecture.operations and (codes[size:] == PADDING).all()


def test_columns_make_a_table_of_means(tmp_path):
  path = tmp_path / 'only108.tfrecord'
  architectures, values = random_file(path, epochs=(108,))
  table = files.table_of('nasbench101', SPACE, columns(read_tfrecord(path)))
  rows = [table.row(architecture) for architecture in architectures]
  assert [table.architecture(row) for row in rows] == architectures
  means = values.astype(float).mean(2)[:, 0, 2].T
  for name, expected in zip(('train_seconds', None, 'valid', 'test'), means, strict=True):
    if name:
      np.testing.assert_allclose(table.column(f'cifar10/{name}/108')[rows], expected, rtol=1e-12)
  assert table.column('cifar10/params')[rows].tolist() == list(range(1, len(rows) + 1))
  assert table.fidelities('cifar10', 'valid') == (108,)


def test_every_cut_is_seen(tmp_path, user_error):
  path = tmp_path / 'cut.tfrecord'
  random_file(path, cells=1, epochs=(4,))
  data = path.read_bytes()
  start = len(data) // 3 * 2  # Of the last record.
  for size in (*range(1, 40), *range(start - 3, start), *range(start + 1, start + 15), len(data) - 5, len(data) - 1):
    path.write_bytes(data[:size])
    with user_error(path, 'record', f'at byte {size // (start // 2) * start // 2}', 'is cut', f'byte {size}'):
      read_tfrecord(path)
  path.write_bytes(data[:start])  # Where no record is cut, a training is missing.
  with user_error(path, 'has 2 trainings of 4 epochs', 'not 3'):
    read_tfrecord(path)


def test_every_altered_byte_is_seen(tmp_path, user_error):
  path = tmp_path / 'altered.tfrecord'
  random_file(path, cells=1, epochs=(4,))
  data = path.read_bytes()
  start = len(data) // 3  # Of the second record.
  for place in range(start, 2 * start):
    path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1:])
    with user_error(path, f'record 1 at byte {start} has', 'checksum', 'altered'):
      read_tfrecord(path)


@pytest.mark.parametrize('data', [b'no TFRecord at all', b'\x89HDF' + bytes(100), bytes(12), b'PK\x03\x04' * 40])
def test_another_kind_of_file(data, tmp_path, user_error):
  path = tmp_path / 'other.tfrecord'
  path.write_bytes(data)
  with user_error(path, 'record 0 at byte 0', 'no TFRecord'):
    read_tfrecord(path)


def test_no_file(tmp_path, user_error):
  (tmp_path / 'empty').touch()
  for name, part in (('missing', 'No such file'), ('', 'directory'), ('empty', 'is empty')):
    with user_error(tmp_path / name, part):
      read_tfrecord(tmp_path / name)


def test_a_length_that_no_file_has(tmp_path, user_error):
  path = tmp_path / 'long.tfrecord'
  head = struct.pack('<Q', 1 << 60)
  path.write_bytes(head + masked_crc(head) + bytes(100))
  with user_error('record 0', 'is cut'):
    read_tfrecord(path)


def changed(place, value):
  return [value if i == place else field for i, field in enumerate(OFFICIAL)]


def of_values(values):
  return training(SPACE.from_string(':'.join(OFFICIAL[2:4])), 4, values)


@pytest.mark.parametrize(('payload', 'part'), [
    (b'not JSON', 'Expecting value'),
    (b'\xff', 'codec'),
    (b'[' * 100_000, 'recursion'),
    ({'hash': 'a'}, 'its JSON is not'),
    (OFFICIAL[:4], 'its JSON is not'),
    (changed(1, '4'), 'its JSON is not'),
    (changed(1, True), 'its JSON is not'),
    (changed(1, 10**30), 'its JSON is not'),
    (changed(0, 'f' * 32), 'is not that of its cell, 00005c142e6f48ac74fdcf73e3439874'),
    (changed(0, 'two\nlines'), 'is not that of its cell'),
    (changed(2, OFFICIAL[2][::-1]), '1->0 goes back'),
    (changed(2, OFFICIAL[2][:-1]), 'is not a cell'),
    (changed(2, OFFICIAL[2][:28] + '0000000' + OFFICIAL[2][35:]), 'dead parts'),
    (changed(3, OFFICIAL[3].replace('maxpool3x3', 'conv1x1-bn-relu')), 'is not that of its cell'),
    (changed(3, OFFICIAL[3].replace('maxpool3x3', 'avgpool3x3')), "'avgpool3x3' is unknown"),
    (changed(4, 'no base64!'), 'base64'),
    (changed(4, OFFICIAL[4][:-8]), 'parsing'),
    (changed(4, ''), 'lack a value'),
    (changed(4, base64.b64encode(base64.b64decode(OFFICIAL[4])[47:]).decode()), 'lack a value'),  # Without the start.
    (changed(4, base64.b64encode(Metrics(evaluation_data=[{}] * 3, trainable_parameters=1).SerializeToString()).decode()),
     'lack a value'),
    (of_values([[0, 0, 0, 0], [1, 0, 0, 0], [2, 0, 93.5, 0]]), '93.5'),
    (of_values([[0, 0, 0, 0], [1, 0, 0, np.nan], [2, 0, 0, 0]]), 'nan'),
    (of_values([[0, 0, 0, 0], [3, 0, 0, 0], [2, 0, 0, 0]]), '3.0'),
    (of_values([[0, 0, 0, 0], [3, 0, 0, 0], [np.inf, 0, 0, 0]]), 'inf'),
    (of_values([[0, 0, 0, 0], [1, 0, 0, 0], [2, 0, 0, 0]]), 'number of parameters'),  # 1, where it was 8,555,530.
])
def test_records_of_another_form(payload, part, tmp_path, user_error):
  path = written(tmp_path / 'odd.tfrecord', [OFFICIAL, payload])
  start = path.read_bytes().find(b'"]') + 2 + 4
  with user_error(path, f'record 1 at byte {start}', part):
    read_tfrecord(path)


def test_one_hash_is_one_matrix(tmp_path, user_error):
  """An isomorphic cell written otherwise: vertex 4 as the first."""
  order = (0, 4, 1, 2, 3, 5, 6)
  matrix = np.array(list(OFFICIAL[2])).reshape(7, 7)[np.ix_(order, order)]
  names = OFFICIAL[3].split(',')
  adjacency = ''.join(matrix.ravel())
  other = [*OFFICIAL[:2], adjacency, ','.join(names[v] for v in order), OFFICIAL[4]]
  with user_error('record 1', 'another cell', OFFICIAL[0]):
    read_tfrecord(written(tmp_path / 'two.tfrecord', [OFFICIAL, other]))

"""The network that a user takes home: loaded it predicts as in memory, and nothing mixed or damaged loads."""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import types

import jax
import numpy as np
import pytest
from flax import nnx

from enas_jax import model as module
from enas_jax.model import Model, load, read_architecture
from enas_jax.networks import build
from enas_jax.spaces import ChainArchitecture
from enas_jax.types import Task

TASK = Task((8, 7, 3), 4)
ARCHITECTURE = ChainArchitecture(2, (0, 1, 0), (3, 5, 3))
IMAGES = np.random.default_rng(1).integers(0, 256, (5, 8, 7, 3), np.uint8)


def make(seed=0, architecture=ARCHITECTURE):
  """A model whose every array, batch-norm statistics too, is random."""
  rng = np.random.default_rng(seed)
  graph, leaves = nnx.split(nnx.eval_shape(lambda: build(architecture, task=TASK, key=jax.random.key(0))))
  network = nnx.merge(graph, jax.tree.map(lambda x: jax.numpy.asarray(rng.uniform(0.5, 1.5, x.shape), x.dtype), leaves))
  network.eval()
  mean, std = rng.uniform(0.3, 0.7, (2, 3)).astype(np.float32)
  return Model(architecture, network, TASK, mean, std, ('ant', 'bee', 'cat', 'dög'))


@pytest.fixture(scope='module')
def model():
  return make()


@pytest.fixture(scope='module')
def saved(model, tmp_path_factory):
  folder = tmp_path_factory.mktemp('saved')
  model.save(folder)
  return folder


@pytest.fixture
def folder(saved, tmp_path):
  return shutil.copytree(saved, tmp_path / 'model')


def weights(folder):
  path, = folder.glob('weights-*')
  return path


def change(folder, **fields):
  record = json.loads((folder / 'model.json').read_text())
  (folder / 'model.json').write_text(json.dumps({**record, **fields}))


def test_loaded_it_predicts_the_same_bits(model, folder):
  loaded = load(str(folder))
  np.testing.assert_array_equal(loaded.logits(IMAGES), model.logits(IMAGES))
  np.testing.assert_array_equal(loaded.predict(IMAGES), model.predict(IMAGES))
  assert loaded.architecture == model.architecture
  assert (loaded.task, loaded.class_names) == (model.task, model.class_names)
  for one, other in ((loaded.mean, model.mean), (loaded.std, model.std)):
    np.testing.assert_array_equal(one, other)
    assert one.dtype == other.dtype == np.float32
  assert {path.name for path in folder.iterdir()} == {'model.json', weights(folder).name}


def test_a_fresh_process_predicts_the_same_bits(model, folder, tmp_path):
  np.save(tmp_path / 'images.npy', IMAGES)
  script = ('import sys, numpy, enas_jax; '
            'numpy.save(sys.argv[3], enas_jax.load(sys.argv[1]).logits(numpy.load(sys.argv[2])))')
  paths = [str(path) for path in (folder, tmp_path / 'images.npy', tmp_path / 'logits.npy')]
  done = subprocess.run([sys.executable, '-c', script, *paths], check=True, capture_output=True, text=True)
  assert not done.stderr
  np.testing.assert_array_equal(np.load(tmp_path / 'logits.npy'), model.logits(IMAGES))


def test_predictions_do_not_depend_on_how_many_there_are(model, monkeypatch):
  whole = model.logits(IMAGES)
  assert whole.shape == (5, 4) and whole.dtype == np.float32
  assert model.predict(IMAGES).tolist() == whole.argmax(-1).tolist()
  assert len(set(whole[:, 0].tolist())) == 5
  monkeypatch.setattr(module, 'BATCH', 2)
  np.testing.assert_allclose(model.logits(IMAGES), whole, rtol=1e-5)
  assert model.logits(IMAGES[:0]).shape == (0, 4)
  assert model.predict(IMAGES[:0]).shape == (0,)


@pytest.mark.parametrize('images', [
    IMAGES.astype(np.float32), IMAGES.astype(np.int64), IMAGES[0], IMAGES[..., :1], IMAGES[:, :7], IMAGES[None]])
def test_other_images_are_refused(model, images, user_error):
  with user_error(str(images.dtype), list(images.shape), 'give uint8 [N, 8, 7, 3]'):
    model.predict(images)


def test_saving_over_another_model_replaces_it(model, folder):
  other = make(seed=1, architecture=ChainArchitecture(3, (1, 1, 1, 0), (3, 3, 3, 5)))
  other.save(folder)
  np.testing.assert_array_equal(load(folder).logits(IMAGES), other.logits(IMAGES))
  assert {path.name for path in folder.iterdir()} == {'model.json', weights(folder).name}


class Crash(BaseException):
  pass


@pytest.mark.parametrize('when', ['save', 'rename', 'write_text', 'replace'])
def test_after_a_crash_it_is_the_old_model_or_the_new(model, folder, monkeypatch, when):
  def crash(*args, **kwargs):
    raise Crash

  with monkeypatch.context() as patch:
    patch.setattr(module.ocp.Checkpointer if when == 'save' else pathlib.Path, when, crash)
    with pytest.raises(Crash):
      make(seed=1).save(folder)
  np.testing.assert_array_equal(load(folder).logits(IMAGES), model.logits(IMAGES))
  make(seed=2).save(folder)
  assert (load(folder).logits(IMAGES) != model.logits(IMAGES)).any()
  assert {path.name for path in folder.iterdir()} == {'model.json', weights(folder).name}


def test_a_crash_before_the_old_weights_go_leaves_the_new_model(folder, monkeypatch):
  new = make(seed=1)
  with monkeypatch.context() as patch:
    patch.setattr(module, 'sync_folder', lambda path: (_ for _ in ()).throw(Crash))
    with pytest.raises(Crash):
      new.save(folder)
  np.testing.assert_array_equal(load(folder).logits(IMAGES), new.logits(IMAGES))


def test_saving_touches_nothing_else(model, tmp_path):
  (tmp_path / 'weights-of-mine').write_text('')
  (tmp_path / 'weights').mkdir()
  model.save(tmp_path)
  model.save(tmp_path)
  assert len(list(tmp_path.iterdir())) == 4


def test_a_full_disk_is_told_in_one_line(model, folder, monkeypatch, user_error):
  with monkeypatch.context() as patch:
    patch.setattr(shutil, 'disk_usage', lambda path: types.SimpleNamespace(free=1000))
    with user_error(f'workdir {folder} is full'):
      make(seed=1).save(folder)
  np.testing.assert_array_equal(load(folder).logits(IMAGES), model.logits(IMAGES))


def test_a_folder_without_a_model(tmp_path, user_error):
  for path in (tmp_path, tmp_path / 'absent'):
    with user_error(path, 'no trained network', 'finish the run'):
      load(path)
  (tmp_path / 'file').write_text('')
  with user_error(tmp_path / 'file'):
    load(tmp_path / 'file')


@pytest.mark.parametrize('content', ['', '{', '{"format": 1, "arch', '\x00\x00', b'\xff\xfe\x00'])
def test_a_damaged_record(folder, content, user_error):
  (folder / 'model.json').write_bytes(content if isinstance(content, bytes) else content.encode())
  with user_error(folder / 'model.json', 'damaged', 'run the same command again'):
    load(folder)


@pytest.mark.parametrize('content', ['[]', 'null', '{}', '{"format": 2}', '{"format": "1"}'])
def test_another_format(folder, content, user_error):
  (folder / 'model.json').write_text(content)
  with user_error(folder / 'model.json', 'format', 'is not 1'):
    load(folder)


@pytest.mark.parametrize(('fields', 'part'), [
    ({'architecture': 3}, 'space None'),
    ({'architecture': {'space': 'tree'}}, "space 'tree'"),
    ({'architecture': {**ARCHITECTURE.to_json(), 'width': 0}}, 'width 0'),
    ({'image_shape': 8}, 'damaged'),
    ({'image_shape': [8, 7]}, 'damaged'),
    ({'class_names': None}, 'damaged'),
    ({'mean': ['a']}, 'damaged'),
    ({'weights': 5}, 'damaged'),
    ({'weights': 'weights-0123456789abcdef'}, 'missing or damaged'),
    ({'weights': '..'}, 'damaged'),
    ({'architecture': {**ARCHITECTURE.to_json(), 'width': 3}}, 'another network'),
    ({'architecture': {**ARCHITECTURE.to_json(), 'operations': '0100', 'kernels': '3533'}}, 'another network'),
    ({'class_names': ['ant', 'bee']}, 'another network'),
    ({'image_shape': [8, 7, 1]}, 'of 1 channels'),
])
def test_a_record_that_does_not_fit(folder, fields, part, user_error, capfd):
  change(folder, **fields)
  with user_error(folder, part):
    load(folder)
  assert capfd.readouterr() == ('', '')


@pytest.mark.parametrize('field', ['architecture', 'image_shape', 'class_names', 'mean', 'std', 'weights'])
def test_a_record_that_lacks_a_field(folder, field, user_error):
  record = json.loads((folder / 'model.json').read_text())
  del record[field]
  (folder / 'model.json').write_text(json.dumps(record))
  with user_error(folder / 'model.json', 'damaged', field):
    load(folder)


def cut(path):
  os.truncate(max((f for f in path.rglob('*') if f.is_file()), key=lambda f: f.stat().st_size), 20)


@pytest.mark.parametrize('damage', [shutil.rmtree, cut, lambda path: (path / '_METADATA').unlink()])
def test_damaged_weights(folder, damage, user_error, capfd):
  path = weights(folder)
  damage(path)
  with user_error(path, 'missing or damaged', 'run the same command again'):
    load(folder)
  assert capfd.readouterr() == ('', '')


def test_architectures_of_all_spaces_are_read(user_error):
  assert read_architecture(ARCHITECTURE.to_json()) == ARCHITECTURE
  for record in (None, [], {}, {'space': 'tree'}):
    with user_error('space', 'chain'):
      read_architecture(record)

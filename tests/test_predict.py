"""Prediction from files: what training would see of them, in the words of the classes."""
import csv
import io
import os

import jax
import numpy as np
import pytest
import scipy.special
from flax import nnx
from PIL import Image
from sklearn import metrics as sklearn_metrics

from enas_jax import cli, data, predict, train
from enas_jax.data import Dataset, ImageSet
from enas_jax.errors import UserError
from enas_jax.model import Model
from enas_jax.networks import build
from enas_jax.spaces import ChainArchitecture
from enas_jax.types import Task

TASK = Task((8, 6, 3), 3)
CLASSES = ('ant', 'bee, wild', 'dög')


@pytest.fixture(scope='module')
def model():
  architecture, rng = ChainArchitecture(2, (0, 1, 0), (3, 5, 3)), np.random.default_rng(5)
  graph, leaves = nnx.split(nnx.eval_shape(lambda: build(architecture, task=TASK, key=jax.random.key(0))))
  draw = {False: lambda shape: rng.uniform(0.5, 1.5, shape), True: lambda shape: rng.uniform(-1.5, 1.5, shape)}
  network = nnx.merge(graph, jax.tree.map(lambda x: jax.numpy.asarray(draw[x.ndim > 1](x.shape), x.dtype), leaves))
  network.eval()
  return Model(architecture, network, TASK, np.full(3, 0.5, np.float32), np.full(3, 0.25, np.float32), CLASSES)


@pytest.fixture(scope='module')
def run(model, tmp_path_factory):
  """A finished run's folder."""
  folder = tmp_path_factory.mktemp('run')
  model.save(folder)
  return folder


@pytest.fixture
def pictures(tmp_path):
  """A folder of seven images, some in folders, and other files. Their pixels, in the order of their names."""
  pixels = np.random.default_rng(1).integers(0, 256, (7, 8, 6, 3), np.uint8)
  pixels //= np.arange(1, 8, dtype=np.uint8)[:, None, None, None]
  folder = tmp_path / 'pictures'
  names = ['a.png', 'b.BMP', 'sub/c.png', 'sub/deeper/d.tif', 'sub/e.png', 'sub2/f.webp', 'z.gif']
  order = ['a.png', 'b.BMP', 'sub/c.png', 'sub/deeper/d.tif', 'sub/e.png', 'sub2/f.webp', 'z.gif']  # As training lists them.
  for name, image in zip(names, pixels, strict=True):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    options = {'lossless': True} if name.endswith('webp') else {}
    Image.fromarray(image).save(folder / name, **options)
  for name in ('notes.txt', '.hidden.png', 'sub/.hidden/x.png'):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text('no image')
  with Image.open(folder / 'z.gif') as image:
    pixels[6] = np.asarray(image.convert('RGB'))  # Which has 256 colours.
  return folder, order, pixels[[names.index(name) for name in order]]


def command(*arguments):
  with pytest.raises(SystemExit) as ended:
    cli.run(predict.main, define_flags=predict._define_flags, trains=False, takes_arguments=True,
            argv=['predict', *map(str, arguments)])
  return ended.value.code or 0


def table(text):
  header, *rows = csv.reader(io.StringIO(text))
  assert header == ['file', 'class', 'p(ant)', 'p(bee, wild)', 'p(dög)']
  return [row[0] for row in rows], [row[1] for row in rows], np.array([row[2:] for row in rows], float)


@pytest.mark.parametrize('batch', [2, 500])
def test_a_folder_and_files(model, run, pictures, capsys, monkeypatch, batch):
  monkeypatch.setattr(predict, 'BATCH', batch)
  folder, order, pixels = pictures
  assert command(f'--workdir={run}', folder, folder / 'sub2' / 'f.webp') == 0
  out, err = capsys.readouterr()
  files, classes, probabilities = table(out)
  assert files == [str(folder / name) for name in (*order, 'sub2/f.webp')]
  expected = scipy.special.softmax(np.vstack([model.logits(pixels), model.logits(pixels[-1:])]).astype(float), -1)
  np.testing.assert_allclose(probabilities, expected, rtol=1e-4, atol=1e-6)
  assert classes == [CLASSES[i] for i in expected.argmax(-1)] and len(set(classes)) > 1
  assert err == '8 images\n'


def test_it_is_written_to_a_file_and_read_as_for_training(model, run, tmp_path, capsys):
  """Upside down with EXIF orientation 3, and transparent over white, as `data.load` reads them."""
  pixels = np.random.default_rng(2).integers(0, 256, (8, 6, 3), np.uint8)
  exif = Image.Exif()
  exif[274] = 3
  for label in ('a', 'b'):
    for i in range(3):
      (tmp_path / 'set' / label).mkdir(parents=True, exist_ok=True)
      Image.fromarray(pixels[::-1, ::-1]).save(tmp_path / 'set' / label / f'{i}.png', exif=exif)
  clear = np.dstack([pixels, np.full((8, 6), 128, np.uint8)])
  Image.fromarray(clear, 'RGBA').save(tmp_path / 'set' / 'b' / '2.png')
  dataset = data.load(f'folder:{tmp_path}/set')
  output = tmp_path / 'out.csv'
  files = tmp_path / 'set' / 'a' / '0.png', tmp_path / 'set' / 'b' / '2.png'
  assert command(f'--workdir={run}', f'--output={output}', *files) == 0
  _, _, probabilities = table(output.read_text())
  known = [pixels, next(image for image in (*dataset.train.images, *dataset.test.images) if not (image == pixels).all())]
  np.testing.assert_allclose(probabilities, model.probabilities(np.stack(known)), rtol=1e-4, atol=1e-6)
  words = '2 images; 1 turned as their EXIF orientation says; 1 with transparency, shown over white\n'
  assert capsys.readouterr() == ('', words)


@pytest.mark.parametrize(('arguments', 'message'), [
    ([], 'no images; give files or folders'),
    (['none.png'], "none.png cannot be read (No such file or directory); replace or remove it"),
    (['empty'], 'empty holds no images; give files, or a folder with some'),
    (['broken.png'], 'image broken.png cannot be read'),
    (['small.png'], "image small.png is 5x8, the network takes 6x8; resize it"),
    (['pipe.png'], 'is a pipe, socket or device, not a file'),
    (['~nobody_here/a.png'], 'no home folder is known for ~nobody_here'),
    (['fine.png', '--output=none/out.csv'], '--output=none/out.csv cannot be written (No such file or directory); give'),
])
def test_what_cannot_be_predicted(run, tmp_path, monkeypatch, capsys, arguments, message):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'empty').mkdir()
  (tmp_path / 'broken.png').write_bytes(b'\x89PNG\r\n\x1a\n')
  Image.new('RGB', (5, 8)).save('small.png')
  Image.new('RGB', (6, 8)).save('fine.png')
  os.mkfifo('pipe.png')
  assert command(f'--workdir={run}', *arguments) == 2
  out, err = capsys.readouterr()
  *_, error = err.splitlines()
  assert not out and error.startswith('error: ') and message in error and 'Traceback' not in err


def test_without_a_trained_network(tmp_path, capsys):
  assert command(f'--workdir={tmp_path}', 'x.png') == 2
  assert 'holds no trained network (model.json); finish the run first' in capsys.readouterr().err


def test_scores_by_class():
  """Against scikit-learn on classes that all occur; a class without test images has no recall."""
  rng = np.random.default_rng(0)
  labels, predicted = rng.integers(0, 3, 200), rng.integers(0, 3, 200)
  images = np.zeros((200, 2, 2, 1), np.uint8)
  dataset = Dataset.checked('x', ImageSet(images, labels), ImageSet(images, labels), 'abc')
  found = train.by_class(predicted, dataset)
  assert found['balanced_accuracy'] == pytest.approx(sklearn_metrics.balanced_accuracy_score(labels, predicted))
  counts = [[int(((labels == true) & (predicted == guess)).sum()) for guess in range(3)] for true in range(3)]
  assert found['confusion'] == counts
  assert found['recall'] == pytest.approx([counts[i][i] / sum(counts[i]) for i in range(3)])
  few = ImageSet(images[:2], np.array([0, 2]))
  found = train.by_class(np.array([0, 1]), Dataset.checked('x', ImageSet(images, labels), few, 'abc'))
  assert found == {'balanced_accuracy': 0.5, 'recall': [1.0, None, 0.0], 'confusion': [[1, 0, 0], [0, 0, 0], [0, 1, 0]]}


def test_linked_folders_are_read_as_for_training(run, tmp_path, capsys):
  for path in ('images/a', 'elsewhere'):
    (tmp_path / path).mkdir(parents=True)
    Image.new('RGB', (6, 8)).save(tmp_path / path / '1.png')
  (tmp_path / 'images' / 'b').symlink_to(tmp_path / 'elsewhere')
  found = [str(file.relative_to(tmp_path)) for file in predict._files(tmp_path / 'images')]
  assert found == ['images/a/1.png', 'images/b/1.png']
  (tmp_path / 'elsewhere' / 'round').symlink_to(tmp_path / 'images' / 'b')
  with pytest.raises(UserError, match='is a link to a folder that holds it'):
    list(predict._files(tmp_path / 'images'))


def test_names_that_are_no_text_come_back_as_they_are(run, tmp_path):
  name = os.fsencode(tmp_path) + b'/caf\xe9.png'
  Image.new('RGB', (6, 8)).save(tmp_path / 'x.png')
  os.rename(tmp_path / 'x.png', name)
  assert command(f'--workdir={run}', os.fsdecode(name), f'--output={tmp_path}/p.csv') == 0
  assert (tmp_path / 'p.csv').read_bytes().splitlines()[1].startswith(name)

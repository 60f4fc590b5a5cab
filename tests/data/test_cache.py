"""The cache of a folder of images: it serves later starts, follows every change, and takes no room that it should not."""
import os
import pathlib
import shutil

import numpy as np
import pytest
from PIL import Image

from enas_jax.data import cache, folder, load, report


@pytest.fixture
def caches(tmp_path, monkeypatch):
  """The folder of this test's caches, in a home of its own."""
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'caches'))
  return tmp_path / 'caches' / 'enas_jax' / 'images'


@pytest.fixture
def images(tmp_path):
  root, rng = tmp_path / 'images', np.random.default_rng(0)
  for path in ('train/ant/1.png', 'train/bee/1.png', 'val/ant/1.png', 'test/ant/1.png'):
    (root / path).parent.mkdir(parents=True)
    Image.fromarray(rng.integers(0, 256, (4, 5), np.uint8)).save(root / path)
  return root


def read(images):
  """The checksum, what was told, and whether files were decoded."""
  notes, decoded = [], []
  with pytest.MonkeyPatch.context() as patch:
    original = folder.decode
    patch.setattr(folder, 'decode', lambda *a, **k: decoded.append(a) or original(*a, **k))
    data = load(f'folder:{images}', note=notes.append)
  return data.checksum, notes, len(decoded)


def kept(caches):
  return sorted(path.name for path in caches.glob('*/*'))


def test_later_starts_decode_nothing(images, caches):
  first, notes, decoded = read(images)
  assert (notes, decoded, len(kept(caches))) == ([], 4, 1)
  assert read(images) == (first, [], 0)
  assert not any(path.name.startswith('.') or 'cache' in path.name for path in images.rglob('*'))  # Nothing there.


@pytest.mark.parametrize('change', [
    lambda root: Image.new('L', (5, 4), 9).save(root / 'train/ant/1.png'),
    lambda root: Image.new('L', (5, 4), 9).save(root / 'train/ant/2.png'),
    lambda root: (root / 'train/ant/1.png').rename(root / 'train/ant/0.png'),
    lambda root: (root / 'val/ant/1.png').rename(root / 'test/ant/2.png'),
    lambda root: os.utime(root / 'train/ant/1.png', ns=(1, 1)),
])
def test_every_change_is_seen_and_replaces_the_cache(images, caches, change):
  read(images)
  before = kept(caches)
  change(images)
  shutil.rmtree(images / 'val') if not any((images / 'val/ant').iterdir()) else None
  assert read(images)[2] >= 4
  assert len(kept(caches)) == 1 and kept(caches) != before


def test_a_change_that_keeps_size_and_time_is_seen(images, caches):
  file = images / 'train/ant/1.bmp'
  Image.new('L', (5, 4), 1).save(file)
  first, state = read(images)[0], file.stat()
  Image.new('L', (5, 4), 2).save(file)
  os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
  assert file.stat().st_size == state.st_size
  assert read(images)[0] != first


@pytest.mark.parametrize(('module', 'name', 'value'), [('decoding', 'VERSION', 99), ('PIL', '__version__', '99.0')])
def test_another_way_of_decoding_is_another_cache(images, caches, monkeypatch, module, name, value):
  read(images)
  monkeypatch.setattr(getattr(cache, module), name, value)
  assert read(images)[2] == 4


@pytest.mark.parametrize('damage', [
    lambda target: (target / 'meta.json').write_text('{'),
    lambda target: (target / 'meta.json').write_text('[]'),
    lambda target: (target / 'meta.json').write_text('{"checksum": "", "remarks": [], "parts": []}'),
    lambda target: os.truncate(target / 'train_images.npy', 130),
    lambda target: (target / 'valid_labels.npy').unlink(),
    lambda target: np.save(target / 'test_images.npy', np.zeros((1, 4, 5, 1), np.uint8)),
])
def test_a_damaged_cache_is_built_again_and_says_so(images, caches, damage):
  first, _, _ = read(images)
  target = next(caches.glob('*/*'))
  damage(target)
  checksum, (note,), decoded = read(images)
  assert (checksum, decoded) == (first, 4) and note.startswith(f'The cache {target} is damaged and is built again: ')
  assert read(images) == (first, [], 0)


def test_where_nothing_can_be_kept_it_costs_only_time(images, caches):
  caches.parent.mkdir(parents=True)
  caches.touch()
  first, notes, decoded = read(images)
  assert decoded == 4 and len(notes) == 1 and 'every start will read all files' in notes[0]
  assert read(images)[0] == first


def test_without_a_home_there_is_none(images, caches, monkeypatch, tmp_path):
  monkeypatch.setattr(os.path, 'expanduser', lambda path: path)
  monkeypatch.setenv('XDG_CACHE_HOME', 'relative')
  monkeypatch.chdir(tmp_path)
  assert [read(images)[1:] for _ in range(2)] == [([], 4)] * 2
  assert {path.name for path in tmp_path.iterdir()} == {'images'}


def test_the_least_used_go_where_there_is_no_more_room(images, caches, monkeypatch, tmp_path):
  others = [shutil.copytree(images, tmp_path / name) for name in ('a', 'b', 'c')]
  for root in others:
    read(root)
  assert len(kept(caches)) == 3
  size = sum(file.stat().st_size for file in next(caches.glob('*/*')).iterdir())
  for age, root in enumerate([others[1], others[0], others[2]]):  # c was not used for the longest time.
    read(root)
    newest = max(caches.glob('*/*/meta.json'), key=lambda path: path.stat().st_mtime_ns)
    os.utime(newest, (10**9 - age, 10**9 - age))
  monkeypatch.setattr(cache, 'LARGEST', 3 * size + 100)
  read(images)
  assert [read(root)[2] for root in (others[1], others[0], images)] == [0, 0, 0]
  assert len(kept(caches)) == 3
  monkeypatch.setattr(cache, 'LARGEST', 10)
  (images / 'train/ant/1.png').touch()
  assert 'are too much for it' in read(images)[1][0]


def test_drafts_of_dead_processes_go(images, caches):
  read(images)
  drafts = [next(caches.iterdir()) / name for name in ('.old', '.new')]
  for draft in drafts:
    draft.mkdir()
  os.utime(drafts[0], (10**9, 10**9))
  (images / 'train/ant/1.png').touch()
  read(images)
  assert [draft.exists() for draft in drafts] == [False, True]


def test_long_reading_tells_how_far_it_is(monkeypatch):
  now, notes = iter(range(100)), []
  monkeypatch.setattr(report.time, 'monotonic', lambda: next(now))
  assert list(report.metered(range(30), 'images read', notes.append)) == list(range(30))
  assert notes == ['images read: 2 of 30', 'images read: 12 of 30', 'images read: 22 of 30']
  now, notes = iter(range(100)), []
  assert len(list(report.metered(range(4), 'images read', notes.append, each=500))) == 4
  assert notes == ['images read: 1,000 of 2,000']


def test_a_folder_of_caches_where_one_may_not_look(images, caches, monkeypatch):
  """As after a start by another user. `Path.exists` raises there on Python 3.11."""
  def refuse(path, *_, **__):
    raise PermissionError(13, 'Permission denied', str(path))

  first, _, _ = read(images)
  for name in ('exists', 'stat', 'mkdir', 'read_text'):
    original = getattr(pathlib.Path, name)
    monkeypatch.setattr(pathlib.Path, name, lambda path, *a, original=original, **k: (
        refuse if str(caches) in str(path) else original)(path, *a, **k))
  monkeypatch.setattr(os.path, 'exists', lambda path, original=os.path.exists: str(caches) not in str(path) and original(path))
  checksum, notes, decoded = read(images)
  assert (checksum, decoded) == (first, 4)
  assert len(notes) == 1 and notes[0].startswith('No cache in ') and 'Permission denied' in notes[0]


def test_a_damaged_header_of_an_array(images, caches):
  first, _, _ = read(images)
  (array,) = caches.glob('*/*/train_images.npy')
  for place in range(10, 60):
    sound = array.read_bytes()
    array.write_bytes(sound[:place] + b'(' + sound[place + 1:])  # A bracket that nothing closes, for one.
    checksum, notes, _ = read(images)
    assert checksum == first and len(notes) < 2
    (array,) = caches.glob('*/*/train_images.npy')

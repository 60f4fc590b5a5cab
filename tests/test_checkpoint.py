"""Checkpoints survive what happens to files: crashes, copies that were cut short, a full disk."""
import errno
import os
import shutil
import subprocess

import jax
import numpy as np
import pytest

from enas_jax import checkpoint
from enas_jax.checkpoint import Checkpoints
from enas_jax.training.state import Tally, TrainState


def state(value):
  """A small TrainState and Tally that hold `value`."""
  array = np.full((3, 2), value, np.float32)
  params = {'conv': {'kernel': array}, 'layers': {0: array + 1}}
  return TrainState(params, {'mean': array + 2}, (params, ())), Tally(np.float32([value]), np.int32([7]))


def same(one, other):
  leaves, structure = jax.tree.flatten(one)
  others, other_structure = jax.tree.flatten(other)
  assert structure == other_structure
  for x, y in zip(leaves, others, strict=True):
    np.testing.assert_array_equal(x, y)
    assert x.dtype == y.dtype


@pytest.fixture(scope='module')
def three_saved(tmp_path_factory):
  folder = tmp_path_factory.mktemp('workdir') / 'checkpoints'
  with Checkpoints(folder, 'me', pytest.fail) as checkpoints:
    for step in (1, 5, 9):
      checkpoints.save(step, state(step), {'epoch': step, 'loss': [0.1 * step]})
  return folder


@pytest.fixture
def folder(three_saved, tmp_path):
  return shutil.copytree(three_saved, tmp_path / 'checkpoints')


def restored(folder):
  """The step that is restored, or None, and the notes."""
  notes = []
  with Checkpoints(folder, 'me', notes.append) as checkpoints:
    found = checkpoints.restore(state(0))
  if found is None:
    return None, notes
  arrays, record = found
  same(arrays, state(record['epoch']))
  assert record == {'epoch': record['epoch'], 'loss': [0.1 * record['epoch']]}
  return record['epoch'], notes


def names(folder):
  return {path.name for path in folder.iterdir()}


def test_the_last_two_are_kept_and_the_newest_comes_back(folder):
  assert names(folder) == {'5', '5.sha256', '9', '9.sha256'}
  assert restored(folder) == (9, [])


def test_an_empty_folder_has_none(tmp_path):
  assert restored(tmp_path / 'checkpoints') == (None, [])


def test_arrays_of_jax_are_restored_bit_by_bit(tmp_path):
  arrays = state(jax.random.normal(jax.random.key(0), (3, 2)))
  with Checkpoints(tmp_path / 'c', 'me', pytest.fail) as checkpoints:
    checkpoints.save(1, jax.device_put(arrays), {})
    found, record = checkpoints.restore(jax.eval_shape(lambda: arrays))
  same(found, arrays)
  assert record == {}


def largest_file(folder):
  return max((file for file in folder.rglob('*') if file.is_file()), key=lambda file: file.stat().st_size)


DAMAGES = {
    'cut short': lambda folder: os.truncate(largest_file(folder / '9'), 10),
    'one byte changed': lambda folder: largest_file(folder / '9').write_bytes(
        b'x' + largest_file(folder / '9').read_bytes()[1:]),
    'no metadata': lambda folder: (folder / '9' / '_CHECKPOINT_METADATA').unlink(),
    'no record': lambda folder: shutil.rmtree(folder / '9' / 'record'),
    'empty': lambda folder: [shutil.rmtree(folder / '9'), (folder / '9').mkdir()],
    'a file more': lambda folder: (folder / '9' / 'more').write_text(''),
    'no checksum': lambda folder: (folder / '9.sha256').unlink(),
    'empty checksum': lambda folder: (folder / '9.sha256').write_text(''),
    'binary checksum': lambda folder: (folder / '9.sha256').write_bytes(b'\xff\xfe'),
}


@pytest.mark.parametrize('damage', DAMAGES)
def test_a_damaged_newest_falls_back_and_saving_goes_on(folder, damage, capfd):
  DAMAGES[damage](folder)
  notes = []
  with Checkpoints(folder, 'me', notes.append) as checkpoints:
    arrays, record = checkpoints.restore(state(0))
    same(arrays, state(5))
    assert record['epoch'] == 5
    checkpoints.save(9, state(90), {'again': True})
    checkpoints.save(13, state(13), {'epoch': 13, 'loss': [0.1 * 13]})
  assert len(notes) == 1 and '\n' not in notes[0] and str(folder / '9') in notes[0]
  assert capfd.readouterr() == ('', '')  # Orbax would tell of it in its own words.
  assert names(folder) == {'9', '9.sha256', '13', '13.sha256'}
  assert restored(folder) == (13, [])


@pytest.mark.parametrize('owner', ['', ' you', ' me2'])
def test_another_training_starts_anew(folder, owner):
  """Its network may have other shapes, or its schedule another rate."""
  for file in folder.glob('*.sha256'):
    file.write_text(file.read_text().partition(' ')[0] + owner)
  found, notes = restored(folder)
  assert found is None and len(notes) == 2
  assert all('is of another network or schedule' in note and '\n' not in note for note in notes)


def test_all_damaged_is_none(folder):
  for step in ('5', '9'):
    os.truncate(largest_file(folder / step), 0)
  found, notes = restored(folder)
  assert found is None
  assert len(notes) == 2
  assert not [name for name in names(folder) if name.isdigit()]


def test_one_that_a_crash_left_half_written_is_swept_away(folder):
  shutil.copytree(folder / '9', folder / '13.orbax-checkpoint-tmp')
  assert restored(folder) == (9, [])
  with Checkpoints(folder, 'me', pytest.fail) as checkpoints:
    checkpoints.save(13, state(13), {'epoch': 13, 'loss': [0.1 * 13]})
  assert names(folder) == {'9', '9.sha256', '13', '13.sha256'}
  assert restored(folder) == (13, [])


def test_a_crash_before_the_checksum_falls_back(folder, monkeypatch):
  def crash(path):
    raise KeyboardInterrupt

  with Checkpoints(folder, 'me', pytest.fail) as checkpoints:
    monkeypatch.setattr(checkpoint, 'checksum', crash)
    with pytest.raises(KeyboardInterrupt):
      checkpoints.save(13, state(13), {})
  monkeypatch.undo()
  found, notes = restored(folder)
  assert found == 9 and len(notes) == 1


@pytest.fixture
def small_disk(tmp_path):
  """A disk of 200 kB."""
  folder = tmp_path / 'disk'
  folder.mkdir()
  mounted = shutil.which('mount') and subprocess.run(
      ['mount', '-t', 'tmpfs', '-o', 'size=200k', 'tmpfs', str(folder)], capture_output=True).returncode == 0
  if not mounted:
    pytest.skip('may not mount a file system')
  yield folder
  subprocess.run(['umount', '-l', str(folder)], check=True)


def fill(disk, free):
  """Leaves so many bytes."""
  (disk / 'filler').write_bytes(b'x' * (shutil.disk_usage(disk).free - free))


@pytest.mark.parametrize('free', [90_000, 16_384, 0])
def test_a_full_disk_is_told_in_one_line_and_costs_nothing_finished(small_disk, user_error, capfd, free):
  with Checkpoints(small_disk / 'checkpoints', 'me', pytest.fail) as checkpoints:
    checkpoints.save(5, state(5), {'epoch': 5, 'loss': [0.5]})
    fill(small_disk, free)
    with user_error(f'workdir {small_disk} is full', 'free space'):
      checkpoints.save(9, state(9), {'epoch': 9, 'loss': [0.1 * 9]})
  assert capfd.readouterr() == ('', '')
  (small_disk / 'filler').unlink()
  assert restored(small_disk / 'checkpoints') == (5, [])
  with Checkpoints(small_disk / 'checkpoints', 'me', pytest.fail) as checkpoints:
    checkpoints.save(9, state(9), {'epoch': 9, 'loss': [0.1 * 9]})
  assert restored(small_disk / 'checkpoints') == (9, [])


@pytest.mark.parametrize('error', [
    ValueError('RESOURCE_EXHAUSTED: Error opening "zarr" driver: Failed to write 173 bytes to file 14: No space left on device '
               "[os_error_code='28']"),  # What Orbax 0.12 raises, pages of it left out.
    OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    ValueError('Failed to write 173 bytes to file 14: Disk quota exceeded'),
])
def test_a_disk_that_fills_up_meanwhile_is_told_too(tmp_path, user_error, error):
  with user_error(f'workdir {tmp_path} is full', 'free space'), checkpoint.writing(tmp_path, 10):
    raise error


def test_other_errors_are_not_taken_for_a_full_disk(tmp_path):
  with pytest.raises(ValueError, match='something else'), checkpoint.writing(tmp_path, 10):
    raise ValueError('something else')


def test_a_file_in_the_way_is_told(tmp_path, user_error):
  (tmp_path / 'checkpoints').write_text('')
  with user_error(str(tmp_path), 'checkpoints'):
    Checkpoints(tmp_path / 'checkpoints', 'me', pytest.fail)

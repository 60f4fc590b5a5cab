"""What holds for every reader, whatever the images: what was written is what is read, and its identity is what it holds."""
import pathlib
import tempfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from enas_jax.data import ImageSet, from_arrays, load, record
from enas_jax.data.report import content_checksum

CLASSES = ('ant', 'bee')
PARTS = ('train', 'val', 'test')
SEVERAL = settings(max_examples=40, deadline=None)  # Each writes files.


@st.composite
def image_sets(draw, channels=(1, 3)):
  """By part: images [N, H, W, C], and labels of both classes, sorted as a folder sorts them."""
  shape = (draw(st.integers(1, 6)), draw(st.integers(1, 6)), draw(st.sampled_from(channels)))
  parts = {}
  for part in PARTS:
    counts = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    parts[part] = ImageSet(draw(arrays(np.uint8, (sum(counts), *shape))), np.repeat([0, 1], counts).astype(np.int32))
  return parts


def write_folder(parts, root, suffix='.png'):
  for part, (images, labels) in parts.items():
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
      folder = pathlib.Path(root, part, CLASSES[label])
      folder.mkdir(parents=True, exist_ok=True)
      Image.fromarray(image if image.shape[2] == 3 else image[..., 0]).save(folder / f'{i:03}{suffix}')


def same(data, parts):
  for ours, theirs in zip((data.train, data.valid, data.test), parts.values(), strict=True):
    np.testing.assert_array_equal(ours.images, theirs.images)
    np.testing.assert_array_equal(ours.labels, theirs.labels)
    assert ours.images.dtype == np.uint8 and ours.labels.dtype == np.int32


@given(parts=image_sets(), suffix=st.sampled_from(['.png', '.bmp', '.tif', '.tga', '.sgi', '.PNG']))
@SEVERAL
def test_a_folder_gives_back_what_was_written(parts, suffix):
  gray = all((images == images[..., :1]).all() for images, _ in parts.values())
  with tempfile.TemporaryDirectory() as root:
    write_folder(parts, root, suffix)
    for _ in range(2):  # Decoded, then from the cache.
      same(load(f'folder:{root}', note=pytest.fail), {
          part: ImageSet(images[..., :1] if gray else images, labels) for part, (images, labels) in parts.items()})


@given(parts=image_sets(channels=(1, 2, 3, 4)), squeeze=st.booleans(), kind=st.sampled_from(['<i8', '<u1', '>i4']),
       compressed=st.booleans())
@SEVERAL
def test_an_archive_gives_back_what_was_written(parts, squeeze, kind, compressed):
  squeeze = squeeze and parts['train'].images.shape[3] == 1
  written = {}
  for part, (images, labels) in parts.items():
    written |= {f'x_{part}': images[..., 0] if squeeze else images, f'y_{part}': labels.astype(kind)}
  with tempfile.TemporaryDirectory() as root:
    (np.savez_compressed if compressed else np.savez)(f'{root}/x.npz', **written)
    same(load(f'npz:{root}/x.npz'), parts)


@given(parts=image_sets(), seed=st.integers(0, 9))
@SEVERAL
def test_identity_is_what_a_part_holds(parts, seed):
  """Content is the same in any order, and another where an image, a label or their pairing is."""
  images, labels = parts['train']
  order = np.random.default_rng(seed).permutation(len(labels))
  content = content_checksum(parts['train'])
  assert content_checksum(ImageSet(images[order], labels[order])) == content
  assert content_checksum(ImageSet(images, labels + 1)) != content
  changed = images.copy()
  changed[seed % len(changed), 0, 0, 0] ^= 1
  assert content_checksum(ImageSet(changed, labels)) != content
  assert content_checksum(ImageSet(images[:-1], labels[:-1])) != content
  assert content_checksum(ImageSet(images.repeat(2, 1), labels)) != content


def test_the_same_images_are_the_same_by_folder_archive_and_arrays(tmp_path):
  rng = np.random.default_rng(0)
  parts = {part: ImageSet(rng.integers(0, 256, (6, 4, 5, 3), np.uint8), np.repeat([0, 1], 3)) for part in PARTS}
  write_folder(parts, tmp_path / 'folder')
  np.savez(tmp_path / 'x.npz', **{f'{k}_{part}': v for part, pair in parts.items() for k, v in zip('xy', pair, strict=True)})
  found = [load(f'folder:{tmp_path}/folder'), load(f'npz:{tmp_path}/x.npz'),
           from_arrays(*parts['train'], *parts['test'], valid=parts['val'])]
  assert len({data.checksum for data in found}) == 1
  assert record(found[0])['parts'] == record(found[1])['parts'] == record(found[2])['parts']

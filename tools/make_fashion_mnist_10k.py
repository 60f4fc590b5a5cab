"""Makes enas_jax/data/fashion_mnist_10k.npz from the original files of Fashion-MNIST.

  python tools/make_fashion_mnist_10k.py [FOLDER]

FOLDER holds {train,t10k}-{images-idx3,labels-idx1}-ubyte.gz; by default that of Debian's package
dataset-fashion-mnist. The same NumPy and zlib write the same bytes. train_index and test_index tell where an image stood.
"""
import gzip
import io
import pathlib
import sys
import zipfile

import numpy as np

DEBIAN = pathlib.Path('/usr/share/datasets/fashion-mnist')
TARGET = pathlib.Path(__file__).resolve().parent.parent / 'enas_jax' / 'data' / 'fashion_mnist_10k.npz'
CLASSES = ('T-shirt/top', 'Trouser', 'Pullover', 'Dress', 'Coat', 'Sandal', 'Shirt', 'Sneaker', 'Bag', 'Ankle boot')
PER_CLASS = {'train': 1000, 'test': 200}


def read_original(folder, part):
  """Images uint8 [N, 28, 28] and labels uint8 [N] of 'train' or 'test'."""
  stem = {'train': 'train', 'test': 't10k'}[part]
  images, labels = (
      np.frombuffer(gzip.decompress((folder / f'{stem}-{kind}-ubyte.gz').read_bytes()), np.uint8, offset=header)
      for kind, header in (('images-idx3', 16), ('labels-idx1', 8)))
  return images.reshape(-1, 28, 28), labels


def make(folder, target):
  """Writes the archive."""
  rng = np.random.default_rng(0)
  arrays = {}
  for part, count in PER_CLASS.items():
    images, labels = read_original(folder, part)
    chosen = [rng.choice(np.flatnonzero(labels == label), count, replace=False) for label in range(len(CLASSES))]
    index = np.sort(np.concatenate(chosen))  # The original order is already a shuffled one.
    arrays |= {f'x_{part}': images[index], f'y_{part}': labels[index], f'{part}_index': index.astype(np.uint16)}
  arrays['class_names'] = np.array(CLASSES)
  with zipfile.ZipFile(target, 'w', zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
    for name, array in arrays.items():
      content = io.BytesIO()
      np.save(content, array, allow_pickle=False)
      entry = zipfile.ZipInfo(f'{name}.npy')  # Its date is fixed, unlike numpy.savez's.
      entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
      archive.writestr(entry, content.getvalue(), compresslevel=9)


if __name__ == '__main__':
  make(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else DEBIAN, TARGET)

"""EG-NAS on Fashion-MNIST, widths up to 64, as published.

Paper: Siddiqui, Kyrkou and Theocharides, "Efficient Global Neural Architecture Search", arXiv 2502.03553, and its code. Every
  decision is made on the test set, by the best epoch; one run, seed 0.
Expected: the authors' logs: after the macro phase depth 18, width 54, 0.369 M parameters, 94.75 % in 32 epochs. Then
  convolutions at layers 1, 5, 9 and 5x5 kernel at 8 (counted from 0): 0.508 M parameters, test accuracy 95.91 % at the best
  of 600 epochs, 95.85 % at the last.
Cost: search 58 networks (13 depth, 8 width, 37 micro), 530 epochs, 2.52 h; final training 3.1 h, on the authors' GPU (model
  not told), one network at a time.
Command: python -m enas_jax.search --config=experiments/fashion_mnist_cap64_paper.py --workdir=runs/fashion_mnist_cap64_paper
"""
from enas_jax.config import egnas_paper


def get_config():
  """The settings."""
  config = egnas_paper()
  config.data.name = 'fashion_mnist'
  config.chain.max_width = 64
  return config

"""EG-NAS on Fashion-MNIST, widths up to 128, as published.

Paper: Siddiqui, Kyrkou and Theocharides, "Efficient Global Neural Architecture Search", arXiv 2502.03553, and its code. Every
  decision is made on the test set, by the best epoch; one run, seed 0.
Expected: the authors' logs: after the macro phase depth 16, width 120, 1.670 M parameters, 95.17 % in 27 epochs. Then
  convolutions at layers 1, 2, 4, 8, 11, 15 and 5x5 kernels at 6, 12 (counted from 0): 6.160 M parameters, test accuracy 96.22
  % at the best of 600 epochs, 96.07 % at the last.
Cost: search 50 networks (10 depth, 7 width, 33 micro), 400 epochs, 3.25 h; final training 6.7 h, on the authors' GPU (model
  not told), one network at a time.
Command: python -m enas_jax.search --config=experiments/fashion_mnist_cap128_paper.py --workdir=runs/fashion_mnist_cap128_paper
"""
from enas_jax.config import egnas_paper


def get_config():
  """The settings."""
  config = egnas_paper()
  config.data.name = 'fashion_mnist'
  config.chain.max_width = 128
  return config

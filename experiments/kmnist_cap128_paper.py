"""EG-NAS on KMNIST, widths up to 128, as published.

Paper: Siddiqui, Kyrkou and Theocharides, "Efficient Global Neural Architecture Search", arXiv 2502.03553, and its code. Every
  decision is made on the test set, by the best epoch; one run, seed 0.
Expected: the authors' logs: after the macro phase depth 24, width 120, 2.369 M parameters, 99.17 % in 37 epochs. Then
  convolutions at layers 0, 1 and no 5x5 kernel (counted from 0): 2.711 M parameters, test accuracy 99.30 % at the best of 600
  epochs, 99.24 % at the last.
Cost: search 76 networks (20 depth, 7 width, 49 micro), 747 epochs, 8.81 h; final training 9.1 h, on the authors' GPU (model
  not told), one network at a time.
Command: python -m enas_jax.search --config=experiments/kmnist_cap128_paper.py --workdir=runs/kmnist_cap128_paper
"""
from enas_jax.config import egnas_paper


def get_config():
  """The settings."""
  config = egnas_paper()
  config.data.name = 'kmnist'
  config.chain.max_width = 128
  return config

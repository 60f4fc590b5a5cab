"""EG-NAS on EMNIST Balanced, widths up to 64, as published.

Paper: Siddiqui, Kyrkou and Theocharides, "Efficient Global Neural Architecture Search", arXiv 2502.03553, and its code. Every
  decision is made on the test set, by the best epoch; one run, seed 0.
Expected: the authors' logs: after the macro phase depth 17, width 50, 0.322 M parameters, 91.21 % in 35 epochs. Then
  convolutions at layers 1, 4, 5 and 5x5 kernels at 11, 13 (counted from 0): 0.406 M parameters, test accuracy 91.14 % at the
  best of 50 epochs, 91.07 % at the last.
Cost: search 57 networks (12 depth, 10 width, 35 micro), 576 epochs, 8.74 h; final training 0.6 h, on the authors' GPU (model
  not told), one network at a time.
Command: python -m enas_jax.search --config=experiments/emnist_cap64_paper.py --workdir=runs/emnist_cap64_paper
"""
from enas_jax.config import egnas_paper


def get_config():
  """The settings."""
  config = egnas_paper()
  config.data.name = 'emnist/balanced'
  config.chain.max_width = 64
  config.epochs.final = 50
  return config

"""EG-NAS on EMNIST Balanced, widths up to 128, as published.

Paper: Siddiqui, Kyrkou and Theocharides, "Efficient Global Neural Architecture Search", arXiv 2502.03553, and its code. Every
  decision is made on the test set, by the best epoch; one run, seed 0.
Expected: the authors' logs: after the macro phase depth 21, width 106, 1.628 M parameters, 91.48 % in 48 epochs. Then
  convolutions at layers 0, 3, 10 and no 5x5 kernel (counted from 0): 2.253 M parameters, test accuracy 91.26 % at the best of
  50 epochs, 91.26 % at the last. The published 91.48 % is the macro network's own score in the search, not the final
  training's.
Cost: search 74 networks (17 depth, 14 width, 43 micro), 966 epochs, 22.67 h; final training 1.1 h, on the authors' GPU (model
  not told), one network at a time.
Command: python -m enas_jax.search --config=experiments/emnist_cap128_paper.py --workdir=runs/emnist_cap128_paper
"""
from enas_jax.config import egnas_paper


def get_config():
  """The settings."""
  config = egnas_paper()
  config.data.name = 'emnist/balanced'
  config.chain.max_width = 128
  config.epochs.final = 50
  return config

"""EG-NAS on KMNIST, widths up to 64, as published.

Paper: Siddiqui, Kyrkou and Theocharides, "Efficient Global Neural Architecture Search", arXiv 2502.03553, and its code. Every
  decision is made on the test set, by the best epoch; one run, seed 0.
Expected: the authors' logs: after the macro phase depth 18, width 50, 0.318 M parameters, 99.08 % in 38 epochs. Then
  convolutions at layers 2, 10 and 5x5 kernel at 17 (counted from 0): 0.420 M parameters, test accuracy 99.35 % at the best of
  600 epochs, 99.25 % at the last.
Cost: search 62 networks (15 depth, 10 width, 37 micro), 679 epochs, 3.25 h; final training 3.1 h, on the authors' GPU (model
  not told), one network at a time.
Command: python -m enas_jax.search --config=experiments/kmnist_cap64_paper.py --workdir=runs/kmnist_cap64_paper
"""
from enas_jax.config import egnas_paper


def get_config():
  """The settings."""
  config = egnas_paper()
  config.data.name = 'kmnist'
  config.chain.max_width = 64
  return config

"""EG-NAS on CIFAR-100, widths up to 128, as published.

Paper: Siddiqui, Kyrkou and Theocharides, "Efficient Global Neural Architecture Search", arXiv 2502.03553, and its code. Every
  decision is made on the test set, by the best epoch; one run, seed 0.
Expected: the authors' logs: after the macro phase depth 21, width 118, 2.037 M parameters, 72.44 % in 34 epochs. Then
  convolutions at layers 1, 12 and 5x5 kernel at 7 (counted from 0): 2.593 M parameters, test accuracy 77.96 % at the best of
  600 epochs, 77.87 % at the last.
Cost: search 66 networks (15 depth, 8 width, 43 micro), 605 epochs, 7.81 h; final training 6.8 h, on the authors' GPU (model
  not told), one network at a time.
Command: python -m enas_jax.search --config=experiments/cifar100_cap128_paper.py --workdir=runs/cifar100_cap128_paper
"""
from enas_jax.config import egnas_paper


def get_config():
  """The settings."""
  config = egnas_paper()
  config.data.name = 'cifar100'
  config.chain.max_width = 128
  return config

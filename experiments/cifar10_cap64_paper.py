"""EG-NAS on CIFAR-10, widths up to 64, as published.

Paper: Siddiqui, Kyrkou and Theocharides, "Efficient Global Neural Architecture Search", arXiv 2502.03553, and its code. Every
  decision is made on the test set, by the best epoch; one run, seed 0.
Expected: the authors' logs: after the macro phase depth 26, width 46, 0.414 M parameters, 91.14 % in 48 epochs. Then
  convolutions at layers 0, 2 and 5x5 kernels at 13, 17 (counted from 0): 0.466 M parameters, test accuracy 95.91 % at the
  best of 600 epochs, 95.77 % at the last.
Cost: search 86 networks (21 depth, 12 width, 53 micro), 1042 epochs, 5.82 h; final training 3.3 h, on the authors' GPU (model
  not told), one network at a time.
Command: python -m enas_jax.search --config=experiments/cifar10_cap64_paper.py --workdir=runs/cifar10_cap64_paper
"""
from enas_jax.config import egnas_paper


def get_config():
  """The settings."""
  config = egnas_paper()
  config.data.name = 'cifar10'
  config.chain.max_width = 64
  return config

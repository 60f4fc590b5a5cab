"""EG-NAS on CIFAR-100, widths up to 64, as published.

Paper: Siddiqui, Kyrkou and Theocharides, "Efficient Global Neural Architecture Search", arXiv 2502.03553, and its code. Every
  decision is made on the test set, by the best epoch; one run, seed 0.
Expected: the authors' logs: after the macro phase depth 21, width 56, 0.488 M parameters, 66.48 % in 32 epochs. Then no
  convolution and 5x5 kernel at 3 (counted from 0): 0.489 M parameters, test accuracy 76.36 % at the best of 600 epochs, 76.15
  % at the last. The network of the authors' training command (depth 21, width 46, one convolution) is another search's,
  without a log.
Cost: search 65 networks (15 depth, 7 width, 43 micro), 565 epochs, 3.97 h; final training 3.9 h, on the authors' GPU (model
  not told), one network at a time.
Command: python -m enas_jax.search --config=experiments/cifar100_cap64_paper.py --workdir=runs/cifar100_cap64_paper
"""
from enas_jax.config import egnas_paper


def get_config():
  """The settings."""
  config = egnas_paper()
  config.data.name = 'cifar100'
  config.chain.max_width = 64
  return config

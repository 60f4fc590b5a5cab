"""EG-NAS, small, 95 % sure of every change, on the images that ship with the package: the search that runs without a config.

Paper: the method of arXiv 2502.03553 with few layers, few channels and few epochs. No result of the paper; a first run.
Expected: depth 10, width 16, separable, 3x3 kernels: 23,034 parameters, test accuracy 91.00 %, 1.20 +- 0.51 points above the
  unsearched network (seed 0, two x86 cores, JAX 0.10.2; other hardware may decide otherwise).
Cost: 24 candidates and the final training with its control in 4 min 17 s on two x86 cores, 1.6 GB of memory.
Command: python -m enas_jax.search --config=experiments/default.py --workdir=runs/default
"""
from enas_jax.config import get_config as get_default


def get_config():
  """The settings. A copy of this file with fields changed is a search of your own."""
  return get_default()

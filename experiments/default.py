"""EG-NAS, small, in the sound protocol, on the images that ship with the package: the search that runs without a config.

Paper: the method of arXiv 2502.03553 with few layers, few channels and few epochs. No result of the paper; a first run.
Expected: depth 6, width 16, separable, 5x5 kernels at layers 2 and 4 (counted from 0): 11,882 parameters, test accuracy 89.70 %
  (seed 0, two x86 cores, JAX 0.10.2; other hardware may decide otherwise).
Cost: 33 candidates and the final training in 3 min 31 s on two x86 cores, 1.7 GB of memory.
Command: python -m enas_jax.search --config=experiments/default.py --workdir=runs/default
"""
from enas_jax.config import get_config as get_default


def get_config():
  """The settings. A copy of this file with fields changed is a search of your own."""
  return get_default()

"""EG-NAS, small, in the sound protocol, on the images that ship with the package: the search that runs without a config.

Paper: the method of arXiv 2502.03553 with few layers, few channels and few epochs. No result of the paper; a first run.
Expected: TBD.
Cost: TBD.
Command: python -m enas_jax.search --config=experiments/default.py --workdir=runs/default
"""
from enas_jax.config import get_config as get_default


def get_config():
  """The settings. A copy of this file with fields changed is a search of your own."""
  return get_default()

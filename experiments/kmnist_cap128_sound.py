"""EG-NAS on KMNIST, widths up to 128, in the sound protocol.

Paper: the search of arXiv 2502.03553; decided on 10 % of the training images, held out, by the last epoch, with a control at
  equal epochs for the width walk and three seeds for each micro change. The test set is used once, at the end.
Expected: not known yet. The published protocol found depth 24, width 120 and 99.30 % (best epoch; last: 99.24 %) by looking
  at the test set; an honest search should come out somewhat lower.
Cost: not measured yet. The published protocol trained 76 networks for 747 epochs, 8.81 h, and 9.1 h finally, on the authors'
  GPU. The controls add up to as many width epochs again, the seeds triple the micro phase; each epoch has 10 % fewer images.
Command: python -m enas_jax.search --config=experiments/kmnist_cap128_sound.py --workdir=runs/kmnist_cap128_sound
"""
from enas_jax.config import egnas_sound


def get_config():
  """The settings."""
  config = egnas_sound()
  config.data.name = 'kmnist'
  config.chain.max_width = 128
  return config

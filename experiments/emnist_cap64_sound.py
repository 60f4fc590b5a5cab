"""EG-NAS on EMNIST Balanced, widths up to 64, in the sound protocol.

Paper: the search of arXiv 2502.03553; decided on 10 % of the training images, held out, by the last epoch, with a control at
  equal epochs for the width walk and three seeds for each micro change. The test set is used once, at the end.
Expected: not known yet. The published protocol found depth 17, width 50 and 91.14 % (best epoch; last: 91.07 %) by looking at
  the test set; an honest search should come out somewhat lower.
Cost: not measured yet. The published protocol trained 57 networks for 576 epochs, 8.74 h, and 0.6 h finally, on the authors'
  GPU. The controls add up to as many width epochs again, the seeds triple the micro phase; each epoch has 10 % fewer images.
Command: python -m enas_jax.search --config=experiments/emnist_cap64_sound.py --workdir=runs/emnist_cap64_sound
"""
from enas_jax.config import egnas_sound


def get_config():
  """The settings."""
  config = egnas_sound()
  config.data.name = 'emnist/balanced'
  config.chain.max_width = 64
  config.epochs.final = 50
  return config

"""EG-NAS on CIFAR-100, widths up to 64, in the sound protocol.

Paper: the search of arXiv 2502.03553; decided on 10 % of the training images, held out, by the last epoch, with a control at
  equal epochs for the width walk and three seeds for each micro change. The test set is used once, at the end.
Expected: not known yet. The published protocol found depth 21, width 56 and 76.36 % (best epoch; last: 76.15 %) by looking at
  the test set; an honest search should come out somewhat lower.
Cost: not measured yet. The published protocol trained 65 networks for 565 epochs, 3.97 h, and 3.9 h finally, on the authors'
  GPU. The controls add up to as many width epochs again, the seeds triple the micro phase; each epoch has 10 % fewer images.
Command: python -m enas_jax.search --config=experiments/cifar100_cap64_sound.py --workdir=runs/cifar100_cap64_sound
"""
from enas_jax.config import egnas_sound


def get_config():
  """The settings."""
  config = egnas_sound()
  config.data.name = 'cifar100'
  config.chain.max_width = 64
  return config

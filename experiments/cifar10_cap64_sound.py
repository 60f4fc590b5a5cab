"""EG-NAS on CIFAR-10, widths up to 64, in the sound protocol.

Paper: the search of arXiv 2502.03553; decided on 10 % of the training images, held out, by the last epoch, with a control at
  equal epochs for the width walk and three seeds for each micro change. The test set is used once, at the end.
Expected: not known yet. The published protocol found depth 26, width 46 and 95.91 % (best epoch; last: 95.77 %) by looking at
  the test set; an honest search should come out somewhat lower.
Cost: not measured yet. The published protocol trained 86 networks for 1042 epochs, 5.82 h, and 3.3 h finally, on the authors'
  GPU. The controls add up to as many width epochs again, the seeds triple the micro phase; each epoch has 10 % fewer images.
Command: python -m enas_jax.search --config=experiments/cifar10_cap64_sound.py --workdir=runs/cifar10_cap64_sound
"""
from enas_jax.config import egnas_sound


def get_config():
  """The settings."""
  config = egnas_sound()
  config.data.name = 'cifar10'
  config.chain.max_width = 64
  return config

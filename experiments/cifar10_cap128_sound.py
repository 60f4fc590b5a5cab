"""EG-NAS on CIFAR-10, widths up to 128, in the sound protocol.

Paper: the search of arXiv 2502.03553; decided on 10 % of the training images, held out, by the last epoch, with a control at
  equal epochs for the width walk and three seeds for each micro change. The test set is used once, at the end.
Expected: not known yet. The published protocol found depth 21, width 102 and 96.84 % (best epoch; last: 96.78 %) by looking
  at the test set; an honest search should come out somewhat lower.
Cost: not measured yet. The published protocol trained 75 networks for 1038 epochs, 10.41 h, and 7.7 h finally, on the
  authors' GPU. The controls add up to as many width epochs again, the seeds triple the micro phase; each epoch has 10 % fewer
  images.
Command: python -m enas_jax.search --config=experiments/cifar10_cap128_sound.py --workdir=runs/cifar10_cap128_sound
"""
from enas_jax.config import egnas_sound


def get_config():
  """The settings."""
  config = egnas_sound()
  config.data.name = 'cifar10'
  config.chain.max_width = 128
  return config

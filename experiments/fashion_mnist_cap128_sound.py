"""EG-NAS on Fashion-MNIST, widths up to 128, in the sound protocol.

Paper: the search of arXiv 2502.03553; decided on 10 % of the training images, held out, by the last epoch, with a control at
  equal epochs for the width walk and three seeds for each micro change. The test set is used once, at the end.
Expected: not known yet. The published protocol found depth 16, width 120 and 96.22 % (best epoch; last: 96.07 %) by looking
  at the test set; an honest search should come out somewhat lower.
Cost: not measured yet. The published protocol trained 50 networks for 400 epochs, 3.25 h, and 6.7 h finally, on the authors'
  GPU. The controls add up to as many width epochs again, the seeds triple the micro phase; each epoch has 10 % fewer images.
Command: python -m enas_jax.search --config=experiments/fashion_mnist_cap128_sound.py --workdir=runs/fashion_mnist_cap128_sound
"""
from enas_jax.config import egnas_sound


def get_config():
  """The settings."""
  config = egnas_sound()
  config.data.name = 'fashion_mnist'
  config.chain.max_width = 128
  return config

"""EG-NAS on Fashion-MNIST, widths up to 64, in the sound protocol.

Paper: the search of arXiv 2502.03553; decided on 10 % of the training images, held out, by the last epoch, with a control at
  equal epochs for the width walk and three seeds for each micro change. The test set is used once, at the end.
Expected: not known yet. The published protocol found depth 18, width 54 and 95.91 % (best epoch; last: 95.85 %) by looking at
  the test set; an honest search should come out somewhat lower.
Cost: not measured yet. The published protocol trained 58 networks for 530 epochs, 2.52 h, and 3.1 h finally, on the authors'
  GPU. The controls add up to as many width epochs again, the seeds triple the micro phase; each epoch has 10 % fewer images.
Command: python -m enas_jax.search --config=experiments/fashion_mnist_cap64_sound.py --workdir=runs/fashion_mnist_cap64_sound
"""
from enas_jax.config import egnas_sound


def get_config():
  """The settings."""
  config = egnas_sound()
  config.data.name = 'fashion_mnist'
  config.chain.max_width = 64
  return config

"""What training minimises."""
from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax


def balanced(labels: np.ndarray, num_classes: int) -> np.ndarray:
  """Returns the weight of an image of each class, float32 [classes], under which all classes with images count alike.

  The mean weight of the images is 1. Labels outside 0 .. classes - 1 are no images.
  """
  counts = np.bincount(labels[(labels >= 0) & (labels < num_classes)], minlength=num_classes)
  return (counts.sum() / np.count_nonzero(counts) / np.maximum(counts, 1)).astype(np.float32)


def cross_entropy(logits: jax.Array, labels: jax.Array, smoothing: float = 0.0, weights: jax.Array | None = None) -> jax.Array:
  """Returns the cross entropy of each image, [B], of logits [B, classes] against labels int [B], times `weights` [B].

  With smoothing s the target is 1 - s on the label and s spread evenly over all classes (Szegedy et al., arXiv 1512.00567,
  section 7).
  """
  if weights is not None:
    return weights * cross_entropy(logits, labels, smoothing)
  hard = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
  if not smoothing:
    return hard
  return (1 - smoothing) * hard - smoothing * jnp.mean(jax.nn.log_softmax(logits), -1)


def count(right: jax.Array, weights: jax.Array | None) -> jax.Array:
  """Returns how many of [B] are true, int32 [], or the sum of their weights, float32 []."""
  return right.sum() if weights is None else jnp.where(right, weights, 0).sum()

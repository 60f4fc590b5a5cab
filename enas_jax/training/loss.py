"""What training minimises."""
from __future__ import annotations

import jax
import jax.numpy as jnp
import optax


def cross_entropy(logits: jax.Array, labels: jax.Array, smoothing: float = 0.0) -> jax.Array:
  """Returns the cross entropy of each image, [B], of logits [B, classes] against labels int [B].

  With smoothing s the target is 1 - s on the label and s spread evenly over all classes (Szegedy et al., arXiv 1512.00567,
  section 7).
  """
  hard = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
  if not smoothing:
    return hard
  return (1 - smoothing) * hard - smoothing * jnp.mean(jax.nn.log_softmax(logits), -1)

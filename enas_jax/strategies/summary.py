"""A network and its accuracy in a few words, for the progress display."""
from __future__ import annotations

from enas_jax.types import Architecture, HasSummary

LONGEST = 48  # Characters of a network that has no summary of its own.


def summary(network: Architecture, accuracy: float) -> str:
  """Returns a text such as 'depth 26, width 46, 2 convolutions at 43.37 %'.

  Args:
    network: told by its own `summary` if it has one (`types.HasSummary`), else by its `str`, cut to `LONGEST` characters.
    accuracy: a fraction.
  """
  if isinstance(network, HasSummary):
    text = network.summary()
  else:
    text = str(network)
    text = text if len(text) <= LONGEST else f'{text[:LONGEST - 3]}...'
  return f'{text} at {100 * accuracy:.2f} %'

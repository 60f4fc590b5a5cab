"""A network and its accuracy in a few words, for the progress display."""
from __future__ import annotations

from enas_jax.spaces.chain import CONVOLUTION, ChainArchitecture
from enas_jax.types import Architecture

LONGEST = 48  # Characters of a network that is not a chain.


def summary(network: Architecture, accuracy: float) -> str:
  """Such as 'depth 26, width 46, 2 convolutions at 43.37 %'; `accuracy` is a fraction. Others than chains as they print."""
  if not isinstance(network, ChainArchitecture):
    text = str(network)
    return f'{text if len(text) <= LONGEST else text[:LONGEST - 3] + "..."} at {100 * accuracy:.2f} %'
  parts = [f'depth {network.depth}', f'width {network.width}']
  changes = ((network.operations.count(CONVOLUTION), 'convolution'), (sum(k > 3 for k in network.kernels), 'large kernel'))
  parts += [f'{count} {name}{"s" if count > 1 else ""}' for count, name in changes if count]
  return f'{", ".join(parts)} at {100 * accuracy:.2f} %'

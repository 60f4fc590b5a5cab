"""Random keys. They follow from the search's seed and a request's identity, never from a place in a group or on a device."""
from __future__ import annotations

import hashlib
import json

import jax

from enas_jax.types import Request

_DATA = 0xDA7A  # Folded into the key, so that batches and weights draw from different streams.
NOISE = 0x30D5  # Folded into a batch's key: what a network draws comes from another stream than the augmentation.


def initial_key(seed: int, request: Request) -> jax.Array:
  """Returns the key of the first weights: it follows from the architecture and the replicate."""
  return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), request.replicate), _digest(request))


def initial_seed(seed: int, request: Request) -> list[int]:
  """Returns what `initial_key` does, as a seed for weights that NumPy draws on the host."""
  return [seed, request.replicate, _digest(request)]


def data_key(seed: int, request: Request) -> jax.Array:
  """Returns the key of batch order and augmentation.

  It is the same for all candidates of one replicate, which are so compared in pairs.
  """
  return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), request.replicate), _DATA)


def _digest(request: Request) -> int:
  digest = hashlib.sha256(json.dumps(request.architecture.to_json(), sort_keys=True).encode()).digest()
  return int.from_bytes(digest[:4], 'big')

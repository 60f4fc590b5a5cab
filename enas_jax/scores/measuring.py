"""Scores of networks: what is measured on the devices in few compiled programs, and the numbers made of it on the host."""
from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from enas_jax.errors import UserError
from enas_jax.scores.base import Batch, Score
from enas_jax.scores.initial import noise, scaled
from enas_jax.scores.network import Network, Weights
from enas_jax.scores.registration import SCORES

D = TypeVar('D')  # What tells networks of one program apart: a pytree of arrays, or None.


class Group(NamedTuple):
  """What scores have in common that are measured in one program; see `Score`."""

  precision: str
  images: int
  initial: str


class Scorer(Generic[D]):
  """Scores of networks that are one program, told apart by data: as many at once as there are devices.

  Args:
    network: from data and weights to the network, as JAX traces it.
    weights: the initial weights, which all of these networks share.
    names: of registered scores.
    images: normalised images [N, H, W, C]; each score looks at as many as it is defined for, from the first on.
    labels: their classes [N].
    seed: integers, for weights and images that scores draw themselves.
    devices: where to measure; None: the first device.

  Raises:
    UserError: a name is unknown, or there are fewer images than a score needs.
  """

  def __init__(self, network: Callable[[D, Weights], Network], weights: Weights, names: Sequence[str], images: np.ndarray,
               labels: np.ndarray, seed: Sequence[int], *, devices: Sequence[jax.Device] | None = None):
    self._network, self._names = network, tuple(names)
    self._mesh = Mesh(np.array(devices or jax.devices()[:1]), ('candidates',))
    self._key = np.random.default_rng(seed).integers(2**32, dtype=np.uint32)
    self._groups: dict[Group, dict[str, Score]] = {}
    for name, score in find(names, len(images)).items():
      self._groups.setdefault(Group(score.precision, score.images, score.initial), {})[name] = score
    self._images, self._labels, self._weights, self._seed = images, labels, weights, seed
    self._programs: dict[Group, Callable[..., Any]] = {}

  def scores(self, networks: Sequence[D]) -> Iterator[dict[str, float]]:
    """Yields the scores of each network by name, in order."""
    count = self._mesh.size
    for start in range(0, len(networks), count):
      some = list(networks[start:start + count])
      # Devices without a network of their own repeat the last one.
      stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *(some + some[-1:] * (count - len(some))))
      measured: dict[str, tuple[Score, Any]] = {}
      for group, members in self._groups.items():
        measured |= {name: (members[name], found) for name, found in self._measure(group, stacked).items()}
      for index in range(len(some)):
        yield {name: _value(measured[name], index) for name in self._names}

  def _measure(self, group: Group, networks: D) -> dict[str, Any]:
    """Measures the scores of a group, and returns NumPy arrays [networks, ...] by name."""
    with jax.enable_x64(True) if group.precision == 'float64' else contextlib.nullcontext():
      if group not in self._programs:
        self._programs[group] = self._program(group)
      return jax.device_get(self._programs[group](networks))

  def _program(self, group: Group) -> Callable[[D], dict[str, Any]]:
    members, cast, spec = self._groups[group], jnp.dtype(group.precision), PartitionSpec('candidates')

    def measure(networks: D, weights: Weights, batch: Batch, key: jax.Array) -> dict[str, Any]:
      network = scaled(self._network(jax.tree.map(lambda x: x[0], networks), weights), group.initial)
      with jax.default_matmul_precision('highest'):
        found = {name: score.measure(network, batch, key) for name, score in members.items()}
      return jax.tree.map(lambda x: jnp.asarray(x)[None], found)

    compiled = jax.jit(jax.shard_map(
        measure, mesh=self._mesh, in_specs=(spec, PartitionSpec(), PartitionSpec(), PartitionSpec()), out_specs=spec,
        check_vma=False))
    example = self._network(None, self._weights)  # type: ignore[arg-type]
    drawn = noise(example, group.initial, self._seed)
    weights, images = jax.tree.map(lambda x: jnp.asarray(x, cast), (drawn, self._images[:group.images]))
    batch, key = Batch(images, jnp.asarray(self._labels[:group.images], jnp.int32)), jax.random.key(self._key)
    return lambda networks: compiled(networks, weights, batch, key)


def find(names: Sequence[str], images: int) -> dict[str, Score]:
  """Returns scores by name. Raises UserError where one is unknown, or looks at more images than there are."""
  found: dict[str, Score] = {name: SCORES.find(name).make() for name in names}
  for name, asked in found.items():
    if images < asked.images:
      raise UserError(f"score '{name}' looks at {asked.images} images and there are {images}; give more")
  return found


def score(network: Network, names: Sequence[str], images: np.ndarray, labels: np.ndarray,
          seed: Sequence[int]) -> dict[str, float]:
  """Returns the scores of one network by name, in the order asked for; arguments as of `Scorer`."""
  alone = Scorer[Any](lambda _, weights: network.with_weights(weights), network.weights, names, images, labels, seed)
  return next(alone.scores([{}]))


def _value(measured: tuple[Score, Any], index: int) -> float:
  """Returns a network's score; NaN where something measured is no finite number."""
  score, arrays = measured[0], jax.tree.map(lambda x: x[index], measured[1])
  return score.value(arrays) if all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(arrays)) else float('nan')

"""A fully connected network over flat or path features: the predictor of BANANAS."""
from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import jax
import numpy as np
from flax import nnx

from enas_jax.predictors.base import check_positive
from enas_jax.predictors.columns import check_features, columns
from enas_jax.predictors.ensemble import Encoder, Ensemble
from enas_jax.spaces.base import Graph

MIN_COLUMNS = 256  # Path columns are padded to powers of two from here on.


class MlpNetwork(nnx.Module):
  """A network of ReLU layers of one width and a linear output. It maps [B, F] to [B]."""

  def __init__(self, features: int, *, depth: int, width: int, rngs: nnx.Rngs):
    """Takes the number F of columns, of hidden layers (`depth`), and of units in each (`width`)."""
    sizes = (features, *[width] * depth)
    self.layers = nnx.List([
        nnx.Linear(a, b, kernel_init=nnx.initializers.glorot_uniform(), rngs=rngs)
        for a, b in itertools.pairwise(sizes)])
    self.head = nnx.Linear(width, 1, rngs=rngs)

  def __call__(self, x: jax.Array) -> jax.Array:
    for layer in self.layers:
      x = nnx.relu(layer(x))
    return self.head(x)[:, 0]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mlp(Ensemble):
  """BANANAS's meta neural network (White, Neiswanger and Savani, AAAI 2021, section 4), half as deep and wider.

  Theirs has 10 layers of 20 units and 5 members; 5 layers of 32 rank NAS-Bench-201 as well (50 to 200 rows) and train in two
  thirds of the time.

  Attributes:
    features: 'flat' or 'paths' (`columns`); BANANAS has paths.
    depth: how many hidden layers there are, >= 1.
    width: units in each, >= 1.
  """

  features: str = 'flat'
  depth: int = 5
  width: int = 32

  def __post_init__(self) -> None:
    """Raises UserError for a value out of range."""
    super().__post_init__()
    check_positive(self, 'depth', 'width')
    check_features(self.features)

  def network(self, inputs: jax.Array, rngs: nnx.Rngs) -> MlpNetwork:
    return MlpNetwork(inputs.shape[1], depth=self.depth, width=self.width, rngs=rngs)

  def encoder(self, graphs: Sequence[Graph]) -> Encoder:
    rows = columns(self.features, self.encoding, graphs)
    return rows if self.features == 'flat' else lambda others: _padded_columns(rows(others))


def _padded_columns(rows: np.ndarray) -> np.ndarray:
  """Returns rows with columns of zeros added up to a power of two.

  The vocabulary of paths grows with the training graphs: without this each fit would compile a program.
  """
  size = rows.shape[1]
  return np.pad(rows, ((0, 0), (0, max(MIN_COLUMNS, 1 << (size - 1).bit_length()) - size)))

"""How much of the objectives' space a front covers: the usual measure of multi-objective searches."""
from __future__ import annotations

from collections.abc import Sequence

import moocore
import numpy as np
from numpy.typing import ArrayLike

from enas_jax.errors import UserError


def hypervolume(points: ArrayLike, reference: ArrayLike, maximise: Sequence[bool]) -> float:
  """The volume that the points dominate up to the reference (Zitzler and Thiele, IEEE TEC 1999), exact.

  Dominated points add nothing, nor do those that are not better than the reference in every objective. Objectives have their
  own units: scale them where volumes of different ones are to be compared.

  Args:
    points: [N, M]; of none the volume is 0.
    reference: [M], worse than the points of interest in every objective.
    maximise: of each objective whether larger is better.

  Raises:
    UserError: the shapes do not match, or a value is not finite.
  """
  points, reference = np.asarray(points, float), np.asarray(reference, float)
  if not len(points):
    return 0.0
  if points.ndim != 2 or reference.shape != points.shape[1:] or len(maximise) != len(reference):
    raise UserError(f'hypervolume: points {points.shape}, reference {reference.shape} and {len(maximise)} directions do not '
                    'match; give [N, M], [M] and M')
  for name, values in (('points', points), ('reference', reference)):
    if not np.isfinite(values).all():
      raise UserError(f'hypervolume: a value of the {name} is not finite; leave out what has none')
  return float(moocore.hypervolume(points, ref=reference, maximise=list(maximise)))

"""Predictors: regressors from architectures' graphs to a value, over one encoding.

    predictor = predictors.make('mlp', GraphEncoding.of(space), features='paths')
    mean, std = predictor.fit(graphs, accuracies, seed=0).predict(candidates)

To add one, write a module with a frozen dataclass that has `fit`, and a line in `PREDICTORS`. The contract test then covers it.
"""
from __future__ import annotations

import dataclasses
from typing import Any

from enas_jax.errors import UserError
from enas_jax.predictors.base import Fitted, Prediction, Predictor
from enas_jax.predictors.encoding import GraphBatch, GraphEncoding
from enas_jax.predictors.gnn import Gnn
from enas_jax.predictors.mlp import Mlp
from enas_jax.predictors.report import RankReport, rank_correlation
from enas_jax.predictors.ridge import Ridge
from enas_jax.predictors.trees import Trees

__all__ = ['PREDICTORS', 'Fitted', 'GraphBatch', 'GraphEncoding', 'Prediction', 'Predictor', 'RankReport', 'make',
           'rank_correlation']

PREDICTORS = {'ridge': Ridge, 'trees': Trees, 'mlp': Mlp, 'gnn': Gnn}


def make(name: str, encoding: GraphEncoding, **settings: Any) -> Predictor:
  """Makes a predictor.

  Args:
    name: one of `PREDICTORS`.
    encoding: how graphs become arrays.
    settings: fields of the predictor's class; others keep their defaults.

  Raises:
    UserError: the name or a setting is unknown, or a value is out of range.
  """
  if name not in PREDICTORS:
    raise UserError(f"predictor '{name}' is unknown; give one of {', '.join(PREDICTORS)}")
  known = [field.name for field in dataclasses.fields(PREDICTORS[name]) if field.name != 'encoding']
  for setting in settings:
    if setting not in known:
      raise UserError(f"predictor '{name}': setting '{setting}' is unknown; give some of {', '.join(known)}")
  return PREDICTORS[name](encoding, **settings)

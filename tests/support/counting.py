"""What tests count on a network instead of computing it: weights, and the multiply-adds of a trace. Nothing runs."""
import math

import jax
import numpy as np
from flax import nnx


def num_params(state):
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(nnx.filter_state(state, nnx.Param)))


def traced_macs(graph, state, task):
  """Of the convolutions and matrix products in evaluation mode, where nothing is random, for one image."""
  def logits(state, images):
    network = nnx.merge(graph, state, copy=True)
    network.eval()
    return network(images)

  def count(jaxpr):
    total = 0
    for equation in jaxpr.eqns:
      assert 'random' not in equation.primitive.name
      out = math.prod(equation.outvars[0].aval.shape)
      if equation.primitive.name == 'conv_general_dilated':
        total += out * math.prod(equation.invars[1].aval.shape[:3])
      elif equation.primitive.name == 'dot_general':
        contracted = equation.params['dimension_numbers'][0][0]
        total += out * math.prod(equation.invars[0].aval.shape[i] for i in contracted)
      total += sum(count(p.jaxpr) for p in equation.params.values() if hasattr(p, 'jaxpr'))
    return total

  return count(jax.make_jaxpr(logits)(state, jax.ShapeDtypeStruct((1, *task.image_shape), np.float32)).jaxpr)

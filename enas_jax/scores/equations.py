"""A function run equation by equation, so that what flows through it can be looked at and changed.

A module is a function of its weights and images that tells nothing of its ReLUs and convolutions; a score wants to see them all
the same. So the function is traced, and the trace is run again with a visitor. JAX can differentiate, map and compile that like
any other function.
"""
from __future__ import annotations

import enum
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.ad_checkpoint import checkpoint_name
from jax.extend import core


class Kind(enum.StrEnum):
  """What a visitor is shown.

  RELU: a maximum of activations and 0; its input [B, ..., channels].
  LAYER: a convolution, or a product with a matrix of weights; its output [B, ..., channels].
  POOLED: what is averaged over all pixels, [B, H, W, channels].
  NORM, BLOCK: what a module was tagged as; the input of the one, the output of the other, and the first block's input, too.
  """

  RELU = 'relu'
  LAYER = 'layer'
  POOLED = 'pooled'
  NORM = 'norm'
  BLOCK = 'block'


Visitor = Callable[[Kind, Any], Any]  # Is called with what is there, and returns what takes its place.


def tag(kind: Kind, x: jax.Array) -> jax.Array:
  """Returns x, marked so that a visitor is shown it."""
  return checkpoint_name(x, kind.value)


def run(closed: core.ClosedJaxpr, arguments: Sequence[Any], visit: Visitor) -> list[Any]:
  """Runs a traced function on arguments of the traced shapes; returns its outputs.

  Loops and branches inside of it are run as they are: the visitor is not shown what is in them.
  """
  jaxpr = closed.jaxpr
  values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*closed.consts, *arguments], strict=True))
  for equation in jaxpr.eqns:
    _run_one(equation, values, visit)
  return [_read(values, variable) for variable in jaxpr.outvars]


def blocks(closed: core.ClosedJaxpr, arguments: Sequence[Any]) -> list[tuple[Callable[[jax.Array], jax.Array], jax.Array]]:
  """Returns what lies between one BLOCK tag and the next, as functions, each with the input that it has in this run.

  A function is what follows the earlier tag up to the later one, all else of the run being as it was.
  """
  jaxpr = closed.jaxpr
  values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*closed.consts, *arguments], strict=True))
  found, before, start = [], dict(values), None

  def between(first: int, last: int, before: dict[Any, Any]) -> Callable[[jax.Array], jax.Array]:
    def apply(x: jax.Array) -> jax.Array:
      values = {**before, jaxpr.eqns[first].outvars[0]: x}
      for equation in jaxpr.eqns[first + 1:last + 1]:
        _run_one(equation, values, lambda _, value: value)
      return values[jaxpr.eqns[last].outvars[0]]

    return apply

  for index, equation in enumerate(jaxpr.eqns):
    _run_one(equation, values, lambda _, value: value)
    if equation.primitive.name == 'name' and equation.params['name'] == Kind.BLOCK:
      if start is not None:
        found.append((between(start, index, before), values[jaxpr.eqns[start].outvars[0]]))
      before, start = dict(values), index
  return found


def fan_ins(closed: core.ClosedJaxpr) -> list[int]:
  """Returns how many weights each channel of each layer has, in the order in which `run` shows layers."""
  found = []
  for equation in closed.jaxpr.eqns:
    if equation.primitive.name in ('jit', 'pjit') and not _is_relu(equation):
      found += fan_ins(equation.params['jaxpr'])
    elif _is_layer(equation):
      found.append(math.prod(equation.invars[1].aval.shape) // equation.outvars[0].aval.shape[-1])  # type: ignore[attr-defined]
  return found


def _read(values: dict[Any, Any], variable: Any) -> Any:
  return variable.val if isinstance(variable, core.Literal) else values[variable]


def _run_one(equation: core.JaxprEqn, values: dict[Any, Any], visit: Visitor) -> None:
  """Runs an equation on the values of its variables, and adds its outputs to them."""
  inputs, name = [_read(values, variable) for variable in equation.invars], equation.primitive.name
  if _is_relu(equation):
    inputs = [x if isinstance(v, core.Literal) else visit(Kind.RELU, x) for x, v in zip(inputs, equation.invars, strict=True)]
  if name == 'reduce_sum' and _axes(equation.invars[0]) == 4 and equation.params['axes'] == (1, 2):
    inputs = [visit(Kind.POOLED, inputs[0])]
  if name in ('jit', 'pjit') and not _is_relu(equation):
    outputs = run(equation.params['jaxpr'], inputs, visit)
  else:
    found = equation.primitive.bind(*inputs, **equation.primitive.get_bind_params(equation.params))
    outputs = list(found) if equation.primitive.multiple_results else [found]
  if _is_layer(equation):
    outputs = [visit(Kind.LAYER, outputs[0])]
  elif name == 'name' and _is_tag(equation):
    outputs = [visit(Kind(equation.params['name']), outputs[0])]
  values.update(zip(equation.outvars, outputs, strict=True))


def _axes(variable: Any) -> int:
  return len(variable.aval.shape)


def _is_tag(equation: core.JaxprEqn) -> bool:
  return equation.params['name'] in {kind.value for kind in Kind}


def _is_relu(equation: core.JaxprEqn) -> bool:
  """Whether it is max(x, 0), or a function that is nothing else, such as jax.nn.relu. (A batch norm has one over channels.)"""
  if equation.primitive.name == 'max':
    return any(isinstance(v, core.Literal) and v.val == 0 for v in equation.invars) and _axes(equation.outvars[0]) > 1
  inner = equation.params.get('call_jaxpr', equation.params.get('jaxpr'))
  equations = inner.jaxpr.eqns if isinstance(inner, core.ClosedJaxpr) else ()
  return len(equations) == 1 and _is_relu(equations[0])


def _is_layer(equation: core.JaxprEqn) -> bool:
  """Whether it is a convolution with channels last, or a product of activations and a matrix."""
  if equation.primitive.name == 'conv_general_dilated':
    return equation.params['dimension_numbers'].out_spec[1] == _axes(equation.outvars[0]) - 1
  if equation.primitive.name != 'dot_general':
    return False
  ((_, of_matrix), (batched, _)) = equation.params['dimension_numbers']
  return not batched and tuple(of_matrix) == (0,) and _axes(equation.invars[1]) == 2

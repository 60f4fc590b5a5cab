"""The separable convolution's three forms against each other and against loops in NumPy."""
import jax
import numpy as np
import pytest

from enas_jax.networks import convolution
from enas_jax.networks.convolution import separable_convolution

TOLERANCE = 1e-5  # Of float32 sums of at most 49 x 5 terms of size 1.


def by_loops(inputs, depthwise, pointwise, stride):
  """The definition: zero padding of k // 2 on every side, windows from the top left."""
  batch, height, width, channels = inputs.shape
  size, out = depthwise.shape[0], pointwise.shape[-1]
  padded = np.zeros((batch, height + size - 1, width + size - 1, channels))
  padded[:, size // 2:size // 2 + height, size // 2:size // 2 + width] = inputs
  outputs = np.zeros((batch, -(-height // stride), -(-width // stride), out))
  for row in range(outputs.shape[1]):
    for column in range(outputs.shape[2]):
      window = padded[:, row * stride:row * stride + size, column * stride:column * stride + size]
      for channel in range(channels):
        middle = (window[..., channel] * depthwise[:, :, 0, channel]).sum((1, 2))
        outputs[:, row, column] += middle[:, None] * pointwise[0, 0, channel]
  return outputs


@pytest.fixture(params=['composed', 'shifts', 'xla'])
def form(request, monkeypatch):
  """Makes `separable_convolution` take one of its forms."""
  if request.param == 'shifts':
    monkeypatch.setattr(convolution, 'COMPOSE_UP_TO', 0)
  if request.param == 'xla':
    monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  return request.param


@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('kernel', [3, 5, 7])
def test_value_and_gradient(form, kernel, stride):
  rng = np.random.default_rng(0)  # An even height and an odd width.
  inputs, depthwise, pointwise = (rng.uniform(-1, 1, shape).astype(np.float32) for shape in (
      (2, 6, 7, 4), (kernel, kernel, 1, 4), (1, 1, 4, 5)))
  expected = by_loops(inputs, depthwise, pointwise, stride)
  direction = rng.uniform(-1, 1, expected.shape).astype(np.float32)

  @jax.jit
  def value_and_gradients(inputs, depthwise, pointwise):
    outputs, pull = jax.vjp(lambda *x: separable_convolution(*x, stride=stride), inputs, depthwise, pointwise)
    return outputs, pull(direction)

  traced = str(jax.make_jaxpr(lambda *x: separable_convolution(*x, stride=stride))(inputs, depthwise, pointwise))
  assert traced.count('conv_general_dilated[') == {'composed': 1, 'shifts': 0, 'xla': 2}[form]
  outputs, gradients = value_and_gradients(inputs, depthwise, pointwise)
  assert outputs.shape == expected.shape
  np.testing.assert_allclose(outputs, expected, atol=TOLERANCE, rtol=TOLERANCE)
  # The convolution is linear in each argument, so <gradient, x> = <direction, output> for each of the three, and
  # one-hot arguments give single entries of a gradient.
  for place, (argument, gradient) in enumerate(zip((inputs, depthwise, pointwise), gradients, strict=True)):
    np.testing.assert_allclose((gradient * argument).sum(), (direction * expected).sum(), rtol=1e-4, atol=1e-4)
    for _ in range(5):
      index = tuple(rng.integers(argument.shape))
      unit = np.zeros_like(argument)
      unit[index] = 1
      arguments = [inputs, depthwise, pointwise]
      arguments[place] = unit
      np.testing.assert_allclose(gradient[index], (direction * by_loops(*arguments, stride)).sum(), rtol=1e-4, atol=1e-4)


def test_few_channels_are_composed_and_many_are_not():
  def convolutions(channels):
    shapes = [jax.ShapeDtypeStruct(s, np.float32) for s in ((1, 4, 4, 2), (3, 3, 1, 2), (1, 1, 2, channels))]
    return str(jax.make_jaxpr(lambda *x: separable_convolution(*x, stride=1))(*shapes)).count('conv_general_dilated[')

  assert convolutions(convolution.COMPOSE_UP_TO) == 1
  assert convolutions(convolution.COMPOSE_UP_TO + 1) == 0

"""Both lowerings of every function over planes against loops in NumPy, and in float64 against each other."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from enas_jax.families import convolution, planes
from enas_jax.families.planes import LOWERINGS

TOLERANCE = 2e-5  # Of float32 sums of at most 49 x 3 terms of size 1 (and as many of a gradient's positions).
SIZES = [(6, 7), (5, 4), (1, 2)]  # Even and odd, and smaller than the kernels.
IN, OUT, BATCH = 3, 4, 2
FUNCTIONS = {'depthwise': planes.depthwise, 'pointwise': planes.pointwise, 'convolution': convolution.convolution}


def windows(shape, size, stride):
  """Each window's place in the output and in the padded input: padding of size // 2, windows from the top left."""
  for row in range(-(-shape[0] // stride)):
    for column in range(-(-shape[1] // stride)):
      yield (slice(None), row, column), (slice(None), *(slice(i * stride, i * stride + size) for i in (row, column)))


def by_loops(inputs, kernel, stride, direction):
  """The definition, of a kernel [k, k, D, C]: outputs, and the gradients of <direction, outputs> to inputs and kernel."""
  size, shape = len(kernel), inputs.shape[1:3]
  margin = ((0, 0), (size // 2,) * 2, (size // 2,) * 2, (0, 0))
  padded = np.pad(inputs, margin)
  outputs, to_padded, to_kernel = np.zeros(direction.shape), np.zeros(padded.shape), np.zeros(kernel.shape)
  for place, window in windows(shape, size, stride):
    outputs[place] = np.einsum('cijb,ijdc->db', padded[window], kernel)
    to_padded[window] += np.einsum('db,ijdc->cijb', direction[place], kernel)
    to_kernel += np.einsum('db,cijb->ijdc', direction[place], padded[window])
  inside = (slice(None), *(slice(size // 2, size // 2 + n) for n in shape))
  return outputs, to_padded[inside], to_kernel


def expected(name, inputs, kernel, stride, direction):
  """Of any of the functions, as that of an ordinary convolution."""
  if name == 'pointwise':
    outputs, to_inputs, to_kernel = by_loops(inputs, kernel[None, None], 1, direction)
    return outputs, to_inputs, to_kernel[0, 0]
  if name == 'convolution':
    return by_loops(inputs, kernel, stride, direction)
  outputs, to_inputs, to_kernel = by_loops(inputs, kernel[:, :, None] * np.eye(IN)[:, :], stride, direction)
  return outputs, to_inputs, np.einsum('ijcc->ijc', to_kernel)


def cases(name, size, stride, dtype):
  """Inputs, kernel and direction for every image size."""
  rng = np.random.default_rng(size)
  kernel_shape = {'depthwise': (size, size, IN), 'convolution': (size, size, OUT, IN), 'pointwise': (OUT, IN)}[name]
  for height, width in SIZES:
    outputs = IN if name == 'depthwise' else OUT, -(-height // stride), -(-width // stride), BATCH
    yield tuple(rng.uniform(-1, 1, shape).astype(dtype) for shape in ((IN, height, width, BATCH), kernel_shape, outputs))


def computed(name, stride, lowering, every):
  """Outputs and both gradients of every case, as one compiled function."""
  options = () if name == 'pointwise' else (stride, lowering)

  @jax.jit
  def run(every):
    results = []
    for inputs, kernel, direction in every:
      outputs, pull = jax.vjp(lambda x, w: FUNCTIONS[name](x, w, *options), inputs, kernel)
      results.append((outputs, *pull(direction)))
    return results

  return run(every)


@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('size', [1, 3, 5, 7])
@pytest.mark.parametrize('name', ['depthwise', 'convolution'])
def test_values_and_gradients(name, size, stride):
  every = list(cases(name, size, stride, np.float32))
  for lowering in LOWERINGS:
    for case, result in zip(every, computed(name, stride, lowering, every), strict=True):
      for value, right in zip(result, expected(name, *case[:2], stride, case[2]), strict=True):
        assert value.shape == right.shape and value.dtype == np.float32
        np.testing.assert_allclose(value, right, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('size', [1, 3, 5, 7])
def test_convolutions_of_images(size, stride, monkeypatch):
  """The form that a CPU takes for more channels: here for these few."""
  every = list(cases('convolution', size, stride, np.float32))
  monkeypatch.setattr(convolution, 'LEAST_WORK', 1)
  monkeypatch.setattr(convolution, 'LEAST_CHANNELS', 1)
  for case, result in zip(every, computed('convolution', stride, 'shifts', every), strict=True):
    for value, right in zip(result, expected('convolution', *case[:2], stride, case[2]), strict=True):
      assert value.shape == right.shape and value.dtype == np.float32
      np.testing.assert_allclose(value, right, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize(('channels', 'size', 'stride', 'side', 'masked', 'count'), [
    (3, 3, 1, 8, False, 0), (4, 3, 1, 8, False, 1), (8, 3, 2, 8, False, 2), (24, 3, 1, 8, False, 3), (24, 3, 1, 8, True, 0),
    (24, 1, 1, 8, True, 0), (16, 5, 1, 8, False, 3), (24, 3, 1, 240, False, 0), (24, 3, 2, 240, False, 1)])
def test_where_images_take_the_place_of_patches(channels, size, stride, side, masked, count):
  """By channels, and for all but the kernel's gradient by its side, too; with large planes only back through a stride."""
  shapes = [jax.ShapeDtypeStruct(shape, np.float32) for shape in (
      (channels, side, side, BATCH), (size, size, channels, channels), (channels, side // stride, side // stride, BATCH))]

  def run(inputs, kernel, direction):
    return jax.vjp(lambda x, w: convolution.convolution(x, w, stride, masked=masked), inputs, kernel)[1](direction)

  assert str(jax.make_jaxpr(run)(*shapes)).count('conv_general_dilated[') == count


def test_pointwise():
  every = list(cases('pointwise', 1, 1, np.float32))
  for case, result in zip(every, computed('pointwise', 1, None, every), strict=True):
    for value, right in zip(result, expected('pointwise', *case[:2], 1, case[2]), strict=True):
      np.testing.assert_allclose(value, right, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize(('name', 'size', 'stride'), [
    ('depthwise', 3, 2), ('depthwise', 5, 1), ('depthwise', 7, 2), ('convolution', 3, 2), ('convolution', 5, 1)])
def test_in_float64_only_rounding_is_left(name, size, stride):
  with jax.enable_x64(True):
    every = list(cases(name, size, stride, np.float64))
    results = {lowering: computed(name, stride, lowering, every) for lowering in LOWERINGS}
  for i, (inputs, kernel, direction) in enumerate(every):
    right = expected(name, inputs, kernel, stride, direction)
    for lowering in LOWERINGS:
      outputs, to_inputs, to_kernel = results[lowering][i]
      assert outputs.dtype == to_kernel.dtype == np.float64
      np.testing.assert_allclose(outputs, right[0], rtol=1e-13, atol=1e-13)
      np.testing.assert_allclose(to_inputs, right[1], rtol=1e-13, atol=1e-13)
      single = lowering == 'shifts' and name == 'depthwise'  # Those weights' gradients are summed in float32.
      np.testing.assert_allclose(to_kernel, right[2], rtol=1e-6 if single else 1e-13, atol=1e-6 if single else 1e-13)


def test_gradients_of_the_lowerings_agree_with_differences():
  """The slope along a random direction, in float64, where differences are good to 1e-8."""
  rng = np.random.default_rng(0)
  with jax.enable_x64(True):
    inputs, kernel = jnp.asarray(rng.normal(size=(IN, 5, 6, BATCH))), jnp.asarray(rng.normal(size=(3, 3, OUT, IN)))
    step = jnp.asarray(rng.normal(size=inputs.shape)), jnp.asarray(rng.normal(size=kernel.shape))
    for lowering in LOWERINGS:
      def loss(inputs, kernel, lowering=lowering):
        return jnp.sin(convolution.convolution(inputs, kernel, 2, lowering)).sum()

      slope = sum((g * s).sum() for g, s in zip(jax.jit(jax.grad(loss, (0, 1)))(inputs, kernel), step, strict=True))
      ahead, behind = (jax.jit(loss)(inputs + e * step[0], kernel + e * step[1]) for e in (1e-5, -1e-5))
      np.testing.assert_allclose((ahead - behind) / 2e-5, slope, rtol=1e-7)


def test_low_precision_stays_low_and_sums_do_not():
  every = list(cases('depthwise', 3, 2, np.float32))
  low = [tuple(jnp.asarray(x, jnp.bfloat16) for x in case) for case in every]
  for lowering in LOWERINGS:
    for case, result in zip(low, computed('depthwise', 2, lowering, low), strict=True):
      exact = expected('depthwise', *(np.asarray(x, np.float64) for x in case[:2]), 2, np.asarray(case[2], np.float64))
      for value, right in zip(result, exact, strict=True):
        assert value.dtype == jnp.bfloat16
        np.testing.assert_allclose(value.astype(np.float32), right, rtol=0.02, atol=0.05)
  ones = jnp.full((2, 20, 20, 5), 1, jnp.bfloat16)  # Above 256 bfloat16 does not count.
  total, twice = jax.jit(lambda x: planes.sums(x, 2 * x))(ones)
  assert total.dtype == twice.dtype == np.float32
  assert total.tolist() == [2000, 2000] and twice.tolist() == [4000, 4000]


@pytest.mark.parametrize('name', ['depthwise', 'convolution'])
def test_the_shifts_have_no_convolution_and_work_under_vmap(name):
  inputs, kernel, direction = map(jnp.asarray, next(iter(cases(name, 3, 2, np.float32))))

  def both(lowering):
    def run(inputs, kernel):
      outputs, pull = jax.vjp(lambda x, w: FUNCTIONS[name](x, w, 2, lowering), inputs, kernel)
      return outputs, *pull(direction)
    return run

  traced = {lowering: str(jax.make_jaxpr(both(lowering))(inputs, kernel)) for lowering in LOWERINGS}
  assert 'conv_general_dilated' in traced['xla'] and 'conv_general_dilated' not in traced['shifts']
  several = np.stack([inputs, 2 * inputs]), np.stack([kernel, -kernel])
  many = jax.jit(jax.vmap(both('shifts')))(*several)
  for i in range(2):
    for value, right in zip(many, both('xla')(*(jnp.asarray(x[i]) for x in several)), strict=True):
      np.testing.assert_allclose(value[i], right, rtol=TOLERANCE, atol=TOLERANCE)

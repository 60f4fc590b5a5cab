"""What all tests share."""
import contextlib
import os

import jax
import jaxtyping
import pytest

from enas_jax.errors import UserError

# Within a test's process the shapes and types that families/ declares are checked at every call, before a program is compiled.
jaxtyping.install_import_hook(
    tuple(f'enas_jax.families.{name}' for name in (
        'planes', 'convolution', 'pooling', 'norm', 'channels', 'tape', 'chain.network', 'chain.channelwise')),
    'beartype.beartype')


def pytest_configure(config):
  """Keeps what XLA compiled between tests, processes and sessions: compiling is most of what a test costs."""
  settings = {
      'jax_compilation_cache_dir': os.environ.get('ENAS_JAX_TEST_CACHE') or str(config.cache.mkdir('jax')),
      'jax_persistent_cache_min_compile_time_secs': 0,
      'jax_persistent_cache_min_entry_size_bytes': -1,
  }
  for name, value in settings.items():
    jax.config.update(name, value)
    os.environ[name.upper()] = str(value)  # For the processes that tests start.


@pytest.fixture(scope='session', autouse=True)
def own_caches(tmp_path_factory):
  """Has decoded images be kept in a folder of the tests, not in the user's."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv('XDG_CACHE_HOME', str(tmp_path_factory.mktemp('caches')))
    yield


@pytest.fixture
def user_error():
  """A context that must end in a UserError of one line which holds all `parts`."""
  @contextlib.contextmanager
  def expect(*parts):
    with pytest.raises(UserError) as caught:
      yield
    message = str(caught.value)
    assert '\n' not in message
    for part in parts:
      assert str(part) in message

  return expect

import contextlib

import pytest

from enas_jax.errors import UserError


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

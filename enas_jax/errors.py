"""How a run ends early: by bad input that the user can mend, or because it was told to stop."""
import signal
import traceback


class UserError(ValueError):
  """Bad input. The message is one line that names the value, the limit and the way out.

  The command line prints it without a traceback and exits with code 2. Values in it may have had line breaks.
  """

  def __init__(self, message: object = ''):
    super().__init__(' '.join(str(message).split()))


class FolderError(UserError):
  """The work folder is full, or cannot be written or read: no fault of what was to be kept there."""


class Stopped(Exception):
  """The run was told to stop and did so between two training steps. The same command resumes it."""

  signum: int = signal.SIGTERM  # Which signal told it; set by cli.stop_on_sigterm.


def line_in(error: BaseException, path: str) -> str:
  """Returns ', line N' for where in a user's file an error arose, or '' where it is not known."""
  lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
  if isinstance(error, SyntaxError) and error.filename == path:
    lines.append(error.lineno)
  return f', line {lines[-1]}' if lines else ''

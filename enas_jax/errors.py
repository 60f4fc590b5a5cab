"""How a run ends early: by bad input that the user can mend, or because it was told to stop."""
import signal


class UserError(ValueError):
  """Bad input. The message is one line that names the value, the limit and the way out.

  The command line prints it without a traceback and exits with code 2.
  """


class Stopped(Exception):
  """The run was told to stop and did so between two training steps. The same command resumes it."""

  signum: int = signal.SIGTERM  # Which signal told it; set by cli.stop_on_sigterm.

"""The one exception that a user causes and can mend."""


class UserError(ValueError):
  """Bad input. The message is one line that names the value, the limit and the way out.

  The command line prints it without a traceback and exits with code 2.
  """

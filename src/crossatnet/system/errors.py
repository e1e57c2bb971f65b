"""The one exception for mistakes a user can mend; the command line prints it as one line and exits with 2."""


class UserError(ValueError):
    """What was wrong, where, and what to do next, in one sentence a user can act on."""

"""Mistakes a user can mend; the command line prints it as one line and exits with 2."""


class UserError(ValueError):
    """What was wrong, where, and what to do next, in one sentence a user can act on."""


class ImageError(UserError):
    """A picture that cannot be used; the message names it and says why."""

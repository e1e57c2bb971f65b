"""What goes wrong by a user's mistake, and the nearest names to one that is not known."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """What was wrong, where, and what to do next, in one sentence a user can act on."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A sentence naming the nearest known names, or all of them if none is near."""
    choices = sorted(known)
    near = difflib.get_close_matches(name, choices, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(choices)}"

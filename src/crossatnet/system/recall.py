"""How much of what an exact search finds a search of a large gallery must find. Nothing heavy is imported here.

A recall of 1 is the exact search itself. Only galleries that have inverted lists can find less, see
`crossatnet.gallery.sqlite.inverted`.
"""

from crossatnet.system.errors import UserError

EXACT = 1.0
RECALL = 0.99  # unless given: an exact search's own recall, as its shortlist is made for


def check_recall(recall: float) -> None:
    """Raise `UserError` unless it is above 0 and at most 1.

    Example:
        >>> from crossatnet.system.recall import check_recall
        >>> check_recall(0.95)
    """
    if not 0 < recall <= 1:  # not so for NaN either
        raise UserError(f"recall {recall:g}: give a share above 0, such as .95, or 1 for the exact search")

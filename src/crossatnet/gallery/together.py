"""Several galleries searched as if they were one."""

from collections.abc import Sequence

from crossatnet.gallery.gallery import Gallery
from crossatnet.gallery.results import SearchResult
from crossatnet.system.errors import UserError


def check_comparable(galleries: Sequence[Gallery]) -> None:
    """Raise `UserError` unless one checkpoint made them all, as scores of different ones cannot be compared."""
    first = galleries[0].store
    for other in (gallery.store for gallery in galleries[1:]):
        if other.made_with.fingerprint != first.made_with.fingerprint:
            raise UserError(
                f"{other.name} was made with {other.made_with.name}, {first.name} with {first.made_with.name}: their"
                " scores cannot be compared; search each by itself"
            )


def best_of(results: Sequence[SearchResult], k: int, offset: int = 0) -> tuple[list[tuple[int, int]], bool]:
    """The `k` best hits after `offset`, as (number of the result, number of the hit in it); whether more follow.

    Each result must hold the first `offset + k` hits of its gallery, best first. Equal scores: the earlier gallery's
    hit comes first.

    Example:
        >>> from crossatnet.gallery import Hit, SearchResult
        >>> from crossatnet.gallery.together import best_of
        >>> def result(*scores):
        ...     hits = [Hit(number, f"{number}.jpg", score, None) for number, score in enumerate(scores)]
        ...     return SearchResult(hits, [], 0, False, 0.0, 0.0, {})
        >>> best_of([result(0.9, 0.2), result(0.5)], k=2)
        ([(0, 0), (1, 0)], True)
    """
    places = [(number, place) for number, result in enumerate(results) for place in range(len(result.hits))]
    places.sort(key=lambda each: -results[each[0]].hits[each[1]].score)
    has_more = len(places) > offset + k or any(result.has_more for result in results)
    return places[offset : offset + k], has_more

"""What a search returns: hits, and a page of hits with what is stored of their pictures."""

from dataclasses import dataclass
from typing import Literal

from crossatnet.gallery.backend import StoredPicture
from crossatnet.model.regions import Box
from crossatnet.system.errors import UserError

# How hits are ordered: by cosines of embeddings (float), by Hamming distances of codes (code), or by cosines and
# then, for the first hits, with the drawing's attention (guided).
Ranking = Literal["float", "code", "guided"]


@dataclass(frozen=True)
class Hit:
    """One picture found. `score` is the cosine between query and picture, -1..1; `path` is absolute.

    After guided re-ranking the score is the mean of two cosines: the one without and the one with the drawing's
    attention. Ranked by codes, it is the share of equal bits, 0..1. Found by words alone, it is BM25, 0 or more.

    `gone` tells that nothing is at `path` any more. `copies` are the other hits that show the same picture, best first,
    if the search was asked to group them.

    `box` is the region that it was found by: left, top, right and bottom as fractions of the upright picture; the score
    is then that region's cosine less the model's penalty. None if the whole picture is nearer, or has no regions.

    `chance` is how likely it shows the thing drawn, 0..1, and `sure` whether that is enough to say so; both None where
    nobody knows: for photos as queries, other rankings, and models without a fit (`crossatnet.model.confidence`).
    """

    id: int
    path: str
    score: float
    class_name: str | None
    gone: bool = False
    copies: tuple["Hit", ...] = ()
    chance: float | None = None
    sure: bool | None = None
    box: Box | None = None


@dataclass(frozen=True)
class SearchResult:
    """A page of hits, best first, with the stored picture of each; the first is number `offset`, counted from 0.

    `stored` holds those of all hits and copies, by id.

    `network_seconds` is the time to read, draw and embed the query and to guide; `search_seconds` the time to search
    the gallery.
    """

    hits: list[Hit]
    pictures: list[StoredPicture]
    offset: int
    has_more: bool
    network_seconds: float
    search_seconds: float
    stored: dict[int, StoredPicture]

    @property
    def gone(self) -> int:
        """How many of the hits and copies have no file any more."""
        return sum(each.gone for hit in self.hits for each in (hit, *hit.copies))


class PictureGoneError(UserError):
    """The stored picture that is the query is no longer stored."""

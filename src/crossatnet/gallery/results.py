"""What a search gives: hits, and a page of them with all that is known of their pictures."""

from dataclasses import dataclass
from typing import Literal

from crossatnet.gallery.backend import StoredPicture
from crossatnet.system.errors import UserError

# What orders hits: cosines of embeddings (float); Hamming distances of codes; or first cosines, and then, for the first
# hits, what a drawing sees in each of their pictures (guided).
Ranking = Literal["float", "code", "guided"]


@dataclass(frozen=True)
class Hit:
    """One picture found. `score` is the cosine between query and picture, -1..1; `path` is absolute.

    After guided re-ranking it is the mean of that cosine and the one with what the drawing sees in the picture; ranked
    by codes, the share of their bits that are equal, 0..1.
    """

    id: int
    path: str
    score: float
    class_name: str | None


@dataclass(frozen=True)
class SearchResult:
    """A page of hits, best first, with the stored picture of each; the first is number `offset`, counted from 0.

    `network_seconds` went into reading, drawing and embedding the query and into guiding, `search_seconds` into the
    search of the gallery.
    """

    hits: list[Hit]
    pictures: list[StoredPicture]
    offset: int
    has_more: bool
    network_seconds: float
    search_seconds: float


class PictureGoneError(UserError):
    """A stored picture that was searched with is not stored any more."""

"""From a drawing, a photo or a stored picture to the JSON of a page of hits; `Gallery.find` does the search."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from crossatnet.data.images import Modality, check_picture
from crossatnet.data.strokes import Drawing
from crossatnet.gallery import Filter, Hit, PictureGoneError, Prepared, Query, Ranking, SearchResult, StoredPicture
from crossatnet.gallery.backend import EVERYTHING
from crossatnet.model.interface import GUIDED
from crossatnet.server.errors import ApiError
from crossatnet.server.galleries import Served
from crossatnet.server.pictures import file_name, readable
from crossatnet.server.schemas import HitAnswer, Milliseconds, SearchAnswer, Stroke
from crossatnet.server.settings import UPLOAD_PIXELS

VERSION_DIGITS = 12


@dataclass(frozen=True)
class Page:
    """The hits that are asked for: `k` after the first `offset`, the ranking, and the conditions."""

    k: int
    offset: int
    ranking: Ranking = "float"
    filter: Filter = EVERYTHING


def drawing_of(strokes: Sequence[Stroke]) -> Drawing:
    """Checked strokes in the renderer's form."""
    return tuple(np.array(stroke, np.float32) for stroke in strokes)


def search_drawing(served: Served, strokes: Sequence[Stroke], page: Page) -> SearchResult:
    """The page of hits for strokes."""
    return _find(served, drawing_of(strokes), "sketch", page)


def prepared(served: Served, content: bytes, modality: Modality) -> Prepared:
    """A picture file's bytes as a query, read within bounds.

    Raises `ImageError` if it cannot be read, is too large or takes too long.
    """
    check_picture(content, UPLOAD_PIXELS)
    return served.gallery.prepare(content, modality)


def search_prepared(served: Served, query: Prepared, modality: Modality, page: Page) -> SearchResult:
    """The page of hits for a query that was read."""
    return _find(served, query, modality, page)


def search_similar(served: Served, stored: StoredPicture, page: Page) -> SearchResult:
    """The page of hits for a stored picture, without that picture."""
    try:
        return _find(served, stored, "photo", page)
    except PictureGoneError as error:
        raise ApiError(404, f"no picture of that id in {served.name}; it was just removed: search again") from error


def answer(served: Served, result: SearchResult, page: Page, started: float) -> SearchAnswer:
    """A page of hits in the form of the JSON; `started` is the time when the request came."""
    milliseconds = Milliseconds(
        network=_milliseconds(result.network_seconds),
        search=_milliseconds(result.search_seconds),
        total=_milliseconds(time.perf_counter() - started),
    )
    return SearchAnswer(
        hits=[_hit(served, hit, stored) for hit, stored in zip(result.hits, result.pictures, strict=True)],
        offset=result.offset,
        k=page.k,
        pictures=len(served.gallery),
        next_offset=page.offset + page.k if result.has_more else None,
        milliseconds=milliseconds,
    )


def addresses(served: Served, stored: StoredPicture) -> dict[str, str]:
    """The addresses of a stored picture; `v` changes with the file, so that browsers may keep its pictures."""
    base = f"/api/v1/galleries/{served.name}/items/{stored.id}"
    version = version_of(stored)
    return {"thumbnail": f"{base}/thumbnail?v={version}", "image": f"{base}/image?v={version}"}


def version_of(stored: StoredPicture) -> str:
    """The first digits of the content hash of a picture's file, which change with the file."""
    return stored.facts.file.content_hash[:VERSION_DIGITS]


def _find(served: Served, query: Query | StoredPicture, modality: Modality, page: Page) -> SearchResult:
    """The page of hits for a query. Guided re-ranking reads only files that are unchanged since they were indexed."""
    return served.gallery.find(
        query,
        page.k,
        page.offset,
        modality=modality,
        ranking=page.ranking,
        filter=page.filter,
        reranked=GUIDED,
        read=readable,
    )


def _hit(served: Served, hit: Hit, stored: StoredPicture) -> HitAnswer:
    facts = stored.facts
    return HitAnswer(
        id=str(hit.id),
        score=round(hit.score, 6),
        class_name=facts.class_name,
        file_name=file_name(stored),
        width=facts.width,
        height=facts.height,
        **addresses(served, stored),
    )


def _milliseconds(seconds: float) -> float:
    return round(1000 * seconds, 2)

"""From a drawing, a photo or a stored picture to the JSON of a page of hits; `Gallery.find` does the search."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from crossatnet.data.images import Modality, check_picture
from crossatnet.data.strokes import Drawing
from crossatnet.gallery import (
    Filter,
    Hit,
    PartOf,
    PictureGoneError,
    Prepared,
    Query,
    Ranking,
    SearchResult,
    StoredPicture,
)
from crossatnet.gallery.backend import EVERYTHING
from crossatnet.gallery.queries import check_box
from crossatnet.gallery.together import best_of, check_comparable
from crossatnet.model.interface import GUIDED
from crossatnet.model.regions import Box
from crossatnet.server.errors import ApiError
from crossatnet.server.galleries import Served
from crossatnet.server.pictures import file_name, read_known, readable
from crossatnet.server.schemas import Conditions, HitAnswer, Milliseconds, SearchAnswer, Stroke
from crossatnet.server.settings import MOST_COPIES, UPLOAD_PIXELS
from crossatnet.system.errors import UserError

VERSION_DIGITS = 12


@dataclass(frozen=True)
class Page:
    """The hits that are asked for: `k` after the first `offset`, the ranking, the conditions, and where else to look.

    `also` are the names of other galleries that are searched as if all were one.
    """

    k: int
    offset: int
    ranking: Ranking = "float"
    filter: Filter = EVERYTHING
    grouped: bool = False
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class Found:
    """A page of hits of one or several galleries: the gallery of each hit, and the result that holds the hit."""

    hits: list[tuple[Served, Hit, SearchResult]]
    has_more: bool
    pictures: int
    network_seconds: float
    search_seconds: float


def page_of(k: int, offset: int, ranking: Ranking, conditions: Conditions) -> Page:
    """The page that a request asks for."""
    since, before = (
        None if day is None else datetime(day.year, day.month, day.day)
        for day in (conditions.taken_since, conditions.taken_before)
    )
    filter = Filter(
        class_names=tuple(conditions.class_names),
        folder=conditions.folder.strip(),
        taken_since=since,
        taken_before=before,
        tags=tuple(conditions.tags),
        words=conditions.words.strip(),
    )
    return Page(k, offset, ranking, filter, conditions.grouped, tuple(conditions.also))


def search_all(served: Sequence[Served], page: Page, search: Callable[[Served, Page], SearchResult]) -> Found:
    """The page of hits of several galleries, by a search of one. Raises `ApiError` 422 if they cannot be compared."""
    try:
        check_comparable([each.gallery for each in served])
    except UserError as error:
        names = ", ".join(each.name for each in served)
        raise ApiError(422, f"also: {names} were made by different checkpoints; search each by itself") from error
    if len(served) == 1:
        results = [search(served[0], page)]
        places, has_more = [(0, place) for place in range(len(results[0].hits))], results[0].has_more
    else:
        results = [search(each, replace(page, k=page.offset + page.k, offset=0)) for each in served]
        places, has_more = best_of(results, page.k, page.offset)
    return Found(
        [(served[number], results[number].hits[place], results[number]) for number, place in places],
        has_more,
        sum(len(each.gallery) for each in served),
        sum(result.network_seconds for result in results),
        sum(result.search_seconds for result in results),
    )


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


def search_part(served: Served, stored: StoredPicture, box: Box, page: Page) -> SearchResult:
    """The page of hits for a part of a stored picture, without that picture.

    Raises `ApiError` 409 if its file has changed, 422 for a wrong box.
    """
    content = read_known(stored)
    try:
        check_box(box)
    except UserError as error:
        raise ApiError(422, str(error)) from error
    return served.gallery.find(
        PartOf(stored, box), page.k, page.offset, filter=page.filter, grouped=page.grouped, read=lambda _: content
    )


def search_conditions(served: Served, page: Page) -> SearchResult:
    """The page of hits for the conditions alone: by words, the best matches first, else the latest photos."""
    return _find(served, None, "photo", page)


def answer(found: Found, page: Page, started: float) -> SearchAnswer:
    """A page of hits in the form of the JSON; `started` is the time when the request came."""
    milliseconds = Milliseconds(
        network=_milliseconds(found.network_seconds),
        search=_milliseconds(found.search_seconds),
        total=_milliseconds(time.perf_counter() - started),
    )
    return SearchAnswer(
        hits=[_hit(served, hit, result.stored) for served, hit, result in found.hits],
        offset=page.offset,
        k=page.k,
        pictures=found.pictures,
        next_offset=page.offset + page.k if found.has_more else None,
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


def _find(served: Served, query: Query | StoredPicture | None, modality: Modality, page: Page) -> SearchResult:
    """The page of hits for a query. Guided re-ranking reads only files that are unchanged since they were indexed."""
    return served.gallery.find(
        query,
        page.k,
        page.offset,
        modality=modality,
        ranking=page.ranking,
        filter=page.filter,
        reranked=GUIDED,
        grouped=page.grouped,
        read=readable,
    )


def _hit(served: Served, hit: Hit, known: Mapping[int, StoredPicture]) -> HitAnswer:
    stored = known[hit.id]
    facts = stored.facts
    return HitAnswer(
        id=str(hit.id),
        score=round(hit.score, 6),
        class_name=facts.class_name,
        file_name=file_name(stored),
        width=facts.width,
        height=facts.height,
        gallery=served.name,
        taken=facts.description.metadata.taken if facts.description else None,
        gone=hit.gone,
        chance=None if hit.chance is None else round(hit.chance, 4),
        sure=hit.sure,
        box=hit.box,
        copies=[_hit(served, copy, known) for copy in hit.copies[:MOST_COPIES]],
        **addresses(served, stored),
    )


def _milliseconds(seconds: float) -> float:
    return round(1000 * seconds, 2)

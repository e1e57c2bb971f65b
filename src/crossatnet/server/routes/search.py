"""The routes that search: by strokes, by a picture of a drawing, by a photo, by a stored picture."""

import re
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import date
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response
from fastapi.routing import APIRoute

from crossatnet.data.images import Modality
from crossatnet.gallery import Query as GalleryQuery
from crossatnet.gallery import Ranking, SearchResult
from crossatnet.model.regions import Box
from crossatnet.server.errors import ApiError, documented
from crossatnet.server.explaining import explanation, reading
from crossatnet.server.galleries import Served
from crossatnet.server.schemas import (
    ALSO,
    FOLDER,
    GROUPED,
    WORDS,
    ClassName,
    Conditions,
    Drawn,
    SearchAnswer,
    StrokesQuery,
)
from crossatnet.server.searching import (
    Found,
    Page,
    answer,
    drawing_of,
    page_of,
    prepared,
    search_all,
    search_conditions,
    search_drawing,
    search_part,
    search_prepared,
    search_similar,
)
from crossatnet.server.settings import DEEPEST_HIT, MOST_CLASSES, MOST_GALLERIES, MOST_HITS, MOST_TAGS
from crossatnet.server.state import State, state_of

_JSON = re.compile(r"application/(.+\+)?json")  # like FastAPI, which treats any other body as text


class SearchRoute(APIRoute):
    """A route whose answer is computed by the gate of searches: while the gate is full, the body is not parsed."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, but the gate is asked before the body is parsed and checked."""
        handle = super().get_route_handler()

        async def handle_if_room(request: Request) -> Response:
            await request.body()  # all of it: a client that still sends when the connection ends may miss the answer
            state_of(request).searches.require_room()
            if self.body_field is not None and not _JSON.fullmatch(_kind_of_body(request)):
                raise ApiError(415, "the body must be JSON: send the header Content-Type: application/json")
            return await handle(request)

        return handle_if_room


router = APIRouter(prefix="/api/v1/galleries/{gallery}", tags=["search"], route_class=SearchRoute)

PICTURE_TYPES = ("image/png", "image/jpeg", "image/webp", "image/gif", "image/bmp", "image/tiff")
PICTURE_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The bytes of a picture file.",
        "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in PICTURE_TYPES},
    }
}
PNG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/png": {}}, "description": "The picture made."}}
OF_PICTURE = (404, 408, 413, 415, 422)  # errors of routes that take a picture

HowMany = Annotated[int, Query(ge=1, le=MOST_HITS, description="Hits of a page.")]
After = Annotated[int, Query(ge=0, le=DEEPEST_HIT, description="How many hits to skip.")]
RankedBy = Annotated[Ranking, Query(description="`guided` is for drawings, and ranks the first 50 hits.")]
PartGiven = Annotated[
    str,
    Query(
        max_length=100,
        description="left,top,right,bottom as fractions of the upright picture: search by this part of it.",
        examples=["0.1,0.4,0.5,0.9"],
    ),
]
OfClasses = Annotated[list[ClassName], Query(max_length=MOST_CLASSES, description="Only of these classes; repeatable.")]


async def conditions(  # async, as a plain function would run in a thread of its own
    class_names: OfClasses = [],  # noqa: B006  # FastAPI copies it
    words: Annotated[str, Query(max_length=300, description=WORDS)] = "",
    tags: Annotated[list[ClassName], Query(max_length=MOST_TAGS, description="Only with all these tags.")] = [],  # noqa: B006
    folder: Annotated[str, Query(max_length=1000, description=FOLDER)] = "",
    taken_since: Annotated[date | None, Query(description="Only taken on this day or later.")] = None,
    taken_before: Annotated[date | None, Query(description="Only taken earlier than on this day.")] = None,
    grouped: Annotated[bool, Query(description=GROUPED)] = False,
    also: Annotated[list[ClassName], Query(max_length=MOST_GALLERIES, description=ALSO)] = [],  # noqa: B006
) -> Conditions:
    """The conditions that the address names."""
    return Conditions(
        class_names=class_names,
        words=words,
        tags=tags,
        folder=folder,
        taken_since=taken_since,
        taken_before=taken_before,
        grouped=grouped,
        also=also,
    )


Meeting = Annotated[Conditions, Depends(conditions)]


async def asked(conditions: Meeting, k: HowMany = 24, offset: After = 0, ranking: RankedBy = "float") -> Page:
    """The page of hits that the address asks for."""
    return page_of(k, offset, ranking, conditions)


Asked = Annotated[Page, Depends(asked)]


@router.post("/search/strokes", responses=documented(404, 408, 413, 415, 422))
async def search_by_strokes(request: Request, gallery: str, query: StrokesQuery) -> SearchAnswer:
    """Search by a drawing's strokes, which are scaled, centred and drawn with the server's own pen."""
    page = page_of(query.k, query.offset, query.ranking, query)
    return await _search(request, gallery, page, lambda served, page: search_drawing(served, query.strokes, page))


@router.get("/search/words", responses=documented(404, 422))
async def search_by_words(
    request: Request, gallery: str, conditions: Meeting, k: HowMany = 24, offset: After = 0
) -> SearchAnswer:
    """Pictures that meet the conditions, without a drawing: by words, the best matches first, else the latest."""
    return await _search(request, gallery, page_of(k, offset, "float", conditions), search_conditions)


@router.post("/search/sketch", responses=documented(*OF_PICTURE), openapi_extra=PICTURE_BODY)
async def search_by_sketch(request: Request, gallery: str, page: Asked) -> SearchAnswer:
    """Search by a picture file of a drawing, dark on light or light on dark."""
    return await _search_upload(request, gallery, "sketch", page)


@router.post("/search/photo", responses=documented(*OF_PICTURE), openapi_extra=PICTURE_BODY)
async def search_by_photo(request: Request, gallery: str, page: Asked) -> SearchAnswer:
    """Search by a photo."""
    return await _search_upload(request, gallery, "photo", page)


@router.post(
    "/search/sketch/reading",
    responses={**documented(*OF_PICTURE), **PNG},
    response_class=Response,
    openapi_extra=PICTURE_BODY,
)
async def read_sketch(request: Request, gallery: str) -> Response:
    """What `search/sketch` searches for when this picture of a drawing is sent: its strokes, dark on white."""
    return await _made_of_sketch(request, gallery, reading)


@router.get("/items/{item_id}/similar", responses=documented(404, 409, 422))
async def search_similar_pictures(
    request: Request,
    gallery: str,
    item_id: str,
    conditions: Meeting,
    k: HowMany = 24,
    offset: After = 0,
    box: PartGiven = "",
) -> SearchAnswer:
    """More pictures like a stored one, or like what it shows within `box`, without that picture."""
    page = replace(page_of(k, offset, "float", conditions), also=())  # other galleries may have another checkpoint

    part = box_of(box) if box else None

    def similar(served: Served, page: Page) -> SearchResult:
        stored = served.stored(item_id)
        return search_similar(served, stored, page) if part is None else search_part(served, stored, part, page)

    return await _search(request, gallery, page, similar)


@router.post(
    "/items/{item_id}/explanation/strokes",
    responses={**documented(404, 408, 409, 413, 415, 422), **PNG},
    response_class=Response,
)
async def explain_strokes(request: Request, gallery: str, item_id: str, drawn: Drawn) -> Response:
    """The picture under the attention of a drawing's strokes: what it matched."""
    state = state_of(request)
    served = state.galleries.named(gallery)
    png = await state.searches.run(lambda: explanation(served, item_id, drawing_of(drawn.strokes)), request.receive)
    return Response(png, media_type="image/png")


@router.post(
    "/items/{item_id}/explanation/sketch",
    responses={**documented(409, *OF_PICTURE), **PNG},
    response_class=Response,
    openapi_extra=PICTURE_BODY,
)
async def explain_sketch(request: Request, gallery: str, item_id: str) -> Response:
    """The picture under the attention of a drawing, sent as a picture file."""
    return await _made_of_sketch(request, gallery, lambda served, drawing: explanation(served, item_id, drawing))


def box_of(given: str) -> Box:
    """A box from an address. Raises `ApiError` 422 unless it is four numbers."""
    try:
        left, top, right, bottom = (float(part) for part in given.split(","))
    except ValueError as error:
        raise ApiError(422, "box: give four numbers, left,top,right,bottom, such as box=0.1,0.4,0.5,0.9") from error
    return left, top, right, bottom


async def picture_body(request: Request) -> bytes:
    """The bytes of the picture file in the request's body. Raises `ApiError` for any other body."""
    if not _kind_of_body(request).startswith("image/"):
        raise ApiError(415, "the body must be a picture file, its Content-Type image/png, image/jpeg or the like")
    content = await request.body()
    if not content:
        raise ApiError(400, "the body is empty: send the bytes of a picture file", "bad_picture")
    return content


def _kind_of_body(request: Request) -> str:
    """The media type that the request gives its body, "" if none."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def _made_of_sketch(request: Request, gallery: str, make: Callable[[Served, GalleryQuery], bytes]) -> Response:
    """A PNG made of the drawing whose picture file is in the request's body: read by one gate, made by another."""
    state = state_of(request)
    served = state.galleries.named(gallery)
    content = await picture_body(request)

    drawing = await state.decoding.run(partial(prepared, served, content, "sketch"), request.receive)
    return Response(await state.searches.run(partial(make, served, drawing), request.receive), media_type="image/png")


async def _search_upload(request: Request, gallery: str, modality: Modality, page: Page) -> SearchAnswer:
    state = state_of(request)
    asked = _asked(state, gallery, page)  # a wrong name is reported before the picture is read
    content = await picture_body(request)
    started = time.perf_counter()
    queries = await state.decoding.run(  # however long that takes
        lambda: {served.name: prepared(served, content, modality) for served in asked}, request.receive
    )

    def find(served: Served, page: Page) -> SearchResult:
        return search_prepared(served, queries[served.name], modality, page)

    return await _search(request, gallery, page, find, started)


def _asked(state: State, gallery: str, page: Page) -> list[Served]:
    """The galleries that a search is for."""
    return [state.galleries.named(name) for name in dict.fromkeys((gallery, *page.also))]


async def _search(
    request: Request,
    gallery: str,
    page: Page,
    search: Callable[[Served, Page], SearchResult],
    started: float | None = None,
) -> SearchAnswer:
    """Run a search by the gate and answer it; its time counts from here, or from `started`."""
    started = time.perf_counter() if started is None else started
    state: State = state_of(request)
    served = _asked(state, gallery, page)
    found, answered = await state.searches.run(partial(_searched, served, page, search, started), request.receive)
    state.metrics.searched(found.network_seconds, found.search_seconds)
    return answered


def _searched(
    served: list[Served], page: Page, search: Callable[[Served, Page], SearchResult], started: float
) -> tuple[Found, SearchAnswer]:
    found = search_all(served, page, search)
    return found, answer(found, page, started)

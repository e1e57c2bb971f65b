"""The routes of galleries and of single pictures."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from crossatnet.gallery import StoredPicture
from crossatnet.server import pictures, uploads
from crossatnet.server.errors import ApiError, documented
from crossatnet.server.galleries import Served
from crossatnet.server.routes.search import OF_PICTURE, PICTURE_BODY, picture_body
from crossatnet.server.schemas import GalleriesAnswer, GalleryStatistics, ItemAnswer
from crossatnet.server.searching import addresses, version_of
from crossatnet.server.state import state_of

router = APIRouter(prefix="/api/v1/galleries", tags=["galleries and pictures"])

JPEG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/jpeg": {}}, "description": "The picture."}}
KEPT_SECONDS = 7 * 24 * 3600  # by browsers, for pictures with their version in the address

Version = Annotated[str, Query(max_length=64, description="As in the item's addresses: browsers may keep the picture.")]
FileName = Annotated[str, Query(max_length=200, description="What to call the file; made safe.")]
NewClass = Annotated[str | None, Query(min_length=1, max_length=100, description="The picture's class, if it has one.")]


@router.get("", responses=documented())
async def list_galleries(request: Request) -> GalleriesAnswer:
    """All galleries that are served; the first is the default."""
    state = state_of(request)
    may = state.is_local, state.indexing.is_allowed
    return GalleriesAnswer(
        galleries=await state.pictures.run(lambda: [served.answer(*may) for served in state.galleries])
    )


@router.get("/{gallery}", responses=documented(404))
async def get_gallery(request: Request, gallery: str) -> GalleryStatistics:
    """A gallery with its statistics."""
    state = state_of(request)
    served, may = state.galleries.named(gallery), (state.is_local, state.indexing.is_allowed)
    return await state.pictures.run(lambda: served.statistics(*may))


@router.get("/{gallery}/items/{item_id}", responses=documented(404))
async def get_item(request: Request, gallery: str, item_id: str) -> ItemAnswer:
    """What is known of a picture."""
    state = state_of(request)
    served = state.galleries.named(gallery)
    return await state.pictures.run(lambda: item_answer(served, served.stored(item_id)))


@router.get(
    "/{gallery}/items/{item_id}/thumbnail",
    responses={**documented(404, 409, 422), **JPEG},
    response_class=Response,
)
async def get_thumbnail(request: Request, gallery: str, item_id: str, v: Version = "") -> Response:
    """A small JPEG of a picture, its longest side at most 256 pixels."""
    state = state_of(request)
    served = state.galleries.named(gallery)

    def made() -> tuple[StoredPicture, bytes]:
        stored = served.stored(item_id)
        return stored, pictures.thumbnail(served, stored, state.thumbnails)

    return _jpeg(*await state.pictures.run(made), v)


@router.get(
    "/{gallery}/items/{item_id}/image", responses={**documented(404, 409, 422), **JPEG}, response_class=Response
)
async def get_image(request: Request, gallery: str, item_id: str, v: Version = "") -> Response:
    """The picture as JPEG, decoded and encoded again, its longest side at most 2048 pixels."""
    state = state_of(request)
    served = state.galleries.named(gallery)

    def made() -> tuple[StoredPicture, bytes]:
        stored = served.stored(item_id)
        return stored, pictures.image(stored)

    return _jpeg(*await state.pictures.run(made), v)


@router.post(
    "/{gallery}/items", status_code=201, responses=documented(403, 409, 507, *OF_PICTURE), openapi_extra=PICTURE_BODY
)
async def add_item(
    request: Request, gallery: str, file_name: FileName = "picture", class_name: NewClass = None
) -> ItemAnswer:
    """Add a picture. The same bytes under the same name and class are added once."""
    state = state_of(request)
    served = state.galleries.named(gallery)
    if served.uploads is None:
        raise ApiError(403, f"{served.name} takes no pictures: the server must be started with --uploads FOLDER")
    content = await picture_body(request)
    return await state.decoding.run(lambda: item_answer(served, uploads.add(served, content, file_name, class_name)))


@router.delete(
    "/{gallery}/items/{item_id}", status_code=204, responses=documented(403, 404, 507), response_class=Response
)
async def delete_item(request: Request, gallery: str, item_id: str) -> Response:
    """Remove a picture from the gallery. Its file is deleted only if it was uploaded."""
    state = state_of(request)
    served = state.galleries.named(gallery)
    if served.uploads is None:
        raise ApiError(403, f"{served.name} cannot be changed: the server must be started with --uploads FOLDER")
    await state.pictures.run(lambda: uploads.remove(served, served.stored(item_id)))
    return Response(status_code=204)


def item_answer(served: Served, stored: StoredPicture) -> ItemAnswer:
    """A stored picture as JSON has it."""
    facts = stored.facts
    return ItemAnswer(
        id=str(stored.id),
        class_name=facts.class_name,
        file_name=pictures.file_name(stored),
        size=facts.file.size,
        width=facts.width,
        height=facts.height,
        added=stored.added,
        **addresses(served, stored),
    )


def _jpeg(stored: StoredPicture, content: bytes, version: str) -> Response:
    is_current = version == version_of(stored)
    cache = f"private, max-age={KEPT_SECONDS}, immutable" if is_current else "no-store"
    return Response(content, media_type="image/jpeg", headers={"Cache-Control": cache})

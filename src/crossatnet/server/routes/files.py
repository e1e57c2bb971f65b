"""The routes of pictures' files: their places and originals, several at once, and the folders they lie in."""

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response, StreamingResponse

from crossatnet.gallery import StoredPicture
from crossatnet.server import places
from crossatnet.server.errors import ApiError, documented
from crossatnet.server.galleries import Served
from crossatnet.server.pictures import file_name
from crossatnet.server.schemas import (
    FolderAnswer,
    FoldersAnswer,
    FolderToIndex,
    IndexingAnswer,
    PathsAnswer,
    PlaceAnswer,
    PlacesAnswer,
    Selection,
)
from crossatnet.server.state import State, state_of

router = APIRouter(prefix="/api/v1", tags=["files and folders"])

Download = Annotated[bool, Query(description="Let the browser save the file, not show it.")]
Below = Annotated[str | None, Query(max_length=4000, description="The folder whose folders are listed.")]


@router.get("/galleries/{gallery}/items/{item_id}/place", responses=documented(404))
async def get_place(request: Request, gallery: str, item_id: str) -> PlaceAnswer:
    """Where a picture's file lies, and what is known of the photo."""
    state = state_of(request)
    served = state.galleries.named(gallery)
    return await state.pictures.run(lambda: places.place(served.stored(item_id)))


@router.get(
    "/galleries/{gallery}/items/{item_id}/original",
    responses={**documented(404, 409), 200: {"content": {"image/*": {}}, "description": "The file as it is."}},
    response_class=Response,
)
async def get_original(request: Request, gallery: str, item_id: str, download: Download = False) -> Response:
    """The picture's file, byte for byte, with all that it tells of where and when it was taken."""
    state = state_of(request)
    served = state.galleries.named(gallery)

    def read() -> tuple[StoredPicture, bytes, str]:
        stored = served.stored(item_id)
        return stored, *places.original(stored)

    stored, content, kind = await state.pictures.run(read)
    disposition = "attachment" if download or kind == places.PLAIN else "inline"
    name = quote(file_name(stored), safe="", errors="replace")
    headers = {"Content-Disposition": f"{disposition}; filename*=UTF-8''{name}", "Cache-Control": "no-store"}
    return Response(content, media_type=kind, headers=headers)


@router.post(
    "/galleries/{gallery}/items/{item_id}/reveal",
    status_code=204,
    responses=documented(403, 404, 409),
    response_class=Response,
)
async def reveal_item(request: Request, gallery: str, item_id: str) -> Response:
    """Show the picture's file in the file manager of the server's machine, if the server is for that machine only."""
    state = state_of(request)
    served = state.galleries.named(gallery)
    if not state.is_local:
        raise ApiError(403, "the file manager would open on another machine: only a server on loopback may do that")
    await state.pictures.run(lambda: places.reveal(served.stored(item_id)))
    return Response(status_code=204)


@router.post(
    "/selection/archive",
    responses={**documented(404, 413, 422), 200: {"content": {"application/zip": {}}, "description": "A ZIP file."}},
    response_class=Response,
)
async def get_archive(request: Request, selection: Selection) -> Response:
    """The files of several pictures as one ZIP; those whose file is gone are named in it."""
    state = state_of(request)
    chosen = _chosen(state, selection)
    made = await state.pictures.run(lambda: places.archive(chosen))
    headers = {"Content-Disposition": 'attachment; filename="pictures.zip"', "Cache-Control": "no-store"}
    return StreamingResponse(places.pieces(made), media_type="application/zip", headers=headers)


@router.post("/selection/paths", responses=documented(404, 422))
async def get_paths(request: Request, selection: Selection) -> PathsAnswer:
    """The paths of several pictures' files, in order."""
    state = state_of(request)
    chosen = _chosen(state, selection)
    return PathsAnswer(paths=await state.pictures.run(lambda: places.paths(chosen)))


@router.get("/galleries/{gallery}/folders", responses=documented(404))
async def list_folders(request: Request, gallery: str) -> FoldersAnswer:
    """The folders of a gallery's pictures, as the condition `folder` takes them."""
    state = state_of(request)
    served = state.galleries.named(gallery)
    found = await state.pictures.run(lambda: places.folders(served))
    return FoldersAnswer(folders=[FolderAnswer(folder=folder, pictures=count) for folder, count in found])


@router.get("/places", responses=documented(403, 404))
async def list_places(request: Request, below: Below = None) -> PlacesAnswer:
    """Folders of the server's machine that may be added to a gallery."""
    state = state_of(request)
    return await state.pictures.run(lambda: state.indexing.places(below))


@router.post("/galleries/{gallery}/indexing", status_code=202, responses=documented(403, 404, 409, 422))
async def add_folder(request: Request, gallery: str, folder: FolderToIndex) -> IndexingAnswer:
    """Begin to add a folder of the server's machine, or to bring the gallery in step with it."""
    state = state_of(request)
    served = state.galleries.named(gallery)
    return await state.pictures.run(lambda: state.indexing.start(served, folder.path))


@router.get("/galleries/{gallery}/indexing", responses=documented(404))
async def get_indexing(request: Request, gallery: str) -> IndexingAnswer:
    """How far the adding of a folder is."""
    state = state_of(request)
    return state.indexing.state(state.galleries.named(gallery))


@router.delete("/galleries/{gallery}/indexing", responses=documented(404))
async def stop_indexing(request: Request, gallery: str) -> IndexingAnswer:
    """Stop adding; what is stored stays, and adding the folder again goes on from there."""
    state = state_of(request)
    served = state.galleries.named(gallery)
    await state.pictures.run(state.indexing.stop)
    return state.indexing.state(served)


def _chosen(state: State, selection: Selection) -> list[tuple[Served, str]]:
    return [(state.galleries.named(item.gallery), item.id) for item in selection.items]

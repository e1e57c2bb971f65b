"""Opens the backend of a gallery by its place: a file's path, or milvus://HOST:PORT/NAME."""

from pathlib import Path

from crossatnet.gallery.backend import Backend, MadeWith
from crossatnet.gallery.milvus.calls import SCHEME, Address
from crossatnet.gallery.sqlite.store import Store
from crossatnet.system.consistency import Consistency
from crossatnet.system.errors import UserError


def open_backend(place: str | Path, consistency: Consistency = "session") -> Backend:
    """Open the gallery at a place. Raises `GalleryMissingError` if there is none.

    `consistency` is for galleries on a server; one in a file always shows all that anybody wrote.
    """
    if isinstance(place, str) and place.startswith(SCHEME):
        from crossatnet.gallery.milvus.backend import MilvusBackend  # of the extra `scale`

        return MilvusBackend.open(Address.parse(place), consistency)
    return Store.open(Path(place))


def create_backend(place: str | Path, made_with: MadeWith, thumbnail_side: int = 0) -> Backend:
    """Make an empty gallery at a place. Raises `UserError` if there is something already."""
    if isinstance(place, str) and place.startswith(SCHEME):
        from crossatnet.gallery.milvus.backend import MilvusBackend

        if thumbnail_side:
            raise UserError(f"{place}: a gallery on a server keeps no thumbnails; leave out --thumbnails")
        return MilvusBackend.create(Address.parse(place), made_with)
    return Store.create(Path(place), made_with, thumbnail_side)

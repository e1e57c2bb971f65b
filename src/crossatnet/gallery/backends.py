"""Opens the backend of a gallery by its place: a file's path, or milvus://HOST:PORT/NAME."""

from dataclasses import replace
from pathlib import Path

from crossatnet.gallery.backend import Backend, MadeWith
from crossatnet.gallery.embedder import Embedder, finds_regions
from crossatnet.gallery.milvus.calls import SCHEME, Address
from crossatnet.gallery.sqlite.store import Store
from crossatnet.system.consistency import Consistency
from crossatnet.system.errors import UserError
from crossatnet.system.recall import RECALL, check_recall


def made_with_of(place: str | Path, model: Embedder, regions: bool) -> MadeWith:
    """What a new gallery remembers of its model, and whether it keeps `regions` of its pictures.

    Raises `UserError` for regions of a model that finds none.

    Example:
        >>> from crossatnet import CrossATNet
        >>> from crossatnet.gallery.backends import made_with_of
        >>> model = CrossATNet.from_pretrained("crossatnet-open", runtime="onnx")
        >>> made_with_of("my.gallery", model, regions=False).regions
        False
    """
    made_with = MadeWith(model.fingerprint, model.source, model.name, model.dimension, model.code_bits)
    if not regions:
        return made_with
    if not finds_regions(model):
        raise UserError(f"{place}: {model.name} finds no regions; make the gallery without --regions on")
    return replace(made_with, regions=True, region_settings=model.region_settings)


def open_backend(place: str | Path, consistency: Consistency = "session", recall: float = RECALL) -> Backend:
    """Open the gallery at a place. Raises `GalleryMissingError` if there is none, `UserError` for no share as `recall`.

    `consistency` is for galleries on a server; one in a file always shows all that anybody wrote. `recall` is what
    searches of a large gallery must find of what the exact search finds.
    """
    check_recall(recall)
    if isinstance(place, str) and place.startswith(SCHEME):
        from crossatnet.gallery.milvus.backend import MilvusBackend  # of the extra `scale`

        return MilvusBackend.open(Address.parse(place), consistency, recall)
    return Store.open(Path(place), recall)


def create_backend(place: str | Path, made_with: MadeWith, thumbnail_side: int = 0) -> Backend:
    """Make an empty gallery at a place. Raises `UserError` if there is something already."""
    if isinstance(place, str) and place.startswith(SCHEME):
        from crossatnet.gallery.milvus.backend import MilvusBackend

        if thumbnail_side:
            raise UserError(f"{place}: a gallery on a server keeps no thumbnails; leave out --thumbnails")
        return MilvusBackend.create(Address.parse(place), made_with)
    return Store.create(Path(place), made_with, thumbnail_side)

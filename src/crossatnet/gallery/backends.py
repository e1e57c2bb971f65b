"""Opens the backend of a gallery by its place: a file's path, or milvus://HOST:PORT/NAME."""

from pathlib import Path

from crossatnet.gallery.backend import Backend, MadeWith
from crossatnet.gallery.embedder import Embedder, finds_regions
from crossatnet.gallery.milvus.calls import SCHEME, Address
from crossatnet.gallery.sqlite.store import Store
from crossatnet.system.errors import UserError

NO_REGIONS = "regions are kept by galleries in a file only"


def may_keep_regions(place: str | Path) -> bool:
    """Whether a gallery at a place can keep regions of its pictures.

    Example:
        >>> from crossatnet.gallery.backends import may_keep_regions
        >>> may_keep_regions("my.gallery"), may_keep_regions("milvus://localhost:19530/mine")
        (True, False)
    """
    return not (isinstance(place, str) and place.startswith(SCHEME))


def made_with_of(place: str | Path, model: Embedder, regions: bool | None) -> MadeWith:
    """What a new gallery remembers of its model; `regions` None: kept if the model finds them and the place may.

    Raises `UserError` for regions of a model that finds none.

    Example:
        >>> from crossatnet import CrossATNet
        >>> from crossatnet.gallery.backends import made_with_of
        >>> model = CrossATNet.from_pretrained("crossatnet-open", runtime="onnx")
        >>> made_with_of("my.gallery", model, regions=False).regions
        False
    """
    if regions and not finds_regions(model):
        raise UserError(f"{place}: {model.name} finds no regions; make the gallery with --regions off")
    keeps_regions = finds_regions(model) and may_keep_regions(place) if regions is None else regions
    return MadeWith(
        model.fingerprint, model.source, model.name, model.dimension, model.code_bits, regions=keeps_regions
    )


def open_backend(place: str | Path) -> Backend:
    """Open the gallery at a place. Raises `GalleryMissingError` if there is none."""
    if isinstance(place, str) and place.startswith(SCHEME):
        from crossatnet.gallery.milvus.backend import MilvusBackend  # of the extra `scale`

        return MilvusBackend.open(Address.parse(place))
    return Store.open(Path(place))


def create_backend(place: str | Path, made_with: MadeWith, thumbnail_side: int = 0) -> Backend:
    """Make an empty gallery at a place. Raises `UserError` if there is something already."""
    if isinstance(place, str) and place.startswith(SCHEME):
        from crossatnet.gallery.milvus.backend import MilvusBackend

        if thumbnail_side:
            raise UserError(f"{place}: a gallery on a server keeps no thumbnails; leave out --thumbnails")
        if made_with.regions:
            raise UserError(f"{place}: {NO_REGIONS}; make it with --regions off")
        return MilvusBackend.create(Address.parse(place), made_with)
    return Store.create(Path(place), made_with, thumbnail_side)

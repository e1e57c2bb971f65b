"""From what a user calls a gallery's place to the backend that keeps it."""

from pathlib import Path

from crossatnet.gallery.backend import Backend, Checkpoint
from crossatnet.gallery.store import Store


def open_backend(place: str | Path) -> Backend:
    """Open the gallery at a place. Raises `GalleryMissingError` if there is none."""
    return Store.open(Path(place))


def create_backend(place: str | Path, checkpoint: Checkpoint, thumbnail_side: int = 0) -> Backend:
    """Make an empty gallery at a place. Raises `UserError` if there is something already."""
    return Store.create(Path(place), checkpoint, thumbnail_side)

"""The gallery that is served if none is given: everyday things, drawn by other artists than the sketches."""

from pathlib import Path

from crossatnet.config import cache_directory
from crossatnet.data.catalog import by_another_hand
from crossatnet.data.layouts import quickstart
from crossatnet.data.quickstart import build_quickstart
from crossatnet.gallery import Gallery, GalleryMissingError
from crossatnet.runtime.load import load
from crossatnet.server.settings import THUMBNAIL_SIDE, Place
from crossatnet.system.files import write_whole
from crossatnet.system.progress import gallery_progress

CHECKPOINT = "crossatnet-quickstart"
TITLE = "Quickstart: everyday things"
CREDITS = "Pictures: Twemoji, copyright Twitter, Inc and other contributors, CC BY 4.0."


def quickstart_place(quiet: bool = False) -> Place:
    """The quickstart gallery in the cache folder; made or completed if needed.

    Raises `UserError` if the drawings are not installed.
    """
    folder = cache_directory() / "serve"
    pictures = _copied(build_quickstart(cache_directory() / "quickstart", progress=not quiet), folder / "pictures")
    model = load(CHECKPOINT)
    file = folder / model.fingerprint[:12] / "quickstart.gallery"  # one gallery for each checkpoint
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        gallery = Gallery.open(file, model)
    except GalleryMissingError:
        gallery = Gallery.create(file, model, THUMBNAIL_SIDE)
    with gallery, gallery_progress("indexing the quickstart pictures", quiet) as report:
        gallery.add_folder(pictures, report)
    return Place(str(file), TITLE, CREDITS)


def _copied(data: Path, folder: Path) -> Path:
    """Copies of the pictures by other artists than the sketches; file and folder are named like the class."""
    for item in by_another_hand(list(quickstart(data))):
        copy = folder / item.class_name / f"{item.class_name}{item.path.suffix}"
        if not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            write_whole(copy, item.path.read_bytes())
    return folder

"""The gallery that is served when none is given: everyday things that were drawn by another hand than the sketches."""

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
    """The quickstart gallery in the cache folder, made or finished first.

    Raises `UserError` if the drawings are not installed.
    """
    folder = cache_directory() / "serve"
    pictures = _copied(build_quickstart(cache_directory() / "quickstart", progress=not quiet), folder / "pictures")
    model = load(CHECKPOINT)
    file = folder / model.fingerprint[:12] / "quickstart.gallery"  # another checkpoint makes another gallery
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        gallery = Gallery.open(file, model)
    except GalleryMissingError:
        gallery = Gallery.create(file, model, THUMBNAIL_SIDE)
    with gallery, gallery_progress("indexing the quickstart pictures", quiet) as report:
        gallery.add_folder(pictures, report)
    return Place(str(file), TITLE, CREDITS)


def _copied(data: Path, folder: Path) -> Path:
    """The pictures by the hand that drew no sketch, each in a folder of its class's name and called like it."""
    for item in by_another_hand(list(quickstart(data))):
        copy = folder / item.class_name / f"{item.class_name}{item.path.suffix}"
        if not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            write_whole(copy, item.path.read_bytes())
    return folder

"""Pictures that are sent to a gallery: kept in a folder of their own, completely or not at all."""

import re
import unicodedata
from pathlib import Path

from crossatnet.data.hashes import content_hash, short_hash
from crossatnet.data.images import check_picture, load_image
from crossatnet.data.pictures.formats import PHOTOS
from crossatnet.gallery import StoredPicture
from crossatnet.server.errors import ApiError
from crossatnet.server.galleries import Served
from crossatnet.server.settings import UPLOAD_PIXELS
from crossatnet.system.files import write_whole

SUFFIXES = {each.name: each.suffixes[0] for each in PHOTOS}
LONGEST_STEM = 80


def add(served: Served, content: bytes, name: str, class_name: str | None) -> StoredPicture:
    """Keep a picture file's bytes in the uploads folder and add it to the gallery.

    The file's name is made from `name`, the hash of its bytes and its real format, so that the same upload always gives
    the same file. Raises `ImageError` for a picture that cannot be used and `ApiError` 422 for a class that cannot be a
    folder's name.
    """
    form = check_picture(content, UPLOAD_PIXELS)
    load_image(content, UPLOAD_PIXELS)  # raises if any part cannot be read, before anything is kept
    assert served.uploads is not None, "the route refuses uploads without a folder"
    folder = served.uploads / _checked_class(class_name) if class_name else served.uploads
    folder.mkdir(parents=True, exist_ok=True)
    folder = folder.resolve()
    if not folder.is_relative_to(served.uploads.resolve()):
        raise ApiError(422, "class_name: its folder is a link to another place; take another class")
    path = folder / f"{_safe_stem(name)}-{short_hash(content_hash(content))}{SUFFIXES[form]}"
    was_there = path.exists()
    write_whole(path, content, durable=True)
    try:
        return served.gallery.add_picture(path, class_name)
    except BaseException:
        if not was_there:
            path.unlink(missing_ok=True)
        raise


def remove(served: Served, stored: StoredPicture) -> None:
    """Remove a picture, and its file if it lies in the uploads folder. Raises `ApiError` 404 if it is gone."""
    path = Path(stored.facts.path)
    if not served.gallery.store.remove([stored.facts.path]):
        raise ApiError(404, f"no picture of that id in {served.name}; it was just removed")
    if served.uploads is not None and path.parent.resolve().is_relative_to(served.uploads.resolve()):
        path.unlink(missing_ok=True)


def _checked_class(name: str) -> str:
    """A class name that can be a folder's name, from which `crossatnet index` takes it. Raises `ApiError` 422."""
    is_plain = all(character.isprintable() and character not in '/\\:*?"<>|' for character in name)
    if not is_plain or name.startswith(".") or name != name.strip() or len(name.encode()) > 200:
        raise ApiError(422, "class_name: give letters, digits, spaces and dashes, beginning with a letter or digit")
    return name


def _safe_stem(name: str) -> str:
    """A file's name without anything that could mean a folder, a hidden file or a suffix."""
    stem = Path(name.replace("\\", "/")).name.rpartition(".")[0] or Path(name.replace("\\", "/")).name
    plain = unicodedata.normalize("NFKC", stem)
    return re.sub(r"[^\w-]+", "-", plain).strip("-_")[:LONGEST_STEM] or "picture"

"""Pictures that are sent to a gallery: kept in a folder of their own, whole or not at all."""

import os
import re
import tempfile
import unicodedata
from pathlib import Path

from crossatnet.data.hashes import content_hash, short_hash
from crossatnet.data.images import check_picture, load_image
from crossatnet.gallery import StoredPicture
from crossatnet.server.errors import ApiError
from crossatnet.server.galleries import Served
from crossatnet.server.settings import UPLOAD_PIXELS

SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "GIF": ".gif", "BMP": ".bmp", "TIFF": ".tif"}
LONGEST_STEM = 80


def add(served: Served, content: bytes, name: str, class_name: str | None) -> StoredPicture:
    """Keep a picture file's bytes in the uploads folder and add it to the gallery.

    The file's name is made of `name`, the hash of its bytes and its real format, so the same upload again is the same
    file. Raises `ImageError` for what cannot be used and `ApiError` 422 for a class that cannot be a folder's name.
    """
    form = check_picture(content, UPLOAD_PIXELS)
    load_image(content, UPLOAD_PIXELS)  # all of it can be read, before anything is kept
    assert served.uploads is not None, "the route refuses where none are taken"
    folder = served.uploads / _checked_class(class_name) if class_name else served.uploads
    folder.mkdir(parents=True, exist_ok=True)
    folder = folder.resolve()
    if not folder.is_relative_to(served.uploads.resolve()):
        raise ApiError(422, "class_name: its folder is a link to elsewhere; take another class")
    path = folder / f"{_safe_stem(name)}-{short_hash(content_hash(content))}{SUFFIXES[form]}"
    was_there = path.exists()
    _write(path, content)
    try:
        return served.gallery.add_picture(path, class_name)
    except BaseException:
        if not was_there:
            path.unlink(missing_ok=True)
        raise


def remove(served: Served, stored: StoredPicture) -> None:
    """Forget a picture; delete its file if it lies in the uploads folder. Raises `ApiError` 404 if it is gone."""
    path = Path(stored.facts.path)
    if not served.gallery.store.remove([stored.facts.path]):
        raise ApiError(404, f"no picture of that id in {served.name}; it was just removed")
    if served.uploads is not None and path.parent.resolve().is_relative_to(served.uploads.resolve()):
        path.unlink(missing_ok=True)


def _checked_class(name: str) -> str:
    """A class name that can be a folder's: `crossatnet index` takes it from there. Raises `ApiError` 422."""
    is_plain = all(character.isprintable() and character not in '/\\:*?"<>|' for character in name)
    if not is_plain or name.startswith(".") or name != name.strip() or len(name.encode()) > 200:
        raise ApiError(422, "class_name: give letters, digits, spaces and dashes, beginning with a letter or digit")
    return name


def _safe_stem(name: str) -> str:
    """What is left of a file's name when nothing in it can mean a folder, a hidden file or a suffix."""
    stem = Path(name.replace("\\", "/")).name.rpartition(".")[0] or Path(name.replace("\\", "/")).name
    plain = unicodedata.normalize("NFKC", stem)
    return re.sub(r"[^\w-]+", "-", plain).strip("-_")[:LONGEST_STEM] or "picture"


def _write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all; hidden until then, so that an index run passes over it."""
    descriptor, made = tempfile.mkstemp(prefix=".upload-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(made).replace(path)
    except BaseException:
        Path(made).unlink(missing_ok=True)
        raise

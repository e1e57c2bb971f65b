"""Pictures on their way out and in: only what was indexed is read, and only what was decoded and encoded is sent.

A picture is served if its file still has the bytes that were indexed, told by their hash. So neither a link put in
its place nor another file can be had through the server, whatever happens to the folder meanwhile.
"""

import hashlib
import io
import os
import stat
from functools import lru_cache
from pathlib import Path

from PIL import Image

from crossatnet.data.images import MAX_BYTES, ImageError, load_image
from crossatnet.gallery.backend import Item
from crossatnet.gallery.reading import make_thumbnail
from crossatnet.server.errors import ApiError
from crossatnet.server.galleries import Served
from crossatnet.server.settings import IMAGE_SIDE, THUMBNAIL_SIDE, THUMBNAILS_KEPT

QUALITY = 88


def file_name(item: Item) -> str:
    """The picture's name without its folder: where it lies is nobody's business."""
    return Path(item.facts.path).name


def read_known(item: Item) -> bytes:
    """The bytes of an item's file. Raises `ApiError` 409 if they are not those that were indexed."""
    refusal = ApiError(409, f"{file_name(item)}: its file is gone or has changed since it was indexed; index it again")
    stamp = item.facts.stamp
    try:
        # a pipe put in the file's place must not block
        descriptor = os.open(item.facts.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise refusal from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size != stamp.size or status.st_size > MAX_BYTES:
        os.close(descriptor)
        raise refusal
    with os.fdopen(descriptor, "rb") as file:
        try:
            content = file.read(stamp.size)
        except OSError as error:
            raise refusal from error
    if hashlib.sha256(content).hexdigest() != stamp.content_hash:
        raise refusal
    return content


def thumbnail(served: Served, item: Item) -> bytes:
    """A JPEG of at most `THUMBNAIL_SIDE`: the stored one if it fits, else made of the file and remembered a while."""
    stored = served.gallery.store.thumbnail(item.id)
    if stored is not None:
        is_small = served.gallery.store.thumbnail_side <= THUMBNAIL_SIDE
        return stored if is_small else make_thumbnail(stored, THUMBNAIL_SIDE)
    return _made_thumbnail(_Remembered(item))


def image(item: Item) -> bytes:
    """A JPEG of the picture, its longest side at most `IMAGE_SIDE`; nothing of the file but its pixels."""
    picture = load_image(read_known(item), enough=IMAGE_SIDE)
    picture.thumbnail((IMAGE_SIDE, IMAGE_SIDE))
    return encoded(picture, "JPEG")


def encoded(picture: Image.Image, form: str) -> bytes:
    """A picture as the bytes of a file."""
    made = io.BytesIO()
    picture.save(made, form, **({"quality": QUALITY} if form == "JPEG" else {}))
    return made.getvalue()


class _Remembered:
    """An item as the key of its thumbnail: that of the bytes that were indexed."""

    def __init__(self, item: Item) -> None:
        self.item = item

    def __hash__(self) -> int:
        return hash(self.item.facts.stamp.content_hash)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Remembered) and (
            self.item.facts.stamp.content_hash == other.item.facts.stamp.content_hash
        )


@lru_cache(maxsize=THUMBNAILS_KEPT)
def _made_thumbnail(remembered: _Remembered) -> bytes:
    return make_thumbnail(read_known(remembered.item), THUMBNAIL_SIDE)


def readable(item: Item) -> bytes:
    """As `read_known`, for those who leave out what cannot be had: raises `ImageError`."""
    try:
        return read_known(item)
    except ApiError as error:
        raise ImageError(error.detail) from error

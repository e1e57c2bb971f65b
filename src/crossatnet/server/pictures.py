"""Pictures on their way out and in: only what was indexed is read, and only what was decoded and encoded is sent.

A picture is served if its file still has the bytes that were indexed, told by their hash. So neither a link put in
its place nor another file can be had through the server, whatever happens to the folder meanwhile.
"""

import io
import os
import stat
import threading
from collections import OrderedDict
from pathlib import Path

from PIL import Image

from crossatnet.data.hashes import content_hash
from crossatnet.data.images import MAX_BYTES, load_image
from crossatnet.gallery import StoredPicture
from crossatnet.gallery.ingest.reading import make_thumbnail
from crossatnet.server.errors import ApiError
from crossatnet.server.galleries import Served
from crossatnet.server.settings import IMAGE_SIDE, THUMBNAIL_SIDE, THUMBNAILS_KEPT
from crossatnet.system.errors import ImageError

QUALITY = 88


class Thumbnails:
    """The thumbnails made last, by the hash of what they were made of; asked from several threads."""

    def __init__(self, most: int = THUMBNAILS_KEPT) -> None:
        self._most = most
        self._made: OrderedDict[str, bytes] = OrderedDict()  # the latest used last
        self._lock = threading.Lock()

    def get(self, stored: StoredPicture) -> bytes:
        """The thumbnail of a stored picture, made now if it is not among those kept. Raises as `read_known`."""
        key = stored.facts.file.content_hash
        with self._lock:
            if key in self._made:
                self._made.move_to_end(key)
                return self._made[key]
        made = make_thumbnail(read_known(stored), THUMBNAIL_SIDE)
        with self._lock:
            self._made[key] = made
            if len(self._made) > self._most:
                self._made.popitem(last=False)
        return made


def file_name(stored: StoredPicture) -> str:
    """The picture's name without its folder: where it lies is nobody's business."""
    return Path(stored.facts.path).name


def read_known(stored: StoredPicture) -> bytes:
    """The bytes of a stored picture's file. Raises `ApiError` 409 if they are not those that were indexed."""
    refusal = ApiError(
        409, f"{file_name(stored)}: its file is gone or has changed since it was indexed; index it again"
    )
    known = stored.facts.file
    try:
        # a pipe put in the file's place must not block
        descriptor = os.open(stored.facts.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise refusal from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size != known.size or status.st_size > MAX_BYTES:
        os.close(descriptor)
        raise refusal
    with os.fdopen(descriptor, "rb") as file:
        try:
            content = file.read(known.size)
        except OSError as error:
            raise refusal from error
    if content_hash(content) != known.content_hash:
        raise refusal
    return content


def thumbnail(served: Served, stored: StoredPicture, kept: Thumbnails) -> bytes:
    """A JPEG of at most `THUMBNAIL_SIDE`: the stored one if it fits, else one made of the file."""
    jpeg = served.gallery.store.thumbnail(stored.id)
    if jpeg is not None:
        is_small = served.gallery.store.thumbnail_side <= THUMBNAIL_SIDE
        return jpeg if is_small else make_thumbnail(jpeg, THUMBNAIL_SIDE)
    return kept.get(stored)


def image(stored: StoredPicture) -> bytes:
    """A JPEG of the picture, its longest side at most `IMAGE_SIDE`; nothing of the file but its pixels."""
    picture = load_image(read_known(stored), enough=IMAGE_SIDE)
    picture.thumbnail((IMAGE_SIDE, IMAGE_SIDE))
    return encoded(picture, "JPEG")


def encoded(picture: Image.Image, form: str) -> bytes:
    """A picture as the bytes of a file."""
    made = io.BytesIO()
    picture.save(made, form, **({"quality": QUALITY} if form == "JPEG" else {}))
    return made.getvalue()


def readable(stored: StoredPicture) -> bytes:
    """As `read_known`, for those who leave out what cannot be had: raises `ImageError`."""
    try:
        return read_known(stored)
    except ApiError as error:
        raise ImageError(error.detail) from error

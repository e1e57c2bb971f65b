"""Pictures that are sent to clients: only indexed files are read, and only decoded and encoded pixels are sent.

A picture is served only if its file still has the bytes that were indexed; their hash is compared. So the server never
sends another file, even if somebody changes the folder or puts a link in the picture's place. What lies in a store is
fetched from there: no more than was stored, for a bounded time, and never from an address that a client names.
"""

import io
import os
import stat
import threading
from collections import OrderedDict
from pathlib import Path

from PIL import Image

from crossatnet.data.elsewhere import is_elsewhere
from crossatnet.data.hashes import content_hash
from crossatnet.data.images import small_jpeg
from crossatnet.data.photos import START_OF_JPEG
from crossatnet.data.pictures.opening import MAX_BYTES
from crossatnet.gallery import StoredPicture
from crossatnet.gallery.ingest.reading import make_thumbnail
from crossatnet.gallery.originals import fetched
from crossatnet.server.errors import ApiError
from crossatnet.server.galleries import Served
from crossatnet.server.settings import IMAGE_SIDE, THUMBNAIL_SIDE, THUMBNAILS_KEPT
from crossatnet.system.errors import ImageError

QUALITY = 88


class Thumbnails:
    """The thumbnails used last, by the hash of their picture's file; called from several threads."""

    def __init__(self, most: int = THUMBNAILS_KEPT) -> None:
        self._most = most
        self._made: OrderedDict[str, bytes] = OrderedDict()  # the one used last is at the end
        self._lock = threading.Lock()

    def get(self, stored: StoredPicture, kept: bytes | None = None) -> bytes:
        """The thumbnail of a stored picture, made now if it is not held. Raises as `read_known` does.

        It is made of the one that the gallery keeps, if that can be read, for what is sent must be pixels: a gallery
        may hold anything in a thumbnail's place.
        """
        key = stored.facts.file.content_hash
        with self._lock:
            if key in self._made:
                self._made.move_to_end(key)
                return self._made[key]
        made = _remade(kept) or make_thumbnail(read_known(stored), THUMBNAIL_SIDE)
        with self._lock:
            self._made[key] = made
            if len(self._made) > self._most:
                self._made.popitem(last=False)
        return made


def _remade(kept: bytes | None) -> bytes | None:
    """A kept thumbnail, decoded and encoded again; None where there is none, or no picture."""
    if kept is None or not kept.startswith(START_OF_JPEG):
        return None
    try:
        return make_thumbnail(kept, THUMBNAIL_SIDE)
    except ImageError:
        return None


def file_name(stored: StoredPicture) -> str:
    """The picture's name without its folder, which clients must not know."""
    return Path(stored.facts.path).name


def read_known(stored: StoredPicture) -> bytes:
    """The bytes of a stored picture's file. Raises `ApiError` 409 if they are not those that were indexed."""
    refusal = ApiError(
        409, f"{file_name(stored)}: its file is gone or has changed since it was indexed; index it again"
    )
    known = stored.facts.file
    if is_elsewhere(stored.facts.path):
        try:
            return fetched(stored)
        except ImageError as error:
            raise refusal from error
    try:
        # # not blocking, as somebody may have put a pipe in the file's place
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


def thumbnail(served: Served, stored: StoredPicture, made: Thumbnails) -> bytes:
    """A JPEG of at most `THUMBNAIL_SIDE`, made of the one that the gallery keeps, or of the file."""
    return made.get(stored, served.gallery.store.thumbnail(stored.id))


def image(stored: StoredPicture) -> bytes:
    """A JPEG of the picture's pixels, its longest side at most `IMAGE_SIDE`; no other part of the file is in it."""
    return small_jpeg(read_known(stored), IMAGE_SIDE, QUALITY)


def encoded(picture: Image.Image, form: str) -> bytes:
    """A picture as the bytes of a file."""
    made = io.BytesIO()
    picture.save(made, form, **({"quality": QUALITY} if form == "JPEG" else {}))
    return made.getvalue()


def readable(stored: StoredPicture) -> bytes:
    """As `read_known`, but raises `ImageError`, for callers that leave out pictures they cannot read."""
    try:
        return read_known(stored)
    except ApiError as error:
        raise ImageError(error.detail) from error

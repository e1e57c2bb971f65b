"""The pictures that hits are of, as they were stored, where they are no files of their own."""

from crossatnet.data.elsewhere import fetch, is_elsewhere
from crossatnet.data.hashes import content_hash
from crossatnet.data.images import Picture
from crossatnet.gallery.backend import StoredPicture
from crossatnet.system.errors import ImageError, UserError


def picture_of(stored: StoredPicture) -> Picture:
    """A stored picture's file, or its content where it lies elsewhere. Raises `ImageError` if that cannot be had."""
    return fetched(stored) if is_elsewhere(stored.facts.path) else stored.facts.path


def fetched(stored: StoredPicture) -> bytes:
    """The content of a stored picture in a store or an archive; no more is read than was stored, nor for longer.

    Raises `ImageError` if it is not there, is another by now, or its store does not answer in time.
    """
    path, known = stored.facts.path, stored.facts.file
    try:
        content = fetch(path, known.size)
    except (UserError, OSError) as error:  # TimeoutError among them
        raise ImageError(f"{path}: cannot be fetched ({type(error).__name__}); try again, or index it again") from error
    if content_hash(content) != known.content_hash:
        raise ImageError(f"{path}: has changed since it was indexed; index it again")
    return content

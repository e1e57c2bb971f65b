"""Reads one picture file for a gallery: its bytes, their hash, and the network's input made from them."""

import io
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crossatnet.data.hashes import content_hash
from crossatnet.data.images import load_image, picture_size
from crossatnet.data.pictures.opening import MAX_BYTES
from crossatnet.gallery.backend import Facts, FileState
from crossatnet.gallery.embedder import Embedder
from crossatnet.system.errors import ImageError
from crossatnet.system.files import open_plain

READINGS = 3  # of a file that changes while it is read; then it is skipped
THUMBNAIL_QUALITY = 80


@dataclass(frozen=True)
class Decoded:
    """A picture that is new or has changed; `thumbnail` is a JPEG, empty if none is kept."""

    facts: Facts
    pixels: NDArray[np.uint8]  # (S, S, 3)
    thumbnail: bytes


@dataclass(frozen=True)
class Touched:
    """A file that was written again with the same bytes as the stored one."""

    path: str
    state: FileState


@dataclass(frozen=True)
class Skipped:
    """A file that could not be used, and why."""

    path: str
    reason: str


Reading = Decoded | Touched | Skipped


class ChangingError(Exception):
    """A file changed during every reading."""


@dataclass(frozen=True)
class Reader:
    """Reads and decodes pictures below a folder; called from several threads."""

    root: Path
    model: Embedder
    thumbnail_side: int

    def read(self, path: str, stored: FileState | None) -> Reading:
        """The decoded picture, or why there is none; raises nothing for a bad file. `stored` is its stored state."""
        try:
            content, state = read_file(path)
            if stored is not None and stored.content_hash == state.content_hash:
                return Touched(path, state)
            return self.decode(path, content, state)
        except ImageError as error:
            return Skipped(path, str(error).removeprefix("the uploaded picture: "))
        except ChangingError:
            return Skipped(path, "kept changing while it was read; index again when it is whole")
        except FileNotFoundError:
            return Skipped(path, "vanished while the folder was indexed")
        except OSError as error:
            return Skipped(path, error.strerror or str(error))

    def decode(self, path: str, content: bytes, state: FileState) -> Decoded:
        """The picture in a file's bytes. Raises `ImageError`."""
        pixels = self.model.preprocess(content, "photo")
        width, height = picture_size(content)
        thumbnail = make_thumbnail(content, self.thumbnail_side) if self.thumbnail_side else b""
        parent = Path(path).parent
        class_name = None if parent == self.root else parent.name
        return Decoded(Facts(path, class_name, state, width, height), pixels, thumbnail)


def is_unchanged(path: str, stored: FileState | None) -> bool:
    """Whether size and time of change equal the stored ones, so that the file need not be read."""
    if stored is None:
        return False
    try:
        now = Path(path).stat()
    except OSError:
        return False  # reading it will give the reason
    return (now.st_size, now.st_mtime_ns) == (stored.size, stored.mtime_ns)


def read_file(path: str) -> tuple[bytes, FileState]:
    """The bytes and the state of a file, from one reading during which the file did not change.

    Raises `OSError` if it cannot be read, `ImageError` if it is too large, and `ChangingError`.
    """
    with open_plain(path) as file:
        for _ in range(READINGS):
            before = os.fstat(file.fileno())
            if before.st_size > MAX_BYTES:
                raise ImageError(f"larger than {MAX_BYTES // 1_000_000} MB; make it smaller")
            file.seek(0)
            content = file.read(MAX_BYTES + 1)
            after = os.fstat(file.fileno())
            if len(content) == before.st_size and before.st_mtime_ns == after.st_mtime_ns:
                return content, FileState(before.st_size, before.st_mtime_ns, content_hash(content))
    raise ChangingError


def make_thumbnail(content: bytes, side: int) -> bytes:
    """A JPEG of the picture in `content`, its longer side not above `side` pixels. Raises `ImageError`."""
    image = load_image(content, enough=side)
    image.thumbnail((side, side))
    made = io.BytesIO()
    image.save(made, "JPEG", quality=THUMBNAIL_QUALITY)
    return made.getvalue()

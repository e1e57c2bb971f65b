"""Reads one picture file for a gallery: its bytes, their hash, and the network's input made from them.

Shapes: `S` the side of the network's square input, `H W` a picture that regions are cut from.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crossatnet.data import elsewhere
from crossatnet.data.elsewhere import Entry, class_of, is_elsewhere
from crossatnet.data.hashes import content_hash
from crossatnet.data.images import picture_size, small_jpeg
from crossatnet.data.looks import look
from crossatnet.data.metadata import read_metadata
from crossatnet.data.pictures.opening import MAX_BYTES
from crossatnet.data.sidecars import Sidecars, read_sidecars, sidecar_state
from crossatnet.gallery.backend import Description, Facts, FileState
from crossatnet.gallery.embedder import Embedder, finds_regions
from crossatnet.gallery.ingest.moved import Claims
from crossatnet.system.errors import ImageError
from crossatnet.system.files import open_plain

NO_SIDECARS = Sidecars("", ())
READINGS = 3  # of a file that changes while it is read; then it is skipped
THUMBNAIL_QUALITY = 80


@dataclass(frozen=True)
class Decoded:
    """A picture that is new or has changed; `thumbnail` is a JPEG, empty if none is kept."""

    facts: Facts
    pixels: NDArray[np.uint8]  # (S, S, 3)
    thumbnail: bytes
    full: NDArray[np.uint8] | None = None  # (H, W, 3), where regions are looked for


@dataclass(frozen=True)
class Touched:
    """A file with the same bytes as the stored one: written again, or not yet described, as `description` now does."""

    path: str
    state: FileState
    description: Description | None = None


@dataclass(frozen=True)
class Moved:
    """A file that was stored under another path, which is gone, and its new facts."""

    origin: str
    facts: Facts


@dataclass(frozen=True)
class Skipped:
    """A file that could not be used, and why."""

    path: str
    reason: str


Reading = Decoded | Touched | Moved | Skipped


class ChangingError(Exception):
    """A file changed during every reading."""


@dataclass(frozen=True)
class Reader:
    """Reads and decodes pictures below a folder, or of a source elsewhere; called from several threads.

    `moves` None: none are recognised.
    """

    root: Path | str
    model: Embedder
    thumbnail_side: int
    moves: Claims | None = None
    regions: bool = False

    def read(self, path: str, stored: FileState | None, listed: Entry | None = None) -> Reading:
        """The decoded picture, or why there is none. `stored` is its stored state; one elsewhere is `listed`.

        Raises nothing for a bad file, but `UserError` for a store that does not answer: there the run ends.
        """
        try:
            content, state = read_file(path) if listed is None else read_listed(listed)
            beside = read_sidecars(path) if listed is None else NO_SIDECARS
            state = replace(state, sidecar=beside.state)
            if stored is not None and stored.content_hash == state.content_hash:
                is_described = stored.is_described and stored.sidecar in (None, beside.state)
                return Touched(path, state, None if is_described else self._described(path, content, beside.packets))
            moves = self.moves if stored is None and listed is None else None
            if moves and (origin := moves.claim(state.content_hash, path)):
                return self._moved(origin, path, state, content, beside.packets)
            return self.decode(path, content, state, beside.packets)
        except ImageError as error:
            return Skipped(path, str(error).removeprefix("the uploaded picture: "))
        except ChangingError:
            return Skipped(path, "kept changing while it was read; index again when it is whole")
        except FileNotFoundError:
            return Skipped(path, "vanished while the folder was indexed")
        except OSError as error:
            return Skipped(path, error.strerror or str(error))

    def decode(self, path: str, content: bytes, state: FileState, packets: Sequence[bytes] = ()) -> Decoded:
        """The picture in a file's bytes, with the XMP `packets` beside it. Raises `ImageError`."""
        pixels, full = self._pixels(content)
        width, height = picture_size(content)
        thumbnail = make_thumbnail(content, self.thumbnail_side) if self.thumbnail_side else b""
        description = Description(read_metadata(content, Path(path).name, packets), look(Image.fromarray(pixels)))
        return Decoded(Facts(path, self._class(path), state, width, height, description), pixels, thumbnail, full)

    def _pixels(self, content: bytes) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        if self.regions and finds_regions(self.model):
            return self.model.preprocess_with_regions(content)
        return self.model.preprocess(content, "photo"), None

    def _described(
        self, path: str, content: bytes, packets: Sequence[bytes], before: Description | None = None
    ) -> Description:
        shown = before.look if before else look(Image.fromarray(self.model.preprocess(content, "photo")))
        return Description(read_metadata(content, Path(path).name, packets), shown)

    def _moved(self, origin: Facts, path: str, state: FileState, content: bytes, packets: Sequence[bytes]) -> Moved:
        description = self._described(path, content, packets, origin.description)
        facts = replace(origin, path=path, class_name=self._class(path), file=state, description=description)
        return Moved(origin.path, facts)

    def _class(self, path: str) -> str | None:
        if is_elsewhere(path):
            return class_of(path, str(self.root))
        parent = Path(path).parent
        return None if parent == self.root else parent.name


def is_up_to_date(path: str, stored: FileState | None, listed: Entry | None = None) -> bool:
    """Whether a picture is stored with all that is known of it, and its files' sizes and times equal the stored ones.

    Then the file need not be read. Programs can set back the time of change (mtime), but not the time at which the
    system noted a change (ctime). A picture elsewhere has the mark of its version in that time's place.
    """
    if stored is None or not stored.is_described:
        return False
    if listed is not None:
        is_same = (listed.size, listed.mtime_ns) == (stored.size, stored.mtime_ns)
        return is_same and listed.mark is not None and stored.ctime_ns in (None, listed.mark)
    try:
        now = Path(path).stat()
    except OSError:
        return False  # reading it will give the reason
    is_same = (now.st_size, now.st_mtime_ns) == (stored.size, stored.mtime_ns)
    return is_same and stored.ctime_ns in (None, now.st_ctime_ns) and stored.sidecar in (None, sidecar_state(path))


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
                return content, FileState(after.st_size, after.st_mtime_ns, content_hash(content), after.st_ctime_ns)
    raise ChangingError


def read_listed(entry: Entry) -> tuple[bytes, FileState]:
    """As `read_file`, for a picture in a store or an archive, as it was listed."""
    content = elsewhere.read(entry)
    if len(content) != entry.size:
        raise ChangingError
    return content, FileState(entry.size, entry.mtime_ns, content_hash(content), entry.mark)


def make_thumbnail(content: bytes, side: int) -> bytes:
    """A JPEG of the picture in `content`, its longer side not above `side` pixels. Raises `ImageError`."""
    return small_jpeg(content, side, THUMBNAIL_QUALITY)

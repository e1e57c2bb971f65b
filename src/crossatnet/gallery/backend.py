"""Where a gallery keeps its items: the interface of every backend, such as the SQLite store.

Letters: `N` items, `Q` queries, `K` hits of a query, `R` regions, `D` embedding dimension, `B` bytes of a packed code.

An item is a picture file. Its key is its path; its content hash shows whether it changed. The backend gives it an id:
an integer of 64 bits, kept when the file changes or moves, never used for another picture. What a method changed is
durable once the method has returned. Methods may be called from several threads, and raise `UserError` for what a user
can fix.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from crossatnet.data.elsewhere import TAR
from crossatnet.data.metadata import Metadata
from crossatnet.system.errors import UserError

LARGEST_ID = (1 << 63) - 1
STORED_FLOAT = np.dtype("<f2")  # of embeddings: takes half the space, and changes a cosine by less than 0.001
BOX_STEPS = 240  # a coordinate of a box is stored as a byte: halves, thirds, fifths and eighths of a side exactly
NO_ITEM = -1  # in place of an id, where fewer hits were found than the row has room for


class GalleryMissingError(UserError):
    """There is no gallery at this place (yet)."""


class GalleryReplacedError(UserError):
    """Another gallery was put in the place of one that is open."""


@dataclass(frozen=True)
class MadeWith:
    """The model a gallery was made with, and how; embeddings of another model cannot be compared with its own."""

    fingerprint: str
    source: str
    name: str
    dimension: int
    code_bits: int
    regions: bool = False  # whether regions of its pictures are kept too
    region_settings: str = ""  # how the model found them


@dataclass(frozen=True)
class FileState:
    """The state of a stored file when it was embedded: enough to see whether it changed. Size in bytes.

    `ctime_ns`, which no program can set back, is None where it is not known; of a picture in a store or an archive it
    is the mark of its version (see `crossatnet.data.elsewhere`). `is_described` tells whether all that this
    version reads of a photo is stored. `sidecar` is the state of the XMP files beside it (see
    `crossatnet.data.sidecars`): "" if there are none, None where it is not kept.
    """

    size: int
    mtime_ns: int
    content_hash: str
    ctime_ns: int | None = None
    is_described: bool = field(default=True, compare=False)
    sidecar: str | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Description:
    """What is known of a photo, and its look (see `crossatnet.data.looks`), by which its copies are recognised."""

    metadata: Metadata
    look: int


@dataclass(frozen=True)
class Facts:
    """What is stored of a picture besides its code and embedding. `path` is absolute, width and height in pixels.

    `description` is None where it was never read: in galleries of older versions, and on servers.
    """

    path: str
    class_name: str | None
    file: FileState
    width: int
    height: int
    description: Description | None = None


@dataclass(frozen=True)
class StoredPicture:
    """One stored picture. `added` is the time its path was first stored (ISO 8601, UTC, whole seconds)."""

    id: int
    facts: Facts
    added: str


@dataclass(frozen=True)
class Filter:
    """Which items may be found: those that meet every condition. `Filter()` admits all items.

    `path_prefix` is compared letter by letter: end it with a slash to mean a folder. `folder` is the name of a folder,
    or several joined by slashes, anywhere in the path. The times limit when an item was added; they are local if they
    name no time zone. `taken_since` and `taken_before` limit when a photo was taken, by its camera's clock; a photo
    whose date is not known meets neither. What is given with `before` is not included. `tags` must all be there; so
    must `words`, in the path, the class, the tags or the caption, as whole words or as their beginnings. Case counts
    only for class names and `path_prefix`.
    """

    class_names: tuple[str, ...] = ()
    path_prefix: str = ""
    added_since: datetime | None = None
    added_before: datetime | None = None
    folder: str = ""
    taken_since: datetime | None = None
    taken_before: datetime | None = None
    tags: tuple[str, ...] = ()
    words: str = ""

    @property
    def asks_what_is_known(self) -> bool:
        """Whether there are conditions on what only some backends keep."""
        return bool(self.folder or self.taken_since or self.taken_before or self.tags or self.words)


EVERYTHING = Filter()


@dataclass(frozen=True)
class Choice:
    """What of a folder is wanted: patterns to leave out, whether links out of it are followed, and videos read."""

    exclude: tuple[str, ...] = ()
    follow_links: bool = False
    videos: bool = False


@dataclass(frozen=True)
class Root:
    """A folder, absolute, that a gallery was indexed from, and what of it is wanted."""

    folder: Path
    choice: Choice = Choice()


def check_finite(embeddings: NDArray[np.float32], name: str) -> None:
    """Raise `UserError` if an embedding (N, D) that is to be stored in the gallery `name` is NaN or infinite.

    Example:
        >>> import numpy as np
        >>> from crossatnet.gallery.backend import check_finite
        >>> check_finite(np.ones((1, 4), np.float32), "my.gallery")
    """
    if not np.isfinite(embeddings).all():
        raise UserError(f"{name}: an embedding is NaN or infinite, so nothing was stored; check the model that made it")


def path_range(prefix: str) -> tuple[str, str]:
    """`(first, end)` such that a path begins with `prefix` exactly if first <= path < end, letter by letter.

    Example:
        >>> from crossatnet.gallery.backend import path_range
        >>> first, end = path_range("/photos/")
        >>> first <= "/photos/owl.jpg" < end, first <= "/photosets/owl.jpg" < end
        (True, False)
    """
    return prefix, prefix + chr(sys.maxunicode)


def below(folder: Path | str) -> str:
    """What the paths below a folder, a store's prefix or a tar archive begin with.

    Example:
        >>> from crossatnet.gallery.backend import below
        >>> below("/photos"), below("s3://photos/2019/"), below("/photos/shard-0.tar")
        ('/photos/', 's3://photos/2019/', '/photos/shard-0.tar:')
    """
    place = str(folder).rstrip("/")
    return f"{place}:" if place.endswith(TAR) and not Path(place).is_dir() else f"{place}/"


class CodedRegions(NamedTuple):
    """The regions of one picture, as `crossatnet.model.regions.Regions` has them, with their hash codes."""

    boxes: NDArray[np.float32]  # (R, 4): left, top, right, bottom as fractions of the upright picture
    packed: NDArray[np.uint8]  # (R, B)
    embeddings: NDArray[np.float32]  # (R, D)


def box_bytes(boxes: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Boxes (R, 4), fractions of a picture, as they are stored: in steps of 1 / `BOX_STEPS`.

    Example:
        >>> import numpy as np
        >>> from crossatnet.gallery.backend import box_bytes
        >>> box_bytes(np.array([[0, 0.25, 0.5, 1]], np.float32)).tolist()
        [[0, 60, 120, 240]]
    """
    return np.rint(np.clip(boxes, 0, 1) * BOX_STEPS).astype(np.uint8)


def box_fractions(stored: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Boxes (R, 4) as fractions of their pictures, of what `box_bytes` gave.

    Example:
        >>> import numpy as np
        >>> from crossatnet.gallery.backend import box_fractions
        >>> box_fractions(np.array([[0, 60, 120, 240]], np.uint8)).tolist()
        [[0.0, 0.25, 0.5, 1.0]]
    """
    return (stored / BOX_STEPS).astype(np.float32)


class Nearest(NamedTuple):
    """The best items of each query, best first, equal scores by id; padded with `NO_ITEM`, -inf and NaN."""

    ids: NDArray[np.int64]  # (Q, K)
    scores: NDArray[np.float32]  # (Q, K), cosines, or shares of equal bits
    boxes: NDArray[np.float32] | None = None  # (Q, K, 4) of the region that an item was found by, NaN for the whole


class Backend(Protocol):
    """A place that keeps items and finds the nearest."""

    @property
    def name(self) -> str:
        """The gallery's name in messages: a file's path, or an address."""

    @property
    def made_with(self) -> MadeWith:
        """The model whose embeddings are kept."""

    @property
    def thumbnail_side(self) -> int:
        """Longer side, in pixels, of the thumbnails that `put` expects; 0 if none are kept."""

    def __len__(self) -> int:
        """Number of items."""

    def close(self) -> None:
        """Close the gallery; closing it twice does no harm."""

    def put(
        self,
        pictures: Sequence[Facts],
        packed: NDArray[np.uint8],
        embeddings: NDArray[np.float32],
        thumbnails: Sequence[bytes] = (),
        regions: Sequence[CodedRegions] = (),
    ) -> int:
        """Store a batch: all of it, or on failure nothing that counts as stored. Returns how many paths were new.

        `packed` (N, B) and `embeddings` (N, D), L2-normalised, belong to `pictures`; so do `regions`, where the gallery
        keeps them: those of each picture, or none at all. A path stored before keeps its id
        and time of adding, and everything else is replaced; so the same batch put twice is stored once.
        """

    def touch(self, states: Sequence[tuple[str, FileState]]) -> None:
        """Update size and times of stored paths whose file was written again with the same bytes."""

    def describe(self, descriptions: Sequence[tuple[str, Description]]) -> None:
        """Fill in what is known of stored paths, in one transaction; ids and embeddings stay."""

    def move(self, moves: Sequence[tuple[str, Facts]]) -> None:
        """Give stored paths new facts, another path among them, in one transaction; ids and embeddings stay.

        A path that is no longer stored, or a new one that is taken meanwhile, is passed over.
        """

    def with_content(self, content_hash: str) -> list[str]:
        """The stored paths whose file had these bytes, ascending; always none where a moved file cannot keep its id."""

    def remove(self, paths: Sequence[str]) -> int:
        """Remove these paths; those not stored are ignored. Returns how many were stored."""

    def roots(self) -> list[Root]:
        """The folders that the gallery was indexed from, those first that were given first; none on a server."""

    def remember(self, root: Root) -> None:
        """Remember a folder, with the choice given last; one within another that is remembered is part of that one."""

    def forget(self, folder: Path) -> None:
        """No longer remember a folder and those in it; their pictures stay."""

    def file_states(self, paths: Sequence[str]) -> dict[str, FileState]:
        """The file states of those among `paths` that are stored."""

    def ids(self, paths: Sequence[str]) -> dict[str, int]:
        """The ids of those among `paths` that are stored."""

    def paths_under(self, folder: Path | str) -> Iterator[str]:
        """The stored paths `below` a folder (absolute), a store's prefix or an archive, ascending."""

    def classes(self) -> dict[str | None, int]:
        """The number of items of each class, under None those of no class; classes without items are left out."""

    def pictures(self, ids: Sequence[int]) -> dict[int, StoredPicture]:
        """The stored items among `ids`, by id."""

    def thumbnail(self, item_id: int) -> bytes | None:
        """The stored JPEG of an item, if there is one."""

    def embedding(self, item_id: int) -> NDArray[np.float32] | None:
        """The stored embedding (D,) of an item, if there is one; half precision has changed its length a little."""

    def sample(self, number: int) -> NDArray[np.float32]:
        """Embeddings (N, D) of up to `number` items from all over the gallery, which show how its pictures differ."""

    def nearest(
        self,
        queries: NDArray[np.float32],
        packed: NDArray[np.uint8],
        k: int,
        filter: Filter = EVERYTHING,
        region_penalty: float = 0.0,
    ) -> Nearest:
        """The `k` nearest items of each query: (Q, D), L2-normalised, with their hash codes (Q, B).

        The Hamming distance picks a shortlist among the items that `filter` admits, the cosine orders it. An item's
        score is its cosine, or its best region's less `region_penalty` if that is higher. Exact if all admitted items
        fit into the shortlist. Every change made before the call counts.
        """

    def nearest_codes(
        self, packed: NDArray[np.uint8], k: int, filter: Filter = EVERYTHING, region_penalty: float = 0.0
    ) -> Nearest:
        """The `k` items of those that `filter` admits whose codes differ least from each query's (Q, B).

        A score is the share of equal bits, 1 - distance / bits; a region's distance is greater by what the penalty is
        worth in bits (`shortlist.penalty_bits`). Every change made before the call counts.
        """

    def by_words(self, filter: Filter, k: int, offset: int = 0) -> tuple[list[int], list[float]]:
        """The ids of the `k` items after `offset` that `filter` admits, and their scores, without any drawing.

        With words, the best matches come first, scored by BM25. Without, scores are 0 and the photos taken last come
        first; those of unknown date follow, those added last first.
        """

    def folders(self) -> dict[str, int]:
        """The number of items in each folder that holds some, not counting those in folders below it."""

    def flush(self) -> None:
        """Call it after many changes: it does what makes the next opening fast. Nothing is lost without it."""

    def compact(self) -> None:
        """Free the disk space of removed and changed items."""

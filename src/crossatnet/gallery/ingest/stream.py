"""Fills a gallery from what is listed piece by piece: a store's objects, an archive's members, a long list of paths.

The driver holds one batch of names, or with Ray one round of them, never the whole listing.
"""

import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import TypeVar

from crossatnet.data.elsewhere import Entry, check_source, entries
from crossatnet.data.pictures.formats import PHOTOS, RAW, VIDEO, picture_formats, suffixes
from crossatnet.gallery.backend import Backend
from crossatnet.gallery.embedder import Embedder
from crossatnet.gallery.ingest.folder import (
    PICTURES_A_BATCH,
    BatchFiles,
    IngestSummary,
    Progress,
    Tally,
    embed_batches,
    store_batch,
)
from crossatnet.gallery.ingest.listing import NO_SUFFIX, PassedOver, Reason
from crossatnet.gallery.ingest.reading import Reader
from crossatnet.system.errors import UserError
from crossatnet.system.threads import reading_threads

Item = TypeVar("Item")
NOT_KNOWN = 0  # in place of the number of files in all, for `Progress`
REMOVED_AT_ONCE = 1000


def add_source(
    store: Backend, model: Embedder, source: str, progress: Progress | None = None, verify: bool = False
) -> IngestSummary:
    """Make the gallery hold the pictures of a store's prefix, such as `s3://bucket/photos`, or of a tar archive.

    As `add_folder`, but pictures keep their address as path, and nothing is recognised as moved. An object is not read
    again if its size, time and ETag, or what else its store says of versions, are those stored; a member of an archive
    not if the archive is as it was. Raises `UserError` for a source that cannot be read, or holds no picture.
    """
    started = time.monotonic()
    pictures = Pictures(store, check_source(source))
    store.touch([])  # raises now if the gallery cannot be written, before anything is embedded
    tally = Tally([], ())
    reader = Reader(pictures.source, model, store.thumbnail_side)
    batches = (batch_of(store, part) for part in in_parts(pictures, PICTURES_A_BATCH))
    with closing(embed_batches(reader, batches, reading_threads(), verify)) as embedded:
        for batch in embedded:
            tally.count(batch, store_batch(store, batch))
            if progress is not None:
                progress(tally.done, NOT_KNOWN)
    removed = pictures.remove_gone()
    store.flush()
    return pictures.noted(tally).summary(removed, time.monotonic() - started)


class Pictures:
    """The pictures of a source, listed once; meanwhile it is noted what is passed over, and what is gone.

    Both the listing and the stored paths ascend, so one pass of both together shows which stored ones are not listed.
    """

    def __init__(self, store: Backend, source: str) -> None:
        self.source = source
        self._store = store
        self._stored = store.paths_under(source)
        self._waiting = next(self._stored, None)
        self._gone: list[str] = []
        self._removed = 0
        self._last = ""
        self._is_sorted = True
        self._passed: dict[Reason, Counter[str]] = {}
        self._skipped: list[tuple[str, str]] = []
        self._readable = suffixes(picture_formats())
        self._known = suffixes((*PHOTOS, RAW)) - self._readable
        self._videos = suffixes([VIDEO])

    def __iter__(self) -> Iterator[Entry]:
        found = 0
        try:
            for entry in entries(self.source):
                if self._is_wanted(entry):
                    self._note(entry.path)
                    found += 1
                    yield entry
        except FileNotFoundError as error:
            raise UserError(f"{self.source}: nothing is there; check the address") from error
        if not found:
            raise UserError(f"{self.source}: no pictures there; check the address")

    def remove_gone(self) -> int:
        """Remove the stored pictures that were not listed; how many there were. Call it when all are listed."""
        while self._waiting is not None:
            self._pass()
        if not self._is_sorted:
            self._skipped.append((self.source, "its store lists in no order, so nothing was removed"))
            return 0
        return sum(self._store.remove(part) for part in in_parts(self._gone, REMOVED_AT_ONCE))

    def noted(self, tally: Tally) -> Tally:
        """A tally that also has what was passed over."""
        passed = tuple(PassedOver(reason, dict(kinds)) for reason, kinds in sorted(self._passed.items()))
        tally.pass_over(self._skipped, passed)
        return tally

    def _note(self, path: str) -> None:
        self._is_sorted = self._is_sorted and path > self._last
        self._last = path
        while self._waiting is not None and self._waiting < path:
            self._pass()
        if self._waiting == path:
            self._waiting = next(self._stored, None)

    def _pass(self) -> None:
        """A stored path that was not listed."""
        self._gone.append(str(self._waiting))
        self._waiting = next(self._stored, None)

    def _is_wanted(self, entry: Entry) -> bool:
        inside = PurePosixPath(entry.path.removeprefix(self.source).lstrip("/:"))
        suffix = inside.suffix.lower() or NO_SUFFIX
        if any(part.startswith(".") for part in inside.parts):
            self._passed.setdefault("hidden", Counter())[suffix] += 1
        elif suffix in self._readable:
            try:
                entry.path.encode()
            except UnicodeEncodeError:
                self._skipped.append((ascii(entry.path), "the name is not valid UTF-8; rename it"))
                return False
            return True
        else:
            reason: Reason = "video" if suffix in self._videos else "unreadable" if suffix in self._known else "other"
            self._passed.setdefault(reason, Counter())[suffix if suffix.isprintable() else NO_SUFFIX] += 1
        return False


def listed_paths(file: Path) -> Iterator[str]:
    """The paths in a text file, one a line, absolute; relative ones start at the file's folder.

    Raises `UserError` if it is no UTF-8, or empty.
    """
    root, found = file.resolve().parent, False
    try:
        with file.open(encoding="utf-8") as lines:
            for line in lines:
                if line.strip():
                    found = True
                    yield os.path.normpath(root / line.rstrip("\n"))
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not a list of paths in UTF-8, nor a folder; give either") from error
    if not found:
        raise UserError(f"{file}: an empty list; write the path of a picture into each line")


def batch_of(store: Backend, part: Sequence[str | Entry]) -> BatchFiles:
    """Files, by path or as listed, as one batch with their stored states; a path that stands there twice once."""
    listed = {item.path: item for item in part if isinstance(item, Entry)}
    paths = [*dict.fromkeys(item.path if isinstance(item, Entry) else item for item in part)]
    return BatchFiles(paths, store.file_states(paths), listed)


def in_parts(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """The items in lists of `size`, the last one of the rest.

    Example:
        >>> from crossatnet.gallery.ingest.stream import in_parts
        >>> [*in_parts("abcde", 2)]
        [['a', 'b'], ['c', 'd'], ['e']]
    """
    remaining = iter(items)
    while part := [*islice(remaining, size)]:
        yield part

"""Fills a gallery from a folder. It can be stopped at any moment and run again.

A batch of pictures is stored in one transaction. The batches are cut from the sorted list of all files; only then are
files dropped that are stored already. So a run after a crash forms the same batches as the run before it. As an
embedding's last bits may depend on the other pictures of its batch, only so is the gallery the same byte for byte.

Decoding and, without a GPU, the network use the same cores. With readers that feed a network, one would wait for the
other. So each worker takes a few files, reads, decodes and embeds them on one core, and takes the next.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import reduce
from itertools import compress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crossatnet.data.elsewhere import FETCHERS, Entry
from crossatnet.data.hashes import content_hash
from crossatnet.gallery.backend import Backend, Choice, CodedRegions, Description, Facts, FileState
from crossatnet.gallery.embedder import Embedder, finds_regions
from crossatnet.gallery.ingest.listing import Listing, PassedOver, Reason, list_pictures, outermost
from crossatnet.gallery.ingest.moved import Moves, is_gone
from crossatnet.gallery.ingest.reading import Decoded, Moved, Reader, Reading, Skipped, Touched, is_up_to_date
from crossatnet.gallery.ingest.remembered import list_remembered, remember
from crossatnet.model.regions import Regions
from crossatnet.system.errors import ImageError, UserError
from crossatnet.system.threads import one_core_a_thread, reading_threads

NOT_FINITE = "its embedding is NaN or infinite; check the checkpoint"
PICTURES_A_BATCH = 32  # stored in one transaction
NO_PIXELS = np.empty((0, 0, 3), np.uint8)

Progress = Callable[[int, int], None]
"""Called with (files done, files in all) after each batch; 0 in all where that is not known yet."""
Wanted = tuple[str, FileState | None, Entry | None]
"""A file: its path, its stored state, and how its store or archive lists it."""


@dataclass(frozen=True)
class IngestSummary:
    """What `add_folder` did. Together the numbers, but `removed` and `described`, are those of all files in the folder.

    `skipped` holds (path, reason) for files that could not be used, `passed_over` how many of which kinds were not
    read. `moved` pictures were stored under another path and kept their ids. `described` ones are unchanged, but what
    is known of them was not stored yet, or an XMP file beside them changed.
    """

    added: int
    updated: int
    unchanged: int
    skipped: tuple[tuple[str, str], ...]
    removed: int
    seconds: float
    passed_over: tuple[PassedOver, ...] = ()
    moved: int = 0
    described: int = 0

    @property
    def files(self) -> int:
        """How many files the folders have."""
        passed_over = sum(passed.files for passed in self.passed_over)
        return self.added + self.updated + self.unchanged + self.moved + len(self.skipped) + passed_over

    def joined(self, other: "IngestSummary") -> "IngestSummary":
        """What was done with two folders together."""
        kinds: dict[Reason, Counter[str]] = {}
        for passed in (*self.passed_over, *other.passed_over):
            kinds.setdefault(passed.reason, Counter()).update(passed.kinds)
        return IngestSummary(
            self.added + other.added,
            self.updated + other.updated,
            self.unchanged + other.unchanged,
            (*self.skipped, *other.skipped),
            self.removed + other.removed,
            self.seconds + other.seconds,
            tuple(PassedOver(reason, dict(counts)) for reason, counts in sorted(kinds.items())),
            self.moved + other.moved,
            self.described + other.described,
        )


def add_folder(
    store: Backend,
    model: Embedder,
    folder: Path,
    progress: Progress | None = None,
    choice: Choice | None = None,
    verify: bool = False,
) -> IngestSummary:
    """Make the gallery hold the pictures in `folder` and below as they are now.

    New pictures are embedded and added. A picture whose file changed is embedded again and keeps its id; if it can no
    longer be read, it is reported and its old entry stays. A new file with the bytes of an entry whose file is gone is
    that entry, moved: it keeps its id, and is not embedded again. Other entries whose file is gone, or left out by now,
    are removed. The class name is that of the folder a picture lies in, or None directly in `folder`. With `verify`
    every file is read and its hash compared, as if no time or size could be trusted.

    Hidden files and folders, linked folders, links to files outside `folder` and what programs made are left out unless
    `choice` says otherwise; all that is left out is counted. A file that cannot be used is skipped and reported. Raises
    `UserError` if `folder` is missing, is not a folder or holds no picture (so that a disk that is not mounted does not
    empty the gallery), or if the gallery cannot be written.
    """
    return add_folders(store, model, [folder], progress, choice, verify)


def add_folders(
    store: Backend,
    model: Embedder,
    folders: Sequence[Path],
    progress: Progress | None = None,
    choice: Choice | None = None,
    verify: bool = False,
) -> IngestSummary:
    """Do what `add_folder` does, with several folders; all of them are looked at before the first picture is read.

    A folder within another one of them is part of that one. The gallery remembers them.
    """
    listings = [list_pictures(folder, choice) for folder in outermost(folders)]
    if not listings:
        raise UserError("no folder; give at least one that holds pictures")
    remember(store, [listing.root for listing in listings], choice or Choice())
    return _add_all(store, model, listings, progress, verify)


def update(
    store: Backend,
    model: Embedder,
    progress: Progress | None = None,
    more: Choice | None = None,
    verify: bool = False,
) -> IngestSummary:
    """Do what `add_folder` does, with all folders that the gallery remembers; see `list_remembered`.

    Those that are away are among the skipped.
    """
    listings, away = list_remembered(store, more or Choice())
    summary = _add_all(store, model, listings, progress, verify)
    return replace(summary, skipped=(*summary.skipped, *away))


def _add_all(
    store: Backend, model: Embedder, listings: Sequence[Listing], progress: Progress | None, verify: bool
) -> IngestSummary:
    total, done, summaries = sum(len(listing.files) for listing in listings), 0, []

    def report(files: int, _: int) -> None:
        if progress is not None:
            progress(done + files, total)

    for listing in listings:
        summaries.append(add_listed(store, model, listing, report, verify))
        done += len(listing.files)
    return reduce(IngestSummary.joined, summaries)


def add_listed(
    store: Backend, model: Embedder, listing: Listing, progress: Progress | None = None, verify: bool = False
) -> IngestSummary:
    """Do what `add_folder` does with a folder whose files are listed already."""
    started = time.monotonic()
    store.touch([])  # raises now if the gallery cannot be written, before anything is embedded
    tally = Tally(listing.skipped, listing.passed_over)
    reader = Reader(listing.root, model, store.thumbnail_side, Moves(store), store.made_with.regions)
    with closing(embed_batches(reader, _cut(listing.files, store), reading_threads(), verify)) as batches:
        for batch in batches:
            tally.count(batch, store_batch(store, batch))
            if progress is not None:
                progress(tally.done, len(listing.files))
    removed = remove_gone(store, listing)
    store.flush()
    return tally.summary(removed, time.monotonic() - started)


def embedded_picture(
    store: Backend, model: Embedder, path: Path, class_name: str | None, content: bytes | None = None
) -> "Batch":
    """One picture file, read and embedded but not stored; its `content` if it is known, and not in the file yet.

    Raises `ImageError` if it cannot be used.
    """
    reader = Reader(path.parent, model, store.thumbnail_side, regions=store.made_with.regions)
    if content is None:
        reading = reader.read(str(path), None)
    else:
        reading = reader.decode(str(path), content, FileState(len(content), 0, content_hash(content)))
    batch = _joined(model, BatchFiles([str(path)], {}), [_embedded(reader, [reading])])
    if batch.skipped:
        raise ImageError(f"{path}: {batch.skipped[0][1]}")
    return replace(batch, facts=[replace(facts, class_name=class_name) for facts in batch.facts])


@dataclass(frozen=True)
class BatchFiles:
    """The files of one batch, with their stored states, and how their store or archive `listed` them, if one did."""

    paths: Sequence[str]
    states: Mapping[str, FileState]
    listed: Mapping[str, Entry] = field(default_factory=dict)

    def only(self, paths: Sequence[str]) -> "BatchFiles":
        """Some of these files."""
        states = {path: self.states[path] for path in paths if path in self.states}
        return BatchFiles(paths, states, {path: self.listed[path] for path in paths if path in self.listed})

    def to_read(self, verify: bool = False) -> list[Wanted]:
        """The files that are not up to date, or all of them to `verify`."""
        wanted = [(path, self.states.get(path), self.listed.get(path)) for path in self.paths]
        return [each for each in wanted if verify or not is_up_to_date(*each)]


@dataclass(frozen=True)
class Batch:
    """A batch, read and embedded: `facts` of N new or changed pictures, `packed` (N, B), `embeddings` (N, D).

    `regions` are those of each picture, or none where the gallery keeps none.
    """

    size: int
    stored: frozenset[str]
    facts: list[Facts]
    packed: NDArray[np.uint8]
    embeddings: NDArray[np.float32]
    thumbnails: list[bytes]
    touched: list[tuple[str, FileState]]
    skipped: list[tuple[str, str]]
    moved: list[tuple[str, Facts]]
    described: list[tuple[str, Description]]
    regions: list[CodedRegions]


class Tally:
    """Counts what was done."""

    def __init__(self, skipped: Sequence[tuple[str, str]], passed_over: tuple[PassedOver, ...]) -> None:
        self.done = 0
        self._passed_over = passed_over
        self._added = self._updated = self._unchanged = self._moved = self._described = 0
        self._skipped = [*skipped]

    def count(self, batch: Batch, new: int | None = None) -> None:
        """Count what was done with a batch; `new` of its pictures were not stored before, if that is known.

        What another run has stored since the batch was begun is unchanged: it is counted as added there.
        """
        updated = sum(facts.path in batch.stored for facts in batch.facts)
        added = len(batch.facts) - updated if new is None else min(new, len(batch.facts) - updated)
        self._updated += updated
        self._added += added
        self._unchanged += batch.size - updated - added - len(batch.skipped) - len(batch.moved)
        self._moved += len(batch.moved)
        self._described += len(batch.described)
        self._skipped += batch.skipped
        self.done += batch.size

    def count_unchanged(self, files: int) -> None:
        """Count files that need not be read."""
        self._unchanged += files
        self.done += files

    def pass_over(self, skipped: Sequence[tuple[str, str]], passed_over: tuple[PassedOver, ...]) -> None:
        """Note what was found to be of no use while it was listed."""
        self._skipped += skipped
        self._passed_over += passed_over

    def summary(self, removed: int, seconds: float) -> IngestSummary:
        """All counts, with those that only the caller knows."""
        counts = self._added, self._updated, self._unchanged, tuple(self._skipped), removed, seconds
        return IngestSummary(*counts, self._passed_over, self._moved, self._described)


@dataclass(frozen=True)
class Embedded:
    """The readings of a few files, and the `embeddings` (N, D) and regions of those that were decoded."""

    readings: list[Reading]
    embeddings: NDArray[np.float32]
    regions: list[Regions]


def embed_batches(
    reader: Reader, batches: Iterable[BatchFiles], workers: int, verify: bool = False, batch_size: int | None = None
) -> Generator[Batch]:
    """The batches, read and embedded, in order. Meanwhile `workers` threads work at the next batches.

    Files that are up to date are not read, unless `verify` says so. `batch_size` pictures are embedded at once, as many
    as the model wishes by default.
    """
    model, size = reader.model, batch_size or reader.model.batch_size
    # # so many batches keep all workers busy while the caller stores one
    ahead = 1 + workers * size // PICTURES_A_BATCH
    started: deque[tuple[BatchFiles, list[Future[Embedded]]]] = deque()
    with one_core_a_thread(), _workers(workers) as pool:
        for batch in batches:
            files = batch.to_read(verify)
            shares = [files[start : start + size] for start in range(0, len(files), size)]
            started.append((batch, [pool.submit(_embed_files, reader, share) for share in shares]))
            if len(started) > ahead:
                yield _finished(model, *started.popleft())
        while started:
            yield _finished(model, *started.popleft())


def _embed_files(reader: Reader, files: Sequence[Wanted]) -> Embedded:
    read = FETCHERS.map if files[0][2] else map  # stores answer late, so several are asked at once
    return _embedded(reader, [*read(lambda wanted: reader.read(*wanted), files)])


def _embedded(reader: Reader, readings: list[Reading]) -> Embedded:
    decoded = [reading for reading in readings if isinstance(reading, Decoded)]
    regions: list[Regions] = []
    if not decoded:
        return Embedded(readings, np.empty((0, reader.model.dimension), np.float32), regions)
    pixels = np.stack([reading.pixels for reading in decoded])  # (N, S, S, 3)
    full = [reading.full for reading in decoded if reading.full is not None]  # N of them, or none
    if full and finds_regions(reader.model):
        embeddings, found = reader.model.embed_with_regions(pixels, full)  # (N, D)
        regions = [*found]
    else:
        embeddings = reader.model.embed(pixels, "photo")  # (N, D)
    is_finite = np.asarray(np.isfinite(embeddings).all(axis=1))  # (N,)
    for number, one in enumerate(regions):
        is_finite[number] &= np.isfinite(one.embeddings).all()
    finite = iter(is_finite.tolist())
    kept = [_after_embedding(each, next(finite)) if isinstance(each, Decoded) else each for each in readings]
    return Embedded(kept, embeddings[is_finite], [*compress(regions, is_finite)])


def _after_embedding(picture: Decoded, is_finite: bool) -> Reading:
    """What waits for its batch to be stored: no pixels, which take a thousand times as much memory."""
    return replace(picture, pixels=NO_PIXELS, full=None) if is_finite else Skipped(picture.facts.path, NOT_FINITE)


def _finished(model: Embedder, files: BatchFiles, started: Sequence[Future[Embedded]]) -> Batch:
    """Wait until the threads have embedded a batch's files, and join the results."""
    return _joined(model, files, [share.result() for share in started])


def _joined(model: Embedder, files: BatchFiles, shares: Sequence[Embedded]) -> Batch:
    readings = [reading for share in shares for reading in share.readings]
    decoded = [reading for reading in readings if isinstance(reading, Decoded)]
    embeddings = np.empty((0, model.dimension), np.float32)
    packed = np.empty((0, model.code_bits // 8), np.uint8)
    regions = [one for share in shares for one in share.regions]
    if decoded:
        embeddings = np.concatenate([share.embeddings for share in shares])  # (N, D)
        packed = model.hash(np.concatenate([embeddings, *(one.embeddings for one in regions)]))  # (N and regions, B)
    coded = np.split(packed[len(embeddings) :], np.cumsum([len(one.boxes) for one in regions]))
    return Batch(
        len(files.paths),
        frozenset(files.states),
        [picture.facts for picture in decoded],
        packed[: len(embeddings)],
        embeddings,
        [picture.thumbnail for picture in decoded if picture.thumbnail],
        [(reading.path, reading.state) for reading in readings if isinstance(reading, Touched)],
        [(reading.path, reading.reason) for reading in readings if isinstance(reading, Skipped)],
        [(reading.origin, reading.facts) for reading in readings if isinstance(reading, Moved)],
        [
            (reading.path, reading.description)
            for reading in readings
            if isinstance(reading, Touched) and reading.description is not None
        ],
        [CodedRegions(one.boxes, codes, one.embeddings) for one, codes in zip(regions, coded, strict=False)],
    )


@contextmanager
def _workers(number: int) -> Iterator[ThreadPoolExecutor]:
    """A pool of threads. At its end, jobs that have not begun are dropped, so that a run can be stopped quickly."""
    pool = ThreadPoolExecutor(number)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def store_batch(store: Backend, batch: Batch) -> int:
    """Commit a batch in one transaction, then what changed of pictures whose bytes are known.

    Returns how many pictures were new to the gallery.
    """
    new = 0
    if batch.facts:
        new = store.put(batch.facts, batch.packed, batch.embeddings, batch.thumbnails, batch.regions)
    if batch.moved:
        store.move(batch.moved)
    if batch.described:
        store.describe(batch.described)
    if batch.touched:
        store.touch(batch.touched)
    return new


def remove_gone(store: Backend, listing: Listing) -> int:
    """Remove stored paths below a folder whose file is gone, or that patterns leave out by now. Returns how many."""
    listed = set(listing.files)
    unlisted = (path for path in store.paths_under(listing.root) if path not in listed)
    gone = [path for path in unlisted if listing.leaves_out(path) or is_gone(path)]
    if gone:
        store.remove(gone)
    return len(gone)


def _cut(files: Sequence[str], store: Backend) -> Iterator[BatchFiles]:
    for start in range(0, len(files), PICTURES_A_BATCH):
        paths = files[start : start + PICTURES_A_BATCH]
        yield BatchFiles(paths, store.file_states(paths))

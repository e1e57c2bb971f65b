"""Filling a gallery from a folder, so that it can be stopped at any moment and run again.

Pictures are embedded in batches, and a batch is stored in one transaction. The batches are cut from the sorted list of
all files, before those already stored are dropped: a run that goes on after a crash then forms the very batches that
were missing, and as an embedding's last bits may depend on its batch, the gallery comes out the same byte for byte.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crossatnet.data.images import IMAGE_SUFFIXES
from crossatnet.errors import UserError
from crossatnet.gallery.backend import Backend
from crossatnet.gallery.embedder import Embedder
from crossatnet.gallery.reading import Decoded, Reader, Reading, Skipped, Touched, is_unchanged

BATCH = 32
DECODERS = min(4, os.cpu_count() or 1)  # threads; more only wait for the network

Progress = Callable[[int, int], None]
"""Called with (files done, files in all) after each batch."""


@dataclass(frozen=True)
class IngestSummary:
    """What `add_folder` did. `skipped` holds (path, reason) of files that could not be used."""

    added: int
    updated: int
    unchanged: int
    skipped: tuple[tuple[str, str], ...]
    removed: int
    seconds: float


def add_folder(store: Backend, model: Embedder, folder: Path, progress: Progress | None = None) -> IngestSummary:
    """Make the gallery hold the pictures in `folder` and below as they are now.

    New pictures are embedded and added. One whose file changed is embedded again and keeps its id; if it cannot be read
    any more, it is reported and its old entry stays. Entries whose file is gone are removed. The class name is that of
    the folder a picture lies in, or None directly in `folder`.

    Hidden files and folders are passed over, and so are linked folders and links to files outside `folder`. A file that
    cannot be used is skipped and reported. Raises `UserError` if `folder` is missing, is not a folder or holds no
    picture at all (so a disk that is not mounted does not empty the gallery), or if the gallery cannot be written.
    """
    started = time.monotonic()
    root, files, skipped = list_pictures(folder)
    store.touch([])  # a gallery that cannot be written says so before anything is embedded
    added = updated = unchanged = done = 0
    reader = Reader(root, model, store.thumbnail_side)
    with ThreadPoolExecutor(DECODERS) as pool:
        for chunk in _read_ahead(pool, files, store, reader):
            _store_batch(store, model, chunk.readings)
            decoded = [reading.facts.path for reading in chunk.readings if isinstance(reading, Decoded)]
            failed = [(reading.path, reading.reason) for reading in chunk.readings if isinstance(reading, Skipped)]
            changed = len(chunk.stored.intersection(decoded))
            updated += changed
            added += len(decoded) - changed
            unchanged += chunk.size - len(decoded) - len(failed)
            skipped += failed
            done += chunk.size
            if progress is not None:
                progress(done, len(files))
    listed = set(files)
    gone = [path for path in store.paths_under(root) if path not in listed and _is_gone(path)]
    if gone:
        store.remove(gone)
    store.settle()
    return IngestSummary(added, updated, unchanged, tuple(skipped), len(gone), time.monotonic() - started)


def list_pictures(folder: Path) -> tuple[Path, list[str], list[tuple[str, str]]]:
    """The folder's real path and what `find_pictures` finds there; `UserError` if it is missing or has no pictures."""
    root = _existing_folder(folder)
    files, skipped = find_pictures(root)
    if not files:
        raise UserError(f"{folder}: no pictures there (looked for {', '.join(sorted(IMAGE_SUFFIXES))}); check the path")
    return root, files, skipped


def find_pictures(root: Path) -> tuple[list[str], list[tuple[str, str]]]:
    """All picture files below `root`, sorted, and (path, reason) of folders and files that cannot be entered or named.

    `root` must be absolute and free of links.
    """
    files: list[str] = []
    skipped: list[tuple[str, str]] = []

    def report(error: OSError) -> None:
        skipped.append((str(error.filename), error.strerror or "cannot be read"))

    for folder, subfolders, names in os.walk(root, onerror=report):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for name in names:
            path = Path(folder, name)
            if name.startswith(".") or path.suffix.lower() not in IMAGE_SUFFIXES or not _is_file_inside(path, root):
                continue
            if _is_unicode(str(path)):
                files.append(str(path))
            else:  # bytes that SQLite's text cannot hold
                skipped.append((ascii(str(path)), "the name is not valid UTF-8; rename it"))
    return sorted(files), skipped


def _existing_folder(folder: Path) -> Path:
    """`folder` made absolute and free of links, so that one picture has one path however it is reached."""
    if not folder.exists():
        raise UserError(f"{folder}: no such folder; check the path")
    if not folder.is_dir():
        raise UserError(f"{folder}: not a folder; give the folder that holds the pictures")
    return folder.resolve()


def _is_file_inside(path: Path, root: Path) -> bool:
    if path.is_symlink() and not path.resolve().is_relative_to(root):
        return False
    return path.is_file()  # neither a pipe, which would block the reader, nor a broken link


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_gone(path: str) -> bool:
    """Whether nothing is at `path`. A folder that may not be entered proves nothing, so its pictures are kept."""
    try:
        Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


@dataclass(frozen=True)
class _Chunk:
    """What was read of some files in a row: `size` of them, of which those in `stored` were known before."""

    size: int
    stored: frozenset[str]
    readings: list[Reading]


def _read_ahead(pool: ThreadPoolExecutor, files: Sequence[str], store: Backend, reader: Reader) -> Iterator[_Chunk]:
    """The files in chunks of `BATCH`, in order; while the caller embeds one, the next is decoded."""
    waiting: tuple[int, frozenset[str], list[Future[Reading]]] | None = None
    for start in range(0, len(files), BATCH):
        paths = files[start : start + BATCH]
        stamps = store.stamps(paths)
        started = [
            pool.submit(reader.read, path, stamps.get(path))
            for path in paths
            if not is_unchanged(path, stamps.get(path))
        ]
        if waiting is not None:
            yield _finished(*waiting)
        waiting = (len(paths), frozenset(stamps), started)
    if waiting is not None:
        yield _finished(*waiting)


def _finished(size: int, stored: frozenset[str], started: Sequence[Future[Reading]]) -> _Chunk:
    return _Chunk(size, stored, [future.result() for future in started])


def _store_batch(store: Backend, model: Embedder, readings: Sequence[Reading]) -> None:
    """Embed what was decoded and commit it in one transaction; renew the stamps of what only looked changed."""
    decoded = [reading for reading in readings if isinstance(reading, Decoded)]
    touched = [(reading.path, reading.stamp) for reading in readings if isinstance(reading, Touched)]
    if decoded:
        embeddings = model.embed(np.stack([picture.pixels for picture in decoded]), "photo")  # (N, D)
        thumbnails = [picture.thumbnail for picture in decoded] if store.thumbnail_side else ()
        store.put([picture.facts for picture in decoded], model.hash(embeddings), embeddings, thumbnails)
    if touched:
        store.touch(touched)

"""Filling a gallery from a folder, so that it can be stopped at any moment and run again.

Pictures are embedded in batches, and a batch is stored in one transaction. The batches are cut from the sorted list of
all files, before those already stored are dropped: a run that goes on after a crash then forms the very batches that
were missing, and as an embedding's last bits may depend on its batch, the gallery comes out the same byte for byte.
"""

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crossatnet.data.images import IMAGE_SUFFIXES, MAX_BYTES, ImageError, load_image
from crossatnet.errors import UserError
from crossatnet.gallery.embedder import Embedder
from crossatnet.gallery.store import Facts, Stamp, Store

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


@dataclass(frozen=True)
class _Decoded:
    facts: Facts
    pixels: NDArray[np.uint8]  # (S, S, 3)


@dataclass(frozen=True)
class _Touched:
    """Written anew with the bytes that are stored already."""

    path: str
    stamp: Stamp


@dataclass(frozen=True)
class _Skipped:
    path: str
    reason: str


_Reading = _Decoded | _Touched | _Skipped


def add_folder(store: Store, model: Embedder, folder: Path, progress: Progress | None = None) -> IngestSummary:
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
    stored = store.stamps_under(root)
    chunks = [files[start : start + BATCH] for start in range(0, len(files), BATCH)]
    added = updated = unchanged = 0
    with ThreadPoolExecutor(DECODERS) as pool:
        for number, readings in enumerate(_read_ahead(pool, chunks, _Reader(root, model, stored))):
            _store_batch(store, model, readings)
            decoded = [reading.facts.path for reading in readings if isinstance(reading, _Decoded)]
            failed = [(reading.path, reading.reason) for reading in readings if isinstance(reading, _Skipped)]
            changed = sum(path in stored for path in decoded)
            updated += changed
            added += len(decoded) - changed
            unchanged += len(chunks[number]) - len(decoded) - len(failed)
            skipped += failed
            if progress is not None:
                progress(min((number + 1) * BATCH, len(files)), len(files))
    gone = [path for path in stored if _is_gone(path)]
    if gone:
        store.remove(gone)
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
class _Reader:
    """Reads and decodes one picture; called from several threads."""

    root: Path
    model: Embedder
    stored: dict[str, Stamp]

    def is_unchanged(self, path: str) -> bool:
        """Whether size and time of change are those of the stored picture, so that it need not be read."""
        stamp = self.stored.get(path)
        if stamp is None:
            return False
        try:
            now = Path(path).stat()
        except OSError:
            return False  # `read` will say why
        return (now.st_size, now.st_mtime_ns) == (stamp.size, stamp.mtime_ns)

    def read(self, path: str) -> _Reading:
        """The decoded picture, or why there is none; never raises for a bad file."""
        try:
            content, stamp = _read_file(path)
            if path in self.stored and self.stored[path].content_hash == stamp.content_hash:
                return _Touched(path, stamp)
            image = load_image(content)
            pixels = self.model.preprocess(image, "photo")
        except ImageError as error:
            return _Skipped(path, str(error).removeprefix("the uploaded picture: "))
        except FileNotFoundError:
            return _Skipped(path, "vanished while the folder was indexed")
        except OSError as error:
            return _Skipped(path, error.strerror or str(error))
        parent = Path(path).parent
        class_name = None if parent == self.root else parent.name
        return _Decoded(Facts(path, class_name, stamp, image.width, image.height), pixels)


def _read_file(path: str) -> tuple[bytes, Stamp]:
    """The bytes of a file and their stamp, from one reading: what is hashed is what will be decoded."""
    with Path(path).open("rb") as file:
        status = os.fstat(file.fileno())
        if status.st_size > MAX_BYTES:
            raise ImageError(f"larger than {MAX_BYTES // 1_000_000} MB; make it smaller")
        content = file.read()
    return content, Stamp(status.st_size, status.st_mtime_ns, hashlib.sha256(content).hexdigest())


def _read_ahead(pool: ThreadPoolExecutor, chunks: Sequence[Sequence[str]], reader: _Reader) -> Iterator[list[_Reading]]:
    """What was read of each chunk, in order; while the caller embeds one, the next is decoded."""
    waiting: list[Future[_Reading]] | None = None
    for chunk in chunks:
        started = [pool.submit(reader.read, path) for path in chunk if not reader.is_unchanged(path)]
        if waiting is not None:
            yield [future.result() for future in waiting]
        waiting = started
    if waiting is not None:
        yield [future.result() for future in waiting]


def _store_batch(store: Store, model: Embedder, readings: Sequence[_Reading]) -> None:
    """Embed what was decoded and commit it in one transaction; renew the stamps of what only looked changed."""
    decoded = [reading for reading in readings if isinstance(reading, _Decoded)]
    touched = [(reading.path, reading.stamp) for reading in readings if isinstance(reading, _Touched)]
    if decoded:
        embeddings = model.embed(np.stack([picture.pixels for picture in decoded]), "photo")  # (N, D)
        store.put([picture.facts for picture in decoded], model.hash(embeddings), embeddings)
    if touched:
        store.touch(touched)

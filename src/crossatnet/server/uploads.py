"""Pictures that are sent to a gallery: kept in a folder of their own, completely or not at all.

A picture is a row of the gallery and a file. Both change together, under one lock for all threads, workers and servers
that use the folder. While they change, a mark lies beside the file, so that after a kill the row decides: without it
the file goes too.
"""

import errno
import re
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from crossatnet.data.hashes import content_hash, short_hash
from crossatnet.data.images import check_picture
from crossatnet.data.pictures.formats import PHOTOS
from crossatnet.gallery import PictureGoneError, StoredPicture
from crossatnet.gallery.ingest.folder import Batch
from crossatnet.server.errors import ApiError
from crossatnet.server.galleries import Served
from crossatnet.server.settings import UPLOAD_PIXELS
from crossatnet.system.files import UNFINISHED, locked, open_plain, write_whole

SUFFIXES = {each.name: each.suffixes[0] for each in PHOTOS}
LONGEST_STEM = 80  # bytes; with hash, suffix and mark it fits into a file's name everywhere
LOCK = ".lock"
CHANGING = ".changing"  # ends the name of a mark: ".", the file's name, and this
LOCK_SECONDS = 10.0  # a change takes milliseconds
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}  # of the disk, of a user, of a process


def add(served: Served, content: bytes, name: str, class_name: str | None) -> StoredPicture:
    """Keep a picture file's bytes in the uploads folder and add it to the gallery.

    The file's name is made from `name`, the hash of its bytes and its real format, so that the same upload always gives
    the same file. Raises `ImageError` for a picture that cannot be used, `ApiError` 422 for a class that cannot be a
    folder's name, 507 if the disk is full, and 409 if another program removed the picture at once.
    """
    form = check_picture(content, UPLOAD_PIXELS)
    with _disk_errors():
        folder = _folder(served, class_name)
    path = folder / f"{_safe_stem(name)}-{short_hash(content_hash(content))}{SUFFIXES[form]}"
    embedded = served.gallery.embed_picture(path, class_name, content)  # raises before anything is kept
    with _changing(served), _disk_errors():
        return _kept(served, path, content, embedded)


def remove(served: Served, stored: StoredPicture) -> None:
    """Remove a picture, and its file if it lies in the uploads folder. Raises `ApiError` 404 if it is gone."""
    path = Path(stored.facts.path)
    with _changing(served), _disk_errors():
        is_own = served.uploads is not None and path.parent.resolve().is_relative_to(served.uploads.resolve())
        mark = _mark(path)
        if is_own:
            mark.touch()
        try:
            if not served.gallery.store.remove([stored.facts.path]):
                raise ApiError(404, f"no picture of that id in {served.name}; it was just removed")
            if is_own:
                path.unlink(missing_ok=True)
        finally:
            if is_own:
                mark.unlink(missing_ok=True)


def tidy(served: Served) -> None:
    """Finish what a killed server left half done in the uploads folder: the gallery's row decides whether a file stays.

    Called when a server starts, and beside others that run.
    """
    if served.uploads is None or not served.uploads.is_dir():
        return
    with _changing(served):
        for part in served.uploads.resolve().rglob(f".*{UNFINISHED}"):  # files are written under the lock only
            part.unlink(missing_ok=True)
        for mark in served.uploads.resolve().rglob(f".*{CHANGING}"):
            path = mark.with_name(mark.name.removesuffix(CHANGING)[1:])
            if not served.gallery.store.ids([str(path)]):
                path.unlink(missing_ok=True)
            mark.unlink(missing_ok=True)


def _kept(served: Served, path: Path, content: bytes, embedded: Batch) -> StoredPicture:
    """Write the file and the row, or neither; a file that was there stays."""
    was_there, mark = path.exists(), _mark(path)
    if not was_there:
        mark.touch()
    try:
        if not (was_there and _holds(path, content)):
            write_whole(path, content, durable=True)
        mtime_ns = path.stat().st_mtime_ns
        facts = [replace(each, file=replace(each.file, mtime_ns=mtime_ns)) for each in embedded.facts]
        return served.gallery.store_picture(replace(embedded, facts=facts))
    except PictureGoneError as error:
        raise ApiError(409, f"{path.name}: was removed at once by another program; send it again") from error
    except BaseException:
        if not was_there:
            path.unlink(missing_ok=True)
        raise
    finally:
        mark.unlink(missing_ok=True)


def _holds(path: Path, content: bytes) -> bool:
    with suppress(OSError), open_plain(path) as file:
        return file.read(len(content) + 1) == content
    return False


@contextmanager
def _changing(served: Served) -> Iterator[None]:
    """The one lock of the uploads folder. Raises `ApiError` 503 if it is held for too long."""
    assert served.uploads is not None, "the route refuses changes without a folder"
    with _disk_errors():
        served.uploads.mkdir(parents=True, exist_ok=True)
    try:
        with locked(served.uploads / LOCK, LOCK_SECONDS):
            yield
    except TimeoutError as error:
        raise ApiError(503, "another picture is being kept or removed: try again in a moment", "overloaded") from error


@contextmanager
def _disk_errors() -> Iterator[None]:
    """Turn a full disk into `ApiError` 507."""
    try:
        yield
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise ApiError(507, "the server's disk is full: nothing was kept; make room there and send it again") from error


def _folder(served: Served, class_name: str | None) -> Path:
    """The folder of a class in the uploads folder, made if needed. Raises `ApiError` 422 if there cannot be one."""
    assert served.uploads is not None, "the route refuses uploads without a folder"
    folder = served.uploads / _checked_class(class_name) if class_name else served.uploads
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise ApiError(422, "class_name: is the name of a file there; take another class") from error
    folder = folder.resolve()
    if not folder.is_relative_to(served.uploads.resolve()):
        raise ApiError(422, "class_name: its folder is a link to another place; take another class")
    return folder


def _mark(path: Path) -> Path:
    return path.with_name(f".{path.name}{CHANGING}")


def _checked_class(name: str) -> str:
    """A class name that can be a folder's name, from which `crossatnet index` takes it. Raises `ApiError` 422."""
    is_plain = all(character.isprintable() and character not in '/\\:*?"<>|' for character in name)
    if not is_plain or name.startswith(".") or name != name.strip() or len(name.encode()) > 200:
        raise ApiError(422, "class_name: give letters, digits, spaces and dashes, beginning with a letter or digit")
    return name


def _safe_stem(name: str) -> str:
    """A file's name without anything that could mean a folder, a hidden file or a suffix.

    Its length is counted in bytes, as file systems do: a letter may have four.
    """
    stem = Path(name.replace("\\", "/")).name.rpartition(".")[0] or Path(name.replace("\\", "/")).name
    plain = unicodedata.normalize("NFKC", stem)
    safe = re.sub(r"[^\w-]+", "-", plain).strip("-_").encode()[:LONGEST_STEM].decode(errors="ignore")
    return safe or "picture"

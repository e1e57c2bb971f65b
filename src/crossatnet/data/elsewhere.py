"""Pictures that are no files of their own: objects of a store such as S3, and members of tar archives.

A gallery keeps their addresses as paths: `s3://bucket/cat/1.jpg`, `/data/shard-0.tar:cat/1.jpg`, or
`s3://bucket/shard-0.tar:cat/1.jpg`. The library fsspec reads the stores. It finds credentials itself, as the store's
own tools do; they are no part of an address, and what a store says of an error, which may name them, is not passed on.
"""

import io
import os
import re
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import IO, Any

from crossatnet.data.pictures.opening import MAX_BYTES
from crossatnet.system.errors import ImageError, UserError
from crossatnet.system.files import open_plain

SCHEMES = ("s3", "gs", "gcs", "az", "abfs", "file", "memory")
URL = re.compile(r"([a-z][a-z0-9+.-]*)://")
TAR, MEMBER = ".tar", ".tar:"  # how an archive ends, and what stands between it and a member
VERSIONS = ("ETag", "etag", "generation", "md5Hash", "content_md5", "mtime", "LastModified", "last_modified", "updated")
TIMES = ("mtime", "LastModified", "last_modified", "updated", "created")
FETCHERS = ThreadPoolExecutor(16, "fetch")  # they wait for stores, most of their time
SECONDS = 20.0  # for one picture
MOST_MEMBERS = 1_000_000  # of an archive
PAGE = 1000  # objects of S3, which gives no more at a time
HEADER_BYTES = 1 << 20  # that one header of an archive may have
S3 = {"connect_timeout": 5, "read_timeout": SECONDS, "retries": {"max_attempts": 5, "mode": "standard"}}


@dataclass(frozen=True)
class Entry:
    """A picture elsewhere, as its store or archive lists it.

    `mark` is a number that changes with the content, made from the store's ETag or what else it says of versions; None
    where it says nothing. `offset` is where a member begins in its archive.
    """

    path: str
    size: int
    mtime_ns: int
    mark: int | None
    offset: int = 0


def is_url(path: str) -> bool:
    """Whether a path is the address of a store.

    Example:
        >>> from crossatnet.data.elsewhere import is_url
        >>> is_url("s3://photos/cat.jpg"), is_url("/photos/cat.jpg")
        (True, False)
    """
    return URL.match(path) is not None


def is_elsewhere(path: str) -> bool:
    """Whether a path is no plain file's: a store's address, or a member of an archive that is there."""
    return is_url(path) or archive_of(path) is not None


def is_source(path: str) -> bool:
    """Whether pictures can be listed there by `entries`: a store's prefix or an archive, but no folder."""
    return is_url(path) or (path.endswith(TAR) and not Path(path).is_dir())


def archive_of(path: str) -> str | None:
    """The archive that a path is a member of; None for another path, and for a member of a local one that is gone.

    Example:
        >>> from crossatnet.data.elsewhere import archive_of
        >>> archive_of("s3://photos/shard-0.tar:cat/1.jpg")
        's3://photos/shard-0.tar'
    """
    place, found, _ = path.partition(MEMBER)
    archive = place + TAR
    return archive if found and (is_url(archive) or Path(archive).is_file()) else None


def class_of(path: str, root: str) -> str | None:
    """The name of the folder that a picture lies in; None directly in `root`, a prefix or an archive."""
    inside = path.removeprefix(root).lstrip("/:")
    return PurePosixPath(inside).parent.name or None


def check_source(source: str) -> str:
    """A source as it is kept, without a slash at its end. Raises `UserError` for one that cannot be read."""
    if not is_url(source):
        if not Path(source).is_file():
            raise UserError(f"{source}: no such archive; check the path")
        return str(Path(source).resolve())
    scheme, _, rest = source.partition("://")
    if "@" in rest.partition("/")[0]:
        raise UserError(f"{scheme}://...: no credentials in an address; keep them where the store's own tools look")
    if scheme not in SCHEMES:
        raise UserError(f"{source}: unknown kind of store; there are {', '.join(f'{name}://' for name in SCHEMES)}")
    filesystem(source)
    return source.rstrip("/")


def filesystem(address: str) -> Any:
    """The file system of fsspec that an address is of. Raises `UserError` where its package is not installed."""
    scheme = address.partition("://")[0]
    if scheme not in SCHEMES:
        raise UserError(f"{scheme}://: unknown kind of store; there are {', '.join(SCHEMES)}")
    return _filesystem(scheme)


@cache
def _filesystem(scheme: str) -> Any:
    import fsspec

    options: dict[str, Any] = {"use_listings_cache": False}
    if scheme == "s3":
        options["config_kwargs"] = S3
    try:
        return fsspec.filesystem(scheme, **options)
    except ImportError as error:
        raise UserError(f"{scheme}://: {' '.join(str(error).split())}") from error


def entries(source: str) -> Iterator[Entry]:
    """All files below a source, ascending by path; a page, a folder or an archive's index is in memory at a time.

    Raises `UserError` for a source that cannot be listed.
    """
    if source.endswith(TAR):
        yield from (each for _, each in sorted(_members(source, _version(source)).items()))
        return
    with _reported(source):
        store = filesystem(source)
        yield from _pages(store, source) if hasattr(store, "call_s3") else _walk(store, source)


def read(entry: Entry) -> bytes:
    """The content of a listed picture, as long as it was listed. Raises as `fetch` does."""
    if entry.size > MAX_BYTES:
        raise ImageError(f"larger than {MAX_BYTES // 1_000_000} MB; make it smaller")
    if not entry.size:
        return b""
    archive = archive_of(entry.path)
    place, start = (archive, entry.offset) if archive else (entry.path, 0)
    if not is_url(place):
        with open_plain(place) as file:
            return os.pread(file.fileno(), entry.size, start)
    with _reported(entry.path):
        content: bytes = filesystem(place).cat_file(place, start=start, end=start + entry.size)
        return content


def fetch(path: str, size: int, seconds: float = SECONDS) -> bytes:
    """The content of a picture elsewhere that was stored with this size: one byte more shows that it grew.

    Raises `FileNotFoundError`, `ImageError` for one that is too large, `UserError` for a store that does not answer,
    and `TimeoutError` after so many seconds.
    """
    return FETCHERS.submit(_fetch, path, size).result(seconds)


def _fetch(path: str, size: int) -> bytes:
    archive = archive_of(path)
    if archive is None:
        return read(Entry(path, size + 1, 0, None))
    member = _index(archive, _version(archive)).get(path)
    if member is None:
        raise FileNotFoundError(path)
    return read(member)


def _pages(store: Any, source: str) -> Iterator[Entry]:
    """The objects below a prefix of S3, a page at a time, in S3's order: that of their UTF-8 bytes."""
    bucket, _, key = source.partition("://")[2].partition("/")
    asked = {"Bucket": bucket, "Prefix": f"{key}/" if key else "", "MaxKeys": PAGE}
    while True:
        page = store.call_s3("list_objects_v2", **asked)
        for found in page.get("Contents", ()):
            if not found["Key"].endswith("/"):  # else a folder that somebody's tool has made
                yield _entry(f"s3://{bucket}/{found['Key']}", found, found["Size"])
        if not page.get("IsTruncated"):
            return
        asked["ContinuationToken"] = page["NextContinuationToken"]


def _walk(store: Any, source: str) -> Iterator[Entry]:
    """The files below a folder of any store. A folder sorts by its name with a slash, so all paths come in order."""
    base = store._strip_protocol(source).rstrip("/")

    def found_in(folder: str) -> Iterator[Entry]:
        listed = {facts["name"].rstrip("/"): facts for facts in store.ls(folder, detail=True)}
        names = [name + "/" * (facts["type"] == "directory") for name, facts in listed.items() if name != folder]
        for name in sorted(names):
            facts = listed[name.rstrip("/")]
            if name.endswith("/") and not facts.get("islink"):
                yield from found_in(name.rstrip("/"))
            elif facts["type"] == "file":
                yield _entry(source + name.removeprefix(base), facts, facts["size"])

    yield from found_in(base)


def _entry(path: str, facts: dict[str, Any], size: int) -> Entry:
    time = next((facts[name] for name in TIMES if facts.get(name)), 0.0)
    seconds = time if isinstance(time, int | float) else time.timestamp() if hasattr(time, "timestamp") else 0.0
    return Entry(path, size, int(seconds * 1_000_000_000), _mark(facts))


def _mark(facts: dict[str, Any]) -> int | None:
    known = [f"{name}={facts[name]}" for name in VERSIONS if facts.get(name)]
    known += [f"created={facts['created']}"] if not known and facts.get("created") else []
    return _number("\n".join(known)) if known else None


def _number(text: str) -> int:
    """A number of 63 bits made from a text."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest()) >> 1


def _version(archive: str) -> int:
    """A number that changes when an archive does."""
    if is_url(archive):
        with _reported(archive):
            facts = filesystem(archive).info(archive)
            return _number(f"{facts['size']} {_mark(facts)}")
    status = os.stat(archive)  # noqa: PTH116
    return _number(f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}")


_index = lru_cache(maxsize=4)(lambda archive, version: _members(archive, version))


def _members(archive: str, version: int) -> dict[str, Entry]:
    """The files in an archive by path; of several members of one name the last, as when it is unpacked.

    Only headers are read. What is not a plain file is left out.
    """
    found: dict[str, Entry] = {}
    with _reported(archive), _opened(archive) as file:
        try:
            with tarfile.open(fileobj=_Headers(file), mode="r:") as opened:
                while member := opened.next():
                    opened.members = []  # type: ignore[attr-defined]  # it would keep all of them
                    if not member.isfile() or member.issparse():
                        continue
                    path = f"{archive}:{member.name}"
                    mark = _number(f"{version} {member.offset_data}")
                    time_ns = max(0, min(int(member.mtime * 1_000_000_000), (1 << 63) - 1))
                    found[path] = Entry(path, member.size, time_ns, mark, member.offset_data)
                    if len(found) > MOST_MEMBERS:
                        raise UserError(f"{archive}: more than {MOST_MEMBERS:,} members; cut it into several archives")
        except (tarfile.TarError, OverflowError, ValueError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"{archive}: no tar archive, compressed, or cut off; unpack it, or mend it") from error
    return found


@contextmanager
def _opened(archive: str) -> Iterator[IO[bytes]]:
    opened = filesystem(archive).open(archive, block_size=HEADER_BYTES) if is_url(archive) else open_plain(archive)
    with opened as file:
        yield file


class _Headers(io.RawIOBase):
    """An archive of which only headers are read: a longer read is refused, as a forged header asks for gigabytes."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= HEADER_BYTES:
            raise tarfile.ReadError("a header that is too long")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


@contextmanager
def _reported(place: str) -> Iterator[None]:
    """What a store raises, as `UserError` without its words; a missing object stays a `FileNotFoundError`."""
    try:
        yield
    except (UserError, FileNotFoundError):
        raise
    except PermissionError as error:
        raise UserError(f"{place}: the store refuses access; check the credentials that its own tools use") from error
    except Exception as error:  # each store's client has errors of its own
        name = type(error).__name__
        raise UserError(f"{place}: the store does not answer as it should ({name}); try again, or check it") from error

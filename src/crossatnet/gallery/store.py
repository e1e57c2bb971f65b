"""The gallery on disk: ONE SQLite file that holds every item's facts, hash code and embedding.

Letters: `N` items, `D` embedding dimension, `B` bytes of a packed code.

SQLite in WAL mode lets readers work while one process writes. `synchronous=FULL` makes a committed batch survive a
power cut. It was measured to make a batch of 32 cost 3.4 ms rather than 1.0, against some 400 ms to embed it.
"""

import dataclasses
import itertools
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossatnet.errors import UserError

SCHEMA_VERSION = 1  # kept in the file's `user_version`
APPLICATION_ID = 0x43415447  # "CATG", kept in the file's `application_id`: tells a gallery from any other database
BUSY_TIMEOUT_S = 30.0  # how long to wait for another process's transaction before giving up
CACHE_KIB = 65_536
IDS_A_STATEMENT = 10_000  # under SQLite's limit of 32,766 parameters
STORED_FLOAT = np.dtype("<f2")  # half precision moves a cosine by less than 0.001 and halves the file

# `rewrites` counts changed and removed items: while it stands still, a reader that already holds the codes need
# only fetch those with a higher id, for AUTOINCREMENT never hands out an id twice.
SCHEMA = (
    "CREATE TABLE meta (fingerprint TEXT NOT NULL, source TEXT NOT NULL, name TEXT NOT NULL,"
    " dimension INTEGER NOT NULL, code_bits INTEGER NOT NULL, created TEXT NOT NULL, rewrites INTEGER NOT NULL)",
    "CREATE TABLE items (id INTEGER PRIMARY KEY AUTOINCREMENT, path TEXT NOT NULL UNIQUE, class_name TEXT,"
    " content_hash TEXT NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,"
    " width INTEGER NOT NULL, height INTEGER NOT NULL, added TEXT NOT NULL,"
    " code BLOB NOT NULL, embedding BLOB NOT NULL)",
    "CREATE TRIGGER item_updated AFTER UPDATE OF code ON items BEGIN UPDATE meta SET rewrites = rewrites + 1; END",
    "CREATE TRIGGER item_deleted AFTER DELETE ON items BEGIN UPDATE meta SET rewrites = rewrites + 1; END",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)
INSERT = (
    "INSERT INTO items (path, class_name, content_hash, size, mtime_ns, width, height, added, code, embedding)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (path) DO UPDATE SET class_name = excluded.class_name, content_hash = excluded.content_hash,"
    " size = excluded.size, mtime_ns = excluded.mtime_ns, width = excluded.width, height = excluded.height,"
    " code = excluded.code, embedding = excluded.embedding"
)


class GalleryMissingError(UserError):
    """There is no gallery at this path (yet)."""


@dataclass(frozen=True)
class Checkpoint:
    """The model a gallery was made with; embeddings of another model cannot be compared with its own."""

    fingerprint: str
    source: str
    name: str
    dimension: int
    code_bits: int


@dataclass(frozen=True)
class Stamp:
    """What a stored file looked like when it was embedded: enough to see whether it changed."""

    size: int
    mtime_ns: int
    content_hash: str


@dataclass(frozen=True)
class Facts:
    """All that is stored of a picture but its code and embedding. `path` is absolute, sizes in pixels and bytes."""

    path: str
    class_name: str | None
    stamp: Stamp
    width: int
    height: int


@dataclass(frozen=True)
class Item:
    """One stored picture. `added` is the time its path was first stored (ISO 8601, UTC)."""

    id: int
    facts: Facts
    added: str


@dataclass(frozen=True)
class Codes:
    """Every item's packed code: `ids` int64 (N,) ascending, `packed` uint8 (N, B)."""

    ids: NDArray[np.int64]
    packed: NDArray[np.uint8]
    rewrites: int


class Store:
    """One open gallery file. Its methods may be called from several threads; each is one transaction.

    Every method raises `UserError` if the disk is full, the file is damaged or cannot be written, or another
    process keeps it locked.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, checkpoint: Checkpoint) -> None:
        self.path = path
        self.checkpoint = checkpoint
        self._connection = connection
        self._lock = threading.RLock()

    @classmethod
    def create(cls, path: Path, checkpoint: Checkpoint) -> "Store":
        """Make a new gallery file. Raises `UserError` if there is something at `path` already.

        An empty database, which is what a process killed in this very method leaves behind, is taken over.
        """
        if not path.parent.is_dir():
            raise UserError(f"{path}: the folder {path.parent} does not exist; make it first")
        with _plain_errors(path):
            connection = _connect(path, "rwc")
            with _closed_on_error(connection):
                with _transaction(connection):
                    if not _is_blank(connection):
                        raise UserError(f"{path}: exists already; open it, or choose another name")
                    for statement in SCHEMA:
                        connection.execute(statement)
                    made_with = (*dataclasses.astuple(checkpoint), _now(), 0)  # in the order of the table's columns
                    connection.execute("INSERT INTO meta VALUES (?, ?, ?, ?, ?, ?, ?)", made_with)
                _configure(connection)
        return cls(path, connection, checkpoint)

    @classmethod
    def open(cls, path: Path) -> "Store":
        """Open a gallery file.

        Raises `GalleryMissingError` if there is none, and `UserError` if the file is something else or was made by
        a version of this program whose schema is not known here.
        """
        if not path.exists():
            raise _missing(path)
        with _plain_errors(path):
            connection = _connect(path, "rw")
            with _closed_on_error(connection):
                checkpoint = _read_checkpoint(path, connection)
                _configure(connection)  # only now: WAL mode is written into the file, which must be ours
        return cls(path, connection, checkpoint)

    def close(self) -> None:
        """Close the file; closing twice does no harm."""
        with self._lock:
            self._connection.close()

    def __len__(self) -> int:
        """Number of items."""
        return int(self._rows("SELECT count(*) FROM items")[0][0])

    def version(self) -> tuple[int, int]:
        """A value that differs after any change, by this process or another."""
        with self._lock:
            data_version = self._rows("PRAGMA data_version")[0][0]  # moves with other connections' commits only
            return int(data_version), self._connection.total_changes

    def stamps_under(self, folder: Path) -> dict[str, Stamp]:
        """The stamps of all items whose file lies in `folder` (absolute) or below it, by path."""
        first, end = _path_range(folder)
        rows = self._rows(
            "SELECT path, size, mtime_ns, content_hash FROM items WHERE path >= ? AND path < ?", (first, end)
        )
        return {path: Stamp(size, mtime_ns, content_hash) for path, size, mtime_ns, content_hash in rows}

    def put(self, pictures: Sequence[Facts], packed: NDArray[np.uint8], embeddings: NDArray[np.float32]) -> None:
        """Store a batch in one transaction: all of it, or after a crash nothing.

        `packed` (N, B) and `embeddings` (N, D) belong to `pictures`; a path stored before keeps its id.
        """
        now = _now()
        halves = embeddings.astype(STORED_FLOAT)
        rows = [
            (*_columns(facts), now, code.tobytes(), half.tobytes())
            for facts, code, half in zip(pictures, packed, halves, strict=True)
        ]
        with self._writing() as connection:
            connection.executemany(INSERT, rows)

    def touch(self, stamps: Sequence[tuple[str, Stamp]]) -> None:
        """Renew the stamps of stored paths whose file was written anew with the same bytes."""
        with self._writing() as connection:
            connection.executemany(
                "UPDATE items SET size = ?, mtime_ns = ? WHERE path = ?",
                [(stamp.size, stamp.mtime_ns, path) for path, stamp in stamps],
            )

    def remove(self, paths: Sequence[str]) -> None:
        """Forget these paths, in one transaction; those not stored are ignored."""
        with self._writing() as connection:
            connection.executemany("DELETE FROM items WHERE path = ?", [(path,) for path in paths])

    def items(self, ids: Sequence[int]) -> dict[int, Item]:
        """The stored items among `ids`, by id."""
        columns = "id, path, class_name, size, mtime_ns, content_hash, width, height, added"
        found: dict[int, Item] = {}
        for row in self._rows_of(columns, ids):
            key, path, class_name, size, mtime_ns, content_hash, width, height, added = row
            facts = Facts(path, class_name, Stamp(size, mtime_ns, content_hash), width, height)
            found[key] = Item(key, facts, added)
        return found

    def embeddings(self, ids: Sequence[int]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The ids among `ids` that are stored, ascending (N,), and their embeddings (N, D)."""
        rows = sorted(self._rows_of("id, embedding", ids))
        found = np.array([row[0] for row in rows], dtype=np.int64)  # (N,)
        halves = np.frombuffer(b"".join(row[1] for row in rows), dtype=STORED_FLOAT)
        return found, halves.reshape(-1, self.checkpoint.dimension).astype(np.float32)

    def codes(self, known: Codes | None = None) -> Codes:
        """Every item's code. With `known` from an earlier call only what was added since is read, if possible."""
        width = self.checkpoint.code_bits // 8
        with self._lock, _plain_errors(self.path), _transaction(self._connection, "DEFERRED"):
            rewrites = int(self._connection.execute("SELECT rewrites FROM meta").fetchone()[0])
            if known is None or known.rewrites != rewrites:
                known = Codes(np.empty(0, np.int64), np.empty((0, width), np.uint8), rewrites)
            last = int(known.ids[-1]) if len(known.ids) else 0
            ids: list[int] = []
            packed = bytearray()
            for key, code in self._connection.execute("SELECT id, code FROM items WHERE id > ? ORDER BY id", (last,)):
                ids.append(key)
                packed += code
        new = np.frombuffer(packed, dtype=np.uint8).reshape(-1, width)
        return Codes(
            np.concatenate([known.ids, np.array(ids, np.int64)]), np.concatenate([known.packed, new]), rewrites
        )

    def _rows(self, statement: str, parameters: Sequence[object] = ()) -> list[Any]:
        with self._lock, _plain_errors(self.path):
            return self._connection.execute(statement, parameters).fetchall()

    def _rows_of(self, columns: str, ids: Sequence[int]) -> list[Any]:
        rows: list[Any] = []
        for start in range(0, len(ids), IDS_A_STATEMENT):
            part = ids[start : start + IDS_A_STATEMENT]
            marks = ",".join(itertools.repeat("?", len(part)))
            rows += self._rows(f"SELECT {columns} FROM items WHERE id IN ({marks})", part)
        return rows

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock, _plain_errors(self.path), _transaction(self._connection):
            yield self._connection


def _path_range(folder: Path) -> tuple[str, str]:
    """`(first, end)` such that a path lies below `folder` exactly if first <= path < end, in SQLite's byte order."""
    stem = str(folder).rstrip(os.sep)
    return stem + os.sep, stem + chr(ord(os.sep) + 1)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _columns(facts: Facts) -> tuple[object, ...]:
    stamp = facts.stamp
    return (
        *(facts.path, facts.class_name, stamp.content_hash, stamp.size, stamp.mtime_ns),
        *(facts.width, facts.height),
    )


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    """Open the file in autocommit mode, for use by any thread; `mode` "rw" refuses to make a file, "rwc" makes it."""
    if path.is_dir():
        raise UserError(f"{path}: a folder, not a gallery; give the path of a gallery file")
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=BUSY_TIMEOUT_S,
    )


def _configure(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")


def _is_blank(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is None


def _read_checkpoint(path: Path, connection: sqlite3.Connection) -> Checkpoint:
    """What the gallery was made with, after checking that this program can read the file at all."""
    if _is_blank(connection):
        raise _missing(path)
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise UserError(f"{path}: a database of another program, not a gallery; give the path of a gallery")
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version != SCHEMA_VERSION:
        todo = "upgrade crossatnet" if version > SCHEMA_VERSION else "index the pictures anew"
        raise UserError(f"{path}: has gallery schema {version}, this version reads schema {SCHEMA_VERSION}; {todo}")
    row = connection.execute("SELECT fingerprint, source, name, dimension, code_bits FROM meta").fetchone()
    return Checkpoint(*row)


def _missing(path: Path) -> GalleryMissingError:
    return GalleryMissingError(f"{path}: no gallery there; make one with `crossatnet index FOLDER -o {path}`")


@contextmanager
def _closed_on_error(connection: sqlite3.Connection) -> Iterator[None]:
    try:
        yield
    except BaseException:
        connection.close()
        raise


@contextmanager
def _transaction(connection: sqlite3.Connection, kind: str = "IMMEDIATE") -> Iterator[None]:
    connection.execute(f"BEGIN {kind}")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # on some errors, a full disk for one, SQLite has rolled back already
            connection.execute("ROLLBACK")
        raise


COMPLAINTS = {
    sqlite3.SQLITE_FULL: "the disk is full; make room and run the same command again, finished batches are kept",
    sqlite3.SQLITE_READONLY: "cannot be written; check the permissions of the file and its folder",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened; the file and its folder must be writable",
    sqlite3.SQLITE_NOTADB: "not a gallery; give the path of a file made by `crossatnet index`",
    sqlite3.SQLITE_CORRUPT: "the gallery is damaged; delete it and index the pictures anew",
    sqlite3.SQLITE_BUSY: "another process keeps the gallery locked; try again when it is done",
    sqlite3.SQLITE_IOERR: "the disk failed to read or write; check the disk and its free space",
}


@contextmanager
def _plain_errors(path: Path) -> Iterator[None]:
    """Turn the troubles of SQLite that a user can mend into a `UserError`; what remains is a bug and stays as it is."""
    try:
        yield
    except sqlite3.Error as error:
        primary = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the higher bits only refine it
        if primary not in COMPLAINTS:
            raise
        raise UserError(f"{path}: {COMPLAINTS[primary]} ({error})") from error

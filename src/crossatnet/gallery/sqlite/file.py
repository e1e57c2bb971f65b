"""One open gallery file: its connection, its lock, and transactions that notice what happens to the file meanwhile."""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from crossatnet.gallery.backend import GalleryReplacedError, MadeWith
from crossatnet.gallery.sqlite import database
from crossatnet.gallery.sqlite.database import MESSAGES, plain_errors, transaction
from crossatnet.gallery.sqlite.place import Place
from crossatnet.system.errors import UserError

SMALL = 1_000_000  # bytes: some 600 pictures, examined in 10 ms
META = "fingerprint, source, name, dimension, code_bits, regions, region_settings, thumbnail_side"


class GalleryFile:
    """A gallery file, open until `close`. Its methods may be called from several threads; they take turns.

    All raise `GalleryReplacedError` once another gallery was put in its place, and `UserError` for a full disk, a
    damaged file, and a file that another process keeps locked.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, read_only: bool, unchangeable: bool) -> None:
        """`unchangeable` is what `database.open_to_read` returned."""
        self.path = path
        self._read_only = read_only
        self._connection = connection
        self._disk_state = _disk_state(path) if unchangeable else None
        self._lock = threading.RLock()  # of the connection
        self._counted: tuple[tuple[object, ...], int] | None = None  # a version of the file, and its number of items
        try:
            self._place = Place(path)
            with plain_errors(path):
                self.made_with, self.thumbnail_side = read_meta(path, connection)
                _check_small(path, connection)
        except BaseException:
            connection.close()
            raise

    def close(self) -> None:
        """Close the file; closing twice does no harm."""
        with self._lock:
            self._place.close(self._connection)

    def version(self) -> tuple[object, ...]:
        """A value that differs after any change, by this process or another."""
        with self._lock:
            data_version = self.rows("PRAGMA data_version")[0][0]  # changes only with other connections' commits
            return data_version, self._connection.total_changes, self._disk_state

    def count(self) -> int:
        """Number of items; counted again only after a change, as SQLite counts row by row."""
        version = self.version()  # read before counting, so that a change in between is noticed next time
        if self._counted is None or self._counted[0] != version:
            self._counted = version, int(self.rows("SELECT count(*) FROM items")[0][0])
        return self._counted[1]

    def rows(self, statement: str, parameters: Sequence[object] = ()) -> list[Any]:
        """The rows that a statement finds."""
        with self.reading() as connection:
            return connection.execute(statement, parameters).fetchall()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The connection, alone, to read."""
        with self._lock, plain_errors(self.path):
            if self._disk_state is not None and self._disk_state != _disk_state(self.path):  # SQLite would not notice
                self._connection.close()
                self._connection, unchangeable = database.open_to_read(self.path)
                self._place = Place(self.path)
                self.check_meta()
                self._disk_state = _disk_state(self.path) if unchangeable else None
            self._place.check()
            yield self._connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction: all of it, or nothing. What it wrote counts only if the file is still in its place."""
        if self._read_only:  # SQLite would report it only once there is something to write
            raise UserError(f"{self.path}: {MESSAGES[sqlite3.SQLITE_READONLY]}")
        with self._lock, plain_errors(self.path):
            self._place.check()
            with transaction(self._connection):
                self.check_meta()
                yield self._connection
            self._place.check()

    @contextmanager
    def changing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that changes items and makes a new generation."""
        with self.writing() as connection:
            connection.execute("UPDATE meta SET generation = generation + 1")
            yield connection

    @contextmanager
    def maintaining(self) -> Iterator[sqlite3.Connection]:
        """The connection, alone and outside of a transaction, to write the file again."""
        with self._lock, plain_errors(self.path):
            self._place.check()
            yield self._connection
            self._place.check()

    def check_meta(self) -> None:
        """Raise `GalleryReplacedError` if the file now holds the embeddings of another model, or other thumbnails."""
        with self._lock, plain_errors(self.path):
            if read_meta(self.path, self._connection) != (self.made_with, self.thumbnail_side):
                raise GalleryReplacedError(f"{self.path}: was replaced by a gallery of another kind; open it again")


def _check_small(path: Path, connection: sqlite3.Connection) -> None:
    """Examine the pages and indexes of a gallery so small that it takes milliseconds; else `crossatnet check` does it.

    An index has no checksum, and a damaged one gives other numbers of pictures without a word.
    """
    if path.stat().st_size > SMALL:
        return
    found = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if found != "ok":
        raise UserError(f"{path}: {MESSAGES[sqlite3.SQLITE_CORRUPT]} ({' '.join(str(found).split())})")


def read_meta(path: Path, connection: sqlite3.Connection) -> tuple[MadeWith, int]:
    """The model that a gallery was made with, and the side of its thumbnails. Raises `UserError` if it is damaged."""
    row = connection.execute(f"SELECT {META} FROM meta").fetchone()
    kinds = (str, str, str, int, int, int, str, int)
    if row is None or not all(isinstance(value, kind) for value, kind in zip(row, kinds, strict=True)):
        raise UserError(f"{path}: {MESSAGES[sqlite3.SQLITE_CORRUPT]} (what made it is not in it)")
    fingerprint, source, name, dimension, code_bits, regions, region_settings, thumbnail_side = row
    found = MadeWith(fingerprint, source, name, dimension, code_bits, bool(regions), region_settings)
    if found.dimension < 1 or found.code_bits < 8 or found.code_bits % 8 or thumbnail_side < 0:
        raise UserError(f"{path}: {MESSAGES[sqlite3.SQLITE_CORRUPT]} (dimension, bits or thumbnails make no sense)")
    return found, thumbnail_side


def _disk_state(path: Path) -> tuple[int, ...]:
    """A value that differs between states of a file, without reading it; also whether a writer has opened it."""
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns, path.with_name(path.name + "-wal").exists()

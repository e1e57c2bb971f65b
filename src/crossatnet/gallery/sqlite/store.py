"""The gallery on disk: ONE SQLite file that holds every item's facts, hash code and embedding.

Letters: `N` items, `Q` queries, `K` hits of a query, `D` embedding dimension, `B` bytes of a packed code.

SQLite in WAL mode lets readers work while one process writes. `synchronous=FULL` makes a committed batch survive a
power cut. With it a batch of 32 takes 3.4 ms rather than 1.0 ms; embedding the batch takes about 400 ms. Searches run
on arrays of all codes and embeddings, see `present`. Large galleries keep a copy of these arrays beside the file, see
`sidefile`.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossatnet.data.metadata import READER
from crossatnet.gallery.backend import (
    EVERYTHING,
    STORED_FLOAT,
    CodedRegions,
    Description,
    Facts,
    FileState,
    Filter,
    MadeWith,
    Nearest,
    Root,
    StoredPicture,
    below,
    check_finite,
    path_range,
)
from crossatnet.gallery.sqlite import columns, database, known, roots, sidefile
from crossatnet.gallery.sqlite.damage import DamageReport
from crossatnet.gallery.sqlite.database import MESSAGES
from crossatnet.gallery.sqlite.file import GalleryFile
from crossatnet.gallery.sqlite.filters import placeholders
from crossatnet.gallery.sqlite.present import Present
from crossatnet.gallery.sqlite.regions import records_of
from crossatnet.gallery.sqlite.rows import VECTORS, Damaged, facts_fault, vectors_fault
from crossatnet.gallery.sqlite.sums import SEAL, SEAL_FACTS
from crossatnet.system.errors import UserError
from crossatnet.system.recall import EXACT, RECALL

IDS_A_STATEMENT = 10_000  # under SQLite's limit of 32,766 parameters


class Store:
    """One open gallery file: the `Backend` of one machine, whose methods are documented there.

    Each method is one transaction. A file that this process may not write is opened read-only; then methods that change
    it raise `UserError`. So do all methods for a full disk, a damaged file, and a file that another process keeps
    locked.
    """

    def __init__(
        self,
        path: Path,
        connection: sqlite3.Connection,
        read_only: bool = False,
        unchangeable: bool = False,
        recall: float = RECALL,
    ) -> None:
        """Use `open` or `create` instead. `unchangeable` is what `database.open_to_read` returned."""
        self.path = path
        self._recall = recall
        self._file = GalleryFile(path, connection, read_only, unchangeable)
        self._rows = self._file.rows
        self._report = DamageReport(path)
        self._present = Present(self._file, self._report)
        self._sampled: tuple[object, NDArray[np.float32]] | None = None  # what for, and the latest `sample`
        self.made_with, self.thumbnail_side = self._file.made_with, self._file.thumbnail_side

    @classmethod
    def create(cls, path: Path, made_with: MadeWith, thumbnail_side: int = 0) -> "Store":
        """Make a new gallery file. Raises `UserError` if there is something at `path` already."""
        return cls(path, database.create(path, made_with, _now(), thumbnail_side))

    @classmethod
    def open(cls, path: Path, recall: float = RECALL) -> "Store":
        """Open a gallery file; one of an older schema is converted.

        `recall` is what searches of a large gallery must find of what the exact search finds. Raises
        `GalleryMissingError` if there is none, and `UserError` if the file is something else or was made by a newer
        version of this program.
        """
        if not path.exists() or database.may_write(path):
            return cls(path, database.open_to_write(path), recall=recall)
        connection, unchangeable = database.open_to_read(path)
        return cls(path, connection, True, unchangeable, recall)

    @property
    def name(self) -> str:
        """The path, for messages."""
        return str(self.path)

    def close(self) -> None:
        """Close the file; closing twice does no harm."""
        self._file.close()

    def __len__(self) -> int:
        """Number of items."""
        return self._file.count()

    def version(self) -> tuple[object, ...]:
        """A value that differs after any change, by this process or another."""
        return self._file.version()

    # Changes

    def put(
        self,
        pictures: Sequence[Facts],
        packed: NDArray[np.uint8],
        embeddings: NDArray[np.float32],
        thumbnails: Sequence[bytes] = (),
        regions: Sequence[CodedRegions] = (),
    ) -> int:
        """Store a batch in one transaction: all of it, or after a crash nothing."""
        for each in (embeddings, *(one.embeddings for one in regions)):
            check_finite(each, self.name)
        now = _now()
        halves = embeddings.astype(STORED_FLOAT)
        records = records_of(regions, self.made_with) if regions else [None] * len(pictures)
        rows = [
            (now, *columns.row_of(facts), facts.file.sidecar or "", code.tobytes(), half.tobytes(), parts)
            for facts, code, half, parts in zip(pictures, packed, halves, records, strict=True)
        ]
        with self._file.changing() as connection:
            paths = [facts.path for facts in pictures]
            before = f"SELECT count(*) FROM items WHERE path IN ({placeholders(paths)})"
            stored = connection.execute(before, paths).fetchone()[0] if paths else 0
            connection.executemany(columns.INSERT, rows)
            connection.executemany(SEAL, [(path,) for path in paths])
            if thumbnails:
                connection.executemany(
                    "INSERT OR REPLACE INTO thumbnails SELECT id, ? FROM items WHERE path = ?",
                    [(jpeg, facts.path) for jpeg, facts in zip(thumbnails, pictures, strict=True)],
                )
        self._present.added(len(rows))
        return len(set(paths)) - int(stored)

    def touch(self, states: Sequence[tuple[str, FileState]]) -> None:
        """Update the file states of stored paths whose file was written again with the same bytes."""
        with self._file.writing() as connection:
            rows = [(state.size, state.mtime_ns, state.ctime_ns, state.sidecar or "", path) for path, state in states]
            connection.executemany(columns.TOUCH, rows)
            connection.executemany(SEAL_FACTS, [(path,) for path, _ in states])

    def describe(self, descriptions: Sequence[tuple[str, Description]]) -> None:
        """Fill in what is known of stored paths."""
        with self._file.writing() as connection:
            rows = [(READER, *columns.described_row(description), path) for path, description in descriptions]
            connection.executemany(columns.DESCRIBE, rows)
            connection.executemany(SEAL_FACTS, [(path,) for path, _ in descriptions])

    def move(self, moves: Sequence[tuple[str, Facts]]) -> None:
        """Give stored paths new facts, another path among them; ids and embeddings stay."""
        with self._file.writing() as connection:
            rows = [(*columns.row_of(facts), facts.file.sidecar or "", path) for path, facts in moves]
            connection.executemany(columns.MOVE, rows)
            connection.executemany(SEAL_FACTS, [(facts.path,) for _, facts in moves])

    def remove(self, paths: Sequence[str]) -> int:
        """Remove these paths in one transaction; those not stored are ignored. Returns how many were stored."""
        with self._file.changing() as connection:
            return connection.executemany("DELETE FROM items WHERE path = ?", [(path,) for path in paths]).rowcount

    def roots(self) -> list[Root]:
        """The folders that the gallery was indexed from, those first that were given first."""
        return roots.read(self.path, self._rows)

    def remember(self, root: Root) -> None:
        """Remember a folder, with the choice given last; one within another that is remembered is part of that one."""
        with self._file.writing() as connection:
            roots.remember(self.path, connection, root)

    def forget(self, folder: Path) -> None:
        """No longer remember a folder and those in it; their pictures stay."""
        with self._file.writing() as connection:
            roots.forget(self.path, connection, folder)

    def flush(self) -> None:
        """Write the side file if opening has become slow by many changes since it was written."""
        self._present.flush()

    def compact(self) -> None:
        """Write the file again without the space of removed items; needs as much free disk space as the file has."""
        with self._file.writing() as connection:
            connection.execute("UPDATE meta SET forgotten = generation")
            connection.execute("DELETE FROM removed")
            connection.execute("INSERT INTO words (words) VALUES ('optimize')")  # removed items leave traces in it
        with self._file.maintaining() as connection:
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._present.rewrite()

    # Queries

    def file_states(self, paths: Sequence[str]) -> dict[str, FileState]:
        """The file states of those among `paths` that are stored."""
        return {row[0]: columns.state_of(row[1:]) for row in self._rows_among(f"path, {columns.FILE}", "path", paths)}

    def ids(self, paths: Sequence[str]) -> dict[str, int]:
        """The ids of those among `paths` that are stored."""
        return dict(self._rows_among("path, id", "path", paths))

    def paths_under(self, folder: Path | str) -> Iterator[str]:
        """The stored paths `below` a folder or the like, ascending; a part at a time, so memory stays bounded."""
        last, end = path_range(below(folder))
        statement = "SELECT path FROM items WHERE path > ? AND path < ? ORDER BY path LIMIT ?"
        while rows := self._rows(statement, (last, end, IDS_A_STATEMENT)):
            yield from (row[0] for row in rows)
            last = rows[-1][0]

    def classes(self) -> dict[str | None, int]:
        """The number of items of each class, under None those of no class."""
        counts = dict(self._rows("SELECT class_name, count(*) FROM items GROUP BY class_name"))
        if sum(counts.values()) != len(self):  # an index, from which this is read, has no checksum
            raise UserError(f"{self.path}: {MESSAGES[sqlite3.SQLITE_CORRUPT]} (its classes do not add up)")
        return counts

    def pictures(self, ids: Sequence[int]) -> dict[int, StoredPicture]:
        """The stored items among `ids`, by id."""
        rows = self._rows_among(f"id, added, {columns.FACTS}, checksum", "id", ids)
        damaged = [Damaged(row[0], fault) for row in rows if (fault := facts_fault(row))]
        self._report.add(damaged)
        left_out = {row.id for row in damaged}
        return {
            key: StoredPicture(key, columns.facts_of(tuple(facts)), added)
            for key, added, *facts, _ in rows
            if key not in left_out
        }

    def with_content(self, content_hash: str) -> list[str]:
        """The stored paths whose file had these bytes."""
        rows = self._rows("SELECT path FROM items WHERE content_hash = ? ORDER BY path", (content_hash,))
        return [row[0] for row in rows]

    def folders(self) -> dict[str, int]:
        """The number of items in each folder that holds some."""
        return known.folders(self._rows)

    def by_words(self, filter: Filter, k: int, offset: int = 0) -> tuple[list[int], list[float]]:
        """The `k` items after `offset` that `filter` admits, best match or latest photo first, and their scores."""
        return known.by_words(self._rows, filter, k, offset)

    def thumbnail(self, item_id: int) -> bytes | None:
        """The stored JPEG of an item, if there is one."""
        rows = self._rows("SELECT jpeg FROM thumbnails WHERE id = ?", (item_id,))
        return rows[0][0] if rows else None

    def embedding(self, item_id: int) -> NDArray[np.float32] | None:
        """The stored embedding (D,) of an item, if there is one."""
        rows = self._rows(f"SELECT {VECTORS} FROM items WHERE id = ?", (item_id,))
        damaged = [Damaged(item_id, fault) for row in rows if (fault := vectors_fault(row, self.made_with))]
        self._report.add(damaged)
        return np.frombuffer(rows[0][2], STORED_FLOAT).astype(np.float32) if rows and not damaged else None

    def sample(self, number: int) -> NDArray[np.float32]:
        """Embeddings (N, D) of up to `number` items, spread over the ids; kept until the gallery changes."""
        version = self.version()
        if self._sampled is None or self._sampled[0] != (version, number):
            first, last = self._rows("SELECT min(id), max(id) FROM items")[0]
            starts = np.linspace(first, last, number).astype(int).tolist() if first is not None else []
            found = {
                key: half
                for start in starts
                for key, half in self._rows(
                    "SELECT id, embedding FROM items WHERE id >= ? ORDER BY id LIMIT 1", (start,)
                )
            }
            rows = [np.frombuffer(half, STORED_FLOAT) for half in found.values()]
            sampled = np.stack(rows) if rows else np.empty((0, self.made_with.dimension))
            self._sampled = (version, number), sampled.astype(np.float32)
        return self._sampled[1]

    def nearest(
        self,
        queries: NDArray[np.float32],
        packed: NDArray[np.uint8],
        k: int,
        filter: Filter = EVERYTHING,
        region_penalty: float = 0.0,
    ) -> Nearest:
        """The `k` nearest items of queries (Q, D) with codes (Q, B), among those that `filter` admits.

        With conditions the search is exact: the lists of what is near may hold nothing that meets them.
        """
        recall = self._recall if filter == EVERYTHING else EXACT
        asked = (region_penalty, recall)
        current = self._present.now()
        try:
            return current.snapshot.nearest(queries, packed, k, self._present.masks(current, filter), *asked)
        except sidefile.DamagedError:
            current = self._present.now(distrust_side_file=True)
            return current.snapshot.nearest(queries, packed, k, self._present.masks(current, filter), *asked)

    def nearest_codes(
        self, packed: NDArray[np.uint8], k: int, filter: Filter = EVERYTHING, region_penalty: float = 0.0
    ) -> Nearest:
        """The `k` items whose codes differ least from each of (Q, B), among those that `filter` admits."""
        current = self._present.now()
        return current.snapshot.nearest_codes(packed, k, self._present.masks(current, filter), region_penalty)

    # SQLite

    def _rows_among(self, columns: str, key: str, values: Sequence[object]) -> list[Any]:
        rows: list[Any] = []
        for start in range(0, len(values), IDS_A_STATEMENT):
            part = values[start : start + IDS_A_STATEMENT]
            rows += self._rows(f"SELECT {columns} FROM items WHERE {key} IN ({placeholders(part)})", part)
        return rows


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")

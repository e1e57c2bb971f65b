"""The gallery on disk: ONE SQLite file that holds every item's facts, hash code and embedding.

Letters: `N` items, `Q` queries, `K` hits of a query, `D` embedding dimension, `B` bytes of a packed code.

SQLite in WAL mode lets readers work while one process writes. `synchronous=FULL` makes a committed batch survive a
power cut. With it a batch of 32 takes 3.4 ms rather than 1.0 ms; embedding the batch takes about 400 ms. Searches run
on arrays of all codes and embeddings, see `snapshot`. Large galleries keep a copy of these arrays beside the file, see
`sidefile`.
"""

import os
import secrets
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
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
    StoredPicture,
    check_finite,
    path_range,
)
from crossatnet.gallery.sqlite import columns, database, known, sidefile
from crossatnet.gallery.sqlite.damage import DamageReport
from crossatnet.gallery.sqlite.database import MESSAGES, plain_errors
from crossatnet.gallery.sqlite.file import GalleryFile
from crossatnet.gallery.sqlite.filters import in_sql, placeholders
from crossatnet.gallery.sqlite.regions import records_of
from crossatnet.gallery.sqlite.rows import (
    VECTORS,
    Damaged,
    count_changes,
    count_rows,
    facts_fault,
    read_changes,
    read_rows,
    vectors_fault,
)
from crossatnet.gallery.sqlite.snapshot import Masks, Snapshot
from crossatnet.gallery.sqlite.sums import SEAL, SEAL_FACTS
from crossatnet.system.errors import UserError

IDS_A_STATEMENT = 10_000  # under SQLite's limit of 32,766 parameters
UNFLUSHED = 10_000  # SQLite reads so many items in a tenth of a second: fewer need no side file
UNFLUSHED_SHARE = 0.02  # of all items; after more changes the side file is written again
# # A run of days must write it in between too: readers keep in memory what the side file lacks.
PUT_IN_A_RUN, UNFLUSHED_SHARE_IN_A_RUN = 100_000, 0.25
CONDITIONS_KEPT = 16  # sets of conditions; each takes one byte for each item in memory


@dataclass(frozen=True)
class _Current:
    """The snapshot of one version of the file, and which of its rows meet the conditions of recent searches."""

    version: tuple[object, ...]
    snapshot: Snapshot
    masks: dict[Filter, Masks] = field(default_factory=dict)


class Store:
    """One open gallery file: the `Backend` of one machine, whose methods are documented there.

    Each method is one transaction. A file that this process may not write is opened read-only; then methods that change
    it raise `UserError`. So do all methods for a full disk, a damaged file, and a file that another process keeps
    locked.
    """

    def __init__(
        self, path: Path, connection: sqlite3.Connection, read_only: bool = False, unchangeable: bool = False
    ) -> None:
        """Use `open` or `create` instead. `unchangeable` is what `database.open_to_read` returned."""
        self.path = path
        self._file = GalleryFile(path, connection, read_only, unchangeable)
        self._rows = self._file.rows
        self._latest: _Current | None = None
        self._counted: tuple[tuple[object, ...], int] | None = None  # a version of the file, and its number of items
        self._report = DamageReport(path).add
        self._put = 0  # items, since the side file was last checked
        self._sampled: tuple[object, NDArray[np.float32]] | None = None  # what for, and the latest `sample`
        self._snapshot_lock = threading.Lock()
        self.made_with, self.thumbnail_side = self._file.made_with, self._file.thumbnail_side

    @classmethod
    def create(cls, path: Path, made_with: MadeWith, thumbnail_side: int = 0) -> "Store":
        """Make a new gallery file. Raises `UserError` if there is something at `path` already."""
        return cls(path, database.create(path, made_with, _now(), thumbnail_side))

    @classmethod
    def open(cls, path: Path) -> "Store":
        """Open a gallery file; one of an older schema is converted.

        Raises `GalleryMissingError` if there is none, and `UserError` if the file is something else or was made by
        a newer version of this program.
        """
        if not path.exists() or database.may_write(path):
            return cls(path, database.open_to_write(path))
        connection, unchangeable = database.open_to_read(path)
        return cls(path, connection, True, unchangeable)

    @property
    def name(self) -> str:
        """The path, for messages."""
        return str(self.path)

    def close(self) -> None:
        """Close the file; closing twice does no harm."""
        self._file.close()

    def __len__(self) -> int:
        """Number of items; counted again only after a change, as SQLite counts row by row."""
        version = self.version()  # read before counting, so that a change in between is noticed next time
        if self._counted is None or self._counted[0] != version:
            self._counted = version, int(self._rows("SELECT count(*) FROM items")[0][0])
        return self._counted[1]

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
        check_finite(embeddings, self.name)
        now = _now()
        halves = embeddings.astype(STORED_FLOAT)
        records = records_of(regions, self.made_with) if regions else [None] * len(pictures)
        rows = [
            (now, *columns.row_of(facts), code.tobytes(), half.tobytes(), parts)
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
        self._put += len(rows)
        if self._put > PUT_IN_A_RUN:
            self._flush(UNFLUSHED_SHARE_IN_A_RUN)
        return len(set(paths)) - int(stored)

    def touch(self, states: Sequence[tuple[str, FileState]]) -> None:
        """Update the file states of stored paths whose file was written again with the same bytes."""
        with self._file.writing() as connection:
            rows = [(state.size, state.mtime_ns, state.ctime_ns, path) for path, state in states]
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
            connection.executemany(columns.MOVE, [(*columns.row_of(facts), path) for path, facts in moves])
            connection.executemany(SEAL_FACTS, [(facts.path,) for _, facts in moves])

    def remove(self, paths: Sequence[str]) -> int:
        """Remove these paths in one transaction; those not stored are ignored. Returns how many were stored."""
        with self._file.changing() as connection:
            return connection.executemany("DELETE FROM items WHERE path = ?", [(path,) for path in paths]).rowcount

    def flush(self) -> None:
        """Write the side file if opening has become slow by many changes since it was written."""
        self._flush(UNFLUSHED_SHARE)

    def compact(self) -> None:
        """Write the file again without the space of removed items; needs as much free disk space as the file has."""
        with self._file.writing() as connection:
            connection.execute("UPDATE meta SET forgotten = generation")
            connection.execute("DELETE FROM removed")
            connection.execute("INSERT INTO words (words) VALUES ('optimize')")  # removed items leave traces in it
        with self._file.maintaining() as connection:
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        if len(self) > UNFLUSHED:
            self._write_side_file()
        else:
            sidefile.path_of(self.path).unlink(missing_ok=True)

    # # Queries

    def file_states(self, paths: Sequence[str]) -> dict[str, FileState]:
        """The file states of those among `paths` that are stored."""
        return {row[0]: columns.state_of(row[1:]) for row in self._rows_among(f"path, {columns.FILE}", "path", paths)}

    def ids(self, paths: Sequence[str]) -> dict[str, int]:
        """The ids of those among `paths` that are stored."""
        return dict(self._rows_among("path, id", "path", paths))

    def paths_under(self, folder: Path) -> Iterator[str]:
        """The stored paths in `folder` (absolute) or below it, ascending; a part at a time, so memory stays bounded."""
        last, end = path_range(str(folder).rstrip(os.sep) + os.sep)
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
        self._report(damaged)
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
        self._report(damaged)
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
        """The `k` nearest items of queries (Q, D) with codes (Q, B), among those that `filter` admits."""
        current = self._current()
        try:
            return current.snapshot.nearest(queries, packed, k, self._masks(current, filter), region_penalty)
        except sidefile.DamagedError:
            current = self._current(distrust_side_file=True)
            return current.snapshot.nearest(queries, packed, k, self._masks(current, filter), region_penalty)

    def nearest_codes(
        self, packed: NDArray[np.uint8], k: int, filter: Filter = EVERYTHING, region_penalty: float = 0.0
    ) -> Nearest:
        """The `k` items whose codes differ least from each of (Q, B), among those that `filter` admits."""
        current = self._current()
        return current.snapshot.nearest_codes(packed, k, self._masks(current, filter), region_penalty)

    # # The arrays for searches

    def _current(self, distrust_side_file: bool = False) -> "_Current":
        """The snapshot of the gallery as it is now. A search that still uses an older one is not disturbed."""
        with self._snapshot_lock:
            version = self.version()  # read first, so that a change in between is noticed next time
            if self._latest is None or self._latest.version != version or distrust_side_file:
                is_same_file = self._latest is not None and self._latest.version[2] == version[2]
                self._file.check_meta()
                before = self._latest.snapshot if self._latest and is_same_file and not distrust_side_file else None
                self._latest = _Current(version, self._brought_up(before, distrust_side_file))
            return self._latest

    def _masks(self, current: "_Current", filter: Filter) -> Masks:
        """Which rows of the snapshot meet the conditions; kept for the next search with the same conditions."""
        masks = current.masks.get(filter)
        if masks is None:
            masks = current.snapshot.masks(None if filter == EVERYTHING else self._ids_that_meet(filter))
            if len(current.masks) >= CONDITIONS_KEPT:
                current.masks.clear()
            current.masks[filter] = masks
        return masks

    def _brought_up(self, before: Snapshot | None, distrust_side_file: bool) -> Snapshot:
        """The present snapshot, made from an earlier one if possible."""
        if before and not self._is_overtaken(before) and (brought := self._after(before)) is not None:
            return brought
        if not distrust_side_file and (brought := self._of_side_file()) is not None:
            return brought
        if len(self) > UNFLUSHED and self._write_side_file() and (brought := self._of_side_file()) is not None:
            return brought
        everything = self._after(Snapshot())
        assert everything is not None, "all items can be read from the beginning"
        return everything

    def _is_overtaken(self, before: Snapshot) -> bool:
        """Whether a newer side file holds much of what this snapshot holds in memory."""
        return before.in_memory > UNFLUSHED and before.side_token != self._side_token()

    def _of_side_file(self) -> Snapshot | None:
        """The present snapshot from the side file, if there is an undamaged one that is not too old."""
        side = self._side_file()
        return None if side is None else self._after(Snapshot.of_side_file(side))

    def _after(self, snapshot: Snapshot) -> Snapshot | None:
        with self._file.reading() as connection:
            damaged: list[Damaged] = []
            changes = read_changes(connection, self.made_with, snapshot.generation, damaged)
            self._report(damaged)
        return None if changes is None else snapshot.after(changes)

    def _side_file(self) -> sidefile.SideFile | None:
        """The side file, if there is an undamaged one."""
        width, dimension = self.made_with.code_bits // 8, self.made_with.dimension
        return sidefile.read(self.path, self._side_token(), width, dimension)

    def _side_token(self) -> str:
        return str(self._rows("SELECT side_token FROM meta")[0][0])

    def _flush(self, share: float) -> None:
        """Write the side file if there is none, or if more than this share of its items has changed."""
        self._put = 0
        with self._file.reading() as connection:
            side = self._side_file()
            changed = count_changes(connection, side.header.generation) if side else len(self)
        if changed > UNFLUSHED and (side is None or changed > share * side.header.items):
            self._write_side_file()

    def _write_side_file(self, is_damaged: bool = False) -> bool:
        """Write the side file; returns whether that was possible. A failure loses nothing.

        A gallery that `is_damaged` is read twice.
        """
        if not database.may_write(self.path):
            return False
        token, width = secrets.token_hex(16), self.made_with.code_bits // 8
        try:
            # # a connection of its own, so that searches go on meanwhile
            with plain_errors(self.path), closing(database.open_to_read(self.path)[0]) as reading:
                reading.execute("BEGIN")
                (generation,) = reading.execute("SELECT generation FROM meta").fetchone()
                count, regions = count_rows(reading, self.made_with, is_damaged)
                header = sidefile.Header(token, generation, count, width, self.made_with.dimension, regions=regions)
                if not sidefile.write(self.path, header, read_rows(reading, self.made_with, None, [])):
                    return False
            with self._file.writing() as connection:
                connection.execute("UPDATE meta SET side_token = ?", (token,))
        except (OSError, UserError):
            return False
        except ValueError:  # fewer rows than were counted: some are damaged
            return not is_damaged and self._write_side_file(is_damaged=True)
        return True

    def _ids_that_meet(self, filter: Filter) -> NDArray[np.int64]:
        """The ids, ascending, of the items that meet the conditions."""
        condition, values = in_sql(filter)
        rows = self._rows(f"SELECT id FROM items WHERE {condition}", values)
        return np.sort(np.fromiter((row[0] for row in rows), np.int64, len(rows)))

    # SQLite

    def _rows_among(self, columns: str, key: str, values: Sequence[object]) -> list[Any]:
        rows: list[Any] = []
        for start in range(0, len(values), IDS_A_STATEMENT):
            part = values[start : start + IDS_A_STATEMENT]
            rows += self._rows(f"SELECT {columns} FROM items WHERE {key} IN ({placeholders(part)})", part)
        return rows


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")

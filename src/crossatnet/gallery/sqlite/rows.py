"""Reads codes and embeddings from the gallery's SQLite file: all of them, or those that changed.

Letters: `N` items, `M` changed items, `D` embedding dimension, `B` bytes of a packed code.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from crossatnet.gallery.backend import STORED_FLOAT, MadeWith
from crossatnet.gallery.sqlite.columns import facts_of
from crossatnet.gallery.sqlite.database import transaction
from crossatnet.gallery.sqlite.filters import placeholders
from crossatnet.gallery.sqlite.regions import joined_tables, record, regions_fault, table_of
from crossatnet.gallery.sqlite.segment import NOTHING, Changes
from crossatnet.gallery.sqlite.sidefile import Rows
from crossatnet.gallery.sqlite.sums import facts_sum, halves, vectors_sum

VECTORS = "id, code, embedding, regions, checksum"
ROWS_A_BATCH = 10_000  # read at once; under SQLite's limit of 32,766 parameters


class Damaged(NamedTuple):
    """A row that is not as it was written, and what is wrong with it."""

    id: int
    reason: str


def read_changes(
    connection: sqlite3.Connection, made_with: MadeWith, since: int, damaged: "list[Damaged]"
) -> Changes | None:
    """What changed after generation `since`; all items if that is `NOTHING`. Damaged rows are left out, and named.

    None if that is unknown: the removed items are no longer listed, or the file is older than that generation.
    """
    with transaction(connection, "DEFERRED"):
        generation, forgotten = connection.execute("SELECT generation, forgotten FROM meta").fetchone()
        if since != NOTHING and not forgotten <= since <= generation:
            return None
        ids = _column(connection, "SELECT id FROM items WHERE generation > ? ORDER BY id", since)  # (M,)
        removed = _column(connection, "SELECT id FROM removed WHERE generation > ? ORDER BY id", since)
        codes = np.empty((len(ids), made_with.code_bits // 8), np.uint8)
        embeddings = np.empty((len(ids), made_with.dimension), STORED_FLOAT)
        changed, tables, start = ids, [table_of([], made_with)], 0
        for rows in read_rows(connection, made_with, None if since == NOTHING else ids, damaged):
            end = start + len(rows[0])
            if end > len(ids):
                raise sqlite3.DatabaseError("database disk image is malformed: its rows and their index differ")
            changed[start:end], codes[start:end], embeddings[start:end], regions = rows
            tables.append(regions.moved_by(start))
            start = end
    # Damaged items are as if removed: a snapshot may hold an older state of them.
    gone = np.union1d(removed, np.array([row.id for row in damaged], np.int64)) if damaged else removed
    return Changes(generation, changed[:start], codes[:start], embeddings[:start], joined_tables(tables), gone)


def count_changes(connection: sqlite3.Connection, since: int) -> int:
    """How many items were added, changed or removed after a generation."""
    counts = (
        connection.execute(f"SELECT count(*) FROM {table} WHERE generation > ?", (since,)).fetchone()[0]
        for table in ("items", "removed")
    )
    return int(sum(counts))


def count_rows(connection: sqlite3.Connection, made_with: MadeWith, is_damaged: bool) -> tuple[int, int]:
    """How many items there are, and how many regions; of a file that `is_damaged`, those that are whole."""
    if is_damaged:
        sizes = [(len(rows[0]), len(rows[3])) for rows in read_rows(connection, made_with, None, [])]
        return sum(size[0] for size in sizes), sum(size[1] for size in sizes)
    if not made_with.regions:  # then SQLite counts by an index
        return int(connection.execute("SELECT count(*) FROM items").fetchone()[0]), 0
    count, size = connection.execute("SELECT count(*), total(length(regions)) FROM items").fetchone()
    return int(count), int(size) // record(made_with).itemsize


def read_rows(
    connection: sqlite3.Connection, made_with: MadeWith, ids: NDArray[np.int64] | None, damaged: "list[Damaged]"
) -> Iterator[Rows]:
    """Ids, codes, embeddings and regions in batches, ascending by id: of these ids (ascending), or of all if None.

    Damaged rows are left out and added to `damaged`.
    """
    if ids is None:
        cursor = connection.execute(f"SELECT {VECTORS} FROM items NOT INDEXED ORDER BY id")
        while batch := cursor.fetchmany(ROWS_A_BATCH):
            yield _arrays(batch, made_with, damaged)
        return
    for start in range(0, len(ids), ROWS_A_BATCH):
        part = ids[start : start + ROWS_A_BATCH].tolist()
        statement = f"SELECT {VECTORS} FROM items WHERE id IN ({placeholders(part)}) ORDER BY id"
        yield _arrays(connection.execute(statement, part).fetchall(), made_with, damaged)


def vectors_fault(row: Sequence[Any], made_with: MadeWith) -> str:
    """What is wrong with the codes and embeddings in a row of `VECTORS`; "" for nothing."""
    key, code, embedding, regions, checksum = row
    if not isinstance(code, bytes) or len(code) != made_with.code_bits // 8:
        return "its code is not one"
    if not isinstance(embedding, bytes) or len(embedding) != STORED_FLOAT.itemsize * made_with.dimension:
        return "its embedding is not one"
    if fault := regions_fault(regions, made_with):
        return fault
    if isinstance(checksum, int) and isinstance(key, int):
        return (
            ""
            if halves(checksum)[0] == vectors_sum(key, code, embedding, regions or b"")
            else "its checksum is another one"
        )
    if not np.isfinite(np.frombuffer(embedding, STORED_FLOAT)).all():  # of an older version
        return "its embedding is not finite"
    return ""


def facts_fault(row: Sequence[Any]) -> str:
    """What is wrong with a row of `id, added`, `columns.FACTS` and `checksum`; "" for nothing."""
    key, added, *facts, checksum = row
    if isinstance(checksum, int):
        return "" if halves(checksum)[1] == facts_sum(key, added, facts) else "its facts have another checksum"
    try:  # of an older version
        found = facts_of(tuple(facts))
        texts, numbers = (found.path, found.file.content_hash, added), (found.file.size, found.width, found.height)
        is_whole = all(isinstance(text, str) for text in texts) and all(isinstance(number, int) for number in numbers)
    except (TypeError, ValueError):
        return "its facts are not text and numbers"
    return "" if is_whole else "its facts are not text and numbers"


def _arrays(batch: Sequence[tuple[Any, ...]], made_with: MadeWith, damaged: "list[Damaged]") -> Rows:
    faults = [vectors_fault(row, made_with) for row in batch]
    if any(faults):
        damaged += [Damaged(row[0], fault) for row, fault in zip(batch, faults, strict=True) if fault]
        batch = [row for row, fault in zip(batch, faults, strict=True) if not fault]
    ids, codes, embeddings, regions = ([row[column] for row in batch] for column in range(4))
    return (
        np.array(ids, np.int64),
        np.frombuffer(b"".join(codes), np.uint8).reshape(-1, made_with.code_bits // 8),
        np.frombuffer(b"".join(embeddings), STORED_FLOAT).reshape(-1, made_with.dimension),
        table_of(regions, made_with),
    )


def _column(connection: sqlite3.Connection, statement: str, *parameters: object) -> NDArray[np.int64]:
    return np.fromiter((row[0] for row in connection.execute(statement, parameters)), np.int64)

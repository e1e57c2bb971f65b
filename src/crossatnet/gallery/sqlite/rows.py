"""Reads codes and embeddings from the gallery's SQLite file: all of them, or those that changed.

Letters: `N` items, `M` changed items, `D` embedding dimension, `B` bytes of a packed code.
"""

import sqlite3
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from crossatnet.gallery.backend import STORED_FLOAT, MadeWith
from crossatnet.gallery.sqlite.database import transaction
from crossatnet.gallery.sqlite.filters import placeholders
from crossatnet.gallery.sqlite.sidefile import Rows
from crossatnet.gallery.sqlite.snapshot import NOTHING, Changes

ROWS_A_BATCH = 10_000  # read at once; under SQLite's limit of 32,766 parameters


def read_changes(connection: sqlite3.Connection, made_with: MadeWith, since: int) -> Changes | None:
    """What changed after generation `since`; all items if that is `NOTHING`.

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
        start = 0
        for rows in read_rows(connection, made_with, None if since == NOTHING else ids):
            end = start + len(rows[0])
            codes[start:end], embeddings[start:end] = rows[1:]
            start = end
    return Changes(generation, ids, codes, embeddings, removed)


def count_changes(connection: sqlite3.Connection, since: int) -> int:
    """How many items were added, changed or removed after a generation."""
    counts = (
        connection.execute(f"SELECT count(*) FROM {table} WHERE generation > ?", (since,)).fetchone()[0]
        for table in ("items", "removed")
    )
    return int(sum(counts))


def read_rows(
    connection: sqlite3.Connection, made_with: MadeWith, ids: NDArray[np.int64] | None = None
) -> Iterator[Rows]:
    """Ids, codes and embeddings in batches, ascending by id: of these ids (ascending), or of all items if None."""
    if ids is None:
        cursor = connection.execute("SELECT id, code, embedding FROM items NOT INDEXED ORDER BY id")
        while batch := cursor.fetchmany(ROWS_A_BATCH):
            yield _arrays(batch, made_with)
        return
    for start in range(0, len(ids), ROWS_A_BATCH):
        part = ids[start : start + ROWS_A_BATCH].tolist()
        statement = f"SELECT id, code, embedding FROM items WHERE id IN ({placeholders(part)}) ORDER BY id"
        yield _arrays(connection.execute(statement, part).fetchall(), made_with)


def _arrays(batch: Sequence[tuple[int, bytes, bytes]], made_with: MadeWith) -> Rows:
    ids, codes, embeddings = zip(*batch, strict=True)
    return (
        np.array(ids, np.int64),
        np.frombuffer(b"".join(codes), np.uint8).reshape(-1, made_with.code_bits // 8),
        np.frombuffer(b"".join(embeddings), STORED_FLOAT).reshape(-1, made_with.dimension),
    )


def _column(connection: sqlite3.Connection, statement: str, *parameters: object) -> NDArray[np.int64]:
    return np.fromiter((row[0] for row in connection.execute(statement, parameters)), np.int64)

"""Examines a gallery file wholly, and makes again what is damaged: what is whole is copied, the rest embedded again.

SQLite itself notices most damage of its pages. The rows' checksums notice the rest.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crossatnet.gallery.backend import MadeWith, Root
from crossatnet.gallery.sqlite import copies, database, roots
from crossatnet.gallery.sqlite.columns import FACTS
from crossatnet.gallery.sqlite.database import plain_errors, transaction
from crossatnet.gallery.sqlite.file import read_meta
from crossatnet.gallery.sqlite.rows import facts_fault, vectors_fault
from crossatnet.system.errors import ImageError, UserError

COLUMNS = f"id, added, {FACTS}, code, embedding, regions, checksum"
ROWS_AT_ONCE = 500
GAP = 100_000  # ids that are tried one by one after the last that could be read

Row = tuple[Any, ...]
Embed = Callable[[Path, str | None], None]
"""Embeds one picture file of a class and stores it."""


@dataclass(frozen=True)
class Fault:
    """A damaged row: its id, the path in it (None if that cannot be read), its class, and what is wrong."""

    id: int
    path: str | None
    class_name: str | None
    reason: str


@dataclass(frozen=True)
class Findings:
    """What is wrong with a gallery: of the file as a whole, and of single rows; `rows` is how many could be read."""

    of_file: tuple[str, ...]
    faults: tuple[Fault, ...]
    rows: int

    @property
    def are_none(self) -> bool:
        """Whether the gallery is whole."""
        return not self.of_file and not self.faults


def check(gallery: Path) -> Findings:
    """Examine every page and every row of a gallery. Raises `UserError` if it cannot be opened as one."""
    with plain_errors(gallery), closing(database.open_to_read(gallery)[0]) as connection:
        problems = _problems(connection)
        made_with = read_meta(gallery, connection)[0]
        faults: list[Fault] = []
        whole = 0
        for row in _rows(connection):
            fault = _fault(made_with, row)
            whole += fault is None
            faults += [fault] if fault else []
        return Findings(tuple(problems), tuple(faults), whole)


def repair(gallery: Path, embed_into: Callable[[Path], Embed]) -> tuple[Findings, tuple[Fault, ...]]:
    """Write a gallery again: whole rows as they are, damaged ones embedded again from their files.

    `embed_into` opens the new file and returns how a picture is added to it. Returns what was found, and the rows that
    are lost, as their file is gone or cannot be read. What other programs change meanwhile is lost: stop them before.
    Raises `UserError` if nothing of the gallery can be read or the disk is full.
    """
    findings = check(gallery)
    if findings.are_none:
        return findings, ()
    lost: list[Fault] = []
    with copies.beside(gallery) as copy:
        _copy_whole_rows(gallery, copy)
        embed = embed_into(copy)
        for fault in findings.faults:
            if fault.path is None or not Path(fault.path).is_file():
                lost.append(fault)
                continue
            try:
                embed(Path(fault.path), fault.class_name)
            except ImageError:
                lost.append(fault)
        try:
            copies.replace(gallery, copy)
        except (UserError, sqlite3.Error):  # too damaged to be written over
            copies.put_in_place(gallery, copy)
    return findings, tuple(lost)


def _problems(connection: sqlite3.Connection) -> list[str]:
    """What SQLite finds wrong with its pages and indexes."""
    try:
        found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(20)")]
    except sqlite3.DatabaseError as error:
        return [str(error)]
    return [] if found == ["ok"] else found


def _rows(connection: sqlite3.Connection) -> Iterator[Row]:
    """All rows of items that can be read, by id; pages that cannot are passed over, row by row."""
    last, failures = -(1 << 63), 0
    while failures <= GAP:
        try:
            statement = f"SELECT {COLUMNS} FROM items NOT INDEXED WHERE id > ? ORDER BY id LIMIT ?"
            rows = connection.execute(statement, (last, ROWS_AT_ONCE)).fetchall()
            if not rows:
                return
            yield from rows
            last, failures = rows[-1][0], 0
        except sqlite3.Error:
            last = max(last, 0)
            for key in range(last + 1, last + ROWS_AT_ONCE + 1):
                try:
                    found = connection.execute(f"SELECT {COLUMNS} FROM items WHERE id = ?", (key,)).fetchall()
                except sqlite3.Error:
                    continue
                yield from found
            last, failures = last + ROWS_AT_ONCE, failures + ROWS_AT_ONCE


def _fault(made_with: MadeWith, row: Row) -> Fault | None:
    key, *facts, code, embedding, regions, checksum = row
    reasons = [
        vectors_fault((key, code, embedding, regions, checksum), made_with),
        facts_fault((key, *facts, checksum)),
    ]
    if not any(reasons):
        return None
    path, class_name = facts[1:3]
    return Fault(
        key,
        path if isinstance(path, str) else None,
        class_name if isinstance(class_name, str) else None,
        " and ".join(filter(None, reasons)),
    )


def _copy_whole_rows(gallery: Path, copy: Path) -> None:
    """A new gallery at `copy` with what is whole of another one: rows with their ids, and thumbnails."""
    with plain_errors(gallery), closing(database.open_to_read(gallery)[0]) as old:
        made_with, thumbnail_side = read_meta(gallery, old)
        created = old.execute("SELECT created FROM meta").fetchone()[0]
        with closing(database.create(copy, made_with, str(created), thumbnail_side)) as new, transaction(new):
            for root in _tolerant_roots(gallery, old):
                roots.remember(copy, new, root)
            for row in _rows(old):
                if _fault(made_with, row) is None:
                    new.execute(f"INSERT OR IGNORE INTO items ({COLUMNS}) VALUES ({', '.join('?' * len(row))})", row)
                    _copy_thumbnail(old, new, row[0])


def _tolerant_roots(gallery: Path, connection: sqlite3.Connection) -> list[Root]:
    """The folders that a gallery remembers, as far as they can be read."""
    try:
        return roots.read(gallery, connection.execute)
    except (sqlite3.Error, UserError):
        return []


def _copy_thumbnail(old: sqlite3.Connection, new: sqlite3.Connection, key: int) -> None:
    try:
        rows = old.execute("SELECT id, jpeg FROM thumbnails WHERE id = ?", (key,)).fetchall()
    except sqlite3.Error:
        return
    new.executemany("INSERT OR REPLACE INTO thumbnails VALUES (?, ?)", rows)

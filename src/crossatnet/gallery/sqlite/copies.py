"""Copies of a gallery that is in use: a backup of it, and another gallery's contents in its place.

Both go by SQLite's online backup. So a copy is the gallery as it was at one moment, whoever writes meanwhile; and a
gallery that is replaced keeps its file, so that programs that have it open find the new contents with their next look.
"""

import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from crossatnet.gallery.sqlite import database, sidefile
from crossatnet.gallery.sqlite.database import plain_errors, transaction
from crossatnet.gallery.sqlite.file import read_meta
from crossatnet.system.errors import UserError
from crossatnet.system.files import UNFINISHED, keep_durably

LATER = 1 << 32  # generations: more than any writer makes while a gallery is replaced


def backup(gallery: Path, target: Path) -> None:
    """Write a copy of a gallery, as it is at one moment, into a new file. Other programs may go on changing it.

    Raises `UserError` if there is no gallery or the target exists, `OSError` if it cannot be written.
    """
    if target.exists():
        raise UserError(f"{target}: exists already; choose another name, or delete it first")
    if not target.parent.is_dir():
        raise UserError(f"{target}: the folder {target.parent} does not exist; make it first")
    with beside(target) as copy:
        _copied(gallery, copy)
        if target.exists():
            raise UserError(f"{target}: was made by another program meanwhile; choose another name")
        keep_durably(copy, target)


def replace(gallery: Path, source: Path) -> None:
    """Put the contents of the gallery `source` into the place of `gallery`, which programs may have open.

    Programs that have it open see the new contents with their next transaction, and say so if those were made by
    another checkpoint. Until then, and after a kill, it holds the old contents, whole. `source` stays as it is. Raises
    `UserError` if `source` is no gallery, or if `gallery` is there and is not one.
    """
    if gallery.exists() and gallery.samefile(source):
        raise UserError(f"{gallery}: is the same file as {source}; give another gallery")
    with beside(gallery) as copy:
        _copied(source, copy)
        if not gallery.exists():
            _renew(copy, 0)
            keep_durably(copy, gallery)
            return
        with plain_errors(gallery), closing(database.open_to_write(gallery)) as into:
            _renew(copy, _generation(into))
            with closing(sqlite3.connect(copy)) as whole:
                whole.backup(into)  # one transaction
        sidefile.path_of(gallery).unlink(missing_ok=True)


def put_in_place(gallery: Path, copy: Path) -> None:
    """Put a copy in the place of a gallery that is too damaged to be written over; that is kept with ".damaged"."""
    _renew(copy, 0)
    for suffix in ("", "-wal", "-shm"):
        file = gallery.with_name(gallery.name + suffix)
        if file.exists():
            file.replace(gallery.with_name(gallery.name + ".damaged" + suffix))
    for suffix in ("-open", "-index"):
        gallery.with_name(gallery.name + suffix).unlink(missing_ok=True)
    keep_durably(copy, gallery)


def _copied(gallery: Path, copy: Path) -> None:
    """Copy a gallery into one file without a log beside it, in the present schema."""
    with plain_errors(gallery):
        with closing(database.open_to_read(gallery, any_schema=True)[0]) as whole:
            read_meta(gallery, whole)
            with closing(sqlite3.connect(copy)) as into:
                whole.backup(into)
        with closing(database.open_to_write(copy)) as converted:
            converted.execute("PRAGMA journal_mode = DELETE")


def _renew(copy: Path, generation: int) -> None:
    """Give a copy a generation after that of what it replaces: no reader must take it for a small change of that."""
    with closing(sqlite3.connect(copy, isolation_level=None)) as connection, transaction(connection):
        later = max(generation, _generation(connection)) + LATER
        connection.execute("UPDATE meta SET generation = ?, forgotten = ?, side_token = ''", (later, later))
        connection.execute("DELETE FROM removed")


def _generation(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT generation FROM meta").fetchone()[0])


@contextmanager
def beside(target: Path) -> Iterator[Path]:
    """A name for an unfinished file beside the target; what is left under it is deleted."""
    copy = target.with_name(f".{target.name[:40]}.{secrets.token_hex(4)}{UNFINISHED}")
    try:
        yield copy
    finally:
        for suffix in ("", "-wal", "-shm", "-journal", "-open"):
            with suppress(OSError):
                copy.with_name(copy.name + suffix).unlink(missing_ok=True)

"""The gallery's SQLite file: its schema and migrations, how it is opened, and its errors in plain words."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple
from os import W_OK, access
from pathlib import Path

from crossatnet.gallery.backend import GalleryMissingError, MadeWith
from crossatnet.gallery.sqlite.filters import has_tag
from crossatnet.gallery.sqlite.place import check_log
from crossatnet.gallery.sqlite.sums import add_functions
from crossatnet.system.errors import DiskFullError, UserError

SCHEMA_VERSION = 6  # kept in the file's `user_version`
APPLICATION_ID = 0x43415447  # "CATG", kept in the file's `application_id`: marks the database as a gallery
BUSY_TIMEOUT_S = 30.0  # how long to wait for another process's transaction before giving up
CACHE_KIB = 65_536

# Every transaction that changes items raises `meta.generation`, and an item carries the generation of its last change.
# So a reader that holds the items of one generation asks only for later items, and for later rows of `removed`.
# `meta.forgotten` is the generation up to which `removed` was emptied: a reader older than that must read everything
# again. `meta.side_token` names the one side file that was written from this file, see `sidefile`.
#
# `items.described` is the version of the reader that filled what is known of a photo (`look` to `rating`); 0: none did.
# `ctime_ns` is NULL where it is not known. `tags` are lines. `words` is the full-text index of the columns it names; it
# holds no text of its own, and triggers keep it in step with `items`. `checksum` is that of a row's contents; NULL: the
# row was written by a version that made none. `sidecar` is the state of the XMP files beside a picture. `folders` are
# those that the gallery was indexed from; `exclude` is a list in JSON. `regions` are the records of `regions.record`,
# one after another; NULL: the gallery keeps none.
SCHEMA = (
    "CREATE TABLE meta (fingerprint TEXT NOT NULL, source TEXT NOT NULL, name TEXT NOT NULL,"
    " dimension INTEGER NOT NULL, code_bits INTEGER NOT NULL, created TEXT NOT NULL)",
    "CREATE TABLE items (id INTEGER PRIMARY KEY AUTOINCREMENT, path TEXT NOT NULL UNIQUE, class_name TEXT,"
    " content_hash TEXT NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,"
    " width INTEGER NOT NULL, height INTEGER NOT NULL, added TEXT NOT NULL,"
    " code BLOB NOT NULL, embedding BLOB NOT NULL)",
    f"PRAGMA application_id = {APPLICATION_ID}",
)
GENERATIONS = (
    "ALTER TABLE meta ADD COLUMN generation INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE meta ADD COLUMN forgotten INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE meta ADD COLUMN side_token TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE meta ADD COLUMN thumbnail_side INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE items ADD COLUMN generation INTEGER NOT NULL DEFAULT 0",
    "CREATE INDEX item_generation ON items (generation)",
    "CREATE INDEX item_class ON items (class_name)",
    "CREATE INDEX item_added ON items (added)",
    "CREATE TABLE removed (id INTEGER PRIMARY KEY, generation INTEGER NOT NULL)",
    "CREATE TABLE thumbnails (id INTEGER PRIMARY KEY, jpeg BLOB NOT NULL)",
    "CREATE TRIGGER item_removed AFTER DELETE ON items BEGIN"
    " INSERT INTO removed VALUES (old.id, (SELECT generation FROM meta));"
    " DELETE FROM thumbnails WHERE id = old.id; END",
)
KNOWLEDGE = (
    "ALTER TABLE items ADD COLUMN checksum INTEGER",
    "ALTER TABLE items ADD COLUMN ctime_ns INTEGER",
    "ALTER TABLE items ADD COLUMN described INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE items ADD COLUMN look INTEGER",  # the 64 bits of `data.looks.look`, as a signed number
    "ALTER TABLE items ADD COLUMN taken TEXT",  # ISO 8601 without a zone, as the camera's clock showed it
    "ALTER TABLE items ADD COLUMN camera TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE items ADD COLUMN has_place INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE items ADD COLUMN tags TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE items ADD COLUMN caption TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE items ADD COLUMN rating INTEGER",
    "CREATE INDEX item_content ON items (content_hash)",
    "CREATE INDEX item_taken ON items (taken)",
    "CREATE VIRTUAL TABLE words USING fts5 (path, class_name, tags, caption, content = 'items', content_rowid = 'id',"
    " tokenize = 'unicode61 remove_diacritics 2', prefix = '2 3')",
    "INSERT INTO words (words) VALUES ('rebuild')",
    "CREATE TRIGGER words_added AFTER INSERT ON items BEGIN"
    " INSERT INTO words (rowid, path, class_name, tags, caption)"
    " VALUES (new.id, new.path, new.class_name, new.tags, new.caption); END",
    "CREATE TRIGGER words_removed AFTER DELETE ON items BEGIN"
    " INSERT INTO words (words, rowid, path, class_name, tags, caption)"
    " VALUES ('delete', old.id, old.path, old.class_name, old.tags, old.caption); END",
    "CREATE TRIGGER words_changed AFTER UPDATE OF path, class_name, tags, caption ON items BEGIN"
    " INSERT INTO words (words, rowid, path, class_name, tags, caption)"
    " VALUES ('delete', old.id, old.path, old.class_name, old.tags, old.caption);"
    " INSERT INTO words (rowid, path, class_name, tags, caption)"
    " VALUES (new.id, new.path, new.class_name, new.tags, new.caption); END",
)
FOLDERS = (
    "CREATE TABLE folders (number INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, exclude TEXT NOT NULL,"
    " follow_links INTEGER NOT NULL, videos INTEGER NOT NULL)",
    "ALTER TABLE items ADD COLUMN sidecar TEXT NOT NULL DEFAULT ''",
)
REGIONS = (
    "ALTER TABLE meta ADD COLUMN regions INTEGER NOT NULL DEFAULT 0",  # whether they are kept
    "ALTER TABLE items ADD COLUMN regions BLOB",
)
DROPPED_TRIGGERS = ("item_updated", "item_deleted")  # of schema 1
SETTINGS = ("ALTER TABLE meta ADD COLUMN region_settings TEXT NOT NULL DEFAULT ''",)  # how regions were found
MIGRATIONS = {  # schema -> the statements that convert it to the next one
    1: (
        *(f"DROP TRIGGER {name}" for name in DROPPED_TRIGGERS),
        "ALTER TABLE meta DROP COLUMN rewrites",
        *GENERATIONS,
    ),
    2: KNOWLEDGE,
    3: FOLDERS,
    4: REGIONS,
    5: SETTINGS,
}

MESSAGES = {
    sqlite3.SQLITE_FULL: "the disk is full; make room and run the same command again, finished batches are kept",
    sqlite3.SQLITE_READONLY: "cannot be written; check the permissions of the file and its folder",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened; check the permissions of the file and its folder",
    sqlite3.SQLITE_NOTADB: "not a gallery; give the path of a file made by `crossatnet index`",
    sqlite3.SQLITE_CORRUPT: "the gallery is damaged; `crossatnet check GALLERY --repair` makes again what it can",
    sqlite3.SQLITE_BUSY: "another process keeps the gallery locked; try again when that process is done",
    sqlite3.SQLITE_IOERR: "the disk failed to read or write; check the disk and its free space",
}

DAMAGE = ("no such table", "no such column", "malformed", "Could not decode to UTF-8", "has no column named")


def create(path: Path, made_with: MadeWith, created: str, thumbnail_side: int) -> sqlite3.Connection:
    """Make a new gallery file. Raises `UserError` if there is something at `path` already.

    An empty database is used as if there were none: a process that is killed in this function leaves one.
    """
    if not path.parent.is_dir():
        raise UserError(f"{path}: the folder {path.parent} does not exist; make it first")
    with plain_errors(path):
        connection = _connect(path, "mode=rwc")
        with _closed_on_error(connection):
            with transaction(connection):
                if not _is_blank(connection):
                    raise UserError(f"{path}: exists already; open it, or choose another name")
                for statement in (
                    *SCHEMA,
                    *GENERATIONS,
                    *KNOWLEDGE,
                    *FOLDERS,
                    *REGIONS,
                    *SETTINGS,
                    f"PRAGMA user_version = {SCHEMA_VERSION}",
                ):
                    connection.execute(statement)
                connection.execute(
                    "INSERT INTO meta (fingerprint, source, name, dimension, code_bits, regions, region_settings,"
                    " created, thumbnail_side) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (*astuple(made_with), created, thumbnail_side),
                )
            _configure(connection)
    return connection


def open_to_write(path: Path) -> sqlite3.Connection:
    """Open a gallery file, and convert one of an older schema.

    Raises `GalleryMissingError` if there is none, and `UserError` if the file is no gallery or has a newer schema.
    """
    if not path.exists():
        raise _missing(path)
    check_log(path)
    with plain_errors(path):
        connection = _connect(path, "mode=rw")
        with _closed_on_error(connection):
            version = _checked_version(path, connection)
            _configure(connection)  # only now: it writes WAL mode into the file, which must be a gallery
            if version < SCHEMA_VERSION:
                _migrate(connection)
    return connection


def open_to_read(path: Path, any_schema: bool = False) -> tuple[sqlite3.Connection, bool]:
    """Open a gallery file that may not be written; returns also whether SQLite treats it as unchangeable.

    In a folder that cannot be written, SQLite cannot make the files by which it notices another process's commits. If
    they exist, SQLite uses them. If not, no process is writing now, and the file is opened as one that never changes;
    then the caller must watch the file's own time and size. Raises as `open_to_write` does, and `UserError` for an
    older schema, or if changes lie beside the file that only a process that may write can merge.
    """
    if not path.exists():
        raise _missing(path)
    check_log(path)
    log, shared = (path.with_name(path.name + suffix) for suffix in ("-wal", "-shm"))
    has_log = log.exists() and log.stat().st_size > 0
    if has_log and not shared.exists() and not may_write(path):
        raise UserError(
            f"{path}: has changes in {log.name} that are not merged yet; open it once where it can be written"
        )
    unchangeable = not has_log and not shared.exists() and not may_write(path)
    with plain_errors(path):
        connection = _connect(path, "mode=ro&immutable=1" if unchangeable else "mode=ro")
        with _closed_on_error(connection):
            version = _checked_version(path, connection)
            if version < SCHEMA_VERSION and not any_schema:
                raise UserError(
                    f"{path}: has gallery schema {version}, this version reads schema {SCHEMA_VERSION}; open it once"
                    " where it can be written, which converts it"
                )
            connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    return connection, unchangeable


def may_write(path: Path) -> bool:
    """Whether this process may change the file and make files beside it, which SQLite needs."""
    return access(path, W_OK) and access(path.parent, W_OK)


@contextmanager
def transaction(connection: sqlite3.Connection, kind: str = "IMMEDIATE") -> Iterator[None]:
    """All statements inside take effect together or, after an error, not at all."""
    connection.execute(f"BEGIN {kind}")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # after some errors, such as a full disk, SQLite has rolled back already
            connection.execute("ROLLBACK")
        raise


@contextmanager
def plain_errors(path: Path) -> Iterator[None]:
    """Turn errors of SQLite that a user can fix into a `UserError`; other errors are bugs and stay as they are."""
    try:
        yield
    except UnicodeDecodeError as error:  # of a schema's text
        raise UserError(f"{path}: {MESSAGES[sqlite3.SQLITE_CORRUPT]} ({error})") from error
    except sqlite3.Error as error:
        if "no such module: fts5" in str(error):
            raise UserError(
                f"{path}: this Python's SQLite has no full-text search (FTS5); use another Python"
            ) from error
        primary = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the higher bits are only details
        if primary not in MESSAGES and _is_of_damage(error, primary):
            primary = sqlite3.SQLITE_CORRUPT
        if primary not in MESSAGES:
            raise
        kind = DiskFullError if primary == sqlite3.SQLITE_FULL else UserError
        raise kind(f"{path}: {MESSAGES[primary]} ({error})") from error


def _is_of_damage(error: sqlite3.Error, primary: int) -> bool:
    """Whether an error comes from a file that is not as this program wrote it, and not from a bug."""
    if primary in (sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_FORMAT):
        return True
    return any(part in str(error) for part in DAMAGE)


def _connect(path: Path, parameters: str) -> sqlite3.Connection:
    """Open the file in autocommit mode, for use by any thread; "mode=rw" makes no file, "rwc" makes a missing one."""
    if path.is_dir():
        raise UserError(f"{path}: a folder, not a gallery; give the path of a gallery file")
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?{parameters}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=BUSY_TIMEOUT_S,
    )
    connection.create_function("has_tag", 2, has_tag, deterministic=True)
    add_functions(connection)
    return connection


def _configure(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")


def _migrate(connection: sqlite3.Connection) -> None:
    """Run all steps to the present schema in one transaction; another process may have done it already."""
    with transaction(connection):
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        for step in range(version, SCHEMA_VERSION):
            for statement in MIGRATIONS[step]:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _checked_version(path: Path, connection: sqlite3.Connection) -> int:
    """The file's schema version, after checking that it is a gallery this program can read or convert."""
    if _is_blank(connection):
        raise _missing(path)
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise UserError(f"{path}: a database of another program, not a gallery; give the path of a gallery")
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version != SCHEMA_VERSION and version not in MIGRATIONS:
        todo = "upgrade crossatnet" if version > SCHEMA_VERSION else "index the pictures again"
        raise UserError(f"{path}: has gallery schema {version}, this version reads schema {SCHEMA_VERSION}; {todo}")
    _check_schema(path, connection, dropped=DROPPED_TRIGGERS if version == 1 else ())
    return version


def _check_schema(path: Path, connection: sqlite3.Connection, dropped: tuple[str, ...]) -> None:
    """Raise `UserError` for a file whose schema is not ours: a view or trigger may run without end."""
    found = connection.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
    missing = {"meta", "items"} - {name for kind, name, _ in found if kind == "table"}
    if missing:
        raise UserError(f"{path}: {MESSAGES[sqlite3.SQLITE_CORRUPT]} (no table {', '.join(sorted(missing))})")
    known = {*GENERATIONS, *KNOWLEDGE}
    for kind, name, statement in found:
        if kind == "view" or (kind == "trigger" and statement not in known and name not in dropped):
            raise UserError(
                f"{path}: refused, as its {kind} {name!r} is not one of a gallery; index the pictures again"
            )


def _is_blank(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is None


def _missing(path: Path) -> GalleryMissingError:
    return GalleryMissingError(f"{path}: no gallery there; make one with `crossatnet index FOLDER -o {path}`")


@contextmanager
def _closed_on_error(connection: sqlite3.Connection) -> Iterator[None]:
    try:
        yield
    except BaseException:
        connection.close()
        raise

"""Galleries of schema 2 become galleries of this schema in one transaction, or stay as they were."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np

from crossatnet.gallery import Gallery
from crossatnet.gallery.backend import Filter
from crossatnet.gallery.sqlite.database import SCHEMA_VERSION
from gallery import known
from gallery.fake_model import FakeModel

ITEMS = 20_000
SCHEMA_2 = (  # as version 0.1 wrote it in November 2026
    "PRAGMA journal_mode = WAL",
    "CREATE TABLE meta (fingerprint TEXT NOT NULL, source TEXT NOT NULL, name TEXT NOT NULL,"
    " dimension INTEGER NOT NULL, code_bits INTEGER NOT NULL, created TEXT NOT NULL)",
    "CREATE TABLE items (id INTEGER PRIMARY KEY AUTOINCREMENT, path TEXT NOT NULL UNIQUE, class_name TEXT,"
    " content_hash TEXT NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,"
    " width INTEGER NOT NULL, height INTEGER NOT NULL, added TEXT NOT NULL,"
    " code BLOB NOT NULL, embedding BLOB NOT NULL)",
    f"PRAGMA application_id = {0x43415447}",
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
    "PRAGMA user_version = 2",
)
OPENER = """
import sys
from crossatnet.gallery.sqlite.database import open_to_write
from pathlib import Path
print("ready", flush=True)
open_to_write(Path(sys.argv[1])).close()
print("converted", flush=True)
"""


def made_by_schema_2(path: Path, model: FakeModel, pictures: list[tuple[str, str, str]]) -> list[tuple[object, ...]]:
    """A gallery of (path, class, content hash), and its rows."""
    vectors = np.random.default_rng(0).standard_normal((len(pictures), model.dimension)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    codes = model.hash(vectors)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in SCHEMA_2:
            connection.execute(statement)
        made_with = (model.fingerprint, model.source, model.name, model.dimension, model.code_bits, "2026-01-01")
        connection.execute("INSERT INTO meta VALUES (?, ?, ?, ?, ?, ?, 1, 0, '', 0)", made_with)
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT INTO items (path, class_name, content_hash, size, mtime_ns, width, height, added, code, embedding,"
            " generation) VALUES (?, ?, ?, 10, 20, 30, 40, '2026-01-02T03:04:05+00:00', ?, ?, 1)",
            [
                (*picture, code.tobytes(), vector.astype("<f2").tobytes())
                for picture, code, vector in zip(pictures, codes, vectors, strict=True)
            ],
        )
        connection.execute("COMMIT")
        return rows_of(connection)


def rows_of(connection: sqlite3.Connection) -> list[tuple[object, ...]]:
    columns = "id, path, class_name, content_hash, size, mtime_ns, width, height, added, code, embedding, generation"
    return connection.execute(f"SELECT {columns} FROM items ORDER BY id").fetchall()


def test_a_conversion_killed_at_any_moment_leaves_the_old_gallery_or_the_new_one(tmp_path: Path) -> None:
    model, path = FakeModel(), tmp_path / "my.gallery"
    pictures = [(f"/photos/holiday {n % 50}/{n}.jpg", f"class {n % 50}", f"{n:064x}") for n in range(ITEMS)]
    before = made_by_schema_2(path, model, pictures)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    chance, versions, wait = random.Random(os.getpid()), [], 0.02
    while not versions or versions[-1] == 2:
        command = [sys.executable, "-c", OPENER, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as opener:
            assert opener.stdout is not None
            assert opener.stdout.readline() == "ready\n"
            time.sleep(chance.uniform(0, wait))
            opener.send_signal(signal.SIGKILL)
        wait *= 1.3  # until one comes to its end
        with closing(sqlite3.connect(path)) as connection:
            versions.append(connection.execute("PRAGMA user_version").fetchone()[0])
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert rows_of(connection) == before
            tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
            columns = {row[1] for row in connection.execute("PRAGMA table_info(items)")}
            is_new = versions[-1] == SCHEMA_VERSION
            assert {"words" in tables, "checksum" in columns, "regions" in columns} == {is_new}
    assert len(versions) > 3, "none was killed before its end"
    with Gallery.open(path, model) as gallery:
        assert len(gallery) == ITEMS
        assert not gallery.store.made_with.regions
        hits = gallery.find(None, ITEMS, filter=Filter(words="class holiday", folder="holiday 7")).hits
        assert len(hits) == ITEMS // 50
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("SELECT count(*) FROM items WHERE checksum IS NULL").fetchone() == (ITEMS,)


def test_a_converted_gallery_is_filled_in_by_the_next_index(tmp_path: Path) -> None:
    model, folder = FakeModel(), tmp_path / "pictures"
    paths = [known.write(folder / f"{number}.jpg", number, "2019:07:14 10:22:33", ("sea",)) for number in range(5)]
    with Gallery.create(tmp_path / "new.gallery", model) as gallery:
        gallery.add_folder(folder)
        hashes = gallery.store.file_states([str(path) for path in paths])
    pictures = [(str(path), "", hashes[str(path)].content_hash) for path in paths]
    before = made_by_schema_2(tmp_path / "my.gallery", model, pictures)
    model.batch_sizes.clear()
    with Gallery.open(tmp_path / "my.gallery", model) as gallery:
        assert gallery.find(None, 10, filter=Filter(tags=("sea",))).hits == []
        assert gallery.add_folder(folder).described == 5
        assert model.batch_sizes == []
        assert len(gallery.find(None, 10, filter=Filter(tags=("sea",))).hits) == 5
        with closing(sqlite3.connect(tmp_path / "my.gallery")) as connection:
            assert [row[9:11] for row in rows_of(connection)] == [row[9:11] for row in before]

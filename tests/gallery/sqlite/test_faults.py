"""Faults around a gallery: each error is one clear line, and no acknowledged change is lost."""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from crossatnet.gallery import Gallery
from crossatnet.gallery.ingest import folder as ingest_module
from crossatnet.gallery.sqlite import database, sidefile
from crossatnet.gallery.sqlite import present as present_module
from crossatnet.gallery.sqlite.database import SCHEMA_VERSION
from crossatnet.system.errors import UserError
from gallery import kills
from gallery.fake_model import FakeModel


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    kills.drawn(tmp_path / "pictures")
    return tmp_path / "pictures"


@pytest.fixture
def model() -> FakeModel:
    return FakeModel()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own, which `remount` changes."""
    mounted = tmp_path / "disk"
    mounted.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None or mount("-t", "tmpfs", "-o", "size=300k", "tmpfs", mounted):
        pytest.skip("needs the right to mount a small disk")
    yield mounted
    subprocess.run(["umount", "-l", str(mounted)], check=True)


def mount(*arguments: object) -> int:
    return subprocess.run(["mount", *map(str, arguments)], capture_output=True, check=False).returncode


def remount(disk: Path, options: str) -> None:
    assert mount("-o", f"remount,{options}", disk) == 0


def found_by_itself(gallery: Gallery, folder: Path) -> int:
    """How many pictures of the folder find themselves as the first hit."""
    paths = [str(path) for path in folder.rglob("*.png")]
    return sum(gallery.search(path, 1, "photo")[0].path == path for path in paths)


def test_killed_at_any_moment_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    rounds = list(kills.killed_rounds(tmp_path, moments=4, seed=os.getpid()))
    assert len(rounds) == 4
    assert sum(one["acknowledged"] for one in rounds) > 0


def test_a_full_disk_is_reported_and_the_same_command_goes_on(
    disk: Path, folder: Path, model: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest_module, "PICTURES_A_BATCH", 8)
    path, stored = disk / "my.gallery", 0

    def count(done: int, total: int) -> None:
        nonlocal stored
        stored = done

    with Gallery.create(path, model) as gallery:
        with pytest.raises(UserError, match=r"my\.gallery: the disk is full; make room and run the same command again"):
            gallery.add_folder(folder, count)
        assert 0 < stored < kills.PICTURES
        assert len(gallery) == stored
    remount(disk, "size=8m")
    with Gallery.open(path, model) as gallery:
        summary = gallery.add_folder(folder)
        assert (summary.added, summary.unchanged) == (kills.PICTURES - stored, stored)
        assert found_by_itself(gallery, folder) == kills.PICTURES


def test_a_disk_too_full_for_the_side_file_or_to_compact_loses_nothing(
    disk: Path, folder: Path, model: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    remount(disk, "size=2m")
    with Gallery.create(disk / "my.gallery", model) as gallery:
        gallery.add_folder(folder)
        with pytest.raises(OSError, match="No space left"):
            (disk / "ballast").write_bytes(bytes(2_000_000))
        monkeypatch.setattr(present_module, "UNFLUSHED", 20)
        gallery.store.flush()
        with pytest.raises(UserError, match="the disk is full"):
            gallery.store.compact()
        assert found_by_itself(gallery, folder) == len(gallery) == kills.PICTURES
        (disk / "ballast").unlink()
        gallery.store.compact()
        assert sidefile.path_of(disk / "my.gallery").exists()
        assert found_by_itself(gallery, folder) == kills.PICTURES


def test_a_gallery_in_a_read_only_folder_is_searched_and_left_alone(disk: Path, folder: Path, model: FakeModel) -> None:
    remount(disk, "size=8m")
    path = disk / "my.gallery"
    with Gallery.create(path, model) as gallery:
        gallery.add_folder(folder)
    remount(disk, "ro")
    before = sorted(disk.iterdir())
    with Gallery.open(path, model) as reader:
        assert found_by_itself(reader, folder) == len(reader) == kills.PICTURES
        model.batch_sizes.clear()
        with pytest.raises(UserError, match=r"my\.gallery: cannot be written; check the permissions"):
            reader.add_folder(folder)
        assert model.batch_sizes == []  # reported before anything was embedded
        with pytest.raises(UserError, match="cannot be written"):
            reader.remove([folder])
        with pytest.raises(UserError, match="cannot be written"):
            reader.store.compact()
        assert sorted(disk.iterdir()) == before

        remount(disk, "rw")
        with Gallery.open(path, model) as writer:
            writer.remove([folder / "class0"])
        remount(disk, "ro")
        assert len(reader) == kills.PICTURES * 2 // 3  # it notices that the file was replaced
        assert found_by_itself(reader, folder / "class1") == kills.PICTURES // 3


def test_another_gallery_put_in_the_place_of_a_read_only_one_is_noticed(
    disk: Path, folder: Path, model: FakeModel
) -> None:
    remount(disk, "size=8m")
    path = disk / "my.gallery"
    for name, part in (("my.gallery", "class0"), ("other.gallery", "class1")):
        with Gallery.create(disk / name, model) as gallery:
            gallery.add_folder(folder / part)  # as many generations in both
    remount(disk, "ro")
    with Gallery.open(path, model) as reader:
        assert found_by_itself(reader, folder / "class0") == kills.PICTURES // 3
        remount(disk, "rw")
        shutil.copyfile(disk / "other.gallery", path)
        remount(disk, "ro")
        assert found_by_itself(reader, folder / "class1") == kills.PICTURES // 3


def test_unmerged_changes_in_a_read_only_folder_are_not_overlooked(disk: Path, folder: Path, model: FakeModel) -> None:
    remount(disk, "size=8m")
    with Gallery.create(folder.parent / "my.gallery", model) as gallery:
        gallery.add_folder(folder)
        for name in ("my.gallery", "my.gallery-wal"):  # a copy of a gallery in use
            shutil.copy(folder.parent / name, disk / name)
    remount(disk, "ro")
    with pytest.raises(UserError, match=r"has changes in my\.gallery-wal that are not merged yet; open it once where"):
        Gallery.open(disk / "my.gallery", model)
    remount(disk, "rw")
    with Gallery.open(disk / "my.gallery", model) as gallery:
        assert found_by_itself(gallery, folder) == kills.PICTURES


def test_an_older_schema_in_a_read_only_folder_is_reported(disk: Path, model: FakeModel) -> None:
    remount(disk, "size=8m")
    made_by_schema_1(disk / "my.gallery", model)
    remount(disk, "ro")
    with pytest.raises(UserError, match=f"has gallery schema 1, .* reads schema {SCHEMA_VERSION}; open it once"):
        Gallery.open(disk / "my.gallery", model)


@pytest.mark.parametrize("damage", ["cut", "filled with ones"])
def test_a_damaged_side_file_costs_nothing(
    tmp_path: Path, folder: Path, model: FakeModel, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(present_module, "UNFLUSHED", 20)
    with Gallery.create(tmp_path / "my.gallery", model) as gallery:
        gallery.add_folder(folder)
    side = sidefile.path_of(tmp_path / "my.gallery")
    size = side.stat().st_size
    if damage == "cut":
        os.truncate(side, size // 2)
    else:
        side.write_bytes(side.read_bytes()[: size // 2] + b"\xff" * (size - size // 2))
    with Gallery.open(tmp_path / "my.gallery", model) as gallery:
        assert found_by_itself(gallery, folder) == kills.PICTURES


WRITER = """
import sys
from gallery.fake_model import FakeModel
from crossatnet.gallery import Gallery, ingest
ingest.PICTURES_A_BATCH = 8
with Gallery.open(sys.argv[1], FakeModel()) as gallery:
    print("ready", flush=True)
    sys.stdin.readline()
    print(gallery.add_folder(sys.argv[2]).added)
"""


def test_two_writers_at_once_store_every_picture_once(tmp_path: Path, folder: Path, model: FakeModel) -> None:
    path = tmp_path / "my.gallery"
    Gallery.create(path, model).close()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for _ in range(2)
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    sizes, query = [0], folder / "class0" / "000.png"
    with Gallery.open(path, model) as reader:
        while any(writer.poll() is None for writer in writers):
            hits = reader.search(query, kills.PICTURES, "photo")
            assert len({hit.path for hit in hits}) == len(hits)
            sizes.append(len(hits))
    assert sizes == sorted(sizes)
    added = [int(writer.communicate(timeout=60)[0]) for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0]
    assert sum(added) >= kills.PICTURES
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    with Gallery.open(path, model) as gallery:
        assert found_by_itself(gallery, folder) == len(gallery) == kills.PICTURES


def made_by_schema_1(path: Path, model: FakeModel) -> list[tuple[object, ...]]:
    """A gallery as version 0.1 wrote it, with three items of which one was removed; its rows."""
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    embeddings = model.embed(pixels, "photo")
    codes = model.hash(embeddings)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in (
            "PRAGMA journal_mode = WAL",
            "CREATE TABLE meta (fingerprint TEXT NOT NULL, source TEXT NOT NULL, name TEXT NOT NULL,"
            " dimension INTEGER NOT NULL, code_bits INTEGER NOT NULL, created TEXT NOT NULL,"
            " rewrites INTEGER NOT NULL)",
            "CREATE TABLE items (id INTEGER PRIMARY KEY AUTOINCREMENT, path TEXT NOT NULL UNIQUE, class_name TEXT,"
            " content_hash TEXT NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,"
            " width INTEGER NOT NULL, height INTEGER NOT NULL, added TEXT NOT NULL,"
            " code BLOB NOT NULL, embedding BLOB NOT NULL)",
            "CREATE TRIGGER item_updated AFTER UPDATE OF code ON items BEGIN"
            " UPDATE meta SET rewrites = rewrites + 1; END",
            "CREATE TRIGGER item_deleted AFTER DELETE ON items BEGIN UPDATE meta SET rewrites = rewrites + 1; END",
            f"PRAGMA application_id = {0x43415447}",
            "PRAGMA user_version = 1",
        ):
            connection.execute(statement)
        made_with = (model.fingerprint, model.source, model.name, model.dimension, model.code_bits, "2026-01-01", 0)
        connection.execute("INSERT INTO meta VALUES (?, ?, ?, ?, ?, ?, ?)", made_with)
        for number, (code, embedding) in enumerate(zip(codes, embeddings.astype("<f2"), strict=True)):
            row = (f"/p/{number}.png", "cat", "a" * 64, 10, 20, 30, 40, "2026-01-02T03:04:05+00:00")
            connection.execute(
                "INSERT INTO items (path, class_name, content_hash, size, mtime_ns, width, height, added, code,"
                " embedding) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (*row, code.tobytes(), embedding.tobytes()),
            )
        connection.execute("DELETE FROM items WHERE id = 2")
        return rows_of(connection)


def rows_of(connection: sqlite3.Connection) -> list[tuple[object, ...]]:
    columns = "id, path, class_name, content_hash, size, mtime_ns, width, height, added, code, embedding"
    return connection.execute(f"SELECT {columns} FROM items ORDER BY id").fetchall()


def test_a_gallery_of_an_older_schema_is_converted_and_works(tmp_path: Path, model: FakeModel, folder: Path) -> None:
    path = tmp_path / "my.gallery"
    before = made_by_schema_1(path, model)
    with Gallery.open(path, model) as gallery:
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
            assert rows_of(connection) == before
        pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
        assert [hit.id for hit in gallery.search(pixels[2], modality="photo")] == [3, 1]
        gallery.add_folder(folder)
        assert gallery.remove(["/p/0.png"]) == 1
        assert found_by_itself(gallery, folder) == kills.PICTURES
        assert len(gallery) == kills.PICTURES + 1
        gallery.store.compact()
    with Gallery.open(path, model) as again:
        assert found_by_itself(again, folder) == kills.PICTURES


def test_a_conversion_cut_short_changes_nothing(
    tmp_path: Path, model: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "my.gallery"
    before = made_by_schema_1(path, model)
    broken = {1: (*database.MIGRATIONS[1], "CREATE TABLE items (id)")}
    monkeypatch.setattr(database, "MIGRATIONS", broken)
    with pytest.raises(sqlite3.OperationalError, match="already exists"):
        Gallery.open(path, model)
    monkeypatch.undo()
    with Gallery.open(path, model) as gallery, closing(sqlite3.connect(path)) as connection:
        assert rows_of(connection) == before
        assert len(gallery) == 2

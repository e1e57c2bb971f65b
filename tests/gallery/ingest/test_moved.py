"""Files that moved, were doubled, edited in secret or described by nobody: indexed again without the network."""

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from crossatnet.gallery import Gallery
from gallery import known
from gallery.fake_model import FakeModel

PICTURES = 70  # more than two batches


@pytest.fixture
def model() -> FakeModel:
    return FakeModel()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(PICTURES):
        known.write(tmp_path / "pictures" / f"class{number % 3}" / f"{number:03}.jpg", number, "2019:07:14 10:22:33")
    return tmp_path / "pictures"


@pytest.fixture
def gallery(tmp_path: Path, model: FakeModel, folder: Path) -> Iterator[Gallery]:
    with Gallery.create(tmp_path / "my.gallery", model, thumbnail_side=32) as gallery:
        gallery.add_folder(folder)
        model.batch_sizes.clear()
        yield gallery


def rows(gallery: Gallery, columns: str = "id, embedding, code, content_hash, added") -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(gallery.store.name)) as connection:
        return connection.execute(f"SELECT {columns} FROM items ORDER BY id").fetchall()


def found_by_itself(gallery: Gallery, folder: Path) -> int:
    paths = [str(path) for path in folder.rglob("*.jpg")]
    return sum(gallery.search(path, 1, "photo")[0].path == path for path in paths)


def test_a_folder_that_was_renamed_is_the_same_pictures(
    gallery: Gallery, model: FakeModel, folder: Path, tmp_path: Path
) -> None:
    before = rows(gallery)
    thumbnails = [gallery.store.thumbnail(number) for number in range(1, PICTURES + 1)]
    folder.rename(tmp_path / "photos")
    summary = gallery.add_folder(tmp_path / "photos")
    assert (summary.moved, summary.added, summary.removed, summary.unchanged) == (PICTURES, 0, 0, 0)
    assert model.batch_sizes == []  # the network saw nothing
    assert rows(gallery) == before
    assert [gallery.store.thumbnail(number) for number in range(1, PICTURES + 1)] == thumbnails
    model.batch_sizes.clear()
    assert found_by_itself(gallery, tmp_path / "photos") == len(gallery) == PICTURES
    again = gallery.add_folder(tmp_path / "photos")
    assert (again.unchanged, again.moved) == (PICTURES, 0)


def test_files_with_new_names_and_folders_keep_their_ids_and_take_the_new_class(
    gallery: Gallery, model: FakeModel, folder: Path
) -> None:
    before = {row[3]: row for row in rows(gallery)}
    for path in [*folder.rglob("*.jpg")][:40]:
        (folder / "new class").mkdir(exist_ok=True)
        path.rename(folder / "new class" / f"renamed {path.name}")
    new = known.write(folder / "class0" / "new.jpg", 1000)
    summary = gallery.add_folder(folder)
    assert (summary.moved, summary.added, summary.unchanged, summary.removed) == (40, 1, PICTURES - 40, 0)
    assert sum(model.batch_sizes) == 1
    after = {row[3]: row for row in rows(gallery)}
    assert {key: row for key, row in after.items() if key in before} == before
    assert gallery.store.classes()["new class"] == 40
    assert [*gallery.store.ids([str(new)])] == [str(new)]
    assert found_by_itself(gallery, folder) == PICTURES + 1


def test_of_doubles_one_takes_the_place_of_the_file_that_is_gone(
    gallery: Gallery, model: FakeModel, folder: Path
) -> None:
    origin = folder / "class0" / "000.jpg"
    (key,) = gallery.store.ids([str(origin)]).values()
    for name in ("a", "b", "c"):
        shutil.copy(origin, folder / f"{name}.jpg")
    origin.unlink()
    summary = gallery.add_folder(folder)
    assert (summary.moved, summary.added, summary.removed) == (1, 2, 0)
    assert sum(model.batch_sizes) == 2
    ids = gallery.store.ids([str(folder / f"{name}.jpg") for name in ("a", "b", "c")])
    assert len(ids) == 3
    assert key in ids.values()
    assert len(gallery) == PICTURES + 2


def test_a_file_that_is_only_copied_is_another_picture(gallery: Gallery, folder: Path) -> None:
    shutil.copy(folder / "class0" / "000.jpg", folder / "copy.jpg")
    summary = gallery.add_folder(folder)
    assert (summary.moved, summary.added) == (0, 1)


def test_an_edit_that_keeps_size_and_time_is_noticed(gallery: Gallery, model: FakeModel, folder: Path) -> None:
    path = folder / "class0" / "000.jpg"
    status, content = path.stat(), bytearray(path.read_bytes())
    content[-20] ^= 1  # in the pixels
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    summary = gallery.add_folder(folder)
    assert (summary.updated, summary.unchanged) == (1, PICTURES - 1)
    assert sum(model.batch_sizes) == 1


def test_verify_reads_what_even_the_system_says_did_not_change(
    gallery: Gallery, model: FakeModel, folder: Path
) -> None:
    path = folder / "class0" / "000.jpg"
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    now = path.stat()
    with closing(sqlite3.connect(gallery.store.name)) as connection, connection:  # as if the disk had changed by itself
        states = (now.st_size, now.st_mtime_ns, now.st_ctime_ns, str(path))
        connection.execute("UPDATE items SET size = ?, mtime_ns = ?, ctime_ns = ? WHERE path = ?", states)
    assert gallery.add_folder(folder).updated == 0
    summary = gallery.add_folder(folder, verify=True)
    assert (summary.updated, summary.unchanged) == (1, PICTURES - 1)
    assert sum(model.batch_sizes) == 1


def test_an_older_gallery_is_described_without_the_network(gallery: Gallery, model: FakeModel, folder: Path) -> None:
    before = rows(gallery)
    described = rows(gallery, "look, taken, described, ctime_ns")
    with closing(sqlite3.connect(gallery.store.name)) as connection, connection:  # as the conversion leaves it
        connection.execute(
            "UPDATE items SET described = 0, look = NULL, taken = NULL, ctime_ns = NULL, checksum = NULL"
        )
    summary = gallery.add_folder(folder)
    assert (summary.described, summary.unchanged, summary.updated, summary.added) == (PICTURES, PICTURES, 0, 0)
    assert model.batch_sizes == []
    assert rows(gallery) == before
    assert rows(gallery, "look, taken, described, ctime_ns") == described
    assert {row[1] for row in described} == {"2019-07-14T10:22:33"}
    assert gallery.add_folder(folder).described == 0


def test_an_older_gallery_whose_folder_was_renamed_is_described_too(
    gallery: Gallery, model: FakeModel, folder: Path, tmp_path: Path
) -> None:
    described = rows(gallery, "look, taken, described")
    with closing(sqlite3.connect(gallery.store.name)) as connection, connection:
        connection.execute(
            "UPDATE items SET described = 0, look = NULL, taken = NULL, ctime_ns = NULL, checksum = NULL"
        )
    folder.rename(tmp_path / "photos")
    assert gallery.add_folder(tmp_path / "photos").moved == PICTURES
    assert model.batch_sizes == []
    assert rows(gallery, "look, taken, described") == described


def test_hits_say_that_their_file_is_gone(gallery: Gallery, folder: Path) -> None:
    path = folder / "class0" / "000.jpg"
    content = path.read_bytes()
    path.unlink()
    result = gallery.find(content, 3, modality="photo")
    assert [hit.gone for hit in result.hits] == [True, False, False]
    assert result.gone == 1

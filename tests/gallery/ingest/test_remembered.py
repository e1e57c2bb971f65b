"""A gallery remembers its folders: one call brings all in step, and what is away stays."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from crossatnet.gallery import Gallery
from crossatnet.gallery.backend import Choice, Filter, Root
from crossatnet.gallery.sqlite import checking, database
from crossatnet.system.errors import UserError
from data.test_sidecars import DARKTABLE, LIGHTROOM
from gallery import known
from gallery.fake_model import FakeModel

WITHOUT_TWO = Choice(exclude=("2.*",))


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    for number in range(6):
        known.write(tmp_path / "pictures" / ("one", "two")[number % 2] / f"{number}.jpg", number)
    return tmp_path / "pictures" / "one", tmp_path / "pictures" / "two"


@pytest.fixture
def gallery(tmp_path: Path, folders: tuple[Path, Path]) -> Gallery:
    gallery = Gallery.create(tmp_path / "my.gallery", FakeModel())
    gallery.add_folder(folders[0], choice=WITHOUT_TWO)
    gallery.add_folder(folders[1])
    return gallery


def names(gallery: Gallery) -> list[str]:
    return sorted(Path(hit.path).name for hit in gallery.find(None, 100).hits)


def test_all_folders_come_in_step_as_each_was_indexed(gallery: Gallery, folders: tuple[Path, Path]) -> None:
    assert names(gallery) == ["0.jpg", "1.jpg", "3.jpg", "4.jpg", "5.jpg"]
    known.write(folders[0] / "6.jpg", 6)
    (folders[1] / "5.jpg").unlink()
    summary = gallery.update()
    assert (summary.added, summary.removed, summary.unchanged, summary.skipped) == (1, 1, 4, ())
    assert names(gallery) == ["0.jpg", "1.jpg", "3.jpg", "4.jpg", "6.jpg"]
    assert gallery.update(more=Choice(exclude=("3.*",), follow_links=True)).removed == 1
    assert gallery.store.roots() == [
        Root(folders[0], Choice(("2.*", "3.*"), follow_links=True)),
        Root(folders[1], Choice(("3.*",), follow_links=True)),
    ]
    assert (gallery.update().added, gallery.add_folder(folders[0]).added) == (0, 1)  # "2.jpg": no pattern given
    assert gallery.store.roots()[0] == Root(folders[0])


def test_a_folder_that_is_away_is_named_and_keeps_its_pictures(gallery: Gallery, folders: tuple[Path, Path]) -> None:
    away = folders[1].rename(folders[1].with_name("unmounted"))
    known.write(folders[0] / "6.jpg", 6)
    summary = gallery.update()
    assert (summary.added, summary.removed) == (1, 0)
    assert [path for path, _ in summary.skipped] == [str(folders[1])]
    assert summary.skipped[0][1].endswith("two: no such folder; check the path; its pictures stay in the gallery")
    folders[1].mkdir()  # as the place of a disk that is not mounted
    assert "no pictures there" in gallery.update().skipped[0][1]
    assert names(gallery) == ["0.jpg", "1.jpg", "3.jpg", "4.jpg", "5.jpg", "6.jpg"]
    folders[1].rmdir()
    folders[0].rename(folders[0].with_name("gone"))
    with pytest.raises(UserError, match=r"one: no such folder.*two: no such folder"):
        gallery.update()
    away.rename(folders[1])
    assert gallery.update().unchanged == 3


def test_a_folder_that_was_renamed_is_forgotten(gallery: Gallery, folders: tuple[Path, Path]) -> None:
    renamed = folders[1].rename(folders[1].with_name("renamed"))
    assert gallery.add_folder(renamed).moved == 3
    assert gallery.update().skipped == ()
    assert gallery.store.roots() == [Root(folders[0], WITHOUT_TWO), Root(renamed)]


def test_folders_within_others_and_removed_ones_are_not_remembered(
    gallery: Gallery, folders: tuple[Path, Path]
) -> None:
    known.write(folders[0] / "inner" / "7.jpg", 7)
    gallery.add_folder(folders[0] / "inner")
    assert [root.folder for root in gallery.store.roots()] == [*folders]
    assert gallery.remove([folders[0]]) == 3
    assert gallery.store.roots() == [Root(folders[1])]
    gallery.add_folder(folders[1].parent)
    assert gallery.store.roots() == [Root(folders[1].parent)]
    gallery.remove([folders[1].parent])
    with pytest.raises(UserError, match=r"no folder is remembered .*: crossatnet index FOLDER -o"):
        gallery.update()


def test_a_changed_sidecar_is_noticed_and_no_picture_embedded_again(
    gallery: Gallery, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    model = gallery.model
    assert isinstance(model, FakeModel)
    model.batch_sizes.clear()

    def tagged(tag: str) -> list[str]:
        return [Path(hit.path).name for hit in gallery.find(None, 9, filter=Filter(tags=(tag,))).hits]

    sidecar = folders[1] / "3.jpg.xmp"
    sidecar.write_text(DARKTABLE)
    assert gallery.update().described == 1
    assert tagged("Rome") == ["3.jpg"]
    assert gallery.update().described == 0
    sidecar.write_text(LIGHTROOM)
    assert gallery.update().described == 1
    assert (tagged("Rome"), tagged("river")) == ([], ["3.jpg"])
    renamed = folders[1].rename(tmp_path / "elsewhere")  # with its sidecar, which then is in step
    (renamed / "3.jpg.xmp").write_text(DARKTABLE)
    assert gallery.add_folder(renamed).moved == 3
    assert (tagged("Rome"), gallery.update().described) == (["3.jpg"], 0)
    (renamed / "3.jpg.xmp").unlink()
    assert (gallery.update().described, tagged("Rome")) == (1, [])
    assert model.batch_sizes == []


def test_a_repaired_gallery_and_one_of_schema_3(gallery: Gallery, folders: tuple[Path, Path], tmp_path: Path) -> None:
    remembered, path = gallery.store.roots(), tmp_path / "my.gallery"
    gallery.close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE items SET caption = 'another' WHERE id = 1")  # which its checksum shows
    findings, _ = checking.repair(path, lambda copy: lambda file, name: None)
    assert len(findings.faults) == 1
    with Gallery.open(path, FakeModel()) as repaired:
        assert repaired.store.roots() == remembered
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TABLE folders")
        connection.execute("ALTER TABLE items DROP COLUMN sidecar")
        for table, column in (("items", "regions"), ("meta", "regions"), ("meta", "region_settings")):
            connection.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
        connection.execute("PRAGMA user_version = 3")
    with Gallery.open(path, FakeModel()) as converted:
        assert converted.store.roots() == []
        assert converted.add_folder(folders[1]).unchanged == 3
        assert converted.store.roots() == [Root(folders[1])]
    assert checking.check(path).are_none
    with closing(database.open_to_write(path)) as connection:
        connection.execute("UPDATE folders SET exclude = '[3]'")
    with Gallery.open(path, FakeModel()) as damaged, pytest.raises(UserError, match="damaged"):
        damaged.update()

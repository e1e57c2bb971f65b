"""A gallery is replaced while programs have it open: nothing is corrupted, and everybody says what happened."""

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from crossatnet.gallery import Gallery
from crossatnet.gallery.backend import GalleryReplacedError
from crossatnet.gallery.sqlite.copies import backup, replace
from crossatnet.system.errors import UserError
from gallery.fake_model import FakeModel
from server.serving import BASE, HOUSE, assert_refused, picture


def filled(place: Path, folder: Path, seeds: range, seed: int = 0) -> Path:
    folder.mkdir(exist_ok=True)
    for number in seeds:
        (folder / f"{number}.png").write_bytes(picture(number))
    with Gallery.create(place, FakeModel(seed=seed)) as gallery:
        gallery.add_folder(folder)
    return place


def paths(place: Path) -> set[str]:
    with closing(sqlite3.connect(place)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return {row[0] for row in connection.execute("SELECT path FROM items")}


def test_a_gallery_moved_over_an_open_one_is_noticed_and_stays_whole(tmp_path: Path) -> None:
    place = filled(tmp_path / "my.gallery", tmp_path / "mine", range(20))
    other = filled(tmp_path / "other.gallery", tmp_path / "others", range(100, 140))
    truth = paths(other)
    gallery = Gallery.open(place, FakeModel())
    gallery.add_folder(tmp_path / "mine")
    gallery.remove([tmp_path / "mine" / "3.png"])  # lies in the log
    other.rename(place)
    for use in (
        lambda: gallery.search(picture(1)),
        lambda: gallery.remove([tmp_path / "mine" / "4.png"]),
        lambda: gallery.store.touch([]),
        lambda: gallery.store.compact(),
        lambda: len(gallery),
    ):
        with pytest.raises(GalleryReplacedError, match="crossatnet replace"):
            use()
    with pytest.raises(UserError, match=r"put in the place of another gallery.*delete my\.gallery-wal"):
        Gallery.open(place, FakeModel())
    gallery.close()
    for suffix in ("-wal", "-shm", "-open"):
        place.with_name(place.name + suffix).unlink()
    with Gallery.open(place, FakeModel()) as opened:
        assert len(opened) == 40
    assert paths(place) == truth


def test_closing_the_old_gallery_leaves_the_new_ones_log(tmp_path: Path) -> None:
    """SQLite deletes a log by its name; the process of the old gallery ends while the new one has changes in it."""
    place = filled(tmp_path / "my.gallery", tmp_path / "mine", range(20))
    other = filled(tmp_path / "other.gallery", tmp_path / "others", range(100, 140))
    script = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "from crossatnet.gallery import Gallery\nfrom gallery.fake_model import FakeModel\n"
        "gallery = Gallery.open(sys.argv[1], FakeModel())\n"
        "gallery.store.touch([]); print(len(gallery), flush=True); input(); gallery.close()"
    )
    command = [sys.executable, "-c", script, str(place)]
    root = Path(__file__).parents[2]
    holder = subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdin is not None
    assert holder.stdout.readline() == "20\n"
    other.rename(place)
    for suffix in ("-wal", "-shm", "-open"):
        place.with_name(place.name + suffix).unlink(missing_ok=True)
    with Gallery.open(place, FakeModel()) as opened:
        opened.remove([tmp_path / "others" / "100.png"])
        holder.communicate("\n", timeout=60)
        assert place.with_name(place.name + "-wal").exists(), "the old gallery's end deleted the new one's log"
    assert len(paths(place)) == 39


def test_the_server_answers_503_and_says_what_to_do(
    serve: Callable[..., TestClient], gallery: Gallery, tmp_path: Path
) -> None:
    client = serve()
    other = filled(tmp_path / "other.gallery", tmp_path / "others", range(100, 140))
    other.rename(gallery.store.name)
    answer = client.post(f"{BASE}/search/strokes", json={"strokes": HOUSE})
    assert_refused(answer, 503, "replaced", "restart the server")


def test_replace_is_seen_by_programs_that_have_it_open(
    serve: Callable[..., TestClient], gallery: Gallery, tmp_path: Path
) -> None:
    client, place = serve(), Path(gallery.store.name)
    before = client.get(BASE).json()["pictures"]
    assert len(gallery.search(picture(1), 200)) == before
    other = filled(tmp_path / "other.gallery", tmp_path / "others", range(100, 103))
    copy = tmp_path / "copy.gallery"
    backup(place, copy)
    old = paths(place)
    replace(place, other)
    assert client.get(BASE).json()["pictures"] == 3
    hits = client.post(f"{BASE}/search/strokes", json={"strokes": HOUSE}).json()["hits"]
    assert {hit["file_name"] for hit in hits} == {"100.png", "101.png", "102.png"}
    assert len(gallery.search(picture(1), 200)) == 3
    replace(place, copy)
    assert len(gallery.search(picture(1), 200)) == before
    assert paths(place) == old
    assert paths(other)  # stays
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_gallery_of_another_model_is_not_mixed_in(tmp_path: Path) -> None:
    place = filled(tmp_path / "my.gallery", tmp_path / "mine", range(20))
    other = filled(tmp_path / "other.gallery", tmp_path / "others", range(100, 110), seed=1)
    with Gallery.open(place, FakeModel()) as gallery:
        gallery.search(picture(1))
        replace(place, other)
        with pytest.raises(GalleryReplacedError, match="another kind"):
            gallery.search(picture(1))
        with pytest.raises(GalleryReplacedError, match="another kind"):
            gallery.add_folder(tmp_path / "mine")
    with Gallery.open(place, FakeModel(seed=1)) as gallery:
        assert len(gallery) == 10


def test_copies_refuse_what_they_would_destroy(tmp_path: Path) -> None:
    place = filled(tmp_path / "my.gallery", tmp_path / "mine", range(3))
    text = tmp_path / "text.txt"
    text.write_text("hello " * 1000, encoding="utf-8")
    for copy, part in ((place, "exists already"), (tmp_path / "none" / "x", "does not exist")):
        with pytest.raises(UserError, match=part):
            backup(place, copy)
    with pytest.raises(UserError, match="no gallery there"):
        backup(tmp_path / "none.gallery", tmp_path / "copy.gallery")
    with pytest.raises(UserError, match="not a gallery"):
        replace(text, place)
    with pytest.raises(UserError, match="not a gallery"):
        replace(place, text)
    with pytest.raises(UserError, match="same file"):
        replace(place, place)
    assert text.read_text(encoding="utf-8").startswith("hello")
    assert len(paths(place)) == 3
    replace(tmp_path / "new.gallery", place)
    assert paths(tmp_path / "new.gallery") == paths(place)


def test_a_copy_made_while_another_process_writes_is_one_moment(tmp_path: Path) -> None:
    place = filled(tmp_path / "my.gallery", tmp_path / "mine", range(64))
    with Gallery.open(place, FakeModel()) as gallery:
        for number in range(8):
            gallery.remove([tmp_path / "mine" / f"{number}.png"])
            copy = tmp_path / f"copy{number}.gallery"
            backup(place, copy)
            assert paths(copy) == paths(place)
            assert len(paths(copy)) == 63 - number


FOREIGN = {
    "a view without end": "CREATE VIEW more AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
    " SELECT i FROM n",
    "items that are a view": "ALTER TABLE items RENAME TO old; CREATE VIEW items AS SELECT * FROM old",
    "a trigger without end": "CREATE TRIGGER item_updated AFTER UPDATE ON items BEGIN DELETE FROM items; END",
    "no items": "DROP TABLE items",
    "no meta row": "DELETE FROM meta",
    "meta of text": "UPDATE meta SET dimension = 'many'",
    "no removed": "DROP TABLE removed",
    "no thumbnails": "DROP TRIGGER item_removed; DROP TABLE thumbnails",
}


@pytest.mark.parametrize("change", FOREIGN.values(), ids=FOREIGN)
def test_a_file_that_is_not_as_we_make_them_is_refused_in_a_line(tmp_path: Path, change: str) -> None:
    place = filled(tmp_path / "my.gallery", tmp_path / "mine", range(3))
    with closing(sqlite3.connect(place)) as connection:
        connection.executescript(change)
    with pytest.raises(UserError, match=r"damaged|refused"):
        used(place)


def used(place: Path) -> None:
    with Gallery.open(place, FakeModel()) as gallery:
        gallery.search(picture(1))
        gallery.store.thumbnail(1)

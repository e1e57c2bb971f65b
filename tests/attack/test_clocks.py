"""Clocks that jump: nothing waits for them, nothing is lost or found twice, and no change is overlooked."""

import ast
import os
import time
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

import crossatnet
from crossatnet.gallery import Gallery
from crossatnet.gallery.sqlite import store as store_module
from crossatnet.server.security import COOKIE_SECONDS, Token
from gallery.fake_model import FakeModel
from server.serving import BASE, PNG, picture

YEAR_S = 365 * 24 * 3600
WALL_CLOCK = {"time", "time_ns", "localtime", "gmtime"}  # of the module `time`
TOLD = {"server/security.py", "server/prometheus.py"}  # when a cookie ends, and when a request was answered


def test_no_duration_is_measured_by_the_clock_on_the_wall() -> None:
    root, found = Path(crossatnet.__file__).parent, set()
    for file in root.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "time":
                found |= {file.relative_to(root).as_posix()} if node.attr in WALL_CLOCK else set()
    assert found == TOLD


@pytest.mark.parametrize("years", [-60, 200])
def test_files_from_another_time_are_indexed_once_and_their_changes_noticed(tmp_path: Path, years: int) -> None:
    folder, when = tmp_path / "pictures", time.time() + years * YEAR_S
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.png").write_bytes(picture(number))
        os.utime(folder / f"{number}.png", (when, when))
    with Gallery.create(tmp_path / "my.gallery", FakeModel()) as gallery:
        assert gallery.add_folder(folder).added == 3
        assert gallery.add_folder(folder).unchanged == 3
        (folder / "1.png").write_bytes(picture(100))
        os.utime(folder / "1.png", (when - YEAR_S, when - YEAR_S))  # the newer one is the older one by its time
        assert gallery.add_folder(folder).updated == 1
        assert gallery.search(picture(100), 1, "photo")[0].path == str(folder / "1.png")


def test_readers_see_what_is_written_after_the_clock_was_set_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        (tmp_path / f"{number}.png").write_bytes(picture(number))
    place = tmp_path / "my.gallery"
    with Gallery.create(place, FakeModel()) as gallery, Gallery.open(place, FakeModel()) as reader:
        moments = ("2026-11-28T12:00:00+00:00", "1999-01-01T00:00:00+00:00", "2100-01-01T00:00:00+00:00")
        for number, moment in enumerate(moments):
            monkeypatch.setattr(store_module, "_now", lambda moment=moment: moment)
            gallery.add_picture(tmp_path / f"{number}.png")
            assert reader.search(picture(number), 1, "photo")[0].path == str(tmp_path / f"{number}.png")
        gallery.remove([tmp_path / "0.png"])
        assert len(reader.search(picture(0), 10, "photo")) == 2
        assert [stored.added for stored in reader.store.pictures([2, 3]).values()] == [*moments[1:]]


def test_uploads_are_taken_whatever_the_clock_says(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = []
    for number, moment in enumerate((0.0, 4e9, -1e9)):
        monkeypatch.setattr(time, "time", lambda moment=moment: moment)
        added = client.post(f"{BASE}/items", content=picture(800 + number), headers=PNG)
        assert added.status_code == 201, added.text
        kept.append(added.json()["id"])
    assert len({*kept}) == 3
    for path in (tmp_path / "uploads").rglob("*.png"):
        os.utime(path, (5e9, 5e9))  # the file system's clock jumped
    again = client.post(f"{BASE}/items", content=picture(800), headers=PNG)
    assert again.json()["id"] == kept[0]
    assert client.get(again.json()["image"]).status_code == 200
    assert client.delete(f"{BASE}/items/{kept[0]}").status_code == 204


def test_a_cookie_ends_by_the_clock_and_no_sooner_than_it_says() -> None:
    now = [1e9]
    token = Token("t" * 20, lambda: now[0])
    cookie = token.cookie()
    for moment, is_good in ((1e9 - YEAR_S, True), (1e9 + COOKIE_SECONDS - 1, True), (1e9 + COOKIE_SECONDS + 1, False)):
        now[0] = moment
        assert token.is_good_cookie(cookie) is is_good

"""Regions on the command line: `index --regions`, what `info` and `search` say of them."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from PIL import Image

from cli.conftest import Run
from gallery.fake_model import FakeModel
from gallery.known import noise


@pytest.fixture(autouse=True)
def here(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with photos and a detail of one of them; every checkpoint finds regions."""
    model = FakeModel(dimension=64, regions=True, source="/models/fake")
    monkeypatch.setattr("crossatnet.runtime.load.load", lambda *_: model)
    monkeypatch.setattr("crossatnet.gallery.checkpoints.load", lambda *_: model)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for number in range(6):
        noise(number).save(tmp_path / "photos" / f"{number}.png")
    noise(4).crop((32, 32, 64, 64)).resize((64, 64), Image.Resampling.NEAREST).save(tmp_path / "detail.png")
    return tmp_path


def test_a_search_says_which_part_was_found(run: Run) -> None:
    assert run("index", "photos", "-o", "my.gallery", "-q", "--regions", "on").code == 0
    assert json.loads(run("info", "my.gallery", "--json").out)["regions"] is True
    assert "regions of pictures: kept" in run("info", "my.gallery").out
    search = ("search", "my.gallery", "detail.png", "--photo", "-k", "1")
    (hit,) = json.loads(run(*search, "--json").out)
    assert (Path(hit["path"]).stem, hit["box"]) == ("4", [0.5, 0.5, 1, 1])
    assert "4.png  (part: 50-100% across, 50-100% down)\n" in run(*search).out
    whole = ("search", "my.gallery", "photos/4.png", "--photo", "-k", "1")
    assert json.loads(run(*whole, "--json").out)[0]["box"] is None
    assert "(part" not in run(*whole).out


def test_regions_are_chosen_when_a_gallery_is_made(run: Run, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = ("index", "photos", "-o", "my.gallery", "-q")
    assert run(*index).code == 0
    assert json.loads(run("info", "my.gallery", "--json").out)["regions"] is False
    assert run(*index).code == 0
    refused = run(*index, "--regions", "on")
    assert refused.code == 2
    assert "was made without regions; leave out --regions, or index into another file" in refused.err
    monkeypatch.setattr("crossatnet.runtime.load.load", lambda *_: FakeModel())
    refused = run("index", "photos", "-o", "new.gallery", "-q", "--regions", "on")
    assert refused.code == 2
    assert "fake-0 finds no regions" in refused.err
    assert not (here / "new.gallery").exists()


def test_check_repairs_a_picture_with_its_regions(run: Run, here: Path) -> None:
    assert run("index", "photos", "-o", "my.gallery", "-q", "--regions", "on").code == 0
    statement = "SELECT regions FROM items ORDER BY path"
    with closing(sqlite3.connect(here / "my.gallery")) as connection, connection:
        before = connection.execute(statement).fetchall()
        connection.execute("UPDATE items SET regions = zeroblob(length(regions)) WHERE path LIKE '%4.png'")
    assert run("check", "my.gallery").code == 1
    assert run("check", "my.gallery", "--repair").code == 0
    with closing(sqlite3.connect(here / "my.gallery")) as connection:
        assert connection.execute(statement).fetchall() == before

"""The gallery's commands, with a small model in place of the network: what they print, and mistakes in one line."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import tarfile
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cli.conftest import Outcome, Run
from crossatnet.data.pictures import formats
from crossatnet.gallery import Gallery
from gallery import kills
from gallery.fake_model import FakeModel


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    kills.drawn(tmp_path / "pictures")
    return tmp_path / "pictures"


@pytest.fixture
def gallery(tmp_path: Path, folder: Path, run: Run) -> Path:
    assert run("index", folder, "-o", tmp_path / "my.gallery", "-q").code == 0
    return tmp_path / "my.gallery"


def assert_refused(outcome: Outcome, *parts: str) -> None:
    assert (outcome.code, outcome.out) == (2, "")
    assert len(outcome.err.splitlines()) == 1
    for part in parts:
        assert part in outcome.err


def paths(outcome: Outcome) -> list[str]:
    assert outcome.code == 0
    return [hit["path"] for hit in json.loads(outcome.out)]


def test_search_under_conditions(gallery: Path, folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    query = folder / "class0" / "000.png"
    search = ("search", gallery, query, "--photo", "--json", "-k", 1000)
    assert len(paths(run(*search))) == kills.PICTURES
    of_class = paths(run(*search, "--class", "class1", "--class", "class2"))
    assert {Path(path).parent.name for path in of_class} == {"class1", "class2"}
    assert len(of_class) == kills.PICTURES * 2 // 3
    monkeypatch.chdir(folder)
    assert len(paths(run(*search, "--under", "class1"))) == kills.PICTURES // 3
    assert [Path(path).name for path in paths(run(*search, "--under", folder / "class1" / "00"))] != []
    assert all("/class1/00" in path for path in paths(run(*search, "--under", folder / "class1" / "00")))
    assert len(paths(run(*search, "--since", "2020-01-01"))) == kills.PICTURES
    assert paths(run(*search, "--before", "2020-01-01")) == []
    assert run(*search, "--since", "someday").code == 2
    assert_refused(run(*search, "--under", ""), "--under: an empty path; give a folder")


def test_search_by_several_drawings(gallery: Path, folder: Path, run: Run) -> None:
    first, second = folder / "class0" / "000.png", folder / "class1" / "001.png"
    union = paths(run("search", gallery, first, second, "--photo", "--union", "--json", "-k", 2))
    assert set(union) == {str(first), str(second)}
    average = run("search", gallery, first, second, "--photo", "--json", "-k", 2)
    with Gallery.open(gallery, FakeModel()) as opened:
        assert paths(average) == [hit.path for hit in opened.search([first, second], 2, "photo")]
        assert paths(average) != [hit.path for hit in opened.search(first, 2, "photo")]
    assert_refused(run("search", gallery, first, second, "--guided"), "one only")


def test_search_by_strokes(gallery: Path, tmp_path: Path, run: Run) -> None:
    drawings = [[[[0, 9], [0, 9]]], [[[0, 9, 5], [9, 0, 5]], [[1, 2], [7, 7]]]]
    rows = [
        {"word": "cat", "key_id": str(number), "recognized": True, "drawing": drawing}
        for number, drawing in enumerate(drawings)
    ]
    file = tmp_path / "cat.ndjson"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    first, second = (run("search", gallery, f"{file}:{number}", "--json") for number in (1, 2))
    assert paths(first) == paths(run("search", gallery, file, "--json"))
    with Gallery.open(gallery, FakeModel()) as opened:
        strokes = tuple(np.array(stroke, np.float32).T for stroke in drawings[1])
        assert json.loads(second.out) == json.loads(json.dumps([asdict(hit) for hit in opened.search(strokes)]))
    assert_refused(run("search", gallery, f"{file}:3"), "no drawing 3; it has 2, counted from 1")
    for row in ("0", "x", ""):
        assert_refused(run("search", gallery, f"{file}:{row}"), "give the number of a drawing, from 1")
    assert_refused(run("search", gallery, tmp_path / "none.ndjson"), "none.ndjson", "cannot be read")


def test_index_alone_brings_all_folders_in_step(tmp_path: Path, run: Run) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (9, 9), "red" if name == "one" else "green").save(tmp_path / name / "1.png")
        Image.new("RGB", (9, 9)).save(tmp_path / name / "left out.png")
    gallery = tmp_path / "my.gallery"
    assert_refused(run("index", "-o", gallery), "my.gallery: no gallery there; make one with `crossatnet index FOLDER")
    assert run("index", tmp_path / "one", tmp_path / "two", "-o", gallery, "--exclude", "left*", "-q").code == 0
    Image.new("RGB", (9, 9), "blue").save(tmp_path / "two" / "2.png")
    (tmp_path / "one").rename(tmp_path / "away")
    outcome = run("index", "-o", gallery, "-q")
    assert outcome.code == 0
    assert "3 pictures (1 added, 0 updated, 1 unchanged, 0 removed, 1 skipped)" in outcome.out
    assert f"skipped: {tmp_path}/one: no such folder; check the path; its pictures stay" in outcome.out
    facts = json.loads(run("info", gallery, "--json").out)
    options = {"exclude": ["left*"], "follow_links": False, "videos": False}
    assert facts["folders"] == [{"folder": str(tmp_path / name), **options} for name in ("one", "two")]
    assert f"folder: {tmp_path}/two --exclude left*\n" in run("info", gallery).out
    (tmp_path / "two").rename(tmp_path / "away too")
    assert_refused(run("index", "-o", gallery, "-q"), "one: no such folder", "two: no such folder")


def test_remove_compact_and_info(gallery: Path, folder: Path, run: Run) -> None:
    outcome = run("remove", gallery, folder / "class0", folder / "class1" / "001.png")
    assert outcome.out == f"{gallery}: {kills.PICTURES - 81} pictures (81 removed)\n"
    assert_refused(run("remove", gallery, folder / "class0"), "no picture of", "nothing was removed")
    again = json.loads(run("remove", gallery, folder / "class1" / "004.png", "--json").out)
    assert (again["size"], again["removed"]) == (kills.PICTURES - 82, 1)
    assert (folder / "class0" / "000.png").exists()

    compacted = json.loads(run("compact", gallery, "--json").out)
    assert compacted["bytes"] < compacted["bytes_before"]
    assert run("compact", gallery).out.startswith(f"{gallery}: ")

    facts = json.loads(run("info", gallery, "--json").out)
    assert (facts["pictures"], facts["checkpoint"], facts["code_bits"]) == (kills.PICTURES - 82, "/models/fake", 64)
    assert facts["bytes"]["my.gallery"] == gallery.stat().st_size
    told = run("info", gallery).out
    assert f"{kills.PICTURES - 82:,} pictures, made with /models/fake" in told
    assert "thumbnails: none" in told
    counts = {"class1": kills.PICTURES // 3 - 2, "class2": kills.PICTURES // 3}
    assert (facts["classes"], facts["without_class"]) == (counts, 0)
    assert [*facts["classes"]] == ["class2", "class1"]  # most first
    assert told.endswith(f"  class: class2 ({counts['class2']})\n  class: class1 ({counts['class1']})\n")


def test_classes_stand_in_a_column_where_there_are_some(tmp_path: Path, run: Run) -> None:
    folder, place = tmp_path / "pictures", tmp_path / "my.gallery"
    drawn = {"loose.png": 10, "cat/a.png": 20, "漢字/b.png": 30}
    for name, shade in drawn.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (shade, 0, 0)).save(folder / name)
    run("index", folder, "-o", place, "-q")
    lines = run("search", place, folder / "cat" / "a.png", "--photo").out.splitlines()
    starts = {line[13 : line.index(str(folder))] for line in lines}
    assert starts == {"      ", "cat   ", "漢字  "}  # two columns for each of the wide letters
    assert "  without class: 1\n" in run("info", place).out
    only = run("search", place, folder / "loose.png", "--photo", "-k", 1).out
    assert only == f"  1   1.000  {folder / 'loose.png'}\n"


def test_more_classes_than_are_listed(tmp_path: Path, run: Run) -> None:
    for number in range(22):
        path = tmp_path / "pictures" / f"class{number:02d}" / "a.png"
        path.parent.mkdir(parents=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(path)
    run("index", tmp_path / "pictures", "-o", tmp_path / "my.gallery", "-q")
    assert run("info", tmp_path / "my.gallery").out.endswith(
        "  class: class19 (1)\n  ... and 2 more; --json lists them all\n"
    )
    assert len(json.loads(run("info", tmp_path / "my.gallery", "--json").out)["classes"]) == 22


def test_a_rate_is_told_where_something_was_embedded(tmp_path: Path, folder: Path, run: Run) -> None:
    index = ("index", folder, "-o", tmp_path / "my.gallery", "-q")
    assert run(*index).out.rstrip().endswith("/s")
    assert run(*index).out.rstrip().endswith(" s")


def test_nothing_found_is_told(gallery: Path, folder: Path, run: Run) -> None:
    outcome = run("search", gallery, folder / "class0" / "000.png", "--photo", "--class", "nosuch")
    assert (outcome.code, outcome.out) == (0, "")
    assert outcome.err.startswith("nothing found: no picture")


def test_an_empty_path_forgets_nothing(gallery: Path, folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)  # which an empty path would mean: a shell's unset variable
    assert_refused(run("remove", gallery, ""), "an empty path; nothing was removed")
    assert_refused(run("remove", gallery, folder / "class1", ""), "an empty path; nothing was removed")
    with Gallery.open(gallery) as opened:
        assert len(opened) == kills.PICTURES


def test_the_mistakes_of_the_new_commands(tmp_path: Path, folder: Path, run: Run) -> None:
    none = tmp_path / "none.gallery"
    for command in (("remove", none, folder), ("compact", none), ("info", none)):
        assert_refused(run(*command), "none.gallery", "no gallery there", "crossatnet index")
    assert not none.exists()


def test_thumbnails_are_asked_for_when_a_gallery_is_made(tmp_path: Path, folder: Path, run: Run) -> None:
    index = ("index", folder, "-o", tmp_path / "my.gallery", "-q")
    assert run(*index, "--thumbnails", 6).code == 0
    with Gallery.open(tmp_path / "my.gallery") as opened:
        assert opened.store.thumbnail(1) is not None
    assert run(*index).code == 0
    assert run(*index, "--thumbnails", 6).code == 0
    assert_refused(run(*index, "--thumbnails", 7), "was made with thumbnails of 6 pixels")
    assert "thumbnails: 6 pixels" in run("info", tmp_path / "my.gallery").out


WATCH = """
import sys
from gallery.fake_model import FakeModel
from crossatnet.runtime import load
load.load = lambda *_: FakeModel(source="/models/fake")
from crossatnet.cli.main import main
main()
"""


def test_watch_follows_the_folder_until_it_is_stopped(tmp_path: Path, folder: Path) -> None:
    arguments = ["index", str(folder), "-o", str(tmp_path / "my.gallery"), "-q", "--watch", "--every", "0.1"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", WATCH, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as watcher:
        try:
            assert watcher.stdout is not None
            assert f"{kills.PICTURES} pictures ({kills.PICTURES} added" in watcher.stdout.readline()
            Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "new.png")
            (tmp_path / "new.png").rename(folder / "new.png")
            assert "(1 added, 0 updated" in watcher.stdout.readline()
            (folder / "new.png").unlink()
            assert "1 removed" in watcher.stdout.readline()
            watcher.send_signal(signal.SIGINT)
            assert watcher.wait(60) == 130
        finally:
            watcher.kill()
    with Gallery.open(tmp_path / "my.gallery") as opened:
        assert len(opened) == kills.PICTURES


def test_places_on_a_server(folder: Path, run: Run) -> None:
    assert_refused(run("index", folder, "--to", "milvus://nowhere/birds"), "write milvus://HOST:PORT/NAME")
    picture = next(folder.rglob("*.png"))
    assert_refused(run("search", "milvus://127.0.0.1:1/birds", picture), "no Milvus server answers there")


def test_ray_for_one_run_only(folder: Path, run: Run, tmp_path: Path) -> None:
    place = tmp_path / "my.gallery"
    assert_refused(run("index", folder, "-o", place, "--ray", "--watch"), "leave out --watch")
    (tmp_path / "empty.txt").touch()
    assert_refused(run("index", tmp_path / "empty.txt", "-o", place, "--ray"), "empty.txt: an empty list")
    assert_refused(run("index", tmp_path / "none", "-o", place, "--ray"), "none: no such folder")
    assert not place.exists()


def test_what_is_searched_for_can_be_shown(run: Run, gallery: Path, folder: Path, tmp_path: Path) -> None:
    drawing = next(folder.rglob("*.*"))
    shown = tmp_path / "read.png"
    assert run("search", gallery, drawing, drawing, "--show-drawing", shown).code == 0
    expected = FakeModel().preprocess(drawing, "sketch")
    np.testing.assert_array_equal(np.asarray(Image.open(shown)), np.concatenate([expected, expected], axis=1))
    outcome = run("search", gallery, drawing, "--show-drawing", tmp_path / "read.nothing")
    assert (outcome.code, "cannot be written" in outcome.err) == (2, True)
    outcome = run("search", gallery, drawing, "--photo", "--show-drawing", shown)
    assert (outcome.code, "leave it out with --photo" in outcome.err) == (2, True)


def test_stores_and_archives_are_indexed_beside_folders(tmp_path: Path, folder: Path, run: Run) -> None:
    with tarfile.open(tmp_path / "shard.tar", "w") as made:
        made.add(folder, "cat")
    place = tmp_path / "all.gallery"
    pictures = len([path for path in folder.rglob("*") if path.is_file()])
    sources = (folder, tmp_path / "shard.tar", f"file://{folder}")
    done = run("index", *sources, "-o", place, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["added"] == 3 * pictures
    found = ("search", place, "--words", "cat", "--under", f"{tmp_path}/shard.tar:", "-k", 5)
    done = run(*found, "--copy-to", tmp_path / "copies")
    assert done.code == 0, done.err
    assert len([*(tmp_path / "copies").iterdir()]) == 5
    for arguments, trouble in (
        (("--exclude", "*.png"), "--exclude, --follow-links and --videos are for folders"),
        (("--gpus", "1"), "--gpus and --batch-size are for the workers of --ray"),
    ):
        done = run("index", f"file://{folder}", "-o", place, *arguments)
        assert done.code == 2
        assert trouble in done.err


def test_a_class_is_named_in_whatever_case(gallery: Path, folder: Path, run: Run) -> None:
    drawing = next(folder.rglob("*.png"))
    with Gallery.open(gallery, FakeModel()) as opened:
        name = next(name for name in opened.store.classes() if name)
    exact = paths(run("search", gallery, drawing, "--class", name, "--json"))
    assert exact == paths(run("search", gallery, drawing, "--class", name.swapcase(), "--json")) != []
    assert paths(run("search", gallery, drawing, "--class", "nothing", "--json")) == []


def test_a_folder_that_is_not_here_is_not_taken_for_the_current_one(
    gallery: Path, folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    drawing, below = next(folder.rglob("*.png")), next(path for path in folder.iterdir() if path.is_dir())
    refused = run("search", gallery, drawing, "--under", "2019")
    assert_refused(refused, f"--under 2019: nothing here begins so ({folder / '2019'}); give the whole path")
    assert all(
        path.startswith(f"{below}/") for path in paths(run("search", gallery, drawing, "--under", below.name, "--json"))
    )
    assert paths(run("search", gallery, drawing, "--under", below.name[:2], "--json")) != []


def test_several_folders_and_what_of_them_is_left_out(tmp_path: Path, run: Run) -> None:
    for name in ("one/a.png", "one/raw/b.png", "two/c.png", "two/deep/d.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 9), "red").save(tmp_path / name)
    (tmp_path / "two" / "notes.txt").write_text("words")
    folders = [tmp_path / name for name in ("one", "two", "two/deep", "one")]
    done = run("index", *folders, "-o", tmp_path / "my.gallery", "--exclude", "raw/", "--json")
    facts = json.loads(done.out)
    assert (facts["added"], facts["files"], facts["size"]) == (3, 5, 3)
    assert facts["passed_over"] == [
        {"reason": "excluded", "kinds": {"raw/": 1}},
        {"reason": "other", "kinds": {".txt": 1}},
    ]
    shown = run("index", *folders, "-o", tmp_path / "my.gallery", "--exclude", "raw/").out
    assert "  passed over: 1 file left out by patterns (raw/ 1)\n" in shown
    assert_refused(run("index", tmp_path / "one", tmp_path / "missing", "-o", tmp_path / "x.gallery"), "no such folder")
    assert not (tmp_path / "x.gallery").exists()


def test_a_folder_of_photos_that_cannot_be_read_here_says_what_to_install(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pictures").mkdir()
    for number in range(8):
        (tmp_path / "pictures" / f"{number}.heic").write_bytes(b"\0\0\0\x18ftypheic")
    monkeypatch.setattr(formats, "find_spec", lambda module: None)
    formats.picture_formats.cache_clear()
    wanted = "only 8 files of kinds that this installation cannot read (.heic 8): pip install 'crossatnet[formats]'"
    assert_refused(run("index", tmp_path / "pictures", "-o", tmp_path / "my.gallery"), wanted)
    Image.new("RGB", (9, 9), "red").save(tmp_path / "pictures" / "a.png")
    shown = run("index", tmp_path / "pictures", "-o", tmp_path / "my.gallery").out
    formats.picture_formats.cache_clear()
    assert "1 pictures (1 added" in shown
    assert f"  passed over: {wanted.removeprefix('only ')}\n" in shown


def test_check_names_a_damaged_row_and_repairs_it(gallery: Path, run: Run, tmp_path: Path) -> None:
    whole = run("check", gallery)
    assert (whole.code, whole.err) == (0, "")
    assert "whole" in whole.out
    with closing(sqlite3.connect(gallery)) as connection, connection:
        (path,) = connection.execute("SELECT path FROM items ORDER BY id LIMIT 1").fetchone()
        connection.execute("UPDATE items SET embedding = zeroblob(length(embedding)) WHERE path = ?", (path,))
    damaged = run("check", gallery)
    assert damaged.code == 1
    assert path in damaged.out
    assert run("check", gallery, "--repair").code == 0
    assert run("check", gallery, "--json").code == 0
    assert_refused(run("check", tmp_path / "none.gallery"), "none.gallery")


def test_a_backup_opens_and_takes_the_place_of_its_gallery(gallery: Path, run: Run, tmp_path: Path) -> None:
    copy = tmp_path / "copy.gallery"
    assert run("backup", gallery, copy).code == 0
    before = json.loads(run("info", gallery, "--json").out)["pictures"]
    assert json.loads(run("info", copy, "--json").out)["pictures"] == before
    assert run("remove", gallery, *_stored(gallery)[:2]).code == 0
    assert run("replace", gallery, copy).code == 0
    assert json.loads(run("info", gallery, "--json").out)["pictures"] == before


def _stored(gallery: Path) -> list[str]:
    with closing(sqlite3.connect(gallery)) as connection:
        return [path for (path,) in connection.execute("SELECT path FROM items ORDER BY id")]

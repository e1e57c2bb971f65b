"""`crossatnet search` by words, dates, tags and folders, alone and with a drawing, and what is done with its hits."""

import json
import os
import shutil
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cli.conftest import Outcome, Run
from crossatnet.cli.dates import moment, period
from crossatnet.cli.search import report_doubt
from crossatnet.gallery import Hit
from crossatnet.gallery.sqlite.store import Store
from crossatnet.system.errors import UserError
from crossatnet.system.visible import visible
from gallery import known

NOW = datetime(2026, 11, 28, 12, 0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twenty things, each at home and on holiday, where it looks a little different; every second is red."""
    root = tmp_path / "pictures"
    for number in range(20):
        thing = known.noise(number)
        tags = ("red",) if number % 2 else ("blue",)
        for place, year, light in (("home", 2018, 0), ("holiday", 2019, 12)):
            changed = Image.fromarray(np.clip(np.asarray(thing, np.int16) + light, 0, 255).astype(np.uint8))
            path = root / place / f"{number:02}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(known.content(changed, f"{year}:07:14 10:00:{number:02}", tags, f"{place} {number}"))
    return root


@pytest.fixture
def gallery(tmp_path: Path, folder: Path, run: Run) -> Path:
    assert run("index", folder, "-o", tmp_path / "my.gallery", "-q").code == 0
    return tmp_path / "my.gallery"


def names(outcome: Outcome) -> list[str]:
    """The last two parts of the paths in JSON."""
    assert outcome.code == 0, outcome.err
    return ["/".join(Path(hit["path"]).parts[-2:]) for hit in json.loads(outcome.out)]


def drawing(tmp_path: Path, number: int) -> Path:
    """What the small model takes for a drawing of a thing as it looks at home."""
    file = tmp_path / "drawing.png"
    Image.fromarray(255 - np.asarray(known.noise(number))).save(file)
    return file


def test_words_and_a_drawing_find_together_what_neither_finds_alone(gallery: Path, run: Run, tmp_path: Path) -> None:
    query, words, wanted = drawing(tmp_path, 7), ("--words", "red holiday"), "holiday/07.jpg"
    drawn = names(run("search", gallery, query, "--json", "-k", 5, "--ungrouped"))
    assert drawn[0] == "home/07.jpg"  # the drawing alone: the same thing, where it was not wanted
    alone = names(run("search", gallery, *words, "--json", "-k", 40, "--ungrouped"))
    assert len(alone) == 10  # words alone: every red thing on holiday
    assert alone[0] != wanted
    together = names(run("search", gallery, query, *words, "--json", "-k", 40, "--ungrouped"))
    assert together[0] == wanted
    assert sorted(together) == sorted(alone)


def test_conditions_find_alone_and_the_latest_come_first(gallery: Path, run: Run) -> None:
    hits = names(run("search", gallery, "--taken", "2019", "-k", 50, "--json", "--ungrouped"))
    assert hits == [f"holiday/{number:02}.jpg" for number in reversed(range(20))]
    assert len(names(run("search", gallery, "--taken", "..2018", "-k", 50, "--json", "--ungrouped"))) == 20
    hits = names(run("search", gallery, "--folder", "HOME", "--tag", "Red", "-k", 50, "--json", "--ungrouped"))
    assert {hit[:5] for hit in hits} == {"home/"}
    assert len(hits) == 10
    lines = run("search", gallery, "--folder", "home", "-k", 1).out.splitlines()
    assert lines[0].split()[:2] == ["1", "2018-07-14"]
    assert "nothing found" in run("search", gallery, "--words", "green").err
    assert run("search", gallery).code == 2
    assert run("search", gallery, "--taken", "sometimes").code == 2


def test_copies_are_one_line(gallery: Path, folder: Path, run: Run, tmp_path: Path) -> None:
    for number in range(5):
        shutil.copy(folder / "home" / "07.jpg", folder / f"copy {number}.jpg")
    assert run("index", folder, "-o", gallery, "-q").code == 0
    query = drawing(tmp_path, 7)
    first, second = run("search", gallery, query, "-k", 2).out.splitlines()
    assert "more like it)" in first
    assert "07.jpg" not in second
    assert "copy" not in second
    assert len(run("search", gallery, query, "-k", 6, "--ungrouped").out.splitlines()) == 6
    (hit, *_) = json.loads(run("search", gallery, query, "--json").out)
    assert len(hit["copies"]) >= 5


def test_files_that_are_gone_are_marked_and_the_search_says_what_to_do(
    gallery: Path, folder: Path, run: Run, tmp_path: Path
) -> None:
    query = drawing(tmp_path, 7)
    (folder / "home" / "07.jpg").unlink()
    outcome = run("search", gallery, query, "-k", 2, "--ungrouped")
    first, second = outcome.out.splitlines()
    assert "(gone)" in first
    assert "(gone)" not in second
    assert "1 of the files found is gone" in outcome.err
    assert f"crossatnet index -o {gallery}" in outcome.err
    assert run("index", folder, "-o", gallery, "-q").code == 0
    outcome = run("search", gallery, query, "-k", 2, "--ungrouped")
    assert (outcome.err, "(gone)" in outcome.out) == ("", False)


def test_hits_are_copied_into_a_folder_and_none_overwrites_another(
    gallery: Path, folder: Path, run: Run, tmp_path: Path
) -> None:
    target = tmp_path / "chosen"
    target.mkdir()
    (target / "07.jpg").write_text("mine")
    (folder / "home" / "03.jpg").unlink()
    outcome = run("search", gallery, "--words", "07", "--copy-to", target, "--ungrouped")
    assert "copied 2 of 2" in outcome.err
    assert (target / "07.jpg").read_text() == "mine"
    assert {(target / name).read_bytes() for name in ("07 (2).jpg", "07 (3).jpg")} == {
        (folder / place / "07.jpg").read_bytes() for place in ("home", "holiday")
    }
    assert "copied 0 of 2" in run("search", gallery, "--words", "07", "--copy-to", target, "--ungrouped").err
    assert "copied 1 of 2" in run("search", gallery, "--words", "03", "--copy-to", target, "--ungrouped").err


def test_paths_for_other_programs_end_with_a_zero_byte(tmp_path: Path, gallery: Path, folder: Path) -> None:
    program = (
        "import sys\nfrom gallery.fake_model import FakeModel\nimport crossatnet.gallery.checkpoints as one\n"
        "one.load = lambda *_: FakeModel(source='/models/fake')\nfrom crossatnet.cli.main import main\nmain()"
    )
    command = [sys.executable, "-c", program, "search", str(gallery), "--folder", "home", "-k", "50", "--print0"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([*command, "--ungrouped"], env=environment, capture_output=True, check=True)
    *found, end = done.stdout.split(b"\0")
    assert end == b""
    assert sorted(found) == sorted(os.fsencode(path) for path in (folder / "home").iterdir())


def test_the_best_hit_whose_file_is_there_is_opened(
    gallery: Path, folder: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched: list[str] = []
    monkeypatch.setattr("typer.launch", lambda path: launched.append(path) or 0)
    (folder / "home" / "07.jpg").unlink()
    query = drawing(tmp_path, 7)
    assert run("search", gallery, query, "--open", "--ungrouped").code == 0
    assert launched == [str(folder / "holiday" / "07.jpg")]
    monkeypatch.setattr("typer.launch", lambda path: 1)
    assert "no program opens it here" in run("search", gallery, query, "--open").err


def test_several_galleries_are_searched_as_one(gallery: Path, folder: Path, run: Run, tmp_path: Path) -> None:
    other = tmp_path / "other.gallery"
    known.write(tmp_path / "more" / "near.jpg", 7)
    assert run("index", tmp_path / "more", "-o", other, "-q").code == 0
    query = drawing(tmp_path, 7)
    first = names(run("search", gallery, query, "--json", "-k", 6, "--ungrouped"))
    both = names(run("search", gallery, query, "--also", other, "--json", "-k", 6, "--ungrouped"))
    assert "more/near.jpg" in both[:2]
    assert [name for name in both if name != "more/near.jpg"] == first[:5]


def test_control_characters_in_names_never_reach_the_terminal(tmp_path: Path, run: Run) -> None:
    names = ("evil\x1b[2J\x07.jpg", "line\nbreak.jpg", "turned\u202egpj.jpg", "c1\x9b31m.jpg")
    for number, name in enumerate(names):
        known.write(tmp_path / "bad \x1b]0;title\x07" / name, number)
    (tmp_path / "bad \x1b]0;title\x07" / "broken\x1b[31m.jpg").write_text("no picture")
    place = tmp_path / "my.gallery"
    outcomes = [run("index", tmp_path, "-o", place, "-q"), run("search", place, "--words", "jpg"), run("info", place)]
    outcomes.append(run("search", place, tmp_path / "none\x1b[2J.png"))
    assert [outcome.code for outcome in outcomes] == [0, 0, 0, 2]
    assert len(outcomes[1].out.splitlines()) == len(names)
    for outcome in outcomes:
        text = outcome.out + outcome.err
        assert not [letter for letter in text.replace("\n", "") if not letter.isprintable()]
    assert r"evil\x1b[2J\x07.jpg" in outcomes[1].out
    assert visible("family 👨‍👩‍👧.jpg") == "family 👨‍👩‍👧.jpg"


@pytest.mark.parametrize(
    ("text", "since", "before"),
    [
        ("2019", datetime(2019, 1, 1), datetime(2020, 1, 1)),
        ("2019-12", datetime(2019, 12, 1), datetime(2020, 1, 1)),
        ("2020-02-29", datetime(2020, 2, 29), datetime(2020, 3, 1)),
        ("2019..2021", datetime(2019, 1, 1), datetime(2022, 1, 1)),
        ("2019..", datetime(2019, 1, 1), None),
        ("..2019-06", None, datetime(2019, 7, 1)),
        ("yesterday", datetime(2026, 11, 27), datetime(2026, 11, 28)),
        ("3 months ago..", datetime(2026, 8, 28), None),
        ("9 months ago", datetime(2026, 2, 28), datetime(2026, 3, 1)),
        ("a week ago..today", datetime(2026, 11, 21), datetime(2026, 11, 29)),
        ("2 years ago", datetime(2024, 11, 28), datetime(2024, 11, 29)),
    ],
)
def test_dates_as_people_write_them(text: str, since: datetime | None, before: datetime | None) -> None:
    assert period(text, "--taken", NOW) == (since, before)


def test_a_day_that_a_month_lacks_is_its_last() -> None:
    assert moment("1 month ago", "--since", datetime(2026, 3, 31)) == datetime(2026, 2, 28)


@pytest.mark.parametrize("text", ["", "..", "2019-13", "2019-02-30", "someday", "0000", "2020..2019", "9999 years ago"])
def test_what_is_no_date_is_refused_with_examples(text: str) -> None:
    with pytest.raises(UserError, match=r"--taken .*(date|begins)"):
        period(text, "--taken", NOW)


@pytest.mark.parametrize(
    ("chances", "words"),
    [
        ((0.9, 0.8, 0.3), "sure of the first 2; the others are less like it\n"),
        ((0.9, 0.8), ""),
        ((0.5, 0.4), ""),  # neither sure nor unlikely
        ((0.2, 0.1), "nothing here looks much like this; these are the nearest\n"),
        ((None, None), ""),
        ((), ""),
    ],
)
def test_where_sure_hits_end_is_said(
    chances: tuple[float | None, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    hits = [Hit(1, "a.jpg", 0.5, None, chance=each, sure=None if each is None else each >= 0.75) for each in chances]
    report_doubt(hits)
    assert capsys.readouterr() == ("", words)


def test_the_recall_is_chosen(gallery: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[float] = []
    find = Store.open

    def noted(path: Path, recall: float) -> Store:
        opened.append(recall)
        return find(path, recall)

    monkeypatch.setattr(Store, "open", noted)
    arguments = ("search", gallery, drawing(tmp_path, 3), "--json")
    first = names(run(*arguments))
    assert [names(run(*arguments, "--recall", share)) for share in (".95", "1")] == [first, first]
    assert opened == [0.99, 0.95, 1]
    for share in ("0", "1.5"):
        refused = run(*arguments, "--recall", share)
        assert refused.code == 2
        assert f"recall {share}: give a share above 0, such as .95, or 1 for the exact search" in refused.err

"""The folder benchmark: its figures against a loop, and cuts that keep apart what they promise to."""

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crossatnet.data.catalog import Item
from crossatnet.data.names import are_related
from crossatnet.model.regions import Regions

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return runpy.run_path(str(BENCHMARKS / "folder.py"))


@pytest.fixture
def rule(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    return runpy.run_path(str(BENCHMARKS / "folder_cut.py"))


def test_scores_against_a_loop(folder: dict[str, Any]) -> None:
    random = np.random.default_rng(0)
    photos, drawings = random.normal(size=(40, 8)).astype(np.float32), random.normal(size=(6, 8)).astype(np.float32)
    shown = [("cat", "dog", "wolf", "cup")[number % 4] for number in range(40)]
    drawn = ["cat", "dog", "cup", "dog", "wolf", "cat"]
    found = folder["scores"](drawings @ photos.T, drawn, shown)
    for row, drawing, name in zip(found, drawings, drawn, strict=True):
        counted = [n for n in range(40) if shown[n] == name or not are_related(shown[n], name)]
        ranked = sorted(counted, key=lambda n: -float(photos[n] @ drawing))
        right = [shown[n] == name for n in ranked]
        precisions = [sum(right[: rank + 1]) / (rank + 1) for rank, hit in enumerate(right) if hit]
        assert row.tolist() == pytest.approx(
            [float(right[0]), float(any(right[:10])), sum(precisions) / len(precisions)]
        )
    dogs = [n for n in range(40) if shown[n] != "wolf"]
    assert len(dogs) == 30  # a wolf is neither right nor wrong where a dog is drawn


def test_a_photo_ranks_by_its_whole_or_its_best_part(folder: dict[str, Any]) -> None:
    random = np.random.default_rng(2)
    queries, whole = random.normal(size=(3, 8)).astype(np.float32), random.normal(size=(4, 8)).astype(np.float32)
    regions = [Regions(np.zeros((n, 4)), random.normal(size=(n, 8)).astype(np.float32)) for n in (0, 1, 3, 2)]
    found = folder["ranked"](queries, whole, regions, 0.5)
    for query, scores, numbers in zip(queries, found.scores, found.region, strict=True):
        for row, score, number, parts in zip(whole, scores, numbers, regions, strict=True):
            all_scores = [float(query @ row), *(float(query @ part) - 0.5 for part in parts.embeddings)]
            assert score == pytest.approx(max(all_scores), abs=1e-5)
            assert number == int(np.argmax(all_scores)) - 1  # -1: the whole
    assert {-1, 0} < {*found.region.ravel().tolist()}


def test_intervals_hold_the_mean(folder: dict[str, Any]) -> None:
    things = np.random.default_rng(1).random(50)
    low, high = folder["interval"](things)
    assert low < things.mean() < high
    assert folder["interval"](np.full(5, 0.25)) == [0.25, 0.25]


def made(rule: dict[str, Any], root: Path) -> Any:
    """Pictures of 300 classes, of which nothing lies on disk: Sketchy's ten, and others with and without drawings."""
    picture, pictures = rule["Picture"], []

    def add(data: str, modality: str, name: str, hand: str | None, count: int) -> None:
        for number in range(count):
            place = f"{data}/{modality}s/{name}/{number}.png"
            pictures.append(picture(Item(root / place, name, modality), place, name, hand))  # type: ignore[arg-type]

    for number in range(10):
        for modality, hand in (("photo", None), ("sketch", "")):
            add("sketchy-mini", modality, f"known{number}", hand, 25)
        add("doodles-extra", "sketch", f"known{number}", "children", 40)
    for number in range(290):
        add("photos-extra", "photo", f"thing{number}", None, 60 if number < 250 else 5)
        if number % 5 == 0:
            add("tuberlin-mini", "sketch", f"thing{number}", "TU-Berlin", 80)
    return rule["Cuts"](pictures)


def test_cuts_keep_apart_what_they_hold_out(rule: dict[str, Any], tmp_path: Path) -> None:
    cuts = made(rule, tmp_path)
    whole = cuts.whole
    assert all(len(names) >= rule["WHOLE"] for names in whole.values())
    assert not whole["choosing"] & whole["test"]
    assert not any(name.startswith("known") for names in whole.values() for name in names)
    assert not cuts.shares["choosing"] & cuts.shares["test"]
    counts = {cut: sum(int(name.removeprefix("thing")) % 5 == 0 for name in whole[cut]) for cut in rule["CUTS"]}
    assert abs(counts["choosing"] - counts["test"]) <= 1  # those that somebody drew are shared out evenly
    for cut in rule["CUTS"]:
        shown = cuts.folder(cut)
        held = {*cuts.left_out([cut])}
        for picture in (*shown.photos, *shown.drawings):
            assert picture.class_name in held or picture.place in held
        assert {drawing.class_name for drawing in shown.drawings} <= {photo.class_name for photo in shown.photos}


def test_cuts_depend_on_names_alone(rule: dict[str, Any], tmp_path: Path) -> None:
    first, second = made(rule, tmp_path / "here"), made(rule, tmp_path / "there")
    second.pictures.reverse()
    assert first.whole == second.whole
    assert first.shares == second.shares


def test_the_choosing_cut_shows_nothing_of_unseen_classes(rule: dict[str, Any], tmp_path: Path) -> None:
    picture, places = rule["Picture"], []
    for name in ("tiger", "camel", "llama", "songbird", "lion"):
        for number in range(60):
            place = f"sketchy-mini/photos/{name}/{number}.png"
            places.append(picture(Item(tmp_path / place, name, "photo"), place, name, None))
    shown = {photo.class_name for photo in rule["Cuts"](places).folder("choosing").photos}
    assert shown == {"tiger", "lion"}
    assert {photo.class_name for photo in rule["Cuts"](places).folder("test").photos} >= {"camel", "songbird"}


def test_the_table_sets_checkpoints_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    row = {"met": False, "hand": "children", "things": 3, "drawings": 1200, "success@1": 0.1, "success@10": 0.25}
    row |= {"mAP": 0.2, "interval": {"success@10": [0.2, 0.3]}}
    model = {"command": "python x", "date": "2026-01-02", "rows": [row]}
    report = {"photos": 2000, "things": 200, "whole": ["a"] * 40, "models": {"before": model, "after": model}}
    lines = runpy.run_path(str(BENCHMARKS / "tables.py"))["rendered"]("folder-test", report).splitlines()
    cells = "0.10 | 0.25 (0.20 to 0.30) | 0.20"
    assert lines[2] == f"| never met | children | 3, 1,200 | {cells} | {cells} |"
    assert "2,000 photos of 200 things, 40 of them in no training" in lines[4]

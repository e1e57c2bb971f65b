"""The command line: what works prints what it should, and each mistake is one clear line and exit code 2."""

import json
import shutil
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
import yaml
from PIL import Image, ImageDraw

import tiny_data
from crossatnet import __version__
from crossatnet.cli import doctor
from crossatnet.cli import main as cli
from crossatnet.config import ModelConfig
from crossatnet.gallery import Gallery
from crossatnet.model.attention import CrossModalAttention
from crossatnet.model.checkpoint import Provenance
from crossatnet.model.network import CrossATNet
from crossatnet.model.weights import save_checkpoint
from crossatnet.report.plots import CELL

Run = Callable[..., "Outcome"]


class Outcome(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    def call(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["crossatnet", *map(str, arguments)])
        capsys.readouterr()
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        return Outcome(code, *capsys.readouterr())

    return call


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny data in `data`, its training config, and the checkpoint trained with it."""
    folder = tmp_path_factory.mktemp("cli")
    split = tiny_data.write_tiny(folder / "data")
    config = {
        "name": "shapes",
        "data": {"layout": "folder", "root": str(folder / "data"), "split": split, "validation_classes": 2},
        "model": {"image_size": 32, "dimension": 16},
        "train": {"epochs": 2, "views": 1},
    }
    (folder / "shapes.yaml").write_text(yaml.safe_dump(config))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CROSSATNET_CACHE", str(folder / "cache"))
        patch.setattr(sys, "argv", ["crossatnet", "train", str(folder / "shapes.yaml"), "-o", f"{folder}/model", "-q"])
        with pytest.raises(SystemExit) as stop:
            cli.main()
    assert not stop.value.code
    return folder


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny data in `data` and two checkpoints of random weights: `seeing`, whose attention is uneven, and `blind`."""
    folder = tmp_path_factory.mktemp("untrained")
    tiny_data.write_tiny(folder / "data", pictures=2)
    torch.manual_seed(0)
    for name, heads in (("seeing", 8), ("blind", 0)):
        config = ModelConfig(image_size=64, dimension=16, attention_heads=heads, code_lengths=(64, 16))
        network = CrossATNet(config).eval()
        network.backbone.load_imagenet_weights()
        if isinstance(network.pooler, CrossModalAttention):
            torch.nn.init.normal_(network.pooler.sketch_query.weight)
        provenance = Provenance(
            data="shapes",
            layout="folder",
            split=str(folder / "data" / "tiny"),
            training_classes=tiny_data.SEEN,
            validation_classes=(),
            seed=0,
            epochs=1,
            validation_map=0.5,
        )
        save_checkpoint(folder / name, network, name, provenance, [])
    return folder


@pytest.fixture
def guided_gallery(untrained: Path, tmp_path: Path, run: Run) -> Path:
    path = tmp_path / "guided.gallery"
    photos = untrained / "data" / "photos"
    assert run("index", photos, "-o", path, "--checkpoint", untrained / "seeing", "-q").code == 0
    return path


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSATNET_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def gallery(tiny: Path, tmp_path: Path, run: Run) -> Path:
    path = tmp_path / "my.gallery"
    assert run("index", tiny / "data" / "photos", "-o", path, "--checkpoint", tiny / "model", "-q").code == 0
    return path


@pytest.fixture
def drawing(tmp_path: Path) -> Path:
    """A PNG drawn by hand, stroke by stroke, in a corner of a large sheet."""
    image = Image.new("RGB", (600, 400), "white")
    pen = ImageDraw.Draw(image)
    for stroke in ([(40, 180), (120, 30), (200, 175)], [(200, 175), (38, 182)]):
        pen.line(stroke, fill="black", width=5, joint="curve")
    path = tmp_path / "drawing.png"
    image.save(path)
    return path


def assert_refused(outcome: Outcome, *said: str) -> None:
    assert outcome.code == 2
    assert len(outcome.err.splitlines()) == 1, outcome.err
    assert outcome.err.startswith("error: ")
    for part in said:
        assert part in outcome.err


def huge_png(path: Path, side: int = 30_000) -> Path:
    """A valid grey PNG of `side` x `side` pixels in a few kilobytes: rows of zeros deflate to nothing."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    pixels = zlib.compress(bytes((side // 8 + 1) * side), 9)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b""))
    return path


# What works


def test_version(run: Run) -> None:
    assert run("--version").out.strip() == __version__


def test_search_prints_ten_hits_with_scores_classes_and_paths(gallery: Path, drawing: Path, run: Run) -> None:
    outcome = run("search", gallery, drawing, "-k", 10)
    lines = [line.split(maxsplit=3) for line in outcome.out.splitlines()]
    assert outcome.code == 0
    assert [int(rank) for rank, _, _, _ in lines] == list(range(1, 11))
    scores = [float(score) for _, score, _, _ in lines]
    assert scores == sorted(scores, reverse=True)
    assert all(-1 <= score <= 1 for score in scores)
    assert all(Path(path).is_file() and Path(path).parent.name == class_name for _, _, class_name, path in lines)


def test_search_as_json_equals_the_printed_hits(gallery: Path, drawing: Path, run: Run) -> None:
    hits = json.loads(run("search", gallery, drawing, "--json").out)
    printed = [line.split(maxsplit=3)[3] for line in run("search", gallery, drawing).out.splitlines()]
    assert [hit["path"] for hit in hits] == printed
    assert set(hits[0]) == {"id", "path", "score", "class_name", "gone", "copies", "chance", "sure", "box"}
    assert all(Path(hit["path"]).parent.name == hit["class_name"] for hit in hits)


def test_a_photo_finds_itself_first(gallery: Path, tiny: Path, run: Run) -> None:
    photo = tiny / "data" / "photos" / "circle" / "2.png"
    first = json.loads(run("search", gallery, photo, "--photo", "--json", "-k", 1).out)[0]
    assert first["path"] == str(photo.resolve())
    assert first["score"] == pytest.approx(1.0, abs=1e-3)


def test_guided_search_prints_the_re_ranked_hits(guided_gallery: Path, drawing: Path, run: Run) -> None:
    hits = json.loads(run("search", guided_gallery, drawing, "--guided", "--json", "-k", 5).out)
    with Gallery.open(guided_gallery) as opened:
        expected = opened.search(drawing, 5, rerank="guided")
        plain = opened.search(drawing, 5)
    assert [hit["path"] for hit in hits] == [hit.path for hit in expected]
    assert [hit["score"] for hit in hits] == pytest.approx([hit.score for hit in expected], abs=1e-5)
    assert [hit["score"] for hit in hits] != pytest.approx([hit.score for hit in plain], abs=1e-5)
    printed = run("search", guided_gallery, drawing, "--guided", "-k", 5).out.splitlines()
    assert [line.split(maxsplit=3)[3] for line in printed] == [hit.path for hit in expected]


@pytest.mark.parametrize("name", ["explained.png", "explained.JPG", "explained.webp"])
def test_explain_writes_a_picture(untrained: Path, drawing: Path, tmp_path: Path, run: Run, name: str) -> None:
    photos = sorted((untrained / "data" / "photos" / "circle").iterdir())
    outcome = run("explain", drawing, *photos, "-o", tmp_path / name, "--checkpoint", untrained / "seeing")
    assert (outcome.code, outcome.out.strip(), outcome.err) == (0, str(tmp_path / name), "")
    with Image.open(tmp_path / name) as picture:
        assert picture.mode == "RGB"
        assert (1 + len(photos)) * CELL < picture.width < (2 + len(photos)) * CELL
        assert picture.height > CELL


def test_evaluate_scores_guided_if_asked(untrained: Path, run: Run) -> None:
    arguments = ("evaluate", untrained / "seeing", "--data", untrained / "data", "-q")
    plain = ["seeing", *(f"seeing, {bits} bits{way}" for bits in (64, 16) for way in ("", ", asymmetric"))]
    assert [row["model"] for row in json.loads(run(*arguments, "--json").out)["rows"]] == plain
    guided = run(*arguments, "--guided")
    assert guided.code == 0
    assert "seeing, guided" in guided.out


def test_report_writes_a_page_and_its_json(untrained: Path, tmp_path: Path, run: Run) -> None:
    page = tmp_path / "reports" / "page.html"
    outcome = run("report", untrained / "seeing", "--data", untrained / "data", "-o", page, "-q", "--json")
    assert outcome.code == 0
    assert json.loads(outcome.out)["rows"][0]["model"] == "seeing"
    assert json.loads(page.with_suffix(".json").read_text()) == json.loads(outcome.out)
    assert "crossatnet report" in page.read_text()
    assert_refused(run("report", untrained / "seeing", "--data", untrained / "data", "-o", tmp_path), str(tmp_path))


def test_index_again_adds_nothing_and_names_what_it_skips(gallery: Path, tiny: Path, tmp_path: Path, run: Run) -> None:
    photos = tmp_path / "photos"
    shutil.copytree(tiny / "data" / "photos", photos)
    (photos / "notes.png").write_text("not a picture")
    whole = tmp_path / "whole.jpg"
    Image.effect_noise((64, 64), 50).save(whole)
    (photos / "cut.jpg").write_bytes(whole.read_bytes()[:700])
    arguments = ("index", photos, "-o", tmp_path / "other.gallery", "--checkpoint", tiny / "model", "-q")
    outcome = run(*arguments)
    assert outcome.code == 0
    assert "32 pictures (32 added, 0 updated, 0 unchanged, 0 removed, 2 skipped)" in outcome.out
    assert "skipped: " in outcome.out
    assert "notes.png" in outcome.out
    assert "cut.jpg" in outcome.out
    again = json.loads(run(*arguments, "--json").out)
    assert (again["added"], again["unchanged"], again["size"]) == (0, 32, 32)
    assert [Path(path).name for path, _ in again["skipped"]] == ["cut.jpg", "notes.png"]


def test_evaluate_writes_what_it_prints(tiny: Path, tmp_path: Path, run: Run) -> None:
    results = tmp_path / "results" / "shapes.json"
    arguments = ("evaluate", tiny / "model", "--data", tiny / "data", "--split", tiny / "data" / "tiny", "-q")
    printed = json.loads(run(*arguments, "--baselines", "--json", "-o", results).out)
    assert json.loads(results.read_text()) == printed
    assert (printed["queries"], printed["gallery"], printed["classes"]) == (8, 8, 2)
    codes = [f"shapes, {bits} bits{way}" for bits in (64, 128, 256, 512) for way in ("", ", asymmetric")]
    baselines = ["frozen backbone, centred", "frozen backbone, raw"]
    assert [row["model"] for row in printed["rows"]] == ["shapes", *codes, *baselines]
    assert set(printed["rows"][0]["per_class"]) == set(tiny_data.UNSEEN)
    shown = run(*arguments).out
    assert f"{printed['rows'][0]['metrics']['mAP@all']:.3f}" in shown


def test_data_check_reports_counts_and_offenders(tiny: Path, tmp_path: Path, run: Run) -> None:
    data = tmp_path / "data"
    shutil.copytree(tiny / "data", data)
    (data / "photos" / "star" / "bad.jpg").write_text("text")
    shutil.copy(data / "photos" / "star" / "0.png", data / "photos" / "star" / "copy.png")
    outcome = run("data", "check", data, "--split", data / "tiny", "-q")
    assert outcome.code == 0
    assert "8 classes, 32 sketches, 32 photos" in outcome.out
    assert "unusable: " in outcome.out
    assert "bad.jpg" in outcome.out
    assert "copy.png equals " in outcome.out
    facts = json.loads(run("data", "check", data, "--json", "-q").out)
    assert facts["classes"]["star"] == {"sketches": 4, "photos": 4}
    assert len(facts["unusable"]) == len(facts["duplicates"]) == 1


def test_doctor_tells_what_is_there_and_what_is_missing(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CROSSATNET_DATA", str(tmp_path / "nowhere"))
    findings = {finding["what"]: finding for finding in json.loads(run("doctor", "--json").out)}
    assert __version__ in findings["crossatnet"]["found"]
    assert findings["onnxruntime"]["is_fine"]
    assert findings["runtimes by torch"]["found"] == f"torch {torch.__version__}"
    assert str(tmp_path / "cache") in findings["cache"]["found"]
    assert not findings["benchmark data"]["is_fine"]
    assert "no such folder" in findings["benchmark data"]["found"]
    assert "torch" in run("doctor").out


def test_doctor_names_the_extra_that_is_missing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "lightning" else "1.0")
    found = {finding["what"]: finding for finding in json.loads(run("doctor", "--json").out)}
    assert not found["training"]["is_fine"]
    assert "crossatnet[train]" in run("doctor").out


def test_evaluate_in_other_directions_and_settings(tiny: Path, tmp_path: Path, run: Run) -> None:
    known = ("evaluate", tiny / "model", "--data", tiny / "data", "--split", tiny / "data" / "tiny", "-q")
    known += ("--direction", "photo-to-photo")
    (tmp_path / "one.json").write_text(run(*known, "--setting", "all-seen-photos", "--json").out)
    one = json.loads((tmp_path / "one.json").read_text())
    assert (one["direction"], one["queries"], one["gallery"]) == ("photo->photo", 8, 32)
    assert one["setting"] == "generalised: all 24 photos of seen classes added to the gallery"
    both = ("--setting", "zero-shot", "--setting", "all-seen-photos")
    first, second = json.loads(run(*known, *both, "--json", "-o", tmp_path / "both.json").out)
    assert json.loads((tmp_path / "both.json").read_text()) == [first, second]
    assert (first["setting"], first["gallery"]) == ("zero-shot: queries and gallery of unseen classes only", 8)
    assert [row["metrics"] for row in second["rows"]] == [row["metrics"] for row in one["rows"]]
    shown = " ".join(run(*known, *both).out.split())
    assert "photo->photo, tiny: 8 queries, gallery of 8, unseen only" in shown
    assert "gallery of 32, generalised: all 24 photos" in shown
    refused = run("compare", tmp_path / "one.json", tmp_path / "both.json")
    assert_refused(refused, "one.json holds 1 directions and settings", "both.json 2")


def test_unseen_pictures_stay_the_same_when_seen_ones_are_read(tiny: Path, tmp_path: Path, run: Run) -> None:
    """A seen picture that equals an unseen one would come first in the catalog and take its place."""
    data = tmp_path / "data"
    shutil.copytree(tiny / "data", data)
    shutil.copy(data / "photos" / "circle" / "0.png", data / "photos" / "arrow" / "copy.png")
    known = ("evaluate", tiny / "model", "--data", data, "--split", data / "tiny", "-q", "--json")
    alone = json.loads(run(*known).out)
    both = json.loads(run(*known, "--setting", "zero-shot", "--setting", "generalised").out)
    assert alone["gallery"] == both[0]["gallery"] == 8
    assert both[0]["rows"][0]["metrics"] == pytest.approx(alone["rows"][0]["metrics"])


def test_evaluate_a_file_of_embeddings_and_compare(tmp_path: Path, run: Run) -> None:
    random = np.random.default_rng(0)
    classes = {"query_class": np.array(["a", "b", "a"]), "gallery_class": np.array(["a", "b"] * 4)}
    for name in ("old", "new"):
        arrays = {"query": random.normal(size=(3, 4)), "gallery": random.normal(size=(8, 4))}
        np.savez(tmp_path / f"{name}.npz", **arrays, **classes)
        outcome = run("evaluate", "--embeddings", tmp_path / f"{name}.npz", "-o", tmp_path / f"{name}.json")
        assert (outcome.code, outcome.err) == (0, "")
    written = [json.loads((tmp_path / f"{name}.json").read_text())["rows"][0] for name in ("old", "new")]
    files = (tmp_path / "old.json", tmp_path / "new.json")
    (compared,) = json.loads(run("compare", *files, "--json").out)
    (pair,) = compared["pairs"]
    assert (pair["first"], pair["second"]) == ("old", "new")
    first, second = (row["metrics"]["mAP@all"] for row in written)
    assert pair["metrics"]["mAP@all"] == {"first": first, "second": second, "difference": second - first}
    shown = run("compare", *files).out
    assert f"{first:.3f}" in shown
    assert f"{second - first:+.3f}" in shown


def test_audit_prints_its_findings_and_tells_by_its_exit_code(tiny: Path, untrained: Path, run: Run) -> None:
    passed = run("audit", tiny / "model", "--data", tiny / "data", "--split", tiny / "data" / "tiny", "-q")
    assert (passed.code, passed.err) == (0, "")
    assert "shapes, tiny: passed" in passed.out
    unproven = ("audit", untrained / "blind", "--data", untrained / "data", "-q")
    outcome = run(*unproven)
    assert outcome.code == 1
    assert "blind, tiny: NOT passed" in outcome.out
    assert "unproven: " in outcome.out
    told = run(*unproven, "--json")
    assert told.code == 1
    facts = json.loads(told.out)
    assert not facts["passed"]
    assert "no record" in {finding["kind"] for finding in facts["findings"]}


# What is refused


def test_evaluate_needs_either_a_checkpoint_or_embeddings(tiny: Path, tmp_path: Path, run: Run) -> None:
    assert_refused(run("evaluate"), "either a checkpoint or --embeddings")
    file = tmp_path / "any.npz"
    assert_refused(run("evaluate", tiny / "model", "--embeddings", file), "either a checkpoint or --embeddings")
    assert_refused(run("evaluate", "--embeddings", file), "any.npz: no such file")
    extra = ("--split", "sketchy-sake25", "--guided")
    assert_refused(run("evaluate", "--embeddings", file, *extra), "leave out --split, --guided")


def test_evaluate_in_an_unknown_direction(tiny: Path, run: Run) -> None:
    known = ("evaluate", tiny / "model", "--data", tiny / "data")
    assert_refused(run(*known, "--direction", "sketch-photo"), "unknown direction 'sketch-photo'", "sketch-to-photo")
    assert_refused(run(*known, "--setting", "generalized"), "unknown setting 'generalized'", "generalised")


def test_compare_refuses_other_files_and_other_tests(untrained: Path, tmp_path: Path, run: Run) -> None:
    known = ("evaluate", untrained / "blind", "--data", untrained / "data", "-q", "-o")
    assert run(*known, tmp_path / "a.json").code == 0
    assert run(*known, tmp_path / "b.json", "--direction", "photo-to-sketch").code == 0
    refused = run("compare", tmp_path / "a.json", tmp_path / "b.json")
    assert_refused(refused, "direction is 'sketch->photo'", "'photo->sketch'")
    assert_refused(run("compare", tmp_path / "a.json", tmp_path / "c.json"), "c.json")
    assert_refused(run("compare", tmp_path / "a.json", untrained / "blind" / "config.json"), "not results")


def test_a_missing_extra(tiny: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightning", None)
    for name in ("train", "fit", "lightning_module"):
        monkeypatch.delitem(sys.modules, f"crossatnet.training.{name}", raising=False)
    outcome = run("train", tiny / "shapes.yaml", "-o", tmp_path / "out")
    assert_refused(outcome, "lightning", "pip install 'crossatnet[train]'")


def test_missing_and_empty_folders(tiny: Path, tmp_path: Path, run: Run) -> None:
    target = tmp_path / "new.gallery"
    assert_refused(run("index", tmp_path / "nowhere", "-o", target, "--checkpoint", tiny / "model"), "nowhere")
    (tmp_path / "empty").mkdir()
    assert_refused(run("index", tmp_path / "empty", "-o", target, "--checkpoint", tiny / "model"), "no pictures")
    assert not target.exists()
    assert_refused(run("data", "check", tmp_path / "nowhere"), "nowhere")
    assert_refused(run("data", "check", tmp_path / "empty", "-q"), "no pictures")
    config = ("train", tiny / "shapes.yaml", "-o", tmp_path / "model", "-q", "--data")
    assert_refused(run(*config, tmp_path / "nowhere"), "nowhere")
    assert_refused(run(*config, tmp_path / "empty"), "no pictures")


def test_a_folder_without_one_readable_picture(tiny: Path, tmp_path: Path, run: Run) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "text.png").write_text("text")
    outcome = run("index", tmp_path / "pictures", "-o", tmp_path / "g", "--checkpoint", tiny / "model", "-q")
    assert_refused(outcome, "none of the pictures can be read", "not a picture")


def test_queries_that_are_no_pictures(gallery: Path, drawing: Path, tmp_path: Path, run: Run) -> None:
    text = tmp_path / "text.png"
    text.write_text("text")
    assert_refused(run("search", gallery, text), "text.png", "not a picture")
    cut = tmp_path / "cut.jpg"
    Image.open(drawing).convert("RGB").save(cut)
    cut.write_bytes(cut.read_bytes()[:2000])
    assert_refused(run("search", gallery, cut), "cut.jpg", "damaged")
    assert_refused(run("search", gallery, huge_png(tmp_path / "huge.png")), "huge.png", "100,000,000", "smaller")
    assert_refused(run("search", gallery, tmp_path / "nothing.png"), "nothing.png", "no such file")
    assert_refused(run("search", gallery, drawing, "-k", 0), "k is 0")


def test_guided_search_needs_a_drawing_and_attention(
    guided_gallery: Path, untrained: Path, drawing: Path, tmp_path: Path, run: Run
) -> None:
    assert_refused(run("search", guided_gallery, drawing, "--guided", "--photo"), "needs a drawing")
    blind = tmp_path / "blind.gallery"
    photos = untrained / "data" / "photos"
    assert run("index", photos, "-o", blind, "--checkpoint", untrained / "blind", "-q").code == 0
    assert_refused(run("search", blind, drawing, "--guided"), "blind has no attention")
    assert run("search", blind, drawing).code == 0


def test_what_cannot_be_explained(untrained: Path, drawing: Path, tmp_path: Path, run: Run) -> None:
    photo, target = untrained / "data" / "photos" / "circle" / "0.png", tmp_path / "explained.png"
    seeing, blind = (("--checkpoint", untrained / name) for name in ("seeing", "blind"))
    text = tmp_path / "text.png"
    text.write_text("text")
    assert_refused(run("explain", drawing, photo, text, "-o", target, *seeing), "text.png", "not a picture")
    assert_refused(run("explain", text, photo, "-o", target, *seeing), "text.png", "not a picture")
    assert_refused(run("explain", drawing, tmp_path / "none.png", "-o", target, *seeing), "none.png", "no such file")
    assert_refused(run("explain", drawing, photo, "-o", target, *blind), "blind has no attention to show")
    assert_refused(run("explain", drawing, photo, "-o", target, "--checkpoint", "no-such-model"), "no checkpoint")
    assert_refused(run("explain", drawing, photo, "-o", tmp_path / "none" / "e.png", *seeing), "none/e.png")
    assert not target.exists()
    assert run("explain", drawing, "-o", target, *seeing).code == 2  # no photo at all


@pytest.mark.parametrize("name", ["explained", "explained.gif", "explained.txt", ""])
def test_explain_needs_the_name_of_a_picture(drawing: Path, tmp_path: Path, run: Run, name: str) -> None:
    """Told before anything is loaded, so that no checkpoint is needed to know."""
    outcome = run("explain", drawing, drawing, "-o", tmp_path / name, "--checkpoint", "no-such-model")
    assert_refused(outcome, str(tmp_path / name), "not the name of a picture", "explained.png")


def test_what_a_command_reads_is_not_overwritten(drawing: Path, tmp_path: Path, run: Run) -> None:
    embeddings, photo, link = tmp_path / "mine.npz", tmp_path / "photo.png", tmp_path / "link.png"
    classes = np.array(["a", "b"])
    np.savez(embeddings, query=np.eye(2), query_class=classes, gallery=np.eye(2), gallery_class=classes)
    shutil.copy(drawing, photo)
    link.symlink_to(photo)
    before = [path.read_bytes() for path in (embeddings, photo, drawing)]
    assert_refused(run("evaluate", "--embeddings", embeddings, "-o", embeddings), "mine.npz: is read by this command")
    for output in (photo, drawing, link):
        assert_refused(run("explain", drawing, photo, "-o", output), f"{output}: is read by this command", "with -o")
    assert [path.read_bytes() for path in (embeddings, photo, drawing)] == before


def test_explain_without_matplotlib(drawing: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for name in ("crossatnet.model.explain", "crossatnet.report.explanation", "crossatnet.report.plots"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    assert_refused(run("explain", drawing, drawing, "-o", "e.png"), "matplotlib", "pip install 'crossatnet[report]'")


def test_an_oversized_picture_is_skipped_by_index(gallery: Path, tiny: Path, tmp_path: Path, run: Run) -> None:
    photos = tmp_path / "photos"
    shutil.copytree(tiny / "data" / "photos" / "circle", photos)
    huge_png(photos / "huge.png")
    outcome = run("index", photos, "-o", tmp_path / "g", "--checkpoint", tiny / "model", "-q")
    assert outcome.code == 0
    assert "4 pictures (4 added" in outcome.out
    assert "huge.png" in outcome.out


def test_unknown_split_and_config(tiny: Path, tmp_path: Path, run: Run) -> None:
    known = ("evaluate", tiny / "model", "--data", tiny / "data", "--split")
    assert_refused(run(*known, "sketchy-sake52"), "unknown split 'sketchy-sake52'", "sketchy-sake25")
    config = yaml.safe_load((tiny / "shapes.yaml").read_text())
    config["train"]["epoch"] = 3
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump(config))
    assert_refused(run("train", path, "-o", tmp_path / "out"), "wrong.yaml", "unknown key 'train.epoch'", "epochs")
    assert_refused(run("train", "quikstart", "-o", tmp_path / "out"), "quickstart")
    assert not (tmp_path / "out").exists()


def test_a_class_with_one_image(tiny: Path, tmp_path: Path, run: Run) -> None:
    data = tmp_path / "data"
    shutil.copytree(tiny / "data", data)
    shutil.rmtree(data / "sketches" / "star")
    for path in sorted((data / "photos" / "star").iterdir())[1:]:
        path.unlink()
    outcome = run("train", tiny / "shapes.yaml", "--data", data, "-o", tmp_path / "out", "-q")
    assert_refused(outcome, "class 'star' has 0 sketches and 1 photos", "at least one of each")


def test_a_checkpoint_cut_short(tiny: Path, tmp_path: Path, run: Run) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(tiny / "model", broken)
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100_000])
    photos = tiny / "data" / "photos"
    assert_refused(run("index", photos, "-o", tmp_path / "g", "--checkpoint", broken), "model.safetensors", "damaged")
    assert_refused(run("index", photos, "-o", tmp_path / "g", "--checkpoint", "no-such-model"), "no checkpoint")
    assert not (tmp_path / "g").exists()


def test_a_gallery_made_with_another_checkpoint(
    gallery: Path, tiny: Path, drawing: Path, tmp_path: Path, run: Run
) -> None:
    other = tmp_path / "other"
    outcome = run("train", tiny / "shapes.yaml", "--seed", 1, "-o", other, "-q")
    assert outcome.code == 0
    assert_refused(run("search", gallery, drawing, "--checkpoint", other), "my.gallery", "checkpoint shapes")
    assert_refused(run("index", tiny / "data" / "photos", "-o", gallery, "--checkpoint", other), "my.gallery")
    assert_refused(run("search", tmp_path / "none.gallery", drawing), "crossatnet index")
    drawing.with_suffix(".gallery").write_text("not a gallery, whatever its name says" * 100)
    assert_refused(run("search", drawing.with_suffix(".gallery"), drawing), "drawing.gallery")


def test_places_that_cannot_be_written(tiny: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    data = ("--data", tiny / "data", "--split", tiny / "data" / "tiny")
    assert_refused(run("evaluate", tiny / "model", *data, "-o", tmp_path), "is a folder")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CROSSATNET_CACHE", str(tmp_path / "file" / "cache"))
    assert_refused(run("train", tiny / "shapes.yaml", "-o", tmp_path / "out", "-q"), "file/cache")


def test_a_folder_as_query(gallery: Path, tmp_path: Path, run: Run) -> None:
    assert_refused(run("search", gallery, tmp_path), "a folder, not a picture")


def test_evaluate_refuses_classes_that_were_trained_on(tiny: Path, tmp_path: Path, run: Run) -> None:
    (tmp_path / "swapped.seen.txt").write_text("\n".join(tiny_data.UNSEEN))
    (tmp_path / "swapped.unseen.txt").write_text("\n".join(tiny_data.SEEN))
    outcome = run("evaluate", tiny / "model", "--data", tiny / "data", "--split", tmp_path / "swapped", "-q")
    assert_refused(outcome, "not a zero-shot test", "arrow")

"""The ONNX form in use, and all files that are refused."""

import hashlib
import json
import pickle
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest

from crossatnet.data.images import prepare
from crossatnet.gallery import Gallery
from crossatnet.model.checkpoint import CONFIG, FORM, WEIGHTS
from crossatnet.model.regions import cut
from crossatnet.model.weights import load_network
from crossatnet.runtime.onnx_files import OnnxFile
from crossatnet.runtime.onnx_model import OnnxModel
from crossatnet.system.errors import UserError
from tiny_checkpoint import save_tiny_checkpoint
from tiny_data import SEEN, draw, write_tiny


@pytest.fixture(scope="module")
def model(tiny_export: Path) -> OnnxModel:
    return OnnxModel(tiny_export)


def photos(count: int, side: int = 96) -> np.ndarray:
    random = np.random.default_rng(5)
    return np.stack([prepare(draw(SEEN[number % 6], "photo", random), "photo", side) for number in range(count)])


def sketch() -> np.ndarray:
    return prepare(draw("star", "sketch", np.random.default_rng(6)), "sketch", 64, fit_strokes=True)


def test_it_is_the_model_that_torch_computes(model: OnnxModel, tiny_export: Path) -> None:
    network = load_network(tiny_export)
    assert (model.fingerprint, model.name, model.source) == (network.fingerprint, network.name, network.source)
    assert (model.dimension, model.code_bits, model.has_attention) == (16, 64, True)
    for count in (1, 3):
        rows = model.embed(photos(count), "photo")
        np.testing.assert_allclose(rows, network.embed(photos(count), "photo"), atol=1e-5)
        np.testing.assert_array_equal(model.hash(rows, 16), network.hash(rows, 16))
        ours, theirs = model.guide(sketch(), photos(count)), network.guide(sketch(), photos(count))
        np.testing.assert_allclose(ours.similarity, theirs.similarity, atol=1e-5)
        np.testing.assert_allclose(ours.attention, theirs.attention, atol=1e-5)
    np.testing.assert_allclose(
        model.embed(sketch()[None], "sketch"), network.embed(sketch()[None], "sketch"), atol=1e-5
    )
    image = draw("bar", "photo", np.random.default_rng(2))
    np.testing.assert_array_equal(model.preprocess(image, "photo"), network.preprocess(image, "photo"))
    with pytest.raises(UserError, match="unknown modality"):
        model.embed(photos(1), "picture")
    with pytest.raises(UserError, match="no hash codes of 24 bits; there are 16, 64"):
        model.hash(rows, 24)


def test_an_embedding_depends_on_no_other_in_its_batch(model: OnnxModel) -> None:
    pixels = photos(5)
    rows = model.embed(pixels, "photo")
    np.testing.assert_array_equal(model.embed(pixels[3:4], "photo"), rows[3:4])
    np.testing.assert_array_equal(model.embed(pixels[::-1].copy(), "photo")[::-1], rows)


def test_regions_are_those_that_torch_finds(model: OnnxModel, tiny_export: Path) -> None:
    network, pixels, full = load_network(tiny_export), photos(5), [*photos(5, 300)]
    (whole, regions), (_, expected) = (each.embed_with_regions(pixels, full) for each in (model, network))
    np.testing.assert_array_equal(whole, model.embed(pixels, "photo"))
    assert (model.regions, model.region_penalty) == (True, 0.03)
    assert model.region_settings == network.region_settings
    counts = [len(each.boxes) for each in regions]
    assert min(counts) == 0 < max(counts)
    for ours, theirs in zip(regions, expected, strict=True):
        np.testing.assert_allclose(ours.boxes, theirs.boxes, atol=1e-5)
        np.testing.assert_allclose(ours.embeddings, theirs.embeddings, atol=1e-3)  # an edge moves by a millionth
        assert ours.embeddings.shape == (len(ours.boxes), 16)


def test_a_region_depends_on_no_other_photo(model: OnnxModel) -> None:
    pixels, full = photos(5), [*photos(5, 300)]
    _, together = model.embed_with_regions(pixels, full)
    for row, each in enumerate(together):
        _, (alone,) = model.embed_with_regions(pixels[row : row + 1], full[row : row + 1])
        np.testing.assert_array_equal(alone.boxes, each.boxes)
        np.testing.assert_array_equal(alone.embeddings, each.embeddings)


def test_photos_in_8_bits_have_regions_in_8_bits(tiny_export: Path, model: OnnxModel) -> None:
    rounded, pixels, full = OnnxModel(tiny_export, "photo-int8"), photos(5), [*photos(5, 300)]
    whole, regions = rounded.embed_with_regions(pixels, full)
    np.testing.assert_array_equal(whole, rounded.embed(pixels, "photo"))
    assert sum(len(each.boxes) for each in regions) > 0
    for photo, each in zip(full, regions, strict=True):
        for part, embedding in zip(cut(photo, each.boxes, 64), each.embeddings, strict=True):
            expected = rounded._run("regions-int8", "embedding", pixels=part[None])[0]
            np.testing.assert_array_equal(embedding, expected)
            assert not np.array_equal(model._run("regions", "embedding", pixels=part[None])[0], expected)


def test_several_threads_get_the_same(tiny_export: Path) -> None:
    model, pixels = OnnxModel(tiny_export), photos(3)
    with ThreadPoolExecutor(4) as pool:
        given = [*pool.map(lambda _: model.embed(pixels, "photo"), range(8))]
    for rows in given[1:]:
        np.testing.assert_array_equal(rows, given[0])


def test_it_travels_to_machines_without_the_checkpoint(exported: Path) -> None:
    model, pixels = OnnxModel(exported, lambda _: "photo-int8"), photos(2)
    sent = pickle.dumps(model)
    expected = model.embed(pixels, "photo")
    shutil.rmtree(exported)
    there = pickle.loads(sent)
    assert there.photo_part == "photo-int8"  # chosen once, so that all compute the same
    np.testing.assert_array_equal(there.embed(pixels, "photo"), expected)
    np.testing.assert_array_equal(there.hash(expected), model.hash(expected))
    np.testing.assert_array_equal(there.guide(sketch(), pixels).similarity, model.guide(sketch(), pixels).similarity)


def test_a_gallery_of_one_runtime_is_searched_by_another(tiny_export: Path, tmp_path: Path) -> None:
    write_tiny(tmp_path / "data")
    drawing = tmp_path / "data" / "sketches" / "star" / "0.png"
    with Gallery.create(tmp_path / "torch.gallery", load_network(tiny_export)) as gallery:
        gallery.add_folder(tmp_path / "data" / "photos")
        expected = gallery.search(drawing, 5)
    with Gallery.open(tmp_path / "torch.gallery", OnnxModel(tiny_export, "photo-int8")) as gallery:
        hits = gallery.search(drawing, 5)
        assert [hit.path for hit in hits] == [hit.path for hit in expected]
        assert hits[0].score == pytest.approx(expected[0].score, abs=1e-4)
        assert gallery.add_folder(tmp_path / "data" / "photos").unchanged == 32  # nothing is embedded again


# What is refused


def rewrite_form(folder: Path, **changes: object) -> None:
    raw = json.loads((folder / FORM).read_text())
    (folder / FORM).write_text(json.dumps({**raw, **changes}))


def rewrite_graph(folder: Path, change: Callable[[onnx.ModelProto], object]) -> None:
    """Change a graph and record its new digest, like an attacker."""
    path = folder / "photo.onnx"
    model = onnx.load(path, load_external_data=False)
    change(model)
    path.write_bytes(model.SerializeToString())
    files = json.loads((folder / FORM).read_text())["files"]
    content = path.read_bytes()
    files["photo"] = OnnxFile(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content)).model_dump()
    rewrite_form(folder, files=files)


def cut_graph(folder: Path) -> None:
    content = (folder / "photo.onnx").read_bytes()
    (folder / "photo.onnx").write_bytes(content[: len(content) // 2])


def flip_bit(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)


def foreign_weights(folder: Path) -> None:
    save_tiny_checkpoint(folder / "other", seed=1)
    shutil.copy(folder / "other" / WEIGHTS, folder / WEIGHTS)


def other_settings(folder: Path) -> None:
    raw = json.loads((folder / CONFIG).read_text())
    raw["model"]["fit_strokes"] = False
    (folder / CONFIG).write_text(json.dumps(raw))


def foreign_graph(model: onnx.ModelProto) -> None:
    onnx.helper.set_model_props(model, {"fingerprint": "0" * 64})


def leave_folder(model: onnx.ModelProto) -> None:
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            entry.value = "../model.safetensors" if entry.key == "location" else entry.value


def past_the_end(model: onnx.ModelProto) -> None:
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            entry.value = str(10**9) if entry.key == "offset" else entry.value


def own_operators(model: onnx.ModelProto) -> None:
    model.graph.node[0].domain = "com.example"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut_graph, r"photo.onnx: damaged, or of another export"),
        (lambda folder: flip_bit(folder, "photo.onnx"), r"photo.onnx: damaged, or of another export"),
        (lambda folder: flip_bit(folder, WEIGHTS), r"onnx.json: belongs to other weights or settings"),
        (lambda folder: (folder / "photo.onnx").unlink(), r"photo.onnx: missing"),
        (lambda folder: (folder / WEIGHTS).unlink(), r"model.safetensors: damaged or missing"),
        (lambda folder: (folder / FORM).unlink(), r"has no ONNX form; make it: crossatnet export"),
        (lambda folder: (folder / FORM).write_text("{"), r"onnx.json: damaged"),
        (lambda folder: (folder / FORM).write_text("[]"), r"onnx.json: damaged"),
        (lambda folder: rewrite_form(folder, format=2), r"onnx.json: format 2, but this version reads 1; upgrade"),
        (lambda folder: rewrite_form(folder, format=0), r"onnx.json: format 0, but .* make it again"),
        (lambda folder: rewrite_form(folder, surprise=1), r"onnx.json: damaged"),
        (lambda folder: rewrite_form(folder, files={}), r"has no photo.onnx; make it: crossatnet export$"),
        (foreign_weights, r"onnx.json: belongs to other weights or settings"),
        (other_settings, r"onnx.json: belongs to other weights or settings"),
        (lambda folder: rewrite_graph(folder, foreign_graph), r"refused, as it is of another checkpoint"),
        (lambda folder: rewrite_graph(folder, leave_folder), r"refused, as it takes weights from other files"),
        (lambda folder: rewrite_graph(folder, own_operators), r"refused, as its operators are not those of ONNX 20"),
        (lambda folder: rewrite_graph(folder, past_the_end), r"photo.onnx: ONNX Runtime cannot load it"),
    ],
)
def test_what_is_damaged_or_foreign_is_refused(exported: Path, damage: Callable[[Path], object], message: str) -> None:
    damage(exported)
    with pytest.raises(UserError, match=message) as caught:
        OnnxModel(exported).embed(photos(1), "photo")
    assert "\n" not in str(caught.value)


def test_a_file_too_large_is_not_read(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crossatnet.runtime.onnx_files.MAX_BYTES", 1000)
    with pytest.raises(UserError, match=r"photo.onnx: damaged, or of another export"):
        OnnxModel(exported)


def test_eight_bits_that_were_not_made_are_asked_for(exported: Path) -> None:
    files = json.loads((exported / FORM).read_text())["files"]
    del files["photo-int8"]
    rewrite_form(exported, files=files)
    with pytest.raises(UserError, match=r"has no photo-int8.onnx; make it: crossatnet export --int8"):
        OnnxModel(exported, "photo-int8")

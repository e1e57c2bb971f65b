"""Export: every output of every graph equals torch's, and the files' metadata is right."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from safetensors.numpy import load_file

from crossatnet.data.images import prepare
from crossatnet.model.checkpoint import CONFIG, FORM, WEIGHTS, locate, packaged_checkpoints, read_config
from crossatnet.model.interface import side_of
from crossatnet.model.network import CrossATNet
from crossatnet.model.weights import load_network, save_checkpoint
from crossatnet.runtime.choose import probes
from crossatnet.runtime.export import checkpoint as export_module
from crossatnet.runtime.export.checkpoint import agreement, compared, export_checkpoint, training_photos
from crossatnet.runtime.export.graphs import linked
from crossatnet.runtime.export.int8 import Plan
from crossatnet.runtime.onnx_files import halves, read_form, read_weights, stored_tensors
from crossatnet.runtime.onnx_model import OnnxModel, open_session
from crossatnet.system.errors import UserError
from tiny_checkpoint import save_tiny_checkpoint
from tiny_data import SEEN, UNSEEN, draw, write_tiny


def pictures(modality: str, side: int, count: int) -> np.ndarray:
    random = np.random.default_rng(3)
    drawn = [draw((*SEEN, *UNSEEN)[number - 3], modality, random) for number in range(count)]
    return np.stack([prepare(image, modality, side, fit_strokes=True) for image in drawn])


@pytest.fixture(scope="module")
def network(tiny_export: Path) -> CrossATNet:
    return load_network(tiny_export)


def run(folder: Path, part: str, **inputs: np.ndarray) -> dict[str, np.ndarray]:
    session = open_session((folder / f"{part}.onnx").read_bytes(), read_weights(folder), part, 1)
    return dict(zip((output.name for output in session.get_outputs()), session.run(None, inputs), strict=True))


@pytest.mark.parametrize("count", [1, 3])
def test_the_photo_graph_gives_what_torch_gives(tiny_export: Path, network: CrossATNet, count: int) -> None:
    pixels = pictures("photo", 96, count)
    given = run(tiny_export, "photo", pixels=pixels)
    np.testing.assert_allclose(given["embedding"], network.embed(pixels, "photo"), atol=1e-5)
    np.testing.assert_allclose(given["map"], network.map(pixels, "photo").numpy(), atol=1e-4)
    expected = network.hashing(torch.from_numpy(given["embedding"]), 64)
    assert torch.equal(torch.from_numpy(np.unpackbits(given["code"], axis=1)).bool(), expected)
    assert 0.2 < expected.float().mean() < 0.8


@pytest.mark.parametrize("count", [1, 3])
def test_the_sketch_graph_looks_at_the_mirror_image_too(tiny_export: Path, network: CrossATNet, count: int) -> None:
    pixels = pictures("sketch", 64, count)
    given = run(tiny_export, "sketch", pixels=pixels)
    np.testing.assert_allclose(given["embedding"], network.embed(pixels, "sketch"), atol=1e-5)
    alone = network.embed_map(network.map(pixels, "sketch"), "sketch").detach().numpy()
    assert np.abs(given["embedding"] - alone).max() > 1e-3
    feature = network.pool(network.map(pixels, "sketch"), "sketch").feature
    np.testing.assert_allclose(given["feature"], feature.numpy(), atol=1e-4)
    assert torch.equal(
        torch.from_numpy(np.unpackbits(given["code"], axis=1)).bool(),
        network.hashing(torch.from_numpy(given["embedding"]), 64),
    )


@pytest.mark.parametrize("count", [1, 3])
def test_the_guided_graph_gives_torchs_similarities_and_maps(
    tiny_export: Path, network: CrossATNet, count: int
) -> None:
    sketch, photos = pictures("sketch", 64, 1), pictures("photo", 96, count)
    feature = run(tiny_export, "sketch", pixels=sketch)["feature"]
    given = run(tiny_export, "guided", feature=feature, map=run(tiny_export, "photo", pixels=photos)["map"])
    expected = network.guide(sketch[0], photos)
    np.testing.assert_allclose(given["similarity"], expected.similarity, atol=1e-5)
    np.testing.assert_allclose(given["attention"], expected.attention, atol=1e-5)
    np.testing.assert_allclose(given["attention"].sum((2, 3)), 1, atol=1e-5)
    assert given["attention"].std() > 0.01  # not the uniform map of an untrained network


@pytest.mark.parametrize("count", [1, 3])
def test_proposals_and_embeddings_of_parts_are_torchs(tiny_export: Path, network: CrossATNet, count: int) -> None:
    pixels, parts = pictures("photo", 96, count), pictures("photo", 64, count)
    with torch.inference_mode():
        expected = network.proposals(*network.maps(pixels, "photo")).numpy()
    given = run(tiny_export, "photo", pixels=pixels)["proposals"]
    assert given.shape == (count, 5, 6, 6)
    np.testing.assert_allclose(given, expected, atol=1e-4)
    found = run(tiny_export, "regions", pixels=parts)
    assert {*found} == {"embedding"}
    np.testing.assert_allclose(found["embedding"], network.embed(parts, "photo"), atol=1e-5)


def test_eight_bits_propose_nearly_the_same(tiny_export: Path) -> None:
    pixels, parts = pictures("photo", 96, 8), pictures("photo", 64, 8)
    proposals = [run(tiny_export, part, pixels=pixels)["proposals"] for part in ("photo", "photo-int8")]
    assert 0 < np.abs(proposals[0] - proposals[1]).mean() < 0.15 * proposals[0][:, 0].std()
    rows = [run(tiny_export, part, pixels=parts)["embedding"] for part in ("regions", "regions-int8")]
    assert (rows[0] * rows[1]).sum(1).min() > 0.95
    assert np.abs(rows[0] - rows[1]).max() > 1e-4


def test_eight_bits_agree_with_floating_point(tiny_export: Path, network: CrossATNet) -> None:
    pixels = pictures("photo", 96, 8)
    rows = run(tiny_export, "photo-int8", pixels=pixels)["embedding"]
    expected = network.embed(pixels, "photo")
    assert (rows * expected).sum(1).min() > 0.97
    assert np.abs(rows - expected).max() > 1e-4  # 8 bits are really used
    form, _ = read_form(tiny_export, network.config)
    assert form.int8 is not None
    assert form.int8.cosine >= form.int8.lowest_cosine > 0.97
    assert set(form.int8.classes) == set(SEEN)


def test_weights_are_not_stored_twice(tiny_export: Path) -> None:
    graph = onnx.load(tiny_export / "photo.onnx", load_external_data=False).graph
    inside = [tensor for tensor in graph.initializer if tensor.data_location != onnx.TensorProto.EXTERNAL]
    assert sum(int(np.prod(tensor.dims)) for tensor in inside) < 2000
    outside = [tensor for tensor in graph.initializer if tensor.data_location == onnx.TensorProto.EXTERNAL]
    assert {entry.value for tensor in outside for entry in tensor.external_data if entry.key == "location"} == {WEIGHTS}
    assert sum(int(np.prod(tensor.dims)) for tensor in outside) > 3_000_000
    assert sum(path.stat().st_size for path in tiny_export.glob("*.onnx")) < 2_000_000


def test_a_file_tells_what_it_is_and_what_it_has_learnt_from(tiny_export: Path, network: CrossATNet) -> None:
    for part in ("photo", "photo-int8", "sketch", "guided", "regions", "regions-int8"):
        model = onnx.load(tiny_export / f"{part}.onnx", load_external_data=False)
        metadata = {entry.key: entry.value for entry in model.metadata_props}
        assert (metadata["part"], metadata["fingerprint"], metadata["name"]) == (part, network.fingerprint, "tiny-0")
        assert metadata["weights_sha256"] == hashlib.sha256(read_weights(tiny_export)).hexdigest()
        assert json.loads(metadata["training_classes"]) == [*SEEN]
        shaping = json.loads(metadata["preprocessing"])
        assert (shaping["sketch_side"], shaping["photo_side"], shaping["region_side"]) == (64, 96, 64)
        assert shaping["fit_strokes"]
        assert shaping["mirror_sketches"]
        assert (shaping["mean"], shaping["std"]) == ([127.0] * 3, [128.0] * 3)


def test_the_exported_folder_is_a_checkpoint(tiny_export: Path) -> None:
    plain = tiny_export.parent / "plain"
    assert read_config(tiny_export) == read_config(plain)
    assert load_network(tiny_export).fingerprint == load_network(plain).fingerprint


def test_a_checkpoint_of_an_older_version_is_read(exported: Path) -> None:
    config = json.loads((exported / CONFIG).read_text())
    for given, is_read in ((None, True), (0.25, False)):
        config["model"]["region_clarity"] = given
        (exported / CONFIG).write_text(json.dumps(config))
        if is_read:
            assert load_network(exported).fingerprint == OnnxModel(exported).fingerprint
            continue
        for load in (load_network, OnnxModel):
            with pytest.raises(UserError, match=r"config\.json: damaged"):
                load(exported)


def test_weights_saved_again_leave_no_form_behind(exported: Path) -> None:
    network, provenance = load_network(exported), read_config(exported).provenance
    save_checkpoint(exported, network, "tiny", provenance, [])
    assert not (exported / FORM).exists()


def test_another_checkpoint_is_not_overwritten(exported: Path, tmp_path: Path) -> None:
    save_tiny_checkpoint(tmp_path / "other", seed=1)
    before = (exported / CONFIG).read_bytes()
    with pytest.raises(UserError, match="holds another checkpoint"):
        export_checkpoint(tmp_path / "other", exported)
    assert (exported / CONFIG).read_bytes() == before
    alike = tmp_path / "alike"  # trained again: only the weights differ
    shutil.copytree(exported, alike)
    with (alike / WEIGHTS).open("ab") as weights:
        weights.write(b" ")
    with pytest.raises(UserError, match="holds another checkpoint"):
        export_checkpoint(exported, alike)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError):  # and no error about missing data
        export_checkpoint(tmp_path / "empty", exported)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="give a folder"):
        export_checkpoint(exported, tmp_path / "file")


@pytest.mark.scale
def test_a_failed_export_leaves_the_form_that_was_there(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.name: path.read_bytes() for path in exported.iterdir()}
    monkeypatch.setattr(export_module, "TOLERANCE", 1e-12)
    with pytest.raises(UserError, match="nothing was written"):
        export_checkpoint(exported, exported)
    assert {path.name: path.read_bytes() for path in exported.iterdir()} == before


def loaded_graphs(folder: Path) -> dict[str, onnx.ModelProto]:
    return {
        part: onnx.load(folder / f"{part}.onnx", load_external_data=False)
        for part in ("photo", "sketch", "guided", "regions")
    }


def test_graphs_that_disagree_with_torch_are_refused(exported: Path) -> None:
    graphs = loaded_graphs(exported)
    network = load_network(exported)
    errors = compared(network, graphs, read_weights(exported))
    assert errors.pop("proposals") < 1e-4  # logits, which are no shares of 1
    assert max(errors.values()) < 1e-5
    with torch.no_grad():
        network.photo_centre += 0.01
    with pytest.raises(UserError, match="photo embeddings of its ONNX form differ"):
        compared(network, graphs, read_weights(exported))
    network = load_network(exported)
    with torch.no_grad():
        network.pooler.sketch_query.weight *= 1.1
    with pytest.raises(UserError, match=r"guided similarities|attention"):
        compared(network, graphs, read_weights(exported))
    network = load_network(exported)
    assert network.proposer is not None
    with torch.no_grad():
        network.proposer.numbers.bias += 0.01
    with pytest.raises(UserError, match="proposals of its ONNX form differ"):
        compared(network, graphs, read_weights(exported))
    network = load_network(exported)
    network.hashing.set(64, -network.hashing.weight_64, network.hashing.offset_64)
    with pytest.raises(UserError, match="hash codes of its ONNX photo part are not torch's"):
        compared(network, graphs, read_weights(exported))


def test_eight_bits_that_are_too_coarse_are_refused(tiny_export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graphs = {
        part: onnx.load(tiny_export / f"{part}.onnx", load_external_data=False) for part in ("photo", "photo-int8")
    }
    photos = training_photos(tiny_export, tiny_export.parent / "data", None, quiet=True)
    assert agreement(graphs, read_weights(tiny_export), photos, 32).held_out == len(photos.pixels) - 32
    monkeypatch.setattr(export_module, "MIN_COSINE", 0.999999)
    with pytest.raises(UserError, match="calibrate on more pictures"):
        agreement(graphs, read_weights(tiny_export), photos, 32)


def test_nothing_unseen_is_calibrated_on(tiny_export: Path, tmp_path: Path) -> None:
    write_tiny(tmp_path / "data", pictures=8, corrupt_unseen=True)
    photos = training_photos(tiny_export, tmp_path / "data", None, quiet=True)
    assert photos.classes == tuple(sorted(SEEN))
    assert len(photos.pixels) == 8 * len(SEEN)
    assert {one.shape for one in photos.pixels} == {(1, 96, 96, 3)}
    assert [one.shape for one in photos.parts] == [(1, 64, 64, 3)] * len(photos.pixels)
    for name in SEEN[1:]:
        shutil.rmtree(tmp_path / "data" / "photos" / name)
    with pytest.raises(UserError, match="8 photos are of classes that tiny-0 was trained on"):
        training_photos(tiny_export, tmp_path / "data", None, quiet=True)


def test_first_convolutions_stay_in_floating_point(tiny_export: Path) -> None:
    model = onnx.load(tiny_export / "photo.onnx", load_external_data=False)
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    of_the_map = [node.input[0] == "map" for node in convolutions]
    assert sum(of_the_map) == 1  # the proposer's
    plan = Plan(model, 3)
    rest = [node for node in convolutions[3:] if node.input[0] != "map"]
    assert [node.output[0] for node in plan.convolutions] == [node.output[0] for node in rest]
    assert len(plan.activations) > len(plan.convolutions)  # sums of residual blocks are among them
    rounded = onnx.load(tiny_export / "photo-int8.onnx", load_external_data=False).graph
    inputs = [node.input[0] for node in rounded.node if node.op_type == "Conv"]
    expected = [number >= 3 and not after for number, after in enumerate(of_the_map)]
    assert [name.endswith(".rounded") for name in inputs] == expected


def test_tensors_that_the_file_lacks_stay_inside(tmp_path: Path, tiny_export: Path) -> None:
    values = np.full((3, 5), 0.123456789, np.float32)
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["own"], ["out"])],
        "graph",
        [],
        [onnx.helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, [3, 5])],
        [onnx.numpy_helper.from_array(values, "own"), onnx.numpy_helper.from_array(values, "unused")],
    )
    made = linked(onnx.helper.make_model(graph), read_weights(tiny_export))
    assert [tensor.name for tensor in made.graph.initializer] == ["own"]
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(made.graph.initializer[0]), values)


def test_places_are_those_of_the_weights(tiny_export: Path) -> None:
    weights, expected = read_weights(tiny_export), load_file(tiny_export / WEIGHTS)
    stored = stored_tensors(weights)
    assert stored.keys() == expected.keys()
    for name, tensor in expected.items():
        assert stored[name].shape == tensor.shape
        if tensor.dtype == np.float16:
            np.testing.assert_array_equal(halves(weights, stored[name]), tensor.astype(np.float32))


@pytest.mark.scale
def test_mean_pooling_needs_no_guided_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_tiny_checkpoint(tmp_path / "plain")
    network, config = load_network(tmp_path / "plain"), read_config(tmp_path / "plain")
    (tmp_path / "bare").mkdir()
    for name in ("guided.onnx", "mine.onnx"):
        (tmp_path / "bare" / name).write_text("of another export, and the user's own")
    bare = CrossATNet(network.config.model_copy(update={"attention_heads": 0})).eval()
    save_checkpoint(tmp_path / "bare", bare, "bare", config.provenance, [])
    form = export_checkpoint(tmp_path / "bare", tmp_path / "bare")
    made = {"photo", "regions", "sketch"}
    assert set(form.files) == made
    names = {path.stem for path in (tmp_path / "bare").glob("*.onnx")}
    assert names == {*made, "mine"}
    model = OnnxModel(tmp_path / "bare")
    assert not model.has_attention
    pixels = probes(2, 96)
    np.testing.assert_allclose(
        model.embed(pixels, "photo"), load_network(tmp_path / "bare").embed(pixels, "photo"), atol=1e-5
    )


@pytest.mark.parametrize("name", packaged_checkpoints())
def test_packaged_checkpoints_bring_the_form_of_their_weights(name: str) -> None:
    model, network = OnnxModel(name), load_network(name)
    assert model.fingerprint == network.fingerprint
    pixels = probes(1, side_of(network.config, "photo"))
    np.testing.assert_allclose(model.embed(pixels, "photo"), network.embed(pixels, "photo"), atol=1e-4)
    if network.regions:
        with torch.inference_mode():
            proposals = network.proposals(*network.maps(pixels, "photo"))
        np.testing.assert_allclose(model._run("photo", "proposals", pixels=pixels), proposals, atol=1e-4)
    assert model.form.int8 is not None
    assert set(model.form.int8.classes) <= set(read_config(locate(name)).provenance.training_classes)
    assert sum(file.bytes for file in model.form.files.values()) < 2_000_000

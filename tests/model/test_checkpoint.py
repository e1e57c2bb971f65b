"""Checkpoints: saving and loading, and all errors of a folder."""

import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import huggingface_hub
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from crossatnet.config import Layout, ModelConfig
from crossatnet.data.looks import ClassPictures
from crossatnet.data.splits import EVERYTHING, load_split
from crossatnet.evaluation.protocol import refuse_seen
from crossatnet.model import checkpoint as checkpoint_module
from crossatnet.model.checkpoint import (
    CARD,
    CONFIDENCE,
    CONFIG,
    FORM,
    HISTORY,
    RECORD,
    WEIGHTS,
    CheckpointConfig,
    Provenance,
    TrainingRecord,
    card,
    is_checkpoint,
    packaged_checkpoints,
    read_config,
    read_record,
    weights_hash,
)
from crossatnet.model.network import MODALITIES, CrossATNet
from crossatnet.model.weights import load_network, save_checkpoint
from crossatnet.system.errors import UserError
from tiny_data import OUTLINES, draw

PROVENANCE = Provenance(
    data="shapes",
    layout="folder",
    split="tiny",
    training_classes=("star", "bar", "plus"),
    validation_classes=("arrow",),
    seed=3,
    epochs=7,
    validation_map=0.4567,
)
RECORDS = [{"epoch": 1, "loss": 2.5}, {"epoch": 2, "loss": 1.25}]


@pytest.fixture(scope="module")
def network() -> CrossATNet:
    torch.manual_seed(0)
    network = CrossATNet(ModelConfig(image_size=64, dimension=16, code_lengths=(16, 32))).eval()
    network.backbone.load_imagenet_weights()
    network.photo_centre.copy_(torch.randn(320))
    for bits in network.hashing.lengths:
        network.hashing.set(bits, torch.randn(bits, 16), torch.randn(bits) / 10)
    return network


@pytest.fixture(scope="module")
def saved(network: CrossATNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints") / "shapes"
    save_checkpoint(folder, network, "shapes", PROVENANCE, RECORDS)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(saved, tmp_path / "shapes"))


@pytest.fixture
def packaged(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The checkpoint as one that ships with the package, under the name `crossatnet-shapes`."""
    monkeypatch.setattr(checkpoint_module, "PACKAGED", tmp_path / "packaged")
    return Path(shutil.copytree(saved, tmp_path / "packaged" / "crossatnet-shapes"))


def pictures() -> list[Image.Image]:
    random = np.random.default_rng(0)
    return [draw(name, "photo", random) for name in OUTLINES]


def test_a_loaded_network_embeds_like_the_saved_one(network: CrossATNet, saved: Path) -> None:
    loaded = load_network(saved)
    assert not loaded.training
    assert loaded.config == network.config
    assert (loaded.name, loaded.source) == ("shapes", str(saved.resolve()))
    assert {tensor.dtype for tensor in loaded.parameters()} == {torch.float32}
    for modality in ("sketch", "photo"):
        expected = network.encode(pictures(), modality)
        cosine = (loaded.encode(pictures(), modality) * expected).sum(1)
        np.testing.assert_allclose(cosine, 1, atol=1e-4)  # weights are kept in half precision
    assert np.abs(expected - expected[0]).max() > 0.1


def test_weights_are_halves_of_the_networks(network: CrossATNet, saved: Path) -> None:
    weights = load_file(saved / WEIGHTS)
    assert set(weights) == set(network.state_dict())
    for name, tensor in network.state_dict().items():
        expected = tensor.half() if tensor.is_floating_point() else tensor
        assert torch.equal(weights[name], expected), name
    assert (saved / WEIGHTS).stat().st_size < 12_000_000


def test_saving_what_was_loaded_changes_nothing(saved: Path, tmp_path: Path) -> None:
    loaded = load_network(saved)
    assert load_network(saved).fingerprint == loaded.fingerprint
    save_checkpoint(tmp_path / "again", loaded, "again", PROVENANCE, [])
    assert load_network(tmp_path / "again").fingerprint == loaded.fingerprint


def test_keeps_what_it_was_trained_on(saved: Path) -> None:
    config = read_config(saved)
    assert config.provenance == PROVENANCE
    assert config.name == "shapes"
    assert json.loads((saved / HISTORY).read_text()) == RECORDS
    text = (saved / CARD).read_text()
    assert text.startswith("# shapes\n")
    assert "| data | shapes (layout `folder`) |" in text
    assert "tiny: 3 classes trained on, the others never seen |" in text
    assert "mAP@all of 0.457 on 1 held-out SEEN classes; 7 epochs, seed 3" in text
    assert "64 px, 16-d shared space" in text
    assert "{" not in text  # every blank is filled in


def test_the_card_tells_further_data_and_codes(network: CrossATNet) -> None:
    provenance = PROVENANCE.model_copy(update={"extra_data": ("clocks", "birds"), "split": "all"})
    text = card(CheckpointConfig(name="shapes", model=network.config, provenance=provenance))
    assert "| data | shapes and clocks and birds (layout `folder`) |" in text
    assert "| split | all: 3 classes trained on |" in text  # no other classes, so none is unseen
    assert "| hash codes | 16, 32 bits, itq |" in text
    assert "16-d shared space, 8 attention heads |" in text
    assert "Classes trained on: star, bar, plus.\n" in text


@pytest.mark.parametrize("layout", get_args(Layout))
def test_the_card_of_every_layout_has_no_blanks(network: CrossATNet, layout: str) -> None:
    provenance = PROVENANCE.model_copy(update={"layout": layout})
    text = card(CheckpointConfig(name="shapes", model=network.config, provenance=provenance))
    assert "{" not in text
    assert "their owners' terms" in text


def test_what_was_written_before_further_data_was_known_is_read(folder: Path) -> None:
    config = json.loads((folder / CONFIG).read_text())
    del config["provenance"]["extra_data"]
    (folder / CONFIG).write_text(json.dumps(config))
    assert read_config(folder).provenance == PROVENANCE


def test_separate_encoders_come_back(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = ModelConfig(image_size=64, dimension=16, code_lengths=(16,), shared_encoder=False, attention_heads=0)
    network = CrossATNet(config).eval()
    for modality in MODALITIES:
        network.encoder(modality).load_imagenet_weights()
    assert network.sketch_backbone is not None
    with torch.no_grad():
        for weight in network.sketch_backbone.parameters():
            weight.mul_(1.02)
    network.sketch_projection = torch.nn.Linear(320, 16, bias=False)
    save_checkpoint(tmp_path / "apart", network, "apart", PROVENANCE, RECORDS)
    loaded = load_network(tmp_path / "apart")
    assert loaded.config == config
    embeddings = {}
    for modality in MODALITIES:
        embeddings[modality] = loaded.encode(pictures(), modality)
        cosine = (embeddings[modality] * network.encode(pictures(), modality)).sum(1)
        np.testing.assert_allclose(cosine, 1, atol=5e-4)  # two encoders in half precision, one changed
    assert (embeddings["sketch"] * embeddings["photo"]).sum(1).max() < 0.9


def test_only_a_finished_folder_is_a_checkpoint(
    saved: Path, tmp_path: Path, network: CrossATNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert is_checkpoint(saved)
    assert {path.name for path in saved.iterdir()} == {CONFIG, WEIGHTS, CARD, HISTORY}

    def full_disk(*_: object) -> str:
        raise OSError("no space left on device")

    monkeypatch.setattr("crossatnet.model.weights.card", full_disk)
    with pytest.raises(OSError, match="no space left"):
        save_checkpoint(tmp_path, network, "shapes", PROVENANCE, RECORDS)
    assert (tmp_path / WEIGHTS).is_file()
    assert not is_checkpoint(tmp_path)


@pytest.mark.parametrize("keep", [0, 4, 100, 5_000_000])
def test_refuses_weights_cut_short(folder: Path, keep: int) -> None:
    weights = (folder / WEIGHTS).read_bytes()
    assert len(weights) > keep
    (folder / WEIGHTS).write_bytes(weights[:keep])
    with pytest.raises(UserError, match=r"model\.safetensors: damaged or missing .* copy the checkpoint again"):
        load_network(folder)


def test_refuses_missing_weights(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    with pytest.raises(UserError, match=r"model\.safetensors: damaged or missing"):
        load_network(folder)


def test_refuses_weights_of_another_shape(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    save_file({**weights, "projection.weight": torch.zeros(8, 320)}, folder / WEIGHTS)
    with pytest.raises(UserError, match=r"does not fit its config\.json .*projection\.weight"):
        load_network(folder)


@pytest.mark.parametrize("change", ["lacking", "added"])
def test_refuses_other_weights(folder: Path, change: str) -> None:
    weights = load_file(folder / WEIGHTS)
    if change == "lacking":
        del weights["photo_centre"]
    else:
        weights["extra"] = torch.zeros(1)
    save_file(weights, folder / WEIGHTS)
    with pytest.raises(UserError, match=r"does not fit its config\.json .*(photo_centre|extra)"):
        load_network(folder)


def test_refuses_a_folder_without_config(folder: Path) -> None:
    (folder / CONFIG).unlink()
    with pytest.raises(UserError, match=r"shapes' is not a checkpoint: it has no readable config\.json"):
        load_network(folder)


def without_name(config: dict[str, object]) -> object:
    return {key: value for key, value in config.items() if key != "name"}


@pytest.mark.parametrize(
    "damage",
    [
        without_name,
        lambda config: {**config, "surprise": 1},
        lambda config: {**config, "format": "one"},
        lambda config: {**config, "model": {"image_size": -3}},
        lambda config: [config],
        lambda config: None,
    ],
)
def test_refuses_a_damaged_config(folder: Path, damage: Callable[[dict[str, object]], object]) -> None:
    (folder / CONFIG).write_text(json.dumps(damage(json.loads((folder / CONFIG).read_text()))))
    with pytest.raises(UserError, match=r"config\.json: damaged .* copy the checkpoint again"):
        load_network(folder)


@pytest.mark.parametrize("content", [b"", b'{"format": 2, "na', b"\xff\xfe\x00"])
def test_refuses_a_config_that_is_not_json(folder: Path, content: bytes) -> None:
    (folder / CONFIG).write_bytes(content)
    with pytest.raises(UserError, match=r"config\.json: damaged"):
        load_network(folder)


def test_refuses_a_newer_format_before_its_unknown_keys(folder: Path) -> None:
    config = {**json.loads((folder / CONFIG).read_text()), "format": 3, "invented_later": True}
    (folder / CONFIG).write_text(json.dumps(config))
    with pytest.raises(UserError, match="format 3 is newer than this version reads; upgrade crossatnet"):
        load_network(folder)


def test_refuses_an_older_format(folder: Path) -> None:
    config = {**json.loads((folder / CONFIG).read_text()), "format": 1}
    (folder / CONFIG).write_text(json.dumps(config))
    with pytest.raises(UserError, match="written by an older version of crossatnet; train it again"):
        load_network(folder)


# The record of what training read

RECORDED = TrainingRecord(
    pictures={"star": ClassPictures(sketch=("0" * 16,), photo=("1" * 16,), look=("f" * 16,))},
    training_classes=("star",),
    selection_classes=(),
    graph_classes=(),
    centring_classes=("star",),
    statistics_classes=(),
    hash_code_classes=("star",),
    aliases={"star": ("étoile",)},
)


def test_the_record_comes_back_bound_to_its_weights(network: CrossATNet, tmp_path: Path) -> None:
    save_checkpoint(tmp_path, network, "shapes", PROVENANCE, RECORDS, RECORDED)
    digest = hashlib.sha256((tmp_path / WEIGHTS).read_bytes()).hexdigest()
    assert weights_hash(tmp_path) == digest[:16]
    assert read_record(tmp_path) == RECORDED.model_copy(update={"weights": digest[:16]})
    assert load_network(tmp_path).config == network.config


def test_saving_without_a_record_leaves_none_of_other_weights(network: CrossATNet, tmp_path: Path) -> None:
    save_checkpoint(tmp_path, network, "shapes", PROVENANCE, RECORDS, RECORDED)
    save_checkpoint(tmp_path, network, "shapes", PROVENANCE, RECORDS)
    assert read_record(tmp_path) is None
    assert not (tmp_path / RECORD).exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"record\.json: damaged .* copy the checkpoint again"),
        (b"\xff\xfe\x00", r"record\.json: damaged"),
        (b"[]", r"record\.json: damaged"),
        (b'{"format": 1, "pictures": {}}', r"record\.json: damaged"),
        (b'{"format": 2, "invented_later": 1}', r"record\.json: format 2 is newer .* upgrade crossatnet"),
    ],
)
def test_refuses_a_damaged_record(folder: Path, content: bytes, message: str) -> None:
    (folder / RECORD).write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_record(folder)
    load_network(folder)  # which does not need it


def test_refuses_a_record_that_is_a_folder_and_weights_that_are_not_there(folder: Path) -> None:
    (folder / RECORD).mkdir()
    with pytest.raises(UserError, match=r"record\.json: cannot be read"):
        read_record(folder)
    (folder / WEIGHTS).unlink()
    with pytest.raises(UserError, match=r"model\.safetensors: damaged or missing"):
        weights_hash(folder)


def test_loads_a_packaged_checkpoint_by_name(packaged: Path) -> None:
    assert packaged_checkpoints() == {"crossatnet-shapes": packaged}
    assert load_network("crossatnet-shapes").source == "crossatnet-shapes"


@pytest.mark.usefixtures("packaged")
def test_an_unknown_name_gets_the_nearest_packaged_one() -> None:
    with pytest.raises(UserError, match=r"no checkpoint 'crossatnet-shape'.* did you mean crossatnet-shapes\?"):
        load_network("crossatnet-shape")


@pytest.mark.parametrize("source", ["/no/folder", "./no-folder", "a/b/c"])
def test_a_path_that_is_not_there_does_not_go_to_the_hub(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: pytest.fail("asked the hub"))
    with pytest.raises(UserError, match=f"no checkpoint '{source}'"):
        load_network(source)


def test_loads_from_the_hub(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def snapshot_download(repository: str, allow_patterns: list[str]) -> str:
        asked.append((repository, sorted(allow_patterns)))
        return str(saved)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    network = load_network("someone/shapes")
    assert asked == [("someone/shapes", sorted([CONFIG, WEIGHTS, CARD, HISTORY, RECORD, CONFIDENCE, FORM, "*.onnx"]))]
    assert network.fingerprint == load_network(saved).fingerprint
    assert network.source == str(saved.resolve())  # where it can be loaded from again without the hub


@pytest.mark.parametrize(("error", "reason"), [(OSError("offline\nsecond line"), "offline"), (KeyError(), "KeyError")])
def test_says_in_one_line_why_the_hub_gave_nothing(
    error: Exception, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def snapshot_download(*_: object, **__: object) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    with pytest.raises(UserError) as caught:
        load_network("someone/shapes")
    assert str(caught.value) == f"no folder 'someone/shapes' here, and the hub did not give it: {reason}"


def test_names_the_extra_for_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"pip install 'crossatnet\[hub\]'"):
        load_network("someone/shapes")


def test_a_local_folder_comes_before_the_hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: pytest.fail("asked the hub"))
    monkeypatch.chdir(folder.parent.parent)
    network = load_network(f"{folder.parent.name}/{folder.name}")
    assert network.source == str(folder.resolve())


# # Packaged checkpoints


@pytest.mark.parametrize(
    ("name", "classes"), [("crossatnet-quickstart", 594), ("crossatnet-sketchy", 100), ("crossatnet-open", 406)]
)
def test_shipped_checkpoint(name: str, classes: int) -> None:
    network = load_network(name)
    folder = checkpoint_module.locate(name)
    assert (folder / WEIGHTS).stat().st_size < 12_500_000
    assert sum(path.stat().st_size for path in folder.iterdir()) < 15_500_000  # with the ONNX form and the record
    provenance = read_config(folder).provenance
    assert len(provenance.training_classes) == classes
    if provenance.split == EVERYTHING:
        assert set(load_split("sketchy-sake25").seen) < set(provenance.training_classes)
    else:
        split = load_split(provenance.split)
        assert set(provenance.training_classes) == split.seen_set
        refuse_seen(provenance, split)
    embeddings = network.encode([draw("star", "photo", np.random.default_rng(0))], "photo")
    assert np.linalg.norm(embeddings) == pytest.approx(1, abs=1e-5)
    assert network.encode([draw("star", "sketch", np.random.default_rng(0))], "sketch", bits=64).shape == (1, 8)
    assert "Terms: " in (folder / CARD).read_text()

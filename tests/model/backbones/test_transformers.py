"""Networks of the library `transformers` as backbones, against the library's own output; small random ones."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from crossatnet.config import ModelConfig
from crossatnet.model.backbones.build import make_backbone
from crossatnet.model.backbones.transformers import FAMILIES, IMAGENET_MEAN, IMAGENET_STD, TransformersBackbone
from crossatnet.model.network import CrossATNet
from crossatnet.system.errors import UserError

transformers = pytest.importorskip("transformers", reason="the extra 'backbones' is not installed")

SIDE, PATCH = 32, 8
WEIGHTS = "model.safetensors"
TOKENS = {
    **{"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16},
    **{"image_size": SIDE, "patch_size": PATCH},
}
STAGES = {"hidden_sizes": [8, 12], "depths": [1, 1]}
SMALL: dict[str, dict[str, Any]] = {
    "resnet": {**STAGES, "embedding_size": 8, "layer_type": "basic"},
    "convnext": {**STAGES, "num_stages": 2, "layer_scale_init_value": 0.5},
    "convnextv2": {**STAGES, "num_stages": 2},
    "dinov2_with_registers": {**TOKENS, "num_register_tokens": 3},
    "dinov3_vit": {**TOKENS, "num_register_tokens": 3},
    "siglip2_vision_model": {**TOKENS, "num_patches": (SIDE // PATCH) ** 2},
}
OTHER_TOKENS = {"vit": 1, "deit": 2, "dinov2": 1, "dinov2_with_registers": 4, "dinov3_vit": 4, "clip_vision_model": 1}


MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]


def stored_config(**network: object) -> dict[str, Any]:
    return {"network": {"model_type": "dinov2", **TOKENS, **network}, "image_mean": MEAN, "image_std": STD}


def small_network(model_type: str) -> nn.Module:
    """A network of this kind with random weights, as the library initialises some with zeros."""
    config = transformers.AutoConfig.for_model(model_type, **SMALL.get(model_type, TOKENS))
    network: nn.Module = transformers.AutoModel.from_config(config).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
    return network


def save(network: nn.Module, folder: Path) -> Path:
    network.save_pretrained(folder)
    return folder


def pictures(height: int = SIDE, width: int = SIDE) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (2, 3, height, width), generator=generator, dtype=torch.uint8)


def normalised(batch: Tensor, mean: list[float] = IMAGENET_MEAN, std: list[float] = IMAGENET_STD) -> Tensor:
    return (batch / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


def as_patches(x: Tensor) -> dict[str, Tensor]:
    """What SigLIP2's own image processor makes of a picture: its patches, row by row, colours last."""
    rows, columns = x.shape[2] // PATCH, x.shape[3] // PATCH
    patches = torch.stack(
        [
            x[:, :, row * PATCH : (row + 1) * PATCH, column * PATCH : (column + 1) * PATCH].movedim(1, 3).flatten(1)
            for row in range(rows)
            for column in range(columns)
        ],
        dim=1,
    )
    mask, shapes = torch.ones(patches.shape[:2]), torch.tensor([[rows, columns]] * len(x))
    return {"pixel_values": patches, "pixel_attention_mask": mask, "spatial_shapes": shapes}


def expected_map(network: nn.Module, x: Tensor, **options: bool) -> Tensor:
    """The library's output; of tokens only the patches, row by row."""
    inputs = {"pixel_values": x}
    if network.config.model_type == "siglip2_vision_model":
        inputs = as_patches(x)
    output = network(**inputs, **options).last_hidden_state
    if output.ndim == 4:
        return output
    others = OTHER_TOKENS.get(network.config.model_type, 0)
    rows, columns = x.shape[2] // PATCH, x.shape[3] // PATCH
    assert output.shape[1] == others + rows * columns
    feature_map = torch.empty(len(x), output.shape[2], rows, columns)
    for row in range(rows):
        for column in range(columns):
            feature_map[:, :, row, column] = output[:, others + row * columns + column]
    return feature_map


@pytest.mark.parametrize("model_type", FAMILIES)
@torch.inference_mode()
def test_map_is_the_librarys_output(model_type: str, tmp_path: Path) -> None:
    network = small_network(model_type)
    backbone = TransformersBackbone.load(save(network, tmp_path))
    expected = expected_map(network, normalised(pictures()))
    assert not backbone.training
    assert expected.shape[1] == backbone.channels
    assert expected.std() > 0.05  # not a comparison of zeros
    torch.testing.assert_close(backbone(pictures()), expected, atol=1e-4, rtol=1e-4)
    assert torch.equal(backbone(pictures()), backbone(pictures().float()))


@pytest.mark.parametrize("model_type", FAMILIES)
@torch.inference_mode()
def test_other_sides_than_it_was_trained_for(model_type: str, tmp_path: Path) -> None:
    """48 x 70 is another size, not square, and not a whole number of patches."""
    network = small_network(model_type)
    backbone = TransformersBackbone.load(save(network, tmp_path))
    options = {"interpolate_pos_encoding": True} if FAMILIES[model_type].interpolates else {}
    expected = expected_map(network, normalised(pictures(48, 70)), **options)
    torch.testing.assert_close(backbone(pictures(48, 70)), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("model_type", FAMILIES)
@torch.inference_mode()
def test_is_built_again_from_its_stored_config_without_any_folder(model_type: str, tmp_path: Path) -> None:
    backbone = TransformersBackbone.load(save(small_network(model_type), tmp_path))
    again = make_backbone("owner/name", json.loads(json.dumps(backbone.config)))
    again.load_state_dict(backbone.state_dict())
    assert again.config == backbone.config
    assert again.channels == backbone.channels
    assert torch.equal(again.eval()(pictures()), backbone(pictures()))


@pytest.mark.parametrize("model_type", FAMILIES)
def test_weights_have_the_names_of_the_librarys_files(model_type: str, tmp_path: Path) -> None:
    """The library's names in memory change with its versions; the names in our checkpoints must not."""
    backbone = TransformersBackbone.load(save(small_network(model_type), tmp_path))
    in_file = {name.removeprefix("vision_model."): weight for name, weight in load_file(tmp_path / WEIGHTS).items()}
    ours = {name.removeprefix("tower.network."): weight for name, weight in backbone.state_dict().items()}
    assert set(in_file) - set(ours) == {name for name in in_file if name.startswith(FAMILIES[model_type].unused)}
    assert all(torch.equal(weight, in_file[name]) for name, weight in ours.items())


def test_weights_keep_their_names_inside_another_network() -> None:
    network = nn.ModuleDict({"backbone": make_backbone("owner/name", stored_config())})
    again = nn.ModuleDict({"backbone": make_backbone("owner/name", stored_config())})
    state = network.state_dict()
    again.load_state_dict(state)
    assert "backbone.tower.network.encoder.layer.0.attention.attention.query.weight" in state
    assert all(torch.equal(weight, again.state_dict()[name]) for name, weight in state.items())
    del state["backbone.tower.network.layernorm.weight"]
    with pytest.raises(RuntimeError, match="Missing key"):
        again.load_state_dict(state)
    with pytest.raises(RuntimeError, match="Unexpected key"):
        again.load_state_dict({**network.state_dict(), "backbone.tower.network.more": torch.zeros(1)})


@pytest.mark.parametrize("model_type", FAMILIES)
def test_every_weight_learns(model_type: str, tmp_path: Path) -> None:
    """Training on several machines stops if a weight gets no gradient."""
    backbone = TransformersBackbone.load(save(small_network(model_type), tmp_path)).train()
    backbone(pictures()).square().sum().backward()
    assert [name for name, weight in backbone.named_parameters() if weight.grad is None] == []


@torch.inference_mode()
def test_counts_as_one_unit(tmp_path: Path) -> None:
    backbone = TransformersBackbone.load(save(small_network("dinov2"), tmp_path))
    assert backbone.depth == 1
    assert torch.equal(backbone.early(pictures(), 0), pictures())
    for units in (0, 1):
        assert torch.equal(backbone.late(backbone.early(pictures(), units), units), backbone(pictures()))
    with pytest.raises(UserError, match="cut after 0 to 1 units, not 2"):
        backbone.early(pictures(), 2)


@pytest.mark.parametrize("name", ["clip", "siglip", "siglip2"])
@torch.inference_mode()
def test_takes_the_vision_tower_of_a_picture_and_text_model(name: str, tmp_path: Path) -> None:
    text = {key: value for key, value in TOKENS.items() if key not in ("image_size", "patch_size")}
    text |= {"vocab_size": 10, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    vision = SMALL.get(f"{name}_vision_model", TOKENS)
    config = transformers.AutoConfig.for_model(name, text_config=text, vision_config=vision)
    network = transformers.AutoModel.from_config(config).eval()
    backbone = TransformersBackbone.load(save(network, tmp_path))
    expected = expected_map(network.vision_model, normalised(pictures()))
    torch.testing.assert_close(backbone(pictures()), expected, atol=1e-4, rtol=1e-4)
    assert not any("text" in key for key in backbone.state_dict())


@torch.inference_mode()
def test_takes_the_network_below_a_classifier(tmp_path: Path) -> None:
    """Such files have other names of weights, a head that is not needed, and no pooler, which would be random."""
    config = transformers.ViTConfig(**TOKENS, id2label={number: f"class {number}" for number in range(1000)})
    network = transformers.ViTForImageClassification(config).eval()
    first, second = (TransformersBackbone.load(save(network, tmp_path)) for _ in range(2))
    expected = expected_map(network.vit, normalised(pictures()))
    torch.testing.assert_close(first(pictures()), expected, atol=1e-4, rtol=1e-4)
    assert "class 7" not in json.dumps(first.config)
    assert all(torch.equal(weight, second.state_dict()[name]) for name, weight in first.state_dict().items())


@torch.inference_mode()
def test_half_precision_weights_are_read_as_float32(tmp_path: Path) -> None:
    backbone = TransformersBackbone.load(save(small_network("convnext").half(), tmp_path))
    again = make_backbone("owner/name", backbone.config)
    assert {weight.dtype for weight in [*backbone.parameters(), *again.parameters()]} == {torch.float32}


@pytest.mark.parametrize(
    ("file", "stored", "mean", "std"),
    [
        ("preprocessor_config.json", {"image_mean": MEAN, "image_std": STD}, MEAN, STD),
        ("processor_config.json", {"image_processor": {"image_mean": MEAN, "image_std": STD}}, MEAN, STD),
        ("preprocessor_config.json", {"do_normalize": False, "image_mean": None}, [0.0] * 3, [1.0] * 3),
        ("preprocessor_config.json", {"size": 32}, IMAGENET_MEAN, IMAGENET_STD),
    ],
)
@torch.inference_mode()
def test_normalises_as_the_model_was_trained(
    tmp_path: Path, file: str, stored: dict[str, Any], mean: list[float], std: list[float]
) -> None:
    network = small_network("resnet")
    (save(network, tmp_path) / file).write_text(json.dumps(stored))
    backbone = TransformersBackbone.load(tmp_path)
    expected = expected_map(network, normalised(pictures(), mean, std))
    torch.testing.assert_close(backbone(pictures()), expected, atol=1e-4, rtol=1e-4)
    again = make_backbone("owner/name", backbone.config)
    again.load_state_dict(backbone.state_dict())
    assert torch.equal(again.eval()(pictures()), backbone(pictures()))


def test_is_quiet_and_leaves_the_librarys_settings_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    logging = transformers.utils.logging
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    network = save(transformers.ViTForImageClassification(transformers.ViTConfig(**TOKENS)), tmp_path)
    capfd.readouterr()
    TransformersBackbone.load(network)
    assert capfd.readouterr() == ("", "")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


# # Errors


@pytest.mark.parametrize("source", ["./absent", "/nowhere/absent", "absent", "a/b/c"])
def test_no_such_folder(source: str) -> None:
    with pytest.raises(UserError, match=f"no folder '{source}' here, and a hub id looks like owner/name"):
        TransformersBackbone.load(source)


def test_hub_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> str:
        raise ConnectionError("no route to the hub\n" + 99 * "and more ")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    with pytest.raises(
        UserError, match=r"^no folder 'owner/name' here, and the hub .*: no route to the hub .{,180} \.\.\.$"
    ):
        TransformersBackbone.load("owner/name")


def test_takes_settings_and_safetensors_only_from_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = {}

    def download(repository: str, allow_patterns: list[str]) -> str:
        asked[repository] = allow_patterns
        return str(save(small_network("resnet"), tmp_path))

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert TransformersBackbone.load("owner/name").channels == 12
    assert all(pattern.endswith((".json", ".safetensors")) for pattern in asked["owner/name"])


def test_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no model of the library transformers: it has no config.json"):
        TransformersBackbone.load(tmp_path)


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "{}", '{"format": 1}', '{"model_type": "unheard-of"}', '{"model_type": "vit", "hidden_size": "x"}'],
)
def test_damaged_or_foreign_config(tmp_path: Path, text: str) -> None:
    (save(small_network("vit"), tmp_path) / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config.json: not a network that can be loaded \(.+\)$"):
        TransformersBackbone.load(tmp_path)


def test_not_a_vision_model(tmp_path: Path) -> None:
    transformers.BertConfig().save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"'bert' is not a vision model that gives a map; known are resnet, .*siglip2$"):
        TransformersBackbone.load(tmp_path)


def test_weights_absent_torn_or_pickled(tmp_path: Path) -> None:
    weights = save(small_network("vit"), tmp_path) / WEIGHTS
    whole = weights.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"nonsense"):
        weights.write_bytes(content)
        with pytest.raises(UserError, match=r"no readable weights; they are taken from model.safetensors only"):
            TransformersBackbone.load(tmp_path)
    weights.unlink()
    torch.save(small_network("vit").state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"no readable weights; they are taken from model.safetensors only"):
        TransformersBackbone.load(tmp_path)


def test_weights_of_another_network(tmp_path: Path) -> None:
    weights = save(small_network("resnet"), tmp_path / "resnet") / WEIGHTS
    weights.replace(save(small_network("dinov2"), tmp_path / "dinov2") / WEIGHTS)
    with pytest.raises(
        UserError, match=r"do not fit its config.json: \d+ are missing or of another shape, such as \S+$"
    ):
        TransformersBackbone.load(tmp_path / "dinov2")


def test_weights_of_another_shape(tmp_path: Path) -> None:
    config = json.loads((save(small_network("dinov2"), tmp_path) / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "hidden_size": 16}))
    with pytest.raises(
        UserError, match=r"do not fit its config.json: \d+ are missing or of another shape, such as \S+$"
    ):
        TransformersBackbone.load(tmp_path)


@pytest.mark.parametrize(
    "stored",
    ["[]", "{", '{"image_mean": [0.5]}', '{"image_mean": 0.5}', '{"image_std": [1, 0, 1]}', '{"image_std": ["1"]}'],
)
def test_damaged_preprocessor(tmp_path: Path, stored: str) -> None:
    (save(small_network("resnet"), tmp_path) / "preprocessor_config.json").write_text(stored)
    with pytest.raises(UserError, match=r"preprocessor_config.json: (damaged|image_(mean|std) must)"):
        TransformersBackbone.load(tmp_path)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "the stored settings of the backbone lack a part or name an unknown one"),
        ({**stored_config(), "network": []}, "the stored settings of the backbone lack a part or name an unknown one"),
        (stored_config(model_type="bert"), "the stored settings of the backbone lack a part or name an unknown one"),
        ({**stored_config(), "image_std": [1, 2]}, "image_std must be three numbers"),
        (stored_config(hidden_size="eight"), "cannot build the backbone, a 'dinov2' network"),
        (stored_config(hidden_act="unheard-of"), "cannot build the backbone, a 'dinov2' network"),
    ],
)
def test_damaged_stored_config(config: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_backbone("owner/name", config)


def test_runs_no_code_that_a_folder_or_a_stored_config_brings(tmp_path: Path) -> None:
    """`auto_map` names a Python file beside the weights; loading it would leave a mark."""
    mark = tmp_path / "mark"
    config = json.loads((save(small_network("dinov2"), tmp_path) / "config.json").read_text())
    code = {"auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}}
    (tmp_path / "evil.py").write_text(f"import pathlib\npathlib.Path({str(mark)!r}).touch()\n")
    (tmp_path / "config.json").write_text(json.dumps({**config, **code}))
    backbone = TransformersBackbone.load(tmp_path)
    assert "evil" not in json.dumps(backbone.config)
    make_backbone("owner/name", stored_config(**code, _name_or_path=str(tmp_path), attn_implementation="owner/kernel"))
    (tmp_path / "config.json").write_text(json.dumps({**config, **code, "model_type": "unheard-of"}))
    with pytest.raises(UserError, match="not a network that can be loaded"):
        TransformersBackbone.load(tmp_path)
    assert not mark.exists()


def test_names_the_extra_when_the_library_is_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    save(small_network("resnet"), tmp_path)
    monkeypatch.setitem(sys.modules, "transformers", None)
    for make in (lambda: TransformersBackbone.load(tmp_path), lambda: make_backbone("owner/name", stored_config())):
        with pytest.raises(UserError, match=r"pip install 'crossatnet\[backbones\]'"):
            make()


@pytest.mark.parametrize("model_type", ["resnet", "dinov2"])
def test_regions_are_proposed_from_the_last_map(
    model_type: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no finer one."""
    source = TransformersBackbone.load(save(small_network(model_type), tmp_path))
    settings = {"backbone": "small", "backbone_config": source.config, "image_size": SIDE, "region_size": SIDE}
    network = CrossATNet(ModelConfig.model_validate({**settings, "attention_heads": 0, "dimension": 16})).eval()
    assert network.backbone.finer == (1, source.channels)
    photos = pictures().permute(0, 2, 3, 1).numpy()
    finer, feature_map = network.maps(photos, "photo")
    assert torch.equal(finer, feature_map)
    assert network.proposer is not None
    with torch.no_grad():
        network.proposer.numbers.weight *= 0.01  # else random weights make boxes of any size, or none
        network.proposer.numbers.bias.copy_(torch.tensor([9.0, *[-2.0] * 4]))
    full = [*pictures(90, 120).permute(0, 2, 3, 1).numpy()]
    monkeypatch.setattr("crossatnet.model.regions.MOST_LIKENESS", 2.0)  # random networks find all alike
    embeddings, regions = network.embed_with_regions(photos, full)
    np.testing.assert_array_equal(embeddings, network.embed(photos, "photo"))
    for each in regions:
        assert each.embeddings.shape == (len(each.boxes), 16)
        assert len(each.boxes) > 0

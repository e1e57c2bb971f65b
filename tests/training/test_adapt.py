"""Nearly frozen fine-tuning, on small random vision transformers: what learns, what is merged, and what goes on."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor, nn

from crossatnet.config import Config, load_config
from crossatnet.model.backbones.build import make_backbone
from crossatnet.model.checkpoint import WEIGHTS, read_config
from crossatnet.model.network import CrossATNet
from crossatnet.model.weights import load_network
from crossatnet.system.errors import UserError
from crossatnet.training.adapt import LowRankLinear, add_low_rank, attention_layers, freeze_the_rest, merged
from crossatnet.training.fit import fit
from crossatnet.training.lightning_module import Training
from crossatnet.training.seen_catalog import seen_catalog
from crossatnet.training.start import NamedFeatures, go_on_from, seen_features, start_network
from crossatnet.training.train import train
from tiny_data import SEEN, draw, write_tiny

transformers = pytest.importorskip("transformers", reason="the extra 'backbones' is not installed")

LAYERS, WIDTH, RANK = 2, 16, 2
TOKENS: dict[str, Any] = {
    **{"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": 2, "intermediate_size": 16},
    **{"image_size": 64, "patch_size": 16},
}
TRANSFORMERS = {
    **dict.fromkeys(("vit", "deit", "dinov2", "clip_vision_model", "siglip_vision_model"), TOKENS),
    **{name: {**TOKENS, "num_register_tokens": 2} for name in ("dinov2_with_registers", "dinov3_vit")},
    "siglip2_vision_model": {**TOKENS, "num_patches": 16},
}
KILLED_IN_A_PROCESS = """
    import os, signal, sys
    from pathlib import Path
    from crossatnet.config import load_config
    from crossatnet.training.lightning_module import Training
    from crossatnet.training.train import train

    end_of_epoch = Training.on_train_epoch_end

    def die(self):
        if self.current_epoch == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        end_of_epoch(self)

    Training.on_train_epoch_end = die
    train(load_config(sys.argv[1]), Path(sys.argv[2]), quiet=True)
"""


def save_small(folder: Path, model_type: str = "dinov2") -> Path:
    """A folder of the library with a small network of this kind and random weights, none of which is zero."""
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(model_type, **TRANSFORMERS[model_type])
    network = transformers.AutoModel.from_config(config)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    network.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CROSSATNET_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shapes")
    write_tiny(root, corrupt_unseen=True)
    return root


@pytest.fixture(scope="module")
def dinov2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_small(tmp_path_factory.mktemp("backbones") / "dinov2")


def config_of(root: Path, backbone: Path | str, model: dict[str, Any] | None = None, **settings: object) -> Config:
    small = {"image_size": 64, "dimension": 16, "code_lengths": [16], "attention_heads": 2, "backbone": str(backbone)}
    fast = {"epochs": 2, "classes_per_batch": 4, "epoch_batches": 2, "views": 0, "lora_rank": RANK}
    rates = {"trainable_units": 1, "learning_rate": 0.005, "backbone_learning_rate": 0.005}
    return Config.model_validate(
        {
            "name": "shapes",
            "data": {"root": root, "split": str(root / "tiny"), "validation_classes": 0},
            "model": {**small, **(model or {})},
            "train": {**fast, **rates, **settings},
        }
    )


def features_of(config: Config) -> NamedFeatures:
    catalog, _, _ = seen_catalog(config.data, quiet=True)
    return seen_features(config, catalog, quiet=True)


def fitted(config: Config, folder: Path, held_out: Sequence[str] = ()) -> dict[str, Tensor]:
    classes = [name for name in SEEN if name not in held_out]
    return fit(config, features_of(config), classes, held_out, folder, quiet=True)[0].state_dict()


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    """Names of the backbones' weights that are not exactly what they were."""
    assert set(before) == set(after)
    return {name for name in before if "backbone." in name and not torch.equal(before[name], after[name])}


def is_query_or_value(name: str) -> bool:
    return name.endswith(("attention.query.weight", "attention.value.weight"))


# # The update


@torch.no_grad()
def test_an_update_is_a_product_of_low_rank_added_to_the_weight() -> None:
    torch.manual_seed(0)
    plain, x = nn.Linear(5, 4), torch.randn(3, 5)
    layer = LowRankLinear(plain, 2)
    assert torch.equal(layer(x), plain(x))  # at the start
    nn.init.normal_(layer.up)
    expected = plain(x)
    for row in range(3):
        for output in range(4):
            for rank in range(2):
                seen = sum(float(layer.down[rank, i]) * float(x[row, i]) for i in range(5))
                expected[row, output] += layer.up[output, rank] * seen
    torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(layer.merged()(x), expected)
    assert type(layer.merged()) is nn.Linear


@pytest.mark.parametrize("model_type", TRANSFORMERS)
def test_queries_and_values_of_every_layer_are_found(model_type: str) -> None:
    settings = {"model_type": model_type, **TRANSFORMERS[model_type]}
    backbone = make_backbone("small", {"network": settings, "image_mean": [0.5] * 3, "image_std": [0.5] * 3})
    names = [*attention_layers(backbone.chain())]
    assert len(names) == 2 * LAYERS
    assert sum(name.endswith(("q_proj", "query")) for name in names) == LAYERS
    assert sum(name.endswith(("v_proj", "value")) for name in names) == LAYERS


@pytest.mark.parametrize("model_type", ["dinov2", "siglip_vision_model", "siglip2_vision_model"])
def test_a_merged_network_computes_the_same_by_the_names_it_had(model_type: str, root: Path, tmp_path: Path) -> None:
    config = config_of(root, save_small(tmp_path / "small", model_type), adapt="lora")
    network = start_network(config).eval()
    pictures = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)
    names = set(network.state_dict())
    plain = network(pictures, "photo")
    add_low_rank(network, config, frozen=0)
    assert set(network.state_dict()) != names
    torch.testing.assert_close(network(pictures, "photo"), plain)
    for layer in attention_layers(network.backbone.chain()).values():
        nn.init.normal_(layer.up)
    adapted = network(pictures, "photo")
    assert (adapted - plain).abs().max() > 0.01
    whole = merged(network)
    assert set(whole.state_dict()) == names
    torch.testing.assert_close(whole(pictures, "photo"), adapted)
    assert torch.equal(network(pictures, "photo"), adapted)  # the network itself stays as it is
    assert set(network.state_dict()) != names


# # What learns


@pytest.mark.parametrize("shared", [True, False])
def test_lora_learns_low_rank_updates_of_queries_and_values(
    shared: bool, root: Path, dinov2: Path, tmp_path: Path
) -> None:
    config = config_of(root, dinov2, {"shared_encoder": shared}, adapt="lora")
    before = {name: tensor.clone() for name, tensor in start_network(config).state_dict().items()}
    after = fitted(config, tmp_path)
    assert changed(before, after) == {name for name in before if is_query_or_value(name)}
    assert len(changed(before, after)) == 2 * LAYERS * (1 if shared else 2)
    for name in changed(before, after):
        sizes = torch.linalg.svdvals(after[name] - before[name])
        assert sizes[0] > 1e-3
        assert sizes[RANK] < 1e-5 * sizes[0] + 1e-6
    if not shared:
        updates = [after[name] - before[name] for name in sorted(changed(before, after))]
        assert len({float(update.norm()) for update in updates}) == len(updates)  # each encoder learns its own


def test_norm_learns_the_normalisation_layers(root: Path, dinov2: Path, tmp_path: Path) -> None:
    config = config_of(root, dinov2, adapt="norm")
    before = {name: tensor.clone() for name, tensor in start_network(config).state_dict().items()}
    after = fitted(config, tmp_path)
    expected = {name for name in before if name.rpartition(".")[0].endswith(("norm1", "norm2", "layernorm"))}
    assert changed(before, after) == expected
    assert len(expected) == 2 * (2 * LAYERS + 1)  # weight and bias


def test_norm_learns_scale_and_offset_of_a_convolutional_networks_last_units(root: Path, tmp_path: Path) -> None:
    config = config_of(root, "efficientnet-lite0", adapt="norm", trainable_units=2)
    network = start_network(config)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    norms = {
        f"backbone.{name}.{part}"
        for name, module in network.backbone.named_modules()
        if isinstance(module, nn.BatchNorm2d) and name.startswith(("blocks.14.", "blocks.15."))
        for part in ("weight", "bias")
    }
    assert len(norms) == 2 * 2 * 3
    assert changed(before, fitted(config, tmp_path)) == norms


# # What becomes of it


@pytest.fixture(scope="module")
def adapted(root: Path, dinov2: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Path]:
    """A finished run by updates, with all that reads the weights: a moving average, interpolation, whitening."""
    settings = {"adapt": "lora", "average": 0.6, "interpolation": 0.7, "whitening": 0.25}
    config = config_of(root, dinov2, {"shared_encoder": False}, epochs=3, **settings)
    return config, train(config, tmp_path_factory.mktemp("runs") / "adapted", quiet=True)


def test_a_checkpoint_knows_nothing_of_updates(
    adapted: tuple[Config, Path], root: Path, dinov2: Path, tmp_path: Path
) -> None:
    config, folder = adapted
    full = config.model_copy(update={"train": config.train.model_copy(update={"adapt": "full", "epochs": 1})})
    other = train(full, tmp_path / "full", quiet=True)
    shapes, expected = (
        {name: weight.shape for name, weight in load_file(each / WEIGHTS).items()} for each in (folder, other)
    )
    assert shapes == expected
    assert read_config(folder).model == read_config(other).model
    network = load_network(folder)
    start = start_network(config).half().float().state_dict()
    moved = changed(start, network.state_dict())
    assert moved == {name for name in start if is_query_or_value(name)}
    embeddings = network.encode([draw(name, "sketch", np.random.default_rng(0)) for name in SEEN], "sketch")
    assert np.isfinite(embeddings).all()
    assert np.abs(embeddings - embeddings[0]).max() > 0.1


@pytest.mark.scale
def test_a_run_goes_on_after_kill_9(adapted: tuple[Config, Path], tmp_path: Path) -> None:
    """Average, interpolation and whitening included; and what the killed run had kept held nothing frozen."""
    config, folder = adapted
    settings = tmp_path / "shapes.yaml"
    settings.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    command = [sys.executable, "-c", textwrap.dedent(KILLED_IN_A_PROCESS), str(settings), str(tmp_path / "run")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=dict(os.environ))
    assert ended.returncode == -signal.SIGKILL, ended.stderr[-2000:]
    kept = torch.load(tmp_path / "run" / "run" / "selection" / "last.ckpt", weights_only=True)["state_dict"]
    of_backbones = {name for name in kept if "backbone." in name}
    assert of_backbones == {name for name in of_backbones if name.endswith((".up", ".down"))}
    assert len(of_backbones) == 2 * 2 * 2 * 2 * LAYERS  # up and down, twice a layer, two encoders, and their average
    train(config, tmp_path / "run", quiet=True)
    ours, theirs = load_file(tmp_path / "run" / WEIGHTS), load_file(folder / WEIGHTS)
    assert set(ours) == set(theirs)
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def test_interpolation_is_the_mean_of_start_and_merged_backbone(root: Path, dinov2: Path, tmp_path: Path) -> None:
    states = [
        fitted(config_of(root, dinov2, adapt="lora", average=0.6, interpolation=share), tmp_path / str(share))
        for share in (1.0, 0.5)
    ]
    trained, halfway = states
    start = start_network(config_of(root, dinov2, adapt="lora")).state_dict()
    for name, tensor in trained.items():
        expected = (start[name] + tensor) / 2 if "backbone." in name else tensor
        torch.testing.assert_close(halfway[name], expected, atol=1e-6, rtol=1e-6)
    assert all((trained[name] - start[name]).abs().max() > 1e-4 for name in start if is_query_or_value(name))


def test_the_moving_average_is_of_the_updates(
    root: Path, dinov2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(root, dinov2, adapt="lora", average=0.4, epochs=3)
    steps: list[dict[str, Tensor]] = []
    end_of_step = Training.on_train_batch_end

    def note(module: Training, *arguments: Any) -> None:
        end_of_step(module, *arguments)
        layers = attention_layers(module.network.backbone.chain())
        steps.append(
            {
                f"{name} {part}": getattr(layer, part).detach().clone()
                for name, layer in layers.items()
                for part in ("up", "down")
            }
        )

    monkeypatch.setattr(Training, "on_train_batch_end", note)
    after = fitted(config, tmp_path)
    expected = steps[0]
    for number, current in enumerate(steps[1:], 1):
        decay = min(0.4, (1 + number) / (10 + number))
        expected = {name: decay * expected[name] + (1 - decay) * weight for name, weight in current.items()}
    start = start_network(config)
    for name, layer in attention_layers(start.backbone.chain()).items():
        with torch.no_grad():
            layer.weight.add_(expected[f"{name} up"] @ expected[f"{name} down"])
    for name, weight in start.state_dict().items():
        if is_query_or_value(name):
            torch.testing.assert_close(after[name], weight, atol=1e-6, rtol=1e-5)


def test_the_best_epoch_is_delivered_merged(
    root: Path, dinov2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored: list[dict[str, Tensor]] = []

    def validation_map(module: Training, network: CrossATNet, _: object) -> float:
        scored.append({name: tensor.clone() for name, tensor in network.state_dict().items()})
        return (0.6, 0.4)[module.current_epoch]

    monkeypatch.setattr(Training, "validation_map", validation_map)
    config = config_of(root, dinov2, adapt="lora")
    after = fitted(config, tmp_path, held_out=SEEN[:2])
    assert changed(scored[0], after) == set()
    assert changed(scored[1], after) == {name for name in after if is_query_or_value(name)}


def test_goes_on_from_a_checkpoint(adapted: tuple[Config, Path], root: Path, dinov2: Path, tmp_path: Path) -> None:
    """Updates are added to the weights that the checkpoint has, not to those of the library's folder."""
    _, folder = adapted
    config = config_of(root, dinov2, {"shared_encoder": False}, adapt="lora", start=str(folder))
    before = start_network(config)
    go_on_from(before, str(folder), frozen=0)
    after = fitted(config, tmp_path)
    assert changed(before.state_dict(), after) == {name for name in after if is_query_or_value(name)}
    for name in changed(before.state_dict(), after):
        assert torch.linalg.svdvals(after[name] - before.state_dict()[name])[RANK] < 1e-5


# # The packaged configs for larger backbones


def save_siglip2(folder: Path, model_type: str) -> Path:
    """A small model of both towers, as SigLIP2 is given out: "siglip" of a fixed picture size, "siglip2" of any."""
    torch.manual_seed(0)
    text = {key: value for key, value in TOKENS.items() if key not in ("image_size", "patch_size")}
    text |= {"vocab_size": 10, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    vision = TRANSFORMERS[f"{model_type}_vision_model"]
    config = transformers.AutoConfig.for_model(model_type, text_config=text, vision_config=vision)
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("name", "model_type"), [("dinov2-small", "dinov2"), ("siglip2-base", "siglip"), ("siglip2-base", "siglip2")]
)
def test_packaged_configs_for_larger_backbones_train(name: str, model_type: str, root: Path, tmp_path: Path) -> None:
    """On small random networks of their families; the hub's own were never run here."""
    folder = tmp_path / "small"
    save_siglip2(folder, model_type) if name == "siglip2-base" else save_small(folder, model_type)
    data = {"data.layout": "folder", "data.root": str(root), "data.split": str(root / "tiny")}
    few = {"data.validation_classes": 2, "train.epochs": 1, "train.epoch_batches": 2, "train.classes_per_batch": 2}
    narrow = {"model.backbone": str(folder), "model.image_size": 64, "model.dimension": 64}
    config = load_config(name, {**data, **few, **narrow, "model.code_lengths": [64]})
    start = start_network(config).half().float().state_dict()
    learns = {name for name, weight in start_network(config).backbone.named_parameters() if weight.requires_grad}
    output = train(config, tmp_path / "run", quiet=True)
    network = load_network(output)
    moved = changed(start, network.state_dict())
    assert moved
    if config.train.adapt == "lora":
        assert learns == set()  # the updates come later
        assert {name.rpartition(".")[2] for name in moved} == {"weight"}
        assert len(moved) == 2 * LAYERS
    else:
        assert moved <= {f"backbone.{name}" for name in learns}
        assert all("norm" in name for name in moved)
    assert network.encode([draw("star", "sketch", np.random.default_rng(0))], "sketch", bits=64).shape == (1, 8)


@pytest.mark.parametrize(
    ("name", "model_type", "options", "weights", "trained"),
    [
        (
            "dinov2-small",
            "dinov2",
            {"hidden_size": 384, "num_attention_heads": 6, "image_size": 518, "patch_size": 14},
            22e6,
            0.15e6,
        ),
        ("siglip2-base", "siglip_vision_model", {}, 86e6, 0.04e6),
    ],
)
def test_the_packaged_configs_fit_the_sizes_that_are_given_out(
    name: str, model_type: str, options: dict[str, Any], weights: float, trained: float
) -> None:
    """Networks of the true sizes, without memory for their weights."""
    config = load_config(name)
    settings = {"model_type": model_type, **options}
    with torch.device("meta"):
        network = transformers.AutoModel.from_config(transformers.AutoConfig.for_model(**settings))
    units = [network]
    freeze_the_rest(units, config.train, name)
    learned = sum(weight.numel() for weight in network.parameters() if weight.requires_grad)
    learned += sum(config.train.lora_rank * sum(layer.weight.shape) for layer in attention_layers(units).values()) * (
        config.train.adapt == "lora"
    )
    assert learned == pytest.approx(trained, rel=0.1)
    assert sum(weight.numel() for weight in network.parameters()) == pytest.approx(weights, rel=0.1)
    patch = network.config.patch_size
    assert config.model.image_size % patch == 0
    assert network.config.hidden_size % config.model.attention_heads == 0


# # What is refused


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train.adapt": "norm"}, "train.adapt: norm is for fine-tuning, but train.trainable_units is 0"),
        ({"train.adapt": "lora"}, "train.adapt: lora is for fine-tuning, but train.trainable_units is 0"),
        (
            {"train.adapt": "lora", "train.trainable_units": 3},
            "train.adapt: lora is for attention, and the backbone efficientnet-lite0 has none; take norm or full",
        ),
        ({"train.adapt": "bitfit"}, r"train\.adapt: Input should be 'full', 'norm' or 'lora'"),
        ({"train.lora_rank": 0}, r"train\.lora_rank: Input should be greater than or equal to 1"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_config("folder", settings)


def test_a_backbone_without_attention_is_refused_before_anything_is_read(root: Path, tmp_path: Path) -> None:
    config = transformers.ResNetConfig(hidden_sizes=[8, 16], depths=[1, 1], embedding_size=8, layer_type="basic")
    transformers.ResNetModel(config).save_pretrained(tmp_path / "resnet")
    with pytest.raises(UserError, match=r"train\.adapt: lora is for attention, and the backbone .*resnet has none"):
        train(config_of(root, tmp_path / "resnet", adapt="lora"), tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_rank_that_is_no_restriction_is_refused(root: Path, dinov2: Path) -> None:
    with pytest.raises(
        UserError, match=r"train\.lora_rank: 16 is not below the 16 of the backbone's layers; take less"
    ):
        start_network(config_of(root, dinov2, adapt="lora", lora_rank=WIDTH))

"""Training on eight drawn shapes: what it learns, changes, keeps, never opens, and how a killed run goes on."""

import json
import math
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image, ImageDraw
from safetensors.torch import load_file
from torch import Tensor

from crossatnet.config import Config, DataConfig, LossConfig, ModelConfig, TrainConfig, load_config
from crossatnet.data.catalog import Item
from crossatnet.data.images import Modality
from crossatnet.data.splits import load_split
from crossatnet.evaluation.protocol import refuse_seen
from crossatnet.model.backbones.base import Backbone
from crossatnet.model.checkpoint import HISTORY, WEIGHTS, is_checkpoint, read_config
from crossatnet.model.network import MODALITIES, CrossATNet
from crossatnet.model.proposals import RARE
from crossatnet.model.weights import load_network
from crossatnet.system.errors import UserError
from crossatnet.training import train as training
from crossatnet.training.batches import CachedViews, Pairs, Source
from crossatnet.training.embedding import training_embeddings
from crossatnet.training.features import LivePictures, LiveViews, ViewSettings
from crossatnet.training.fit import fit
from crossatnet.training.hash_codes import directions_of
from crossatnet.training.lightning_module import Training
from crossatnet.training.proposals import fit_proposer
from crossatnet.training.seen_catalog import seen_catalog
from crossatnet.training.start import (
    NamedFeatures,
    NamedViews,
    by_another_hand,
    class_features,
    own_statistics,
    seen_features,
    start_network,
)
from crossatnet.training.train import fit_hash, train, whiten
from crossatnet.training.whitening import whitening
from oracles import losses as losses_oracle
from oracles import metrics as metrics_oracle
from tiny_data import SEEN, UNSEEN, draw, write_tiny

VALIDATION = (0.1, 0.6, 0.4)  # what every run is told of its epochs: the tiny classes themselves are all too easy
EPOCHS, CHOSEN = 3, 2
TERMS = {"classification", "triplet", "guided", "agreement"}
LAST_UNIT = "backbone.blocks.15.project.0.weight"
TUNED_UNITS = 2
TUNED = {"trainable_units": TUNED_UNITS, "average": 0.9, "interpolation": 0.7}
KILLED_IN_A_PROCESS = """
    import os, signal, sys
    from pathlib import Path
    from crossatnet.config import load_config
    from crossatnet.training.lightning_module import Training
    from crossatnet.training.train import train

    end_of_epoch = Training.on_train_epoch_end

    def die(self):
        if self.validation_sources is None and self.current_epoch == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        end_of_epoch(self)

    Training.on_train_epoch_end = die
    Training.validation_map = lambda self, *_: (0.1, 0.6, 0.4)[self.current_epoch]
    train(load_config(sys.argv[1]), Path(sys.argv[2]), quiet=True)
"""


REAL_VALIDATION_MAP = Training.validation_map


class KilledError(Exception):
    """Stands for whatever ends a process."""


opened: list[str] = []  # every file that Python opens while `listening`
listening = False


def listen(event: str, arguments: tuple[object, ...]) -> None:
    if listening and event == "open":
        opened.append(str(arguments[0]))


sys.addaudithook(listen)


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, what it was asked for, and the files it opened."""

    folder: Path
    config: Config
    opened: tuple[str, ...]


def tiny_config(root: Path, model: Mapping[str, object] | None = None, **train_settings: object) -> Config:
    settings = {"epochs": EPOCHS, "classes_per_batch": 4, "learning_rate": 0.005, **train_settings}
    return Config(
        name="shapes",
        data=DataConfig(root=root, split=str(root / "tiny"), validation_classes=2),
        model=ModelConfig.model_validate({"image_size": 64, "dimension": 16, "code_lengths": (16,), **(model or {})}),
        train=TrainConfig.model_validate(settings),
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shapes whose unseen classes are files that no decoder can read."""
    root = tmp_path_factory.mktemp("shapes")
    write_tiny(root, corrupt_unseen=True)
    return root


@pytest.fixture(scope="module", autouse=True)
def _stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One feature cache for all runs, as users have it, and scripted validation scores."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CROSSATNET_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(Training, "validation_map", lambda module, *_: VALIDATION[module.current_epoch])
        yield


@pytest.fixture(scope="module")
def run(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One unbroken run on a frozen backbone, which others are compared with."""
    return unbroken(tiny_config(root), tmp_path_factory.mktemp("runs") / "unbroken")


@pytest.fixture(scope="module")
def tuned(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One with all that has a state of its own: fine-tuning of two encoders, attention, dropout, a moving average."""
    config = tiny_config(root, {"shared_encoder": False}, **TUNED)
    assert config.model.dropout
    assert config.model.attention_heads
    return unbroken(config, tmp_path_factory.mktemp("runs") / "tuned")


def unbroken(config: Config, folder: Path) -> Run:
    global listening
    opened.clear()
    listening = True
    try:
        assert train(config, folder, quiet=True) == folder
    finally:
        listening = False
    return Run(folder, config, tuple(opened))


def history(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / HISTORY).read_text())


def assert_same_weights(first: Path, second: Path) -> None:
    ours, theirs = load_file(first / WEIGHTS), load_file(second / WEIGHTS)
    assert set(ours) == set(theirs)
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name


def features_of(config: Config) -> NamedFeatures:
    catalog, _, _ = seen_catalog(config.data, quiet=True)
    return seen_features(config, catalog, quiet=True)


def assert_same_run(first: Path, second: Path) -> None:
    assert_same_weights(first, second)
    assert history(first) == history(second)


def random_source(counts: tuple[int, ...], seed: int = 0) -> CachedViews:
    """Maps (N, 2 views, 320, 2, 2) with `counts[k]` pictures of class k."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    maps = torch.randn(len(label), 2, 320, 2, 2, generator=generator).half()
    return CachedViews(maps, label, torch.zeros_like(label))


# What a run yields


def test_the_loss_falls(run: Run) -> None:
    for phase in ("selection", "refit"):
        losses = [record["loss"] for record in history(run.folder) if record["phase"] == phase]
        assert losses[-1] < 0.7 * losses[0]


def test_the_history_has_every_epoch(run: Run) -> None:
    records = history(run.folder)
    assert [(record["phase"], record["epoch"]) for record in records] == [
        *(("selection", epoch) for epoch in range(1, EPOCHS + 1)),
        *(("refit", epoch) for epoch in range(1, CHOSEN + 1)),
    ]
    for record in records:
        assert set(record) - {"phase", "epoch", "validation_map"} == {"loss", *TERMS}
        assert record["loss"] == pytest.approx(sum(record[term] for term in TERMS), rel=1e-5)
        scored = VALIDATION[record["epoch"] - 1] if record["phase"] == "selection" else None
        assert record.get("validation_map") == scored


def test_the_checkpoint_is_whole(run: Run) -> None:
    names = {path.name for path in run.folder.iterdir()}
    assert names == {"config.json", "model.safetensors", "card.md", "history.json", "record.json", "training.yaml"}
    assert Config.model_validate(yaml.safe_load((run.folder / "training.yaml").read_text())) == run.config
    network = load_network(run.folder)
    assert (network.name, network.config) == ("shapes", run.config.model)
    embeddings = network.encode([draw("star", "photo", np.random.default_rng(0))], "photo")
    assert np.isfinite(embeddings).all()


@pytest.mark.parametrize(("which", "units"), [("run", 0), ("tuned", TUNED_UNITS)])
def test_exactly_the_last_units_and_the_head_are_trained(
    which: str, units: int, request: pytest.FixtureRequest
) -> None:
    """Not the statistics of batch normalisation, neither."""
    run: Run = request.getfixturevalue(which)
    trained = load_file(run.folder / WEIGHTS)
    torch.manual_seed(run.config.train.seed)
    start = start_network(run.config)
    for encoder in ["backbone"] + ["sketch_backbone"] * (not run.config.model.shared_encoder):
        blocks = range(len(start.backbone.blocks) - units, len(start.backbone.blocks))
        last = tuple(f"{encoder}.blocks.{number}." for number in blocks)
        weights = {f"{encoder}.{name}" for name, _ in start.backbone.named_parameters()}
        for name in [name for name in trained if name.startswith(f"{encoder}.")]:
            before = start.state_dict()[name]
            same = torch.equal(trained[name], before.half() if before.is_floating_point() else before)
            assert same != (name in weights and name.startswith(last)), name
    heads = [name for name in trained if "projection" in name or name.startswith("pooler.")]
    assert len(heads) == 4 + (not run.config.model.shared_encoder)
    for name in heads:
        assert not torch.equal(trained[name], start.state_dict()[name].half()), name


def test_separate_encoders_learn_apart(tuned: Run) -> None:
    network = load_network(tuned.folder)
    for photo, sketch in (
        (network.backbone.blocks[-1], network.encoder("sketch").blocks[-1]),
        (network.projection, network.projector("sketch")),
    ):
        for (name, weight), other in zip(photo.named_parameters(), sketch.parameters(), strict=True):
            assert not torch.equal(weight, other), name
    pictures = [draw(name, "photo", np.random.default_rng(0)) for name in SEEN]
    embeddings = [network.encode(pictures, modality) for modality in MODALITIES]
    assert np.isfinite(embeddings).all()
    assert np.abs(embeddings[0] - embeddings[1]).max() > 0.1


def test_provenance_names_the_classes(run: Run, root: Path) -> None:
    provenance = read_config(run.folder).provenance
    _, held_out = load_split(str(root / "tiny")).hold_out(2, 0)
    assert provenance.training_classes == SEEN
    assert provenance.validation_classes == held_out
    assert len(held_out) == 2
    assert (provenance.split, provenance.layout, provenance.data) == ("tiny", "folder", root.name)
    assert provenance.extra_data == ()
    assert (provenance.seed, provenance.epochs, provenance.validation_map) == (0, CHOSEN, 0.6)


def test_no_file_of_an_unseen_class_is_opened(run: Run, root: Path) -> None:
    def of_class(names: tuple[str, ...]) -> set[Path]:
        return {Path(path) for path in run.opened if Path(path).parent.name in names and root in Path(path).parents}

    assert len(of_class(SEEN)) == len(SEEN) * 2 * 4  # the ear works: every picture of a seen class was heard
    assert of_class(UNSEEN) == set()
    assert not any(name in (run.folder / "config.json").read_text() for name in UNSEEN)


def test_centres_are_means_of_seen_pictures(run: Run, root: Path) -> None:
    network = load_network(run.folder)
    network.backbone.load_imagenet_weights()  # features were extracted before the weights were cut to halves
    for modality, folder in (("sketch", "sketches"), ("photo", "photos")):
        paths = [path for name in SEEN for path in sorted((root / folder / name).glob("*.png"))]
        pixels = np.stack([network.preprocess(path, modality) for path in paths])
        with torch.inference_mode():
            pooled = network.backbone(torch.from_numpy(pixels).permute(0, 3, 1, 2)).mean((2, 3))
        np.testing.assert_allclose(network.centre(modality), pooled.mean(0), atol=5e-3)
        assert pooled.mean(0).abs().max() > 0.1


# Again, and after a kill


def test_a_seed_settles_everything(run: Run, tmp_path: Path, root: Path) -> None:
    train(run.config, tmp_path / "again", quiet=True)
    assert_same_run(run.folder, tmp_path / "again")
    assert load_network(tmp_path / "again").fingerprint == load_network(run.folder).fingerprint
    train(tiny_config(root, seed=1, epochs=1, refit=False), tmp_path / "other", quiet=True)
    assert load_network(tmp_path / "other").fingerprint != load_network(run.folder).fingerprint


def kill_at(phase: str, epoch: int, then: Callable[[], None]) -> Callable[[Training], None]:
    """An end of epoch that ends the run instead, before anything of that epoch is kept."""
    end_of_epoch = Training.on_train_epoch_end

    def hook(module: Training) -> None:
        if (module.validation_sources is None) == (phase == "refit") and module.current_epoch + 1 == epoch:
            then()
        end_of_epoch(module)

    return hook


def die(*_: object) -> None:
    raise KilledError


@pytest.mark.scale
def test_a_run_killed_again_and_again_goes_on_where_it_was(
    tuned: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the choice of the epoch, in the refit, and between the last epoch and the hash codes."""
    ended: list[str] = []
    end_of_epoch = Training.on_train_epoch_end

    def count(module: Training) -> None:
        ended.append("selection" if module.validation_sources is not None else "refit")
        end_of_epoch(module)

    monkeypatch.setattr(Training, "on_train_epoch_end", count)
    done = []
    for name, owner, killer in (
        ("on_train_epoch_end", Training, kill_at("selection", 2, die)),
        ("on_train_epoch_end", Training, kill_at("refit", 2, die)),
        ("fit_hash", training, die),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, killer)
            with pytest.raises(KilledError):
                train(tuned.config, tmp_path / "run", quiet=True)
        assert not is_checkpoint(tmp_path / "run")
        done.append([ended.count(phase) for phase in ("selection", "refit")])
    assert done == [[1, 0], [EPOCHS, 1], [EPOCHS, CHOSEN]]  # no epoch is run twice
    train(tuned.config, tmp_path / "run", quiet=True)
    assert len(ended) == EPOCHS + CHOSEN
    assert_same_run(tuned.folder, tmp_path / "run")


@pytest.mark.scale
def test_a_run_goes_on_after_kill_9(run: Run, tmp_path: Path) -> None:
    settings = tmp_path / "shapes.yaml"
    settings.write_text(yaml.safe_dump(run.config.model_dump(mode="json")))
    command = [sys.executable, "-c", textwrap.dedent(KILLED_IN_A_PROCESS), str(settings), str(tmp_path / "run")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=dict(os.environ))
    assert ended.returncode == -signal.SIGKILL, ended.stderr[-2000:]
    assert (tmp_path / "run" / "run" / "refit" / "last.ckpt").is_file()
    train(run.config, tmp_path / "run", quiet=True)
    assert_same_run(run.folder, tmp_path / "run")


def test_live_pictures_depend_on_the_seed_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not on a kill, nor on what else drew random numbers."""
    write_tiny(tmp_path / "data", pictures=2, corrupt_unseen=True)
    config = tiny_config(tmp_path / "data", views=0, epochs=2, refit=False, trainable_units=1)
    train(config, tmp_path / "first", quiet=True)
    assert all(math.isfinite(record["loss"]) for record in history(tmp_path / "first"))
    torch.manual_seed(77)
    with monkeypatch.context() as patch:
        patch.setattr(Training, "on_train_epoch_end", kill_at("selection", 2, die))
        with pytest.raises(KilledError):
            train(config, tmp_path / "again", quiet=True)
    train(config, tmp_path / "again", quiet=True)
    assert_same_run(tmp_path / "first", tmp_path / "again")


def test_ctrl_c_leaves_no_checkpoint(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def press_ctrl_c() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(signal, "signal", lambda *_: None)  # Lightning would leave the test runner deaf to Ctrl-C
    monkeypatch.setattr(Training, "on_train_epoch_end", kill_at("selection", 2, press_ctrl_c))
    with pytest.raises((SystemExit, KeyboardInterrupt)):
        train(run.config, tmp_path / "run", quiet=True)
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"training.yaml", "run"}


def test_a_finished_run_returns_at_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "seen_catalog", lambda *_, **__: pytest.fail("read the data again"))
    (run.folder / "run").mkdir()  # as a kill between saving and tidying up leaves it
    before = (run.folder / WEIGHTS).stat().st_mtime_ns
    assert train(run.config, run.folder, quiet=True) == run.folder
    assert (run.folder / WEIGHTS).stat().st_mtime_ns == before
    assert not (run.folder / "run").exists()


# What is refused


def test_refuses_a_folder_with_a_run_of_other_settings(run: Run, root: Path) -> None:
    before = (run.folder / WEIGHTS).read_bytes()
    with pytest.raises(UserError, match=r"holds a run with other settings .*give another folder with -o"):
        train(tiny_config(root, learning_rate=0.5), run.folder, quiet=True)
    assert (run.folder / WEIGHTS).read_bytes() == before


def test_refuses_a_folder_of_something_else(run: Run, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("do not touch")
    for target in (tmp_path, tmp_path / "thesis.txt"):
        with pytest.raises(UserError, match="exists and is not a training run"):
            train(run.config, target, quiet=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_class_with_one_picture_is_named_and_the_folder_stays_free(tmp_path: Path) -> None:
    write_tiny(tmp_path / "data", pictures=1)
    (tmp_path / "data" / "photos" / "plus" / "0.png").unlink()
    config = tiny_config(tmp_path / "data")
    with pytest.raises(UserError, match="class 'plus' has 1 sketches and 0 photos; training needs"):
        train(config, tmp_path / "run", quiet=True)
    draw("plus", "photo", np.random.default_rng(0)).save(tmp_path / "data" / "photos" / "plus" / "0.png")
    mended = config.model_copy(update={"train": config.train.model_copy(update={"epochs": 1})})
    assert is_checkpoint(train(mended, tmp_path / "run", quiet=True))


def test_names_classes_that_the_data_lacks(tmp_path: Path) -> None:
    prefix = Path(write_tiny(tmp_path / "data", pictures=1))
    with (tmp_path / "data" / "tiny.seen.txt").open("a") as file:
        file.write("Unicorn Foal\n")
    with pytest.raises(UserError, match=r"no pictures of 1 of the 7 classes for training \(unicorn_foal\)"):
        train(tiny_config(prefix.parent), tmp_path / "run", quiet=True)


def test_refuses_to_hold_out_every_class(root: Path, tmp_path: Path) -> None:
    config = tiny_config(root)
    greedy = config.model_copy(update={"data": config.data.model_copy(update={"validation_classes": len(SEEN)})})
    with pytest.raises(UserError, match="validation_classes is 6, but the split tiny has 6 seen classes"):
        train(greedy, tmp_path / "run", quiet=True)


# Other data, other backbones


def test_every_class_can_be_trained_on(tmp_path: Path) -> None:
    """With the split `all`; no test is left to such a checkpoint."""
    own = load_split(write_tiny(tmp_path / "data", pictures=1))
    config = tiny_config(tmp_path / "data", {"attention_heads": 0}, epochs=1, views=1)
    everything = config.model_copy(update={"data": config.data.model_copy(update={"split": "all"})})
    provenance = read_config(train(everything, tmp_path / "run", quiet=True)).provenance
    assert provenance.split == "all"
    assert provenance.training_classes == tuple(sorted(SEEN + UNSEEN))
    assert len(provenance.validation_classes) == 2
    with pytest.raises(UserError, match=r"not a zero-shot test: .* trained on 2 classes that tiny keeps unseen"):
        refuse_seen(provenance, own)
    assert {term for term in history(tmp_path / "run")[0] if "guided" in term or term == "agreement"} == set()


def test_further_data_is_trained_on_and_told(root: Path, tmp_path: Path) -> None:
    write_tiny(tmp_path / "more", pictures=1, corrupt_unseen=True)
    for folder in ("sketches", "photos"):
        (tmp_path / "more" / folder / "star").rename(tmp_path / "more" / folder / "Sun Dial")
    config = tiny_config(root, epochs=1, views=1)
    offers = DataConfig.model_validate(
        {**config.data.model_dump(), "extra": [{"layout": "folder", "root": tmp_path / "more"}]}
    )
    output = train(config.model_copy(update={"data": offers}), tmp_path / "run", quiet=True)
    provenance = read_config(output).provenance
    assert provenance.training_classes == (*SEEN, "sun_dial")
    assert set(provenance.validation_classes) < set(SEEN)
    assert (provenance.data, provenance.extra_data) == (root.name, ("more",))
    assert f"| data | {root.name} and more (layout `folder`) |" in (output / "card.md").read_text()


def test_where_things_are_is_learnt_from_the_training_photos_alone(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither classes held out nor unseen ones lend photos to a scene."""
    given: list[tuple[set[str], set[str], int]] = []

    def note(network: CrossATNet, photos: Sequence[Item], settings: TrainConfig, quiet: bool) -> None:
        given.append(({item.class_name for item in photos}, {item.modality for item in photos}, len(photos)))
        assert (settings.scenes, quiet) == (5, True)
        fit_proposer(network, photos, settings, quiet)

    monkeypatch.setattr(training, "fit_proposer", note)
    config = tiny_config(root, {"region_size": 32}, epochs=1, refit=False, scenes=5)
    output = train(config, tmp_path / "run", quiet=True)
    classes = set(read_config(output).provenance.training_classes)
    assert given == [(classes, {"photo"}, 4 * len(classes))]
    assert len(classes) == len(SEEN) - 2
    network = load_network(output)
    assert network.proposer is not None
    assert network.proposer.numbers.bias[0] != RARE  # it was fitted
    assert network.proposer.finer[1].num_batches_tracked > 0


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny random ResNet of the library `transformers`."""
    transformers = pytest.importorskip("transformers", reason="the extra 'backbones' is not installed")
    config = transformers.ResNetConfig(hidden_sizes=[8, 16], depths=[1, 1], embedding_size=8, layer_type="basic")
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("backbones") / "tiny-resnet"
    transformers.ResNetModel(config).save_pretrained(folder)
    return folder


def test_a_transformers_backbone_travels_in_the_checkpoint(resnet: Path, root: Path, tmp_path: Path) -> None:
    source = resnet.rename(tmp_path / "lent")
    try:
        config = tiny_config(root, {"backbone": str(source)}, epochs=2, trainable_units=1, average=0.5)
        start = start_network(config).backbone.state_dict()
        train(config, tmp_path / "run", quiet=True)
    finally:
        source.rename(resnet)
    assert not source.exists()
    network = load_network(tmp_path / "run")
    assert (network.config.backbone, network.backbone.depth, network.backbone.channels) == ("lent", 1, 16)
    trained = network.backbone.state_dict()
    assert set(trained) == set(start)
    changed = {name for name, tensor in start.items() if not torch.equal(trained[name], tensor.half().to(tensor.dtype))}
    assert changed == {name for name in start if not name.endswith(("running_mean", "running_var", "tracked"))}
    embeddings = network.encode([draw(name, "sketch", np.random.default_rng(0)) for name in SEEN], "sketch")
    assert np.isfinite(embeddings).all()
    assert np.abs(embeddings - embeddings[0]).max() > 0.1


@pytest.mark.parametrize("name", ["sketchy-paper", "tuberlin-paper"])
def test_the_papers_configs_train(name: str, resnet: Path, tmp_path: Path) -> None:
    """On folders as these data sets are given out, with a small backbone and small pictures."""
    overrides = {
        "data.root": str(tmp_path / "data"),
        "model.backbone": str(resnet),
        "model.image_size": 64,
        "train.epochs": 1,
    }
    config = load_config(name, overrides)
    split = load_split(config.data.split)
    write_official(tmp_path / "data", config.data.layout, split.seen, split.unseen)
    output = train(config, tmp_path / "run", quiet=True)
    provenance = read_config(output).provenance
    assert (provenance.split, provenance.layout) == (config.data.split, config.data.layout)
    assert provenance.training_classes == split.seen
    record = history(output)[0]
    terms = {*TERMS, "latent", "reconstruction"}
    assert set(record) == {"phase", "epoch", "loss", "validation_map", *terms}
    assert all(record[term] > 0 for term in terms - {"agreement"})  # nothing to agree on before the first step
    network = load_network(output)
    assert (network.dimension, network.code_bits, network.has_attention) == (64, 64, True)
    assert network.sketch_backbone is not None
    assert network.encode([draw("star", "sketch", np.random.default_rng(0))], "sketch", bits=64).shape == (1, 8)


def write_official(root: Path, layout: str, seen: Sequence[str], unseen: Sequence[str]) -> None:
    """A few pictures of each class where Sketchy and TU-Berlin-extended have them; no decoder can read unseen ones."""
    random = np.random.default_rng(0)
    for number, name in enumerate((*seen, *unseen)):
        if layout == "sketchy":
            folder = {"car_sedan": "car_(sedan)", "hot_air_balloon": "hot-air_balloon"}.get(name, name)
            photo = f"n{number:08}_{number}"
            paths = [
                root / "256x256" / "sketch" / "tx_000000000000" / folder / f"{photo}-1.png",
                root / "256x256" / "photo" / "tx_000000000000" / folder / f"{photo}.jpg",
                root / "EXTEND_image_sketchy" / folder / f"{number}.jpg",
            ]
        else:
            folder = {"car_sedan": "car (sedan)", "mouse": "mouse (animal)"}.get(name, name.replace("_", " "))
            paths = [root / "png" / folder / f"{number}.png", root / "ImageResized" / folder / "1.jpg"]
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            if name in unseen:
                path.write_text(f"no picture: {path}")
            elif path == paths[0]:  # noise shows no drawing
                sketch = Image.new("RGB", (40, 40), "white")
                ImageDraw.Draw(sketch).rectangle((4, 4, 10 + number % 25, 10 + number // 25), outline="black", width=2)
                sketch.save(path)
            else:
                Image.fromarray(random.integers(256, size=(8, 8, 3), dtype=np.uint8)).save(path)


# Its parts


def test_without_refit_the_best_epochs_weights_are_kept(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the run was killed after its best epoch, and its folder was moved before it went on."""
    scripted = iter([0.1, 0.9, 0.9, KilledError, 0.2])  # of equal epochs the first
    weights: list[Tensor] = []

    def validation_map(module: Training, *_: object) -> float:
        score = next(scripted)
        if score is KilledError:
            raise KilledError
        weights.append(module.network.projection.weight.detach().clone())
        return score

    embedded: list[dict[Modality, Source]] = []

    def note(network: CrossATNet, config: Config, sources: dict[Modality, Source]) -> tuple[Tensor, Tensor]:
        embedded.append(sources)
        return training_embeddings(network, config, sources)

    config = tiny_config(root, refit=False, epochs=4)
    monkeypatch.setattr(Training, "validation_map", validation_map)
    monkeypatch.setattr(training, "training_embeddings", note)
    with pytest.raises(KilledError):
        train(config, tmp_path / "begun", quiet=True)
    (tmp_path / "begun").rename(tmp_path / "run")
    train(config, tmp_path / "run", quiet=True)
    assert len(weights) == 4
    kept = load_file(tmp_path / "run" / WEIGHTS)["projection.weight"]
    assert [torch.equal(kept, epoch.half()) for epoch in weights] == [False, True, False, False]
    provenance = read_config(tmp_path / "run").provenance
    assert (provenance.epochs, provenance.validation_map) == (2, 0.9)
    assert set(provenance.training_classes) == set(SEEN) - set(provenance.validation_classes)
    assert len(provenance.training_classes) == len(SEEN) - 2
    assert [record["epoch"] for record in history(tmp_path / "run")] == [1, 2, 3, 4]
    expected = class_features(features_of(config), provenance.training_classes)
    assert len(embedded) == 1
    for modality in MODALITIES:  # codes and whitening know nothing of held-out classes, neither
        assert torch.equal(embedded[0][modality].maps, expected[modality].maps)
        assert len(embedded[0][modality].label) == 4 * (len(SEEN) - 2)


def test_the_best_epoch_is_delivered_as_it_was_scored(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Averaged and interpolated, and in evaluation mode."""
    scored: list[dict[str, Tensor]] = []

    def validation_map(module: Training, network: CrossATNet, _: object) -> float:
        assert not network.training
        scored.append({name: tensor.clone() for name, tensor in network.state_dict().items()})
        current = module.network.state_dict()
        assert not torch.equal(current[LAST_UNIT], scored[-1][LAST_UNIT])
        return VALIDATION[module.current_epoch]

    monkeypatch.setattr(Training, "validation_map", validation_map)
    config = tiny_config(root, **TUNED)
    network, _ = fit(config, features_of(config), SEEN[2:], SEEN[:2], tmp_path, quiet=True)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, scored[CHOSEN - 1][name]), name
    assert not torch.equal(scored[CHOSEN - 1][LAST_UNIT], scored[-1][LAST_UNIT])


def test_the_moving_average_is_one_kept_by_hand(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config(root, trainable_units=2, average=0.4, epochs=3)
    steps: list[dict[str, Tensor]] = []
    end_of_step = Training.on_train_batch_end

    def note(module: Training, *arguments: Any) -> None:
        end_of_step(module, *arguments)
        steps.append({name: weight.detach().clone() for name, weight in module.network.named_parameters()})

    monkeypatch.setattr(Training, "on_train_batch_end", note)
    network, _ = fit(config, features_of(config), SEEN, (), tmp_path, quiet=True)
    assert len(steps) == 3 * 3
    expected = steps[0]
    decays = [min(0.4, (1 + number) / (10 + number)) for number in range(1, len(steps))]
    assert decays[0] < decays[-1] == decays[-2] == 0.4  # of either kind some
    for decay, current in zip(decays, steps[1:], strict=True):
        expected = {name: decay * expected[name] + (1 - decay) * weight for name, weight in current.items()}
    for name, weight in network.named_parameters():
        torch.testing.assert_close(weight, expected[name], atol=1e-7, rtol=1e-6)
    for name in (LAST_UNIT, "projection.weight"):
        assert (expected[name] - steps[-1][name]).abs().max() > 5e-6


def test_interpolation_is_the_mean_of_start_and_trained_backbone(root: Path, tmp_path: Path) -> None:
    """Of what was averaged while it was trained, too."""
    settings = {"trainable_units": 2, "average": 0.9, "epochs": 1}
    states = []
    for share in (1.0, 0.5):
        config = tiny_config(root, {"shared_encoder": False}, interpolation=share, **settings)
        network, _ = fit(config, features_of(config), SEEN, (), tmp_path / str(share), quiet=True)
        states.append(network.state_dict())
    trained, halfway = states
    start = start_network(config).state_dict()
    for name, tensor in trained.items():
        if "backbone." not in name:
            assert torch.equal(halfway[name], tensor), name
        elif tensor.is_floating_point():
            torch.testing.assert_close(halfway[name], (start[name] + tensor) / 2, atol=1e-7, rtol=1e-6)
    for name in (LAST_UNIT, f"sketch_{LAST_UNIT}"):
        assert (trained[name] - start[name]).abs().max() > 1e-4


def test_sketches_get_statistics_of_their_own(root: Path, tmp_path: Path) -> None:
    config = tiny_config(root, {"sketch_statistics": 0.5}, epochs=1, trainable_units=1, interpolation=0.5, average=0.5)
    features = features_of(config)
    assert not features["photo"].statistics
    train(config, tmp_path / "run", quiet=True)
    network, start = load_network(tmp_path / "run"), start_network(config)
    trained, before = network.state_dict(), start.state_dict()
    for name, tensor in features["sketch"].statistics.items():
        assert torch.equal(trained[f"sketch_backbone.{name}"], tensor.half().float()), name
        assert torch.equal(trained[f"backbone.{name}"], before[f"backbone.{name}"].half().float()), name
        assert not torch.allclose(trained[f"sketch_backbone.{name}"], trained[f"backbone.{name}"]), name
    own = features["sketch"].views
    plain = features_of(tiny_config(root, epochs=1, trainable_units=1))["sketch"].views
    assert isinstance(own, Tensor)
    assert isinstance(plain, Tensor)
    assert not torch.allclose(own, plain, atol=0.1)  # the frozen units' maps were made with them


def test_weights_shared_by_both_encoders_are_interpolated_once(root: Path, tmp_path: Path) -> None:
    states = []
    for share in (1.0, 0.5):
        settings = {"epochs": 1, "trainable_units": 1, "interpolation": share}
        config = tiny_config(root, {"sketch_statistics": 0.5}, **settings)
        states.append(fit(config, features_of(config), SEEN, (), tmp_path / str(share), quiet=True)[0].state_dict())
    trained, halfway = states
    start = start_network(config).state_dict()
    for name in (LAST_UNIT, f"sketch_{LAST_UNIT}"):
        assert (trained[name] - start[name]).abs().max() > 1e-4
        torch.testing.assert_close(halfway[name], (start[name] + trained[name]) / 2, atol=1e-7, rtol=1e-6)


def test_own_statistics_are_those_of_what_a_layer_is_given(root: Path) -> None:
    """The stem's by hand: mean and (sample) variance of its convolution over all pictures at once."""
    config = tiny_config(root)
    catalog, _, _ = seen_catalog(config.data, quiet=True)
    items = catalog.select(SEEN, "sketch").items
    pictures = LivePictures(items, ViewSettings(64, False, 0, 0))
    backbone = start_network(config).backbone.eval()
    convolved = backbone.stem[0]((pictures.read(range(len(items)), [None] * len(items)).float() - 127) / 128)
    had = backbone.stem[1]
    for share in (1.0, 0.25):
        own = own_statistics(backbone, pictures, share)
        mean = torch.lerp(had.running_mean, convolved.mean((0, 2, 3)), share)
        variance = torch.lerp(had.running_var, convolved.var((0, 2, 3)), share)
        torch.testing.assert_close(own["stem.1.running_mean"], mean, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(own["stem.1.running_var"], variance, rtol=1e-3, atol=1e-3)
    assert not backbone.training
    assert torch.equal(backbone.stem[1].running_mean, had.running_mean)


def test_own_statistics_need_batch_normalisation(root: Path) -> None:
    pictures = LivePictures([], ViewSettings(64, False, 0, 0))
    with pytest.raises(UserError, match="batch normalisation"):
        own_statistics(NoNorm(), pictures, 0.5)


class NoNorm(Backbone):
    """A backbone of one convolution."""

    channels = 4

    def __init__(self) -> None:
        super().__init__()
        self.only = torch.nn.Conv2d(3, 4, 1)

    def chain(self) -> Sequence[torch.nn.Module]:
        return [self.only]


def test_held_out_classes_are_scored_but_not_trained_on(
    run: Run, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is fitted on the training classes is the same if the pictures of the held-out ones are noise."""
    scored: list[CachedViews] = []

    def validation_map(module: Training, _: object, sources: dict[Modality, CachedViews]) -> float:
        scored.append(sources["photo"])
        return float(module.current_epoch)

    monkeypatch.setattr(Training, "validation_map", validation_map)
    split = load_split(str(root / "tiny"))
    chosen_on, held_out = split.hold_out(2, 0)
    features = features_of(run.config)
    noisy: dict[Modality, NamedViews] = {}
    for modality, (maps, names, instances, *_) in features.items():
        rows = [name in held_out for name in names]
        assert sum(rows) == 8
        noise = torch.randn(maps.shape, generator=torch.Generator().manual_seed(1)).half()
        changed_maps = torch.where(torch.tensor(rows)[:, None, None, None, None], noise, maps)
        noisy[modality] = NamedViews(changed_maps, names, instances)
    plain, changed = (
        fit(run.config, version, chosen_on, held_out, tmp_path / name, quiet=True)[0]
        for name, version in (("plain", features), ("changed", noisy))
    )
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor, changed.state_dict()[name]), name
    for kept, maps in ((scored[0], features["photo"].views), (scored[-1], noisy["photo"].views)):
        assert torch.equal(kept.maps, maps[[name in held_out for name in features["photo"].classes]])
        assert sorted(kept.label.tolist()) == [0] * 4 + [1] * 4


def test_class_features_selects_and_numbers() -> None:
    maps = torch.arange(5.0).reshape(5, 1, 1, 1, 1)
    classes = ["b", "a", "c", "a", "b"]
    selected = class_features({"photo": NamedViews(maps, classes, [None] * 5)}, ["c", "b"])["photo"]
    assert isinstance(selected, CachedViews)
    assert selected.maps.flatten().tolist() == [0, 2, 4]
    assert selected.label.tolist() == [1, 0, 1]
    live = class_features({"photo": NamedViews(live_pictures(5), classes, [None] * 5)}, ["c", "b"])["photo"]
    assert isinstance(live, LiveViews)
    assert [item.path.name for item in live.pictures.items] == ["0", "2", "4"]
    assert live.label.tolist() == [1, 0, 1]


def test_photos_by_the_drawings_own_hand_can_be_left_out() -> None:
    maps = torch.arange(4.0).reshape(4, 1, 1, 1, 1)
    sketches = NamedViews(maps[:2], ["cup", "key"], ["cup/pen", None])
    classes, instances = ["cup", "cup", "key", "key"], ["cup/pen", "cup/brush", None, "key/brush"]
    kept = by_another_hand({"sketch": sketches, "photo": NamedViews(maps, classes, instances)})
    assert kept["photo"].views.flatten().tolist() == [1, 2, 3]
    assert kept["photo"].classes == ["cup", "key", "key"]
    assert kept["photo"].instances == ["cup/brush", None, "key/brush"]
    assert kept["sketch"] is sketches
    live = by_another_hand({"sketch": sketches, "photo": NamedViews(live_pictures(4), classes, instances)})["photo"]
    assert isinstance(live.views, LivePictures)
    assert [item.path.name for item in live.views.items] == ["1", "2", "3"]


def live_pictures(count: int) -> LivePictures:
    """Pictures that are named, not read."""
    return LivePictures(
        [Item(Path(str(number)), "any", "photo") for number in range(count)], ViewSettings(8, False, 0, 0)
    )


@pytest.mark.parametrize("hashing", ["learned", "itq"])
def test_hash_codes_of_every_length_are_fitted_on_plain_views_of_both_modalities(
    hashing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model = {"image_size": 32, "dimension": 8, "code_lengths": (16, 24), "hashing": hashing}
    config = tiny_config(Path("unused"), model, seed=5)
    network = CrossATNet(config.model).eval()
    unset = {name: tensor.clone() for name, tensor in network.hashing.state_dict().items()}
    sources: dict[Modality, Source] = {"sketch": random_source((2, 1)), "photo": random_source((20, 30), seed=1)}
    calls: list[tuple[Any, ...]] = []
    asked: list[dict[str, int]] = []
    real = getattr(training, hashing)

    def note(*arguments: Any, seed: int, **directions: int) -> tuple[Tensor, Tensor]:
        asked.append(directions)
        weight, offset = real(*arguments, seed=seed, **directions)
        calls.append((*arguments, seed, weight, offset))
        return weight, offset

    monkeypatch.setattr(training, hashing, note)
    fit_hash(network, config, *training_embeddings(network, config, sources))
    rows, labels = [], []
    for part in sources.values():
        for item, label in zip(part.maps[:, 0].float(), part.label.tolist(), strict=True):  # the plain view only
            row = network.projection.weight @ item.mean((1, 2))  # attention starts as the mean
            rows.append((row / row.norm()).tolist())
            labels.append(label)
    assert [call[1 if hashing == "itq" else 2] for call in calls] == [16, 24]
    assert asked == (
        [{"directions": directions_of(16)}, {"directions": directions_of(24)}] if hashing == "itq" else [{}, {}]
    )
    for embeddings, *others, weight, offset in calls:
        np.testing.assert_allclose(embeddings, rows, atol=1e-5)
        label, bits, seed = others if hashing == "learned" else (torch.tensor(labels), *others)
        assert (label.tolist(), seed) == (labels, 5)
        assert torch.equal(network.hashing.get_buffer(f"weight_{bits}"), weight)
        assert torch.equal(network.hashing.get_buffer(f"offset_{bits}"), offset)
        assert not torch.equal(unset[f"weight_{bits}"], weight)


def test_hash_codes_are_fitted_through_what_is_fine_tuned(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And alike for kept views and live pictures."""
    fitted: list[Tensor] = []

    def note(embeddings: Tensor, bits: int, seed: int, directions: int) -> tuple[Tensor, Tensor]:
        fitted.append(embeddings)
        return torch.zeros(bits, embeddings.shape[1]), torch.zeros(bits)

    monkeypatch.setattr(training, "itq", note)
    networks = []
    for views in (1, 0):
        config = tiny_config(root, {"hashing": "itq"}, views=views, trainable_units=2)
        torch.manual_seed(0)
        network = start_network(config).eval()
        for weight in network.encoder("photo").chain()[-1].parameters():
            weight.data.mul_(1.5)
        sources = class_features(features_of(config), SEEN[:2])
        fit_hash(network, config, *training_embeddings(network, config, sources))
        networks.append(network)
    paths = [
        [root / folder / name / f"{number}.png" for name in sorted(SEEN[:2]) for number in range(4)]
        for folder in ("sketches", "photos")
    ]
    expected = np.concatenate([networks[0].encode(part, m) for part, m in zip(paths, MODALITIES, strict=True)])
    for embeddings in fitted:
        np.testing.assert_allclose(embeddings, expected, atol=5e-3)


def test_validation_map_is_the_metric_on_the_plain_views() -> None:
    module = made(LossConfig())
    sources: dict[Modality, Source] = {
        "sketch": random_source((3, 4, 2)),
        "photo": random_source((6, 5, 7), seed=1),
    }
    network = module.deliverable()
    rows = {
        modality: [network.embed_map(item[None].float(), modality)[0].tolist() for item in part.maps[:, 0]]
        for modality, part in sources.items()
    }
    precisions = []
    for row, label in zip(rows["sketch"], sources["sketch"].label.tolist(), strict=True):
        order = metrics_oracle.ranking(row, rows["photo"])
        relevant = [bool(sources["photo"].label[index] == label) for index in order]
        precisions.append(metrics_oracle.average_precision(relevant))
    assert REAL_VALIDATION_MAP(module, network, sources) == pytest.approx(np.mean(precisions))


def made(
    loss: LossConfig, model: Mapping[str, object] | None = None, epochs: int = 3, **train_settings: object
) -> Training:
    """The training of a network that no trainer has in hand."""
    torch.manual_seed(0)
    settings = {"epochs": epochs, "classes_per_batch": 3, "pairs_per_class": 2, "weight_decay": 0.25, **train_settings}
    config = Config(
        name="made",
        data=DataConfig(split="tiny"),
        model=ModelConfig.model_validate(
            {"image_size": 32, "dimension": 8, "dropout": 0.0, "code_lengths": (16,), **(model or {})}
        ),
        loss=loss,
        train=TrainConfig.model_validate(settings),
    )
    sources: dict[Modality, Source] = {
        "sketch": random_source((2, 3, 2)),
        "photo": random_source((4, 5, 6), seed=1),
    }
    return Training(start_network(config), config, ("cat", "dog", "cow"), sources, None)


def test_a_step_is_the_weighted_sum_of_the_losses(monkeypatch: pytest.MonkeyPatch) -> None:
    module = made(LossConfig(classification=0.5, triplet=2.0, guided=0.0, agreement=0.0, temperature=0.3, margin=0.4))
    monkeypatch.setattr(Training, "log", lambda *_, **__: None)  # there is no trainer to log to
    batches = [*module.train_dataloader()]
    sums = {"classification": 0.0, "triplet": 0.0}
    for batch in batches:
        assert isinstance(batch, Pairs)
        sketch = module.network.embed_map(batch.sketch, "sketch").tolist()
        photo = module.network.embed_map(batch.photo, "photo").tolist()
        label, prototypes = batch.label.tolist(), module.objective.prototypes().tolist()
        classification = 0.5 * losses_oracle.classification(sketch + photo, prototypes, label + label, 0.3)
        triplet = 2.0 * losses_oracle.cross_modal_triplet(sketch, photo, label, 0.4)
        assert module.training_step(batch, 0).item() == pytest.approx(classification + triplet, rel=1e-5)
        sums = {"classification": sums["classification"] + classification, "triplet": sums["triplet"] + triplet}
    assert module.sums == pytest.approx({**sums, "loss": sum(sums.values())}, rel=1e-5)
    assert module.batches == len(batches) == 3


def test_the_head_is_optimised_on_a_cosine() -> None:
    module = made(LossConfig(guided=0.0, agreement=0.0), {"attention_heads": 0})
    chosen = module.configure_optimizers()
    optimizer, schedule = chosen["optimizer"], chosen["lr_scheduler"]["scheduler"]
    (group,) = optimizer.param_groups
    assert [id(weight) for weight in group["params"]] == [
        id(module.network.projection.weight),
        id(module.objective.prototypes.weight),
    ]
    steps = 3 * 3  # 15 photos in batches of 6 pairs are 3 steps an epoch
    rates = []
    for _ in range(steps + 1):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    expected = [1e-3 * (1 + math.cos(math.pi * step / steps)) / 2 for step in range(steps + 1)]
    assert rates == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("shared", [True, *[False] * 3])
def test_units_learn_the_slower_the_nearer_they_are_to_the_pictures(shared: bool) -> None:
    """And groups are in one order, in any process: a resumed run takes their state back by number."""
    module = made(
        LossConfig(reconstruction=0.1, knowledge=0.1),
        {"shared_encoder": shared},
        trainable_units=3,
        backbone_learning_rate=0.01,
        layer_decay=0.5,
    )
    network = module.network
    head, *units = module.configure_optimizers()["optimizer"].param_groups
    chains = [network.encoder(modality).chain()[:-4:-1] for modality in (("photo",) if shared else MODALITIES)]
    for group, alike, rate in zip(units, zip(*chains, strict=True), (0.01, 0.005, 0.0025), strict=True):
        weights = [weight for unit in alike for weight in unit.parameters()]
        assert [id(weight) for weight in group["params"]] == [id(weight) for weight in weights]
        assert group["initial_lr"] == rate
    assert head["initial_lr"] == 1e-3
    assert {group["weight_decay"] for group in (head, *units)} == {0.25}
    optimised = [id(weight) for group in (head, *units) for weight in group["params"]]
    assert len(optimised) == len(set(optimised))
    assert set(optimised) == {id(weight) for weight in module.parameters() if weight.requires_grad}
    frozen = {id(weight) for weight in module.objective.teacher.parameters()}
    assert frozen
    assert not frozen & set(optimised)


@pytest.mark.parametrize("shared", [True, False])
def test_whitening_turns_embeddings_of_both_modalities_by_one_matrix(shared: bool) -> None:
    torch.manual_seed(0)
    model = {"image_size": 32, "dimension": 8, "shared_encoder": shared}
    config = tiny_config(Path("unused"), model, whitening=0.25)
    network = CrossATNet(config.model).eval()
    if not shared:
        torch.nn.init.normal_(network.projector("sketch").weight)
    sources: dict[Modality, Source] = {"sketch": random_source((2, 1)), "photo": random_source((20, 30), seed=1)}
    before, label = training_embeddings(network, config, sources)
    told = whiten(network, config, before, label)
    after, _ = training_embeddings(network, config, sources)
    torch.testing.assert_close(told, after, atol=1e-5, rtol=0)  # so that nothing need be embedded again
    expected = before @ whitening(before, label, 0.25)
    torch.testing.assert_close(after, expected / expected.norm(dim=1, keepdim=True), atol=1e-5, rtol=0)
    assert not torch.allclose(after, before, atol=1e-3)


def test_no_whitening_leaves_the_network_as_it_is() -> None:
    config = tiny_config(Path("unused"), {"image_size": 32, "dimension": 8})
    network = CrossATNet(config.model).eval()
    weight = network.projection.weight.detach().clone()
    embeddings = torch.randn(4, 8)
    assert whiten(network, config, embeddings, torch.tensor([0, 0, 1, 1])) is embeddings
    assert torch.equal(network.projection.weight, weight)


def test_the_space_is_whitened_before_hash_codes_are_fitted_and_it_is_saved(
    root: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted: list[Tensor] = []

    def note(network: CrossATNet, config: Config, embeddings: Tensor, labels: Tensor) -> None:
        fitted.append(network.projection.weight.detach().clone())
        fit_hash(network, config, embeddings, labels)

    monkeypatch.setattr(training, "fit_hash", note)
    train(tiny_config(root, whitening=0.25), tmp_path / "run", quiet=True)
    plain, whitened = (load_file(folder / WEIGHTS)["projection.weight"] for folder in (run.folder, tmp_path / "run"))
    assert torch.equal(whitened, fitted[0].half())
    turned = torch.linalg.lstsq(plain.double().T, whitened.double().T).solution  # (D, D): whitened = turned^T plain
    torch.testing.assert_close(turned, turned.T, atol=0.02, rtol=0)  # one symmetric matrix took one to the other
    assert (turned - torch.eye(16)).abs().max() > 0.05

"""Training on eight drawn shapes: what it learns, keeps, never opens, and how a killed run goes on."""

import json
import math
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor

from crossatnet import training
from crossatnet.checkpoint import HISTORY, WEIGHTS, is_checkpoint, load_checkpoint, read_config
from crossatnet.config import Config, DataConfig, LossConfig, ModelConfig, TrainConfig
from crossatnet.data.batches import ClassFeatures, Pairs
from crossatnet.data.images import Modality
from crossatnet.data.splits import load_split
from crossatnet.errors import UserError
from crossatnet.model.network import CrossATNet
from crossatnet.training import HeadTraining, NamedMaps, by_another_hand, class_features, fit, fit_hash, train
from oracles import losses as losses_oracle
from oracles import metrics as metrics_oracle
from tiny_data import SEEN, UNSEEN, draw, write_tiny

VALIDATION = (0.1, 0.3, 0.6, 0.4)  # what every run is told of its epochs: the tiny classes themselves are all too easy
EPOCHS, CHOSEN = 4, 3
KILLED_IN_A_PROCESS = """
    import os, signal, sys
    from pathlib import Path
    from crossatnet.config import load_config
    from crossatnet.training import HeadTraining, train

    end_of_epoch = HeadTraining.on_train_epoch_end

    def die(self):
        if self.validation_features is None and self.current_epoch == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        end_of_epoch(self)

    HeadTraining.on_train_epoch_end = die
    HeadTraining.validation_map = lambda self, _: (0.1, 0.3, 0.6, 0.4)[self.current_epoch]
    train(load_config(sys.argv[1]), Path(sys.argv[2]), quiet=True)
"""


REAL_VALIDATION_MAP = HeadTraining.validation_map


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


def tiny_config(root: Path, **train_settings: object) -> Config:
    settings = {"epochs": EPOCHS, "classes_per_batch": 4, "learning_rate": 0.005, **train_settings}
    return Config(
        name="shapes",
        data=DataConfig(root=root, split=str(root / "tiny"), validation_classes=2),
        model=ModelConfig(image_size=64, dimension=16),
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
        patch.setattr(HeadTraining, "validation_map", lambda module, _: VALIDATION[module.current_epoch])
        yield


@pytest.fixture(scope="module")
def run(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One unbroken run, which others are compared with."""
    global listening
    folder, config = tmp_path_factory.mktemp("runs") / "unbroken", tiny_config(root)
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


def random_features(counts: tuple[int, ...], seed: int = 0) -> ClassFeatures:
    """Maps (N, 2 views, 320, 2, 2) with `counts[k]` pictures of class k."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    return ClassFeatures(torch.randn(len(label), 2, 320, 2, 2, generator=generator).half(), label)


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
        weights = run.config.loss
        expected = weights.classification * record["classification"] + weights.triplet * record["triplet"]
        assert record["loss"] == pytest.approx(expected, rel=1e-5)
        scored = VALIDATION[record["epoch"] - 1] if record["phase"] == "selection" else None
        assert record.get("validation_map") == scored


def test_the_checkpoint_is_whole(run: Run) -> None:
    names = {path.name for path in run.folder.iterdir()}
    assert names == {"config.json", "model.safetensors", "card.md", "history.json", "training.yaml"}
    assert Config.model_validate(yaml.safe_load((run.folder / "training.yaml").read_text())) == run.config
    network = load_checkpoint(run.folder)
    assert (network.name, network.config) == ("shapes", run.config.model)
    embeddings = network.encode([draw("star", "photo", np.random.default_rng(0))], "photo")
    assert np.isfinite(embeddings).all()


def test_only_the_head_is_trained(run: Run) -> None:
    network, untouched = load_checkpoint(run.folder), CrossATNet(run.config.model).backbone.load_imagenet_weights()
    for name, tensor in untouched.state_dict().items():
        assert torch.equal(network.backbone.state_dict()[name], tensor.half().float() if tensor.ndim else tensor), name


def test_provenance_names_the_classes(run: Run, root: Path) -> None:
    provenance = read_config(run.folder).provenance
    _, held_out = load_split(str(root / "tiny")).hold_out(2, 0)
    assert provenance.training_classes == SEEN
    assert provenance.validation_classes == held_out
    assert len(held_out) == 2
    assert (provenance.split, provenance.layout, provenance.data) == ("tiny", "folder", root.name)
    assert (provenance.seed, provenance.epochs, provenance.validation_map) == (0, CHOSEN, 0.6)


def test_no_file_of_an_unseen_class_is_opened(run: Run, root: Path) -> None:
    def of_class(names: tuple[str, ...]) -> set[Path]:
        return {Path(path) for path in run.opened if Path(path).parent.name in names and root in Path(path).parents}

    assert len(of_class(SEEN)) == len(SEEN) * 2 * 4  # the ear works: every picture of a seen class was heard
    assert of_class(UNSEEN) == set()
    assert not any(name in (run.folder / "config.json").read_text() for name in UNSEEN)


def test_centres_and_thresholds_are_means_of_seen_pictures(run: Run, root: Path) -> None:
    network = load_checkpoint(run.folder)
    network.backbone.load_imagenet_weights()  # features were extracted before the weights were cut to halves
    means = []
    for modality, folder in (("sketch", "sketches"), ("photo", "photos")):
        paths = [path for name in SEEN for path in sorted((root / folder / name).glob("*.png"))]
        pixels = np.stack([network.preprocess(path, modality) for path in paths])
        with torch.inference_mode():
            pooled = network.backbone(torch.from_numpy(pixels).permute(0, 3, 1, 2)).mean((2, 3))
        np.testing.assert_allclose(network.centre(modality), pooled.mean(0), atol=5e-3)
        assert pooled.mean(0).abs().max() > 0.1
        means.append(network.encode(paths, modality).mean(0))
    np.testing.assert_allclose(network.hashing.mean, np.mean(means, axis=0), atol=5e-3)


# Again, and after a kill


def test_a_seed_settles_everything(run: Run, tmp_path: Path, root: Path) -> None:
    train(run.config, tmp_path / "again", quiet=True)
    assert_same_weights(run.folder, tmp_path / "again")
    assert history(tmp_path / "again") == history(run.folder)
    assert load_checkpoint(tmp_path / "again").fingerprint == load_checkpoint(run.folder).fingerprint
    train(tiny_config(root, seed=1), tmp_path / "other", quiet=True)
    assert load_checkpoint(tmp_path / "other").fingerprint != load_checkpoint(run.folder).fingerprint


def kill_at(phase: str, epoch: int, then: Callable[[], None]) -> Callable[[HeadTraining], None]:
    """An end of epoch that ends the run instead, before anything of that epoch is kept."""
    end_of_epoch = HeadTraining.on_train_epoch_end

    def hook(module: HeadTraining) -> None:
        if (module.validation_features is None) == (phase == "refit") and module.current_epoch + 1 == epoch:
            then()
        end_of_epoch(module)

    return hook


@pytest.mark.parametrize(("phase", "epoch"), [("selection", 3), ("refit", 1)])
def test_a_killed_run_goes_on_where_it_was(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phase: str, epoch: int
) -> None:
    def die() -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(HeadTraining, "on_train_epoch_end", kill_at(phase, epoch, die))
        with pytest.raises(KilledError):
            train(run.config, tmp_path / "run", quiet=True)
    assert not is_checkpoint(tmp_path / "run")

    ended = []
    end_of_epoch = HeadTraining.on_train_epoch_end

    def count(module: HeadTraining) -> None:
        ended.append("selection" if module.validation_features is not None else "refit")
        end_of_epoch(module)

    monkeypatch.setattr(HeadTraining, "on_train_epoch_end", count)
    train(run.config, tmp_path / "run", quiet=True)
    assert ended.count("selection") == (EPOCHS + 1 - epoch if phase == "selection" else 0)
    assert ended.count("refit") == (CHOSEN + 1 - epoch if phase == "refit" else CHOSEN)
    assert_same_weights(run.folder, tmp_path / "run")
    assert history(tmp_path / "run") == history(run.folder)


def test_a_run_goes_on_after_kill_9(run: Run, tmp_path: Path) -> None:
    settings = tmp_path / "shapes.yaml"
    settings.write_text(yaml.safe_dump(run.config.model_dump(mode="json")))
    command = [sys.executable, "-c", textwrap.dedent(KILLED_IN_A_PROCESS), str(settings), str(tmp_path / "run")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=dict(os.environ))
    assert ended.returncode == -signal.SIGKILL, ended.stderr[-2000:]
    assert (tmp_path / "run" / "run" / "refit" / "last.ckpt").is_file()
    train(run.config, tmp_path / "run", quiet=True)
    assert_same_weights(run.folder, tmp_path / "run")
    assert history(tmp_path / "run") == history(run.folder)


def test_ctrl_c_leaves_no_checkpoint(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def press_ctrl_c() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(signal, "signal", lambda *_: None)  # Lightning would leave the test runner deaf to Ctrl-C
    monkeypatch.setattr(HeadTraining, "on_train_epoch_end", kill_at("selection", 2, press_ctrl_c))
    with pytest.raises((SystemExit, KeyboardInterrupt)):
        train(run.config, tmp_path / "run", quiet=True)
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"training.yaml", "run"}


def test_a_finished_run_returns_at_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "read_catalog", lambda *_, **__: pytest.fail("read the data again"))
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


# Its parts


def test_without_refit_the_best_epochs_weights_are_kept(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the run was killed after its best epoch, and its folder was moved before it went on."""
    scripted = iter([0.1, 0.9, 0.9, KilledError, 0.2])  # of equal epochs the first
    weights: list[Tensor] = []

    def validation_map(module: HeadTraining, _: object) -> float:
        score = next(scripted)
        if score is KilledError:
            raise KilledError
        weights.append(module.network.projection.weight.detach().clone())
        return score

    config = tiny_config(root, refit=False)
    monkeypatch.setattr(HeadTraining, "validation_map", validation_map)
    with pytest.raises(KilledError):
        train(config, tmp_path / "begun", quiet=True)
    (tmp_path / "begun").rename(tmp_path / "run")
    train(config, tmp_path / "run", quiet=True)
    assert len(weights) == EPOCHS
    kept = load_file(tmp_path / "run" / WEIGHTS)["projection.weight"]
    assert [torch.equal(kept, epoch.half()) for epoch in weights] == [False, True, False, False]
    provenance = read_config(tmp_path / "run").provenance
    assert (provenance.epochs, provenance.validation_map) == (2, 0.9)
    assert set(provenance.training_classes) == set(SEEN) - set(provenance.validation_classes)
    assert len(provenance.training_classes) == len(SEEN) - 2
    assert [record["epoch"] for record in history(tmp_path / "run")] == [1, 2, 3, 4]


def test_held_out_classes_are_scored_but_not_trained_on(
    run: Run, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is fitted on the training classes is the same if the pictures of the held-out ones are noise."""
    scored: list[ClassFeatures] = []

    def validation_map(module: HeadTraining, features: dict[Modality, ClassFeatures]) -> float:
        scored.append(features["photo"])
        return float(module.current_epoch)

    monkeypatch.setattr(HeadTraining, "validation_map", validation_map)
    split = load_split(str(root / "tiny"))
    chosen_on, held_out = split.hold_out(2, 0)
    catalog = training.read_catalog(root, "folder", True, classes=split.seen)
    features = training.seen_features(run.config, catalog, quiet=True)
    noisy: dict[Modality, NamedMaps] = {}
    for modality, (maps, names, instances) in features.items():
        rows = [name in held_out for name in names]
        assert sum(rows) == 8
        noise = torch.randn(maps.shape, generator=torch.Generator().manual_seed(1)).half()
        changed_maps = torch.where(torch.tensor(rows)[:, None, None, None, None], noise, maps)
        noisy[modality] = NamedMaps(changed_maps, names, instances)
    plain, changed = (
        fit(run.config, version, chosen_on, held_out, tmp_path / name, quiet=True)[0]
        for name, version in (("plain", features), ("changed", noisy))
    )
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor, changed.state_dict()[name]), name
    for kept, maps in ((scored[0], features["photo"][0]), (scored[-1], noisy["photo"][0])):
        assert torch.equal(kept.maps, maps[[name in held_out for name in features["photo"][1]]])
        assert sorted(kept.label.tolist()) == [0] * 4 + [1] * 4


def test_class_features_selects_and_numbers() -> None:
    maps = torch.arange(5.0).reshape(5, 1, 1, 1, 1)
    selected = class_features({"photo": NamedMaps(maps, ["b", "a", "c", "a", "b"], [None] * 5)}, ["c", "b"])["photo"]
    assert selected.maps.flatten().tolist() == [0, 2, 4]
    assert selected.label.tolist() == [1, 0, 1]


def test_photos_by_the_drawings_own_hand_can_be_left_out() -> None:
    maps = torch.arange(4.0).reshape(4, 1, 1, 1, 1)
    sketches = NamedMaps(maps[:2], ["cup", "key"], ["cup/pen", None])
    photos = NamedMaps(maps, ["cup", "cup", "key", "key"], ["cup/pen", "cup/brush", None, "key/brush"])
    kept = by_another_hand({"sketch": sketches, "photo": photos})
    assert kept["photo"].maps.flatten().tolist() == [1, 2, 3]
    assert kept["photo"].classes == ["cup", "key", "key"]
    assert kept["photo"].instances == ["cup/brush", None, "key/brush"]
    assert kept["sketch"] is sketches


def test_hash_thresholds_weigh_both_modalities_the_same() -> None:
    torch.manual_seed(0)
    network = CrossATNet(ModelConfig(image_size=32, dimension=8))
    features: dict[Modality, ClassFeatures] = {
        "sketch": random_features((2, 1)),
        "photo": random_features((20, 30), seed=1),
    }
    fit_hash(network, features)
    means = []
    for modality, part in features.items():
        rows = []
        for item in part.maps[:, 0].float():  # the plain view only
            row = network.projection.weight @ item.mean((1, 2))
            rows.append((row / row.norm()).tolist())
        means.append(np.mean(rows, axis=0))
        assert network.training, modality  # and the mode is as it was
    np.testing.assert_allclose(network.hashing.mean, (means[0] + means[1]) / 2, atol=1e-6)


def test_validation_map_is_the_metric_on_the_plain_views() -> None:
    module = head(LossConfig())
    features: dict[Modality, ClassFeatures] = {
        "sketch": random_features((3, 4, 2)),
        "photo": random_features((6, 5, 7), seed=1),
    }
    rows = {
        modality: [module.network.embed_map(item[None].float(), modality)[0].tolist() for item in part.maps[:, 0]]
        for modality, part in features.items()
    }
    precisions = []
    for row, label in zip(rows["sketch"], features["sketch"].label.tolist(), strict=True):
        order = metrics_oracle.ranking(row, rows["photo"])
        relevant = [bool(features["photo"].label[index] == label) for index in order]
        precisions.append(metrics_oracle.average_precision(relevant))
    assert REAL_VALIDATION_MAP(module, features) == pytest.approx(np.mean(precisions))


def head(loss: LossConfig, epochs: int = 3) -> HeadTraining:
    torch.manual_seed(0)
    config = Config(
        name="head",
        data=DataConfig(split="tiny"),
        model=ModelConfig(image_size=32, dimension=8, dropout=0.0),
        loss=loss,
        train=TrainConfig(epochs=epochs, classes_per_batch=3, pairs_per_class=2, weight_decay=0.25),
    )
    features: dict[Modality, ClassFeatures] = {
        "sketch": random_features((2, 3, 2)),
        "photo": random_features((4, 5, 6), seed=1),
    }
    return HeadTraining(CrossATNet(config.model), config, features, None)


def test_a_step_is_the_weighted_sum_of_the_losses(monkeypatch: pytest.MonkeyPatch) -> None:
    loss = LossConfig(classification=0.5, triplet=2.0, temperature=0.3, margin=0.4)
    module = head(loss)
    monkeypatch.setattr(HeadTraining, "log", lambda *_, **__: None)  # there is no trainer to log to
    batch = next(iter(module.train_dataloader()))
    assert isinstance(batch, Pairs)
    sketch = module.network.embed_map(batch.sketch, "sketch").tolist()
    photo = module.network.embed_map(batch.photo, "photo").tolist()
    label, prototypes = batch.label.tolist(), module.prototypes().tolist()
    expected = 0.5 * losses_oracle.classification(sketch + photo, prototypes, label + label, 0.3)
    expected += 2.0 * losses_oracle.cross_modal_triplet(sketch, photo, label, 0.4)
    assert module.training_step(batch, 0).item() == pytest.approx(expected, rel=1e-5)


def test_only_projection_and_prototypes_are_optimised_on_a_cosine() -> None:
    module = head(LossConfig())
    chosen = module.configure_optimizers()
    optimizer, schedule = chosen["optimizer"], chosen["lr_scheduler"]["scheduler"]
    assert [(len(group["params"]), group["weight_decay"]) for group in optimizer.param_groups] == [(1, 0.25), (1, 0.0)]
    assert optimizer.param_groups[0]["params"][0] is module.network.projection.weight
    assert optimizer.param_groups[1]["params"][0] is module.prototypes.weight
    steps = 3 * 3  # 15 photos in batches of 6 pairs are 3 steps an epoch
    rates = []
    for _ in range(steps + 1):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    expected = [1e-3 * (1 + math.cos(math.pi * step / steps)) / 2 for step in range(steps + 1)]
    assert rates == pytest.approx(expected, abs=1e-12)

"""Training on cached features of a frozen backbone: choose the epoch on held-out seen classes, then fit and save.

Shapes: `B` pairs in a batch, `N` items, `V` views, `C h w` the backbone's map, `D` the shared space.
"""

import logging
import math
import shutil
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import lightning
import numpy as np
import torch
import yaml
from lightning.pytorch.callbacks import ModelCheckpoint, RichProgressBar
from torch import Tensor
from torch.utils.data import DataLoader

from crossatnet import losses
from crossatnet.checkpoint import Provenance, is_checkpoint, save_checkpoint
from crossatnet.config import Config
from crossatnet.data.batches import BalancedPairs, ClassFeatures, Pairs
from crossatnet.data.catalog import Catalog
from crossatnet.data.features import ViewSettings, extract
from crossatnet.data.images import Modality
from crossatnet.data.layouts import read_catalog
from crossatnet.data.splits import load_split
from crossatnet.errors import UserError
from crossatnet.metrics import evaluate
from crossatnet.model.network import MODALITIES, CrossATNet, digest
from crossatnet.model.prototypes import FreePrototypes

Features = Mapping[Modality, ClassFeatures]


class NamedMaps(NamedTuple):
    """Maps of one modality with each item's class name and, where the data set tells, the thing pictured."""

    maps: Tensor  # (N, V, C, h, w)
    classes: Sequence[str]
    instances: Sequence[str | None]


NamedFeatures = Mapping[Modality, NamedMaps]
RECORD = "training.yaml"  # the run's config, in its folder


class HeadTraining(lightning.LightningModule):
    """Trains everything after the frozen backbone on cached maps."""

    def __init__(self, network: CrossATNet, config: Config, training: Features, validation: Features | None) -> None:
        super().__init__()
        self.network = network
        self.settings = config
        self.training_features = training
        self.validation_features = validation
        self.prototypes = FreePrototypes(int(training["photo"].label.max()) + 1, config.model.dimension)
        self.history: list[dict[str, float]] = []
        self.best_head: dict[str, Tensor] = {}
        self.strict_loading = False  # the trainer's own files hold no backbone
        self.sums: dict[str, float] = {}
        self.batches = 0

    def train_dataloader(self) -> DataLoader[Pairs]:
        """The batches of the current epoch; Lightning asks anew each epoch, so that a resumed run repeats none."""
        settings = self.settings.train
        pairs = BalancedPairs(
            self.training_features["sketch"],
            self.training_features["photo"],
            settings.classes_per_batch,
            settings.pairs_per_class,
            settings.seed,
            self.current_epoch,
        )
        return DataLoader(pairs, batch_size=None)

    def on_train_batch_start(self, batch: Pairs, batch_index: int) -> None:
        """Let dropout depend on seed and step alone, so that a resumed run drops what an unbroken one does."""
        torch.manual_seed(1_000_003 * self.settings.train.seed + self.global_step)

    def training_step(self, batch: Pairs, batch_index: int) -> Tensor:
        """One optimisation step; returns the weighted sum of the loss terms."""
        loss = self.settings.loss
        sketch = self.network.embed_map(batch.sketch, "sketch")  # (B, D)
        photo = self.network.embed_map(batch.photo, "photo")  # (B, D)
        both, labels = torch.cat([sketch, photo]), torch.cat([batch.label, batch.label])
        terms = {
            "classification": losses.classification(both, self.prototypes(), labels, loss.temperature),
            "triplet": losses.cross_modal_triplet(sketch, photo, batch.label, loss.margin),
        }
        total = loss.classification * terms["classification"] + loss.triplet * terms["triplet"]
        for name, value in {"loss": total, **terms}.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value.detach())
        self.batches += 1
        self.log("loss", total.detach(), prog_bar=True, batch_size=len(batch.label))
        return total

    def on_train_epoch_end(self) -> None:
        """Record the epoch's mean loss terms and, in the selection run, mAP@all on the held-out seen classes."""
        record = {"epoch": self.current_epoch + 1, **{name: value / self.batches for name, value in self.sums.items()}}
        self.sums, self.batches = {}, 0
        if self.validation_features is not None:
            record["validation_map"] = self.validation_map(self.validation_features)
            if record["validation_map"] > max((past["validation_map"] for past in self.history), default=-1.0):
                self.best_head = {name: tensor.cpu().clone() for name, tensor in self.head_state().items()}
            self.log("validation_map", record["validation_map"], prog_bar=True)
        self.history.append(record)

    def head_state(self) -> dict[str, Tensor]:
        """The network's weights after the backbone."""
        state = self.network.state_dict()
        return {name: tensor for name, tensor in state.items() if not name.startswith("backbone.")}

    def validation_map(self, features: Features) -> float:
        """Sketch -> photo mAP@all over the classes of these features, seen ones that training left out."""
        sketches, photos = features["sketch"], features["photo"]
        scores = evaluate(
            embed_maps(self.network, sketches.maps[:, 0], "sketch"),
            sketches.label.numpy(),
            embed_maps(self.network, photos.maps[:, 0], "photo"),
            photos.label.numpy(),
        )
        return scores.means()["mAP@all"]

    def configure_optimizers(self) -> Any:
        """AdamW with a cosine schedule over `train.epochs`, also when a refit stops before its end."""
        settings = self.settings.train
        optimizer = torch.optim.AdamW(
            [
                {"params": [*self.network.projection.parameters()], "weight_decay": settings.weight_decay},
                {"params": [*self.prototypes.parameters()], "weight_decay": 0.0},
            ],
            lr=settings.learning_rate,
        )
        steps = settings.epochs * len(self.train_dataloader())
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * min(step, steps) / steps))
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the history and the best epoch's weights; leave out the frozen backbone, which is there anyway."""
        checkpoint["history"], checkpoint["best_head"] = self.history, self.best_head
        state = checkpoint["state_dict"]
        for name in [name for name in state if name.startswith("network.backbone.")]:
            del state[name]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take back what `on_save_checkpoint` kept."""
        self.history, self.best_head = checkpoint["history"], checkpoint["best_head"]


def train(config: Config, output: Path, quiet: bool = False) -> Path:
    """Train by `config` and write the checkpoint folder `output`; a killed run is resumed by the same call.

    1. Hold `data.validation_classes` SEEN classes out and record their mAP@all after every epoch.
    2. Take the best epoch; with `train.refit`, train afresh on all seen classes for that many epochs.
    3. Fit the hash thresholds on the training embeddings and save.

    Unseen classes are never read beyond listing their files. Raises `UserError` for data that does not fit the
    split, and for an `output` that holds another run.
    """
    if _is_finished(config, output):
        shutil.rmtree(output / "run", ignore_errors=True)  # left by a kill between saving and tidying up
        return output
    split = load_split(config.data.split)
    catalog = read_catalog(config.data.root, config.data.layout, quiet, classes=split.seen)
    catalog.require(split.seen, "training")
    chosen_on, held_out = split.hold_out(config.data.validation_classes, config.train.seed)
    features = seen_features(config, catalog, quiet)
    _begin(config, output)

    network, selection = fit(config, features, chosen_on, held_out, output / "run" / "selection", quiet=quiet)
    best = max(selection, key=lambda record: record["validation_map"])
    epochs, training_classes = int(best["epoch"]), chosen_on
    history: list[dict[str, Any]] = [*selection]
    if config.train.refit:
        training_classes = split.seen
        network, refit = fit(config, features, split.seen, (), output / "run" / "refit", epochs, quiet)
        history = [{"phase": "selection", **record} for record in selection]
        history += [{"phase": "refit", **record} for record in refit]
    fit_hash(network, class_features(features, training_classes))
    provenance = Provenance(
        data=catalog.root.name,
        layout=config.data.layout,
        split=split.name,
        training_classes=training_classes,
        validation_classes=held_out,
        seed=config.train.seed,
        epochs=epochs,
        validation_map=best["validation_map"],
    )
    save_checkpoint(output, network, config.name, provenance, history)
    shutil.rmtree(output / "run")
    return output


def seen_features(config: Config, catalog: Catalog, quiet: bool) -> NamedFeatures:
    """Feature maps, class names and instances of all items of the catalog, by modality."""
    backbone = CrossATNet(config.model).backbone.load_imagenet_weights().eval().to(_device())
    fingerprint = digest(backbone)
    settings = ViewSettings(config.model.image_size, config.model.fit_strokes, config.train.views)
    features = {}
    for modality in MODALITIES:
        part = catalog.select({item.class_name for item in catalog.items}, modality)
        maps = extract(part, backbone, fingerprint, settings, _device(), quiet)
        classes, instances = zip(*((item.class_name, item.instance) for item in part.items), strict=True)
        features[modality] = NamedMaps(maps, classes, instances)
    return features


def class_features(features: NamedFeatures, classes: Sequence[str]) -> dict[Modality, ClassFeatures]:
    """The part of the features with these classes, numbered in the order given."""
    number = {name: index for index, name in enumerate(classes)}
    selected = {}
    for modality, (maps, names, _) in features.items():
        rows = [row for row, name in enumerate(names) if name in number]
        labels = torch.tensor([number[names[row]] for row in rows])
        selected[modality] = ClassFeatures(maps[rows], labels)
    return selected


def by_another_hand(features: NamedFeatures) -> NamedFeatures:
    """The features without the photos that share their instance with a sketch."""
    drawn = set(features["sketch"].instances) - {None}
    maps, classes, instances = features["photo"]
    rows = [row for row, instance in enumerate(instances) if instance not in drawn]
    photos = NamedMaps(maps[rows], [classes[row] for row in rows], [instances[row] for row in rows])
    return {"sketch": features["sketch"], "photo": photos}


def fit(
    config: Config,
    features: NamedFeatures,
    classes: Sequence[str],
    held_out: Sequence[str],
    folder: Path,
    epochs: int | None = None,
    quiet: bool = False,
) -> tuple[CrossATNet, list[dict[str, float]]]:
    """One run of the trainer on `classes`, resumed from `folder` if it was begun there.

    With `held_out` classes the weights of the epoch with their best mAP@all are returned, else the last epoch's;
    always with the history of all epochs.
    """
    torch.manual_seed(config.train.seed)
    network = CrossATNet(config.model)
    network.backbone.load_imagenet_weights().requires_grad_(False)
    training = class_features(features, classes)
    validation = None
    if held_out:
        shown = by_another_hand(features) if config.data.validate_by_another_hand else features
        validation = class_features(shown, held_out)
    for modality in MODALITIES:
        network.centre(modality).copy_(_pooled_mean(network, training[modality].maps[:, 0]))
    module = HeadTraining(network, config, training, validation)
    keeper = ModelCheckpoint(folder, "last", save_on_train_epoch_end=True, enable_version_counter=False)
    trainer = _trainer(epochs or config.train.epochs, keeper, folder, quiet)
    last = folder / "last.ckpt"
    trainer.fit(module, ckpt_path=last if last.is_file() else None, weights_only=True)
    if held_out:
        network.load_state_dict(module.best_head, strict=False)  # the backbone is as it was
    return network.cpu().eval(), module.history


def fit_hash(network: CrossATNet, features: Features) -> None:
    """Fit the hash thresholds on the training embeddings of both modalities, each weighing the same."""
    means = [embed_maps(network, features[modality].maps[:, 0], modality).mean(0) for modality in MODALITIES]
    network.hashing.fit(torch.from_numpy(np.stack(means)))


@torch.inference_mode()
def embed_maps(network: CrossATNet, maps: Tensor, modality: Modality) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Cached maps (N, C, h, w) -> embeddings (N, D), in evaluation mode."""
    was_training = network.training
    network.eval()
    blocks = [network.embed_map(block.float().to(network.device), modality).cpu() for block in maps.split(512)]
    network.train(was_training)
    return torch.cat(blocks).numpy()


def _pooled_mean(network: CrossATNet, maps: Tensor) -> Tensor:
    """Mean pooled feature (C,) of maps (N, C, h, w)."""
    return torch.cat([network.pooler(block.float()) for block in maps.split(512)]).mean(0)


def _trainer(epochs: int, keeper: ModelCheckpoint, folder: Path, quiet: bool) -> lightning.Trainer:
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    return lightning.Trainer(
        max_epochs=epochs,
        accelerator="auto",
        devices=1,
        callbacks=[keeper] if quiet else [keeper, RichProgressBar()],
        default_root_dir=folder,
        logger=False,
        enable_model_summary=False,
        enable_progress_bar=not quiet,
        reload_dataloaders_every_n_epochs=1,
    )


def _is_finished(config: Config, output: Path) -> bool:
    """Whether `output` holds this very run, finished.

    Raises `UserError` if the folder belongs to another run or to something else.
    """
    record = output / RECORD
    if record.is_file():
        if record.read_text(encoding="utf-8") != _settings(config):
            raise UserError(f"{output} holds a run with other settings ({record}); give another folder with -o")
        return is_checkpoint(output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"{output} exists and is not a training run; give another folder with -o")
    return False


def _begin(config: Config, output: Path) -> None:
    """Mark `output` as this run's; only once its data is known to fit, so that a config can still be mended."""
    output.mkdir(parents=True, exist_ok=True)
    if not (output / RECORD).is_file():
        (output / RECORD).write_text(_settings(config), encoding="utf-8")


def _settings(config: Config) -> str:
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")

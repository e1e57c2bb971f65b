"""Training: choose the epoch on held-out seen classes, then fit on all of them, fit the hash codes and save.

The backbone's first units stay frozen (all of them by default): their output is computed once for a few views of each
picture and kept, and only the rest is run in training.

Shapes: `B` pairs in a batch, `N` items, `V` views, `C h w` a map between two units, `D` the shared space.
"""

import copy
import json
import logging
import math
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import lightning
import numpy as np
import torch
import yaml
from lightning.pytorch.callbacks import ModelCheckpoint, RichProgressBar
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from crossatnet.checkpoint import Provenance, is_checkpoint, save_checkpoint
from crossatnet.config import Config
from crossatnet.data.batches import BalancedPairs, CachedViews, Pairs, Source
from crossatnet.data.catalog import Catalog
from crossatnet.data.extra import seen_catalog
from crossatnet.data.features import LivePictures, LiveViews, ViewSettings, extract
from crossatnet.data.images import Modality
from crossatnet.errors import UserError
from crossatnet.metrics import evaluate
from crossatnet.model.backbone import Backbone, EfficientNetLite0
from crossatnet.model.hashing import itq, learned
from crossatnet.model.network import MODALITIES, CrossATNet, digest
from crossatnet.objective import Objective

Sources = Mapping[Modality, Source]
BATCH = 128  # pictures embedded at a time
ADAPTED = 1280  # pictures that tell batch-norm statistics


class NamedViews(NamedTuple):
    """The pictures of one modality with each one's class name and, where the data set tells, the thing pictured."""

    views: Tensor | LivePictures  # maps (N, V, C, h, w), or the pictures themselves
    classes: Sequence[str]
    instances: Sequence[str | None]
    statistics: Mapping[str, Tensor] = {}  # of batch normalisation, for the modality's encoder; ImageNet's where absent


NamedFeatures = Mapping[Modality, NamedViews]
RECORD = "training.yaml"  # the run's config, in its folder


class Training(lightning.LightningModule):
    """Trains everything after the backbone's frozen units."""

    def __init__(
        self, network: CrossATNet, config: Config, classes: Sequence[str], training: Sources, validation: Sources | None
    ) -> None:
        super().__init__()
        self.network = network
        self.settings = config
        self.training_sources = training
        self.validation_sources = validation
        self.passed_units = passed_units(network, config)
        self.objective = Objective(network, config, classes, self.passed_units)
        self.start = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        self.averaged = AveragedModel(network, avg_fn=self.average) if config.train.average else None
        self.history: list[dict[str, float]] = []
        self.best: dict[str, Tensor] = {}
        self.strict_loading = False  # the trainer's own files hold nothing that is frozen
        self.sums: dict[str, float] = {}
        self.batches = 0

    def train_dataloader(self) -> DataLoader[Pairs]:
        """The batches of the current epoch; Lightning asks anew each epoch, so that a resumed run repeats none."""
        settings = self.settings.train
        pairs = BalancedPairs(
            self.training_sources["sketch"],
            self.training_sources["photo"],
            settings.classes_per_batch,
            settings.pairs_per_class,
            settings.seed,
            self.current_epoch,
        )
        return DataLoader(pairs, batch_size=None, num_workers=0 if settings.views else 1)  # a worker decodes ahead

    def on_train_batch_start(self, batch: Pairs, batch_index: int) -> None:
        """Let dropout depend on seed and step alone, so that a resumed run drops what an unbroken one does."""
        torch.manual_seed(1_000_003 * self.settings.train.seed + self.global_step)
        for modality in MODALITIES:
            self.network.encoder(modality).eval()  # statistics of batch normalisation stay those of ImageNet

    def training_step(self, batch: Pairs, batch_index: int) -> Tensor:
        """One optimisation step; returns the weighted sum of the loss terms."""
        terms = self.objective(self.network, batch)
        total = torch.stack([*terms.values()]).sum()
        for name, value in {"loss": total, **terms}.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value.detach())
        self.batches += 1
        self.log("loss", total.detach(), prog_bar=True, batch_size=len(batch.label))
        return total

    def on_train_batch_end(self, outputs: Any, batch: Pairs, batch_index: int) -> None:
        """Follow the weights with their moving average."""
        if self.averaged is not None:
            self.averaged.update_parameters(self.network)

    def average(self, averaged: Tensor, current: Tensor, updates: Tensor | int) -> Tensor:
        """Exponential moving average, of shorter memory in the first steps."""
        decay = min(self.settings.train.average, (1 + float(updates)) / (10 + float(updates)))
        return averaged + (1 - decay) * (current - averaged)

    def on_train_epoch_end(self) -> None:
        """Record the epoch's mean loss terms and, in the selection run, mAP@all on the held-out seen classes."""
        record = {"epoch": self.current_epoch + 1, **{name: value / self.batches for name, value in self.sums.items()}}
        self.sums, self.batches = {}, 0
        if self.validation_sources is not None:
            network = self.deliverable()
            record["validation_map"] = self.validation_map(network, self.validation_sources)
            if record["validation_map"] > max((past["validation_map"] for past in self.history), default=-1.0):
                self.best = {name: tensor.cpu() for name, tensor in network.state_dict().items()}
            self.log("validation_map", record["validation_map"], prog_bar=True)
        self.history.append(record)

    def deliverable(self) -> CrossATNet:
        """A copy of the network as it would be delivered now: averaged, and interpolated with what it started from."""
        network = copy.deepcopy(self.network).eval()
        if self.averaged is not None:
            network.load_state_dict(self.averaged.module.state_dict())
        share = self.settings.train.interpolation
        if share < 1:
            for name, tensor in network.distinct_state().items():
                if "backbone." in name and tensor.is_floating_point():
                    tensor.lerp_(self.start[name].to(tensor.device), 1 - share)
        return network

    def validation_map(self, network: CrossATNet, sources: Sources) -> float:
        """Sketch -> photo mAP@all over the classes of these sources, seen ones that training left out."""
        embeddings = {
            modality: embed(network, sources[modality], modality, self.passed_units) for modality in MODALITIES
        }
        labels = {modality: sources[modality].label.numpy() for modality in MODALITIES}
        scores = evaluate(embeddings["sketch"], labels["sketch"], embeddings["photo"], labels["photo"])
        return scores.means()["mAP@all"]

    def configure_optimizers(self) -> Any:
        """AdamW with a cosine schedule over `train.epochs`, also when a refit stops before its end.

        Units of the backbone learn the slower the nearer they are to the pictures (`train.layer_decay`).
        """
        settings, network = self.settings.train, self.network
        heads: list[nn.Module] = [network.pooler, network.projection, self.objective]
        if network.sketch_projection is not None:
            heads.append(network.sketch_projection)
        parameters = [weight for head in heads for weight in head.parameters() if weight.requires_grad]
        groups = [{"params": parameters, "lr": settings.learning_rate}]
        backbones = [network.encoder(modality) for modality in MODALITIES]
        for distance, units in enumerate(zip(*(reversed(backbone.chain()) for backbone in backbones), strict=True)):
            rate = settings.backbone_learning_rate * settings.layer_decay**distance
            weights = dict.fromkeys(weight for unit in units for weight in unit.parameters() if weight.requires_grad)
            groups += [{"params": [*weights], "lr": rate}] if weights else []  # shared weights once
        optimizer = torch.optim.AdamW(groups, weight_decay=settings.weight_decay)
        steps = settings.epochs * len(self.train_dataloader())
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * min(step, steps) / steps))
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the history and the best epoch's weights; leave out what is frozen, which is there anyway."""
        checkpoint["history"], checkpoint["best"] = self.history, self.best
        frozen = {f"network.{name}" for name, weight in self.network.named_parameters() if not weight.requires_grad}
        state = checkpoint["state_dict"]
        for name in [name for name in state if name in frozen or name.startswith("objective.teacher.")]:
            del state[name]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take back what `on_save_checkpoint` kept."""
        self.history, self.best = checkpoint["history"], checkpoint["best"]


def train(config: Config, output: Path, quiet: bool = False) -> Path:
    """Train by `config` and write the checkpoint folder `output`; a killed run is resumed by the same call.

    1. Hold `data.validation_classes` SEEN classes out and record their mAP@all after every epoch.
    2. Take the best epoch; with `train.refit`, train afresh on all seen classes for that many epochs.
    3. Fit the hash codes on the training embeddings and save.

    Unseen classes are never read beyond listing their files. Raises `UserError` for data that does not fit the
    split, and for an `output` that holds another run.
    """
    if _is_finished(config, output):
        shutil.rmtree(output / "run", ignore_errors=True)  # left by a kill between saving and tidying up
        return output
    catalog, split, seen = seen_catalog(config.data, quiet)
    _, held_out = split.hold_out(config.data.validation_classes, config.train.seed)
    features = seen_features(config, catalog, quiet)
    _begin(config, output)

    chosen_on = tuple(name for name in seen if name not in held_out)
    network, selection = fit(config, features, chosen_on, held_out, output / "run" / "selection", quiet=quiet)
    best = max(selection, key=lambda record: record["validation_map"])
    epochs, training_classes = int(best["epoch"]), chosen_on
    history: list[dict[str, Any]] = [*selection]
    if config.train.refit:
        training_classes = seen
        network, refit = fit(config, features, seen, (), output / "run" / "refit", epochs, quiet)
        history = [{"phase": "selection", **record} for record in selection]
        history += [{"phase": "refit", **record} for record in refit]
    fit_hash(network, config, class_features(features, training_classes))
    provenance = Provenance(
        data=catalog.root.name,
        extra_data=tuple(extra.root.name for extra in config.data.extra),
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


def start_network(config: Config) -> CrossATNet:
    """The network before training: pretrained backbone, everything else random; frozen units take no gradient."""
    if config.model.backbone == EfficientNetLite0.name:
        network = CrossATNet(config.model)
        pretrained: nn.Module = EfficientNetLite0().load_imagenet_weights()
    else:
        from crossatnet.model.transformers_backbone import TransformersBackbone

        loaded = TransformersBackbone.load(config.model.backbone)
        stored = {"backbone": Path(config.model.backbone).name, "backbone_config": loaded.config}
        network, pretrained = CrossATNet(config.model.model_copy(update=stored)), loaded
    for backbone in dict.fromkeys(network.encoder(modality) for modality in MODALITIES):
        backbone.load_state_dict(pretrained.state_dict())
        for unit in backbone.chain()[: frozen_units(network, config)]:
            unit.requires_grad_(False)
    return network


def frozen_units(network: CrossATNet, config: Config) -> int:
    """How many of the backbone's first units training leaves as they are."""
    return max(network.backbone.depth - config.train.trainable_units, 0)


def passed_units(network: CrossATNet, config: Config) -> int:
    """How many units the sources' pictures have passed already: the frozen ones if views are kept, else none."""
    return frozen_units(network, config) if config.train.views else 0


def seen_features(config: Config, catalog: Catalog, quiet: bool) -> NamedFeatures:
    """Views, class names and instances of all items of the catalog, by modality."""
    network = start_network(config).eval().to(_device())
    settings = ViewSettings(
        config.model.image_size,
        config.model.fit_strokes,
        config.train.views,
        frozen_units(network, config),
        config.train.precision,
    )
    features = {}
    for modality in MODALITIES:
        part = catalog.select({item.class_name for item in catalog.items}, modality)
        classes, instances = zip(*((item.class_name, item.instance) for item in part.items), strict=True)
        pictures = LivePictures(part.items, settings)
        views: Tensor | LivePictures = pictures
        statistics = {}
        if modality == "sketch" and config.model.sketch_statistics:
            statistics = own_statistics(network.encoder(modality), pictures, config.model.sketch_statistics)
            network.encoder(modality).load_state_dict(statistics, strict=False)
        if config.train.views:
            backbone = network.encoder(modality)
            fingerprint = digest(backbone, json.dumps(backbone.config, sort_keys=True))
            early = torch.autocast(_device().type, torch.bfloat16, config.train.precision == "bf16-mixed")(
                partial(backbone.early, units=settings.units)
            )
            views = extract(part, early, fingerprint, settings, _device(), quiet)
        features[modality] = NamedViews(views, classes, instances, statistics)
    return features


@torch.no_grad()
def own_statistics(backbone: Backbone, pictures: LivePictures, share: float) -> dict[str, Tensor]:
    """Batch-norm statistics of these pictures, as far as `share`; the rest is what the backbone has.

    They come from up to `ADAPTED` plain pictures, spread evenly and mixed; each layer sees what the layers before it
    make of them with statistics of their own (adaptive batch normalisation of Li et al., 2017; the share is ours).
    Raises `UserError` for a backbone without batch normalisation.
    """
    adapted = copy.deepcopy(backbone)
    norms = [module for module in adapted.modules() if isinstance(module, nn.BatchNorm2d)]
    if not norms:
        raise UserError("model.sketch_statistics is for backbones with batch normalisation, and this one has none")
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean of all batches
        norm.train()
    count = len(pictures.items)
    chosen = torch.linspace(0, count - 1, min(count, ADAPTED)).long()
    mixed = chosen[torch.randperm(len(chosen), generator=torch.Generator().manual_seed(0))]
    device = next(adapted.parameters()).device
    for picked in mixed.split(BATCH):
        adapted(pictures.read(picked.tolist(), [None] * len(picked)).to(device))
    own = adapted.state_dict()
    return {
        name: torch.lerp(had, own[name], share).cpu()
        for name, had in backbone.named_buffers()
        if name.endswith(("running_mean", "running_var"))
    }


def class_features(features: NamedFeatures, classes: Sequence[str]) -> dict[Modality, Source]:
    """The part of the features with these classes, numbered in the order given."""
    number = {name: index for index, name in enumerate(classes)}
    selected: dict[Modality, Source] = {}
    for modality, (views, names, *_) in features.items():
        rows = [row for row, name in enumerate(names) if name in number]
        labels = torch.tensor([number[names[row]] for row in rows])
        chosen = views[rows]
        selected[modality] = (
            LiveViews(chosen, labels) if isinstance(chosen, LivePictures) else CachedViews(chosen, labels)
        )
    return selected


def by_another_hand(features: NamedFeatures) -> NamedFeatures:
    """The features without the photos that share their instance with a sketch."""
    drawn = set(features["sketch"].instances) - {None}
    views, classes, instances, statistics = features["photo"]
    rows = [row for row, instance in enumerate(instances) if instance not in drawn]
    photos = NamedViews(views[rows], [classes[row] for row in rows], [instances[row] for row in rows], statistics)
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
    network = start_network(config)
    for modality in MODALITIES:
        network.encoder(modality).load_state_dict(features[modality].statistics, strict=False)
    network.to(_device())
    training = class_features(features, classes)
    validation = None
    if held_out:
        shown = by_another_hand(features) if config.data.validate_by_another_hand else features
        validation = class_features(shown, held_out)
    passed = passed_units(network, config)
    for modality in MODALITIES:
        network.centre(modality).copy_(pooled_mean(network.eval(), training[modality], modality, passed))
    module = Training(network.train(), config, classes, training, validation)
    keeper = ModelCheckpoint(folder, "last", save_on_train_epoch_end=True, enable_version_counter=False)
    trainer = _trainer(epochs or config.train.epochs, keeper, folder, config.train.precision, quiet)
    last = folder / "last.ckpt"
    trainer.fit(module, ckpt_path=last if last.is_file() else None, weights_only=True)
    delivered = module.deliverable().cpu()
    if held_out:
        delivered.load_state_dict(module.best)
    return delivered, module.history


def fit_hash(network: CrossATNet, config: Config, sources: Sources) -> None:
    """Fit the hyperplanes of every code length on the training embeddings of both modalities."""
    network.to(_device())
    passed = passed_units(network, config)
    embeddings = torch.cat([torch.from_numpy(embed(network, sources[m], m, passed)) for m in MODALITIES])  # (N, D)
    labels = torch.cat([sources[modality].label for modality in MODALITIES])  # (N,)
    for bits in network.config.code_lengths:
        if network.config.hashing == "itq":
            planes = itq(embeddings, bits, seed=config.train.seed)
        else:
            planes = learned(embeddings, labels, bits, seed=config.train.seed)
        network.hashing.set(bits, *planes)
    network.cpu()


@torch.inference_mode()
def embed(
    network: CrossATNet, source: Source, modality: Modality, passed_units: int
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The plain pictures of a source -> embeddings (N, D)."""
    blocks = [network.embed_map(plain, modality).cpu() for plain in plain_maps(network, source, modality, passed_units)]
    return torch.cat(blocks).numpy()


@torch.inference_mode()
def pooled_mean(network: CrossATNet, source: Source, modality: Modality, passed_units: int) -> Tensor:
    """Mean pooled feature (C,) of the plain pictures of a source."""
    maps = plain_maps(network, source, modality, passed_units)
    return torch.cat([network.mean_pooler(plain).feature for plain in maps]).mean(0)


def plain_maps(network: CrossATNet, source: Source, modality: Modality, passed_units: int) -> Iterator[Tensor]:
    """The backbone's maps (B, C, h, w) of the plain pictures of a source, in order."""
    for picked in torch.arange(len(source.label)).split(BATCH):
        yield network.encoder(modality).late(source.plain(picked).to(network.device), passed_units)


def _trainer(epochs: int, keeper: ModelCheckpoint, folder: Path, precision: str, quiet: bool) -> lightning.Trainer:
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    return lightning.Trainer(
        max_epochs=epochs,
        accelerator="auto",
        devices=1,
        precision=precision,  # type: ignore[arg-type]  # one of Lightning's own names, checked by the config
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

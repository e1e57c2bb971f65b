"""Training: choose the epoch on held-out seen classes, then fit on all of them, fit the hash codes and save.

The backbone's first units stay frozen (all of them by default): their output is computed once for a few views of each
picture and kept, and only the rest is run in training.

Shapes: `B` pairs in a batch, `N` items, `V` views, `C h w` a map between two units, `D` the shared space.
"""

import copy
import logging
import math
import shutil
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
import yaml
from lightning.pytorch.callbacks import ModelCheckpoint, RichProgressBar
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from crossatnet.checkpoint import Provenance, TrainingRecord, is_checkpoint, locate, read_record, save_checkpoint
from crossatnet.config import Config
from crossatnet.data.batches import BalancedPairs, Pairs, Source
from crossatnet.data.extra import seen_catalog
from crossatnet.data.fingerprints import ClassPictures, fingerprints
from crossatnet.data.images import Modality
from crossatnet.data.names import ALIASES, are_related
from crossatnet.data.splits import Split
from crossatnet.errors import UserError
from crossatnet.model.hashing import directions_of, itq, learned
from crossatnet.model.interface import MODALITIES
from crossatnet.model.network import CrossATNet
from crossatnet.model.whitening import whitening
from crossatnet.objective import Objective
from crossatnet.ranking import evaluate
from crossatnet.sources import (
    NamedFeatures,
    best_device,
    by_another_hand,
    class_features,
    frozen_units,
    go_on_from,
    passed_units,
    seen_features,
    start_network,
)

Sources = Mapping[Modality, Source]
BATCH = 128  # pictures embedded at a time
FITTED = 8192  # pictures of a modality, spread evenly, that centring, whitening and hash codes are fitted on at most
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
            settings.epoch_batches,
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
    2. Take the best epoch; with `train.refit`, train afresh on all seen classes for that many epochs. Without classes
       held out there is one run, on all seen classes, for `train.epochs`.
    3. Whiten the space and fit the hash codes, both on the training embeddings, and save, with a record of every
       picture and class it had.

    Unseen classes are never read beyond listing their files. Raises `UserError` for data that does not fit the
    split, and for an `output` that holds another run.
    """
    if _is_finished(config, output):
        shutil.rmtree(output / "run", ignore_errors=True)  # left by a kill between saving and tidying up
        return output
    catalog, split, seen = seen_catalog(config.data, quiet)
    before = record_before(config, split)
    held_out = split.hold_out(config.data.validation_classes, config.train.seed)[1]
    features = seen_features(config, catalog, quiet)
    pictures = fingerprints(catalog, quiet)
    _begin(config, output)

    chosen_on = tuple(name for name in seen if name not in held_out and not is_kin(name, split.seen_set, held_out))
    history: list[dict[str, Any]]
    network, history = fit(config, features, chosen_on, held_out, output / "run" / "selection", quiet=quiet)
    best = max(history, key=lambda record: record.get("validation_map", record["epoch"]))
    epochs, training_classes = int(best["epoch"]), chosen_on
    if config.train.refit and held_out:
        training_classes = seen
        network, refit = fit(config, features, seen, (), output / "run" / "refit", epochs, quiet)
        history = [{"phase": "selection", **record} for record in history]
        history += [{"phase": "refit", **record} for record in refit]
    embeddings, labels = training_embeddings(network, config, class_features(features, training_classes))
    embeddings = whiten(network, config, embeddings, labels)
    fit_hash(network, config, embeddings, labels)
    provenance = Provenance(
        data=catalog.root.name,
        extra_data=tuple(extra.root.name for extra in config.data.extra),
        layout=config.data.layout,
        split=split.name,
        training_classes=training_classes,
        validation_classes=held_out,
        seed=config.train.seed,
        epochs=epochs,
        validation_map=best.get("validation_map"),
    )
    record = training_record(config, pictures, training_classes, held_out)
    record = record.after(before) if before else record
    save_checkpoint(output, network, config.name, provenance, history, record)
    shutil.rmtree(output / "run")
    return output


def is_kin(name: str, own: Collection[str], held_out: Collection[str]) -> bool:
    """Whether a class that is none of the split's own would give away a held-out one."""
    return name not in own and any(are_related(name, other) for other in held_out)


def record_before(config: Config, split: Split) -> TrainingRecord | None:
    """What the checkpoint to go on from has read; raises `UserError` if some of it is unseen in the split."""
    if not config.train.start:
        return None
    record = read_record(locate(config.train.start))
    if record is None:
        raise UserError(f"train.start: {config.train.start} has no record.json, so nobody knows what it has read")
    if seen := sorted(split.unseen_set & {*record.pictures}):
        raise UserError(f"train.start: {config.train.start} has read {', '.join(seen)}, unseen in {split.name}")
    return record


def training_record(
    config: Config, pictures: Mapping[str, ClassPictures], classes: tuple[str, ...], held_out: tuple[str, ...]
) -> TrainingRecord:
    """What `train` has read: all `pictures`, to train a network on these `classes` and to choose the epoch."""
    semantic = config.semantics.prototypes == "graph" or config.loss.semantic_margin > 0
    other_names = {name: tuple(alias for alias, of in ALIASES.items() if of == name) for name in pictures}
    return TrainingRecord(
        pictures={**pictures},
        training_classes=classes,
        selection_classes=held_out,
        graph_classes=classes if semantic else (),
        centring_classes=classes,
        statistics_classes=tuple(pictures) if config.model.sketch_statistics else (),
        hash_code_classes=classes,
        one_sided_classes=tuple(name for name in classes if not (pictures[name].sketch and pictures[name].photo)),
        aliases={name: other for name, other in other_names.items() if other},
    )


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
    if config.train.start:
        go_on_from(network, config.train.start, frozen_units(network, config))
    network.to(best_device())
    training = class_features(features, classes)
    validation = None
    if held_out:
        shown = by_another_hand(features) if config.data.validate_by_another_hand else features
        validation = class_features(shown, held_out)
    passed = passed_units(network, config)
    for modality in MODALITIES if not config.train.start else ():
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


def fit_hash(network: CrossATNet, config: Config, embeddings: Tensor, labels: Tensor) -> None:
    """Fit the hyperplanes of every code length on the training embeddings (N, D) of both modalities; labels (N,)."""
    for bits in network.config.code_lengths:
        if network.config.hashing == "itq":
            planes = itq(embeddings, bits, seed=config.train.seed, directions=directions_of(bits))
        else:
            planes = learned(embeddings, labels, bits, seed=config.train.seed)
        network.hashing.set(bits, *planes)


@torch.no_grad()
def whiten(network: CrossATNet, config: Config, embeddings: Tensor, labels: Tensor) -> Tensor:
    """Whiten the space by `train.whitening`; the matrix goes into the projections, so a checkpoint has nothing more.

    Takes the training embeddings (N, D) of both modalities and their labels (N,); returns what they are from now on.
    """
    if not config.train.whitening:
        return embeddings
    matrix = whitening(embeddings, labels, config.train.whitening)  # (D, D), symmetric
    for projection in {network.projector(modality) for modality in MODALITIES}:  # one, or one a modality
        projection.weight.copy_(matrix @ projection.weight)
    return functional.normalize(embeddings @ matrix, dim=1)  # (N, D); that they were of length 1 before changes nothing


def training_embeddings(network: CrossATNet, config: Config, sources: Sources) -> tuple[Tensor, Tensor]:
    """Embeddings (N, D) of plain pictures of both modalities and their labels (N,); the network ends on the CPU.

    At most `FITTED` pictures of a modality are embedded.
    """
    network.to(best_device())
    passed = passed_units(network, config)
    rows = {modality: spread(sources[modality]) for modality in MODALITIES}
    embeddings = [torch.from_numpy(embed(network, sources[m], m, passed, rows[m])) for m in MODALITIES]
    network.cpu()
    return torch.cat(embeddings), torch.cat([sources[modality].label[rows[modality]] for modality in MODALITIES])


def spread(source: Source) -> Tensor:
    """The rows (N,) of a source's pictures, or `FITTED` of them, spread evenly."""
    count = len(source.label)
    return torch.arange(count) if count <= FITTED else torch.linspace(0, count - 1, FITTED).long()


@torch.inference_mode()
def embed(
    network: CrossATNet, source: Source, modality: Modality, passed_units: int, rows: Tensor | None = None
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The plain pictures of a source, or those of these rows (N,) -> embeddings (N, D)."""
    maps = plain_maps(network, source, modality, passed_units, rows)
    return torch.cat([network.embed_map(plain, modality).cpu() for plain in maps]).numpy()


@torch.inference_mode()
def pooled_mean(network: CrossATNet, source: Source, modality: Modality, passed_units: int) -> Tensor:
    """Mean pooled feature (C,) of the plain pictures of a source, or of `FITTED` of them."""
    maps = plain_maps(network, source, modality, passed_units, spread(source))
    return torch.cat([network.mean_pooler(plain).feature for plain in maps]).mean(0)


def plain_maps(
    network: CrossATNet, source: Source, modality: Modality, passed_units: int, rows: Tensor | None = None
) -> Iterator[Tensor]:
    """The backbone's maps (B, C, h, w) of the plain pictures of a source, or those of these rows (N,), in order."""
    for picked in (torch.arange(len(source.label)) if rows is None else rows).split(BATCH):
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

"""Training: choose the epoch on held-out seen classes, then fit on all of them, fit the hash codes and save.

The backbone's first units stay frozen (all of them by default): their output is computed once for a few views of each
picture and kept, and only the rest is run in training.

Shapes: `N` items, `D` the shared space.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor
from torch.nn import functional

from crossatnet.config import Config
from crossatnet.data.catalog import Catalog
from crossatnet.data.looks import ClassPictures, class_pictures
from crossatnet.data.names import ALIASES, are_related
from crossatnet.data.splits import Split
from crossatnet.model.checkpoint import Provenance, TrainingRecord, is_checkpoint, locate, read_record
from crossatnet.model.interface import MODALITIES
from crossatnet.model.network import CrossATNet
from crossatnet.model.weights import save_checkpoint
from crossatnet.system.errors import UserError
from crossatnet.system.files import write_whole
from crossatnet.training.embedding import training_embeddings, training_opinions
from crossatnet.training.fit import fit
from crossatnet.training.hash_codes import directions_of, itq, learned
from crossatnet.training.opinion import add_opinion
from crossatnet.training.proposals import fit_proposer
from crossatnet.training.ranks import ALONE, Ranks
from crossatnet.training.seen_catalog import paired, seen_catalog
from crossatnet.training.start import NamedFeatures, class_features, mapped, seen_features
from crossatnet.training.whitening import whitening

RUN_SETTINGS = "training.yaml"  # the run's config, in its folder
RUN_FILES = "run"  # the folder of what a killed run goes on from
SHARED = "features"  # in that folder, what ranks that train together map into memory


@dataclass(frozen=True)
class Seen:
    """What training reads: the pictures of seen classes, as features and as fingerprints."""

    catalog: Catalog
    split: Split
    classes: tuple[str, ...]
    held_out: tuple[str, ...]  # of these classes, to choose the epoch by
    features: NamedFeatures
    pictures: dict[str, ClassPictures]
    before: TrainingRecord | None  # of the checkpoint that training goes on from

    @property
    def kept(self) -> tuple[str, ...]:
        """The classes that are not held out, without those of further sets that would give away a held-out one."""
        return tuple(name for name in self.classes if name not in self.held_out and not self._gives_away(name))

    def _gives_away(self, name: str) -> bool:
        return name not in self.split.seen_set and any(are_related(name, other) for other in self.held_out)


@dataclass(frozen=True)
class Trained:
    """A network, the classes and epochs it was trained for, and the mAP@all by which the epochs were chosen."""

    network: CrossATNet
    classes: tuple[str, ...]
    epochs: int
    validation_map: float | None  # none where no classes were held out
    history: list[dict[str, Any]]


def train(config: Config, output: Path, quiet: bool = False, ranks: Ranks = ALONE) -> Path:
    """Train by `config` and write the checkpoint folder `output`; a killed run is resumed by the same call.

    1. Read the pictures of seen classes, and hold `data.validation_classes` of these classes out.
    2. Train on the others, record mAP@all on the held-out ones after every epoch, and take the best epoch. Without
       classes held out, train on all of them and take the last epoch.
    3. With `train.refit` and classes held out, train again from the start on all seen classes, for that many epochs.
    4. Whiten the space, add the backbone's opinion and fit the hash codes, all on the training embeddings. With
       `model.region_size`, learn where things are, on scenes composed from the training photos.
    5. Save the checkpoint, with a record of every picture and class that training had.

    `ranks` call it together. The first one reads the pictures, writes and finishes; all of them train.

    Unseen classes are never read beyond listing their files. Raises `UserError` for data that does not fit the
    split, for a `train.start` that has read unseen classes, and for an `output` that holds another run.
    """
    quiet = quiet or not ranks.is_first
    if ranks.from_first(lambda: _is_finished(config, output)):
        shutil.rmtree(output / RUN_FILES, ignore_errors=True)  # left by a kill between saving and tidying up
        return output
    seen = ranks.from_first(lambda: _begun(config, output, quiet, ranks))  # 1
    trained = select_epoch(config, seen, output / RUN_FILES / "selection", quiet, ranks)  # 2
    if config.train.refit and seen.held_out:
        trained = refit(config, seen, trained, output / RUN_FILES / "refit", quiet, ranks)  # 3
    if ranks.is_first:
        trained = finish(config, seen, trained, quiet)  # 4
        save(config, seen, trained, output)  # 5
        shutil.rmtree(output / RUN_FILES)
    return output


def read_seen(config: Config, quiet: bool) -> Seen:
    """Step 1. Raises `UserError` as `seen_catalog`, `paired` and `record_before` do."""
    catalog, split, classes = seen_catalog(config.data, quiet)
    if config.train.pairs == "instance":
        catalog, classes = paired(catalog, classes)
    before = record_before(config, split)
    _, held_out = split.hold_out(config.data.validation_classes, config.train.seed)
    features = seen_features(config, catalog, quiet)
    return Seen(catalog, split, classes, held_out, features, class_pictures(catalog, quiet), before)


def select_epoch(config: Config, seen: Seen, folder: Path, quiet: bool, ranks: Ranks = ALONE) -> Trained:
    """Step 2: the network of the epoch that finds held-out classes best, the first of equal ones; else of the last."""
    network, history = fit(config, seen.features, seen.kept, seen.held_out, folder, quiet=quiet, ranks=ranks)
    best = max(history, key=lambda record: record.get("validation_map", record["epoch"]))
    return Trained(network, seen.kept, int(best["epoch"]), best.get("validation_map"), [*history])


def refit(config: Config, seen: Seen, selected: Trained, folder: Path, quiet: bool, ranks: Ranks = ALONE) -> Trained:
    """Step 3: a network of all seen classes, trained for as many epochs as were best; with the history of both runs."""
    network, again = fit(config, seen.features, seen.classes, (), folder, selected.epochs, quiet, ranks)
    history: list[dict[str, Any]] = [{"phase": "selection", **record} for record in selected.history]
    history += [{"phase": "refit", **record} for record in again]
    return Trained(network, seen.classes, selected.epochs, selected.validation_map, history)


def finish(config: Config, seen: Seen, trained: Trained, quiet: bool) -> Trained:
    """Step 4: what is fitted to a trained network, which itself stays as it is."""
    sources, network = class_features(seen.features, trained.classes), trained.network
    embeddings, labels = training_embeddings(network, config, sources)
    embeddings = whiten(network, config, embeddings, labels)
    if config.model.opinion:
        roots = training_opinions(network, config, sources)
        network, embeddings = add_opinion(network, config.model.opinion, embeddings, roots, labels)
    fit_hash(network, config, embeddings, labels)
    if network.regions:
        photos = seen.catalog.select({*trained.classes}, "photo").items
        fit_proposer(network, photos, config.train, quiet)
    return replace(trained, network=network)


def save(config: Config, seen: Seen, trained: Trained, output: Path) -> None:
    """Step 5: the checkpoint's folder."""
    provenance = Provenance(
        data=seen.catalog.root.name,
        extra_data=tuple(extra.root.name for extra in config.data.extra),
        layout=config.data.layout,
        split=seen.split.name,
        training_classes=trained.classes,
        validation_classes=seen.held_out,
        seed=config.train.seed,
        epochs=trained.epochs,
        validation_map=trained.validation_map,
    )
    record = training_record(config, seen.pictures, trained.classes, seen.held_out)
    record = record.after(seen.before) if seen.before else record
    save_checkpoint(output, trained.network, config.name, provenance, trained.history, record)


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


def _is_finished(config: Config, output: Path) -> bool:
    """Whether `output` holds this very run, finished.

    Raises `UserError` if the folder belongs to another run or to something else.
    """
    settings = output / RUN_SETTINGS
    if settings.is_file():
        if settings.read_text(encoding="utf-8") != _settings(config):
            raise UserError(f"{output} holds a run with other settings ({settings}); give another folder with -o")
        return is_checkpoint(output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"{output} exists and is not a training run; give another folder with -o")
    return False


def _begun(config: Config, output: Path, quiet: bool, ranks: Ranks) -> Seen:
    """Step 1, and `output` marked as the run's: only now that its data is known to fit, so a config can be mended."""
    seen = read_seen(config, quiet)
    output.mkdir(parents=True, exist_ok=True)
    if not (output / RUN_SETTINGS).is_file():
        write_whole(output / RUN_SETTINGS, _settings(config))
    if ranks.count == 1:
        return seen
    return replace(seen, features=mapped(seen.features, output / RUN_FILES / SHARED))


def _settings(config: Config) -> str:
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)

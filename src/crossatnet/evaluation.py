"""Zero-shot evaluation of a checkpoint: sketches of unseen classes query the photos of unseen classes.

Shapes: `B` batch, `S` side of the input, `D` the shared space.
"""

import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from crossatnet import __version__
from crossatnet.checkpoint import Provenance
from crossatnet.config import ModelConfig
from crossatnet.data.catalog import Catalog, Item, open_item
from crossatnet.data.images import Modality, prepare
from crossatnet.data.prefetch import read_ahead
from crossatnet.data.splits import Split
from crossatnet.errors import UserError
from crossatnet.metrics import RetrievalScores, evaluate
from crossatnet.model.network import MODALITIES, CrossATNet
from crossatnet.progress import track

BATCH = 32
DEFINITIONS = {
    "mAP@all": "mean over queries of plain average precision on the whole gallery, cosine similarity",
    "P@k": "relevant items among the first k, divided by k",
}


class Row(BaseModel):
    """The scores of one model."""

    model_config = ConfigDict(frozen=True)

    model: str
    dimension: int
    metrics: dict[str, float]
    per_class: dict[str, float]


class Results(BaseModel):
    """What was evaluated, how, and the scores; written as JSON."""

    model_config = ConfigDict(frozen=True)

    checkpoint: str
    fingerprint: str
    data: str
    split: str
    direction: str = "sketch->photo"
    setting: str = "zero-shot: queries and gallery of unseen classes only"
    queries: int
    gallery: int
    classes: int
    unusable: list[str]
    duplicates: list[str]
    definitions: dict[str, str] = DEFINITIONS
    rows: list[Row]
    seed: int
    software: str = f"crossatnet {__version__}, torch {torch.__version__}"
    machine: str = ""
    date: str = ""


class Embedded(BaseModel):
    """The embeddings (N, D) of a catalog's items, and the items."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    embeddings: NDArray[np.float32]
    items: tuple[Item, ...]

    @property
    def classes(self) -> list[str]:
        """Class name of every row."""
        return [item.class_name for item in self.items]


def evaluate_zero_shot(
    networks: Mapping[str, CrossATNet],
    provenance: Provenance,
    catalog: Catalog,
    split: Split,
    at: Sequence[int] = (100, 200),
    quiet: bool = False,
) -> Results:
    """Score networks on the unseen classes of a split; the first is the checkpoint, others are compared with it.

    Raises `UserError` if the checkpoint was trained, or its epoch chosen, on a class that the split keeps unseen, or
    if the data lacks sketches or photos of an unseen class.
    """
    refuse_seen(provenance, split)
    catalog.require(split.unseen, "the test")
    sketches, photos = (catalog.select(split.unseen, modality) for modality in MODALITIES)
    rows = []
    for name, network in networks.items():
        query = embed_catalog(network, sketches, "sketch", quiet)
        gallery = embed_catalog(network, photos, "photo", quiet)
        scores = evaluate(query.embeddings, query.classes, gallery.embeddings, gallery.classes, at)
        rows.append(row(name, network, scores))
    checkpoint = next(iter(networks.values()))
    return Results(
        checkpoint=checkpoint.name,
        fingerprint=checkpoint.fingerprint,
        data=catalog.root.name,
        split=split.name,
        queries=len(sketches.items),
        gallery=len(photos.items),
        classes=len(split.unseen),
        unusable=[problem.reason for problem in catalog.problems],
        duplicates=[f"{copy.label} equals {kept.label}" for copy, kept in catalog.duplicates],
        rows=rows,
        seed=provenance.seed,
        machine=machine(),
        date=datetime.now(UTC).date().isoformat(),
    )


def row(name: str, network: CrossATNet, scores: RetrievalScores) -> Row:
    """One line of a results table."""
    return Row(model=name, dimension=network.dimension, metrics=scores.means(), per_class=scores.per_class())


def refuse_seen(provenance: Provenance, split: Split) -> None:
    """Raise `UserError` unless every unseen class of the split is unknown to the checkpoint."""
    known = {*provenance.training_classes, *provenance.validation_classes} & split.unseen_set
    if known:
        shown = ", ".join(sorted(known)[:5]) + (" ..." if len(known) > 5 else "")
        raise UserError(
            f"not a zero-shot test: the checkpoint (split {provenance.split}) was trained on {len(known)} classes that"
            f" {split.name} keeps unseen ({shown}); evaluate it with --split {provenance.split}"
        )


def frozen_baselines(network: CrossATNet) -> dict[str, CrossATNet]:
    """The untouched ImageNet backbone as a retrieval model, raw and with the checkpoint's centring.

    Both are the same network with an identity for a projection, so every other step is shared.
    """
    channels = network.backbone.channels
    config = ModelConfig.model_validate({**network.config.model_dump(), "dimension": channels})
    baselines = {}
    for name in ("frozen backbone, centred", "frozen backbone, raw"):
        baseline = CrossATNet(config).eval()
        baseline.backbone.load_imagenet_weights()
        torch.nn.init.eye_(baseline.projection.weight)
        if name.endswith("centred"):
            for modality in MODALITIES:
                baseline.centre(modality).copy_(network.centre(modality))
        baselines[name] = baseline.to(network.device)
    return baselines


def embed_catalog(network: CrossATNet, catalog: Catalog, modality: Modality, quiet: bool = False) -> Embedded:
    """Embed every item of a checked catalog, in order."""

    def read(batch: Sequence[Item]) -> NDArray[np.uint8]:
        config = network.config
        shaped = [prepare(open_item(item), modality, config.image_size, config.fit_strokes) for item in batch]
        return np.stack(shaped)  # (B, S, S, 3)

    batches = [catalog.items[start : start + BATCH] for start in range(0, len(catalog.items), BATCH)]
    inputs = track(read_ahead(read, batches), f"embedding {modality}s", len(batches), quiet)
    blocks = [network.embed(pixels, modality) for pixels in inputs]
    return Embedded(embeddings=np.concatenate(blocks), items=catalog.items)


def save_results(results: Results, path: Path) -> None:
    """Write results as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(results.model_dump_json(indent=1) + "\n", encoding="utf-8")


def machine() -> str:
    """What the figures were measured on."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    return f"{platform.system()} {platform.machine()}, {device}"

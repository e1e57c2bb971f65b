"""Zero-shot evaluation of a checkpoint: sketches of unseen classes query the photos of unseen classes.

Shapes: `B` batch, `S` side of the input, `D` the shared space.
"""

import platform
from collections.abc import Iterator, Mapping, Sequence
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
from crossatnet.data.images import Modality
from crossatnet.data.prefetch import read_ahead
from crossatnet.data.splits import Split
from crossatnet.errors import UserError
from crossatnet.metrics import RetrievalScores, evaluate, evaluate_codes, evaluate_similarity
from crossatnet.model.backbone import EfficientNetLite0
from crossatnet.model.network import MODALITIES, CrossATNet
from crossatnet.progress import track

BATCH = 32
DEFINITIONS = {
    "mAP@all": "mean over queries of plain average precision on the whole gallery, cosine similarity",
    "P@k": "relevant items among the first k, divided by k",
    "hash codes": "Hamming distance; expectations over random orders within ties",
    "guided": "the first RERANKED hits of the cosine ranking, re-ordered by the mean of cosine and guided cosine",
}
RERANKED = 50  # hits that a guided re-ranking re-orders


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
    guided: bool = False,
) -> Results:
    """Score networks on the unseen classes of a split; the first is the checkpoint, others are compared with it.

    The checkpoint is also scored by its hash codes and, with `guided`, after re-ranking by its sketch-guided attention.
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
        rows.append(row(name, network.dimension, scores))
        if name == next(iter(networks)):
            rows += [
                row(f"{name}, {bits} bits", bits, code_scores(network, query, gallery, bits, at))
                for bits in network.config.code_lengths
            ]
            if network.has_attention and guided:
                rows.append(
                    row(f"{name}, guided", network.dimension, guided_scores(network, query, gallery, at, quiet))
                )
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


def code_scores(
    network: CrossATNet, query: Embedded, gallery: Embedded, bits: int, at: Sequence[int]
) -> RetrievalScores:
    """Scores of the hash codes of this length."""
    codes = [network.hash(part.embeddings, bits) for part in (query, gallery)]
    return evaluate_codes(codes[0], query.classes, codes[1], gallery.classes, at)


def guided_scores(
    network: CrossATNet, query: Embedded, gallery: Embedded, at: Sequence[int], quiet: bool = False
) -> RetrievalScores:
    """Scores after the sketch-guided attention has re-ordered the first `RERANKED` hits of every query."""
    similarity = query.embeddings.astype(np.float64) @ gallery.embeddings.T  # (Q, N)
    sketches, photos = (
        torch.cat([network.map(pixels, modality) for pixels in _pixels(network, part.items, modality, quiet)])
        for modality, part in zip(MODALITIES, (query, gallery), strict=True)
    )  # (Q, C, h, w), (N, C, h, w)
    for sketch, scores in zip(sketches, similarity, strict=True):
        first = np.argsort(-scores, kind="stable")[:RERANKED]
        guided = network.guide_maps(sketch[None], photos[torch.from_numpy(first)]).similarity
        scores[first] = (scores[first] + guided) / 2 + 2  # 2: above all that are not re-ranked
    return evaluate_similarity(similarity, query.classes, gallery.classes, at)


def row(name: str, dimension: int, scores: RetrievalScores) -> Row:
    """One line of a results table."""
    return Row(model=name, dimension=dimension, metrics=scores.means(), per_class=scores.per_class())


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

    Both are the same network with mean pooling and an identity for a projection, so every other step is shared. The
    centred one has the sketches' own statistics too, where the checkpoint has them. Raises `UserError` for another
    backbone than EfficientNet-Lite0: a checkpoint does not hold what it started from.
    """
    if network.config.backbone != EfficientNetLite0.name:
        raise UserError(f"no baseline for {network.name}: the untouched {network.config.backbone} is not at hand")
    plain = {"dimension": network.backbone.channels, "attention_heads": 0, "shared_encoder": True}
    pretrained = EfficientNetLite0().load_imagenet_weights().state_dict()
    baselines = {}
    for name in ("frozen backbone, centred", "frozen backbone, raw"):
        centred = name.endswith("centred")
        statistics = network.config.sketch_statistics if centred else 0.0
        settings = {**network.config.model_dump(), **plain, "sketch_statistics": statistics}
        baseline = CrossATNet(ModelConfig.model_validate(settings)).eval()
        baseline.backbone.load_state_dict(pretrained)
        torch.nn.init.eye_(baseline.projection.weight)
        if centred:
            for modality in MODALITIES:
                baseline.encoder(modality).load_state_dict(
                    dict(network.encoder(modality).named_buffers()), strict=False
                )
                baseline.centre(modality).copy_(network.centre(modality))
        baselines[name] = baseline.to(network.device)
    return baselines


def embed_catalog(network: CrossATNet, catalog: Catalog, modality: Modality, quiet: bool = False) -> Embedded:
    """Embed every item of a checked catalog, in order."""
    blocks = [network.embed(pixels, modality) for pixels in _pixels(network, catalog.items, modality, quiet)]
    return Embedded(embeddings=np.concatenate(blocks), items=catalog.items)


def _pixels(network: CrossATNet, items: Sequence[Item], modality: Modality, quiet: bool) -> Iterator[NDArray[np.uint8]]:
    """Items as the network's input, batch by batch, (B, S, S, 3)."""

    def read(batch: Sequence[Item]) -> NDArray[np.uint8]:
        return np.stack([network.shape(open_item(item), modality) for item in batch])  # (B, S, S, 3)

    batches = [items[start : start + BATCH] for start in range(0, len(items), BATCH)]
    yield from track(read_ahead(read, batches), f"embedding {modality}s", len(batches), quiet)


def save_results(results: Results, path: Path) -> None:
    """Write results as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(results.model_dump_json(indent=1) + "\n", encoding="utf-8")


def machine() -> str:
    """What the figures were measured on."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    return f"{platform.system()} {platform.machine()}, {device}"

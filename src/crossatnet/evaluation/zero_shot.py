"""Zero-shot evaluation of a checkpoint: queries and gallery of unseen classes, with or without seen classes added.

Shapes: `B` batch, `S` side of the input, `D` the shared space, `Q` queries, `N` gallery items.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from crossatnet.data.catalog import Catalog, Item, open_item
from crossatnet.data.images import Modality
from crossatnet.data.layouts import read_catalog
from crossatnet.data.prefetch import read_ahead
from crossatnet.data.splits import Split, load_split
from crossatnet.evaluation.baselines import frozen_baselines
from crossatnet.evaluation.metrics import RetrievalScores, joined
from crossatnet.evaluation.protocol import DIRECTIONS, PLURALS, Task, Trial, check_names, make_trial, refuse_seen
from crossatnet.evaluation.ranking import evaluate_similarity
from crossatnet.evaluation.results import Results, Row, as_row, machine, score
from crossatnet.model.checkpoint import Provenance, locate, read_config
from crossatnet.model.interface import GUIDED, MODALITIES
from crossatnet.model.network import CrossATNet
from crossatnet.model.weights import load_network
from crossatnet.system.memory import keep_freed_memory
from crossatnet.system.progress import track

EMBEDDED_AT_ONCE = 32  # pictures


class Embedded(BaseModel):
    """The embeddings (N, D) of a catalog's items, and the items."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    embeddings: NDArray[np.float32]
    items: tuple[Item, ...]

    @property
    def classes(self) -> list[str]:
        """Class name of every row."""
        return [item.class_name for item in self.items]

    def select(self, items: Sequence[Item]) -> "Embedded":
        """The rows of these items, in their order."""
        position = {item: index for index, item in enumerate(self.items)}
        return Embedded(embeddings=self.embeddings[[position[item] for item in items]], items=tuple(items))


@dataclass(frozen=True)
class ZeroShotTest:
    """A checkpoint's folder and record, a split, and the pictures that the checkpoint is tested on."""

    folder: Path
    provenance: Provenance
    split: Split
    catalog: Catalog


@dataclass(frozen=True)
class Evaluated:
    """The results of a trial, its embeddings, and the checkpoint's scores under `float` and such as `64 bits`."""

    results: Results
    query: Embedded
    gallery: Embedded
    scores: dict[str, RetrievalScores]


def open_test(
    checkpoint: str,
    data: Path | None = None,
    layout: str | None = None,
    split: str | None = None,
    quiet: bool = False,
    *,
    seen_too: bool = False,
    known_too: bool = False,
) -> ZeroShotTest:
    """Read the pictures of a split's unseen classes, with `seen_too` also those of its seen ones.

    Layout and split are the checkpoint's by default. Raises `UserError` as `read_catalog` does. Without `known_too` it
    also raises it as `refuse_seen` does, before any picture is read.
    """
    folder = locate(checkpoint)
    provenance = read_config(folder).provenance
    chosen = load_split(split or provenance.split)
    if not known_too:
        refuse_seen(provenance, chosen)
    catalog = read_catalog(data, layout or provenance.layout, quiet, classes=chosen.unseen_set)
    if seen_too:  # after the unseen classes, so that their items are the same in every setting
        catalog = catalog.joined(read_catalog(data, layout or provenance.layout, quiet, classes=chosen.seen_set))
    return ZeroShotTest(folder, provenance, chosen, catalog)


def load_networks(checkpoint: str, baselines: bool) -> dict[str, CrossATNet]:
    """The network of a checkpoint and, with `baselines`, the frozen backbones, by the names of their rows.

    From now on the process keeps the memory that it frees, as an evaluation allocates the same amount for every batch.
    """
    keep_freed_memory()
    network = load_network(checkpoint)
    return {network.name: network, **(frozen_baselines(network) if baselines else {})}


def evaluate_trials(
    networks: Mapping[str, CrossATNet],
    provenance: Provenance,
    catalog: Catalog,
    split: Split,
    at: Sequence[int] = (100, 200),
    quiet: bool = False,
    guided: bool = False,
    directions: Sequence[str] = ("sketch-to-photo",),
    settings: Sequence[str] = ("zero-shot",),
) -> list[Evaluated]:
    """Score networks in every direction and setting; each picture is embedded once by each network.

    The first network is the checkpoint, others are compared with it. The checkpoint is also scored by its hash codes
    and, with `guided`, after re-ranking by its sketch-guided attention, which only sketch-to-photo has. Returns one
    `Evaluated` for each direction and setting. Raises `UserError` if the checkpoint was trained, or its epoch chosen,
    on a class that the split keeps unseen; if the data lacks sketches or photos of an unseen class; and as
    `check_names` and `make_trial` do.
    """
    check_names(directions, settings)
    refuse_seen(provenance, split)
    catalog.require(split.unseen, "the test")
    trials = [make_trial(catalog, split, direction, setting) for direction in directions for setting in settings]
    (name, checkpoint), *others = networks.items()
    embedded = embed_trials(checkpoint, trials, quiet)
    pairs = [sides(trial, embedded) for trial in trials]
    scored = [
        _score_checkpoint(name, checkpoint, *pair, trial.task, at) for trial, pair in zip(trials, pairs, strict=True)
    ]
    for trial, pair, (rows, _) in zip(trials, pairs, scored, strict=True):
        if guided and checkpoint.has_attention and trial.direction == "sketch-to-photo":
            re_ranked = guided_scores(checkpoint, *pair, at, quiet)
            rows.append(as_row(f"{name}, guided", checkpoint.dimension, re_ranked))
    for other, network in others:
        embedded = embed_trials(network, trials, quiet)
        for trial, (rows, _) in zip(trials, scored, strict=True):
            query, gallery = (part.embeddings for part in sides(trial, embedded))
            rows.append(score(other, network.dimension, query, gallery, trial.task, at)[0])
    return [
        Evaluated(_results(checkpoint, provenance, catalog, split, trial, rows), *pair, scores)
        for trial, pair, (rows, scores) in zip(trials, pairs, scored, strict=True)
    ]


def _score_checkpoint(
    name: str, network: CrossATNet, query: Embedded, gallery: Embedded, task: Task, at: Sequence[int]
) -> tuple[list[Row], dict[str, RetrievalScores]]:
    """The rows of the embeddings and of every code length, and their scores as in `Evaluated.scores`.

    A code length has two rows: by Hamming distance, and with the queries' projections in place of their codes.
    """
    row, scores = score(name, network.dimension, query.embeddings, gallery.embeddings, task, at)
    rows, by_length = [row], {"float": scores}
    for bits in network.config.code_lengths:
        asking, searched = (network.hash(part.embeddings, bits) for part in (query, gallery))
        row, by_length[f"{bits} bits"] = score(f"{name}, {bits} bits", bits, asking, searched, task, at)
        signs = np.where(np.unpackbits(searched, axis=1), np.float32(1), np.float32(-1))  # (N, R)
        projected = network.projections(query.embeddings, bits)  # (Q, R)
        asymmetric, _ = score(f"{name}, {bits} bits, asymmetric", bits, projected, signs, task, at)
        rows += [row, asymmetric.model_copy(update={"gallery_bytes": searched.nbytes})]
    return rows, by_length


def _results(
    network: CrossATNet, provenance: Provenance, catalog: Catalog, split: Split, trial: Trial, rows: list[Row]
) -> Results:
    return Results(
        checkpoint=network.name,
        fingerprint=network.fingerprint,
        data=catalog.root.name,
        split=split.name,
        direction=trial.direction.replace("-to-", "->"),
        setting=trial.setting,
        queries=len(trial.query),
        gallery=len(trial.gallery),
        classes=len({item.class_name for item in trial.query}),
        unusable=[problem.reason for problem in catalog.problems],
        duplicates=[f"{copy.label} equals {kept.label}" for copy, kept in catalog.duplicates],
        rows=rows,
        seed=provenance.seed,
        machine=machine(),
        date=datetime.now(UTC).date().isoformat(),
    )


def sides(trial: Trial, embedded: Mapping[Modality, Embedded]) -> tuple[Embedded, Embedded]:
    """The embeddings of a trial's queries and of its gallery."""
    asking, searched = DIRECTIONS[trial.direction]
    return embedded[asking].select(trial.query), embedded[searched].select(trial.gallery)


def embed_trials(network: CrossATNet, trials: Sequence[Trial], quiet: bool = False) -> dict[Modality, Embedded]:
    """Every picture that any trial needs, embedded once."""
    needed = dict.fromkeys(item for trial in trials for item in (*trial.query, *trial.gallery))
    return {
        modality: embed_items(network, tuple(item for item in needed if item.modality == modality), modality, quiet)
        for modality in sorted({item.modality for item in needed}, key=MODALITIES.index)
    }


def guided_scores(
    network: CrossATNet, query: Embedded, gallery: Embedded, at: Sequence[int], quiet: bool = False
) -> RetrievalScores:
    """Scores after the sketch-guided attention has re-ordered the first `GUIDED` hits of every query."""
    everything = [np.arange(len(gallery.items))] * len(query.items)
    parts = [
        evaluate_similarity(np.stack(similarity), query.classes[rows], gallery.classes, at)
        for rows, similarity in guided_similarity(network, query, gallery, everything, quiet)
    ]
    return joined(parts)


def guided_similarity(
    network: CrossATNet,
    query: Embedded,
    gallery: Embedded,
    searched: Sequence[NDArray[np.int64]],
    quiet: bool = False,
) -> Iterator[tuple[slice, list[NDArray[np.float64]]]]:
    """Similarities of queries to the gallery rows that each searches, the first `GUIDED` re-ordered by the attention.

    The maps of all photos are kept in memory; the maps and similarities of sketches only for `EMBEDDED_AT_ONCE` queries
    at a time, which are what is yielded together.
    """
    photos = torch.cat([network.map(pixels, "photo") for pixels in _pixels(network, gallery.items, "photo", quiet)])
    columns = gallery.embeddings.T.astype(np.float64)  # (N, C, h, w) photos, (D, N) columns
    for start, pixels in enumerate(_pixels(network, query.items, "sketch", quiet)):
        rows = slice(start * EMBEDDED_AT_ONCE, start * EMBEDDED_AT_ONCE + len(pixels))
        found = []
        for row, sketch in zip(range(rows.start, rows.stop), network.map(pixels, "sketch"), strict=True):
            scores = query.embeddings[row] @ columns[:, searched[row]]  # (n,)
            first = np.argsort(-scores, kind="stable")[:GUIDED]
            chosen = torch.from_numpy(searched[row][first])
            guided = network.guide_maps(sketch[None], photos[chosen]).similarity
            scores[first] = (scores[first] + guided) / 2 + 2  # 2: above all hits that are not re-ranked
            found.append(scores)
        yield rows, found


def embed_catalog(network: CrossATNet, catalog: Catalog, modality: Modality, quiet: bool = False) -> Embedded:
    """Embed every item of a checked catalog, in order."""
    return embed_items(network, catalog.items, modality, quiet)


def embed_items(network: CrossATNet, items: tuple[Item, ...], modality: Modality, quiet: bool = False) -> Embedded:
    """Embed checked items, in order."""
    blocks = [network.embed(pixels, modality) for pixels in _pixels(network, items, modality, quiet)]
    return Embedded(embeddings=np.concatenate(blocks), items=items)


def _pixels(network: CrossATNet, items: Sequence[Item], modality: Modality, quiet: bool) -> Iterator[NDArray[np.uint8]]:
    """Items as the network's input, batch by batch, (B, S, S, 3)."""

    def read(batch: Sequence[Item]) -> NDArray[np.uint8]:
        return np.stack([network.shape(open_item(item), modality) for item in batch])  # (B, S, S, 3)

    batches = [items[start : start + EMBEDDED_AT_ONCE] for start in range(0, len(items), EMBEDDED_AT_ONCE)]
    yield from track(read_ahead(read, batches), f"embedding {PLURALS[modality]}", len(batches), quiet)

"""Fine-grained zero-shot evaluation of a checkpoint: sketches of unseen classes seek the photo they were drawn of."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossatnet.data.catalog import Catalog, Item
from crossatnet.data.splits import Split
from crossatnet.evaluation.instances import InstanceScores, InstanceTask, Judge, score_instances
from crossatnet.evaluation.metrics import RetrievalScores
from crossatnet.evaluation.protocol import ZERO_SHOT, Trial, make_trial, refuse_seen
from crossatnet.evaluation.ranking import evaluate_similarity
from crossatnet.evaluation.results import (
    INSTANCE_DEFINITIONS,
    Results,
    as_instance_row,
    machine,
    score_instances_of,
)
from crossatnet.evaluation.zero_shot import Embedded, embed_trials, guided_similarity, sides
from crossatnet.model.checkpoint import Provenance
from crossatnet.model.network import CrossATNet
from crossatnet.system.errors import UserError


def evaluate_instance_level(
    networks: Mapping[str, CrossATNet],
    provenance: Provenance,
    catalog: Catalog,
    split: Split,
    quiet: bool = False,
    guided: bool = False,
) -> Results:
    """Score networks by whether each sketch of an unseen class finds its own photo, as `instances` defines it.

    The first network is the checkpoint, which is also scored by its hash codes and, with `guided`, after re-ranking by
    its sketch-guided attention. Sketches whose photo the catalog lacks ask nothing, but all photos are searched. Raises
    `UserError` if the checkpoint was trained on an unseen class, and where no sketch says of which photo it was drawn.
    """
    refuse_seen(provenance, split)
    catalog.require(split.unseen, "the test")
    trial = drawn_of_photos(make_trial(catalog, split, "sketch-to-photo", "zero-shot"))
    lists = [list(column) for part in (trial.query, trial.gallery) for column in zip(*map(_named, part), strict=True)]
    rows = []
    for position, (name, network) in enumerate(networks.items()):
        query, gallery = sides(trial, embed_trials(network, [trial], quiet))
        scored: list[tuple[str, int, NDArray[Any], NDArray[Any]]] = [
            (name, network.dimension, query.embeddings, gallery.embeddings)
        ]
        if position == 0:
            for bits in network.config.code_lengths:
                asked, searched = (network.hash(part.embeddings, bits) for part in (query, gallery))
                scored.append((f"{name}, {bits} bits", bits, asked, searched))
        rows += [score_instances_of(*one, lists)[0] for one in scored]
        if position == 0 and guided and network.has_attention:
            scores = guided_instance_scores(network, query, gallery, InstanceTask.of(*lists), quiet)
            rows.append(as_instance_row(f"{name}, guided", network.dimension, scores))
    checkpoint = next(iter(networks.values()))
    return Results(
        checkpoint=checkpoint.name,
        fingerprint=checkpoint.fingerprint,
        data=catalog.root.name,
        split=split.name,
        setting=ZERO_SHOT,
        level="instance",
        queries=len(trial.query),
        gallery=len(trial.gallery),
        classes=len({item.class_name for item in trial.query}),
        unusable=[problem.reason for problem in catalog.problems],
        duplicates=[f"{copy.label} equals {kept.label}" for copy, kept in catalog.duplicates],
        definitions=INSTANCE_DEFINITIONS,
        rows=rows,
        seed=provenance.seed,
        machine=machine(),
        date=datetime.now(UTC).date().isoformat(),
    )


def drawn_of_photos(trial: Trial) -> Trial:
    """The trial with those queries alone whose own photo is in the gallery; `UserError` if there is none."""
    photos = {(item.class_name, item.instance) for item in trial.gallery if item.instance is not None}
    query = tuple(item for item in trial.query if (item.class_name, item.instance) in photos)
    if not query:
        raise UserError(
            "no sketch says of which photo it was drawn; level instance is for data such as Sketchy, where sketch"
            " nX_N-K.png was drawn of photo nX_N.jpg"
        )
    return Trial(trial.direction, trial.setting, query, trial.gallery, trial.copies)


def guided_instance_scores(
    network: CrossATNet, query: Embedded, gallery: Embedded, task: InstanceTask, quiet: bool = False
) -> InstanceScores:
    """Fine-grained scores after the sketch-guided attention has re-ordered photos, as `INSTANCE_DEFINITIONS` say."""
    whole = [np.arange(len(gallery.items))] * len(query.items)
    of_class = {name: np.flatnonzero(task.gallery_class == name) for name in np.unique(task.gallery_class)}
    inside = [of_class[name] for name in task.query_class]

    def judge(searched: Sequence[NDArray[np.int64]]) -> Judge:
        parts = guided_similarity(network, query, gallery, searched, quiet)
        similarity = [one for _, found in parts for one in found]

        def judged(
            rows: NDArray[np.int64], columns: NDArray[np.int64], asked: NDArray[np.int64], things: NDArray[np.int64]
        ) -> RetrievalScores:
            return evaluate_similarity(np.stack([similarity[row] for row in rows]), asked, things, (1, 5, 10))

        return judged

    return score_instances(task, judge(inside), judge(whole))


def _named(item: Item) -> tuple[str, str]:
    """Class and instance of a picture; one that pictures nothing in particular is an instance of its own."""
    return item.class_name, item.instance if item.instance is not None else item.label

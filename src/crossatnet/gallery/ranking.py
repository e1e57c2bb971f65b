"""What a gallery's backend finds, made to hits: ranked by embeddings or conditions, and judged.

Letters: `N` items, `Q` queries, `D` embedding dimension, `B` bytes of a packed code.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from crossatnet.gallery.backend import NO_ITEM, Backend, Filter, StoredPicture
from crossatnet.gallery.duplicates import Found
from crossatnet.gallery.embedder import Embedder, penalty_of
from crossatnet.gallery.queries import checked_embeddings
from crossatnet.gallery.results import Hit, Ranking
from crossatnet.gallery.shortlist import unit_rows
from crossatnet.model.confidence import OTHERS, Confidence
from crossatnet.model.regions import Box
from crossatnet.system.errors import UserError

Combine = Literal["average", "union"]


def nearest(
    store: Backend, model: Embedder, embeddings: NDArray[np.float32], k: int, filter: Filter, ranking: Ranking
) -> tuple[list[list[Hit]], dict[int, StoredPicture]]:
    """The `k` nearest pictures of each query (Q, D), and what is stored of them, by id."""
    queries = unit_rows(checked_embeddings(embeddings, store))  # (Q, D)
    if not len(queries):
        return [], {}
    codes = model.hash(queries)  # (Q, B)
    penalty = penalty_of(model)
    if ranking == "code":
        ids, scores, boxes = store.nearest_codes(codes, k, filter, penalty)
    else:
        ids, scores, boxes = store.nearest(queries, codes, k, filter, penalty)
    pictures = store.pictures(np.unique(ids[ids != NO_ITEM]).tolist())
    framed: list[list[Box | None]] = (
        [[None] * ids.shape[1]] * len(ids)
        if boxes is None
        else [[_box_of(each) for each in row] for row in boxes.tolist()]
    )
    rows = zip(ids.tolist(), scores.tolist(), framed, strict=True)
    return [_hits_of(keys, row, pictures, around) for keys, row, around in rows], pictures


def by_conditions(store: Backend, k: int, filter: Filter) -> Found:
    """The first `k` hits of the conditions alone, and what is stored of their pictures, by id."""
    ids, scores = store.by_words(filter, k)
    pictures = store.pictures(ids)
    return _hits_of(ids, scores, pictures, [None] * len(ids)), pictures


def combined(
    store: Backend,
    model: Embedder,
    embeddings: NDArray[np.float32],
    k: int,
    filter: Filter,
    ranking: Ranking,
    combine: Combine,
) -> Found:
    """The `k` best hits of several queries (Q, D) together, and what is stored of their pictures, by id."""
    if combine == "average":
        embeddings = embeddings.mean(axis=0, keepdims=True)  # (1, D)
    elif combine != "union":
        raise UserError(f"unknown way to combine queries '{combine}': give 'average' or 'union'")
    found, pictures = nearest(store, model, embeddings, k, filter, ranking)
    if len(found) == 1:
        return found[0], pictures
    return _best_of(found)[:k], pictures


def judged(
    store: Backend, model: Embedder, hits: list[Hit], embeddings: NDArray[np.float32], combine: Combine
) -> list[Hit]:
    """Hits with their chance, if the model has a fit and one drawing, or several of one thing, were asked."""
    confidence: Confidence | None = getattr(model, "confidence", None)  # which a model of one's own may lack
    if confidence is None or not hits or (combine == "union" and len(embeddings) > 1):
        return hits
    others = store.sample(OTHERS)  # (N, D)
    query = unit_rows(embeddings.mean(axis=0, keepdims=True))[0]  # (D,)
    chances = confidence.chances(np.array([hit.score for hit in hits]), others @ query)
    return [
        replace(hit, chance=chance, sure=chance >= confidence.sure)
        for hit, chance in zip(hits, chances.tolist(), strict=True)
    ]


def _hits_of(
    ids: Sequence[int],
    scores: Sequence[float],
    pictures: Mapping[int, StoredPicture],
    boxes: Sequence[Box | None],
) -> list[Hit]:
    """Found ids as hits, without those that another process has removed since."""
    known = (
        (key, score, box, pictures[key].facts)
        for key, score, box in zip(ids, scores, boxes, strict=False)  # there may be fewer ids than were asked for
        if key in pictures
    )
    return [Hit(key, facts.path, score, facts.class_name, box=box) for key, score, box, facts in known]


def _box_of(row: Sequence[float]) -> Box | None:
    """The box in a row of `Nearest.boxes`; None for the whole picture."""
    left, top, right, bottom = (round(value, 4) for value in row)
    return None if math.isnan(left) else (left, top, right, bottom)


def _best_of(found: Sequence[Sequence[Hit]]) -> list[Hit]:
    """The hits of several queries, each picture once with its best score, best first."""
    best: dict[int, Hit] = {}
    for hit in (hit for hits in found for hit in hits):
        if hit.id not in best or hit.score > best[hit.id].score:
            best[hit.id] = hit
    return sorted(best.values(), key=lambda hit: (-hit.score, hit.id))

"""What may be asked of a gallery, made ready; and what was found, made to hits.

Letters: `Q` queries, `D` embedding dimension, `S` side of the network's input.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crossatnet.data.images import Picture
from crossatnet.data.strokes import Drawing, named_drawing, render
from crossatnet.gallery.backend import Backend, StoredPicture
from crossatnet.gallery.results import Box, Hit
from crossatnet.system.errors import UserError


@dataclass(frozen=True)
class Prepared:
    """A query that is read already: its pixels (S, S, 3) as the network takes them, see `Gallery.prepare`."""

    pixels: NDArray[np.uint8]


Query = Picture | Drawing | Prepared


def as_picture(query: Picture | Drawing) -> Picture:
    """A query as a picture: strokes, or a name that means the Nth drawing of a file of strokes, are drawn."""
    named = named_drawing(str(query)) if isinstance(query, str | Path) else None
    if named is not None:
        return render(named)
    return render(query) if isinstance(query, tuple) else query


def checked_embeddings(embeddings: NDArray[np.float32], store: Backend) -> NDArray[np.float32]:
    """Embeddings of queries (Q, D). Raises `UserError` for another shape, and for numbers that are not finite."""
    dimension = store.made_with.dimension
    embeddings = np.asarray(embeddings, dtype=np.float32)
    if embeddings.ndim != 2 or embeddings.shape[1] != dimension:
        raise UserError(
            f"{store.name}: query embeddings must have shape (queries, {dimension}), not {embeddings.shape}"
        )
    if not np.isfinite(embeddings).all():
        raise UserError(f"{store.name}: query embeddings must be finite numbers, some are NaN or infinite")
    return embeddings


def check_page(k: int, offset: int = 0) -> None:
    """Raise `UserError` unless `k` hits after the first `offset` can be asked for."""
    if k < 1:
        raise UserError(f"k is {k}; ask for 1 hit or more")
    if offset < 0:
        raise UserError(f"offset is {offset}; skip 0 hits or more")


def hits_of(
    ids: Sequence[int],
    scores: Sequence[float],
    pictures: Mapping[int, StoredPicture],
    boxes: NDArray[np.float32] | None = None,
) -> list[Hit]:
    """Found ids as hits, without those that another process has removed since; `boxes` (K, 4) as `Nearest` has them."""
    framed = [None] * len(ids) if boxes is None else [box_of(row) for row in boxes.tolist()]
    known = (found for found in zip(ids, scores, framed, strict=True) if found[0] in pictures)
    return [
        Hit(key, (facts := pictures[key].facts).path, score, facts.class_name, box=box) for key, score, box in known
    ]


def box_of(row: Sequence[float]) -> Box | None:
    """Four numbers as a box; None for NaN."""
    left, top, right, bottom = row
    return None if math.isnan(left) else (round(left, 4), round(top, 4), round(right, 4), round(bottom, 4))


def best_of(found: Sequence[Sequence[Hit]]) -> list[Hit]:
    """The hits of several queries, each picture once with its best score, best first."""
    best: dict[int, Hit] = {}
    for hit in (hit for hits in found for hit in hits):
        if hit.id not in best or hit.score > best[hit.id].score:
            best[hit.id] = hit
    return sorted(best.values(), key=lambda hit: (-hit.score, hit.id))

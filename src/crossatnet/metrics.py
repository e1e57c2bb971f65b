"""Retrieval metrics, exact, computed for a block of queries at a time.

Shapes: `Q` queries, `N` gallery items, `D` embedding. Let R be the number of relevant gallery items of a query.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crossatnet.errors import UserError

BLOCK = 512  # queries scored at once: memory is about 45 bytes x BLOCK x N


@dataclass(frozen=True)
class RetrievalScores:
    """Scores of every query, in the queries' order."""

    average_precision: NDArray[np.float64]  # (Q,)
    precision_at: dict[int, NDArray[np.float64]]  # k -> (Q,)
    query_class: NDArray[np.generic]  # (Q,)
    gallery_size: int

    def means(self) -> dict[str, float]:
        """Means over all queries: `mAP@all`, `P@k`."""
        named = {f"P@{k}": float(values.mean()) for k, values in self.precision_at.items()}
        return {"mAP@all": float(self.average_precision.mean()), **named}

    def per_class(self) -> dict[str, float]:
        """mAP@all of the queries of each class."""
        return {
            str(name): float(self.average_precision[self.query_class == name].mean())
            for name in np.unique(self.query_class)
        }


def evaluate(
    query: ArrayLike,
    query_class: Sequence[object] | NDArray[np.generic],
    gallery: ArrayLike,
    gallery_class: Sequence[object] | NDArray[np.generic],
    at: Sequence[int] = (100,),
) -> RetrievalScores:
    """Rank the gallery for every query by cosine similarity and score the rankings.

    Args: query (Q, D) and gallery (N, D) embeddings of any model, with one class each; `at`, the k of P@k.
    An item is relevant if its class equals the query's. Similarities are summed in float64 and compared to seven
    decimals, so that equal embeddings tie wherever they stand; equal similarities keep the gallery's order.
    Raises `UserError` for shapes that do not fit, values that are not finite, or a query class without a gallery item.
    """
    query, gallery = _unit_rows(query, "query"), _unit_rows(gallery, "gallery")
    query_class, gallery_class = np.asarray(query_class), np.asarray(gallery_class)
    if query.shape[1] != gallery.shape[1]:
        raise UserError(f"query has {query.shape[1]} dimensions, gallery {gallery.shape[1]}")
    for name, rows, classes in (("query", query, query_class), ("gallery", gallery, gallery_class)):
        if classes.shape != (len(rows),):
            raise UserError(f"{name} has {len(rows)} embeddings but classes of shape {classes.shape}")
    number = {name: index for index, name in enumerate(dict.fromkeys(gallery_class.tolist()))}
    lacking = [name for name in query_class.tolist() if name not in number]
    if lacking:
        raise UserError(f"the gallery has no item of class {lacking[0]!r}, which is queried; leave its queries out")
    query_number, gallery_number = (
        np.array([number[name] for name in classes.tolist()], dtype=np.int32)
        for classes in (query_class, gallery_class)
    )
    precisions: list[NDArray[np.float64]] = []
    at_k: dict[int, list[NDArray[np.float64]]] = {k: [] for k in at}
    for start in range(0, len(query), BLOCK):
        similarity = np.round(query[start : start + BLOCK] @ gallery.T, 7)  # (BLOCK, N)
        order = np.argsort(-similarity, axis=1, kind="stable")
        relevant = gallery_number[order] == query_number[start : start + BLOCK, None]  # (BLOCK, N), best first
        precisions.append(average_precision(relevant))
        for k in at:
            at_k[k].append(precision_at(relevant, k))
    return RetrievalScores(
        np.concatenate(precisions), {k: np.concatenate(rows) for k, rows in at_k.items()}, query_class, len(gallery)
    )


def average_precision(relevant: NDArray[np.bool_]) -> NDArray[np.float64]:
    r"""Plain average precision of rankings, given as relevance from the best rank on, (Q, N).

    $AP = \frac{1}{R} \sum_{i: r_i = 1} \frac{1}{i} \sum_{j \le i} r_j$, the mean of precision at each relevant rank, as
    scikit-learn computes it. Returns (Q,); NaN for a ranking without a relevant item.
    """
    hits = np.cumsum(relevant, axis=1)  # (Q, N)
    precision = np.where(relevant, hits / np.arange(1, relevant.shape[1] + 1), 0.0)
    with np.errstate(invalid="ignore"):
        return precision.sum(1) / relevant.sum(1)  # type: ignore[no-any-return]


def precision_at(relevant: NDArray[np.bool_], k: int) -> NDArray[np.float64]:
    r"""P@k of rankings (Q, N): relevant items among the first k, divided by k even if the gallery is shorter. (Q,)"""
    if k < 1:
        raise UserError(f"P@k needs k of at least 1, not {k}")
    return relevant[:, :k].sum(1) / k  # type: ignore[no-any-return]


def _unit_rows(rows: ArrayLike, name: str) -> NDArray[np.float64]:
    rows = np.asarray(rows, dtype=np.float64)
    if rows.ndim != 2 or not len(rows):
        raise UserError(f"{name} must be embeddings of shape (rows, dimensions), not {rows.shape}")
    bad = ~np.isfinite(rows).all(1)
    if bad.any():
        raise UserError(f"{name} row {int(bad.argmax())} has values that are not finite")
    unit: NDArray[np.float64] = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return unit

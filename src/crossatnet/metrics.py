"""Retrieval metrics, exact, computed for a block of queries at a time.

Shapes: `Q` queries, `N` gallery items, `D` embedding, `B` bytes of a packed code, `T` Hamming distances. Let R be the
number of relevant gallery items of a query.
"""

from collections.abc import Iterable, Sequence
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
    if query.shape[1] != gallery.shape[1]:
        raise UserError(f"query has {query.shape[1]} dimensions, gallery {gallery.shape[1]}")
    similarities = (np.round(query[rows] @ gallery.T, 7) for rows in _blocks(len(query)))
    return _score(similarities, len(query), query_class, len(gallery), gallery_class, at)


def evaluate_similarity(
    similarity: ArrayLike,
    query_class: Sequence[object] | NDArray[np.generic],
    gallery_class: Sequence[object] | NDArray[np.generic],
    at: Sequence[int] = (100,),
) -> RetrievalScores:
    """Score the rankings that similarities (Q, N) of any origin give; otherwise as `evaluate`."""
    similarity = np.asarray(similarity, dtype=np.float64)
    if similarity.ndim != 2 or not similarity.size or not np.isfinite(similarity).all():
        raise UserError(f"similarity must be finite numbers of shape (queries, items), not {similarity.shape}")
    blocks = (np.round(similarity[rows], 7) for rows in _blocks(len(similarity)))
    return _score(blocks, len(similarity), query_class, similarity.shape[1], gallery_class, at)


def evaluate_codes(
    query: NDArray[np.uint8],
    query_class: Sequence[object] | NDArray[np.generic],
    gallery: NDArray[np.uint8],
    gallery_class: Sequence[object] | NDArray[np.generic],
    at: Sequence[int] = (100,),
) -> RetrievalScores:
    """Score packed hash codes, (Q, B) and (N, B), by Hamming distance.

    Distances tie massively, so every value is its expectation over random orders within a tie (McSherry and Najork
    2008), which favours no implementation's sorting. Raises `UserError` as `evaluate` does.
    """
    for name, codes in (("query", query), ("gallery", gallery)):
        if codes.ndim != 2 or codes.dtype != np.uint8 or not codes.size:
            raise UserError(
                f"{name} must be packed codes, uint8 of shape (rows, bytes), not {codes.dtype}{codes.shape}"
            )
    if query.shape[1] != gallery.shape[1]:
        raise UserError(f"query has codes of {8 * query.shape[1]} bits, gallery of {8 * gallery.shape[1]}")
    query_class, gallery_class = np.asarray(query_class), np.asarray(gallery_class)
    query_number, gallery_number = _numbers(len(query), query_class, len(gallery), gallery_class)
    bits = 8 * query.shape[1]
    items, hits = np.zeros((2, len(query), bits + 1), dtype=np.int64)  # at each distance: all, and the relevant ones
    for row in range(len(query)):
        distance = np.bitwise_count(query[row] ^ gallery).sum(1, dtype=np.int64)  # (N,)
        items[row] = np.bincount(distance, minlength=bits + 1)
        hits[row] = np.bincount(distance[gallery_number == query_number[row]], minlength=bits + 1)
    return RetrievalScores(
        expected_average_precision(items, hits),
        {k: expected_precision_at(items, hits, k) for k in at},
        query_class,
        len(gallery),
    )


def expected_average_precision(items: NDArray[np.int64], hits: NDArray[np.int64]) -> NDArray[np.float64]:
    r"""Expectation of average precision over random orders within ties: (Q, T), (Q, T) -> (Q,).

    At distance t there are $n_t$ `items`, $r_t$ of them relevant `hits`, after $N_t$ nearer items with $R_t$ hits. The
    i-th of the tie is relevant with probability $r_t / n_t$, and then $(i - 1) (r_t - 1) / (n_t - 1)$ hits of the tie
    are expected before it:

    $AP = \frac{1}{R} \sum_t \frac{r_t}{n_t} \sum_{i=1}^{n_t}
    \frac{R_t + 1 + (i - 1) \frac{r_t - 1}{n_t - 1}}{N_t + i}$ (McSherry and Najork 2008)

    The inner sums are differences of harmonic numbers.
    """
    items_before, hits_before = (np.cumsum(counts, axis=1) - counts for counts in (items, hits))
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, items.sum(1).max() + 1))])
    reciprocals = harmonic[items_before + items] - harmonic[items_before]  # sum of 1 / (N + i)
    steps = items - (items_before + 1) * reciprocals  # sum of (i - 1) / (N + i)
    rise = (hits - 1) / np.maximum(items - 1, 1)
    share = hits / np.maximum(items, 1)
    return (share * ((hits_before + 1) * reciprocals + rise * steps)).sum(1) / hits.sum(1)  # type: ignore[no-any-return]


def expected_precision_at(items: NDArray[np.int64], hits: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """Expectation of P@k over random orders within ties: (Q, T), (Q, T) -> (Q,)."""
    if k < 1:
        raise UserError(f"P@k needs k of at least 1, not {k}")
    before = np.cumsum(items, axis=1) - items
    share = np.clip((k - before) / np.maximum(items, 1), 0, 1)  # of each tie, within the first k
    return (share * hits).sum(1) / k  # type: ignore[no-any-return]


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


def _score(
    similarities: Iterable[NDArray[np.float64]],
    queries: int,
    query_class: Sequence[object] | NDArray[np.generic],
    items: int,
    gallery_class: Sequence[object] | NDArray[np.generic],
    at: Sequence[int],
) -> RetrievalScores:
    """Score blocks (BLOCK, N) of similarities, one after another."""
    query_class, gallery_class = np.asarray(query_class), np.asarray(gallery_class)
    query_number, gallery_number = _numbers(queries, query_class, items, gallery_class)
    precisions: list[NDArray[np.float64]] = []
    at_k: dict[int, list[NDArray[np.float64]]] = {k: [] for k in at}
    for rows, similarity in zip(_blocks(queries), similarities, strict=True):
        order = np.argsort(-similarity, axis=1, kind="stable")
        relevant = gallery_number[order] == query_number[rows, None]  # (BLOCK, N), best first
        precisions.append(average_precision(relevant))
        for k in at:
            at_k[k].append(precision_at(relevant, k))
    return RetrievalScores(
        np.concatenate(precisions), {k: np.concatenate(rows) for k, rows in at_k.items()}, query_class, items
    )


def _blocks(queries: int) -> list[slice]:
    return [slice(start, start + BLOCK) for start in range(0, queries, BLOCK)]


def _numbers(
    queries: int, query_class: NDArray[np.generic], items: int, gallery_class: NDArray[np.generic]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Both lists of classes as numbers; every query's class must be in the gallery."""
    for name, rows, classes in (("query", queries, query_class), ("gallery", items, gallery_class)):
        if classes.shape != (rows,):
            raise UserError(f"{name} has {rows} embeddings but classes of shape {classes.shape}")
    number = {name: index for index, name in enumerate(dict.fromkeys(gallery_class.tolist()))}
    lacking = [name for name in query_class.tolist() if name not in number]
    if lacking:
        raise UserError(f"the gallery has no item of class {lacking[0]!r}, which is queried; leave its queries out")
    query_number, gallery_number = (
        np.array([number[name] for name in classes.tolist()], dtype=np.int32)
        for classes in (query_class, gallery_class)
    )
    return query_number, gallery_number


def _unit_rows(rows: ArrayLike, name: str) -> NDArray[np.float64]:
    rows = np.asarray(rows, dtype=np.float64)
    if rows.ndim != 2 or not len(rows):
        raise UserError(f"{name} must be embeddings of shape (rows, dimensions), not {rows.shape}")
    bad = ~np.isfinite(rows).all(1)
    if bad.any():
        raise UserError(f"{name} row {int(bad.argmax())} has values that are not finite")
    unit: NDArray[np.float64] = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return unit

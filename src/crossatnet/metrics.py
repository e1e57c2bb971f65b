r"""Retrieval metrics, exact, computed for a block of queries at a time.

Shapes: `Q` queries, `N` gallery items, `D` embedding, `B` bytes of a packed code, `T` Hamming distances, `P` points of
a curve. Let R be the number of relevant gallery items of a query, and `ranks` (Q, R) the ranks, counted from 1, at
which they stand, ascending. Queries with fewer than others are padded with infinity, where precision is 0.
All that is defined here depends on those ranks alone, so nothing but them leaves a block.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crossatnet.errors import UserError

MEMORY = 2**29  # bytes that the blocks of all workers take together
WORKERS = min(4, os.cpu_count() or 1)  # NumPy sorts and counts on one core, without holding the interpreter
LEVELS = 101  # of recall, from 0 to 1
DECIMALS = 7  # to which similarities are compared
PAIR_BYTES = 64  # that the ranks and scores of a query and an item may need, if every item is relevant

Classes = Sequence[object] | NDArray[np.generic]
Values = dict[str, NDArray[np.float64]]
Part = TypeVar("Part")


@dataclass(frozen=True)
class RetrievalScores:
    """Scores of every query, in the queries' order."""

    values: Values  # (Q,) of each definition that `all_means` names
    precision_recall: NDArray[np.float64]  # (Q, LEVELS), `interpolated_precision`
    query_class: NDArray[np.generic]  # (Q,)
    gallery_size: int
    at: tuple[int, ...]

    @property
    def average_precision(self) -> NDArray[np.float64]:
        """Plain average precision on the whole gallery, (Q,)."""
        return self.values["mAP@all"]

    @property
    def precision_at(self) -> dict[int, NDArray[np.float64]]:
        """P@k, divided by k: k -> (Q,)."""
        return {k: self.values[f"P@{k}"] for k in self.at}

    def means(self) -> dict[str, float]:
        """Means over all queries: `mAP@all`, `P@k`."""
        means = self.all_means()
        return {name: means[name] for name in ("mAP@all", *(f"P@{k}" for k in self.at))}

    def all_means(self) -> dict[str, float]:
        """Means over all queries of every definition; what is in brackets tells those of one name apart.

        `mAP@all`, `P@k`; `mAP@k (hits)`, `mAP@k (min(k, R))`, `mAP@k (R)` (see `average_precision_at`);
        `P@k (min(k, R))`; `R-precision`. Of embeddings also `mAP@all (VOC)`. Hash codes have expectations within ties
        instead, hence neither `(VOC)` nor `(hits)`, and `mAP@all (optimistic)` and `mAP@all (pessimistic)`.
        """
        return {name: float(values.mean()) for name, values in self.values.items()}

    def per_class(self) -> dict[str, float]:
        """mAP@all of the queries of each class."""
        return {
            str(name): float(self.average_precision[self.query_class == name].mean())
            for name in np.unique(self.query_class)
        }


def evaluate(
    query: ArrayLike,
    query_class: Classes,
    gallery: ArrayLike,
    gallery_class: Classes,
    at: Sequence[int] = (100,),
    *,
    distance: Literal["cosine", "euclidean"] = "cosine",
    same: NDArray[np.int64] | None = None,
    memory: int = MEMORY,
) -> RetrievalScores:
    """Rank the gallery for every query by cosine similarity or Euclidean distance and score the rankings.

    Args: query (Q, D) and gallery (N, D) embeddings of any model, with one class each; `at`, the k of P@k and mAP@k;
    `same` (Q,), for each query the gallery row that is the query itself, which is then left out, or -1; `memory`, the
    bytes that may be used besides the embeddings: fewer queries are ranked at once, but at least one by each worker.
    An item is relevant if its class equals the query's. Similarities are summed in float64 and compared to seven
    decimals, so that equal embeddings tie wherever they stand; equal similarities keep the gallery's order. Distances
    are compared likewise, in units of the largest distance of an embedding from the gallery's mean.
    Raises `UserError` for shapes that do not fit, values that are not finite, or a query without a relevant item.
    """
    query, gallery = _embeddings(query, "query"), _embeddings(gallery, "gallery")
    if query.shape[1] != gallery.shape[1]:
        raise UserError(f"query has {query.shape[1]} dimensions, gallery {gallery.shape[1]}")
    if distance not in ("cosine", "euclidean"):
        raise UserError(f"distance must be cosine or euclidean, not {distance!r}")
    similarity = (_cosine if distance == "cosine" else _nearness)(query, gallery)
    return _score(similarity, (len(query), len(gallery)), query_class, gallery_class, at, same, memory)


def evaluate_similarity(
    similarity: ArrayLike,
    query_class: Classes,
    gallery_class: Classes,
    at: Sequence[int] = (100,),
    *,
    same: NDArray[np.int64] | None = None,
    memory: int = MEMORY,
) -> RetrievalScores:
    """Score the rankings that similarities (Q, N) of any origin and sign give; otherwise as `evaluate`."""
    matrix = np.asarray(similarity, dtype=np.float64)
    if matrix.ndim != 2 or not matrix.size or not np.isfinite(matrix).all():
        raise UserError(f"similarity must be finite numbers of shape (queries, items), not {matrix.shape}")
    queries, items = matrix.shape
    return _score(lambda rows: matrix[rows].copy(), (queries, items), query_class, gallery_class, at, same, memory)


def evaluate_codes(
    query: NDArray[np.uint8],
    query_class: Classes,
    gallery: NDArray[np.uint8],
    gallery_class: Classes,
    at: Sequence[int] = (100,),
    *,
    same: NDArray[np.int64] | None = None,
    memory: int = MEMORY,
) -> RetrievalScores:
    """Score packed hash codes, (Q, B) and (N, B), by Hamming distance.

    Distances tie massively, so values are expectations over random orders within a tie (McSherry and Najork 2008),
    which favour no implementation's sorting; for mAP@all, the best and the worst order are told too. The points of the
    precision-recall curve are the Hamming radii. Otherwise as `evaluate`.
    """
    for name, codes in (("query", query), ("gallery", gallery)):
        if codes.ndim != 2 or codes.dtype != np.uint8 or not codes.size:
            raise UserError(
                f"{name} must be packed codes, uint8 of shape (rows, bytes), not {codes.dtype}{codes.shape}"
            )
    if query.shape[1] != gallery.shape[1]:
        raise UserError(f"query has codes of {8 * query.shape[1]} bits, gallery of {8 * gallery.shape[1]}")
    pairs = _Pairs((len(query), len(gallery)), query_class, gallery_class, same)
    words, distances = -(-query.shape[1] // 8), 8 * query.shape[1] + 1
    query, gallery = (np.pad(codes, ((0, 0), (0, -codes.shape[1] % 8))) for codes in (query, gallery))
    query_words, gallery_words = query.view(np.uint64), gallery.view(np.uint64)

    def counts(rows: slice) -> NDArray[np.int64]:
        different = query_words[rows, None] ^ gallery_words  # (block, N, words)
        cells = np.bitwise_count(different).sum(-1, dtype=np.int64)  # (block, N) Hamming distances
        cells += np.arange(0, len(cells) * distances, distances)[:, None]
        cells *= 2
        cells += pairs.relevant(rows)
        cells[pairs.self_matches(rows)] = 2 * len(cells) * distances  # one more cell, for what does not count
        return np.bincount(cells.ravel(), minlength=2 * len(cells) * distances + 1)[:-1].reshape(-1, distances, 2)

    blocks = _in_blocks(counts, len(query), memory, len(gallery) * (9 * words + 24))
    items, hits = (part := np.concatenate(blocks)).sum(-1), part[..., 1]  # (Q, T)
    values, curve = _score_counts(items, hits, at)
    return RetrievalScores(values, curve, pairs.query_class, len(gallery), tuple(at))


# Definitions for rankings without ties


def relevant_ranks(relevant: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The `ranks` (Q, R) of the relevant items of rankings (Q, N), which are given from the best rank on."""
    found = relevant.sum(1)
    ranks = np.full((len(relevant), found.max(initial=0)), np.inf)
    ranks[np.arange(ranks.shape[1]) < found[:, None]] = np.nonzero(relevant)[1] + 1
    return ranks


def average_precision(relevant: NDArray[np.bool_]) -> NDArray[np.float64]:
    r"""Plain average precision of rankings, given as relevance from the best rank on, (Q, N).

    $AP = \frac{1}{R} \sum_{i: r_i = 1} \frac{1}{i} \sum_{j \le i} r_j$, the mean of precision at each relevant rank, as
    scikit-learn computes it. Returns (Q,); NaN for a ranking without a relevant item.
    """
    return average_precision_at(relevant_ranks(relevant), max(relevant.shape[1], 1))["R"]


def average_precision_at(ranks: NDArray[np.float64], k: int) -> Values:
    r"""AP@k of `ranks` (Q, R) with each denominator in use: name -> (Q,). They agree on no ranking but a perfect one.

    $AP@k = \frac{1}{d} \sum_{i: rank_i \le k} \frac{i}{rank_i}$, where d is `hits`, the number of relevant items among
    the first k (lenient: 1 for a single hit at rank 1; 0 without any hit); `min(k, R)`, the most there could be
    (strict); or `R`, all there are, with which a gallery of many relevant items cannot reach 1.
    Published figures seldom say which. NaN, except for `hits`, without a relevant item.
    """
    _check_k(k)
    total = np.where(ranks <= k, _precisions(ranks), 0.0).sum(1)
    found, relevant = hits_at(ranks, k), np.isfinite(ranks).sum(1)
    with np.errstate(invalid="ignore"):
        return {
            "hits": total / np.maximum(found, 1),
            "min(k, R)": total / np.minimum(k, relevant),
            "R": total / relevant,
        }


def interpolated_average_precision(ranks: NDArray[np.float64]) -> NDArray[np.float64]:
    r"""AP as PASCAL VOC defines it since 2010, at all points of recall: `ranks` (Q, R) -> (Q,).

    $AP = \frac{1}{R} \sum_i \max_{j \ge i} \frac{j}{rank_j}$: precision is replaced by its envelope, the best at this
    or any higher recall (Everingham et al. 2010; not the mean at 11 recalls, which VOC used until 2009). Never less
    than the plain value. NaN without a relevant item.
    """
    with np.errstate(invalid="ignore"):
        return _envelope(_precisions(ranks)).sum(1) / np.isfinite(ranks).sum(1)  # type: ignore[no-any-return]


def hits_at(ranks: NDArray[np.float64], k: int | NDArray[np.int64]) -> NDArray[np.int64]:
    """Relevant items among the first k, a number or (Q,): `ranks` (Q, R) -> (Q,).

    Divided by k they are P@k; by min(k, R), the other P@k in use, which can reach 1 if R < k; and of the first R,
    divided by R, R-precision (Manning, Raghavan and Schütze 2008, 8.4).
    """
    _check_k(k)
    return (ranks <= np.reshape(k, (-1, 1))).sum(1)  # type: ignore[no-any-return]


def precision_at(relevant: NDArray[np.bool_], k: int) -> NDArray[np.float64]:
    r"""P@k of rankings (Q, N): relevant items among the first k, divided by k even if the gallery is shorter. (Q,)"""
    return hits_at(relevant_ranks(relevant), k) / k


def interpolated_precision(hits: NDArray[np.int64], precision: NDArray[np.float64]) -> NDArray[np.float64]:
    r"""Curves of precision at the recalls 0, 0.01, ..., 1: (Q, LEVELS).

    Args: the points (Q, P) of each query's curve, as the number of `hits` up to it, ascending to R, and the precision
    there. At recall r stands the best precision at any recall of at least r,
    $p(r) = \max_{r' \ge r} p(r')$ (Manning, Raghavan and Schütze 2008, 8.4).
    """
    queries, points = hits.shape
    needed = np.maximum(-(-np.arange(LEVELS) * hits[:, -1:] // (LEVELS - 1)), 1)  # (Q, LEVELS): recall, rounded up
    offset = np.arange(queries)[:, None] * (hits.max() + 1)  # makes one ascending list of all queries' hits
    point = np.searchsorted((hits + offset).ravel(), (needed + offset).ravel()).reshape(queries, LEVELS)
    return np.take_along_axis(_envelope(precision), point - np.arange(queries)[:, None] * points, axis=1)


# Definitions for counts at each distance, with ties


def expected_average_precision(
    items: NDArray[np.int64], hits: NDArray[np.int64], k: int | None = None
) -> NDArray[np.float64]:
    r"""Expectation of average precision over random orders within ties: (Q, T), (Q, T) -> (Q,).

    At distance t there are $n_t$ `items`, $r_t$ of them relevant `hits`, after $N_t$ nearer items with $R_t$ hits. The
    i-th of the tie is relevant with probability $r_t / n_t$, and then $(i - 1) (r_t - 1) / (n_t - 1)$ hits of the tie
    are expected before it:

    $AP = \frac{1}{R} \sum_t \frac{r_t}{n_t} \sum_{i=1}^{m_t}
    \frac{R_t + 1 + (i - 1) \frac{r_t - 1}{n_t - 1}}{N_t + i}$ (McSherry and Najork 2008)

    with $m_t = n_t$, or for AP@k with denominator R as many of the tie as are among the first k.
    The inner sums are differences of harmonic numbers.
    """
    items_before, hits_before, taken = _before(items), _before(hits), items
    if k is not None:
        _check_k(k)
        taken = np.clip(k - items_before, 0, items)
    harmonic = _harmonic(items)
    reciprocals = harmonic[items_before + taken] - harmonic[items_before]  # sum of 1 / (N + i)
    steps = taken - (items_before + 1) * reciprocals  # sum of (i - 1) / (N + i)
    rise = (hits - 1) / np.maximum(items - 1, 1)
    share = hits / np.maximum(items, 1)
    return (share * ((hits_before + 1) * reciprocals + rise * steps)).sum(1) / hits.sum(1)  # type: ignore[no-any-return]


def extreme_average_precision(
    items: NDArray[np.int64], hits: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    r"""Optimistic and pessimistic average precision: (Q, T), (Q, T) -> (Q,), (Q,).

    The hits of each tie stand first or last in it, at ranks $S_t + 1$ to $S_t + r_t$ with $S_t = N_t$ or
    $S_t = N_t + n_t - r_t$: $AP = \frac{1}{R} \sum_t \sum_{i=1}^{r_t} \frac{R_t + i}{S_t + i}$. What a public code
    reports is one of them if its gallery is sorted by class, and anything between them otherwise.
    """
    first, last = _before(items), _before(items) + items - hits
    harmonic = _harmonic(items)
    best, worst = (
        (hits + (_before(hits) - start) * (harmonic[start + hits] - harmonic[start])).sum(1) / hits.sum(1)
        for start in (first, last)
    )
    return best, worst


def expected_precision_at(
    items: NDArray[np.int64], hits: NDArray[np.int64], k: int | NDArray[np.int64]
) -> NDArray[np.float64]:
    """Expectation of P@k, k a number or (Q,), over random orders within ties: (Q, T), (Q, T) -> (Q,)."""
    _check_k(k)
    share = np.clip(
        (np.reshape(k, (-1, 1)) - _before(items)) / np.maximum(items, 1), 0, 1
    )  # of each tie, within the first k
    return (share * hits).sum(1) / k  # type: ignore[no-any-return]


# From embeddings to ranks


class _Pairs:
    """Which query and item belong together: relevant, or the same picture."""

    def __init__(
        self, shape: tuple[int, int], query_class: Classes, gallery_class: Classes, same: NDArray[np.int64] | None
    ) -> None:
        queries, items = shape
        self.query_class, gallery_class = np.asarray(query_class), np.asarray(gallery_class)
        self.query_number, self.gallery_number = _numbers(queries, self.query_class, items, gallery_class)
        self.same = np.full(queries, -1) if same is None else np.asarray(same)
        if self.same.shape != (queries,) or self.same.dtype.kind not in "iu":
            raise UserError(f"same must be {queries} whole numbers, not {self.same.dtype}{self.same.shape}")
        if self.same.min() < -1 or self.same.max() >= items:
            raise UserError(f"same must be -1 or rows of the gallery, which has {items}")
        own = (self.same >= 0) & (self.gallery_number[self.same] == self.query_number)
        alone = np.bincount(self.gallery_number)[self.query_number] == own
        if alone.any():
            row = int(alone.argmax())
            name = self.query_class.tolist()[row]
            raise UserError(f"query {row} is itself the gallery's only item of class {name!r}; leave it out")

    def relevant(self, rows: slice) -> NDArray[np.bool_]:
        return self.query_number[rows, None] == self.gallery_number  # type: ignore[no-any-return]  # (block, N)

    def self_matches(self, rows: slice) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Their places in the block: row and column."""
        (row,) = np.nonzero(self.same[rows] >= 0)
        return row, self.same[rows][row]


def _score(
    similarity: Callable[[slice], NDArray[np.float64]],
    shape: tuple[int, int],
    query_class: Classes,
    gallery_class: Classes,
    at: Sequence[int],
    same: NDArray[np.int64] | None,
    memory: int,
) -> RetrievalScores:
    """Rank blocks of similarities (block, N), which may be overwritten, and score the ranks."""
    pairs = _Pairs(shape, query_class, gallery_class, same)

    def score(rows: slice) -> tuple[Values, NDArray[np.float64]]:
        relevant = pairs.relevant(rows)
        return _score_ranks(_rank(similarity(rows), relevant, pairs.self_matches(rows)), at)

    blocks = _in_blocks(score, shape[0], memory, shape[1] * PAIR_BYTES)
    values = {name: np.concatenate([part[name] for part, _ in blocks]) for name in blocks[0][0]}
    curves = np.concatenate([curve for _, curve in blocks])
    return RetrievalScores(values, curves, pairs.query_class, shape[1], tuple(at))


def _rank(
    similarity: NDArray[np.float64], relevant: NDArray[np.bool_], self_matches: tuple[NDArray[np.int64], ...]
) -> NDArray[np.float64]:
    """The `ranks` (block, R) that similarities (block, N), which are overwritten, give to the relevant items.

    One number holds all that decides a place: the rounded similarity, then the row, then whether it is relevant. Their
    order is the stable one, and sorting numbers in place is several times faster than sorting their indices.
    """
    steps, items = similarity, similarity.shape[1]
    steps *= -(10**DECIMALS)
    np.rint(steps, out=steps)
    if max(-steps.min(), steps.max()) + 2 >= 2**52 // items:  # would not be exact: count the values that there are
        steps = np.unique(steps, return_inverse=True)[1].reshape(steps.shape).astype(np.float64)
    steps[self_matches] = steps.max() + 1
    relevant[self_matches] = False
    steps *= 2 * items
    steps += np.arange(0, 2 * items, 2)
    steps += relevant
    steps.sort(axis=1)
    places = steps.astype(np.int64)
    places &= 1
    return relevant_ranks(places.astype(np.bool_))


def _score_ranks(ranks: NDArray[np.float64], at: Sequence[int]) -> tuple[Values, NDArray[np.float64]]:
    """Every definition, and the precision-recall curves, of `ranks` (Q, R)."""
    precisions, relevant = _precisions(ranks), np.isfinite(ranks).sum(1)
    values = {"mAP@all": precisions.sum(1) / relevant}
    values |= {f"P@{k}": hits_at(ranks, k) / k for k in at}
    for k in at:
        values |= {f"mAP@{k} ({name})": value for name, value in average_precision_at(ranks, k).items()}
        values[f"P@{k} (min(k, R))"] = hits_at(ranks, k) / np.minimum(k, relevant)
    values["R-precision"] = hits_at(ranks, relevant) / relevant
    values["mAP@all (VOC)"] = interpolated_average_precision(ranks)
    hits = np.minimum(np.arange(1, ranks.shape[1] + 1), relevant[:, None])
    return values, interpolated_precision(hits, precisions)


def _score_counts(
    items: NDArray[np.int64], hits: NDArray[np.int64], at: Sequence[int]
) -> tuple[Values, NDArray[np.float64]]:
    """Every definition, and the precision-recall curves, of counts (Q, T) at each distance."""
    relevant = hits.sum(1)
    values = {"mAP@all": expected_average_precision(items, hits)}
    values |= {f"P@{k}": expected_precision_at(items, hits, k) for k in at}
    for k in at:
        value, most = expected_average_precision(items, hits, k), np.minimum(k, relevant)
        values |= {f"mAP@{k} (min(k, R))": value * relevant / most, f"mAP@{k} (R)": value}
        values[f"P@{k} (min(k, R))"] = values[f"P@{k}"] * k / most
    values["R-precision"] = expected_precision_at(items, hits, relevant)
    values["mAP@all (optimistic)"], values["mAP@all (pessimistic)"] = extreme_average_precision(items, hits)
    found = np.cumsum(hits, axis=1)
    return values, interpolated_precision(found, found / np.maximum(np.cumsum(items, axis=1), 1))


def _in_blocks(score: Callable[[slice], Part], queries: int, memory: int, query_bytes: int) -> list[Part]:
    """The parts of all queries, of which each worker scores as many at once as the memory allows, in order."""
    size = max(1, min(memory // (WORKERS * query_bytes), -(-queries // WORKERS)))
    with ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(score, (slice(start, start + size) for start in range(0, queries, size))))


def _precisions(ranks: NDArray[np.float64]) -> NDArray[np.float64]:
    """Precision at each relevant rank."""
    return np.arange(1, ranks.shape[1] + 1) / ranks


def _envelope(precision: NDArray[np.float64]) -> NDArray[np.float64]:
    """The best precision at this or a later point, (Q, P)."""
    return np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]


def _before(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many are nearer, at each distance (Q, T)."""
    return np.cumsum(counts, axis=1) - counts


def _harmonic(items: NDArray[np.int64]) -> NDArray[np.float64]:
    """Harmonic numbers from 0 to the size of the gallery."""
    return np.concatenate([[0.0], np.cumsum(1 / np.arange(1, items.sum(1).max() + 1))])


def _check_k(k: int | NDArray[np.int64]) -> None:
    if np.min(k) < 1:
        raise UserError(f"P@k needs k of at least 1, not {np.min(k)}")


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


def _embeddings(rows: ArrayLike, name: str) -> NDArray[np.float64]:
    rows = np.asarray(rows, dtype=np.float64)
    if rows.ndim != 2 or not len(rows):
        raise UserError(f"{name} must be embeddings of shape (rows, dimensions), not {rows.shape}")
    bad = ~np.isfinite(rows).all(1)
    if bad.any():
        raise UserError(f"{name} row {int(bad.argmax())} has values that are not finite")
    return rows


def _squares(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squared lengths (rows,), without a second matrix of them."""
    return np.einsum("nd,nd->n", rows, rows)  # type: ignore[no-any-return]


def _cosine(query: NDArray[np.float64], gallery: NDArray[np.float64]) -> Callable[[slice], NDArray[np.float64]]:
    """The cosine similarities of a block of queries."""
    query, gallery = (rows / np.maximum(np.sqrt(_squares(rows)), 1e-12)[:, None] for rows in (query, gallery))
    return lambda rows: query[rows] @ gallery.T


def _nearness(query: NDArray[np.float64], gallery: NDArray[np.float64]) -> Callable[[slice], NDArray[np.float64]]:
    r"""The negative Euclidean distances of a block of queries, $-\sqrt{|q|^2 - 2 q \cdot g + |g|^2}$.

    Seen from the gallery's mean and in units of the longest embedding, so that neither their place nor their length
    takes decimals away.
    """
    query, gallery = query - gallery.mean(0), gallery - gallery.mean(0)
    squares = [_squares(rows) for rows in (query, gallery)]
    unit = max(np.sqrt(square.max()) for square in squares) or 1.0

    def block(rows: slice) -> NDArray[np.float64]:
        result: NDArray[np.float64] = query[rows] @ gallery.T
        result *= -2
        result += squares[0][rows, None]
        result += squares[1]
        np.sqrt(np.maximum(result, 0, out=result), out=result)
        result /= -unit
        return result

    return block

"""Exact rankings of a gallery for every query, and their scores, without the whole matrix in memory.

Shapes: `Q` queries, `N` gallery items, `D` embedding, `B` bytes of a packed code, `T` Hamming distances, `b` the
queries of a block or a strip.

A block holds as many queries as make one matrix product fast, and each core takes one block after another. The metrics
need only where the relevant items stand, so only that is kept of a block; a strip of it is scored at once, as much as
fits the core's cache. Blocks do not depend on the number of cores, and neither do the scores.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crossatnet.evaluation.classes import as_text
from crossatnet.evaluation.metrics import RetrievalScores, joined
from crossatnet.evaluation.order import places
from crossatnet.evaluation.similarity import (
    THREADS,
    Matrix,
    Similarity,
    checked_embeddings,
    cosine,
    gpu,
    nearness,
    slices,
)
from crossatnet.evaluation.ties import score_counts, score_places
from crossatnet.system.errors import UserError
from crossatnet.system.threads import on_cores

MEMORY = 2**29  # bytes that may be used in addition to the arrays
BLOCK = 400  # queries of one matrix product; with fewer, BLAS spends more on packing the gallery
STRIP = 2**17  # pairs of codes that are counted at once; so many fit a core's cache
STRIP_BYTES = 100  # at most, to count one such pair
SCORED = 2**15  # ranks that are scored at once; so many fit a core's cache
SCORE_BYTES = 80  # at most, to score one rank
TIE_BYTES = 250  # at most, to score one tie

Classes = Sequence[object] | NDArray[np.generic]


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
    device: str | None = None,
) -> RetrievalScores:
    """Rank the gallery for every query by cosine similarity or Euclidean distance and score the rankings.

    Args: query (Q, D) and gallery (N, D) embeddings of any model; `query_class` (Q,) and `gallery_class` (N,), the
    class of each; `at`, the k of P@k and mAP@k; `same` (Q,), for each query the gallery row that is the query itself
    and is left out, or -1; `memory`, the bytes that may be used in addition to the embeddings and a copy of the
    queries. With less memory fewer queries are ranked at once, but at least one by each thread. `device`, where torch
    multiplies and sorts, such as "cuda"; by default on its GPU, if torch is loaded and has one, else NumPy does.
    An item is relevant if its class equals the query's. Similarities are compared exactly, and where items tie, values
    are expectations over random orders within the tie: no order of the gallery has an advantage. Cosines are computed
    in float32 if both arrays are, as NumPy does, else in float64 (`similarity.cosine`); distances in float64
    (`similarity.nearness`). Equal embeddings tie, and so do whatever the arithmetic finds equal; embeddings whose
    similarities differ by no more than its rounding may be found in either order.
    Raises `UserError` for shapes that do not fit, values that are not finite, a cosine of a row of zeros, or a query
    without a relevant item.

    Example:
        >>> import numpy as np
        >>> from crossatnet import evaluate
        >>> query, gallery = np.eye(2), np.array([[1.0, 0.1], [0.1, 1.0], [1.0, 0.2]])
        >>> evaluate(query, ["cat", "dog"], gallery, ["cat", "dog", "cat"], at=(1,)).means()
        {'mAP@all': 1.0, 'P@1': 1.0}
    """
    query, gallery = checked_embeddings(query, "query"), checked_embeddings(gallery, "gallery")
    if query.shape[1] != gallery.shape[1]:
        raise UserError(f"query has {query.shape[1]} dimensions, gallery {gallery.shape[1]}")
    if distance not in ("cosine", "euclidean"):
        raise UserError(f"distance must be cosine or euclidean, not {distance!r}")
    pairs = _Pairs((len(query), len(gallery)), query_class, gallery_class, same)
    similarity = cosine(query, gallery, device or gpu()) if distance == "cosine" else nearness(query, gallery)
    return _score(similarity, pairs, at, memory)


def evaluate_similarity(
    similarity: ArrayLike,
    query_class: Classes,
    gallery_class: Classes,
    at: Sequence[int] = (100,),
    *,
    same: NDArray[np.int64] | None = None,
    memory: int = MEMORY,
) -> RetrievalScores:
    """Score the rankings that similarities (Q, N) of any origin and sign give; otherwise as `evaluate`.

    Example:
        >>> from crossatnet.evaluation.ranking import evaluate_similarity
        >>> scores = evaluate_similarity([[0.9, 0.8, 0.7]], ["cat"], ["dog", "cat", "cat"], at=(1,))
        >>> round(scores.means()["mAP@all"], 4)
        0.5833
    """
    matrix = _comparable(np.asarray(similarity))
    queries, items = matrix.shape
    pairs = _Pairs((queries, items), query_class, gallery_class, same)
    return _score(lambda rows: matrix[rows].copy(), pairs, at, memory)


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

    Many distances tie; the points of the precision-recall curve are the Hamming radii. Otherwise as `evaluate`, which
    finds the same values to the last bit for codes as floats of +1 and -1.

    Example:
        >>> import numpy as np
        >>> from crossatnet.evaluation.ranking import evaluate_codes
        >>> query, gallery = np.array([[0b1111]], dtype=np.uint8), np.array([[0b1110], [0]], dtype=np.uint8)
        >>> evaluate_codes(query, ["cat"], gallery, ["cat", "dog"]).means()["mAP@all"]
        1.0
    """
    for name, codes in (("query", query), ("gallery", gallery)):
        if codes.ndim != 2 or codes.dtype != np.uint8 or not codes.size:
            raise UserError(
                f"{name} must be packed codes, uint8 of shape (rows, bytes), not {codes.dtype}{codes.shape}"
            )
    if query.shape[1] != gallery.shape[1]:
        raise UserError(f"query has codes of {8 * query.shape[1]} bits, gallery of {8 * gallery.shape[1]}")
    pairs = _Pairs((len(query), len(gallery)), query_class, gallery_class, same)
    distances = 8 * query.shape[1] + 1
    query_words, gallery_words = (_words(codes) for codes in (query, gallery))  # (words, Q), (words, N)

    def count(rows: slice) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        cells = np.zeros((len(query_words[0, rows]), len(gallery)), dtype=np.int64)  # (b, N) Hamming distances
        for asking, searched in zip(query_words, gallery_words, strict=True):
            cells += np.bitwise_count(asking[rows, None] ^ searched)
        return _count(cells, distances, pairs.relevant(rows), pairs.self_matches(rows))

    def score(block: slice) -> RetrievalScores:
        counts = zip(*map(count, slices(block, strip)), strict=True)
        items, hits = (np.concatenate(part) for part in counts)  # (b, T)
        values, curve = score_counts(items, hits, at)
        return RetrievalScores(values, curve, pairs.query_class[block], len(gallery), tuple(at))

    share = memory // THREADS
    strip = _strip(len(gallery), share // 4)
    return joined(on_cores(score, _blocks(len(query), (share - share // 4) // (TIE_BYTES * distances)), THREADS))


class _Pairs:
    """Which gallery items are relevant to each query, and which item is the query itself."""

    def __init__(
        self, shape: tuple[int, int], query_class: Classes, gallery_class: Classes, same: NDArray[np.int64] | None
    ) -> None:
        queries, items = self.shape = shape
        self.query_class, gallery_class = as_text(query_class, "query_class"), as_text(gallery_class, "gallery_class")
        self.query_number, self.gallery_number = _numbers(queries, self.query_class, items, gallery_class)
        self.same = np.full(queries, -1) if same is None else np.asarray(same)
        if self.same.shape != (queries,) or self.same.dtype.kind not in "iu":
            raise UserError(f"same must be {queries} whole numbers, not {self.same.dtype}{self.same.shape}")
        if self.same.min() < -1 or self.same.max() >= items:
            raise UserError(f"same must be -1 or rows of the gallery, which has {items}")
        own = (self.same >= 0) & (self.gallery_number[self.same] == self.query_number)
        sizes = np.bincount(self.gallery_number)
        self.found = sizes[self.query_number] - own  # (Q,), the relevant items of each query
        self.columns = np.split(np.argsort(self.gallery_number, kind="stable"), np.cumsum(sizes)[:-1])  # of each class
        if not self.found.all():
            row = int(self.found.argmin())
            name = self.query_class.tolist()[row]
            raise UserError(f"query {row} is itself the gallery's only item of class {name!r}; leave it out")

    def columns_of(self, rows: slice) -> list[NDArray[np.int64]]:
        """Columns, ascending, of each query's relevant items, without itself."""
        asked = zip(self.query_number[rows], self.same[rows], strict=True)
        return [
            self.columns[number][self.columns[number] != same] if same >= 0 else self.columns[number]
            for number, same in asked
        ]

    def relevant(self, rows: slice) -> NDArray[np.int64]:
        """Positions, ascending, of each query's relevant items in the flattened matrix (b, N), without itself."""
        return np.concatenate([row * self.shape[1] + found for row, found in enumerate(self.columns_of(rows))])

    def self_matches(self, rows: slice) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The positions of the queries themselves in the matrix: row of the slice, and column."""
        (row,) = np.nonzero(self.same[rows] >= 0)
        return row, self.same[rows][row]


# Ranks and counts


def _score(similarity: Similarity, pairs: _Pairs, at: Sequence[int], memory: int) -> RetrievalScores:
    """Rank block after block and score where the relevant items stand."""
    items, most, share = pairs.shape[1], int(pairs.found.max()), memory // THREADS

    def score(block: slice) -> RetrievalScores:
        matrix = similarity(block)  # (b, N)
        return joined([scored(matrix, block.start, rows) for rows in slices(slice(0, len(matrix)), strip)])

    def scored(matrix: Matrix, start: int, rows: slice) -> RetrievalScores:
        asked = slice(start + rows.start, start + rows.stop)
        found, ties = places(matrix[rows], pairs.columns_of(asked), pairs.same[asked])
        ranks = np.full((len(matrix[rows]), most), np.inf)
        ranks[np.arange(most) < pairs.found[asked, None]] = found
        values, curves = score_places(ranks, ties, at)
        return RetrievalScores(values, curves, pairs.query_class[asked], items, tuple(at))

    strip = max(1, min(SCORED, share // 4 // SCORE_BYTES) // most)
    blocks = _blocks(pairs.shape[0], (share - share // 4) // (8 * items))
    return joined(on_cores(score, blocks, THREADS))


def _count(
    cells: NDArray[np.int64],
    distances: int,
    relevant: NDArray[np.int64],
    self_matches: tuple[NDArray[np.int64], ...],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The number of items and of relevant items (b, T) at each distance; `cells`, distances (b, N), is overwritten."""
    queries = len(cells)
    cells += np.arange(0, queries * distances, distances)[:, None]
    cells[self_matches] = queries * distances  # one more cell, for items that do not count
    counted = (cells.ravel(), cells.take(relevant))
    items, hits = (np.bincount(part, minlength=queries * distances) for part in counted)
    return items[: queries * distances].reshape(queries, distances), hits.reshape(queries, distances)


def _strip(items: int, memory: int) -> int:
    """How many queries are ranked at once."""
    return max(1, min(STRIP, memory // STRIP_BYTES) // items)


def _blocks(queries: int, most: int) -> Iterator[slice]:
    """Blocks of about equal size, each of at most `most` and `BLOCK` queries; each thread gets equally many."""
    rounds = -(-queries // (THREADS * max(1, min(BLOCK, most))))
    return slices(slice(0, queries), -(-queries // (THREADS * rounds)))


# What is compared


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
        asked = len(set(query_class.tolist()))
        raise UserError(
            f"the gallery has no item of class {lacking[0]!r}, which is queried ({len(set(lacking))} of {asked} classes"
            " are lacking); leave these queries out, or use the same class names in both"
        )
    query_number, gallery_number = (
        np.array([number[name] for name in classes.tolist()], dtype=np.int32)
        for classes in (query_class, gallery_class)
    )
    return query_number, gallery_number


def _comparable(matrix: NDArray[Any]) -> NDArray[Any]:
    """Similarities (Q, N) as float32 or float64, which keeps the order of all numbers, or as their places in order.

    Raises `UserError` for what is no matrix of finite numbers.
    """
    if matrix.ndim != 2 or not matrix.size or matrix.dtype.kind not in "fiub" or not np.isfinite(matrix).all():
        raise UserError(f"similarity must be finite numbers of shape (queries, items), not {matrix.shape}")
    if matrix.dtype in (np.float16, np.float32):
        return matrix.astype(np.float32, copy=False)
    floats = matrix.astype(np.float64)
    # Floats have no room for every whole number of 64 bits, nor for every number of the longest floats.
    if matrix.dtype != np.float64 and not (floats.astype(matrix.dtype) == matrix).all():
        return np.unique(matrix, return_inverse=True)[1].reshape(matrix.shape).astype(np.float64)
    return floats


def _words(codes: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Packed codes (rows, B) as numbers of 64 bits, (words, rows)."""
    padded = np.ascontiguousarray(np.pad(codes, ((0, 0), (0, -codes.shape[1] % 8))))
    return np.ascontiguousarray(padded.view(np.uint64).T)

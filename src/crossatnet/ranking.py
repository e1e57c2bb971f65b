"""Rankings of a gallery for every query, exact, never with the whole matrix in memory, and their scores.

Shapes: `Q` queries, `N` gallery items, `D` embedding, `B` bytes of a packed code, `T` Hamming distances, `b` the
queries of a block or a strip.

A block is as many queries as one matrix product takes at its best; it is ranked in strips that fit a core's cache,
while the product of the next block runs beside. All that is defined in `metrics.py` depends on the ranks of the
relevant items alone, so nothing else leaves a block.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crossatnet.data.prefetch import read_ahead
from crossatnet.errors import UserError
from crossatnet.metrics import RetrievalScores, joined, score_counts, score_ranks

MEMORY = 2**29  # bytes that may be used besides the arrays themselves
BLOCK = 256  # queries of one matrix product: with fewer, packing the gallery for it costs more
STRIP = 2**16 - 1  # pairs of a query and an item that are ranked at once: they fit a core's cache, their cells 16 bits
STRIP_BYTES = 100  # that ranking one such pair may need
SCORE_BYTES = 80  # that scoring one rank may need
DECIMALS = 7  # to which similarities are compared

Classes = Sequence[object] | NDArray[np.generic]
Floats = NDArray[np.float32] | NDArray[np.float64]
Similarity = Callable[[slice], Floats]
"""The similarities (b, N) of some queries, in an array that may be overwritten."""


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
    bytes that may be used besides the embeddings and a normalised copy of them: fewer queries are ranked at once, but
    at least one.
    An item is relevant if its class equals the query's. Cosines are computed in float32 if both arrays are, as NumPy
    does, else in float64; they are compared to seven decimals, and equal ones keep the gallery's order. Equal
    embeddings tie wherever they stand. Distances are computed in float64, where near ones do not cancel out, and
    compared likewise, in units of the largest distance of an embedding from the gallery's mean.
    Raises `UserError` for shapes that do not fit, values that are not finite, a cosine of a row of zeros, or a query
    without a relevant item.
    """
    query, gallery = _embeddings(query, "query"), _embeddings(gallery, "gallery")
    if query.shape[1] != gallery.shape[1]:
        raise UserError(f"query has {query.shape[1]} dimensions, gallery {gallery.shape[1]}")
    if distance not in ("cosine", "euclidean"):
        raise UserError(f"distance must be cosine or euclidean, not {distance!r}")
    pairs = _Pairs((len(query), len(gallery)), query_class, gallery_class, same)
    return _score((_cosine if distance == "cosine" else _nearness)(query, gallery), pairs, at, memory)


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
    distances = 8 * query.shape[1] + 1
    query_words, gallery_words = (_words(codes) for codes in (query, gallery))  # (words, Q), (words, N)

    def count(start: int, stop: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        rows = slice(start, stop)
        cells = np.zeros((len(query_words[0, rows]), len(gallery)), dtype=np.int64)  # (b, N) Hamming distances
        for asking, searched in zip(query_words, gallery_words, strict=True):
            cells += np.bitwise_count(asking[rows, None] ^ searched)
        return _count(cells, distances, pairs.relevant(rows), pairs.self_matches(rows))

    most = max(1, min(BLOCK, memory // (SCORE_BYTES * distances)))
    parts, strip = [], min(most, _strip(len(gallery), memory))
    for block in _slices(len(query), most):
        edges = [*range(block.start, block.stop, strip), block.stop]
        items, hits = (np.concatenate(part) for part in zip(*map(count, edges[:-1], edges[1:]), strict=True))  # (b, T)
        values, curve = score_counts(items, hits, at)
        parts.append(RetrievalScores(values, curve, pairs.query_class[block], len(gallery), tuple(at)))
    return joined(parts)


class _Pairs:
    """Which query and item belong together: relevant, or the same picture."""

    def __init__(
        self, shape: tuple[int, int], query_class: Classes, gallery_class: Classes, same: NDArray[np.int64] | None
    ) -> None:
        queries, items = self.shape = shape
        self.query_class, gallery_class = np.asarray(query_class), np.asarray(gallery_class)
        self.query_number, self.gallery_number = _numbers(queries, self.query_class, items, gallery_class)
        self.same = np.full(queries, -1) if same is None else np.asarray(same)
        if self.same.shape != (queries,) or self.same.dtype.kind not in "iu":
            raise UserError(f"same must be {queries} whole numbers, not {self.same.dtype}{self.same.shape}")
        if self.same.min() < -1 or self.same.max() >= items:
            raise UserError(f"same must be -1 or rows of the gallery, which has {items}")
        own = (self.same >= 0) & (self.gallery_number[self.same] == self.query_number)
        self.found = np.bincount(self.gallery_number)[self.query_number] - own  # (Q,), the relevant items of each query
        if not self.found.all():
            row = int(self.found.argmin())
            name = self.query_class.tolist()[row]
            raise UserError(f"query {row} is itself the gallery's only item of class {name!r}; leave it out")

    def relevant(self, rows: slice) -> NDArray[np.bool_]:
        """Which items each query should find, (b, N): not itself."""
        relevant: NDArray[np.bool_] = self.query_number[rows, None] == self.gallery_number
        relevant[self.self_matches(rows)] = False
        return relevant

    def self_matches(self, rows: slice) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The places of the queries themselves: row of the slice, and column."""
        (row,) = np.nonzero(self.same[rows] >= 0)
        return row, self.same[rows][row]


# Ranks and counts


def _score(similarity: Similarity, pairs: _Pairs, at: Sequence[int], memory: int) -> RetrievalScores:
    """Rank block after block and score the ranks, while BLAS computes the next block on what cores there are."""
    queries, items = pairs.shape
    strip, most = _strip(items, memory // 2), int(pairs.found.max())
    blocks = list(_slices(queries, max(1, min(BLOCK, memory // 2 // (24 * items + SCORE_BYTES * most)))))
    parts = []
    for block, matrix in zip(blocks, read_ahead(similarity, blocks), strict=True):  # (b, N)
        ranks = np.full((len(matrix), most), np.inf)
        for rows in _slices(len(matrix), strip):
            asked = slice(block.start + rows.start, block.start + rows.stop)
            is_rank = np.arange(most) < pairs.found[asked, None]
            ranks[rows][is_rank] = _rank(matrix[rows], pairs.relevant(asked), pairs.self_matches(asked))
        values, curves = score_ranks(ranks, at)
        parts.append(RetrievalScores(values, curves, pairs.query_class[block], items, tuple(at)))
    return joined(parts)


def _rank(
    similarity: Floats, relevant: NDArray[np.bool_], self_matches: tuple[NDArray[np.int64], ...]
) -> NDArray[np.int64]:
    """The ranks that similarities (b, N), which are overwritten, give to relevant items: row by row, ascending.

    To sort a gallery takes longer than to compare it with the query, and most of its order is not asked for. So items
    are counted in cells of a coarse similarity, about as many as there are items, and only those in a cell with a
    relevant one are sorted. A rank is the place among these, and the items of better cells without any.
    """
    queries, items = similarity.shape
    similarity *= -(10**DECIMALS)
    np.rint(similarity, out=similarity)
    best, worst = float(similarity.min()), float(similarity.max())
    if max(-best, worst) < 2**60:
        steps = similarity.astype(np.int64)
        steps -= int(best)
    else:  # steps of the last decimal that are too large: the place among all values instead
        steps = np.unique(similarity, return_inverse=True)[1].reshape(similarity.shape)
    span = int(steps.max()) + 2
    steps[self_matches] = span - 1  # behind all others
    shift = max(0, span.bit_length() - min(items.bit_length() - 1, 15))  # cells of a strip are numbered by 16 bits
    cells = (span >> shift) + 1
    cell = (steps >> shift) + np.arange(0, queries * cells, cells)[:, None]  # (b, N)
    held = cell[relevant]
    counts = np.bincount(cell.ravel(), minlength=queries * cells)
    counts[held] = 0
    skipped = np.cumsum(counts)  # items up to each cell, of all rows, that are not sorted
    is_held = np.zeros(queries * cells, dtype=np.bool_)
    is_held[held] = True
    listed = np.flatnonzero(is_held.take(cell))  # in the gallery's order
    own, fine = cell.ravel().take(listed), steps.ravel().take(listed) & ((1 << shift) - 1)
    number = np.cumsum(is_held, dtype=np.uint16).take(own)
    # NumPy sorts numbers of 16 bits by their digits, several times faster than it compares longer ones
    order = np.lexsort((*((fine >> low).astype(np.uint16) for low in range(0, shift, 16)), number))
    found = np.flatnonzero(relevant.ravel().take(listed).take(order))
    own = own.take(order.take(found))
    ranks: NDArray[np.int64] = found + 1 + skipped.take(own) - own // cells * items
    return ranks


def _count(
    cells: NDArray[np.int64],
    distances: int,
    relevant: NDArray[np.bool_],
    self_matches: tuple[NDArray[np.int64], ...],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Items, and relevant ones, at each distance, (b, T) both, of distances (b, N), which are overwritten."""
    queries = len(cells)
    cells += np.arange(0, queries * distances, distances)[:, None]
    cells[self_matches] = queries * distances  # one more cell, for what does not count
    items, hits = (np.bincount(part, minlength=queries * distances) for part in (cells.ravel(), cells[relevant]))
    return items[: queries * distances].reshape(queries, distances), hits.reshape(queries, distances)


def _strip(items: int, memory: int) -> int:
    """How many queries are ranked at once."""
    return max(1, min(STRIP, memory // STRIP_BYTES) // items)


def _slices(rows: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, rows)) for start in range(0, rows, size))


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
            " are lacking); leave these queries out, or name classes alike in both"
        )
    query_number, gallery_number = (
        np.array([number[name] for name in classes.tolist()], dtype=np.int32)
        for classes in (query_class, gallery_class)
    )
    return query_number, gallery_number


def _embeddings(rows: ArrayLike, name: str) -> Floats:
    """Embeddings in float32, if they are stored in no more, or in float64."""
    rows = np.asarray(rows)
    if rows.dtype == np.uint8:  # as numbers they would give scores that mean nothing
        raise UserError(f"{name} is uint8: score packed codes with evaluate_codes, or give embeddings as floats")
    rows = rows.astype(np.float32 if rows.dtype in (np.float16, np.float32) else np.float64, copy=False)
    if rows.ndim != 2 or not len(rows):
        raise UserError(f"{name} must be embeddings of shape (rows, dimensions), not {rows.shape}")
    bad = ~np.isfinite(rows).all(1)
    if bad.any():
        raise UserError(f"{name} row {int(bad.argmax())} has values that are not finite")
    return rows


def _cosine(query: Floats, gallery: Floats) -> Similarity:
    """The cosine similarities of some queries."""
    precision = np.result_type(query, gallery)
    lengths = [np.sqrt(_squares(rows)) for rows in (query, gallery)]
    for name, length in zip(("query", "gallery"), lengths, strict=True):
        if not length.all():
            raise UserError(f"{name} row {int(length.argmin())} is all zeros, which has no direction; leave it out")
    query, gallery = (
        np.divide(rows, length[:, None], dtype=precision)
        for rows, length in zip((query, gallery), lengths, strict=True)
    )
    return _product(query, gallery)


def _nearness(query: Floats, gallery: Floats) -> Similarity:
    r"""The negative Euclidean distances of some queries, $-\sqrt{|q|^2 - 2 q \cdot g + |g|^2}$.

    Seen from the gallery's mean and in units of the longest embedding, so that neither their place nor their length
    takes decimals away.
    """
    mean = gallery.mean(0, dtype=np.float64)
    query, gallery = query - mean, gallery - mean
    squares = [_squares(rows) for rows in (query, gallery)]
    unit = max(np.sqrt(square.max()) for square in squares) or 1.0
    product = _product(query, gallery)

    def distance(rows: slice) -> Floats:
        result = product(rows)
        result *= -2
        result += squares[0][rows, None]
        result += squares[1]
        np.sqrt(np.maximum(result, 0, out=result), out=result)
        result /= -unit
        return result

    return distance


def _product(query: Floats, gallery: Floats) -> Similarity:
    """Dot products of some queries with the gallery; those with copies of one row are equal.

    They would not be in themselves: BLAS may sum the last columns of a matrix in another order than the first ones.
    """
    first = _first_copies(gallery)
    (copies,) = np.nonzero(first != np.arange(len(first)))

    def product(rows: slice) -> Floats:
        result: Floats = query[rows] @ gallery.T
        result[:, copies] = result[:, first[copies]]
        return result

    return product


def _first_copies(rows: Floats) -> NDArray[np.int64]:
    """For every row the first one that equals it."""
    words = np.ascontiguousarray(rows).view(np.uint32)
    weights = np.random.default_rng(0).integers(2**32, size=words.shape[1], dtype=np.uint32)
    _, number, counts = np.unique(words @ weights, return_inverse=True, return_counts=True)  # equal for equal rows
    first, seen = np.arange(len(rows)), dict[bytes, int]()
    for row in np.flatnonzero(counts[number] > 1).tolist():
        first[row] = seen.setdefault(rows[row].tobytes(), row)
    return first


def _squares(rows: Floats) -> NDArray[np.float64]:
    """Squared lengths (rows,), without a second matrix of them."""
    return np.einsum("nd,nd->n", rows, rows, dtype=np.float64)  # type: ignore[no-any-return]


def _words(codes: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Packed codes (rows, B) as numbers of 64 bits, (words, rows)."""
    padded = np.ascontiguousarray(np.pad(codes, ((0, 0), (0, -codes.shape[1] % 8))))
    return np.ascontiguousarray(padded.view(np.uint64).T)
